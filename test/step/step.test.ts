import { describe, expect, it } from 'vitest';
import { FarfaultError } from '../../sdk/errors.ts';
import { Lock, LOCK_ORDER, type LockKind, RwLock } from '../../sdk/step/lock.ts';
import { Scheduler } from '../../sdk/step/runner.ts';
import { AGAIN, CALL, CALL_DEPTH_MAX, DONE, type Progress, type Run, type Step, WAIT } from '../../sdk/step/step.ts';
import { isTicket, TicketBook, TICKETS_MAX } from '../../sdk/step/ticket.ts';

/** A step from a list of phases; a phase that returns nothing is AGAIN, and the last one is followed by DONE. */
class Script implements Step {
  readonly name: string;
  phase = 0;
  private readonly phases: readonly ((run: Run, step: Script) => Progress | void)[];
  private readonly onAbort: ((run: Run, error: unknown) => void) | undefined;

  constructor(
    name: string,
    phases: readonly ((run: Run, step: Script) => Progress | void)[],
    onAbort?: (run: Run, error: unknown) => void,
  ) {
    this.name = name;
    this.phases = phases;
    this.onAbort = onAbort;
  }

  next(run: Run): Progress {
    const phase = this.phases[this.phase];
    if (phase === undefined) return DONE;
    const progress = phase(run, this);
    if (progress === WAIT) return WAIT;
    this.phase++;
    return progress ?? AGAIN;
  }

  abort(run: Run, error: unknown): void {
    this.onAbort?.(run, error);
  }
}

function scheduler(): { scheduler: Scheduler; reports: string[]; tickets: TicketBook } {
  const reports: string[] = [];
  const report = (error: unknown) => void reports.push(error instanceof Error ? error.message : String(error));
  return { scheduler: new Scheduler({ report }), reports, tickets: new TicketBook() };
}

const take = (lock: Lock) => (run: Run) => (lock.tryAcquire(run) ? AGAIN : run.waitFor(lock));
const drop = (lock: Lock | RwLock) => (run: Run) => lock.release(run);

function codeOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (error instanceof FarfaultError) return `${error.code}: ${error.message}`;
    throw error;
  }
  return 'no error';
}

describe('a step', () => {
  it('is called until it says DONE', () => {
    const { scheduler: s } = scheduler();
    const log: number[] = [];
    s.runSync(new Script('three', [() => void log.push(0), () => void log.push(1), () => void log.push(2)]));
    expect(log).toEqual([0, 1, 2]);
    expect(s.pending).toEqual([]);
  });

  it('is resumed after the step that it called', () => {
    const { scheduler: s } = scheduler();
    const log: string[] = [];
    const inner = new Script('inner', [() => void log.push('inner')]);
    s.runSync(new Script('outer', [(run) => run.call(inner), () => void log.push('outer')]));
    expect(log).toEqual(['inner', 'outer']);
  });

  it('may be used again once it has ended', () => {
    const { scheduler: s } = scheduler();
    let count = 0;
    const step = new Script('reused', [() => void count++]);
    for (let i = 0; i < 3; i++) {
      step.phase = 0;
      s.runSync(step);
    }
    expect(count).toBe(3);
  });

  it('cannot call steps without end', () => {
    const { scheduler: s } = scheduler();
    const endless: Step = { name: 'endless', next: (run) => run.call(endless) };
    // A step that calls itself never changes the innermost step.
    expect(codeOf(() => s.runSync(endless))).toContain('EINVAL');
    let depth = 0;
    const nest = (): Step => ({ name: `level ${++depth}`, next: (run) => run.call(nest()) });
    expect(codeOf(() => s.runSync(nest()))).toContain(`run.call depth ${CALL_DEPTH_MAX} is the limit`);
  });

  it('that breaks the contract is told so', () => {
    const { scheduler: s } = scheduler();
    const child = new Script('child', []);
    expect(codeOf(() => s.runSync({ name: 'mute', next: () => WAIT }))).toBe('EINVAL: step "mute" returns WAIT without run.waitFor');
    expect(codeOf(() => s.runSync({ name: 'liar', next: () => CALL }))).toContain('"liar" calls a step without returning run.call(step)');
    const forgetful: Step = {
      name: 'forgetful',
      next: (run) => {
        run.call(child);
        return AGAIN;
      },
    };
    expect(codeOf(() => s.runSync(forgetful))).toContain('"forgetful" calls a step without returning run.call(step)');
  });

  it('may not be run from inside another', () => {
    const { scheduler: s } = scheduler();
    const inner = new Script('inner', []);
    expect(codeOf(() => s.runSync(new Script('outer', [() => s.runSync(inner)])))).toBe(
      'EINVAL: step "inner" is run from inside step "outer" (run 1)',
    );
  });
});

