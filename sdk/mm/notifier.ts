/**
 * Interval notifiers: "tell me before this range changes". A driver subscribes to a range of an address space; whoever is about to change
 * page-table entries says so first (`invalidateStart`) and afterwards (`invalidateEnd`). In between the driver's device may not use what it
 * knew of the range. A sequence proves that a snapshot taken outside the driver's lock is still true when it is installed under it.
 *
 *   sequence of the space    2   even: idle                      3   odd: a subscribed range is being invalidated
 *   changing side            invalidateStart          S |= 1, every overlapping callback stores S, drops its device mappings
 *                            (change the entries)
 *                            invalidateEnd            the last one out: S += 1, deferred subscribers come and go, waiters wake
 *   driver's side            s = readBegin()          'wait' while S equals what the callback stored
 *                            (look at the table)
 *                            take the driver lock
 *                            readRetry(s)             true: throw the snapshot away and begin again
 *                            (install), release the driver lock
 *
 * Ranges are in pages. Models: mmu_interval_notifier (mm/mmu_notifier.c).
 */
import { VPN_BITS } from '../../assembly/layout.ts';
import { fail } from '../errors.ts';
import type { InvalidationCause } from '../events/cause.ts';
import { DONE, type Progress, type Run, type Step, type Waitable, WaitQueue } from '../step/step.ts';
import { isTicket, type Ticket } from '../step/ticket.ts';
import { IntervalTree } from './interval-tree.ts';
import { shorten } from './shorten.ts';

/** One past the last page number. */
const VPN_LIMIT = 2 ** VPN_BITS;

/**
 * Why a range changes.
 * UNMAP: it goes away (munmap, mremap). CLEAR: entries are cleared, for many reasons. PROTECTION_VMA: mprotect. PROTECTION_PAGE: single
 * entries lose rights (fork). SOFT_DIRTY: write tracking. RELEASE: the address space ends. MIGRATE, EXCLUSIVE: pages move to the device, or
 * are reserved for the device, that is named by `owner`.
 */
export type InvalidateReason =
  'UNMAP' | 'CLEAR' | 'PROTECTION_VMA' | 'PROTECTION_PAGE' | 'SOFT_DIRTY' | 'RELEASE' | 'MIGRATE' | 'EXCLUSIVE';

/** What a callback is told. Borrowed: the object is used again after the callback. */
export interface InvalidateEvent {
  /** First page; not limited to the subscription's range. */
  readonly start: number;
  /** One past the last page. */
  readonly end: number;
  readonly reason: InvalidateReason;
  /** What is going on, for people and tools. */
  readonly cause: InvalidationCause;
  /** Who causes a MIGRATE or EXCLUSIVE event: a driver ignores its own, without storing the sequence. */
  readonly owner: unknown;
  /** False: a callback that would have to sleep returns false instead. */
  readonly blockable: boolean;
  /** Only the right to write goes: what was read may go on being read where it is. */
  readonly writeOnly: boolean;
  /** To be stored with `notifier.setSequence`, under the driver's lock. */
  readonly sequence: number;
}

/**
 * Does the whole job in one call: under the driver's lock, store the sequence, drop the device mappings of the overlap. Returns true when
 * the device can no longer use them, a ticket when its flush is unfinished, false when not blockable and it would have to sleep.
 * Must not call back into the machine.
 */
export interface OnePassOps {
  invalidate(event: InvalidateEvent, notifier: IntervalNotifier): boolean | Ticket;
}

/** Two passes, so that several devices flush at the same time: all starts come first, then all finishes, in the same order. */
export interface TwoPassOps {
  /** Stores the sequence, drops the mappings and starts the flush. Returns a token for the finish, or true: nothing is left to finish. */
  invalidateStart(event: InvalidateEvent, notifier: IntervalNotifier): boolean | object;
  /** Waits for what the start began, or returns a ticket for it. */
  invalidateFinish(token: object, event: InvalidateEvent, notifier: IntervalNotifier): void | Ticket;
}

/** What a subscription is called with: in one pass, or in two. */
export type NotifierOps = OnePassOps | TwoPassOps;

/** A callback that threw. Taking away goes on all the same; the caller marks its context failed. */
export interface CallbackFailure {
  readonly notifier: IntervalNotifier;
  readonly error: unknown;
}

