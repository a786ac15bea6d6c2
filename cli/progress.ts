/** A bar, or a line, on a terminal; nothing anywhere else. */
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

/** Which of several steps is being done. */
export interface Steps {
  begin(name: string): void;
  /** Removes the line. */
  stop(): void;
}

/** Shows the step that is being done, on standard error when that is a terminal. */
export function showSteps(count: number): Steps {
  const { stderr } = process;
  if (!stderr.isTTY) return { begin: () => undefined, stop: () => undefined };
  let step = 0;
  return {
    begin: (name) => void stderr.write(`\r\x1b[K${`${++step} of ${count}: ${name}`.slice(0, stderr.columns - 1)}`),
    stop: () => void stderr.write('\r\x1b[K'),
  };
}