describe('a step that fails', () => {
  it('unwinds its parents, innermost first, with the error', () => {
    const { scheduler: s, reports } = scheduler();
    const log: string[] = [];
    const note = (name: string) => (_run: Run, error: unknown) => void log.push(`${name}: ${(error as Error).message}`);
    const boom = () => {
      throw new Error('boom');
    };
    const inner = new Script('inner', [boom], note('inner'));
    const middle = new Script('middle', [(run) => run.call(inner)], note('middle'));
    expect(() => s.runSync(new Script('outer', [(run) => run.call(middle)], note('outer')))).toThrow('boom');
    expect(log).toEqual(['inner: boom', 'middle: boom', 'outer: boom']);
    expect(reports).toEqual([]);
  });

  it('and forgets a lock has it released, and is reported', () => {
    const { scheduler: s, reports } = scheduler();
    const lock = new Lock('driver', 1);
    const boom = () => {
      throw new Error('boom');
    };
    expect(() => s.runSync(new Script('leaky', [take(lock), boom]))).toThrow('boom');
    expect(lock.holder).toBeUndefined();
    expect(reports).toEqual(['lock "driver lock 1" is still held when step "leaky" (run 1) ends']);
  });

  it('and cleans up is not reported', () => {
    const { scheduler: s, reports } = scheduler();
    const lock = new Lock('driver', 1);
    const boom = () => {
      throw new Error('boom');
    };
    expect(() => s.runSync(new Script('tidy', [take(lock), boom], (run) => lock.release(run)))).toThrow('boom');
    expect(lock.holder).toBeUndefined();
    expect(reports).toEqual([]);
  });

  it('with an abort that throws is reported, and its parents are still unwound', () => {
    const { scheduler: s, reports } = scheduler();
    const log: string[] = [];
    const inner = new Script(
      'inner',
      [
        () => {
          throw new Error('first');
        },
      ],
      () => {
        throw new Error('second');
      },
    );
    const outer = new Script('outer', [(run) => run.call(inner)], () => void log.push('outer'));
    expect(() => s.runSync(outer)).toThrow('first');
    expect(reports).toEqual(['second']);
    expect(log).toEqual(['outer']);
  });

  it('leaves the scheduler usable', () => {
    const { scheduler: s } = scheduler();
    const bad: Step = {
      name: 'bad',
      next: () => {
        throw new TypeError('a bug in a driver');
      },
    };
    expect(() => s.runSync(bad)).toThrow(TypeError);
    let ran = false;
    s.runSync(new Script('good', [() => void (ran = true)]));
    expect(ran).toBe(true);
  });
});