/** One invalidation, from start to end. Its owner, a step, reuses it. */
export class Invalidation implements InvalidateEvent {
  start = 0;
  end = 0;
  reason: InvalidateReason = 'CLEAR';
  cause: InvalidationCause = 'unknown';
  owner: unknown = undefined;
  blockable = true;
  writeOnly = false;
  sequence = 0;
  /** Flushes that the callbacks left unfinished. Wait for all of them before freeing anything. */
  readonly tickets: Ticket[] = [];
  /** Callbacks that threw. */
  readonly failures: CallbackFailure[] = [];
  /** The set in which this invalidation is running. */
  running: NotifierSet | undefined = undefined;

  /** Says what will change. Blockable, unless the field is set to false afterwards. */
  set(start: number, end: number, reason: InvalidateReason, owner?: unknown, cause: InvalidationCause = 'unknown'): this {
    if (this.running !== undefined) throw fail('EINVAL', 'invalidation', this.reason, 'is running');
    this.start = start;
    this.end = end;
    this.reason = reason;
    this.owner = owner;
    this.cause = cause;
    this.blockable = true;
    this.writeOnly = false;
    return this;
  }

  /** Says that only the right to write goes. */
  ofWrites(): this {
    this.writeOnly = true;
    return this;
  }

  /** A ticket that is still pending: a step does `if (event.unfinished) return run.waitFor(event.unfinished)`. */
  get unfinished(): Ticket | undefined {
    const { tickets } = this;
    for (let i = 0; i < tickets.length; i++) if (tickets[i]!.state === 'pending') return tickets[i];
    return undefined;
  }

  /** Ends it, where it is running; one that never began is left alone. */
  close(): void {
    this.running?.invalidateEnd(this);
  }
}

/** The wait for the end of the invalidations of a set. */
export class Idleness implements Waitable {
  readonly label: string;
  readonly waiters: WaitQueue = new WaitQueue();
  private readonly set: NotifierSet;

  constructor(set: NotifierSet, label: string) {
    this.set = set;
    this.label = `the end of the invalidations of ${label}`;
  }

  enqueue(run: Run): boolean {
    if (!this.set.isInvalidating) return false;
    this.waiters.add(run);
    return true;
  }

  leave(run: Run): void {
    this.waiters.leave(run);
  }
}

/** Wants every entry that the CPU gets. Must not call back into the machine. */
export interface EntryFollower {
  /** The CPU has got entries of these pages, or more rights to them. For one page: or to the huge page around it. */
  installed(vpn: number, pages: number): void;
  /** The last of the changes under way has been made. */
  settled(): void;
}

/** The subscriptions of one address space. */
export class NotifierSet {
  private readonly ending: Idleness;
  private readonly label: string;
  private readonly warn: (message: string, notifier: IntervalNotifier) => void;
  private readonly tree = new IntervalTree<IntervalNotifier>();
  /** Subscriptions to put in and take out at the last end: the tree does not change while a walk may be under way. */
  private readonly deferred: IntervalNotifier[] = [];
  private current = 2;
  private running = 0;
  private dead = false;
  private notifying = false;
  private lastId = 0;
  /** Those who want what the CPU gets: devices in replicate mode. */
  readonly followers: EntryFollower[] = [];
  // Reused by every walk.
  private readonly hit: IntervalNotifier[] = [];
  private readonly finishing: IntervalNotifier[] = [];
  private readonly tokens: object[] = [];

  /** `warn` hears of driver bugs that are ignored. */
  constructor({ label, warn }: { label: string; warn: (message: string, notifier: IntervalNotifier) => void }) {
    this.label = label;
    this.warn = warn;
    this.ending = new Idleness(this, label);
  }

  /** For a step that was told 'wait': the end of the last running invalidation. */
  get idle(): Waitable {
    return this.ending;
  }

  /** Even: idle. Odd: some subscribed range is being invalidated. Starts at 2. */
  get sequence(): number {
    return this.current;
  }

  /** How many invalidations have started and not ended. */
  get active(): number {
    return this.running;
  }

  get isInvalidating(): boolean {
    return this.current % 2 === 1;
  }

  /** Subscriptions that callbacks reach now; one that is being removed still counts. */
  get size(): number {
    return this.tree.size;
  }

