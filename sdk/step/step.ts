/**
 * An operation that can race is written once, as a step: a resumable machine whose state is plain data on the step object. The runners
 * (`runner.ts`, and the simulator in `sdk/testing`) call `next()` until it says DONE. Between two calls anything else may happen, so a
 * step holds locks for what must not change and looks again at the rest.
 *
 *   class TakeDown implements Step {
 *     readonly name = 'take down';
 *     phase = 0;
 *     next(run: Run): Progress {
 *       switch (this.phase) {
 *         case 0:
 *           if (!this.lock.tryAcquire(run)) return run.waitFor(this.lock);
 *           this.phase = 1;
 *           return AGAIN;                       // others may run here
 *         case 1:
 *           this.phase = 2;
 *           return run.call(this.flush);        // resumed when it is DONE
 *         default:
 *           this.lock.release(run);
 *           return DONE;                        // results stay on the step object
 *       }
 *     }
 *     abort(run: Run): void { ... }             // undo; locks still held are released afterwards
 *   }
 *
 * On the per-fault path a step is reused by its owner, which resets `phase`. A step that was left parked (see `Scheduler.runSync`) is in
 * use until it ends.
 */
import { fail } from '../errors.ts';
import { Stack } from './stack.ts';

/** The step has ended; its results are on it. */
export const DONE = 0;
/** Call again; others may run in between. */
export const AGAIN = 1;
/** Call again when what was named by `run.waitFor` is over. */
export const WAIT = 2;
/** Call again when the step given to `run.call` is DONE. */
export const CALL = 3;
/** What `next()` returns. */
export type Progress = typeof DONE | typeof AGAIN | typeof WAIT | typeof CALL;

/** Steps calling steps, at most this deep. */
export const CALL_DEPTH_MAX = 32;

/** One operation, resumable. All its state is plain data: numbers, ranges, ids, and its child steps. */
export interface Step {
  readonly name: string;
  /** Does the next piece of work, as one indivisible action. Returns `DONE`, `AGAIN`, `run.waitFor(...)` or `run.call(...)`. */
  next(run: Run): Progress;
  /** Undoes what was done: this step, or one that it called, threw `error`. Must not throw, wait or call. */
  abort?(run: Run, error: unknown): void;
}

/** What a run can wait for: a lock, a ticket, the end of the invalidations of a space. */
export interface Waitable {
  readonly label: string;
  /** Remembers `run` and will `wake()` it. False when the wait is already over. */
  enqueue(run: Run): boolean;
  /** Forgets `run`, which waits no longer. */
  leave(run: Run): void;
}

/** What a run can hold. Locks are taken in the order of `rank`, and of `key` within a rank. */
export interface Holdable {
  readonly label: string;
  readonly rank: number;
  readonly key: number;
  release(run: Run): void;
}

/** Who drives a run: the scheduler, or the simulator. */
export interface RunHost {
  /** Whether lock order and the contract of steps are checked. */
  readonly checked: boolean;
  /** `run` waits no longer: it is to be advanced, but not from inside this call. */
  woken(run: Run): void;
  /** All of a group have been woken. */
  settle(): void;
  /** Runs `step` beside what is running: it gets its turn, and nobody waits for it. A host without it runs none. */
  spawn?(step: Step): void;
  /** Whether other runs may get a turn between two turns of one that need not wait. Otherwise an operation that does not wait may do all of its work in one turn: nobody could tell. */
  readonly interleaves: boolean;
  /** An error that has no caller to be thrown to: a step's bug, or the failure of a run that was left parked. */
  report(error: unknown, step: Step): void;
}

/** One step being run, with the steps it called, the locks it holds, and what it waits for. */
export class Run {
  /** Counts up within a host: which run came first. */
  id = 0;
  readonly checked: boolean;
  /** The locks held, in the order of taking. */
  readonly held: Stack<Holdable> = new Stack();
  /** What this run is parked on. */
  waiting: Waitable | undefined = undefined;
  /** The queue in which this run keeps its place until it got what it waited for. */
  place: Waitable | undefined = undefined;
  /** Whether the last refusal of a reader-writer lock was of a shared acquisition. */
  refusedShared = false;
  private readonly host: RunHost;
  private top: Step;
  private readonly parents = new Stack<Step>();
  private parked = false;

  constructor(host: RunHost) {
    this.host = host;
    this.checked = host.checked;
    this.top = IDLE;
  }

  /** Makes this (finished, or new) run a run of `step`. */
  start(step: Step, id: number): void {
    this.top = step;
    this.id = id;
  }

  /** The steps of this run, outermost first. */
  get steps(): Step[] {
    return [...this.parents.toArray(), this.top];
  }

  /** The innermost step: the one that the next `advance()` resumes. */
  get step(): Step {
    return this.top;
  }

  /** Whether others may run between two turns of this one though it does not wait. */
  get interleaves(): boolean {
    return this.host.interleaves;
  }

  /** Waits for `what`: return the result from `next()`. A lock may be waited for only after it refused. */
  waitFor(what: Waitable): typeof WAIT {
    this.waiting = what;
    return WAIT;
  }

  /** Lets `step` run beside this one; nobody waits for it. False: its host drives nothing else. */
  spawn(step: Step): boolean {
    this.host.spawn?.(step);
    return this.host.spawn !== undefined;
  }

  /** Runs `child` first: return the result from `next()`, having set the phase in which to go on. */
  call(child: Step): typeof CALL {
    if (this.parents.length >= CALL_DEPTH_MAX) throw fail('EINVAL', 'run.call depth', this.parents.length, `is the limit (${child.name})`);
    this.parents.push(this.top);
    this.top = child;
    return CALL;
  }

