/** What JavaScript asks its heap for, and for memory outside of it, while something runs. For Node. */
import type { HeapProfiler } from 'node:inspector';
import { Session } from 'node:inspector/promises';
import { memoryUsage } from 'node:process';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

setFlagsFromString('--expose-gc');
// V8 compiles at once, and frees at once: on a busy machine its helpers come late, and what was asked for in the meantime would be seen.
setFlagsFromString('--no-concurrent-recompilation');
setFlagsFromString('--no-concurrent-array-buffer-sweeping');
// An object that is given to a function, or a number that one returns, needs no room where V8 puts the one function into the other, and whether it does differs from run to run.
setFlagsFromString('--no-turbo-inlining');
const collect = runInNewContext('gc') as () => void;

/** Bytes between two samples. */
const INTERVAL = 512;

/** Counts what is asked of the heap from `begin` to `end`, what has been collected meanwhile included. */
export class Allocations {
  /** The functions that asked for most, and how many bytes. */
  most = '';
  private readonly session = new Session();
  private began: Promise<unknown> | undefined;

  /** Takes effect at once. */
  begin(): void {
    this.session.connect();
    this.began = this.session.post('HeapProfiler.startSampling', {
      samplingInterval: INTERVAL,
      includeObjectsCollectedByMajorGC: true,
      includeObjectsCollectedByMinorGC: true,
    } as never);
  }

  /** Bytes, of which there are always some. */
  async end(): Promise<number> {
    await this.began;
    const { profile } = await this.session.post('HeapProfiler.stopSampling');
    this.session.disconnect();
    const by = new Map<string, number>();
    const bytes = allocated(profile.head, '', by);
    this.most = [...by]
      .sort(([, a], [, b]) => b - a)
      .slice(0, 5)
      .map(([name, size]) => `${name} ${size}`)
      .join(', ');
    return bytes;
  }
}

/** Bytes of arrays outside of the heap that `work` asks for. What a collection frees meanwhile is not seen. */
export function arrayBytes(work: () => void): number {
  collect();
  const before = memoryUsage().arrayBuffers;
  work();
  return memoryUsage().arrayBuffers - before;
}

/** Bytes that a function, and those that it called, asked for. */
function allocated(node: HeapProfiler.SamplingHeapProfileNode, caller: string, by: Map<string, number>): number {
  const { functionName, url } = node.callFrame;
  const name = `${functionName || '(unnamed)'} of ${url.split('/').at(-1) || 'V8'}`;
  if (node.selfSize > 0) {
    const full = `${name}, called by ${caller}`;
    by.set(full, (by.get(full) ?? 0) + node.selfSize);
  }
  return node.children.reduce((sum, child) => sum + allocated(child, name, by), node.selfSize);
}
