/** The table of bad inputs names every public function: those of the entry points, of the classes that they export, and of the classes of whatever a machine hands out. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { afterAll, expect, test } from 'vitest';
import * as root from 'farfault';
import dmirror from 'farfault/drivers/dmirror';
import integrated from 'farfault/drivers/integrated';
import kvm from 'farfault/drivers/kvm';
import iommu from 'farfault/drivers/iommu';
import mirror from 'farfault/drivers/mirror';
import nouveau from 'farfault/drivers/nouveau';
import npu from 'farfault/drivers/npu';
import rdma from 'farfault/drivers/rdma';
import * as gmem from 'farfault/gmem';
import * as mm from 'farfault/mm';
import * as replay from 'farfault/replay';
import * as testing from 'farfault/testing';
import { BARE, ELSEWHERE, ROWS } from './table.ts';
import { makeWorld } from './world.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** `Class.member` of everything in the sources that is not public: private, protected, or `@internal`. */
function hidden(): Set<string> {
  const names = new Set<string>();
  for (const folder of ['sdk', 'drivers']) {
    for (const file of readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts'))) {
      const source = ts.createSourceFile(file, readFileSync(join(ROOT, folder, file), 'utf8'), ts.ScriptTarget.Latest, true);
      const visit = (node: ts.Node): void => {
        if (ts.isClassDeclaration(node) && node.name)
          for (const member of node.members) if (isHidden(member)) names.add(`${node.name.text}.${member.name!.getText()}`);
        ts.forEachChild(node, visit);
      };
      visit(source);
    }
  }
  return names;
}

function isHidden(member: ts.ClassElement): boolean {
  if (!member.name) return false;
  const flags = ts.getCombinedModifierFlags(member);
  return (
    (flags & (ts.ModifierFlags.Private | ts.ModifierFlags.Protected)) !== 0 ||
    ts.getJSDocTags(member).some((tag) => tag.tagName.text === 'internal')
  );
}

type Class = { readonly name: string; readonly prototype: object };

const isClass = (value: unknown): value is Class => typeof value === 'function' && /^class\b/.test(Function.prototype.toString.call(value));

const world = makeWorld();
afterAll(() => world.machine.close());

/** Every public function: `name`, or `Class.method`. */
function publicFunctions(): Map<string, string> {
  const functions = new Map<string, string>();
  const classes = new Map<Class, string>();
  const drivers = { dmirror, integrated, iommu, kvm, mirror, nouveau, npu, rdma };
  for (const [entry, names] of Object.entries({
    farfault: root,
    'farfault/mm': mm,
    'farfault/gmem': gmem,
    'farfault/replay': replay,
    'farfault/testing': testing,
    'farfault/drivers/*': drivers,
  })) {
    for (const [name, value] of Object.entries(names) as [string, unknown][]) {
      if (isClass(value)) classes.set(value, entry);
      else if (typeof value === 'function') functions.set(name, entry);
    }
  }
  // What a machine hands out, though no entry point exports its class.
  const secret = hidden();
  for (const object of Object.values(world).flatMap((each: unknown) => [each, ...parts(each, secret)])) {
    const made = (Object.getPrototypeOf(object) as { readonly constructor: unknown } | null)?.constructor;
    if (isClass(made) && !classes.has(made)) classes.set(made, 'of a machine');
  }
  for (const [made, entry] of classes) {
    for (let proto: object = made.prototype; proto !== Object.prototype; proto = Object.getPrototypeOf(proto) as object) {
      if (proto === Error.prototype) break;
      const owner = (proto as { readonly constructor: Class }).constructor.name;
      for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors(proto)))
        if (name !== 'constructor' && typeof value === 'function' && !secret.has(`${owner}.${name}`))
          functions.set(`${owner}.${name}`, entry);
    }
    for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors(made)))
      if (typeof value === 'function' && !['prototype'].includes(name) && !secret.has(`${made.name}.${name}`))
        functions.set(`${made.name}.${name}`, entry);
  }
  return functions;
}

/** The objects in the public fields and getters of an object. */
function parts(object: unknown, secret: ReadonlySet<string>): object[] {
  if (typeof object !== 'object' || object === null || Array.isArray(object) || Object.getPrototypeOf(object) === Object.prototype)
    return [];
  const names = Object.keys(object);
  const owners: string[] = [];
  for (let proto = Object.getPrototypeOf(object) as object; proto !== Object.prototype; proto = Object.getPrototypeOf(proto) as object) {
    names.push(...Object.keys(Object.getOwnPropertyDescriptors(proto)));
    owners.push((proto as { readonly constructor: Class }).constructor.name);
  }
  const isSecret = (name: string): boolean => owners.some((owner) => secret.has(`${owner}.${name}`));
  const values = names.filter((name) => !isSecret(name)).map((name) => (object as Record<string, unknown>)[name]);
  return values.filter((value): value is object => typeof value === 'object' && value !== null && !Array.isArray(value));
}

const known = new Set([...ROWS, ...BARE].map(({ name }) => name));
const functions = publicFunctions();

test('every public function is in the table of bad inputs, or among those that say why not', () => {
  const missing = [...functions].filter(([name]) => !known.has(name) && !(name in ELSEWHERE) && !(name.split('.')[0]! in ELSEWHERE));
  expect(missing.map(([name, entry]) => `${name} (${entry})`).join(' ')).toBe('');
});

test('the table names no function that there is not', () => {
  expect([...known].filter((name) => !functions.has(name) && !name.endsWith('.constructor'))).toEqual([]);
  const owners = new Set([...functions.keys()].map((name) => name.split('.')[0]!));
  expect(Object.keys(ELSEWHERE).filter((name) => !functions.has(name) && !owners.has(name))).toEqual([]);
});

test('what is in the table is not among those that are left out', () => {
  expect(Object.keys(ELSEWHERE).filter((name) => known.has(name))).toEqual([]);
});
