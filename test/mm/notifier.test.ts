import { describe, expect, it } from 'vitest';
import { FarfaultError } from '../../sdk/errors.ts';
import {
  Invalidation,
  type InvalidateReason,
  type IntervalNotifier,
  type NotifierOps,
  NotifierSet,
  ReadBegin,
  RemoveNotifier,
} from '../../sdk/mm/notifier.ts';
import { Lock } from '../../sdk/step/lock.ts';
import { Scheduler } from '../../sdk/step/runner.ts';
import { AGAIN, DONE, type Progress, type Run, type Step } from '../../sdk/step/step.ts';
import { TicketBook } from '../../sdk/step/ticket.ts';
import { exploreAll, type Race } from '../../sdk/testing/simulator.ts';

const LIMIT = 2 ** 36;

/** A space whose callbacks write what they are told into `log`, and store the sequence. */
function space(): {
  set: NotifierSet;
  log: string[];
  warnings: string[];
  subscribe(name: string, start: number, end: number, ops?: Partial<Answers>): IntervalNotifier;
} {
  const log: string[] = [];
  const warnings: string[] = [];
  const set = new NotifierSet({ label: 'space 1', warn: (message) => void warnings.push(message) });
  const subscribe = (name: string, start: number, end: number, { stores = true, answer = () => true }: Partial<Answers> = {}) =>
    set.insert(
      { start, end },
      {
        invalidate: (event, notifier) => {
          log.push(`${name} ${event.reason} [${event.start}, ${event.end}) at ${event.sequence}`);
          if (stores) notifier.setSequence(event.sequence);
          return answer();
        },
      },
    );
  return { set, log, warnings, subscribe };
}

interface Answers {
  stores: boolean;
  answer: () => boolean;
}

function begin(set: NotifierSet, start: number, end: number, reason: InvalidateReason = 'CLEAR'): Invalidation {
  const event = new Invalidation().set(start, end, reason);
  expect(set.invalidateStart(event)).toBe(true);
  return event;
}

function invalidate(set: NotifierSet, start: number, end: number): void {
  set.invalidateEnd(begin(set, start, end));
}

function codeOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (error instanceof FarfaultError) return error.code;
    throw error;
  }
  return 'none';
}

describe('the sequence of a space', () => {
  it('starts at 2, is odd while a subscribed range is invalidated, and even again afterwards', () => {
    const { set, log, subscribe } = space();
    expect([set.sequence, set.active, set.isInvalidating]).toEqual([2, 0, false]);
    subscribe('a', 10, 20);
    const event = begin(set, 15, 30, 'UNMAP');
    expect([set.sequence, set.active, set.isInvalidating]).toEqual([3, 1, true]);
    expect(log).toEqual(['a UNMAP [15, 30) at 3']);
    set.invalidateEnd(event);
    expect([set.sequence, set.active, set.isInvalidating]).toEqual([4, 0, false]);
  });

  it('does not change when no subscription overlaps', () => {
    const { set, log, subscribe } = space();
    subscribe('a', 10, 20);
    const event = begin(set, 20, 30);
    expect([set.sequence, set.active]).toEqual([2, 1]);
    set.invalidateEnd(event);
    expect([set.sequence, set.active]).toEqual([2, 0]);
    invalidate(set, 0, 10);
    expect(set.sequence).toBe(2);
    expect(log).toEqual([]);
  });

  it('is handed to every overlapping subscription, one after the other in address order', () => {
    const { set, log, subscribe } = space();
    subscribe('c', 30, 40);
    subscribe('a', 10, 20);
    subscribe('b', 10, 35);
    subscribe('d', 40, 50);
    invalidate(set, 15, 40);
    expect(log).toEqual(['a CLEAR [15, 40) at 3', 'b CLEAR [15, 40) at 3', 'c CLEAR [15, 40) at 3']);
  });

  it('becomes even only when the last of nested invalidations ends', () => {
    const { set, subscribe } = space();
    subscribe('a', 10, 20);
    subscribe('b', 30, 40);
    const first = begin(set, 10, 20);
    const second = begin(set, 30, 40);
    expect([set.sequence, set.active]).toEqual([3, 2]);
    set.invalidateEnd(first);
    expect([set.sequence, set.active]).toEqual([3, 1]);
    const third = begin(set, 10, 20);
    set.invalidateEnd(second);
    expect(set.sequence).toBe(3);
    set.invalidateEnd(third);
    expect(set.sequence).toBe(4);
  });

  it('becomes odd when an overlapping invalidation starts during one that does not overlap', () => {
    const { set, subscribe } = space();
    subscribe('a', 10, 20);
    const quiet = begin(set, 50, 60);
    const loud = begin(set, 10, 11);
    expect(set.sequence).toBe(3);
    set.invalidateEnd(loud);
    expect(set.sequence).toBe(3);
    set.invalidateEnd(quiet);
    expect(set.sequence).toBe(4);
  });
});

