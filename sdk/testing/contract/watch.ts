/** What stands around the driver under test: it is traced, and its calling rules are checked. */
import type { Driver } from '../../gmem/index.ts';
import { checked, Checks, DriverTrace, traced } from '../middleware/index.ts';

/** Calls that a failure tells. */
const CALLS_TOLD = 40;

/** Calls that are kept. */
const CALLS_KEPT = 400;

/** A driver with what watches it. */
export interface Watched {
  /** What goes into the machine. */
  readonly driver: Driver;
  /** Calling rules that were broken, as sentences. */
  readonly violations: readonly string[];
  /** The last calls, a line each. */
  calls(last?: number): string;
  /** Everything is over: tickets that are open now are violations. */
  finish(): void;
}

/** Puts what watches around a driver. */
export function watch(driver: Driver): Watched {
  const trace = new DriverTrace({ max: CALLS_KEPT });
  const checks = new Checks({ max: 20 });
  return {
    driver: traced(checked(driver, checks), trace),
    // What the framework promises is tested elsewhere: here the driver is graded.
    get violations() {
      return checks.violations
        .filter(({ by }) => by === 'driver')
        .map(({ rule, operation, detail }) => `${operation}: ${detail} (calling rule "${rule}")`);
    },
    calls: (last = CALLS_TOLD) => trace.text(last),
    finish: () => void checks.finish(),
  };
}
