import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, posix } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { expect, test } from 'vitest';

// The house: imports point down. A room may import itself, every room on a lower floor, and on its own floor only the rooms it names.
// `import type` counts like any other import. A file belongs to the first room that matches.
//
//   at         a file, or a folder with everything in it; `*` stands for one folder name, and each such folder is a room of its own
//   beside     rooms of the same floor that it may import
//   packages   packages that it may import; 'node:' stands for all modules of Node
//   limits     'entry points': other rooms only through published entry points (by name, or by the path of their index.ts)
//              'published names': the same, by name only
//              'types only': nothing but `import type` from other rooms
//              'self-contained': nothing but its own room

interface Room {
  readonly floor: number;
  readonly at: string;
  readonly beside?: readonly string[];
  readonly packages?: readonly string[];
  readonly limits?: readonly ('entry points' | 'published names' | 'types only' | 'self-contained')[];
  /** Need not exist. */
  readonly optional?: boolean;
}

// prettier-ignore
const HOUSE: readonly Room[] = [
  { floor: 5, at: 'cli',                limits: ['published names'], packages: ['node:', 'cli-progress'] },
  { floor: 5, at: 'web',                limits: ['published names'], optional: true },
  { floor: 5, at: 'examples',           limits: ['published names'], packages: ['node:'] },

  { floor: 4, at: 'drivers/*',          limits: ['entry points'] },
  { floor: 4, at: 'sdk/testing/model',  limits: ['types only'] },
  { floor: 4, at: 'sdk/testing',        beside: ['sdk/testing/model'] },
  { floor: 4, at: 'sdk/replay' },

  { floor: 3, at: 'sdk/index.ts',       beside: ['sdk/gmem', 'sdk/machine.ts'] },
  { floor: 3, at: 'sdk/machine.ts',     beside: ['sdk/gmem', 'sdk/image'] },
  { floor: 3, at: 'sdk/image',          beside: ['sdk/gmem'] },
  { floor: 3, at: 'sdk/gmem' },

  { floor: 2, at: 'sdk/mm',             beside: ['sdk/policy', 'sdk/step'] },
  { floor: 2, at: 'sdk/policy' },
  { floor: 2, at: 'sdk/step' },

  { floor: 1, at: 'sdk/core',           packages: ['@assemblyscript/loader'] },

  { floor: 0, at: 'assembly/layout.ts', limits: ['self-contained'] },
  { floor: 0, at: 'sdk/errors.ts' },
  { floor: 0, at: 'sdk/units.ts' },
  { floor: 0, at: 'sdk/events',         beside: ['sdk/errors.ts', 'assembly/layout.ts'] },
  { floor: 0, at: 'assembly',           beside: ['assembly/layout.ts'] },
];

/** Compiled by asc, not by tsc: of all this only layout.ts is TypeScript. */
const ASSEMBLYSCRIPT = 'assembly';
/** The only room that may know that there is Wasm at all. */
const BOUNDARY = 'sdk/core';
/** Nothing of Wasm here, not even a type. */
const MODEL = 'sdk/testing/model';
/** Folders whose every source file must have a room. */
const WINGS = ['assembly', 'sdk', 'drivers', 'cli', 'web', 'examples'];

const root = fileURLToPath(new URL('../../', import.meta.url));

interface Import {
  readonly file: string;
  readonly line: number;
  readonly specifier: string;
  readonly typeOnly: boolean;
}

const sources = WINGS.filter((wing) => existsSync(join(root, wing))).flatMap(filesIn);
const trees = new Map(sources.map((file) => [file, parse(file)]));

test('every room of the house is there', () => {
  const missing = HOUSE.filter((room) => !room.optional && !room.at.includes('*') && !existsSync(join(root, room.at)));
  expect(missing.map((room) => `${room.at} (floor ${room.floor}) does not exist`)).toEqual([]);
});

test('every source file has a room', () => {
  expect(sources.filter((file) => !roomOf(file)).map((file) => `${file} belongs to no room of the house`)).toEqual([]);
});