describe('a reader', () => {
  it('of a range that was not hit reads without a retry', () => {
    const { set, subscribe } = space();
    const a = subscribe('a', 10, 20);
    const sequence = a.readBegin() as number;
    expect(sequence).toBe(1);
    invalidate(set, 30, 40);
    expect([a.checkRetry(sequence), a.readRetry(sequence)]).toEqual([false, false]);
  });

  it('retries after its range was hit, and not after a new begin', () => {
    const { set, subscribe } = space();
    const a = subscribe('a', 10, 20);
    const sequence = a.readBegin() as number;
    invalidate(set, 10, 11);
    expect([a.checkRetry(sequence), a.readRetry(sequence)]).toEqual([true, true]);
    const again = a.readBegin() as number;
    expect(again).toBe(3);
    expect(a.readRetry(again)).toBe(false);
  });

  it('that keeps a sequence from before the loop retries for ever', () => {
    const { set, subscribe } = space();
    const a = subscribe('a', 10, 20);
    const kept = a.readBegin() as number;
    for (let i = 0; i < 5; i++) {
      invalidate(set, 10, 11);
      expect(a.readRetry(kept)).toBe(true);
    }
  });

  it('waits while an invalidation that hit it is running', () => {
    const { set, subscribe } = space();
    const a = subscribe('a', 10, 20);
    const event = begin(set, 10, 11);
    expect(a.readBegin()).toBe('wait');
    set.invalidateEnd(event);
    expect(a.readBegin()).toBe(3);
  });

  it('does not wait when only others were hit', () => {
    const { set, subscribe } = space();
    const a = subscribe('a', 10, 20);
    subscribe('b', 30, 40);
    const event = begin(set, 30, 40);
    expect(a.readBegin()).toBe(1);
    set.invalidateEnd(event);
    expect(a.readRetry(1)).toBe(false);
  });

  it('that was hit waits until all invalidations of the space have ended, unrelated ones too', () => {
    const { set, subscribe } = space();
    const a = subscribe('a', 10, 20);
    const mine = begin(set, 10, 11);
    const unrelated = begin(set, 1000, 1001);
    set.invalidateEnd(mine);
    expect(a.readBegin()).toBe('wait');
    set.invalidateEnd(unrelated);
    expect(a.readBegin()).toBe(3);
  });

  it('hit in an earlier round does not wait in a later one that does not hit it', () => {
    const { set, subscribe } = space();
    const a = subscribe('a', 10, 20);
    subscribe('b', 30, 40);
    invalidate(set, 10, 20);
    const event = begin(set, 30, 40);
    expect(set.sequence).toBe(5);
    expect(a.readBegin()).toBe(3);
    set.invalidateEnd(event);
  });

  it('never retries when its callback does not store the sequence', () => {
    const { set, subscribe, log } = space();
    const a = subscribe('a', 10, 20, { stores: false });
    const sequence = a.readBegin() as number;
    const event = begin(set, 10, 20, 'MIGRATE');
    expect(a.readBegin()).toBe(sequence);
    set.invalidateEnd(event);
    expect(log.length).toBe(1);
    expect(a.readRetry(sequence)).toBe(false);
  });

  it('as a step waits for the end once, and returns the sequence of its begin, even if a retry is already certain', () => {
    const { set, subscribe } = space();
    const a = subscribe('a', 10, 20);
    const scheduler = new Scheduler({
      report: (error) => {
        throw error;
      },
    });
    const read = new ReadBegin(a);
    scheduler.runSync(read);
    expect(read.sequence).toBe(1);

    const event = begin(set, 10, 11);
    expect(() => scheduler.runSync(read.reset(a))).toThrow('waits for the end of the invalidations of space 1');
    scheduler.enter();
    set.invalidateEnd(event);
    const next = begin(set, 10, 11);
    scheduler.leave();
    expect(scheduler.pending).toEqual([]);
    expect(read.sequence).toBe(3);
    expect(a.readRetry(read.sequence)).toBe(true);
    set.invalidateEnd(next);
  });
});

