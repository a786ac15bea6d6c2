/**
 * Every state of a small world: two pages, a CPU, two devices. An explorer takes each operation in each state that it has found, breadth first, and knows a state again by everything
 * that decides what comes next: mappings, entries, where each byte is and whether it is the last one written, tables and caches of the devices, the CPU's TLB.
 *
 * There is no undoing: a state is reached again by its shortest program, from the empty machine.
 */
import { type AddressSpace, type Context, createMachineSync, type Device, isFarfaultError, type Machine } from 'farfault';
import { defineDriver, deviceTable, type Driver, type GmMmu, permits, type Ranges, type Translation } from 'farfault/gmem';
import * as L from '../../assembly/layout.ts';
import { Evict } from '../../sdk/gmem/evict.ts';

const PAGE = 4096;
const BASE = 2 ** 16;
export const PAGES = 2;

/** What the two devices are. */
export interface SmallDevice {
  readonly name: string;
  /** Pages of its memory; 0: it uses the pages of the host. */
  readonly pages: number;
  readonly kind?: 'private' | 'coherent';
}

/** What else is so from the beginning. */
export interface SmallWorldOptions {
  readonly devices: readonly [SmallDevice, SmallDevice];
  /** After the devices have been attached. */
  readonly arrange?: (world: SmallWorld) => void;
}

/** One operation: it does something, and throws when what it sees is wrong. */
export interface SmallOperation {
  readonly name: string;
  readonly run: (world: SmallWorld) => void;
}

/** What a device knows. */
interface Mirror {
  /** Descriptor of its table. */
  readonly table: number;
  readonly cache: Map<number, Translation>;
}

/** The device of this world: a table that is the core's, a cache that is its own and only emptied when it is told to. */
const device = defineDriver((options: { of?: SmallDevice; mirrors?: Mirror[] }): Driver => {
  const { name, pages, kind = 'private' } = options.of!;
  return {
    name,
    memory: pages > 0 ? [{ name: 'ram', kind, bytes: pages * PAGE }] : [],
    attach(context): GmMmu {
      const table = deviceTable(context);
      const cache = new Map<number, Translation>();
      options.mirrors!.push({ table: table.table, cache });
      return {
        pmap: { enter: (mappings) => table.enter(mappings), release: (ranges) => table.release(ranges) },
        tlb: { invalidate: (ranges) => forget(cache, ranges) },
        walk: {
          translate(vpn, access) {
            const known = cache.get(vpn);
            if (permits(known, access)) return known;
            const found = table.walk(vpn, access);
            if (found) cache.set(vpn, found);
            return found;
          },
        },
      };
    },
  };
});

function forget(cache: Map<number, Translation>, ranges: Ranges): void {
  ranges.each((start, pages) => {
    for (const vpn of [...cache.keys()]) if (vpn >= start && vpn < start + pages) cache.delete(vpn);
  });
}

const codeOf = (operation: () => void): string => {
  try {
    operation();
    return 'done';
  } catch (error) {
    if (isFarfaultError(error)) return error.code;
    throw error;
  }
};

/** The machine, and what must be there: for each page its rights, if it is mapped, and the byte that was written last. */
export class SmallWorld {
  readonly machine: Machine;
  readonly space: AddressSpace;
  readonly devices: readonly Device[];
  readonly contexts: readonly Context[];
  readonly prots: ('rw' | 'r' | undefined)[] = new Array<'rw'>(PAGES).fill('rw');
  readonly bytes: number[] = new Array<number>(PAGES).fill(0);
  private readonly mirrors: Mirror[] = [];

  constructor(machine: Machine, { devices, arrange }: SmallWorldOptions) {
    machine.reset();
    this.machine = machine;
    this.space = machine.createAddressSpace();
    for (let page = 0; page < PAGES; page++) this.map(page);
    this.devices = devices.map((of) => machine.addDevice(device({ of, mirrors: this.mirrors })));
    this.contexts = this.devices.map((each) => this.space.attach(each));
    arrange?.(this);
  }

  map(page: number): void {
    this.space.mmap({ at: at(page), bytes: PAGE, fixed: true });
    this.prots[page] = 'rw';
    this.bytes[page] = 0;
  }

  /** A load of the CPU (-1) or of a device: it sees the last write, or that it may not. */
  read(who: number, page: number): void {
    const from = who < 0 ? this.space : this.contexts[who]!;
    let seen = -1;
    const code = codeOf(() => (seen = from.read(at(page), 1)[0]!));
    const wanted = this.prots[page] ? 'done' : 'EFAULT';
    if (code !== wanted) throw new Error(`the read ends with ${code}, not with ${wanted}`);
    if (code === 'done' && seen !== this.bytes[page]) throw new Error(`reads ${seen}, and ${this.bytes[page]} was written last`);
  }

  /** A store. Bytes go round, so that no state is there twice for its bytes' sake; an old one is told from the last one all the same. */
  write(who: number, page: number): void {
    const to = who < 0 ? this.space : this.contexts[who]!;
    const value = (this.bytes[page]! % 200) + 1;
    const code = codeOf(() => to.write(at(page), Uint8Array.of(value)));
    const wanted = this.prots[page] === 'rw' ? 'done' : 'EFAULT';
    if (code !== wanted) throw new Error(`the write ends with ${code}, not with ${wanted}`);
    if (code === 'done') this.bytes[page] = value;
  }

