/** What JavaScript asks its heap for, while something runs. For Node. */
import type { HeapProfiler } from 'node:inspector';
import { Session } from 'node:inspector/promises';

/** Bytes between two samples. */
const INTERVAL = 512;

/** Counts what is asked of the heap from `begin` to `end`, what has been collected meanwhile included. */
export class Allocations {
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
    return allocated(profile.head);
  }
}

/** Bytes that a function, and those that it called, asked for. */
function allocated({ selfSize, children }: HeapProfiler.SamplingHeapProfileNode): number {
  return children.reduce((sum, child) => sum + allocated(child), selfSize);
}