describe('setSequence', () => {
  it('takes only the sequence of a running invalidation', () => {
    const { set, subscribe } = space();
    const a = subscribe('a', 10, 20);
    expect(codeOf(() => a.setSequence(2))).toBe('EINVAL');
    const event = begin(set, 10, 11);
    expect(codeOf(() => a.setSequence(1))).toBe('EINVAL');
    a.setSequence(3);
    set.invalidateEnd(event);
    expect(codeOf(() => a.setSequence(3))).toBe('EINVAL');
  });
});

describe('a new subscription', () => {
  it('made when idle differs from the sequence of the space, and does not wait', () => {
    const { set, subscribe } = space();
    const a = subscribe('a', 10, 20);
    expect([a.sequence, set.sequence, a.state]).toEqual([1, 2, 'subscribed']);
    invalidate(set, 10, 20);
    expect(subscribe('b', 10, 20).sequence).toBe(3);
  });

  it('made while only unsubscribed ranges are invalidated makes the sequence odd, and its first reader waits', () => {
    const { set, subscribe, log } = space();
    const event = begin(set, 500, 600);
    expect(set.sequence).toBe(2);
    const a = subscribe('a', 10, 20);
    expect([a.sequence, set.sequence, a.state]).toEqual([3, 3, 'subscribed']);
    expect(a.readBegin()).toBe('wait');
    invalidate(set, 10, 11);
    expect(log).toEqual(['a CLEAR [10, 11) at 3']);
    set.invalidateEnd(event);
    expect(set.sequence).toBe(4);
    expect(a.readBegin()).toBe(3);
  });

  it('made while the tree is frozen is deferred to the last end, and its first reader waits', () => {
    const { set, subscribe, log } = space();
    subscribe('a', 10, 20);
    const event = begin(set, 10, 20);
    const b = subscribe('b', 10, 20);
    expect([b.sequence, b.state, set.size]).toEqual([3, 'joining', 1]);
    expect(b.readBegin()).toBe('wait');
    const nested = begin(set, 10, 20);
    expect(log.filter((line) => line.startsWith('b'))).toEqual([]);
    set.invalidateEnd(event);
    expect(b.state).toBe('joining');
    set.invalidateEnd(nested);
    expect([b.state, set.size]).toEqual(['subscribed', 2]);
    expect(b.readBegin()).toBe(3);
    invalidate(set, 10, 20);
    expect(log.filter((line) => line.startsWith('b'))).toEqual(['b CLEAR [10, 20) at 5']);
  });

  it('made inside a callback is deferred', () => {
    const { set } = space();
    let inner: IntervalNotifier | undefined;
    const ops: NotifierOps = {
      invalidate: () => {
        inner ??= set.insert({ start: 10, end: 20 }, { invalidate: () => true });
        return true;
      },
    };
    set.insert({ start: 10, end: 20 }, ops);
    const event = begin(set, 10, 20);
    expect(inner?.state).toBe('joining');
    set.invalidateEnd(event);
    expect(inner?.state).toBe('subscribed');
  });

  it('is refused with EOVERFLOW when it is empty or leaves the address space, with EINVAL when the space is dead', () => {
    const { set, subscribe } = space();
    expect(codeOf(() => subscribe('empty', 10, 10))).toBe('EOVERFLOW');
    expect(codeOf(() => subscribe('reversed', 10, 9))).toBe('EOVERFLOW');
    expect(codeOf(() => subscribe('long', 10, LIMIT + 1))).toBe('EOVERFLOW');
    expect(codeOf(() => subscribe('negative', -1, 10))).toBe('EINVAL');
    expect(codeOf(() => subscribe('half', 0.5, 10))).toBe('EINVAL');
    expect(codeOf(() => subscribe('nowhere', 0, NaN))).toBe('EINVAL');
    subscribe('all', 0, LIMIT);
    expect(set.size).toBe(1);
    const event = new Invalidation();
    set.release(event);
    set.invalidateEnd(event);
    expect(codeOf(() => subscribe('late', 10, 20))).toBe('EINVAL');
  });

  it('needs its operations', () => {
    const { set } = space();
    const range = { start: 1, end: 2 };
    expect(codeOf(() => set.insert(range, {} as NotifierOps))).toBe('EINVAL');
    expect(() => set.insert(range, { invalidateStart: () => true } as unknown as NotifierOps)).toThrow('as ops.invalidateStart requires');
  });

  it('covers what is inside its range', () => {
    const a = space().subscribe('a', 10, 20);
    expect([a.covers(10, 20), a.covers(12, 13), a.covers(9, 11), a.covers(19, 21)]).toEqual([true, true, false, false]);
  });
});