describe('a lock', () => {
  it('still held at the end is released and reported', () => {
    const { scheduler: s, reports } = scheduler();
    const lock = new Lock('page', 7);
    s.runSync(new Script('leaky', [take(lock)]));
    expect(lock.holder).toBeUndefined();
    expect(reports).toEqual(['lock "page lock 7" is still held when step "leaky" (run 1) ends']);
  });

  it('is released only by its holder', () => {
    const { scheduler: s } = scheduler();
    const lock = new Lock('page', 7);
    expect(codeOf(() => s.runSync(new Script('thief', [drop(lock)])))).toBe(
      'EINVAL: release "page lock 7" is not held by step "thief" (run 1)',
    );
  });

  it('is taken in the written order, mmap before page before driver before notifier', () => {
    const kinds = (Object.keys(LOCK_ORDER) as LockKind[]).sort((a, b) => LOCK_ORDER[a] - LOCK_ORDER[b]);
    expect(kinds.filter((kind) => ['mmap', 'page', 'driver', 'notifier'].includes(kind))).toEqual(['mmap', 'page', 'driver', 'notifier']);
    for (const first of kinds) {
      for (const second of kinds) {
        if (first === second) continue;
        const { scheduler: s } = scheduler();
        const [a, b] = [new Lock(first, 1), new Lock(second, 1)];
        const error = codeOf(() => s.runSync(new Script('two', [take(a), take(b), drop(b), drop(a)], (run) => a.release(run))));
        if (LOCK_ORDER[first] < LOCK_ORDER[second]) expect(error).toBe('no error');
        else
          expect(error).toContain(`lock "${b.label}" is taken after "${a.label}" (step "two" (run 1)); the order is ${kinds.join(', ')}`);
      }
    }
  });

  it('of the same rank is taken in ascending order of keys', () => {
    const { scheduler: s } = scheduler();
    const [one, two] = [new Lock('page', 1), new Lock('page', 2)];
    s.runSync(new Script('up', [take(one), take(two), drop(one), drop(two)]));
    expect(codeOf(() => s.runSync(new Script('down', [take(two), take(one)], drop(two))))).toContain('low keys first');
    const twin = new Lock('page', 1);
    expect(codeOf(() => s.runSync(new Script('equal', [take(one), take(twin)], drop(one))))).toContain('low keys first');
  });

  it('is not taken twice', () => {
    const { scheduler: s } = scheduler();
    const lock = new Lock('page', 1);
    expect(codeOf(() => s.runSync(new Script('twice', [take(lock), take(lock)], drop(lock))))).toContain('is already held by step "twice"');
    const mmap = new RwLock('mmap', 1);
    const shared = (run: Run) => void mmap.tryAcquireShared(run);
    expect(codeOf(() => s.runSync(new Script('twice', [shared, shared], drop(mmap))))).toContain('is already held');
    expect(mmap.readers).toBe(0);
  });

  it('order is not checked when checking is off', () => {
    const s = new Scheduler({ checked: false, report: () => {} });
    const [page, mmap] = [new Lock('page', 1), new Lock('mmap', 1)];
    s.runSync(new Script('reversed', [take(page), take(mmap), drop(mmap), drop(page)]));
    expect(page.holder).toBeUndefined();
  });

  it('goes to those who wait in the order of their coming', async () => {
    const { scheduler: s, tickets } = scheduler();
    const lock = new Lock('driver', 1);
    const ticket = tickets.open('flush');
    const log: string[] = [];
    const holder = new Script('holder', [
      take(lock),
      (run) => (ticket.state === 'pending' ? run.waitFor(ticket) : undefined),
      () => void log.push('holder'),
      drop(lock),
    ]);
    const waiter = (name: string) => new Script(name, [take(lock), () => void log.push(name), drop(lock)]);
    const all = [s.runAsync(holder), ...['a', 'b', 'c'].map((name) => s.runAsync(waiter(name)))];
    expect(codeOf(() => s.runSync(waiter('d')))).toBe('EBUSY: step "d" waits for driver lock 1; it goes on by itself when that ends');
    expect(log).toEqual([]);
    ticket.complete();
    await Promise.all(all);
    expect(log).toEqual(['holder', 'a', 'b', 'c', 'd']);
  });

  it('that came free belongs to the first who waits, and is not snatched by a newcomer', () => {
    const { scheduler: s, tickets } = scheduler();
    const lock = new Lock('driver', 1);
    const ticket = tickets.open('flush');
    const log: string[] = [];
    const hold = new Script('hold', [take(lock), (run) => (ticket.state === 'pending' ? run.waitFor(ticket) : undefined), drop(lock)]);
    expect(codeOf(() => s.runSync(hold))).toContain('EBUSY');
    expect(codeOf(() => s.runSync(new Script('early', [take(lock), () => void log.push('early'), drop(lock)])))).toContain('EBUSY');
    s.enter();
    ticket.complete();
    // Inside the bracket nothing has moved; the newcomer lets those before it go first, then finishes without EBUSY.
    expect(lock.holder).toBeDefined();
    s.runSync(new Script('late', [take(lock), () => void log.push('late'), drop(lock)]));
    expect(log).toEqual(['early', 'late']);
    s.leave();
    expect(s.pending).toEqual([]);
  });

  it('that is given back and asked for again goes to who waits first', () => {
    const { scheduler: s, tickets } = scheduler();
    const lock = new Lock('driver', 1);
    const ticket = tickets.open('flush');
    const log: string[] = [];
    const hog = new Script('hog', [
      take(lock),
      (run) => (ticket.state === 'pending' ? run.waitFor(ticket) : undefined),
      drop(lock),
      take(lock),
      () => void log.push('hog again'),
      drop(lock),
    ]);
    const patient = new Script('patient', [take(lock), () => void log.push('patient'), drop(lock)]);
    for (const step of [hog, patient]) expect(codeOf(() => s.runSync(step))).toContain('EBUSY');
    ticket.complete();
    expect(log).toEqual(['patient', 'hog again']);
    expect(s.pending).toEqual([]);
  });

  it('whose waiter fails goes to the next', () => {
    const { scheduler: s, tickets, reports } = scheduler();
    const lock = new Lock('driver', 1);
    const ticket = tickets.open('flush');
    const log: string[] = [];
    const hold = new Script('hold', [take(lock), (run) => (ticket.state === 'pending' ? run.waitFor(ticket) : undefined), drop(lock)]);
    let tries = 0;
    const failing: Step = {
      name: 'failing',
      next: (run) => {
        if (tries++ > 0) throw new Error('no longer interested');
        return lock.tryAcquire(run) ? DONE : run.waitFor(lock);
      },
    };
    const patient = new Script('patient', [take(lock), () => void log.push('patient'), drop(lock)]);
    for (const step of [hold, failing, patient]) expect(codeOf(() => s.runSync(step))).toContain('EBUSY');
    ticket.complete();
    expect([log, reports, s.pending]).toEqual([['patient'], ['no longer interested'], []]);
  });

  it('whose waiter gives up goes to the next', () => {
    const { scheduler: s, tickets } = scheduler();
    const lock = new Lock('driver', 1);
    const ticket = tickets.open('flush');
    const log: string[] = [];
    const hold = new Script('hold', [take(lock), (run) => (ticket.state === 'pending' ? run.waitFor(ticket) : undefined), drop(lock)]);
    let tries = 0;
    const fickle = new Script('fickle', [(run) => (tries++ === 0 && !lock.tryAcquire(run) ? run.waitFor(lock) : undefined)]);
    const patient = new Script('patient', [take(lock), () => void log.push('patient'), drop(lock)]);
    for (const step of [hold, fickle, patient]) expect(codeOf(() => s.runSync(step))).toContain('EBUSY');
    ticket.complete();
    expect(log).toEqual(['patient']);
    expect(s.pending).toEqual([]);
  });
});