test('rooms of one floor are in an order', () => {
  const problems: string[] = [];
  const visit = (room: Room, path: readonly string[]): void => {
    if (path.includes(room.at)) {
      problems.push(`these rooms import each other: ${[...path, room.at].join(' -> ')}`);
      return;
    }
    for (const name of room.beside ?? []) {
      const next = HOUSE.find((other) => other.at === name);
      if (!next) problems.push(`${room.at} names ${name}, which is not a room`);
      else if (next.floor !== room.floor) problems.push(`${room.at} names ${name}, which is on another floor`);
      else visit(next, [...path, room.at]);
    }
  };
  for (const room of HOUSE) visit(room, []);
  expect(problems).toEqual([]);
});

test('imports point down', () => {
  const problems = sources.flatMap((file) => importsOf(file).flatMap((one) => judge(one)));
  expect(problems).toEqual([]);
});

test(`only ${BOUNDARY} knows WebAssembly`, () => {
  const problems: string[] = [];
  for (const [file, tree] of trees) {
    if (!file.startsWith('sdk/') && !file.startsWith('drivers/')) continue;
    if (isIn(file, BOUNDARY)) continue;
    walk(tree, (node) => {
      if (ts.isIdentifier(node) && node.text === 'WebAssembly')
        problems.push(`${at(file, node)} names WebAssembly: that belongs into ${BOUNDARY}`);
    });
  }
  expect(problems).toEqual([]);
});

/** What is wrong with one import, in words. */
function judge(one: Import): string[] {
  const room = roomOf(one.file);
  if (!room) return [];
  const wrong = (rule: string) => [`${one.file}:${one.line} imports '${one.specifier}': ${rule}`];
  const relative = one.specifier.startsWith('.');
  const published = entryPoint(one.specifier);
  if (!relative && published === undefined) {
    const allowed = (room.packages ?? []).some((name) =>
      name === 'node:' ? one.specifier.startsWith('node:') : one.specifier === name || one.specifier.startsWith(`${name}/`),
    );
    return allowed ? [] : wrong(`${room.at} may import ${room.packages?.join(', ') ?? 'no packages'}`);
  }
  const target = relative ? resolve(one.file, one.specifier) : published;
  if (target === undefined) return wrong('no such file');
  if (!relative && isIn(one.file, 'sdk')) return wrong('the SDK names its own files by path');
  const other = roomOf(target);
  if (!other) return wrong(`${target} belongs to no room of the house`);
  if (sameRoom(one.file, target)) return [];
  const limits = room.limits ?? [];
  if (limits.includes('self-contained')) return wrong(`${room.at} imports nothing`);
  if (limits.includes('published names') && relative)
    return wrong(`${room.at} uses published entry points only ('farfault', 'farfault/...')`);
  if (limits.includes('entry points') && relative && !isEntryFile(target)) {
    return wrong(`${room.at} uses published entry points only ('farfault/...' or their index.ts)`);
  }
  if (limits.includes('types only') && !one.typeOnly) return wrong(`${room.at} may take types only: write 'import type'`);
  if (room.at === MODEL && other.at === BOUNDARY) return wrong(`${MODEL} knows nothing of Wasm`);
  if (other.at === ASSEMBLYSCRIPT && room.at !== ASSEMBLYSCRIPT) return wrong(`of ${ASSEMBLYSCRIPT}/ only layout.ts is TypeScript`);
  if (room.at === ASSEMBLYSCRIPT && other.floor === 0 && !isIn(target, ASSEMBLYSCRIPT)) return wrong('the core imports nothing of the SDK');
  if (other.floor > room.floor)
    return wrong(`imports point down: ${room.at} is on floor ${room.floor}, ${other.at} on floor ${other.floor}`);
  if (other.floor === room.floor && !(room.beside ?? []).includes(other.at)) {
    const may = room.beside ? `only ${room.beside.join(', ')}` : 'none';
    return wrong(`${room.at} and ${other.at} are both on floor ${room.floor}; of its own floor ${room.at} may import ${may}`);
  }
  return [];
}

