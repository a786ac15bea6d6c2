/** Runs the built command, as a shell would. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll } from 'vitest';

const CLI = fileURLToPath(new URL('../../dist/cli.js', import.meta.url));

export interface Outcome {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** A running `farfault`. */
export class Command {
  readonly process;
  out = '';
  err = '';
  readonly #closed: Promise<unknown>;

  constructor(words: readonly string[], cwd: string, extra: Readonly<Record<string, string>> = {}) {
    const { FARFAULT_DEBUG: _, ...env } = process.env;
    this.process = spawn(process.execPath, [CLI, ...words], { cwd, env: { ...env, ...extra } });
    this.process.stdout.on('data', (bytes: Buffer) => void (this.out += bytes.toString()));
    this.process.stderr.on('data', (bytes: Buffer) => void (this.err += bytes.toString()));
    // A command that fails early closes its standard input.
    this.process.stdin.on('error', () => undefined);
    this.#closed = once(this.process, 'close');
  }

  async outcome(): Promise<Outcome> {
    await this.#closed;
    return { code: this.process.exitCode, out: this.out, err: this.err };
  }
}

/** Runs `farfault` to its end. */
export function farfault(words: readonly string[], { cwd, input = '' }: { cwd: string; input?: string | Uint8Array }): Promise<Outcome> {
  const command = new Command(words, cwd);
  command.process.stdin.end(input);
  return command.outcome();
}

const folders: string[] = [];
afterAll(() => folders.forEach((path) => rmSync(path, { recursive: true, force: true })));

/** A new folder, gone when the tests of the file have ended. */
export function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'farfault-'));
  folders.push(path);
  return path;
}
