/** Machines that are saved while devices take turns, hold a window, or are being reset: the restored one goes on from there. */
import { afterEach, expect, test } from 'vitest';
import { type AddressSpace, type Context, type Machine, restoreMachine, type Ticket } from 'farfault';
import type { Copies, Device, Driver, Reset } from 'farfault/gmem';
import { expectClean, PAGE, smallMachine } from '../machine/probe.ts';

type JobRun = ReturnType<Context['jobStep']>;

interface Work {
  readonly ticket: Ticket;
  readonly copies: Copies;
}

let machine: Machine;
afterEach(() => machine?.close());

/** A device whose copies to it are left unfinished, until `finish`. */
class Slow {
  private work: Work[] = [];

  driver(more: Partial<Driver>): Driver {
    return {
      name: 'slow',
      memory: [{ name: 'ram', kind: 'private', bytes: 16 * PAGE }],
      attach: (context) => ({
        copy: {
          toDevice: (copies) => {
            const ticket = context.ticket('copy');
            this.work.push({ ticket, copies: copies.keep() });
            return ticket;
          },
        },
      }),
      save: () => this.work,
      restore: (saved) => void (this.work = saved as Work[]),
      ...more,
    };
  }

  get unfinished(): number {
    return this.work.length;
  }

  finish(): void {
    for (let next = this.work.shift(); next; next = this.work.shift()) {
      next.copies.perform();
      next.ticket.complete();
    }
  }
}

interface Side {
  readonly space: AddressSpace;
  readonly context: Context;
  readonly start: number;
}

function side(device: Device): Side {
  const space = machine.createAddressSpace();
  const { start } = space.mmap({ bytes: 8 * PAGE });
  space.write(start, new Uint8Array(8 * PAGE).fill(1));
  return { space, context: space.attach(device), start };
}

const job = ({ start }: Side) => ({
  lanes: 1,
  accesses: [0, 1, 2].map((i) => ({ op: 'write' as const, addr: start + i * PAGE, bytes: 1, value: 7 })),
});

/** Saves the machine, and restores it with another driver of the same sort. */
async function moved<H extends object>(handles: H, more: Partial<Driver>): Promise<{ again: Machine; there: H; slow: Slow }> {
  const slow = new Slow();
  const restored = await restoreMachine<H & Record<string, unknown>>(machine.save(handles), { drivers: [slow.driver(more)] });
  return { again: restored.machine, there: restored.handles as H, slow };
}

test('in the middle of two jobs that take turns', async () => {
  const slow = new Slow();
  machine = smallMachine();
  const device = machine.addDevice(slow.driver({ activeContexts: 'one' }));
  const sides = [side(device), side(device)];
  const steps = sides.map((each) => each.context.jobStep(job(each)));
  const running = steps.map((step) => machine.platform.scheduler.runAsync(step));
  // One page each: the first job has given its turn away, the second one waits for its page.
  slow.finish();
  const { again, there, slow: other } = await moved<{ sides: Side[]; steps: JobRun[] }>({ sides, steps }, { activeContexts: 'one' });
  for (const [which, work] of [
    [{ sides, steps, machine }, slow],
    [{ ...there, machine: again }, other],
  ] as const) {
    while (work.unfinished > 0) work.finish();
    expect(which.steps.map((step) => step.report().rounds)).toEqual([4, 4]);
    for (const { space, start } of which.sides) expect([0, 1, 2, 3].map((i) => space.read(start + i * PAGE, 1)[0])).toEqual([7, 7, 7, 1]);
    expectClean(which.machine);
  }
  await Promise.all(running);
  again.close();
});

test('while a window is brought for a job that cannot replay a fault', async () => {
  const slow = new Slow();
  machine = smallMachine();
  const one = side(machine.addDevice(slow.driver({ replayable: false })));
  const step = one.context.jobStep(job(one));
  const running = machine.platform.scheduler.runAsync(step);
  const { again, there, slow: other } = await moved<{ one: Side; step: JobRun }>({ one, step }, { replayable: false });
  for (const [which, work] of [
    [{ one, step, machine }, slow],
    [{ ...there, machine: again }, other],
  ] as const) {
    while (work.unfinished > 0) work.finish();
    expect(which.step.report().rounds).toBe(1);
    expect(which.one.space.read(which.one.start + 2 * PAGE, 1)[0]).toBe(7);
    expectClean(which.machine);
  }
  await running;
  again.close();
});

test('by a reset that was about to begin', async () => {
  const slow = new Slow();
  machine = smallMachine();
  const one = side(machine.addDevice(slow.driver({})));
  const moving = one.context.migrateAsync({ start: one.start, end: one.start + 2 * PAGE }, { to: 'device' });
  slow.finish();
  await moving;
  const step = one.context.device.resetStep({ memory: 'lost' });
  const { again, there } = await moved<{ one: Side; step: Reset }>({ one, step }, {});
  again.platform.scheduler.runSync(there.step);
  expect(there.step.report().lost).toEqual([{ space: one.space.id, vpn: one.start / PAGE, pages: 2 }]);
  expect(there.one.space.dump({ start: one.start, end: one.start + 4 * PAGE })).toBe('!!HH');
  expect(one.space.dump({ start: one.start, end: one.start + 4 * PAGE })).toBe('DDHH');
  expectClean(again);
  again.close();
});
