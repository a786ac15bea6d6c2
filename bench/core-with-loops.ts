/** The core with the loops of core/loops.ts, compiled when it is first asked for. */
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from './workload.ts';

/** What it exports beside the core's own. */
export interface CoreLoops {
  mapEach(table: number, vpn: number, order: number, n: number, high: number): void;
  unmapEach(table: number, vpn: number, order: number, n: number): void;
}

interface Compiler {
  main(args: readonly string[]): Promise<{ readonly error: Error | null; readonly stderr: { toString(): string } }>;
}

let compiled: WebAssembly.Module | undefined;

export async function coreWithLoops(): Promise<WebAssembly.Module> {
  if (compiled) return compiled;
  const root = packageRoot();
  const folder = join(root, 'build/bench');
  mkdirSync(folder, { recursive: true });
  // Several processes may want it at once.
  const wasm = join(folder, `core-loops.${process.pid}.wasm`);
  const { default: asc } = (await import('assemblyscript/asc' as string)) as { default: Compiler };
  const { error, stderr } = await asc.main([
    ...[join(root, 'bench/core/loops.ts'), '--config', join(root, 'asconfig.json'), '--target', 'release', '--baseDir', root],
    ...['--outFile', wasm],
  ]);
  if (error) throw new Error(`bench/core/loops.ts does not compile: ${error.message}\n${stderr.toString()}`);
  return (compiled = new WebAssembly.Module(readFileSync(wasm)));
}