describe('removing a subscription', () => {
  it('when idle happens at once, and no callback comes', () => {
    const { set, subscribe, log } = space();
    const a = subscribe('a', 10, 20);
    expect(set.remove(a)).toBe('removed');
    invalidate(set, 10, 20);
    expect([log, set.size]).toEqual([[], 0]);
    expect(codeOf(() => set.remove(a))).toBe('EINVAL');
    expect(codeOf(() => a.readBegin())).toBe('EINVAL');
  });

  it('while no subscribed range is being invalidated happens at once', () => {
    const { set, subscribe } = space();
    const a = subscribe('a', 10, 20);
    const event = begin(set, 500, 600);
    expect(set.remove(a)).toBe('removed');
    set.invalidateEnd(event);
  });

  it('waits for the running invalidations, during which callbacks still come', () => {
    const { set, subscribe, log } = space();
    const a = subscribe('a', 10, 20);
    const event = begin(set, 10, 20);
    expect(set.remove(a)).toBe('wait');
    expect(a.state).toBe('leaving');
    expect(codeOf(() => set.remove(a))).toBe('EINVAL');
    const nested = begin(set, 11, 12);
    expect(log.length).toBe(2);
    set.invalidateEnd(event);
    set.invalidateEnd(nested);
    expect([a.state, set.size]).toEqual(['removed', 0]);
    invalidate(set, 10, 20);
    expect(log.length).toBe(2);
  });

  it('that has not joined yet happens at once', () => {
    const { set, subscribe } = space();
    subscribe('a', 10, 20);
    const event = begin(set, 10, 20);
    const b = subscribe('b', 10, 20);
    expect(set.remove(b)).toBe('removed');
    set.invalidateEnd(event);
    expect(set.size).toBe(1);
  });

  it('is not allowed inside a callback', () => {
    const { set } = space();
    const codes: string[] = [];
    const a = set.insert(
      { start: 10, end: 20 },
      {
        invalidate: (_event, notifier) => {
          codes.push(codeOf(() => set.remove(notifier)));
          codes.push(codeOf(() => set.invalidateStart(new Invalidation().set(1, 2, 'CLEAR'))));
          codes.push(codeOf(() => set.invalidateEnd(event)));
          return true;
        },
      },
    );
    const event = new Invalidation().set(10, 20, 'CLEAR');
    set.invalidateStart(event);
    set.invalidateEnd(event);
    expect(codes).toEqual(['EINVAL', 'EINVAL', 'EINVAL']);
    expect(a.state).toBe('subscribed');
  });

  it('of another space is refused', () => {
    expect(codeOf(() => space().set.remove(space().subscribe('a', 1, 2)))).toBe('EINVAL');
  });

  it('as a step ends when no callback can come', () => {
    const { set, subscribe } = space();
    const scheduler = new Scheduler({
      report: (error) => {
        throw error;
      },
    });
    const [a, b] = [subscribe('a', 10, 20), subscribe('b', 10, 20)];
    scheduler.runSync(new RemoveNotifier(a));
    expect(a.state).toBe('removed');
    const event = begin(set, 10, 20);
    expect(() => scheduler.runSync(new RemoveNotifier(b))).toThrow('goes on by itself');
    set.invalidateEnd(event);
    expect([b.state, scheduler.pending]).toEqual(['removed', []]);
  });
});

