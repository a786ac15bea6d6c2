import { afterEach, describe, expect, test } from 'vitest';
import { type Context, isFarfaultError, type Machine } from 'farfault';
import { type CommandStep, defineDriver, DONE, type Driver, type Progress, type Run, type Ticket } from 'farfault/gmem';
import { expectClean, PAGE, smallMachine } from './probe.ts';

let machine: Machine;

afterEach(() => machine.close());

function refused(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (isFarfaultError(error)) return `${error.code}: ${error.message}`;
    throw error;
  }
  return 'done';
}

/** A driver with one command: answer with the sum of two numbers, at once or when its ticket completes. */
class Add implements CommandStep {
  readonly name = 'ADD';
  result: unknown = undefined;
  aborted = false;
  readonly #request: { a: number; b: number; slow?: boolean };
  readonly #context: Context;
  readonly #tickets: Ticket[];
  #ticket: Ticket | undefined;

  constructor(context: Context, request: { a: number; b: number; slow?: boolean }, tickets: Ticket[]) {
    this.#context = context;
    this.#request = request;
    this.#tickets = tickets;
  }

  next(run: Run): Progress {
    if (this.#request.slow && !this.#ticket) {
      this.#ticket = this.#context.ticket('adding');
      this.#tickets.push(this.#ticket);
    }
    if (this.#ticket?.state === 'pending') return run.waitFor(this.#ticket);
    this.result = this.#request.a + this.#request.b;
    return DONE;
  }
}

const adder = defineDriver(({ tickets = [] }: { tickets?: Ticket[] }): Driver => ({
  name: 'adder',
  attach: (context) => ({
    command(request) {
      if (typeof request !== 'object' || request === null) throw new Error('ENOTTY');
      return new Add(context, request as { a: number; b: number }, tickets);
    },
  }),
}));

describe('a driver’s command', () => {
  test('is run as a step, and its result is what the caller gets', () => {
    machine = smallMachine();
    const context = machine.createAddressSpace().attach(machine.addDevice(adder()));
    expect(context.command({ a: 2, b: 3 })).toBe(5);
    expectClean(machine);
  });

  test('that has to wait stops a synchronous caller with EBUSY, and keeps a promise open', async () => {
    machine = smallMachine();
    const tickets: Ticket[] = [];
    const context = machine.createAddressSpace().attach(machine.addDevice(adder({ tickets })));
    expect(refused(() => context.command({ a: 1, b: 1, slow: true }))).toContain('EBUSY');
    const promise = context.commandAsync({ a: 20, b: 3, slow: true });
    expect(tickets.length).toBe(2);
    for (const ticket of tickets) ticket.complete();
    expect(await promise).toBe(23);
    expectClean(machine);
  });

  test('that the driver does not know throws what the driver throws, and the context works on', () => {
    machine = smallMachine();
    const space = machine.createAddressSpace();
    const context = space.attach(machine.addDevice(adder()));
    expect(() => context.command('what')).toThrow('ENOTTY');
    const range = space.mmap({ bytes: PAGE });
    expect([...context.read(range.start, 1)]).toEqual([0]);
    expectClean(machine);
  });

  test('is not offered by a driver without a control interface, nor by one that has left', () => {
    machine = smallMachine();
    const space = machine.createAddressSpace();
    const plain = space.attach(machine.addDevice(defineDriver((): Driver => ({ name: 'plain', attach: () => ({}) }))()));
    expect(refused(() => plain.command({}))).toBe('EOPNOTSUPP: command "plain" has no control interface');
    const context = space.attach(machine.addDevice(adder()));
    context.detach();
    expect(refused(() => context.command({ a: 1, b: 2 }))).toContain('EBADF');
    expectClean(machine);
  });

  test('must be a function that returns a step', () => {
    machine = smallMachine();
    const space = machine.createAddressSpace();
    const wrong = defineDriver(({ command }: { command: unknown }): Driver => ({ name: 'wrong', attach: () => ({ command }) as never }));
    const device = machine.addDevice(wrong({ command: 5 }));
    expect(refused(() => space.attach(device))).toBe('EINVAL: wrong.command 5 is not a function');
    machine.reset();
    const context = machine.createAddressSpace().attach(machine.addDevice(wrong({ command: () => ({}) })));
    expect(refused(() => context.command({}))).toBe('EINVAL: wrong.command result an object is not a step');
    expectClean(machine);
  });
});