describe('a reader-writer lock', () => {
  const read = (lock: RwLock) => (run: Run) => (lock.tryAcquireShared(run) ? AGAIN : run.waitFor(lock));
  const write = (lock: RwLock) => (run: Run) => (lock.tryAcquire(run) ? AGAIN : run.waitFor(lock));

  it('has many readers or one writer, and readers do not overtake a writer', () => {
    const { scheduler: s, tickets, reports } = scheduler();
    const lock = new RwLock('mmap', 1);
    const log: string[] = [];
    const gates = new Map<string, ReturnType<TicketBook['open']>>();
    const start = (name: string, mode: typeof read) => {
      const gate = tickets.open(name);
      gates.set(name, gate);
      const step = new Script(name, [
        mode(lock),
        () => void log.push(`${name} in`),
        (run) => (gate.state === 'pending' ? run.waitFor(gate) : undefined),
        () => void log.push(`${name} out`),
        drop(lock),
      ]);
      expect(codeOf(() => s.runSync(step))).toContain('EBUSY');
    };
    start('r1', read);
    start('r2', read);
    start('w1', write);
    start('r3', read);
    start('r4', read);
    start('w2', write);
    expect(log).toEqual(['r1 in', 'r2 in']);
    expect(lock.readers).toBe(2);
    gates.get('r2')?.complete();
    expect(log.splice(0)).toEqual(['r1 in', 'r2 in', 'r2 out']);
    gates.get('r1')?.complete();
    expect(log.splice(0)).toEqual(['r1 out', 'w1 in']);
    expect(lock.writer).toBeDefined();
    gates.get('w1')?.complete();
    expect(log.splice(0)).toEqual(['w1 out', 'r3 in', 'r4 in']);
    gates.get('r4')?.complete();
    gates.get('r3')?.complete();
    expect(log.splice(0)).toEqual(['r4 out', 'r3 out', 'w2 in']);
    gates.get('w2')?.complete();
    expect(s.pending).toEqual([]);
    expect([lock.readers, lock.writer]).toEqual([0, undefined]);
    expect(reports).toEqual([]);
  });

  it('lets the readers behind a writer go when the writer gives up', () => {
    const { scheduler: s, tickets } = scheduler();
    const lock = new RwLock('mmap', 1);
    const open = tickets.open('reader');
    const log: string[] = [];
    const first = new Script('first', [read(lock), (run) => (open.state === 'pending' ? run.waitFor(open) : undefined), drop(lock)]);
    let tries = 0;
    const writer = new Script('writer', [(run) => (tries++ > 0 || lock.tryAcquire(run) ? undefined : run.waitFor(lock))]);
    const second = new Script('second', [read(lock), () => void log.push('second'), drop(lock)]);
    for (const step of [first, writer, second]) expect(codeOf(() => s.runSync(step))).toContain('EBUSY');
    open.complete();
    expect(log).toEqual(['second']);
    expect(s.pending).toEqual([]);
  });

  it('is not waited for by a run that was refused and waits for something else', () => {
    const { scheduler: s, tickets } = scheduler();
    const lock = new RwLock('mmap', 1);
    const [open, other] = [tickets.open('reader'), tickets.open('other')];
    const reader = new Script('reader', [read(lock), (run) => (open.state === 'pending' ? run.waitFor(open) : undefined), drop(lock)]);
    const writer = new Script('writer', [(run) => (lock.tryAcquire(run) || other.state !== 'pending' ? undefined : run.waitFor(other))]);
    for (const step of [reader, writer]) expect(codeOf(() => s.runSync(step))).toContain('EBUSY');
    let ran = false;
    s.runSync(new Script('second', [read(lock), () => void (ran = true), drop(lock)]));
    expect(ran).toBe(true);
    other.complete();
    open.complete();
    expect(s.pending).toEqual([]);
  });
});