describe('an event that may not block', () => {
  it('is refused by a callback: EAGAIN, the walk stops, the invalidation is over, who was called before stays invalidated', () => {
    const { set, subscribe, log, warnings } = space();
    const a = subscribe('a', 10, 20);
    const b = subscribe('b', 11, 20, { stores: false, answer: () => false });
    const c = subscribe('c', 12, 20);
    const sequences = [a, b, c].map((notifier) => notifier.readBegin() as number);
    const event = new Invalidation().set(10, 20, 'UNMAP');
    event.blockable = false;
    expect(set.invalidateStart(event)).toBe(false);
    expect(log.map((line) => line[0])).toEqual(['a', 'b']);
    expect([set.active, set.sequence, event.running]).toEqual([0, 4, undefined]);
    expect([a, b, c].map((notifier, i) => notifier.readRetry(sequences[i] as number))).toEqual([true, false, false]);
    expect(warnings).toEqual([]);
    expect(codeOf(() => set.invalidateEnd(event))).toBe('EINVAL');
  });

  it('that is refused during another ends only itself', () => {
    const { set, subscribe } = space();
    subscribe('a', 10, 20, { answer: () => false });
    const other = begin(set, 500, 600);
    const event = new Invalidation().set(10, 20, 'UNMAP');
    event.blockable = false;
    expect(set.invalidateStart(event)).toBe(false);
    expect([set.active, set.sequence]).toEqual([1, 3]);
    set.invalidateEnd(other);
    expect(set.sequence).toBe(4);
  });

  it('finishes what was started before the refusal', () => {
    const { set, subscribe } = space();
    const log: string[] = [];
    set.insert({ start: 10, end: 20 }, { invalidateStart: () => ({}), invalidateFinish: () => void log.push('finish') });
    subscribe('b', 11, 20, { answer: () => false });
    const event = new Invalidation().set(10, 20, 'UNMAP');
    event.blockable = false;
    expect(set.invalidateStart(event)).toBe(false);
    expect(log).toEqual(['finish']);
  });

  it('may be granted', () => {
    const { set, subscribe } = space();
    subscribe('a', 10, 20);
    const event = new Invalidation().set(10, 20, 'UNMAP');
    event.blockable = false;
    expect(set.invalidateStart(event)).toBe(true);
    set.invalidateEnd(event);
  });
});

