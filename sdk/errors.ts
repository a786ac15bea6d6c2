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
    super(message ?? `${argument} ${printed(value)} ${rule}`);
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

/** A value as an error message shows it: numbers that may be addresses in hex, text in quotes, never more than a line. */
export function printed(value: unknown): string {
  switch (typeof value) {
    case 'number':
      return Number.isInteger(value) && value >= 4096 ? `0x${value.toString(16)}` : String(value);
    case 'string':
      return JSON.stringify(value.length > 80 ? `${value.slice(0, 77)}...` : value);
    case 'bigint':
      return `${value}n`;
    case 'function':
      return `function ${value.name || '(anonymous)'}`;
    case 'object': {
      if (value === null) return 'null';
      if (Array.isArray(value)) return `an array of ${value.length}`;
      const name = (value as { constructor?: { name?: string } }).constructor?.name;
      return name && name !== 'Object' ? `a ${name}` : 'an object';
    }
    default:
      return String(value);
  }
}
