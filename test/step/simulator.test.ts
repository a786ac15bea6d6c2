import { describe, expect, it } from 'vitest';
import { Lock } from '../../sdk/step/lock.ts';
import { Scheduler } from '../../sdk/step/runner.ts';
import { AGAIN, DONE, type Progress, type Run, type Step } from '../../sdk/step/step.ts';
import { type Ticket, TicketBook } from '../../sdk/step/ticket.ts';
import { exploreAll, exploreSeeded, printFinding, type Race, replaySchedule, TURNS_MAX } from '../../sdk/testing/simulator.ts';

/** Reads a counter, then writes back one more: a lost update without a lock. */
class Increment implements Step {
  readonly name = 'increment';
  phase = 0;
  seen = 0;
  private readonly cell: { value: number };
  private readonly lock: Lock | undefined;
  private readonly ticket: Ticket | undefined;

  constructor(cell: { value: number }, lock?: Lock, ticket?: Ticket) {
    this.cell = cell;
    this.lock = lock;
    this.ticket = ticket;
  }

  next(run: Run): Progress {
    switch (this.phase) {
      case 0:
        if (this.lock && !this.lock.tryAcquire(run)) return run.waitFor(this.lock);
        this.phase = 1;
        this.seen = this.cell.value;
        return AGAIN;
      case 1:
        if (this.ticket?.state === 'pending') return run.waitFor(this.ticket);
        this.phase = 2;
        return AGAIN;
      default:
        this.cell.value = this.seen + 1;
        this.lock?.release(run);
        return DONE;
    }
  }
}

const complete = (ticket: Ticket): Step => ({
  name: 'device',
  next: () => {
    ticket.complete();
    return DONE;
  },
});

function race({ locked }: { locked: boolean }): Race {
  const cell = { value: 0 };
  const lock = locked ? new Lock('driver', 1) : undefined;
  return {
    steps: [new Increment(cell, lock), new Increment(cell, lock)],
    check: () => {
      if (cell.value !== 2) throw new Error(`${cell.value} instead of 2`);
    },
  };
}