  /**
   * Subscribes to the pages `[start, end)`. While a subscribed range is being invalidated the subscription takes effect at the last end;
   * until then it waits as if its own range were hit, since nobody can tell whether it is.
   * Throws EOVERFLOW for an empty range or one that leaves the address space, EINVAL when the space has been released.
   * Models: mmu_interval_notifier_insert.
   */
  insert(range: { readonly start: number; readonly end: number }, ops: NotifierOps): IntervalNotifier {
    if (typeof range !== 'object' || range === null) throw fail('EINVAL', 'range', range, 'is not a range { start, end }');
    const { start, end } = range;
    if (this.dead) throw fail('EINVAL', this.label, 'dead', 'has been released');
    if (!Number.isSafeInteger(start) || start < 0) throw fail('EINVAL', 'range.start', start, 'is not a page number');
    if (!Number.isSafeInteger(end)) throw fail('EINVAL', 'range.end', end, 'is not a page number');
    if (end <= start) throw fail('EOVERFLOW', 'range.end', end, 'leaves no page in the range');
    if (end > VPN_LIMIT) throw fail('EOVERFLOW', 'range.end', end, `is past the last page, 0x${VPN_LIMIT.toString(16)}`);
    requireOps(ops);

    const notifier = new IntervalNotifier(this, ++this.lastId, start, end, ops);
    if (this.running === 0) {
      notifier.sequence = this.current - 1;
      this.join(notifier);
    } else if (this.isInvalidating) {
      notifier.sequence = this.current;
      this.deferred.push(notifier);
    } else {
      this.current++;
      notifier.sequence = this.current;
      this.join(notifier);
    }
    return notifier;
  }

  /**
   * Ends a subscription. 'removed': no callback will come. 'wait': callbacks may still come until the running invalidations have ended;
   * wait for `idle` (the step `RemoveNotifier` does). Not from a callback, nor holding a lock that the callback takes.
   * Models: mmu_interval_notifier_remove.
   */
  remove(notifier: IntervalNotifier): 'removed' | 'wait' {
    this.requireOutside('remove');
    this.requireOwn(notifier);
    if (!this.isInvalidating) {
      this.part(notifier);
      return 'removed';
    }
    if (notifier.state === 'joining') {
      this.deferred.splice(this.deferred.indexOf(notifier), 1);
      notifier.state = 'removed';
      return 'removed';
    }
    notifier.state = 'leaving';
    this.deferred.push(notifier);
    return 'wait';
  }

  /**
   * Announces that the pages of `event` are about to change, and calls every subscription that overlaps them. True: go on, first waiting
   * for the `event.tickets`, and call `invalidateEnd` afterwards. False (EAGAIN): a callback of a non-blockable event would have had to
   * sleep; the invalidation is over, entries must not be changed, and subscriptions that were called before stay invalidated.
   * Models: mmu_notifier_invalidate_range_start, mn_itree_invalidate.
   */
  invalidateStart(event: Invalidation): boolean {
    requireInvalidation(event);
    this.begin(event);
    if (this.tree.overlapping(event.start, event.end, this.hit) > 0 && !this.isInvalidating) this.current++;
    return this.notify(event);
  }

  /**
   * The change announced by `event` is complete. The last one out makes the sequence even, lets deferred subscriptions come and go, and
   * wakes everybody who waits. Models: mmu_notifier_invalidate_range_end.
   */
  invalidateEnd(event: Invalidation): void {
    this.requireOutside('invalidateEnd');
    requireInvalidation(event);
    this.leave(event);
    this.endLeft(1);
  }

  /** @internal The change announced by `event` goes on without it, so that the object can announce another one: `endLeft` ends them. */
  leave(event: Invalidation): void {
    if (event.running !== this) throw fail('EINVAL', 'invalidation', event.reason, `is not running in ${this.label}`);
    event.running = undefined;
  }

  /** @internal `count` changes whose objects have left are complete. */
  endLeft(count: number): void {
    this.requireOutside('invalidateEnd');
    this.running -= count;
    if (this.running > 0 || !this.isInvalidating) return;
    this.current++;
    for (const notifier of this.deferred) {
      if (notifier.state === 'joining') this.join(notifier);
      else this.part(notifier);
    }
    this.deferred.length = 0;
    if (this.followers.length > 0) for (const each of this.followers) each.settled();
    this.ending.waiters.wakeAll();
  }

  /** @internal Whether this is the only subscription to page `vpn`, nothing is being invalidated, and nobody follows the table: a change that it ignores concerns nobody else. */
  isOnly(notifier: IntervalNotifier, vpn: number): boolean {
    if (this.running > 0 || this.followers.length > 0 || notifier.state !== 'subscribed' || notifier.set !== this) return false;
    if (this.tree.size === 1) return notifier.covers(vpn, vpn + 1);
    const { hit } = this;
    const isOnly = this.tree.overlapping(vpn, vpn + 1, hit) === 1 && hit[0] === notifier;
    shorten(hit, 0);
    return isOnly;
  }

  /**
   * @internal Start and end of an invalidation of one page that its only subscription ignores but for the sequence, and between which nothing else comes: readers that have begun retry. Requires: `isOnly(notifier,
   * vpn)`.
   */
  pulse(notifier: IntervalNotifier): void {
    this.current += 2;
    notifier.sequence = this.current - 1;
  }

