/** A bar on a terminal; nothing anywhere else. */
import { Presets, SingleBar } from 'cli-progress';

export interface Progress {
  /** Bytes of the trace that have been read. */
  update(bytes: number): void;
  /** Removes the bar. Twice is fine. */
  stop(): void;
}

const SILENT: Progress = { update: () => undefined, stop: () => undefined };
const MIB = 2 ** 20;

/** Shows how much of `totalBytes` has been read, on standard error when that is a terminal. An unknown total shows nothing. */
export function showProgress(name: string, totalBytes: number | undefined): Progress {
  if (!process.stderr.isTTY || !totalBytes) return SILENT;
  const format = `${name.replaceAll(/[{}]/g, '')} {bar} {percentage} % of ${(totalBytes / MIB).toFixed(1)} MiB`;
  const bar = new SingleBar({ format, stream: process.stderr, clearOnComplete: true, hideCursor: true, gracefulExit: false }, Presets.rect);
  bar.start(totalBytes, 0);
  const stop = (): void => {
    process.removeListener('exit', stop);
    bar.stop();
  };
  // Whatever ends the process: the cursor comes back.
  process.once('exit', stop);
  return { update: (bytes) => bar.update(Math.min(bytes, totalBytes)), stop };
}
