/** The world of a race: a machine with two devices whose flushes and copies end when somebody says so, and what each verb is on the machine and on the oracle. */
import { type AddressSpace, type Context, createMachineSync, type Device, type Machine, type MemoryFile, MiB, type Ticket } from 'farfault';
import { type Copies, defineDriver, deviceTable, type Driver, type GmMmu, permits, type Ranges, type Translation } from 'farfault/gmem';
import type { Pin } from 'farfault/mm';
import * as oracle from '../../sdk/testing/oracle/oracle.ts';
import { SLOTS } from '../../sdk/testing/oracle/state.ts';
import type { Op } from './oracle-program.ts';

const PAGE = 4096;
export const SPACES = 4;
const PINS = 2;
const FILE_BYTES = 6 * PAGE;
const PROTS = ['none', 'r', 'rw', 'rw'] as const;

/** Work of a device that is not finished. */
interface Late {
  readonly ticket: Ticket;
  readonly work: () => void;
}

export class World {
  readonly machine: Machine;
  readonly spaces: (AddressSpace | undefined)[] = [];
  readonly contexts: Map<string, Context> = new Map();
  readonly devices: readonly Device[];
  readonly pins: (Pin | 'under way' | undefined)[] = new Array<undefined>(PINS).fill(undefined);
  readonly file: MemoryFile;
  /** Slots of spaces that a fork is filling. */
  readonly forking: Set<number> = new Set();
  readonly late: Late[] = [];
  isSlow = false;

  constructor(machine: Machine, wide: boolean) {
    machine.reset();
    this.machine = machine;
    const bytes = wide ? 3 * MiB : 6 * PAGE;
    this.devices = [
      machine.addDevice(this.#driver({ name: 'a', kind: 'private', bytes, granuleBytes: wide ? 2 * MiB : PAGE, atomics: ['exclusive'] })),
      machine.addDevice(this.#driver({ name: 'b', kind: 'coherent', bytes, granuleBytes: PAGE, atomics: ['native'] })),
    ];
    this.file = machine.createFile({ bytes: FILE_BYTES });
    this.spaces[0] = machine.createAddressSpace();
  }

  context(space: number, device: number): Context | undefined {
    return this.contexts.get(`${space} ${device}`);
  }

  /** Ends one piece of the work that is not finished. */
  finish(i: number): void {
    const [{ ticket, work }] = this.late.splice(i, 1) as [Late];
    work();
    ticket.complete();
  }

  #driver({
    name,
    kind,
    bytes,
    granuleBytes,
    atomics,
  }: { kind: 'private' | 'coherent'; bytes: number } & Required<Pick<Driver, 'name' | 'granuleBytes' | 'atomics'>>): Driver {
    const make = defineDriver((): Driver => ({
      name,
      granuleBytes,
      atomics,
      memory: [{ name: 'ram', kind, bytes }],
      attach: (context) => this.#attach(context),
    }));
    return make();
  }

  #attach(context: Context): GmMmu {
    const table = deviceTable(context);
    const cache = new Map<number, Translation>();
    const later = (what: string, work: () => void): Ticket | void => {
      if (!this.isSlow) return work();
      const ticket = context.ticket(what);
      this.late.push({ ticket, work });
      return ticket;
    };
    const copy = (what: string) => (copies: Copies) => {
      const kept = copies.keep();
      return later(what, () => kept.perform());
    };
    return {
      pmap: {
        enter(mappings) {
          mappings.each((vpn, pages) => forget(cache, vpn, pages));
          table.enter(mappings);
        },
        release: (ranges) => table.release(ranges),
      },
      tlb: {
        invalidate: (ranges) =>
          later(
            'flush',
            listed(ranges, (vpn, pages) => forget(cache, vpn, pages)),
          ),
      },
      walk: {
        translate(vpn, access) {
          const known = cache.get(vpn);
          if (permits(known, access)) return known;
          const found = table.walk(vpn, access);
          if (found) cache.set(vpn, found);
          return found;
        },
      },
      copy: { toDevice: copy('to the device'), toHost: copy('to the host'), zero: copy('zero') },
    };
  }
}

function forget(cache: Map<number, Translation>, start: number, pages: number): void {
  for (const vpn of [...cache.keys()]) if (vpn >= start && vpn < start + pages) cache.delete(vpn);
}

