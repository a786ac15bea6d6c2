/** Every public function, given what each of its arguments cannot be: an error that names the argument, shows its value and states the rule, and a machine that has not changed. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { badInputs } from 'farfault/testing';
import { faultOf, type FarfaultError, NOTHING, rejectedBy, thrownBy } from './refusal.ts';
import { type Argument, ROWS, type Row } from './table.ts';
import { makeWorld, stateHash, type World } from './world.ts';

/** No option, and no field, of anything. */
const MISSPELT = 'mispelt';

let world: World;
let before: number;

beforeAll(() => {
  world = makeWorld();
  before = stateHash(world.machine);
});
afterAll(() => world.machine.close());

/** The good arguments, one of them, or a field of one, replaced. */
function spoilt(good: unknown[], { at, field }: Pick<Argument, 'at' | 'field'>, value: unknown): unknown[] {
  if (field === undefined) {
    good[at] = value;
    return good;
  }
  const put = (into: unknown, path: readonly string[]): unknown => {
    const [first, ...rest] = path as [string, ...string[]];
    const copy = (Array.isArray(into) ? [...(into as unknown[])] : { ...(into as object) }) as Record<string, unknown>;
    copy[first] = rest.length === 0 ? value : put(copy[first] ?? (/^\d+$/.test(rest[0]!) ? [] : {}), rest);
    return copy;
  };
  good[at] = put(good[at], field.split('.'));
  return good;
}

/** The good arguments, one of them, or a field of one, with one field more. */
function misspelt(good: unknown[], { at, field = '' }: Argument): unknown[] {
  const given: unknown = [at, ...(field === '' ? [] : field.split('.'))].reduce<unknown>(
    (value, name) => (value as Record<string, unknown> | undefined)?.[name],
    good,
  );
  return spoilt(good, { at, ...(field === '' ? {} : { field }) }, { ...(given as object | undefined), [MISSPELT]: undefined });
}

/** What is wrong with how a call with these arguments was refused. */
async function complaint(row: Row, argument: Argument, value: unknown): Promise<string | undefined> {
  const call = (): unknown => row.call(world, spoilt(row.good(world), argument, value));
  const error = row.rejects ? await rejectedBy(call) : thrownBy(call);
  if (error === NOTHING) return 'it is taken';
  return faultOf(error, argument.names);
}

describe.each(ROWS.map((row) => [row.name, row] as const))('%s', (_name, row) => {
  test.each(
    row.arguments.map(
      (argument) => [`${argument.at}${argument.field ? `.${argument.field}` : ''} (${argument.names[0]})`, argument] as const,
    ),
  )('argument %s', async (_argument, argument) => {
    const complaints: string[] = [];
    const { sort, optional = false, except = [], limit } = argument;
    for (const { name, value } of badInputs(sort, { optional, except, ...(limit === undefined ? {} : { limit }) })) {
      const wrong = await complaint(row, argument, value);
      if (wrong !== undefined) complaints.push(`${name}: ${wrong}`);
    }
    if (stateHash(world.machine) !== before) complaints.push('the machine has changed');
    if (complaints.length > 0) {
      world.machine.close();
      world = makeWorld();
      before = stateHash(world.machine);
    }
    expect(complaints.join('\n')).toBe('');
  });

  test.each(
    row.arguments
      .filter(({ sort, closed = sort === 'options' }) => closed)
      .map((argument) => [`${argument.at}${argument.field ? `.${argument.field}` : ''} (${argument.names[0]})`, argument] as const),
  )('argument %s has no field with another name', async (_argument, argument) => {
    const call = (): unknown => row.call(world, misspelt(row.good(world), argument));
    const error = row.rejects ? await rejectedBy(call) : thrownBy(call);
    expect(error === NOTHING ? 'it is taken' : faultOf(error, ['option', 'field', 'policy'], 'EINVAL')).toBe(undefined);
    expect((error as FarfaultError).value).toBe(MISSPELT);
    expect(stateHash(world.machine)).toBe(before);
  });

  test('leaves the machine whole', () => expect(world.machine.verify()).toBe(undefined));
});
