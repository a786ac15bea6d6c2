/** The contenders in C: compiled here, with the compiler of the machine; without one they are left out. */
import { execFile, spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Effort, Measured } from './measure.ts';
import type { Native } from './row.ts';
import { packageRoot } from './workload.ts';

const PROGRAMS: Readonly<Record<Native['program'], readonly string[]>> = { table: [], memory: [], judy: ['-lJudy'] };

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
  for (const [name, libraries] of Object.entries(PROGRAMS)) {
    const path = join(folder, name);
    const source = join(packageRoot(), 'bench/native', `${name}.c`);
    const { status, stderr } = spawnSync(compiler, ['-O3', '-march=native', '-o', path, source, ...libraries], { encoding: 'utf8' });
    if (status === 0) paths.set(name, path);
    else if (name === 'judy') missing.push('No libjudy-dev: JudyL is left out.');
    else throw new Error(`${source} does not compile:\n${stderr}`);
  }
  return { paths, missing };
}

/** One turn of a native contender. */
export async function measureNative(programs: NativePrograms, { program, row, numbers }: Native, effort: Effort): Promise<Measured> {
  const args = [row, effort.warmUpMs, effort.runMs, ...numbers].map(String);
  const { stdout } = await promisify(execFile)(programs.paths.get(program)!, args);
  return JSON.parse(stdout) as Measured;
}
