/**
 * Bad inputs: for each sort of argument the values that a function of this library refuses, whichever function it is. One table, for the tests of the library and
 * of the drivers that are written for it.
 *
 * ```ts
 * for (const { name, value } of badInputs('address')) test(name, () => expect(() => space.read(value as number, 1)).toThrow(FarfaultError));
 * ```
 *
 * What an input is refused for besides (an address that is not mapped, a range that is not one of a file) is no business of this table. `-0` is 0, and refused where 0 is.
 */
import { fail } from '../errors.ts';
import { type NamesOf, requireArray, requireBoolean, requireOptions } from '../mm/arguments.ts';

/** What an argument is. */
export type ArgumentSort =
  /** Byte address: an integer from 0 to 2^48 - 1. */
  | 'address'
  /** Byte address that is a multiple of 4096. */
  | 'aligned address'
  /** Integer from 0 on: an offset, a length, an index, a page, a frame. */
  | 'index'
  /** Integer from 1 on. */
  | 'count'
  /** Any integer from 0 to 2^32 - 1: a seed. */
  | 'seed'
  /** `{ start, end }` in bytes, page-aligned, not empty, below 2^48. */
  | 'range'
  /** Uint8Array. */
  | 'bytes'
  /** One of a list of words. */
  | 'word'
  /** Any text. */
  | 'text'
  | 'boolean'
  /** An object with fields that may be left out. */
  | 'options'
  /** An object of the library: a device, a driver, a file, a notifier, a memory. Those of other machines are up to the caller. */
  | 'object'
  | 'array'
  | 'function';

/** One value, and what is wrong with it. */
export interface BadInput {
  readonly name: string;
  readonly value: unknown;
}

/** A value that has no text of its own: no prototype, and nothing that would say what it is. */
const bare: unknown = Object.create(null);

/** A value that throws at whatever is asked of it. */
function hostile(): unknown {
  const refuse = (): never => {
    throw new Error('a getter that throws');
  };
  return new Proxy(
    {},
    {
      get: refuse,
      has: refuse,
      ownKeys: refuse,
      getPrototypeOf: refuse,
      getOwnPropertyDescriptor: refuse,
    },
  );
}

function revoked(): unknown {
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  return proxy;
}

type Kind = 'nothing' | 'number' | 'text' | 'boolean' | 'symbol' | 'bigint' | 'object' | 'array' | 'function' | 'bytes';

/** Values of every type, the sort that each belongs to, and what it is. */
const TYPES: readonly (BadInput & { readonly kind: Kind })[] = [
  { kind: 'nothing', name: 'undefined', value: undefined },
  { kind: 'nothing', name: 'null', value: null },
  { kind: 'number', name: 'a number', value: 4096 },
  { kind: 'text', name: 'empty text', value: '' },
  { kind: 'text', name: 'a number in text', value: '4096' },
  { kind: 'text', name: 'text of many lines', value: 'two\nlines '.repeat(100) },
  { kind: 'text', name: 'the name of what every object has', value: 'constructor' },
  { kind: 'boolean', name: 'true', value: true },
  { kind: 'boolean', name: 'false', value: false },
  { kind: 'symbol', name: 'a symbol', value: Symbol('page') },
  { kind: 'bigint', name: 'a big integer', value: 4096n },
  { kind: 'bigint', name: 'a very big integer', value: 2n ** 2000n },
  { kind: 'object', name: 'an empty object', value: {} },
  { kind: 'object', name: 'an object without prototype', value: bare },
  { kind: 'object', name: 'a number in an object', value: { valueOf: () => 4096, toString: () => '4096' } },
  { kind: 'object', name: 'a date', value: new Date(4096) },
  { kind: 'array', name: 'an empty array', value: [] },
  { kind: 'array', name: 'a number in an array', value: [4096] },
  { kind: 'array', name: 'a long array', value: new Array(100_000).fill(0) },
  { kind: 'function', name: 'a function', value: (): number => 4096 },
  { kind: 'function', name: 'a class', value: class Page {} },
  { kind: 'bytes', name: 'bytes', value: new Uint8Array(8) },
];

/** Objects that throw when they are looked into; not for sorts that are objects themselves, where the caller's own error passes through. */
const HOSTILE: readonly BadInput[] = [
  { name: 'an object that throws when it is asked', value: hostile() },
  { name: 'a proxy of nothing', value: revoked() },
];

const NUMBERS: readonly BadInput[] = [
  { name: 'NaN', value: NaN },
  { name: 'Infinity', value: Infinity },
  { name: 'less than -Infinity', value: -Infinity },
  { name: 'below zero', value: -1 },
  { name: 'a page below zero', value: -4096 },
  { name: 'far below zero', value: -(2 ** 53) },
  { name: 'a fraction', value: 0.5 },
  { name: 'a page and a fraction', value: 4096.25 },
  { name: 'the smallest number', value: Number.MIN_VALUE },
  { name: '2^53', value: 2 ** 53 },
  { name: '2^64', value: 2 ** 64 },
  { name: 'the largest number', value: Number.MAX_VALUE },
];

