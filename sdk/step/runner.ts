/**
 * The scheduler drives steps, synchronously or for a promise, and keeps those that had to wait. Everything happens in the order of
 * coming, on the stack of whoever calls in; nothing runs inside somebody else's step.
 */
import { fail } from '../errors.ts';
import { AGAIN, DONE, Run, type RunHost, type Step } from './step.ts';

export interface SchedulerOptions {
  /** Check lock order and the contract of steps. On unless switched off. */
  readonly checked?: boolean;
  /** Gets errors that have no caller: a step's bug (a lock not released), the failure of a run that `runSync` had left parked. */
  readonly report: (error: unknown, step: Step) => void;
}

/** An unfinished run, for people and for `close()`. */
export interface PendingRun {
  readonly id: number;
  /** Names of the steps, outermost first. */
  readonly steps: readonly string[];
  /** What it waits for; empty when it only waits for its turn. */
  readonly waitsFor: string;
  readonly holds: readonly string[];
}

/** Who is told that a run has ended. */
interface Caller {
  done(): void;
  failed(error: unknown): void;
}

export class Scheduler implements RunHost {
  readonly checked: boolean;
  /** Called after every turn of every step that this one drives; undefined: nobody looks. */
  watch: (() => void) | undefined = undefined;
  private readonly onReport: (error: unknown, step: Step) => void;
  /** Runs that wait, oldest first. */
  private readonly parked = new Set<Run>();
  /** Who is told of their end; nobody, for one that a synchronous verb has left parked. */
  private readonly callers = new Map<Run, Caller>();
  private readonly ready: Run[] = [];
  // A run for the next step, so that the common one, which never parks, allocates nothing.
  /** Asked when an operation waits and nothing else can go on; true: it has done something about it. */
  idle: (() => boolean) | undefined = undefined;
  private spare: Run | undefined = undefined;
  private stepping: Run | undefined = undefined;
  private depth = 0;
  /** Whom the machine is calling though no step is being run: a driver that is attached, a listener. Empty: nobody. */
  private callee = '';
  private lastId = 0;
  private closed = false;

  constructor(options: SchedulerOptions) {
    this.checked = options.checked ?? true;
    this.onReport = options.report;
  }

  /**
   * Drives `step` until it is DONE. When it must wait for something that only the outside can end, it stays parked, goes on by itself
   * later, and EBUSY is thrown, naming what it waits for: its object is then in use until it ends. Throws what the step throws.
   * Requires: not called from inside a step (a driver's callback never calls back into the machine it serves).
   */
  runSync(step: Step): void {
    this.requireOpen(step);
    this.requireOutside('step', step.name);
    const run = this.take(step);
    this.depth++;
    try {
      if (this.drive(run)) this.spare = run;
      else this.wait(run, step);
    } finally {
      this.leave();
    }
  }

  /** Drives `step` as far as it goes; the promise settles when it has ended. From inside a step it only gets its turn. */
  runAsync(step: Step): Promise<void> {
    return new Promise((resolve, reject) => {
      this.requireOpen(step);
      const run = this.take(step);
      this.park(run, { done: resolve, failed: reject });
      this.ready.push(run);
      this.settle();
    });
  }

  /**
   * Begins a step that has no caller; errors of it are reported. Also from inside another step, between two of its acts. Requires: its first turn only waits, or does nothing that whoever calls is in the middle of.
   */
  spawn(step: Step): void {
    this.requireOpen(step);
    const run = new Run(this);
    run.start(step, ++this.lastId);
    const { stepping } = this;
    this.depth++;
    try {
      if (!this.drive(run)) this.parked.add(run);
    } catch (error) {
      this.report(error, step);
    } finally {
      this.stepping = stepping;
      if (stepping === undefined) this.leave();
      else this.depth--;
    }
  }

  /** Throws EINVAL inside a step, or a call out of the machine: whoever is called there looks on, and changes nothing. */
  requireOutside(argument: string, verb: string): void {
    if (this.stepping !== undefined) throw fail('EINVAL', argument, verb, `is run from inside ${this.stepping.label}`);
    if (this.callee !== '') throw fail('EINVAL', argument, verb, `is run from inside ${this.callee}`);
  }

  /** A call out of the machine, perhaps outside of every step, begins: no verb can be run until `endCall`, which gets what this returns. */
  beginCall(callee: string): string {
    const outer = this.callee;
    this.callee = callee;
    this.depth++;
    return outer;
  }

