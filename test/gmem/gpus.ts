/** A machine with one space at a known place, and devices in it whose work can be left unfinished. */
import type { AddressSpace, Context, Device, DevicePolicy, Machine, MachineEvent, MachineOptions, Ticket } from 'farfault';
import { type Copies, defineDriver, type Driver } from 'farfault/gmem';
import { expect } from 'vitest';
import { expectClean, PAGE, Probe, type ProbeOptions, smallMachine, used } from '../machine/probe.ts';

export const BASE = 0x1000_0000;

/** The pages `[from, to)` of it, in bytes. */
export const at = (from: number, to: number): { start: number; end: number } => ({ start: BASE + from * PAGE, end: BASE + to * PAGE });

export interface Gpu {
  readonly probe: Probe;
  readonly device: Device;
  readonly context: Context;
}

export class World {
  readonly machine: Machine;
  readonly space: AddressSpace;
  readonly events: MachineEvent[] = [];

  constructor(options: MachineOptions = {}) {
    this.machine = smallMachine(options);
    this.space = this.machine.createAddressSpace();
    this.machine.onEvent((event) => this.events.push(event));
  }

  gpu(options: ProbeOptions = {}, policy: DevicePolicy = {}): Gpu {
    const probe = new Probe(options);
    const device = this.machine.addDevice(probe.driver, policy);
    return { probe, device, context: this.space.attach(device) };
  }

  /** Maps pages `[from, to)`, page i full of the byte i + 1. */
  fill(from: number, to: number): void {
    this.space.mmap({ bytes: (to - from) * PAGE, at: at(from, to).start, fixed: true });
    for (let page = from; page < to; page++) this.space.write(at(page, page).start, new Uint8Array(PAGE).fill(page + 1));
  }

  /** Where pages are, by the letters of `dump`: W at home, D on a device, m on its way. */
  dump(from: number, to: number): string {
    return this.space.dump(at(from, to)).trim().split(/\s+/).pop()!.replaceAll('H', 'W').replaceAll('E', 'D');
  }

  /** Ends it: every frame is back, and nothing went wrong unheard. */
  end(): void {
    const { machine } = this;
    for (const space of machine.spaces) space.close();
    for (const { memories } of machine.devices) for (const { node } of memories) expect(node.used).toBe(0);
    expect(used(machine)).toContain('dram 0');
    expectClean(machine);
    machine.close();
  }
}

/** A driver without state of its own, which a saved machine can do with; `begun`: the copies that its engine has not finished, all of them while `slow`. */
export class SlowEngine {
  slow = false;
  readonly begun: { readonly ticket: Ticket; readonly copies: Copies }[] = [];

  driver(name: string): Driver {
    const copy =
      (context: Context) =>
      (copies: Copies): Ticket | void => {
        if (!this.slow) return copies.perform();
        const ticket = context.ticket('copy');
        this.begun.push({ ticket, copies: copies.keep() });
        return ticket;
      };
    return defineDriver(() => ({
      name,
      memory: [{ name: 'ram', kind: 'private' as const, bytes: 16 * PAGE }],
      attach: (context: Context) => ({ copy: { toDevice: copy(context), toHost: copy(context), zero: copy(context) } }),
    }))();
  }

  finish(): void {
    this.slow = false;
    for (let next = this.begun.shift(); next; next = this.begun.shift()) {
      next.copies.perform();
      next.ticket.complete();
    }
  }
}