  /** The page's frame goes from whatever device has it. */
  evict(page: number): void {
    const { core, nodes, scheduler } = this.machine.platform;
    const high = core.entry(this.space.table, BASE + page);
    if ((high & L.ENTRY_KIND) === L.KIND_NONE) return;
    const frame = core.entryLow;
    const owner = this.devices.find((each) => each.owner === nodes.of(frame).owner);
    const memory = owner?.holding(frame);
    if (memory) scheduler.runSync(new Evict(this.machine.platform).from(memory).frames([frame]));
  }

  unmap(page: number): void {
    this.space.munmap(range(page));
    this.prots[page] = undefined;
  }

  /** Everything that decides what comes next, but for the numbers of frames and the bytes themselves. */
  key(): string {
    const { core, nodes } = this.machine.platform;
    const stateOf = (frame: number, page: number): string => {
      const node = nodes.of(frame);
      const byte = core.u8[core.frameBytes(frame)]!;
      const flags = core.field(core.frameRecord(frame), L.FRAME_FLAGS) & ~(L.FRAME_NODE | L.FRAME_STATE);
      return `${node.index}${byte === this.bytes[page] ? (byte === 0 ? 'z' : 'n') : 'old'}${flags.toString(16)}`;
    };
    const parts: string[] = [];
    for (let page = 0; page < PAGES; page++) {
      const vpn = BASE + page;
      const entry = (table: number): string => {
        const high = core.entry(table, vpn);
        const frame = core.entryLow;
        return (high & L.ENTRY_KIND) === L.KIND_NONE ? '-' : `${high.toString(16)}@${high & L.ENTRY_ZERO ? 'zero' : stateOf(frame, page)}`;
      };
      const caches = this.mirrors.map(({ cache }) => {
        const known = cache.get(vpn);
        return known ? `${String(known.memory)}${known.write ? 'w' : 'r'}` : '-';
      });
      const tables = [this.space, ...this.mirrors].map(({ table }) => entry(table));
      parts.push([this.prots[page] ?? 'no', ...tables, ...caches, tlbOf(core, this.space, vpn)].join(' '));
    }
    return `${parts.join(' | ')} | ${this.machine.nodes.map((node) => node.used).join(' ')}`;
  }

  /** Nothing is broken, and nothing is left behind when all is unmapped. */
  check(): void {
    const broken = this.machine.verify();
    if (broken !== undefined) throw new Error(broken);
    if (this.machine.strayErrors.length > 0) throw new Error(`stray: ${String(this.machine.strayErrors[0])}`);
  }

  close(): void {
    this.space.close();
    this.check();
    for (const { name, used } of this.machine.nodes) if (used !== 0) throw new Error(`${name} has ${used} frames in use at the end`);
  }
}

const at = (page: number): number => (BASE + page) * PAGE;
const range = (page: number): { start: number; end: number } => ({ start: at(page), end: at(page + 1) });

/** What the CPU's TLB has of a page. */
function tlbOf(core: Machine['platform']['core'], space: AddressSpace, vpn: number): string {
  const set = space.tlb + L.TLB_HEADER_BYTES + (vpn & (core.field(space.tlb, L.TLB_SETS) - 1)) * L.TLB_SET_BYTES;
  for (let way = set; way < set + L.TLB_SET_BYTES; way += L.TLB_WAY_BYTES) {
    const [low, high] = [core.field(way, 0), core.field(way, 4)];
    const isOf = low >>> L.PAGE_SHIFT === (vpn & 0xfffff) && (high & L.ACCESS_ADDRESS_HIGH) === Math.floor(vpn / 2 ** 20);
    if (low & L.TLB_VALID && isOf) return `t${low & L.TLB_WRITE ? 'w' : ''}${high & L.TLB_DIRTY ? 'd' : ''}`;
  }
  return '-';
}

/** All that can be done, to each page. */
export function operationsOf({ devices }: SmallWorldOptions): SmallOperation[] {
  const operations: SmallOperation[] = [];
  const names = ['the CPU', ...devices.map(({ name }) => name)];
  for (let page = 0; page < PAGES; page++) {
    const add = (name: string, run: (world: SmallWorld) => void): number => operations.push({ name: `${name} page ${page}`, run });
    names.forEach((name, i) => {
      add(`${name} reads`, (world) => world.read(i - 1, page));
      add(`${name} writes`, (world) => world.write(i - 1, page));
    });
    devices.forEach(({ name, pages }, i) => {
      if (pages > 0) add(`${name} takes`, (world) => mapped(world, page, () => world.contexts[i]!.migrate(range(page), { to: 'device' })));
    });
    add('evict', (world) => world.evict(page));
    add('munmap', (world) => world.unmap(page));
    add('mmap', (world) => world.prots[page] ?? world.map(page));
    for (const prot of ['r', 'rw'] as const)
      add(`mprotect ${prot}`, (world) =>
        mapped(world, page, () => {
          world.space.mprotect(range(page), prot);
          world.prots[page] = prot;
        }),
      );
    add('madvise dontneed', (world) =>
      mapped(world, page, () => {
        world.space.madvise(range(page), 'dontneed');
        world.bytes[page] = 0;
      }),
    );
  }
  return operations;
}

