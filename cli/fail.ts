/**
 * How the command fails: one sentence on standard error and an exit code. No stack trace, unless FARFAULT_DEBUG is set.
 *
 *   2  the command line is wrong: an unknown option, a size that does not fit, a device that is none
 *   1  what it names does not work: a trace that is missing or broken, a file that cannot be written
 */
import { isFarfaultError } from 'farfault';

export const EXIT_DATA = 1;
export const EXIT_USAGE = 2;

/** The command was called wrongly. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** The command was called rightly, and could not do it. */
export class DataError extends Error {
  override readonly name = 'DataError';
}

/** Says on standard error what went wrong; returns the exit code. */
export function explain(error: unknown): number {
  if (process.env['FARFAULT_DEBUG']) process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
  else process.stderr.write(`farfault: ${sentence(error)}\n`);
  return error instanceof UsageError ? EXIT_USAGE : EXIT_DATA;
}

function sentence(error: unknown): string {
  const text = oneLine(error);
  if (error instanceof UsageError || error instanceof DataError || isFarfaultError(error)) return text;
  return `something unexpected happened: ${text} (FARFAULT_DEBUG=1 shows where)`;
}

/** The message of an error without line breaks. */
export function oneLine(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.trim().replace(/\s*\n\s*/g, '; ');
}

const FILE_ERRORS: Readonly<Record<string, string>> = {
  ENOENT: 'does not exist',
  ENOTDIR: 'does not exist: a part of its path is not a directory',
  EISDIR: 'is a directory',
  EACCES: 'may not be opened: permission denied',
  EPERM: 'may not be opened: permission denied',
  EROFS: 'is on a file system that is read-only',
  ENOSPC: 'does not fit: no space is left on the device',
  ELOOP: 'leads through too many symbolic links',
  ENAMETOOLONG: 'is too long a name',
};

/** What a system call said about a file, as a sentence: `x.trace does not exist`. Other errors are passed on as they are. */
export function fileError(error: unknown, path: string): unknown {
  const code = (error as { code?: unknown } | null)?.code;
  const syscall = (error as { syscall?: unknown } | null)?.syscall;
  if (typeof code !== 'string' || typeof syscall !== 'string') return error;
  return new DataError(`${path} ${FILE_ERRORS[code] ?? `cannot be used: ${oneLine(error)}`}`, { cause: error });
}
