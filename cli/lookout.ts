/**
 * Says on standard error which case does not come to its end, and which line of the driver is running: a driver in an endless loop leaves the program no turn to say it.
 *
 * ```
 *   this thread      begin ----> case ----> driver.invalidate: for (;;)
 *                      | name                     ^ where?
 *   lookout-thread     +----> ten seconds --------+----> standard error
 * ```
 */
import { Worker } from 'node:worker_threads';

export interface Lookout {
  /** What is being done from now on. */
  begin(name: string): void;
  /** It is over. */
  stop(): void;
}

/** A second thread that watches this one. It keeps the program from nothing, its end included. */
export function postLookout(): Lookout {
  // Beside dist/cli.js.
  const thread = new Worker(new URL('./lookout.js', import.meta.url));
  thread.unref();
  // Where it cannot be, nobody looks out.
  thread.on('error', () => undefined);
  return { begin: (name) => thread.postMessage(name), stop: () => void thread.terminate() };
}