/** The ranges are lent: what is to be done with each, later. */
function listed(ranges: Ranges, each: (vpn: number, pages: number) => void): () => void {
  const list: [number, number][] = [];
  ranges.each((vpn, pages) => list.push([vpn, pages]));
  return () => list.forEach(([vpn, pages]) => each(vpn, pages));
}

/** The machine for one size of the universe. */
export function makeMachine(): Machine {
  return createMachineSync({ dram: 32 * MiB, deviceMemory: 8 * MiB, tablePages: 1024 });
}

/** The same on the oracle, which knows values; where pages are does not matter for them. */
export class Said {
  readonly world: oracle.World = oracle.createWorld();
  /** Index of the oracle's pin by the program's. */
  readonly pins: (number | undefined)[] = [];

  constructor() {
    oracle.addFile(this.world, FILE_BYTES, []);
    this.world.spaces[0] = oracle.createSpace();
  }
}

export function rangeOf(slot: number, slots: number): { readonly start: number; readonly end: number } {
  const last = SLOTS[slot + slots - 1]!;
  return { start: SLOTS[slot]!.vpn * PAGE, end: (last.vpn + last.pages) * PAGE };
}

export function addressOf(slot: number): number {
  return SLOTS[slot]!.vpn * PAGE;
}

export function wordOf(bytes: Uint8Array): number {
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
}

function bytesOf(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}

const EXCLUSIVE_ENDS: Readonly<Record<string, string>> = {
  done: 'ok',
  'no mapping': 'EFAULT',
  permission: 'EFAULT',
  'not supported': 'EOPNOTSUPP',
  'bus error': 'EIO',
};

/** A verb on both sides. `real`: undefined where it is not possible; else it begins at the call, and its result is a word or nothing. */
interface Verb {
  readonly real: (world: World, args: readonly number[]) => (() => Promise<unknown>) | undefined;
  readonly said: (said: Said, args: readonly number[]) => string;
  /** How it ends depends on where pages are: not compared. */
  readonly isLoose?: true;
}

type Here = (space: AddressSpace, args: readonly number[]) => Promise<unknown>;
type There = (context: Context, args: readonly number[]) => Promise<unknown>;

/** A verb of a space: the first argument. */
function inSpace(here: Here, said: (world: oracle.World, args: readonly number[]) => string, isLoose?: true): Verb {
  return {
    real({ spaces }, args) {
      const space = spaces[args[0]!];
      return space && (() => here(space, args));
    },
    said: ({ world }, args) => (world.spaces[args[0]!] ? said(world, args) : 'EBADF'),
    ...(isLoose ? { isLoose } : {}),
  };
}

/** A verb of a device, the second argument, in a space. */
function inContext(there: There, said: (world: oracle.World, args: readonly number[]) => string, isLoose?: true): Verb {
  return {
    real(world, args) {
      const context = world.context(args[0]!, args[1]!);
      return context && (() => there(context, args));
    },
    said: ({ world }, args) => (world.spaces[args[0]!] ? said(world, args) : 'EBADF'),
    ...(isLoose ? { isLoose } : {}),
  };
}

function nothing(): string {
  return 'ok';
}

function exclusive(world: oracle.World, space: number, slot: number, cpuReads: boolean): string {
  return EXCLUSIVE_ENDS[oracle.makeExclusive(world.spaces[space]!, slot, cpuReads)]!;
}

