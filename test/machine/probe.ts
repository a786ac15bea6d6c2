/** A small machine, and a device whose every operation is recorded, can be made to throw, and can be left unfinished. */
import { expect } from 'vitest';
import { createMachineSync, MiB, type Machine, type MachineOptions, type Ticket } from 'farfault';
import {
  type Copies,
  type Driver,
  defineDriver,
  deviceTable,
  type GmMmu,
  permits,
  type Phys,
  type Ranges,
  type Translation,
} from 'farfault/gmem';

export const PAGE = 4096;

export function smallMachine(options: MachineOptions = {}): Machine {
  return createMachineSync({ dram: 1 * MiB, deviceMemory: 1 * MiB, tablePages: 512, ...options });
}

/** Frames in use of every node: what must be as it was when everything is given back. */
export function used(machine: Machine): string {
  return machine.nodes.map((node) => `${node.name} ${node.used}`).join(', ');
}

/** Nothing is broken, unfinished, or went wrong unheard. */
export function expectClean(machine: Machine): void {
  expect(machine.strayErrors).toEqual([]);
  expect(machine.pending).toEqual([]);
  expect(machine.tickets).toEqual([]);
  expect(machine.verify()).toBe(undefined);
}

export type Operation =
  | 'enter'
  | 'release'
  | 'invalidate'
  | 'translate'
  | 'toDevice'
  | 'toHost'
  | 'zero'
  | 'peer'
  | 'allocPage'
  | 'freePage'
  | 'victims'
  | 'detach'
  | 'destroy';

export interface ProbeOptions {
  readonly name?: string;
  /** Pages of its memory; 0: it has none. Default 16. */
  readonly pages?: number;
  readonly allocator?: 'core' | 'driver';
  readonly granulePages?: number;
  readonly faultEntries?: number;
  /** Its engine reaches the memories of devices that it is linked with. */
  readonly peer?: boolean;
  /** Keeps translations in a cache of its own. */
  readonly cached?: boolean;
}

/** The driver of one device, seen from inside. */
export class Probe {
  readonly log: string[] = [];
  /** Operations that throw from now on. */
  readonly broken: Set<Operation> = new Set();
  /** Operations that are left unfinished: their tickets end with `finish` or `giveUp`. */
  readonly slow: Set<Operation> = new Set();
  /** Flushes that the driver forgets. */
  forgetful = false;
  readonly driver: Driver;
  readonly freed: number[] = [];
  readonly #unfinished: { readonly ticket: Ticket; readonly work: () => void }[] = [];

  constructor(options: ProbeOptions = {}) {
    this.driver = make({ probe: this, ...options });
  }

  get unfinished(): number {
    return this.#unfinished.length;
  }

  /** Ends what is unfinished, and what that begins. */
  finish(): void {
    for (let next = this.#unfinished.shift(); next; next = this.#unfinished.shift()) {
      next.work();
      next.ticket.complete();
    }
  }

  /** Ends the oldest of what is unfinished. */
  finishOne(): void {
    const next = this.#unfinished.shift()!;
    next.work();
    next.ticket.complete();
  }

  /** What is unfinished will never be done. */
  giveUp(): void {
    for (let next = this.#unfinished.shift(); next; next = this.#unfinished.shift()) next.ticket.fail('the engine is broken');
  }

  did(operation: Operation, what = ''): void {
    this.log.push(what ? `${operation} ${what}` : operation);
    if (this.broken.has(operation)) throw new Error(`${operation} is broken`);
  }

  later(operation: Operation, open: (what: string) => Ticket, work: () => void): Ticket | void {
    if (!this.slow.has(operation)) return work();
    const ticket = open(operation);
    this.#unfinished.push({ ticket, work });
    return ticket;
  }
}

function printed(ranges: Ranges): string {
  const parts: string[] = [];
  ranges.each((vpn, pages) => parts.push(pages > 1000 ? 'all' : `${vpn.toString(16)}+${pages}`));
  return parts.join(' ');
}

const make = defineDriver((options: ProbeOptions & { probe?: Probe }): Driver => {
  const {
    probe = new Probe(),
    name = 'probe',
    pages = 16,
    allocator = 'core',
    granulePages = 1,
    faultEntries = 256,
    peer = false,
    cached = false,
  } = options;
  const free = Array.from({ length: pages }, (_, page) => page);
  const taken: number[] = [];
  const phys: Phys = {
    allocPage() {
      probe.did('allocPage');
      const page = free.shift();
      if (page !== undefined) taken.push(page);
      return page;
    },
    freePage(page) {
      free.push(page);
      taken.splice(taken.indexOf(page), 1);
      probe.freed.push(page);
      probe.did('freePage', String(page));
    },
    victims(spared) {
      probe.did('victims');
      return taken.filter((page) => !spared(page)).slice(0, 1);
    },
  };
  return {
    name,
    memory: pages > 0 ? [{ name: 'ram', kind: 'private', bytes: pages * PAGE, allocator }] : [],
    granuleBytes: granulePages * PAGE,
    faultEntries,
    attach(context): GmMmu {
      const table = deviceTable(context);
      const cache = new Map<number, Translation>();
      const open = (what: string): Ticket => context.ticket(what);
      const flush = (ranges: Ranges): void => {
        const gone: [number, number][] = [];
        ranges.each((vpn, count) => gone.push([vpn, count]));
        for (const vpn of [...cache.keys()]) if (gone.some(([start, count]) => vpn >= start && vpn < start + count)) cache.delete(vpn);
      };
      const copy = (operation: Operation, copies: Copies): Ticket | void => {
        probe.did(operation, String(copies.pages));
        const kept = copies.keep();
        return probe.later(operation, open, () => kept.perform());
      };
      return {
        pmap: {
          enter(mappings) {
            probe.did('enter', String(mappings.pages));
            table.enter(mappings);
          },
          release(ranges) {
            probe.did('release', printed(ranges));
            table.release(ranges);
          },
          destroy: () => probe.did('destroy'),
        },
        tlb: {
          invalidate(ranges) {
            probe.did('invalidate', printed(ranges));
            if (probe.forgetful) return;
            const starts: [number, number][] = [];
            ranges.each((vpn, count) => starts.push([vpn, count]));
            return probe.later('invalidate', open, () => {
              for (const [vpn, count] of starts) flush({ each: (visit: (v: number, p: number) => void) => visit(vpn, count) } as Ranges);
            });
          },
        },
        walk: {
          translate(vpn, access) {
            if (probe.broken.has('translate')) throw new Error('translate is broken');
            const known = cache.get(vpn);
            if (cached && permits(known, access)) return known;
            const found = table.walk(vpn, access);
            if (found) cache.set(vpn, found);
            return found;
          },
        },
        copy: {
          toDevice: (copies) => copy('toDevice', copies),
          toHost: (copies) => copy('toHost', copies),
          zero: (copies) => copy('zero', copies),
          ...(peer ? { peer: (copies: Copies) => copy('peer', copies) } : {}),
        },
        ...(allocator === 'driver' ? { phys } : {}),
        detach: () => probe.did('detach'),
      };
    },
  };
});

/** The driver itself, for tests that need no look inside. */
export const probeDriver = (options: ProbeOptions = {}): Driver => new Probe(options).driver;