describe('a callback', () => {
  it('that refuses though it may block is warned about and ignored', () => {
    const { set, subscribe, log, warnings } = space();
    subscribe('a', 10, 20, { answer: () => false });
    subscribe('b', 11, 20);
    invalidate(set, 10, 20);
    expect(log.length).toBe(2);
    expect(warnings).toEqual(['a callback for CLEAR refuses though it may sleep; ignored']);
    set.insert({ start: 10, end: 20 }, { invalidateStart: () => false, invalidateFinish: () => {} });
    invalidate(set, 10, 20);
    expect(warnings.length).toBe(3);
  });

  it('that throws does not stop the others, and is found in the event', () => {
    const { set, subscribe, log } = space();
    const bad = subscribe('a', 10, 20, {
      answer: () => {
        throw new Error('driver bug');
      },
    });
    subscribe('b', 11, 20);
    const event = begin(set, 10, 20);
    expect(log.length).toBe(2);
    expect(event.failures).toEqual([{ notifier: bad, error: new Error('driver bug') }]);
    set.invalidateEnd(event);
    set.invalidateStart(event.set(500, 501, 'CLEAR'));
    expect(event.failures).toEqual([]);
  });

  it('is told the reason and the owner, and can ignore what it caused itself', () => {
    const { set } = space();
    const device = { name: 'gpu' };
    const seen: unknown[] = [];
    const notifier = set.insert(
      { start: 10, end: 20 },
      {
        invalidate: (event, self) => {
          seen.push([event.reason, event.owner, event.blockable]);
          if (event.reason === 'MIGRATE' && event.owner === device) return true;
          self.setSequence(event.sequence);
          return true;
        },
      },
    );
    const sequence = notifier.readBegin() as number;
    const event = new Invalidation();
    for (const owner of [device, { name: 'other' }]) {
      set.invalidateStart(event.set(10, 20, 'MIGRATE', owner));
      set.invalidateEnd(event);
      seen.push(notifier.readRetry(sequence));
    }
    expect(seen).toEqual([['MIGRATE', device, true], false, ['MIGRATE', { name: 'other' }, true], true]);
  });

  it('may leave its flush unfinished: the ticket is in the event', () => {
    const { set } = space();
    const tickets = new TicketBook();
    const [first, second] = [tickets.open('flush 1'), tickets.open('flush 2')];
    set.insert({ start: 10, end: 20 }, { invalidate: () => first });
    set.insert({ start: 10, end: 20 }, { invalidateStart: () => ({}), invalidateFinish: () => second });
    const event = begin(set, 10, 20);
    expect(event.tickets).toEqual([first, second]);
    expect(event.unfinished).toBe(first);
    first.complete();
    expect(event.unfinished).toBe(second);
    second.fail('device lost');
    expect(event.unfinished).toBeUndefined();
    expect(event.tickets.map((ticket) => ticket.state)).toEqual(['done', 'failed']);
    set.invalidateEnd(event);
    set.invalidateStart(event.set(500, 501, 'CLEAR'));
    expect(event.tickets).toEqual([]);
  });
});