function mapped(world: SmallWorld, page: number, what: () => unknown): void {
  if (world.prots[page]) what();
}

/** What an exploration has found. */
export interface SmallStates {
  /** New states at each depth: element 0 is the empty machine. */
  readonly states: readonly number[];
  /** Operations taken in a state for the first time. */
  readonly transitions: number;
  /** Whether every operation has been taken in every state: there are no others. */
  readonly complete: boolean;
}

/** A state, and what has been done in it. */
interface State {
  readonly depth: number;
  /** The way to it that was found first: operations by number. */
  readonly program: readonly number[];
  /** Where each operation leads to that has been taken. */
  readonly leads: State[];
}

/** Steps on known ways that are gone instead of beginning anew. */
const WAY_MAX = 2;

/** Takes every operation in every state up to `depth` operations from the beginning. Throws at the first that is wrong, with its program. */
export function explore(options: SmallWorldOptions, depth: number): SmallStates {
  return new Explorer(options).explore(depth);
}

class Explorer {
  private readonly options: SmallWorldOptions;
  private readonly operations: readonly SmallOperation[];
  private readonly machine = createMachineSync({ dram: 64 * 1024, deviceMemory: 64 * 1024, tablePages: 64, tables: 8 });
  private readonly known = new Map<string, State>();
  private readonly states: State[][] = [];
  private transitions = 0;
  private world: SmallWorld | undefined = undefined;
  /** What has been done last, for the error text. */
  private last: readonly number[] = [];

  constructor(options: SmallWorldOptions) {
    this.options = options;
    this.operations = operationsOf(options);
  }

  explore(depth: number): SmallStates {
    this.world = new SmallWorld(this.machine, this.options);
    this.arrive([]);
    for (let at = 0; at < depth && this.states[at]; at++) for (const state of this.states[at]!) this.exhaust(state, at);
    this.world.close();
    this.machine.close();
    const { states, transitions } = this;
    return { states: states.map((each) => each.length), transitions, complete: states.length <= depth };
  }

  /** Takes what has not been taken in this state, and in others not deeper than it where the way leads there. */
  private exhaust(goal: State, depth: number): void {
    while (this.isOpen(goal, depth)) {
      this.begin(this.last);
      let state = goal;
      for (const i of goal.program) this.run(i, goal.program);
      for (let way: readonly number[] | undefined = []; way; way = this.wayOn(state, depth)) {
        for (const i of way) {
          this.run(i, [...state.program, i]);
          state = state.leads[i]!;
        }
        const program = [...state.program, state.leads.length];
        this.run(state.leads.length, program);
        this.transitions++;
        const next = this.arrive(program);
        state.leads.push(next);
        state = next;
      }
    }
  }

  private isOpen(state: State, depth: number): boolean {
    return state.depth <= depth && state.leads.length < this.operations.length;
  }

  /** The shortest known way from here to a state where something is left to take; undefined: begin anew. */
  private wayOn(from: State, depth: number): readonly number[] | undefined {
    const seen = new Set([from]);
    let front: (readonly [State, readonly number[]])[] = [[from, []]];
    for (let length = 0; length <= WAY_MAX; length++) {
      const next: (readonly [State, readonly number[]])[] = [];
      for (const [state, way] of front) {
        if (this.isOpen(state, depth)) return way;
        state.leads.forEach((to, i) => {
          if (!seen.has(to)) next.push([to, [...way, i]]);
          seen.add(to);
        });
      }
      front = next;
    }
    return undefined;
  }

  /** The world as it was in the beginning: whatever has been done, unmapping everything gives everything back. */
  private begin(program: readonly number[]): void {
    const world = this.world!;
    this.blaming(program, () => {
      for (let page = 0; page < PAGES; page++) {
        if (world.prots[page]) world.unmap(page);
        world.map(page);
      }
      if (!this.known.has(world.key()) || this.arrive([]) !== this.states[0]![0])
        throw new Error(`unmapping everything leaves ${world.key()}`);
    });
  }

  private run(i: number, program: readonly number[]): void {
    this.last = program;
    this.blaming(program, () => this.operations[i]!.run(this.world!));
  }

  /** The state that the world is in now; a new one is looked at closely. */
  private arrive(program: readonly number[]): State {
    const key = this.world!.key();
    const known = this.known.get(key);
    if (known) return known;
    this.blaming(program, () => this.world!.check());
    const state: State = { depth: program.length, program, leads: [] };
    this.known.set(key, state);
    (this.states[program.length] ??= []).push(state);
    return state;
  }

  private blaming(program: readonly number[], what: () => void): void {
    try {
      what();
    } catch (error) {
      const names = program.map((each) => this.operations[each]!.name).join(', ');
      throw new Error(`${names}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
    }
  }
}
