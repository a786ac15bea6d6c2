/**
 * Errors: a programmer's mistake throws a `FarfaultError`; an expected outcome (no access, no frame, busy) is a value where a verb
 * says so. Ground floor: imports nothing.
 */

/** errno-style codes, the vocabulary of the system calls that are modelled. */
export type ErrorCode =
  /** An argument breaks a rule that can be known beforehand. */
  | 'EINVAL'
  /** No mapping, or none with the right asked for: a segmentation fault. */
  | 'EFAULT'
  /** The mapping exists but does not allow it. */
  | 'EPERM'
  /** No free frame, table page or record. */
  | 'ENOMEM'
  /** Something unfinished (a ticket, a lock) is in the way; the operation goes on by itself when it ends. */
  | 'EBUSY'
  /** Refused for now: try again. */
  | 'EAGAIN'
  /** A number leaves its range. */
  | 'EOVERFLOW'
  /** The device is gone or has failed. */
  | 'ENODEV'
  /** The bytes are lost: a bus error. */
  | 'EIO'
  /** This machine, context or device has been closed. */
  | 'EBADF'
  /** Not offered by this device or in this state. */
  | 'EOPNOTSUPP'
  /** A loop that must come to an end did not. */
  | 'ETIME'
  /** Input data is malformed. */
  | 'EILSEQ';

const BRAND = Symbol.for('farfault.error');

/**
 * A broken rule: `argument` is what was given, `value` its value, `rule` what it had to be.
 * Recognise it with `isFarfaultError`, which also works when two copies of the library are loaded.
 */
export class FarfaultError extends Error {
  readonly code: ErrorCode;
  readonly argument: string;
  readonly value: unknown;
  readonly rule: string;

  constructor(code: ErrorCode, argument: string, value: unknown, rule: string, message?: string) {
    super(message ?? `${argument} ${printed(value, argument)} ${rule}`);
    this.name = 'FarfaultError';
    this.code = code;
    this.argument = argument;
    this.value = value;
    this.rule = rule;
    Object.defineProperty(this, BRAND, { value: true });
  }
}

/** True for an error of this library, whichever of its bundles made it. */
export function isFarfaultError(error: unknown): error is FarfaultError {
  return typeof error === 'object' && error !== null && (error as { [BRAND]?: unknown })[BRAND] === true;
}

/** The error "`argument` `value` `rule`", as in: range.start 0x1001 is not page-aligned. */
export function fail(code: ErrorCode, argument: string, value: unknown, rule: string): FarfaultError {
  return new FarfaultError(code, argument, value, rule);
}

const TEXT_MAX = 80;

/** Arguments that are addresses or page numbers, by the last word of their names. */
const ADDRESSES = /(?:^|[ .])(?:addr|address|at|start|end|to|from|low|below|hint|guest|iova|vpn|page|access|offset)$/;

/**
 * A value as an error message shows it: addresses in hex, counts in decimal, text in quotes, never more than a line. `argument`: whose value it is; without one a number may be an address. It asks nothing of
 * the value that could throw.
 */
export function printed(value: unknown, argument = 'address'): string {
  switch (typeof value) {
    case 'number':
      if (Object.is(value, -0)) return '-0';
      return Number.isInteger(value) && value >= 4096 && value <= 2 ** 64 && ADDRESSES.test(argument)
        ? `0x${value.toString(16)}`
        : String(value);
    case 'string':
      return JSON.stringify(shortened(value));
    case 'bigint':
      return shortened(`${value}n`);
    case 'symbol':
      return shortened(oneLine(String(value)));
    case 'function':
      return `function ${nameOf(value) || '(anonymous)'}`;
    case 'object': {
      if (value === null) return 'null';
      const length = lengthOf(value);
      if (length !== undefined) return `an array of ${length}`;
      const name = nameOf(classOf(value));
      return name && name !== 'Object' ? `a ${name}` : 'an object';
    }
    default:
      return String(value);
  }
}

function shortened(text: string): string {
  return text.length > TEXT_MAX ? `${text.slice(0, TEXT_MAX - 3)}...` : text;
}

function oneLine(text: string): string {
  return text.replace(/\s+/g, ' ');
}

/** Length of an array; undefined for whatever is none, or does not say. */
function lengthOf(value: object): number | undefined {
  try {
    return Array.isArray(value) ? value.length : undefined;
  } catch {
    return undefined;
  }
}

function classOf(value: object): unknown {
  try {
    return (value as { readonly constructor?: unknown }).constructor;
  } catch {
    return undefined;
  }
}

/** The name of a function, if it has one that can be shown. */
function nameOf(value: unknown): string {
  try {
    const name: unknown = typeof value === 'function' ? value.name : '';
    return typeof name === 'string' ? shortened(oneLine(name)) : '';
  } catch {
    return '';
  }
}