  /** Ends a call out; what was asked for in it gets its turn. */
  endCall(outer: string): void {
    this.callee = outer;
    this.leave();
  }

  /** Whether nothing of this machine is being run right now: no step, no call of a driver. */
  get isQuiet(): boolean {
    return this.stepping === undefined && this.depth === 0;
  }

  /** Opens a bracket: runs that are woken in it go on at the matching `leave()`. */
  enter(): void {
    this.depth++;
  }

  /** Closes a bracket; the outermost drives every run whose wait is over. */
  leave(): void {
    if (this.depth <= 0) throw fail('EINVAL', 'depth', this.depth, 'has no enter() to match this leave()');
    try {
      if (this.depth === 1) while (this.ready.length > 0) this.resumeFirst();
    } finally {
      this.depth--;
    }
  }

  /** Drives every run whose wait is over, unless a call into the scheduler is under way, which will do it when it ends. */
  drain(): void {
    this.enter();
    this.leave();
  }

  /** The unfinished runs, oldest first. */
  get pending(): PendingRun[] {
    return [...this.parked].map((run) => ({
      id: run.id,
      steps: run.steps.map((step) => step.name),
      waitsFor: run.waiting?.label ?? '',
      holds: run.held.toArray().map((lock) => lock.label),
    }));
  }

  /** Aborts every unfinished run (EBADF) and takes no more. */
  close(): void {
    this.requireOutside('verb', 'close');
    this.closed = true;
    // A bracket that drives nobody: what an aborted run lets go of must not bring another one to life that is aborted next.
    this.depth++;
    for (const run of [...this.parked]) {
      const error = fail('EBADF', 'step', run.step.name, 'is aborted: the scheduler was closed');
      run.unwind(error);
      this.unpark(run)?.failed(error);
    }
    this.ready.length = 0;
    this.parked.clear();
    this.depth--;
  }

  /** Whoever looks wants to see every turn; else a run goes on until it waits. */
  get interleaves(): boolean {
    return this.watch !== undefined;
  }

  woken(run: Run): void {
    this.ready.push(run);
  }

  settle(): void {
    this.drain();
  }

  report(error: unknown, step: Step): void {
    this.onReport(error, step);
  }

  private requireOpen(step: Step): void {
    if (this.closed) throw fail('EBADF', 'step', step.name, 'cannot run: the scheduler was closed');
  }

  private park(run: Run, caller: Caller): void {
    this.parked.add(run);
    this.callers.set(run, caller);
  }

  private unpark(run: Run): Caller | undefined {
    const caller = this.callers.get(run);
    this.callers.delete(run);
    this.parked.delete(run);
    return caller;
  }

  private take(step: Step): Run {
    const run = this.spare ?? new Run(this);
    this.spare = undefined;
    run.start(step, ++this.lastId);
    return run;
  }

  // True: ended. False: parked. A step's error passes through; the run has been unwound then.
  private drive(run: Run): boolean {
    this.stepping = run;
    try {
      if (this.watch === undefined) return run.drive() === DONE;
      let progress = run.advance();
      for (this.watch(); progress === AGAIN; this.watch()) progress = run.advance();
      return progress === DONE;
    } finally {
      this.stepping = undefined;
    }
  }

  // Runs that are ready may end what this one waits for. When none is left, only the outside can.
  private wait(run: Run, step: Step): void {
    let ended = false;
    let failure: { readonly error: unknown } | undefined;
    this.park(run, {
      done: () => (ended = true),
      failed: (error) => (failure = { error }),
    });
    while (!ended && !failure && (this.ready.length > 0 || this.idle?.())) if (this.ready.length > 0) this.resumeFirst();
    if (failure) throw failure.error;
    if (ended) return;
    this.callers.delete(run);
    throw fail('EBUSY', 'step', step.name, `waits for ${run.waiting?.label ?? 'its turn'}; it goes on by itself when that ends`);
  }

  private resumeFirst(): void {
    const run = this.ready.shift() as Run;
    const outermost = run.steps[0] as Step;
    try {
      if (!this.drive(run)) return;
    } catch (error) {
      const caller = this.unpark(run);
      if (caller) caller.failed(error);
      else this.report(error, outermost);
      return;
    }
    this.unpark(run)?.done();
  }
}