describe('a ticket', () => {
  const until = (ticket: ReturnType<TicketBook['open']>) => (run: Run) => (ticket.state === 'pending' ? run.waitFor(ticket) : undefined);

  it('parks a synchronous step with EBUSY, which goes on by itself when the ticket is completed', () => {
    const { scheduler: s, tickets } = scheduler();
    const ticket = tickets.open('copy of 2 pages to the host');
    let ended = false;
    const step = new Script('migrate', [until(ticket), () => void (ended = true)]);
    expect(codeOf(() => s.runSync(step))).toBe(
      'EBUSY: step "migrate" waits for ticket 1 (copy of 2 pages to the host); it goes on by itself when that ends',
    );
    expect(s.pending).toEqual([{ id: 1, steps: ['migrate'], waitsFor: 'ticket 1 (copy of 2 pages to the host)', holds: [] }]);
    expect(ended).toBe(false);
    ticket.complete();
    expect(ended).toBe(true);
    expect(s.pending).toEqual([]);
    expect(tickets.pending).toEqual([]);
  });

  it('resolves an asynchronous step', async () => {
    const { scheduler: s, tickets } = scheduler();
    const ticket = tickets.open('flush');
    const promise = s.runAsync(new Script('flush', [until(ticket)]));
    await Promise.resolve();
    expect(s.pending.length).toBe(1);
    ticket.complete();
    await promise;
    expect(s.pending).toEqual([]);
  });

  it('wakes who waits in the order of their coming, and also when it fails', () => {
    const { scheduler: s, tickets } = scheduler();
    const ticket = tickets.open('flush');
    const log: string[] = [];
    for (const name of ['a', 'b', 'c']) {
      const step = new Script(name, [until(ticket), () => void log.push(`${name} ${ticket.state}: ${ticket.reason}`)]);
      expect(codeOf(() => s.runSync(step))).toContain('EBUSY');
    }
    ticket.fail('device lost');
    expect(log).toEqual(['a failed: device lost', 'b failed: device lost', 'c failed: device lost']);
  });

  it('completed from inside a step wakes others only when that step is left', () => {
    const { scheduler: s, tickets } = scheduler();
    const ticket = tickets.open('flush');
    const log: string[] = [];
    expect(codeOf(() => s.runSync(new Script('waiter', [until(ticket), () => void log.push('waiter')])))).toContain('EBUSY');
    s.runSync(new Script('driver', [() => ticket.complete(), () => void log.push('driver')]));
    expect(log).toEqual(['driver', 'waiter']);
  });

  it('that is already done does not stop a step that waits for it', () => {
    const { scheduler: s, tickets } = scheduler();
    const ticket = tickets.open('flush');
    ticket.complete();
    let waited = 0;
    s.runSync(new Script('late', [(run) => (waited++ === 0 ? run.waitFor(ticket) : undefined)]));
    expect(waited).toBe(2);
  });

  it('ends once', () => {
    const { tickets } = scheduler();
    const ticket = tickets.open('flush');
    ticket.complete();
    expect(codeOf(() => ticket.complete())).toBe('EINVAL: ticket "ticket 1 (flush)" is already done');
    expect(codeOf(() => ticket.fail('late'))).toContain('is already done');
    expect(ticket.state).toBe('done');
    const failed = tickets.open('copy');
    failed.fail('gone');
    expect(codeOf(() => failed.complete())).toContain('is already failed');
  });

  it('is recognised, and found by its id while it is open', () => {
    const { tickets } = scheduler();
    const ticket = tickets.open('flush');
    expect([isTicket(ticket), isTicket({}), isTicket(null), isTicket(undefined), isTicket(true)]).toEqual([
      true,
      false,
      false,
      false,
      false,
    ]);
    expect(tickets.find(ticket.id)).toBe(ticket);
    ticket.complete();
    expect(tickets.find(ticket.id)).toBeUndefined();
  });

  it('has an id that fits 16 bits, and is never that of an open ticket', () => {
    const { tickets } = scheduler();
    const kept = tickets.open('kept');
    for (let i = 0; i < TICKETS_MAX + 5; i++) {
      const ticket = tickets.open('short');
      expect(ticket.id !== kept.id && ticket.id >= 1 && ticket.id <= TICKETS_MAX).toBe(true);
      ticket.complete();
    }
    for (let i = 1; i < TICKETS_MAX; i++) tickets.open('long');
    expect(codeOf(() => tickets.open('one too many'))).toBe('ENOMEM: open tickets 65535 is the limit');
  });
});