describe('the two-pass form', () => {
  it('runs all starts first, then all finishes in the same order', () => {
    const { set, subscribe, log } = space();
    const twoPass = (name: string): NotifierOps => ({
      invalidateStart: (event, notifier) => {
        notifier.setSequence(event.sequence);
        log.push(`start ${name}`);
        return { name };
      },
      invalidateFinish: (token, event) => {
        log.push(`finish ${(token as { name: string }).name} at ${event.sequence}`);
      },
    });
    set.insert({ start: 10, end: 20 }, twoPass('a'));
    subscribe('b', 11, 20);
    set.insert({ start: 12, end: 20 }, twoPass('c'));
    invalidate(set, 10, 20);
    expect(log).toEqual(['start a', 'b CLEAR [10, 20) at 3', 'start c', 'finish a at 3', 'finish c at 3']);
  });

  it('has no finish when the start did the complete job', () => {
    const { set, warnings } = space();
    let finished = 0;
    set.insert({ start: 10, end: 20 }, { invalidateStart: () => true, invalidateFinish: () => void finished++ });
    invalidate(set, 10, 20);
    expect([finished, warnings]).toEqual([0, []]);
  });

  it('leaves no ticket behind, in one pass or in two, unless a flush is unfinished', () => {
    const { set, subscribe } = space();
    subscribe('a', 10, 20);
    set.insert({ start: 10, end: 20 }, { invalidateStart: () => ({}), invalidateFinish: () => {} });
    const event = begin(set, 10, 20);
    expect(event.tickets).toEqual([]);
    set.invalidateEnd(event);
  });

  it('contains a finish that throws', () => {
    const { set } = space();
    const bad = set.insert(
      { start: 10, end: 20 },
      {
        invalidateStart: () => ({}),
        invalidateFinish: () => {
          throw new Error('bug');
        },
      },
    );
    const event = begin(set, 10, 20);
    expect(event.failures).toEqual([{ notifier: bad, error: new Error('bug') }]);
    set.invalidateEnd(event);
  });
});

describe('the end of an address space', () => {
  it('calls every subscription once, blockable, with RELEASE for all pages', () => {
    const { set, subscribe, log } = space();
    const a = subscribe('a', 10, 20);
    subscribe('b', LIMIT - 1, LIMIT);
    const sequence = a.readBegin() as number;
    const event = new Invalidation();
    event.blockable = false;
    set.release(event);
    expect(event.blockable).toBe(true);
    expect(log).toEqual([`a RELEASE [0, ${LIMIT}) at 3`, `b RELEASE [0, ${LIMIT}) at 3`]);
    set.invalidateEnd(event);
    expect([set.sequence, set.active]).toEqual([4, 0]);
    expect(a.readRetry(sequence)).toBe(true);
    expect(codeOf(() => set.release(event))).toBe('EINVAL');
    expect(set.remove(a)).toBe('removed');
  });

  it('reaches a subscription that has not joined yet', () => {
    const { set, subscribe, log } = space();
    subscribe('a', 10, 20);
    const running = begin(set, 10, 20);
    subscribe('b', 10, 20);
    const event = new Invalidation();
    set.release(event);
    expect(log.filter((line) => line.includes('RELEASE')).map((line) => line[0])).toEqual(['a', 'b']);
    set.invalidateEnd(running);
    set.invalidateEnd(event);
    expect(set.size).toBe(2);
  });

  it('reaches a subscription that is leaving once, like every other', () => {
    const { set, subscribe, log } = space();
    const leaving = subscribe('a', 10, 20);
    const running = begin(set, 10, 20);
    expect(set.remove(leaving)).toBe('wait');
    const event = new Invalidation();
    set.release(event);
    expect(log.filter((line) => line.includes('RELEASE')).length).toBe(1);
    set.invalidateEnd(running);
    set.invalidateEnd(event);
    expect(set.size).toBe(0);
  });

  it('of a space without subscriptions changes nothing but that it is dead', () => {
    const { set } = space();
    const event = new Invalidation();
    set.release(event);
    set.invalidateEnd(event);
    expect(set.sequence).toBe(2);
  });
});

describe('an invalidation', () => {
  it('is started once, ended once, in one space, over a range', () => {
    const { set } = space();
    const event = begin(set, 1, 2);
    expect(codeOf(() => event.set(3, 4, 'CLEAR'))).toBe('EINVAL');
    expect(codeOf(() => set.invalidateStart(event))).toBe('EINVAL');
    expect(codeOf(() => space().set.invalidateEnd(event))).toBe('EINVAL');
    set.invalidateEnd(event);
    expect(codeOf(() => set.invalidateEnd(event))).toBe('EINVAL');
    expect(codeOf(() => set.invalidateStart(event.set(2, 2, 'CLEAR')))).toBe('EINVAL');
    expect(codeOf(() => set.invalidateStart(event.set(2, LIMIT + 1, 'CLEAR')))).toBe('EINVAL');
    expect(codeOf(() => set.invalidateStart(event.set(-1, 2, 'CLEAR')))).toBe('EINVAL');
    expect([set.active, event.running]).toEqual([0, undefined]);
  });
});