  /**
   * `call`, at once: DONE when `child` has ended without waiting, and the caller goes on; otherwise what the caller has to return, having set the phase in which to go on. Where others may run between two turns,
   * it is `call`.
   */
  callNow(child: Step): typeof DONE | typeof CALL {
    this.call(child);
    if (this.host.interleaves || child.next(this) !== DONE) return CALL;
    this.top = this.parents.pop()!;
    return DONE;
  }

  /** Whether this run holds `lock`, in whatever mode. */
  holds(lock: Holdable): boolean {
    const { held } = this;
    for (let i = 0; i < held.length; i++) if (held.at(i) === lock) return true;
    return false;
  }

  /** Records a lock that was taken; locks call it. */
  hold(lock: Holdable): void {
    this.held.push(lock);
  }

  /** Forgets a lock that is being released; locks call it. */
  drop(lock: Holdable): void {
    if (!this.held.remove(lock)) throw fail('EINVAL', 'release', lock.label, `is not held by ${this.label}`);
  }

  /** Ends the wait, if there is one. Called by what was waited for. */
  wake(): void {
    if (!this.parked) return;
    this.parked = false;
    this.waiting = undefined;
    this.host.woken(this);
  }

  /** Ends a group of `wake()`: the runs that were woken may be driven now. */
  settle(): void {
    this.host.settle();
  }

  /**
   * One `next()` of the innermost step. Returns AGAIN (there is more to do), WAIT (parked: do not call until woken) or DONE (the run has
   * ended). Throws what the step threw, after the steps have been aborted, innermost first, and the locks released.
   */
  advance(): typeof DONE | typeof AGAIN | typeof WAIT {
    const step = this.top;
    try {
      return this.after(step, step.next(this));
    } catch (error) {
      this.unwind(error);
      throw error;
    }
  }

  /** `advance()` until it says DONE or WAIT. */
  drive(): typeof DONE | typeof WAIT {
    try {
      for (;;) {
        const step = this.top;
        let progress = step.next(this);
        // The common turn needs no look: nothing was waited for, nothing called.
        if (progress === AGAIN && this.place === undefined && this.top === step) continue;
        progress = this.after(step, progress);
        if (progress !== AGAIN) return progress;
      }
    } catch (error) {
      this.unwind(error);
      throw error;
    }
  }

  /** Aborts every step of this run because of `error`, innermost first, and releases what they still hold. */
  unwind(error: unknown): void {
    this.place?.leave(this);
    this.waiting?.leave(this);
    this.waiting = undefined;
    this.parked = false;
    for (let step: Step | undefined = this.top; step !== undefined; step = this.parents.pop()) {
      this.top = step;
      try {
        step.abort?.(this, error);
      } catch (another) {
        this.host.report(another, step);
      }
    }
    this.releaseAll();
    this.top = IDLE;
  }

  /** This run in an error message. */
  get label(): string {
    return `step "${this.steps.map((step) => step.name).join(' > ')}" (run ${this.id})`;
  }

  // What follows from the result of a step's turn.
  private after(step: Step, progress: Progress): typeof DONE | typeof AGAIN | typeof WAIT {
    if (this.checked && (progress === CALL) !== (this.top !== step)) {
      throw fail('EINVAL', 'step', step.name, 'calls a step without returning run.call(step), or the reverse');
    }
    if (this.place !== undefined && (progress !== WAIT || this.waiting !== this.place)) this.place.leave(this);
    switch (progress) {
      case AGAIN:
      case CALL:
        return AGAIN;
      case DONE:
        return this.finish();
      case WAIT:
        return this.park(step);
    }
  }

  private finish(): typeof DONE | typeof AGAIN {
    if (this.parents.length > 0) {
      this.top = this.parents.pop() as Step;
      return AGAIN;
    }
    if (this.held.length > 0) this.releaseAll();
    this.top = IDLE;
    return DONE;
  }

  private park(step: Step): typeof WAIT | typeof AGAIN {
    const what = this.waiting;
    if (what === undefined) throw fail('EINVAL', 'step', step.name, 'returns WAIT without run.waitFor');
    this.parked = true;
    if (what.enqueue(this)) return WAIT;
    this.parked = false;
    this.waiting = undefined;
    return AGAIN;
  }

  private releaseAll(): void {
    while (this.held.length > 0) {
      const lock = this.held.at(this.held.length - 1);
      if (this.checked) this.host.report(fail('EINVAL', 'lock', lock.label, `is still held when ${this.label} ends`), this.top);
      lock.release(this);
    }
  }
}

/** What a run without work runs. */
class Idle implements Step {
  readonly name = 'idle';

  next(): Progress {
    return DONE;
  }
}

/** @internal The step of every run without work: there is one. */
export const IDLE: Step = new Idle();

/** Runs waiting for one event that lets all of them go on, in the order of their coming. */
export class WaitQueue {
  private readonly runs: Run[] = [];

  /** How many runs wait. */
  get length(): number {
    return this.runs.length;
  }

  add(run: Run): void {
    this.runs.push(run);
  }

  leave(run: Run): void {
    const at = this.runs.indexOf(run);
    if (at >= 0) this.runs.splice(at, 1);
  }

  /** Lets every run go on. They are driven after this call, or in it when no step is being run. */
  wakeAll(): void {
    if (this.runs.length === 0) return;
    const woken = this.runs.splice(0);
    for (const run of woken) run.wake();
    for (const run of woken) run.settle();
  }
}
