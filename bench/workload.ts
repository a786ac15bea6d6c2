/** The recorded programs of examples/workloads, as text, with what is the device's in them. */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { type OffloadRange, parseSidecar } from 'farfault/replay';

export const WORKLOADS = ['stencil', 'bfs', 'hashjoin'] as const;

export interface Workload {
  readonly name: string;
  /** Lackey's lines. */
  readonly text: Uint8Array;
  readonly offload: readonly OffloadRange[];
}

/** One of them; of its text whole lines only, and at most `bytesMax` bytes. */
export function workload(name: string, bytesMax: number = Infinity): Workload {
  const file = join(packageRoot(), 'examples/workloads', `${name}.trace.gz`);
  const text = new Uint8Array(gunzipSync(readFileSync(file)));
  const end = text.length <= bytesMax ? text.length : text.lastIndexOf(0x0a, bytesMax - 1) + 1;
  const { offload } = parseSidecar(readFileSync(`${file}.json`, 'utf8'), `${name}.trace.gz.json`);
  return { name, text: text.subarray(0, end), offload };
}

/** The folder of the package: benches are run from a folder below it, compiled or not. */
export function packageRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'package.json'))) folder = dirname(folder);
  return folder;
}
