/** Where results go: standard output, or a file that appears only when it is complete. */
import { accessSync, closeSync, constants, openSync, realpathSync, renameSync, rmSync, statSync, writeSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { DataError, fileError } from './fail.ts';

/** Writes text to standard output and waits until it is out. */
export function print(text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    process.stdout.write(`${text}\n`, (error) => (error ? reject(error) : resolve()));
  });
}

/** A file that is to be written. */
export interface Target {
  /** Writes a part of it, which nobody sees before `commit`. */
  write(text: string): void;
  /** Writes the last part, and puts the file in place, all at once. */
  commit(text: string): void;
  /** Leaves everything as it was. Twice, or after `commit`, is fine. */
  abandon(): void;
}

/**
 * Makes sure that `path` can be written, before the work begins. The text goes to a temporary file beside it, which takes its place in one step; an
 * interrupted run leaves the old file, or none. Devices and pipes (`/dev/null`) are written to directly. Throws DataError when it cannot be written.
 */
export function openTarget(path: string): Target {
  try {
    const existing = statSync(path, { throwIfNoEntry: false });
    if (existing?.isDirectory()) throw new DataError(`${path} is a directory`);
    if (existing) accessSync(path, constants.W_OK);
    return existing && !existing.isFile() ? openDevice(path) : openBeside(existing ? realpathSync(path) : path, path);
  } catch (error) {
    if ((error as { code?: unknown }).code === 'ENOENT')
      throw new DataError(`${path} cannot be written: its directory does not exist`, { cause: error });
    throw fileError(error, path);
  }
}

function openDevice(path: string): Target {
  let file: number | undefined;
  const abandon = (): void => {
    if (file !== undefined) closeSync(file);
    file = undefined;
  };
  const write = (text: string): void => {
    try {
      file ??= openSync(path, 'w');
      writeAll(file, text);
    } catch (error) {
      throw fileError(error, path);
    }
  };
  return {
    write,
    commit(text) {
      write(text);
      abandon();
    },
    abandon,
  };
}

function writeAll(file: number, text: string): void {
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length;) at += writeSync(file, bytes, at);
}

/** `path` is the file, `shown` what the user called it. */
function openBeside(path: string, shown: string): Target {
  const aside = join(dirname(path), `.${basename(path)}.${process.pid}.part`);
  const file = openSync(aside, 'wx');
  let open = true;
  const abandon = (): void => {
    process.removeListener('exit', abandon);
    if (!open) return;
    open = false;
    closeSync(file);
    rmSync(aside, { force: true });
  };
  // Whatever ends the process: nothing half-written stays.
  process.once('exit', abandon);
  return {
    write(text) {
      try {
        writeAll(file, text);
      } catch (error) {
        throw fileError(error, shown);
      }
    },
    commit(text) {
      try {
        writeAll(file, text);
        renameSync(aside, path);
      } catch (error) {
        throw fileError(error, shown);
      } finally {
        abandon();
      }
    },
    abandon,
  };
}
