/** The thread of a lookout, see lookout.ts: it is told what begins, and asks the engine where the main thread is when that takes long. */
import { writeSync } from 'node:fs';
import { type Debugger, Session } from 'node:inspector';
import { relative } from 'node:path';
import { isatty } from 'node:tty';
import { fileURLToPath } from 'node:url';
import { parentPort } from 'node:worker_threads';

/** What is told first; then every time when twice as long has gone by. */
const LATE_MS = 10_000;
/** A main thread that runs answers at once; one that waits does not answer. */
const ANSWER_MS = 1000;
const STDERR = 2;
/** Farfault itself. */
const OWN = new URL('.', import.meta.url).href;

let timer: ReturnType<typeof setTimeout> | undefined;
parentPort!.on('message', (name: string) => {
  clearTimeout(timer);
  waitFor(name, LATE_MS, LATE_MS);
});

/** `total`: what will have gone by then. */
function waitFor(name: string, ms: number, total: number): void {
  timer = setTimeout(() => {
    waitFor(name, total, 2 * total);
    look((place) => {
      const line = `farfault: "${name}" has not ended after ${total / 1000} s: ${place}\n`;
      writeSync(STDERR, isatty(STDERR) ? `\r\x1b[K${line}` : line);
    });
  }, ms);
}

/** Stops the main thread for a moment, and says where it is. */
function look(tell: (place: string) => void): void {
  const session = new Session();
  const urls = new Map<string, string>();
  const end = (place: string): void => {
    clearTimeout(silence);
    session.disconnect();
    tell(place);
  };
  const silence = setTimeout(() => end('the driver is not running, something is waited for'), ANSWER_MS);
  session.connectToMainThread();
  session.on('Debugger.scriptParsed', ({ params }) => void urls.set(params.scriptId, params.url));
  // The thread goes on when the session ends.
  session.on('Debugger.paused', ({ params }) => end(placeOf(params.callFrames, urls)));
  session.post('Debugger.enable', () => session.post('Debugger.pause'));
}

/** The innermost line that is not farfault's own, and the operation of the driver that led there. `frames`: innermost first. */
function placeOf(frames: readonly Debugger.CallFrame[], urls: ReadonlyMap<string, string>): string {
  const isDrivers = ({ location }: Debugger.CallFrame): boolean => {
    const url = urls.get(location.scriptId) ?? '';
    return url.startsWith('file:') && !url.startsWith(OWN);
  };
  const shown = ({ functionName, location }: Debugger.CallFrame): string => {
    const path = relative(process.cwd(), fileURLToPath(urls.get(location.scriptId)!));
    return `${functionName || '(anonymous)'} (${path}:${location.lineNumber + 1})`;
  };
  const inner = frames.findIndex(isDrivers);
  if (inner < 0) return 'the driver is not running, farfault is';
  const own = frames.findIndex((frame, i) => i > inner && !isDrivers(frame));
  const outer = (own < 0 ? frames.length : own) - 1;
  return `the driver is in ${shown(frames[inner]!)}${outer > inner ? `, from ${shown(frames[outer]!)}` : ''}`;
}