describe('the scheduler', () => {
  it('rejects the promise of a step that fails', async () => {
    const { scheduler: s, tickets, reports } = scheduler();
    const ticket = tickets.open('copy');
    const promise = s.runAsync(
      new Script('migrate', [
        (run) => (ticket.state === 'pending' ? run.waitFor(ticket) : undefined),
        () => {
          throw new Error(ticket.reason);
        },
      ]),
    );
    ticket.fail('lost');
    await expect(promise).rejects.toThrow('lost');
    expect(reports).toEqual([]);
  });

  it('reports the failure of a run that was left parked, and goes on with the others', () => {
    const { scheduler: s, tickets, reports } = scheduler();
    const ticket = tickets.open('copy');
    let other = false;
    const until = (run: Run) => (ticket.state === 'pending' ? run.waitFor(ticket) : undefined);
    const boom = () => {
      throw new Error('late');
    };
    expect(codeOf(() => s.runSync(new Script('bad', [until, boom])))).toContain('EBUSY');
    expect(codeOf(() => s.runSync(new Script('good', [until, () => void (other = true)])))).toContain('EBUSY');
    ticket.complete();
    expect(reports).toEqual(['late']);
    expect(other).toBe(true);
    expect(s.pending).toEqual([]);
  });

  it('gives an asynchronous step that is started inside another its turn afterwards', async () => {
    const { scheduler: s } = scheduler();
    const log: string[] = [];
    let promise: Promise<void> | undefined;
    s.runSync(
      new Script('outer', [
        () => void (promise = s.runAsync(new Script('inner', [() => void log.push('inner')]))),
        () => void log.push('outer'),
      ]),
    );
    expect(log).toEqual(['outer', 'inner']);
    await promise;
  });

  it('finishes a run that waits only for runs that can go on, and throws its error to the caller', () => {
    const { scheduler: s, tickets, reports } = scheduler();
    const lock = new Lock('driver', 1);
    const ticket = tickets.open('flush');
    const hold = new Script('hold', [take(lock), (run) => (ticket.state === 'pending' ? run.waitFor(ticket) : undefined), drop(lock)]);
    expect(codeOf(() => s.runSync(hold))).toContain('EBUSY');
    s.enter();
    ticket.complete();
    const boom = () => {
      throw new Error('mine');
    };
    expect(() => s.runSync(new Script('mine', [take(lock), boom], drop(lock)))).toThrow('mine');
    s.leave();
    expect(reports).toEqual([]);
    expect(s.pending).toEqual([]);
  });

  it('aborts what is unfinished when it is closed', async () => {
    const { scheduler: s, tickets, reports } = scheduler();
    const lock = new Lock('driver', 1);
    const ticket = tickets.open('flush');
    const log: string[] = [];
    const hold = new Script(
      'hold',
      [take(lock), (run) => (ticket.state === 'pending' ? run.waitFor(ticket) : undefined), drop(lock)],
      (run, error) => {
        log.push((error as FarfaultError).code);
        lock.release(run);
      },
    );
    const promise = s.runAsync(hold);
    expect(codeOf(() => s.runSync(new Script('next', [take(lock), () => void log.push('never')])))).toContain('EBUSY');
    s.close();
    await expect(promise).rejects.toMatchObject({ code: 'EBADF' });
    expect(log).toEqual(['EBADF']);
    expect(s.pending).toEqual([]);
    expect(lock.holder).toBeUndefined();
    expect(reports).toEqual([]);
    expect(codeOf(() => s.runSync(new Script('late', [])))).toContain('EBADF');
    await expect(s.runAsync(new Script('late', []))).rejects.toMatchObject({ code: 'EBADF' });
    ticket.complete();
    expect(log).toEqual(['EBADF']);
  });

  it('has a leave for every enter', () => {
    const { scheduler: s } = scheduler();
    expect(codeOf(() => s.leave())).toContain('EINVAL');
    s.enter();
    s.leave();
  });
});
