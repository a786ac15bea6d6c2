/** What an error of the library has to be, whatever was wrong. */
import { type FarfaultError, isFarfaultError } from 'farfault';
import { printed } from '../../sdk/errors.ts';

/** What is wrong with how a call was refused; undefined: nothing. `names`: one of these words has to be in the name of the argument. */
export function faultOf(error: unknown, names: readonly string[], code?: string): string | undefined {
  if (!isFarfaultError(error)) return `${typeof error === 'object' && error instanceof Error ? error.stack : String(error)}`;
  const { argument, message, rule, value } = error;
  if (code !== undefined && error.code !== code) return `${error.code} instead of ${code}: ${message}`;
  if (typeof argument !== 'string' || argument === '') return `no argument is named: ${message}`;
  if (!names.some((name) => argument.includes(name))) return `"${argument}" does not name ${names.join(' or ')}: ${message}`;
  if (rule.length < 8) return `no rule is stated: ${message}`;
  if (message !== `${argument} ${printed(value, argument)} ${rule}`) return `argument, value and rule are not the message: ${message}`;
  if (/[\n\r]/.test(message) || message.length > 320) return `the message is longer than a line: ${message}`;
  return undefined;
}

/** What a call threw, or what its promise was rejected with; `NOTHING` when it did neither. */
export const NOTHING = Symbol('nothing thrown');

export function thrownBy(call: () => unknown): unknown {
  try {
    const answer = call();
    if (answer instanceof Promise) {
      answer.catch(() => {});
      return 'a promise, for a call that throws';
    }
    return NOTHING;
  } catch (error) {
    return error;
  }
}

export async function rejectedBy(call: () => unknown): Promise<unknown> {
  let promise: unknown;
  try {
    promise = call();
  } catch (error) {
    return new Error('thrown, not rejected', { cause: error });
  }
  try {
    await promise;
    return NOTHING;
  } catch (error) {
    return error;
  }
}

export type { FarfaultError };