const OUTSIDE: readonly BadInput[] = [
  { name: '2^48', value: 2 ** 48 },
  { name: '2^52', value: 2 ** 52 },
];
const UNALIGNED: readonly BadInput[] = [
  { name: 'one byte', value: 1 },
  { name: 'one byte short of a page', value: 4095 },
  { name: 'the last byte', value: 2 ** 48 - 1 },
];
const ZERO: readonly BadInput[] = [
  { name: 'zero', value: 0 },
  { name: 'negative zero', value: -0 },
];

function isOfType(sort: ArgumentSort, kind: Kind, value: unknown): boolean {
  switch (sort) {
    case 'range':
    case 'object':
    case 'word':
      return false;
    case 'text':
      return kind === 'text';
    case 'boolean':
      return kind === 'boolean';
    case 'bytes':
      return kind === 'bytes';
    case 'options':
      return kind === 'object' || kind === 'bytes';
    case 'array':
      return kind === 'array';
    case 'function':
      return kind === 'function';
    default:
      return typeof value === 'number';
  }
}

function numbersFor(sort: ArgumentSort): readonly BadInput[] {
  switch (sort) {
    case 'address':
      return [...NUMBERS, ...OUTSIDE];
    case 'aligned address':
      return [...NUMBERS, ...OUTSIDE, ...UNALIGNED];
    case 'index':
      return NUMBERS;
    case 'count':
      return [...NUMBERS, ...ZERO];
    case 'seed':
      return [...NUMBERS, { name: '2^32', value: 2 ** 32 }];
    default:
      return [{ name: 'NaN', value: NaN }, ...ZERO];
  }
}

function ranges(): BadInput[] {
  const of = (name: string, start: unknown, end: unknown): BadInput => ({ name: `a range ${name}`, value: { start, end } });
  return [
    of('of nothing', 4096, 4096),
    of('that is reversed', 8192, 4096),
    of('without an end', 4096, undefined),
    of('without a start', undefined, 4096),
    ...badInputs('aligned address').map(({ name, value }) => of(`from ${name}`, value, 2 ** 47)),
    ...[...NUMBERS, ...UNALIGNED].map(({ name, value }) => of(`up to ${name}`, 0, value)),
    of('up to 2^52', 0, 2 ** 52),
    of('up to text', 0, '4096'),
    of('up to a big integer', 0, 4096n),
    of('up to a symbol', 0, Symbol('end')),
  ];
}

/** What a test adds to the table. */
export interface BadInputOptions {
  /** The argument may be left out: `undefined` is none of them. Default false. */
  readonly optional?: boolean;
  /** Values that this argument takes, though its sort does not. */
  readonly except?: readonly string[];
  /** Numbers are refused from here on. */
  readonly limit?: number;
}

const OPTIONS: NamesOf<BadInputOptions> = { optional: true, except: true, limit: true };

/**
 * The values that an argument of this sort cannot take: every wrong type; for numbers NaN, infinite, negative, fractional, huge, unaligned; for ranges those that are empty, reversed
 * or leave the address space. Made anew for each call: nothing that is done to one is seen by the next. Errors: EINVAL for a sort or a name that there is not.
 */
export function badInputs(sort: ArgumentSort, options: BadInputOptions = {}): BadInput[] {
  if (!SORTS.includes(sort)) throw fail('EINVAL', 'badInputs.sort', sort, `is not one of: ${SORTS.map((each) => `'${each}'`).join(', ')}`);
  requireOptions('badInputs', options, OPTIONS);
  const { optional = false, except = [], limit } = options;
  requireBoolean('badInputs.optional', optional);
  requireArray('badInputs.except', except);
  if (limit !== undefined && typeof limit !== 'number') throw fail('EINVAL', 'badInputs.limit', limit, 'is not a number');
  const objects = ['range', 'options', 'object'].includes(sort);
  const all: BadInput[] = [
    ...TYPES.filter(({ kind, value }) => !isOfType(sort, kind, value)).map(({ name, value }) => ({ name, value })),
    ...(objects ? [] : HOSTILE),
    ...numbersFor(sort),
    ...(sort === 'range' ? ranges() : []),
    ...(limit === undefined ? [] : [{ name: `its limit, ${limit}`, value: limit }]),
  ];
  for (const name of except)
    if (!all.some((each) => each.name === name)) throw fail('EINVAL', 'badInputs.except', name, `is not the name of a bad ${sort}`);
  return all.filter(({ name, value }) => !(optional && value === undefined) && !except.includes(name));
}

const SORTS: readonly ArgumentSort[] = [
  'address',
  'aligned address',
  'index',
  'count',
  'seed',
  'range',
  'bytes',
  'word',
  'text',
  'boolean',
  'options',
  'object',
  'array',
  'function',
];