  /**
   * The address space ends: every subscription gets one blockable callback with reason RELEASE for all pages, and no new one is taken.
   * Wait for the tickets of `event` and call `invalidateEnd`. Subscriptions stay until they are removed.
   * Models: mmu_notifier_release.
   */
  release(event: Invalidation): void {
    requireInvalidation(event);
    if (this.dead) throw fail('EINVAL', this.label, 'dead', 'has been released');
    event.set(0, VPN_LIMIT, 'RELEASE', undefined, 'exit');
    this.begin(event);
    this.dead = true;
    this.tree.overlapping(0, VPN_LIMIT, this.hit);
    for (const notifier of this.deferred) if (notifier.state === 'joining') this.hit.push(notifier);
    if (this.hit.length > 0 && !this.isInvalidating) this.current++;
    this.notify(event);
  }

  private begin(event: Invalidation): void {
    this.requireOutside('invalidateStart');
    if (event.running !== undefined) throw fail('EINVAL', 'invalidation', event.reason, 'is running');
    if (!(event.start >= 0 && event.start < event.end && event.end <= VPN_LIMIT)) {
      throw fail('EINVAL', 'invalidation', `[${event.start}, ${event.end})`, 'is not a range of pages');
    }
    shorten(event.tickets, 0);
    shorten(event.failures, 0);
    event.running = this;
    this.running++;
  }

  // Calls those in `hit`. The tree is frozen meanwhile: the sequence is odd if there are any.
  private notify(event: Invalidation): boolean {
    const { hit, finishing, tokens } = this;
    event.sequence = this.current;
    let refused = false;
    this.notifying = true;
    for (let i = 0; i < hit.length && !refused; i++) refused = !this.callStart(event, hit[i] as IntervalNotifier);
    for (let i = 0; i < finishing.length; i++) this.callFinish(event, finishing[i] as IntervalNotifier, tokens[i] as object);
    this.notifying = false;
    shorten(hit, 0);
    shorten(finishing, 0);
    shorten(tokens, 0);
    if (refused) this.invalidateEnd(event);
    return !refused;
  }

  // False: the callback would have had to sleep, and may not.
  private callStart(event: Invalidation, notifier: IntervalNotifier): boolean {
    const { ops } = notifier;
    try {
      if (notifier.isOnePass) {
        const answer = (ops as OnePassOps).invalidate(event, notifier);
        if (isTicket(answer)) event.tickets.push(answer);
        return answer !== false || this.ignoreRefusal(event, notifier);
      }
      const answer = (ops as TwoPassOps).invalidateStart(event, notifier);
      if (typeof answer === 'object' && answer !== null) {
        this.finishing.push(notifier);
        this.tokens.push(answer);
      }
      return answer !== false || this.ignoreRefusal(event, notifier);
    } catch (error) {
      event.failures.push({ notifier, error });
      return true;
    }
  }

  private callFinish(event: Invalidation, notifier: IntervalNotifier, token: object): void {
    try {
      const answer = (notifier.ops as TwoPassOps).invalidateFinish(token, event, notifier);
      if (isTicket(answer)) event.tickets.push(answer);
    } catch (error) {
      event.failures.push({ notifier, error });
    }
  }

  private ignoreRefusal(event: Invalidation, notifier: IntervalNotifier): boolean {
    if (!event.blockable) return false;
    this.warn(`a callback for ${event.reason} refuses though it may sleep; ignored`, notifier);
    return true;
  }

  private join(notifier: IntervalNotifier): void {
    this.tree.insert(notifier);
    notifier.state = 'subscribed';
  }

  private part(notifier: IntervalNotifier): void {
    this.tree.remove(notifier);
    notifier.state = 'removed';
  }

  private requireOutside(verb: string): void {
    if (this.notifying) throw fail('EINVAL', 'notifier', verb, 'is called from inside a callback');
  }

  private requireOwn(notifier: IntervalNotifier): void {
    if (!(notifier instanceof IntervalNotifier)) throw fail('EINVAL', 'notifier', notifier, 'is not a notifier (see space.subscribe)');
    if (notifier.set !== this) throw fail('EINVAL', 'notifier', notifier.id, `is not one of ${this.label}`);
    if (notifier.state === 'leaving' || notifier.state === 'removed') throw fail('EINVAL', 'notifier', notifier.id, 'has been removed');
  }
}