export const VERBS: Readonly<Record<string, Verb>> = {
  map: inSpace(
    async (space, [, slot, slots, kind]) => {
      const { start, end } = rangeOf(slot!, slots!);
      space.mmap({ bytes: end - start, at: start, fixed: true, shared: kind === 1 });
    },
    (world, [space, slot, slots, kind]) => {
      const { start, end } = rangeOf(slot!, slots!);
      const rest = { file: -1, offset: 0, hugetlb: false, special: '' } as const;
      const end_ = oracle.mmap(world, world.spaces[space!]!, {
        pages: (end - start) / PAGE,
        prot: 'rw',
        at: slot!,
        shared: kind === 1,
        ...rest,
      });
      return end_.startsWith('ok') ? 'ok' : end_;
    },
  ),
  'map file': {
    real(world, [space, slot, slots, kind]) {
      const there = world.spaces[space!];
      if (!there) return undefined;
      const { start, end } = rangeOf(slot!, slots!);
      return async () => void there.mmap({ bytes: end - start, at: start, fixed: true, shared: kind === 1, file: world.file });
    },
    said({ world }, [space, slot, slots, kind]) {
      const rest = { file: 0, offset: 0, hugetlb: false, special: '' } as const;
      const end = oracle.mmap(world, world.spaces[space!]!, { pages: slots!, prot: 'rw', at: slot!, shared: kind === 1, ...rest });
      return end.startsWith('ok') ? 'ok' : end;
    },
  },
  read: inSpace(
    async (space, [, slot]) => wordOf(await space.readAsync(addressOf(slot!), 4)),
    (world, [space, slot]) => oracle.access(world.spaces[space!]!, slot!, 0, undefined),
  ),
  write: inSpace(
    (space, [, slot, value]) => space.writeAsync(addressOf(slot!), bytesOf(value!)),
    (world, [space, slot, value]) => oracle.access(world.spaces[space!]!, slot!, 0, value!),
  ),
  load: inContext(
    async (context, [, , slot]) => wordOf(await context.readAsync(addressOf(slot!), 4)),
    (world, [space, , slot]) => oracle.access(world.spaces[space!]!, slot!, 0, undefined),
  ),
  store: inContext(
    (context, [, , slot, value]) => context.writeAsync(addressOf(slot!), bytesOf(value!)),
    (world, [space, , slot, value]) => oracle.access(world.spaces[space!]!, slot!, 0, value!),
  ),
  atomic: inContext(
    (context, [, , slot, operand]) => context.atomicAsync(addressOf(slot!), { op: 'add', bytes: 4, operand: operand! }),
    (world, [space, device, slot, operand]) => {
      const there = world.spaces[space!]!;
      // The first device makes the page its own for that, which not every page can be.
      const end = device === 0 ? exclusive(world, space!, slot!, false) : 'ok';
      if (end !== 'ok') return end;
      if (there.promises[slot!]?.prot !== 'rw') return 'EFAULT';
      const old = oracle.access(there, slot!, 0, undefined);
      if (old.startsWith('ok')) oracle.access(there, slot!, 0, (Number(old.slice(3)) + operand!) >>> 0);
      return old;
    },
  ),
  exclusive: {
    real(world, [space, device, slot, cpuReads]) {
      const context = world.context(space!, device!);
      if (!context) return undefined;
      const { vpn } = SLOTS[slot!]!;
      return async () => {
        const step = context.hmm.makeExclusive(vpn, { cpuReads: cpuReads === 1 }, (frame) => context.installAlone(vpn, frame));
        await world.machine.platform.scheduler.runAsync(step);
        const end = EXCLUSIVE_ENDS[step.outcome];
        if (end !== 'ok') throw Object.assign(new Error(step.outcome), { code: end });
      };
    },
    said: ({ world }, [space, , slot, cpuReads]) => (world.spaces[space!] ? exclusive(world, space!, slot!, cpuReads === 1) : 'EBADF'),
  },
  'to device': inContext((context, [, , slot, slots]) => context.migrateAsync(rangeOf(slot!, slots!), { to: 'device' }), nothing, true),
  'to host': inContext((context, [, , slot, slots]) => context.migrateAsync(rangeOf(slot!, slots!), { to: 'host' }), nothing, true),
  unmap: inSpace(
    (space, [, slot, slots]) => space.munmapAsync(rangeOf(slot!, slots!)),
    (world, [space, slot, slots]) => oracle.munmap(world, world.spaces[space!]!, slot!, slot! + slots!),
  ),
  protect: inSpace(
    (space, [, slot, slots, prot]) => space.mprotectAsync(rangeOf(slot!, slots!), PROTS[prot!]!),
    (world, [space, slot, slots, prot]) => oracle.mprotect(world.spaces[space!]!, slot!, slot! + slots!, PROTS[prot!]!),
  ),
  dontneed: inSpace(
    (space, [, slot, slots]) => space.madviseAsync(rangeOf(slot!, slots!), 'dontneed'),
    (world, [space, slot, slots]) => oracle.madvise(world.spaces[space!]!, slot!, slot! + slots!, 'dontneed'),
  ),
  hugepage: inSpace(
    (space, [, slot, slots]) => space.madviseAsync(rangeOf(slot!, slots!), 'hugepage'),
    (world, [space, slot, slots]) => oracle.madvise(world.spaces[space!]!, slot!, slot! + slots!, 'hugepage'),
  ),
  collapse: inSpace((space) => space.madviseAsync(rangeOf(0, 8), 'collapse'), nothing, true),
  remap: inSpace(
    async (space, [, slot, slots, to, dontUnmap]) => {
      await space.mremapAsync(rangeOf(slot!, slots!), { mayMove: true, to: addressOf(to!), dontUnmap: dontUnmap === 1 });
    },
    (world, [space, slot, slots, to, dontUnmap]) => {
      const options = { from: slot!, to: slot! + slots!, pages: slots!, mayMove: true, at: to!, dontUnmap: dontUnmap === 1 };
      const end = oracle.mremap(world, world.spaces[space!]!, options);
      return end.startsWith('ok') ? 'ok' : end;
    },
  ),
  fork: {
    real(world, [space, child, home]) {
      const { spaces, forking } = world;
      const parent = spaces[space!];
      if (!parent || spaces[child!] || forking.has(child!)) return undefined;
      forking.add(child!);
      return async () => {
        try {
          spaces[child!] = await parent.forkAsync({ device: home === 1 ? 'home' : 'share' });
        } finally {
          forking.delete(child!);
        }
      };
    },
    said({ world }, [space, child]) {
      if (!world.spaces[space!]) return 'EBADF';
      world.spaces[child!] = oracle.fork(world.spaces[space!]!, 'share');
      return 'ok';
    },
  },
  pin: {
    real({ spaces, pins }, [space, index, slot, write]) {
      const there = spaces[space!];
      if (!there || pins[index!]) return undefined;
      pins[index!] = 'under way';
      return async () => {
        try {
          pins[index!] = await there.pinAsync({ start: addressOf(slot!), end: addressOf(slot!) + PAGE }, { write: write === 1 });
        } catch (error) {
          pins[index!] = undefined;
          throw error;
        }
      };
    },
    said(said, [space, index, slot, write]) {
      const { world } = said;
      if (!world.spaces[space!]) return 'EBADF';
      const end = oracle.pinPages(world, world.spaces[space!]!, slot!, slot! + 1, write === 1, false);
      if (end === 'ok') said.pins[index!] = world.pins.length - 1;
      return end;
    },
  },
  'pin write': {
    real({ pins }, [index, value]) {
      const pin = pins[index!];
      return pin && pin !== 'under way' && pin.isWritable ? async () => pin.write(0, bytesOf(value!)) : undefined;
    },
    said({ world, pins }, [index, value]) {
      const pin = pins[index!];
      return pin === undefined ? 'not yet' : oracle.pinAccess(world, pin, 0, 0, value!);
    },
  },
  truncate: {
    real:
      ({ file }, [pages]) =>
      () =>
        file.truncateAsync(pages! * PAGE),
    said: ({ world }, [pages]) => oracle.truncateFile(world, 0, pages! * PAGE),
  },
  sync: {
    real:
      ({ file }) =>
      () =>
        file.syncAsync(),
    said: ({ world }) => oracle.syncFile(world, 0),
  },
  attach: {
    real({ spaces, contexts, devices }, [space, device]) {
      const there = spaces[space!];
      const name = `${space!} ${device!}`;
      return there && !contexts.has(name) ? async () => void contexts.set(name, there.attach(devices[device!]!)) : undefined;
    },
    said: nothing,
    isLoose: true,
  },
  detach: {
    real(world, [space, device]) {
      const context = world.context(space!, device!);
      if (!context) return undefined;
      return async () => {
        await context.detachAsync();
        world.contexts.delete(`${space!} ${device!}`);
      };
    },
    said: nothing,
    isLoose: true,
  },
  close: {
    real({ spaces, contexts }, [space]) {
      const there = spaces[space!];
      if (!there || space === 0) return undefined;
      return async () => {
        await there.closeAsync();
        spaces[space!] = undefined;
        for (const name of [...contexts.keys()]) if (name.startsWith(`${space!} `)) contexts.delete(name);
      };
    },
    said: ({ world }, [space]) => (world.spaces[space!] ? oracle.closeSpace(world, space!) : 'ok'),
  },
};

/** Verbs after which those of the same space, or device, end in other ways. */
export function endsOthers({ verb }: Op): boolean {
  return verb === 'close' || verb === 'detach';
}
