/**
 * Streams: operations of a context that run one after the other, in the order in which they were put in, while the program goes on.
 *
 * ```
 *   one     prefetch | record e | submit
 *   two              memcpy | wait e | submit           what follows `wait` begins when all that was before `record` has ended
 * ```
 *
 * An operation that fails rejects its promise and does not stop those behind it. Operations under way are saved with the machine, those that have not begun too. Models: the `stream` of
 * libgmem, CUDA streams and events.
 */
import { fail } from '../errors.ts';
import type { AddressRange } from '../mm/arguments.ts';
import type { HintResult } from '../mm/hint.ts';
import type { MemcpyOptions, MemcpyResult } from '../mm/hmemcpy.ts';
import type { Platform } from '../mm/platform.ts';
import { DONE, type Progress, type Run, type Step, type Waitable, WaitQueue } from '../step/step.ts';
import type { Context } from './context.ts';
import type { Job, JobReport } from './job.ts';

/** One operation of a stream; without `work` it only waits. */
export class StreamTask implements Step, Waitable {
  readonly name = 'stream';
  readonly label: string;
  private before: StreamTask | undefined;
  private also: StreamTask | undefined;
  private work: Step | undefined;
  private ended = false;
  private readonly waiters: WaitQueue = new WaitQueue();

  constructor(label: string, before: StreamTask | undefined, work: Step | undefined, also?: StreamTask) {
    this.label = label;
    this.before = before;
    this.also = also;
    this.work = work;
  }

  /** Whether it has ended, well or not. */
  get isEnded(): boolean {
    return this.ended;
  }

  next(run: Run): Progress {
    if (this.before && !this.before.ended) return run.waitFor(this.before);
    // Let go, or the last operation would keep all that were before it.
    this.before = undefined;
    if (this.also && !this.also.ended) return run.waitFor(this.also);
    this.also = undefined;
    const { work } = this;
    this.work = undefined;
    if (work) return run.call(work);
    this.end();
    return DONE;
  }

  abort(): void {
    this.before = undefined;
    this.also = undefined;
    this.end();
  }

  enqueue(run: Run): boolean {
    if (this.ended) return false;
    this.waiters.add(run);
    return true;
  }

  leave(run: Run): void {
    this.waiters.leave(run);
  }

  private end(): void {
    this.ended = true;
    this.waiters.wakeAll();
  }
}

/** A point in a stream. Made by `stream.record()`; any stream of the machine may wait for it. */
export class StreamEvent {
  private task: StreamTask | undefined;
  private readonly platform: Platform;

  constructor(platform: Platform, task: StreamTask | undefined) {
    this.platform = platform;
    this.task = task?.isEnded ? undefined : task;
  }

  /** Whether all that was before it has ended. */
  get isDone(): boolean {
    return this.task === undefined || this.task.isEnded;
  }

  /** @internal What it stands behind; undefined: nothing that is unfinished. */
  taskIn(platform: Platform): StreamTask | undefined {
    if (platform !== this.platform) throw fail('EINVAL', 'wait.event', 'an event', 'is of another machine');
    if (this.isDone) this.task = undefined;
    return this.task;
  }
}

/** Operations of one context in order. Made by `context.stream()`. */
export class Stream {
  readonly context: Context;
  private readonly platform: Platform;
  private last: StreamTask | undefined;
  private count = 0;

  constructor(platform: Platform, context: Context) {
    this.platform = platform;
    this.context = context;
  }

  /** Whether everything that was put in has ended. */
  get isIdle(): boolean {
    return this.last === undefined || this.last.isEnded;
  }

  /** `space.hmadvise(range, 'prefetch')` to the context's device, or home. Models: `gmemPrefetch`, `cudaMemPrefetchAsync`. */
  async prefetchAsync(range: AddressRange, to: 'device' | 'host' = 'device'): Promise<HintResult> {
    if (to !== 'device' && to !== 'host') throw fail('EINVAL', 'prefetchAsync.to', to, "is not one of: 'device', 'host'");
    const step = this.context.space.hintStep(range, 'prefetch', { device: to === 'host' ? 'host' : this.context.device });
    await this.put('prefetch', step);
    return step.result;
  }

  /** `space.hmemcpy`. Models: `hmemcpy` on a stream. */
  async memcpyAsync(dest: number, src: number, bytes: number, options: MemcpyOptions = {}): Promise<MemcpyResult> {
    const step = this.context.space.memcpyStep(dest, src, bytes, options);
    await this.put('memcpy', step);
    return step.result;
  }

  /** `space.hmadvise(range, 'dontneed')`. Models: `gmemFreeEager`. */
  async dontneedAsync(range: AddressRange): Promise<HintResult> {
    const step = this.context.space.hintStep(range, 'dontneed');
    await this.put('dontneed', step);
    return step.result;
  }

  /** `context.submit`. Models: a kernel launch. */
  async submitAsync(job: Job): Promise<JobReport> {
    const step = this.context.jobStep(job);
    await this.put('job', step);
    return step.report();
  }

  /** A point behind all that has been put in so far. Models: `cudaEventRecord`. */
  record(): StreamEvent {
    this.requireOpen('record');
    return new StreamEvent(this.platform, this.last);
  }

  /** What is put in from now on begins when all that was before the event has ended. Errors: EINVAL for an event of another machine. Models: `cudaStreamWaitEvent`. */
  wait(event: StreamEvent): void {
    this.requireOpen('wait');
    if (!(event instanceof StreamEvent)) throw fail('EINVAL', 'wait.event', event, 'is not an event (see stream.record)');
    const task = event.taskIn(this.platform);
    // Nobody hears of its end: that it is broken off with the machine is no error of anybody.
    if (task) this.platform.scheduler.spawn(this.task('wait', undefined, task));
  }

  /** Waits until everything that was put in so far has ended, well or not. Models: `cudaStreamSynchronize`. */
  async synchronizeAsync(): Promise<void> {
    this.requireOpen('synchronizeAsync');
    if (!this.isIdle) await this.platform.scheduler.runAsync(new StreamTask(this.label('synchronize'), this.last, undefined));
  }

  private requireOpen(verb: string): void {
    this.platform.requireIdle(verb);
    this.context.requireWorking(verb);
  }

  private label(what: string): string {
    return `${this.context.name} stream, ${what} ${++this.count}`;
  }

  private put(what: string, work: Step): Promise<void> {
    this.requireOpen(what);
    return this.platform.scheduler.runAsync(this.task(what, work));
  }

  /** The next one in the order. */
  private task(what: string, work: Step | undefined, also?: StreamTask): StreamTask {
    return (this.last = new StreamTask(this.label(what), this.isIdle ? undefined : this.last, work, also));
  }
}