// ------------------------------------------------------------------------------------------------------------- files and rooms

function roomOf(file: string): Room | undefined {
  return HOUSE.find((room) => isIn(file, room.at));
}

function isIn(file: string, place: string): boolean {
  const parts = file.split('/');
  return place.split('/').every((part, i) => part === '*' || part === parts[i]);
}

function sameRoom(a: string, b: string): boolean {
  const room = roomOf(a);
  if (room !== roomOf(b) || !room) return false;
  const depth = room.at.split('/').length;
  return a.split('/').slice(0, depth).join('/') === b.split('/').slice(0, depth).join('/');
}

/** The file behind 'farfault/gmem', or undefined for any other name. */
function entryPoint(specifier: string): string | undefined {
  if (specifier === 'farfault') return 'sdk/index.ts';
  const name = /^farfault\/([\w/-]+)$/.exec(specifier)?.[1];
  if (name === undefined) return undefined;
  return name.startsWith('drivers/') ? `${name}/index.ts` : `sdk/${name}/index.ts`;
}

function isEntryFile(file: string): boolean {
  return file === 'sdk/index.ts' || /^sdk\/(gmem|mm|replay|testing)\/index\.ts$/.test(file);
}

function resolve(from: string, specifier: string): string | undefined {
  const path = posix.join(dirname(from), specifier);
  const candidates = [path, `${path}.ts`, path.replace(/\.js$/, '.ts'), posix.join(path, 'index.ts')];
  // Generated, so it may not be there yet.
  if (path === 'sdk/core/core-wasm.ts') return path;
  return candidates.find((file) => /\.\w+$/.test(file) && existsSync(join(root, file)));
}

function filesIn(folder: string): string[] {
  return readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory()) return entry.name === 'node_modules' ? [] : filesIn(path);
    return /\.(ts|mts|js|mjs)$/.test(entry.name) && !entry.name.endsWith('.d.ts') ? [path] : [];
  });
}

// --------------------------------------------------------------------------------------------------------------------- imports

function parse(file: string): ts.SourceFile {
  return ts.createSourceFile(file, readFileSync(join(root, file), 'utf8'), ts.ScriptTarget.Latest, true);
}

function importsOf(file: string): Import[] {
  const tree = trees.get(file) as ts.SourceFile;
  const found: Import[] = [];
  const add = (node: ts.Node, literal: ts.Node | undefined, typeOnly: boolean): void => {
    if (!literal || !ts.isStringLiteralLike(literal)) return;
    found.push({ file, line: lineOf(tree, node), specifier: literal.text, typeOnly });
  };
  walk(tree, (node) => {
    if (ts.isImportDeclaration(node)) add(node, node.moduleSpecifier, isTypeOnly(node.importClause));
    else if (ts.isExportDeclaration(node)) add(node, node.moduleSpecifier, node.isTypeOnly);
    else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) add(node, node.arguments[0], false);
    else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) add(node, node.argument.literal, true);
  });
  return found;
}

/** `import type { A }` and `import { type A, type B }` alike. */
function isTypeOnly(clause: ts.ImportClause | undefined): boolean {
  if (!clause) return false;
  if (clause.phaseModifier === ts.SyntaxKind.TypeKeyword) return true;
  if (clause.name || !clause.namedBindings || !ts.isNamedImports(clause.namedBindings)) return false;
  return clause.namedBindings.elements.length > 0 && clause.namedBindings.elements.every((element) => element.isTypeOnly);
}

function walk(node: ts.Node, visit: (node: ts.Node) => void): void {
  visit(node);
  ts.forEachChild(node, (child) => walk(child, visit));
}

function lineOf(tree: ts.SourceFile, node: ts.Node): number {
  return tree.getLineAndCharacterOfPosition(node.getStart(tree)).line + 1;
}

function at(file: string, node: ts.Node): string {
  return `${file}:${lineOf(trees.get(file) as ts.SourceFile, node)}`;
}