/** One subscription. Made by `NotifierSet.insert`. */
export class IntervalNotifier {
  readonly set: NotifierSet;
  readonly id: number;
  /** First page. */
  readonly start: number;
  /** One past the last page. */
  readonly end: number;
  readonly ops: NotifierOps;
  /** Which of the two `ops` are. */
  readonly isOnePass: boolean;
  /** The sequence that the last callback stored; what `readBegin` returns. */
  sequence = 0;
  /** 'joining' and 'leaving': deferred until the running invalidations have ended. The set writes it. */
  state: 'joining' | 'subscribed' | 'leaving' | 'removed' = 'joining';

  constructor(set: NotifierSet, id: number, start: number, end: number, ops: NotifierOps) {
    this.set = set;
    this.id = id;
    this.start = start;
    this.end = end;
    this.ops = ops;
    this.isOnePass = 'invalidate' in ops;
  }

  /** Whether all of `[start, end)` is subscribed. */
  covers(start: number, end: number): boolean {
    return this.start <= start && end <= this.end;
  }

  /**
   * Begins a look at the table: the sequence to give to `readRetry`, or 'wait' while an invalidation that has hit this subscription is
   * running; then wait for `set.idle` and begin again (the step `ReadBegin` does). A retry may be certain already. Inside the retry loop,
   * always: a sequence kept from before the loop never becomes true again. Models: mmu_interval_read_begin.
   */
  readBegin(): number | 'wait' {
    if (this.state === 'removed') throw fail('EINVAL', 'notifier', this.id, 'has been removed');
    return this.sequence === this.set.sequence ? 'wait' : this.sequence;
  }

  /** Under the driver's lock: whether the range was invalidated since `sequence` was begun. Models: mmu_interval_read_retry. */
  readRetry(sequence: number): boolean {
    return this.sequence !== sequence;
  }

  /** Without a lock, to give up early: true means that a retry is certain, false proves nothing. Models: mmu_interval_check_retry. */
  checkRetry(sequence: number): boolean {
    return this.sequence !== sequence;
  }

  /**
   * In a callback, under the driver's lock: stores `event.sequence`, so that readers retry. Who does not store it ignores the event.
   * Models: mmu_interval_set_seq.
   */
  setSequence(sequence: number): void {
    if (sequence !== this.set.sequence || !this.set.isInvalidating) {
      throw fail('EINVAL', 'sequence', sequence, `is not that of a running invalidation (${this.set.sequence})`);
    }
    this.sequence = sequence;
  }
}

/** `readBegin` as a step, which waits: the sequence is in `sequence` when it is DONE. It waits at most once. */
export class ReadBegin implements Step {
  readonly name = 'read begin';
  sequence = 0;
  private notifier: IntervalNotifier;
  private hasWaited = false;

  constructor(notifier: IntervalNotifier) {
    this.notifier = notifier;
  }

  /** Makes this step ready to be run, again. */
  reset(notifier: IntervalNotifier): this {
    this.notifier = notifier;
    this.hasWaited = false;
    return this;
  }

  next(run: Run): Progress {
    if (this.hasWaited) return DONE;
    const { notifier } = this;
    const begun = notifier.readBegin();
    this.sequence = notifier.sequence;
    if (begun !== 'wait') return DONE;
    this.hasWaited = true;
    return run.waitFor(notifier.set.idle);
  }
}

/** `remove` as a step, which waits: no callback comes once it is DONE. */
export class RemoveNotifier implements Step {
  readonly name = 'remove notifier';
  private readonly notifier: IntervalNotifier;

  constructor(notifier: IntervalNotifier) {
    this.notifier = notifier;
  }

  next(run: Run): Progress {
    const { notifier } = this;
    if (notifier.state === 'removed') return DONE;
    return notifier.set.remove(notifier) === 'removed' ? DONE : run.waitFor(notifier.set.idle);
  }
}

function requireInvalidation(event: Invalidation): void {
  if (!(event instanceof Invalidation)) throw fail('EINVAL', 'invalidation', event, 'is not an Invalidation');
}

function requireOps(ops: NotifierOps): void {
  if (typeof ops !== 'object' || ops === null)
    throw fail('EINVAL', 'ops', ops, 'is not an object with invalidate, or invalidateStart and invalidateFinish');
  const given = ops as Partial<OnePassOps & TwoPassOps>;
  if (typeof given.invalidate === 'function') return;
  if (typeof given.invalidateStart !== 'function') throw fail('EINVAL', 'ops.invalidate', given.invalidate, 'is not a function');
  if (typeof given.invalidateFinish !== 'function') {
    throw fail('EINVAL', 'ops.invalidateFinish', given.invalidateFinish, 'is not a function, as ops.invalidateStart requires');
  }
}