describe('the simulator', () => {
  it('runs each of the 20 interleavings of two steps of three phases once', () => {
    const seen = new Set<string>();
    const exploration = exploreAll(() => {
      const turns: string[] = [];
      const step = (name: string): Step => {
        let left = 3;
        return {
          name,
          next: () => {
            turns.push(name);
            return --left > 0 ? AGAIN : DONE;
          },
        };
      };
      return { steps: [step('a'), step('b')], check: () => void seen.add(turns.join('')) };
    });
    expect(exploration).toEqual({ schedules: 20, complete: true });
    expect(seen.size).toBe(20);
  });

  it('finds a lost update, and replays it from its schedule', () => {
    const { finding } = exploreAll(() => race({ locked: false }));
    expect(finding).toMatchObject({ kind: 'check', schedule: '0.0.1.0.1.1' });
    expect(replaySchedule(() => race({ locked: false }), '0.0.1.0.1.1')).toMatchObject({ kind: 'check' });
    expect(replaySchedule(() => race({ locked: false }), '0.0.0.1.1.1')).toBeUndefined();
    expect(replaySchedule(() => race({ locked: false }), '')).toBeUndefined();
    expect(finding && printFinding(finding)).toBe("check: 1 instead of 2\nreplaySchedule(setup, '0.0.1.0.1.1')");
  });

  it('takes only schedules that the locks allow', () => {
    const exploration = exploreAll(() => race({ locked: true }));
    expect(exploration.finding).toBeUndefined();
    expect(exploration.complete).toBe(true);
    // Who comes second is refused once, after the first, the second or not at all before the third turn of the other: 2 x 3.
    expect(exploration.schedules).toBe(6);
  });

  it('refuses a schedule in which a step that waits goes on', () => {
    expect(() => replaySchedule(() => race({ locked: true }), '0.1.1')).toThrow('names a step that cannot go on at turn 2');
    expect(() => replaySchedule(() => race({ locked: true }), '2')).toThrow('cannot go on at turn 0');
  });

  it('chooses by seed, the same for the same seed', () => {
    const find = (seed: number) => exploreSeeded(() => race({ locked: false }), seed, 100);
    expect(find(1).finding).toBeDefined();
    expect(find(1)).toEqual(find(1));
    const good = exploreSeeded(() => race({ locked: true }), 1, 50);
    expect(good).toEqual({ schedules: 50, complete: false });
    expect(new Set([1, 2, 3, 4, 5, 6].map((seed) => find(seed).finding?.schedule)).size).toBeGreaterThan(1);
  });

  it('stops at its limit', () => {
    expect(exploreAll(() => race({ locked: true }), { limit: 3 })).toEqual({ schedules: 3, complete: false });
  });

  it('finds a deadlock and says who holds and who waits', () => {
    // Lock order keeps locks alone from deadlocking; tickets can still wait for each other.
    const setup = (): Race => {
      const tickets = new TicketBook();
      const [left, right] = [tickets.open('left'), tickets.open('right')];
      const lock = new Lock('driver', 1);
      const half = (name: string, mine: Ticket, other: Ticket, held?: Lock): Step => ({
        name,
        next: (run) => {
          if (held && !run.holds(held) && !held.tryAcquire(run)) return run.waitFor(held);
          if (other.state === 'pending') return run.waitFor(other);
          mine.complete();
          held?.release(run);
          return DONE;
        },
      });
      return { steps: [half('a', left, right, lock), half('b', right, left)], check: () => {} };
    };
    const { finding, schedules } = exploreAll(setup);
    expect(schedules).toBe(1);
    expect(finding?.kind).toBe('deadlock');
    expect((finding?.error as Error).message).toBe(
      'deadlock 2 steps wait for each other or for nobody: ' +
        'step "a" (run 0) holds driver lock 1 and waits for ticket 2 (right); ' +
        'step "b" (run 1) holds nothing and waits for ticket 1 (left)',
    );
  });

  it('finds a step that never ends', () => {
    const { finding } = exploreAll(() => ({ steps: [{ name: 'spin', next: () => AGAIN }], check: () => {} }));
    expect(finding?.kind).toBe('endless');
    expect(finding?.schedule.split('.').length).toBe(TURNS_MAX);
  });

  it('finds a step that fails, unless it may', () => {
    const setup = (mayFail: boolean): Race => ({
      steps: [
        {
          name: 'bad',
          next: () => {
            throw new Error('boom');
          },
        },
        { name: 'good', next: () => DONE },
      ],
      check: () => {},
      mayFail: (error, step) => mayFail && step === 0 && (error as Error).message === 'boom',
    });
    expect(exploreAll(() => setup(false)).finding).toMatchObject({ kind: 'step', schedule: '0' });
    expect(exploreAll(() => setup(true))).toEqual({ schedules: 2, complete: true });
  });

  it('finds a lock that is not released, and a rule broken between two turns', () => {
    const lock = new Lock('driver', 1);
    const leaky: Step = {
      name: 'leaky',
      next: (run) => {
        lock.tryAcquire(run);
        return DONE;
      },
    };
    expect(exploreAll(() => ({ steps: [leaky], check: () => {} })).finding).toMatchObject({ kind: 'step' });
    let open = false;
    const toggle = (): Step => {
      let turn = 0;
      return {
        name: 'toggle',
        next: () => {
          open = !open;
          return turn++ === 0 ? AGAIN : DONE;
        },
      };
    };
    const always = () => {
      if (open) throw new Error('open');
    };
    expect(exploreAll(() => ({ steps: [toggle()], check: () => {}, always })).finding).toMatchObject({ kind: 'check', schedule: '0' });
  });
});

describe('one step in three runners', () => {
  it('gives the same result', async () => {
    const report = (error: unknown) => {
      throw error;
    };
    const world = () => {
      const cell = { value: 0 };
      const lock = new Lock('driver', 1);
      const ticket = new TicketBook().open('flush');
      return { cell, lock, ticket, steps: [new Increment(cell, lock, ticket), new Increment(cell, lock), new Increment(cell, lock)] };
    };

    const sync = world();
    const synchronous = new Scheduler({ report });
    for (const step of sync.steps) expect(() => synchronous.runSync(step)).toThrow('goes on by itself');
    sync.ticket.complete();

    const async = world();
    const asynchronous = new Scheduler({ report });
    const promises = async.steps.map((step) => asynchronous.runAsync(step));
    async.ticket.complete();
    await Promise.all(promises);

    let schedules = 0;
    const simulated = exploreAll(() => {
      const { cell, ticket, steps } = world();
      return {
        steps: [...steps, complete(ticket)],
        check: () => {
          schedules++;
          expect(cell.value).toBe(3);
          expect(steps.map((step) => step.seen).sort()).toEqual([0, 1, 2]);
        },
      };
    });

    expect([sync.cell.value, async.cell.value]).toEqual([3, 3]);
    expect(sync.steps.map((step) => step.seen)).toEqual([0, 1, 2]);
    expect(async.steps.map((step) => step.seen)).toEqual([0, 1, 2]);
    expect(simulated).toEqual({ schedules, complete: true });
    expect(schedules).toBeGreaterThan(50);
  });
});