// The protocol itself: a table of one page, a device that mirrors it, one side changing the page, the other reading and installing.
describe('the retry protocol', () => {
  interface World {
    page: number;
    /** What the device has mapped. */
    mirrored: number | undefined;
  }

  class Change implements Step {
    readonly name = 'change';
    phase = 0;
    readonly event = new Invalidation();
    private readonly set: NotifierSet;
    private readonly world: World;

    constructor(set: NotifierSet, world: World) {
      this.set = set;
      this.world = world;
    }

    next(run: Run): Progress {
      switch (this.phase) {
        case 0:
          this.set.invalidateStart(this.event.set(10, 11, 'UNMAP'));
          this.phase = 1;
          return AGAIN;
        case 1:
          if (this.event.unfinished) return run.waitFor(this.event.unfinished);
          this.phase = 2;
          return AGAIN;
        case 2:
          this.world.page++;
          this.phase = 3;
          return AGAIN;
        default:
          this.set.invalidateEnd(this.event);
          return DONE;
      }
    }
  }

  class Mirror implements Step {
    readonly name = 'mirror';
    phase = 0;
    snapshot = 0;
    private readonly begin: ReadBegin;
    private readonly notifier: IntervalNotifier;
    private readonly lock: Lock;
    private readonly world: World;
    private readonly checks: boolean;

    constructor(notifier: IntervalNotifier, lock: Lock, world: World, checks: boolean) {
      this.notifier = notifier;
      this.lock = lock;
      this.world = world;
      this.checks = checks;
      this.begin = new ReadBegin(notifier);
    }

    next(run: Run): Progress {
      switch (this.phase) {
        case 0:
          this.phase = 1;
          return run.call(this.begin.reset(this.notifier));
        case 1:
          this.snapshot = this.world.page;
          this.phase = 2;
          return AGAIN;
        case 2:
          if (!this.lock.tryAcquire(run)) return run.waitFor(this.lock);
          this.phase = 3;
          return AGAIN;
        default:
          if (this.checks && this.notifier.readRetry(this.begin.sequence)) {
            this.lock.release(run);
            this.phase = 0;
            return AGAIN;
          }
          this.world.mirrored = this.snapshot;
          this.lock.release(run);
          return DONE;
      }
    }
  }

  function race(checks: boolean): Race {
    const world: World = { page: 0, mirrored: undefined };
    const set = new NotifierSet({ label: 'space 1', warn: () => {} });
    const lock = new Lock('driver', 1);
    const notifier = set.insert(
      { start: 10, end: 20 },
      {
        // One turn of the simulator: the driver lock is free whenever a mirror does not hold it between two of its own turns.
        invalidate: (event, self) => {
          self.setSequence(event.sequence);
          world.mirrored = undefined;
          return true;
        },
      },
    );
    const change = new Change(set, world);
    const fresh = (): void => {
      if (world.mirrored !== undefined && world.mirrored !== world.page) throw new Error('the device maps a page that is gone');
    };
    return { steps: [change, new Mirror(notifier, lock, world, checks)], check: fresh, always: fresh };
  }

  it('never leaves the device with a stale page, in any order of events', () => {
    const exploration = exploreAll(() => race(true));
    expect(exploration.finding).toBeUndefined();
    expect(exploration.complete).toBe(true);
    expect(exploration.schedules).toBeGreaterThan(30);
  });

  it('goes wrong without the retry', () => {
    expect(exploreAll(() => race(false)).finding).toMatchObject({ kind: 'check', error: new Error('the device maps a page that is gone') });
  });
});
