/// <reference path="../../core/host.d.ts" />
/** How a case waits for a device that takes its time: turn by turn, and not for ever. */
import type { Machine } from '../../machine.ts';
import type { FaultPlan } from '../middleware/index.ts';
import { ContractFailure } from './case.ts';

/** Turns that a case waits for a ticket before it says that the ticket is never completed. */
export const PATIENCE_TURNS = 400;

/** Who waits in one world. */
export class Patience {
  private readonly machine: Machine;
  private readonly settle: (() => Promise<void>) | undefined;

  /** `settle`: has the devices end what they are at; undefined: they do so by timers, or need no time. */
  constructor(machine: Machine, settle: (() => Promise<void>) | undefined) {
    this.machine = machine;
    this.settle = settle;
  }

  /** Waits for an operation. Throws ContractFailure when it never ends. */
  async wait<T>(operation: Promise<T>): Promise<T> {
    let ended = false;
    const settled = operation.then(
      () => (ended = true),
      () => (ended = true),
    );
    let waits = '';
    let since = 0;
    for (let turns = 0; !ended; turns++) {
      // What needs no device ends in microtasks.
      for (let i = 0; i < 20 && !ended; i++) await Promise.resolve();
      if (ended) break;
      // A long operation waits for many tickets, one after the other.
      const now = this.machine.pending.map(({ waitsFor }) => waitsFor).join();
      if (now !== waits) since = turns;
      waits = now;
      if (turns - since >= PATIENCE_TURNS || turns >= PATIENCE_TURNS * 50) throw new ContractFailure(this.stuck());
      await this.settle?.();
      // What `settle` has ended may have been all; timers only run for those that need them.
      if (this.settle && turns % 8 !== 7) continue;
      await turn();
    }
    await settled;
    return operation;
  }

  /** The same, for a device that a plan makes late: what is late comes to its end after a moment. */
  async waitLate<T>(operation: Promise<T>, plan: FaultPlan): Promise<T> {
    let ended = false;
    operation.then(
      () => (ended = true),
      () => (ended = true),
    );
    for (let turns = 0; !ended && turns < PATIENCE_TURNS; turns++) {
      for (let i = 0; i < 20 && !ended; i++) await Promise.resolve();
      if (ended) break;
      plan.finish();
      // The driver may be one that takes its time by itself.
      if (turns % 2 === 1) await this.turns(1);
    }
    return this.wait(operation);
  }

  /** Waits until nothing is unfinished. Throws ContractFailure when that never comes. */
  async idle(): Promise<void> {
    for (let turns = 0; this.machine.pending.length > 0; turns++) {
      if (turns >= PATIENCE_TURNS) throw new ContractFailure(this.stuck());
      await this.turns(1);
    }
  }

  /** Waits until `holds`. Throws ContractFailure when it never does. */
  async until(holds: () => boolean, what: string): Promise<void> {
    for (let turns = 0; !holds(); turns++) {
      if (turns >= PATIENCE_TURNS) throw new ContractFailure(`${what} never comes: ${this.stuck()}`);
      await this.settle?.();
      if (!holds()) await turn();
    }
  }

  /** Lets the device go on for some turns. */
  async turns(count: number): Promise<void> {
    for (let i = 0; i < count; i++) {
      await this.settle?.();
      await turn();
    }
  }

  /** What does not end, and what it waits for. */
  stuck(): string {
    const waits = this.machine.pending.map(({ steps, waitsFor }) => `${steps.join(' > ')} waits for ${waitsFor || 'its turn'}`);
    return `does not end${waits.length > 0 ? `: ${waits.join('; ')}` : ''}`;
  }
}

/** One turn of timers and promises. */
function turn(): Promise<void> {
  // A device that takes its time may take it from the clock.
  // eslint-disable-next-line no-restricted-globals
  return new Promise((resolve) => setTimeout(resolve, 0));
}
