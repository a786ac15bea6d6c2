/** The contenders in C: compiled here, with the compiler of the machine; without one they are left out. */
import { execFile, spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Effort, Measured } from './measure.ts';
import type { Native } from './row.ts';
import { packageRoot } from './workload.ts';

interface Source {
  /** Of a file without its `.c`. */
  readonly source: string;
  readonly flags?: readonly string[];
  /** What is said where it does not compile; else that is an error. */
  readonly without?: string;
}

const PROGRAMS: Readonly<Record<Native['program'], Source>> = {
  table: { source: 'table' },
  // As wide as the vectors of WebAssembly are.
  table128: { source: 'table', flags: ['-mno-avx'], without: 'No -mno-avx in this compiler: C with 128-bit vectors is left out.' },
  memory: { source: 'memory' },
  judy: { source: 'judy', flags: ['-lJudy'], without: 'No libjudy-dev: JudyL is left out.' },
};

/** Programs that were compiled, by name, and why the others were not. */
export interface NativePrograms {
  readonly paths: ReadonlyMap<string, string>;
  readonly missing: readonly string[];
}

/** Compiles bench/native into `folder`. */
export function compileNative(folder: string): NativePrograms {
  const paths = new Map<string, string>();
  const compiler = process.env['CC'] ?? 'gcc';
  if (spawnSync(compiler, ['--version']).status !== 0) {
    return { paths, missing: [`No C compiler (${compiler}): the peers in C are left out. Install gcc, or set CC.`] };
  }
  mkdirSync(folder, { recursive: true });
  const missing: string[] = [];
  for (const [name, { source, flags = [], without }] of Object.entries(PROGRAMS)) {
    const path = join(folder, name);
    const file = join(packageRoot(), 'bench/native', `${source}.c`);
    const { status, stderr } = spawnSync(compiler, ['-O3', '-march=native', '-o', path, file, ...flags], { encoding: 'utf8' });
    if (status === 0) paths.set(name, path);
    else if (without !== undefined) missing.push(without);
    else throw new Error(`${file} does not compile:\n${stderr}`);
  }
  return { paths, missing };
}

/** One turn of a native contender. */
export async function measureNative(programs: NativePrograms, { program, row, numbers }: Native, effort: Effort): Promise<Measured> {
  const args = [row, effort.warmUpMs, effort.runMs, ...numbers].map(String);
  const { stdout } = await promisify(execFile)(programs.paths.get(program)!, args);
  return JSON.parse(stdout) as Measured;
}
