/** A program on the machine and on the oracle: after every operation both must say the same and be in the same state. */
import { isFarfaultError } from '../../sdk/errors.ts';
import type { Context } from '../../sdk/gmem/context.ts';
import type { Device } from '../../sdk/gmem/device.ts';
import type { OwnMemory } from '../../sdk/gmem/own-memory.ts';
import { defineDriver, type Driver, type MemoryDescription } from '../../sdk/gmem/index.ts';
import { createMachineSync, type Machine } from '../../sdk/machine.ts';
import type { AddressSpace } from '../../sdk/mm/address-space.ts';
import { MakeExclusive } from '../../sdk/mm/exclusive.ts';
import type { MemoryFile } from '../../sdk/mm/page-cache.ts';
import type { Pin } from '../../sdk/mm/pin.ts';
import * as L from '../../assembly/layout.ts';
import * as oracle from '../../sdk/testing/oracle/oracle.ts';
import { type Entry, type Memory, type Page, SLOTS, type Slot, WORD_OFFSETS } from '../../sdk/testing/oracle/state.ts';
import { type Op, OpMaker, PINS_MAX, printOps, SPACES_MAX } from './oracle-program.ts';

const PAGE = 4096;
const MIB = 2 ** 20;
const PROTS = ['none', 'r', 'rw'] as const;
const ADVICE = ['dontneed', 'free', 'hugepage', 'nohugepage', 'collapse', 'dontfork', 'dofork'] as const;
const FORKS = ['share', 'home', 'omit'] as const;
const SPECIAL = { 5: 'mixed', 6: 'pfn', 7: 'io', 8: 'mixed', 9: 'pfn' } as const;

/** Operations between two full comparisons. */
const FULL_EVERY = 16;
const VERIFY_EVERY = 256;

export class Divergence extends Error {}

interface DeviceSpec {
  readonly name: string;
  readonly granulePages: number;
  readonly kinds: readonly ('private' | 'coherent')[];
  readonly atomics: readonly ('native' | 'exclusive' | 'migrate')[];
}

const DEVICE_SPECS: readonly DeviceSpec[] = [
  { name: 'a', granulePages: 1, kinds: ['private'], atomics: ['migrate'] },
  { name: 'b', granulePages: 1, kinds: ['coherent'], atomics: ['native'] },
  { name: 'c', granulePages: 512, kinds: ['private', 'coherent'], atomics: ['exclusive', 'migrate'] },
  { name: 'd', granulePages: 1, kinds: [], atomics: ['exclusive'] },
];

const MEMORY_BYTES = 32 * MIB;
/** Memories of all devices together. */
const MEMORIES_MAX = 6;
const DRAM = 64 * MIB;
const FILE_BYTES = [6 * PAGE, 3 * PAGE + 1028];

function describe(name: string, kind: 'private' | 'coherent'): MemoryDescription {
  return { name, kind, bytes: MEMORY_BYTES };
}

const driver = defineDriver((spec: Partial<DeviceSpec>): Driver => ({
  name: spec.name!,
  granuleBytes: spec.granulePages! * PAGE,
  memory: spec.kinds!.map((kind, i) => describe(`m${i}`, kind)),
  atomics: spec.atomics!,
  attach: () => ({}),
}));

let pooled: Machine | undefined;

function emptyMachine(): Machine {
  if (pooled) {
    const machine = pooled;
    pooled = undefined;
    machine.reset();
    return machine;
  }
  return createMachineSync({ dram: DRAM, deviceMemory: (MEMORIES_MAX + 1) * MEMORY_BYTES, tablePages: 2048, tables: 64 });
}

export function closeMachines(): void {
  pooled?.close();
  pooled = undefined;
}

/** Counts of `entry kind × verb`. */
export type Coverage = Map<string, number>;

export class Both {
  hash = 0x811c9dc5;
  done = 0;
  skipped = 0;
  readonly #machine: Machine;
  readonly #world: oracle.World = oracle.createWorld();
  readonly #spaces: (AddressSpace | undefined)[] = [];
  readonly #devices: Device[];
  readonly #files: MemoryFile[];
  readonly #pins: (Pin | undefined)[] = [];
  readonly #contexts: (Context | undefined)[][] = [];
  readonly #memories = new Map<Memory, OwnMemory>();
  readonly #frameSeen: Int32Array;
  readonly #free: number;
  readonly #coverage: Coverage | undefined;
  #pass = 0;

  constructor(coverage?: Coverage) {
    this.#coverage = coverage;
    this.#machine = emptyMachine();
    this.#devices = DEVICE_SPECS.map((spec) => this.#machine.addDevice(driver(spec)));
    DEVICE_SPECS.forEach((spec) => oracle.addDevice(this.#world, spec.name, spec.granulePages, spec.kinds, spec.atomics));
    this.#devices.forEach((device, i) =>
      device.memories.forEach((memory, k) => this.#memories.set(this.#world.devices[i]!.memories[k]!, memory)),
    );
    this.#files = FILE_BYTES.map((bytes, index) => {
      const pages = Math.ceil(bytes / PAGE);
      const content = new Uint8Array(bytes);
      const words: number[][] = [];
      for (let page = 0; page < pages; page++) {
        words.push([0, 0, 0, 0]);
        WORD_OFFSETS.forEach((offset, word) => {
          const at = page * PAGE + offset;
          if (at + 4 > bytes) return;
          const value = 0xf0000000 + index * 0x10000 + page * 16 + word;
          new DataView(content.buffer).setUint32(at, value, true);
          words[page]![word] = value;
        });
      }
      oracle.addFile(this.#world, bytes, words);
      return this.#machine.createFile({ bytes, content });
    });
    this.#frameSeen = new Int32Array(2 ** 18).fill(-1);
    this.#free = this.#hostUsed();
    for (let i = 0; i < 2; i++) this.#create(i);
  }

  #hostUsed(): number {
    return this.#machine.nodes[0]!.used;
  }

  #create(index: number): void {
    this.#spaces[index] = this.#machine.createAddressSpace();
    this.#world.spaces[index] = oracle.createSpace();
    this.#contexts[index] = [];
  }

  exists(space: number): boolean {
    return this.#spaces[space] !== undefined;
  }

  isPromised(space: number, slot: number): boolean {
    return this.#world.spaces[space]?.promises[slot] !== undefined;
  }

  isAttached(space: number, device: number): boolean {
    return this.#contexts[space]?.[device] !== undefined;
  }

  /** One operation on both. */
  step(op: Op): void {
    if (this.#coverage) this.#note(op);
    const [expected, found] = this.#both(op);
    if (expected === oracle.SKIP) {
      this.skipped++;
      return;
    }
    this.done++;
    if (expected !== found) throw new Divergence(`${printOps([op])}: the oracle says '${expected}', the machine '${found}'`);
    this.#mixText(expected);
    try {
      this.#compareEntries();
      if (this.done % FULL_EVERY === 0) this.#compareAll();
      if (this.done % VERIFY_EVERY === 0) this.verify();
    } catch (error) {
      throw error instanceof Divergence ? new Divergence(`after ${printOps([op])} (${expected}): ${error.message}`) : error;
    }
  }

  /** Everything is closed; nothing may be left. */
  finish(): void {
    this.#compareAll();
    this.verify();
    this.#pins.forEach((pin, i) => {
      if (!pin) return;
      pin.unpin();
      this.#pins[i] = undefined;
      oracle.unpin(this.#world, i);
    });
    this.#compareAll();
    this.#spaces.forEach((space, i) => {
      if (!space) return;
      space.close();
      oracle.closeSpace(this.#world, i);
      this.#spaces[i] = undefined;
    });
    this.#files.forEach((file, i) => {
      file.close();
      oracle.closeFile(this.#world, i);
    });
    this.#compareUsage();
    for (const node of this.#machine.nodes) if (node.used !== 0) throw new Divergence(`${node.used} pages of ${node.name} are left`);
    this.verify();
    pooled = this.#machine;
  }

  /** After a divergence: nobody should build on the machine. */
  discard(): void {
    this.#machine.close();
  }

  verify(): void {
    const broken = this.#machine.verify();
    if (broken) throw new Divergence(`verify: ${broken}`);
    const [stray] = this.#machine.strayErrors;
    if (stray) throw new Divergence(`stray: ${String(stray)}`);
    if (this.#machine.pending.length > 0) throw new Divergence('something is pending');
  }

  // ------------------------------------------------------------------------------------------------------------- operations

  #both({ verb, args }: Op): [string, string] {
    const world = this.#world;
    const n = (i: number): number => args[i]!;
    const none: [string, string] = [oracle.SKIP, oracle.SKIP];
    const range = (from: number, to: number): { start: number; end: number } => ({
      start: SLOTS[from]!.vpn * PAGE,
      end: (SLOTS[to - 1]!.vpn + SLOTS[to - 1]!.pages) * PAGE,
    });
    const addr = (slot: number, word = 0): number => SLOTS[slot]!.vpn * PAGE + WORD_OFFSETS[word]!;
    switch (verb) {
      case 'close': {
        const space = this.#spaces[n(0)];
        if (!space) return none;
        const expected = oracle.closeSpace(world, n(0));
        const found = outcome(() => space.close());
        this.#spaces[n(0)] = undefined;
        // There are always two.
        if (n(0) < 2) this.#create(n(0));
        return [expected, found];
      }
      case 'unpin': {
        const pin = this.#pins[n(0)];
        if (!pin) return none;
        this.#pins[n(0)] = undefined;
        return [oracle.unpin(world, n(0)), outcome(() => pin.unpin())];
      }
      case 'pin-read':
      case 'pin-write': {
        const pin = this.#pins[n(0)];
        const model = world.pins[n(0)];
        if (!pin || !model) return none;
        const at = n(1) % model.pages.length;
        const first = SLOTS[model.pages[0]!.slot]!;
        const slot = SLOTS[model.pages[at]!.slot]!;
        if (slot.pages > 1) return none;
        const offset = (slot.vpn - first.vpn) * PAGE + WORD_OFFSETS[n(2)]!;
        if (verb === 'pin-read') return [oracle.pinAccess(world, n(0), at, n(2), undefined), outcome(() => word(pin.read(offset, 4)))];
        return [oracle.pinAccess(world, n(0), at, n(2), n(3)), outcome(() => pin.write(offset, bytes(n(3))))];
      }
      case 'file-read':
        return [
          oracle.fileRead(world, n(0), n(1), n(2)),
          outcome(() => word(this.#files[n(0)]!.read(n(1) * PAGE + WORD_OFFSETS[n(2)]!, 4))),
        ];
      case 'file-write':
        return [
          oracle.fileWrite(world, n(0), n(1), n(2), n(3)),
          outcome(() => this.#files[n(0)]!.write(n(1) * PAGE + WORD_OFFSETS[n(2)]!, bytes(n(3)))),
        ];
      case 'truncate':
        return [oracle.truncateFile(world, n(0), n(1)), outcome(() => this.#files[n(0)]!.truncate(n(1)))];
      case 'sync':
        return [oracle.syncFile(world, n(0)), outcome(() => this.#files[n(0)]!.sync())];
      case 'plug': {
        const model = world.devices[n(0)]!;
        if (world.devices.flatMap((each) => each.memories.filter((memory) => memory)).length >= MEMORIES_MAX) return none;
        const kind = n(1) === 0 ? 'private' : 'coherent';
        const device = this.#devices[n(0)]!;
        const expected = oracle.addMemory(model, kind);
        const found = outcome(() => {
          const memory = device.addMemory(describe(`p${this.done}`, kind));
          this.#memories.set(model.memories[memory.index]!, memory);
          return memory.index;
        });
        return [expected, found];
      }
      case 'unplug': {
        const model = world.devices[n(0)]!;
        const memory = model.memories[n(1)];
        if (!memory) return none;
        const own = this.#memories.get(memory)!;
        const expected = oracle.removeMemory(world, model, n(1));
        return [expected, outcome(() => this.#devices[n(0)]!.removeMemory(own))];
      }
    }
    const index = n(0);
    const space = this.#spaces[index];
    const model = world.spaces[index];
    if (!space || !model) return none;
    switch (verb) {
      case 'map': {
        const [, from, to, prot, sort, file, offset, fixed] = args as [number, number, number, number, number, number, number, number];
        const { start, end } = range(from, to);
        const special = sort >= 5 ? SPECIAL[sort as keyof typeof SPECIAL] : '';
        const shared = sort === 1 || sort === 3 || sort === 8 || sort === 9;
        const isFile = sort === 2 || sort === 3;
        const expected = oracle.mmap(world, model, {
          pages: (end - start) / PAGE,
          prot: PROTS[prot]!,
          at: fixed ? from : -1,
          shared,
          file: isFile ? file : -1,
          offset,
          hugetlb: sort === 4,
          special,
        });
        if (expected === oracle.SKIP) return none;
        return [
          expected,
          outcome(
            () =>
              space.mmap({
                bytes: end - start,
                prot: PROTS[prot]!,
                ...(fixed ? { at: start, fixed: true } : {}),
                shared,
                ...(isFile ? { file: this.#files[file]!, offset: offset * PAGE } : {}),
                ...(sort === 4 ? { hugetlb: 2 * MIB } : {}),
                ...(special ? { special } : {}),
              }).start / PAGE,
          ),
        ];
      }
      case 'unmap':
        return [oracle.munmap(world, model, n(1), n(2)), outcome(() => space.munmap(range(n(1), n(2))))];
      case 'msync':
        return [oracle.msync(world, model, n(1), n(2)), outcome(() => space.msync(range(n(1), n(2))))];
      case 'protect':
        return [oracle.mprotect(model, n(1), n(2), PROTS[n(3)]!), outcome(() => space.mprotect(range(n(1), n(2)), PROTS[n(3)]!))];
      case 'advise':
        return [oracle.madvise(model, n(1), n(2), ADVICE[n(3)]!), outcome(() => space.madvise(range(n(1), n(2)), ADVICE[n(3)]!))];
      case 'remap': {
        const [, from, to, pages, mayMove, at, dontUnmap] = args as [number, number, number, number, number, number, number];
        const expected = oracle.mremap(world, model, { from, to, pages, mayMove: mayMove === 1, at, dontUnmap: dontUnmap === 1 });
        if (expected === oracle.SKIP) return none;
        const options = { bytes: pages * PAGE, mayMove: mayMove === 1, dontUnmap: dontUnmap === 1, ...(at >= 0 ? { to: addr(at) } : {}) };
        return [expected, outcome(() => space.mremap(range(from, to), options).start / PAGE)];
      }
      case 'insert-page':
        return [oracle.insertPage(model, n(1), n(2)), outcome(() => space.insertPage(addr(n(1)), bytes(n(2))))];
      case 'insert-pfn':
        return [oracle.insertPfn(model, n(1)), outcome(() => space.insertPfn(addr(n(1)), 77))];
      case 'read':
        return [oracle.access(model, n(1), n(2), undefined), outcome(() => word(space.read(addr(n(1), n(2)), 4)))];
      case 'write':
        return [oracle.access(model, n(1), n(2), n(3)), outcome(() => space.write(addr(n(1), n(2)), bytes(n(3))))];
      case 'fork': {
        let at = 0;
        while (this.#spaces[at]) at++;
        if (at >= SPACES_MAX) return none;
        world.spaces[at] = oracle.fork(model, FORKS[n(1)]!);
        this.#contexts[at] = [];
        return ['ok', outcome(() => void (this.#spaces[at] = space.fork({ device: FORKS[n(1)]! })))];
      }
      case 'pin': {
        let at = 0;
        while (this.#pins[at]) at++;
        if (at >= PINS_MAX) return none;
        const before = world.pins.length;
        const expected = oracle.pinPages(world, model, n(1), n(2), n(3) === 1, n(4) === 1);
        if (world.pins.length > before) {
          const made = world.pins.pop();
          world.pins[at] = made;
        }
        return [expected, outcome(() => void (this.#pins[at] = space.pin(range(n(1), n(2)), { write: n(3) === 1, longTerm: n(4) === 1 })))];
      }
    }
    const device = world.devices[n(1)]!;
    if (verb === 'attach') {
      const expected = oracle.attach(model, device);
      return [expected, outcome(() => void (this.#contexts[index]![n(1)] = space.attach(this.#devices[n(1)]!)))];
    }
    const context = this.#contexts[index]![n(1)];
    if (!context) return none;
    switch (verb) {
      case 'detach': {
        const expected = oracle.detach(world, model, device);
        const found = outcome(() => context.detach());
        if (found === 'ok') this.#contexts[index]![n(1)] = undefined;
        return [expected, found];
      }
      case 'load':
        return [
          oracle.deviceAccess(model, device, n(2), n(3), undefined, context.reaches(SLOTS[n(2)]!.vpn, false)),
          outcome(() => word(context.read(addr(n(2), n(3)), 4))),
        ];
      case 'store':
        return [
          oracle.deviceAccess(model, device, n(2), n(3), n(4), context.reaches(SLOTS[n(2)]!.vpn, true)),
          outcome(() => context.write(addr(n(2), n(3)), bytes(n(4)))),
        ];
      case 'atomic':
        return [
          oracle.deviceAtomic(model, device, n(2), n(3), n(4), context.reaches(SLOTS[n(2)]!.vpn, true)),
          outcome(() => context.atomic(addr(n(2), n(3)), { op: 'add', bytes: 4, operand: n(4) })),
        ];
      case 'migrate':
        return [
          oracle.migrate(model, device, n(2), n(3), n(4) === 1, n(5)),
          outcome(() => context.migrate(range(n(2), n(3)), { to: n(4) === 1 ? 'device' : 'host', ...(n(5) >= 0 ? { memory: n(5) } : {}) })),
        ];
      case 'exclusive': {
        const { platform } = this.#machine;
        const { vpn } = SLOTS[n(2)]!;
        const step = new MakeExclusive(platform);
        const run = (): string => {
          platform.scheduler.runSync(
            step.of(space, vpn, context.device.owner, { cpuReads: n(3) === 1 }, (frame) => context.installAlone(vpn, frame)),
          );
          return step.outcome;
        };
        return [`ok ${oracle.makeExclusive(model, n(2), n(3) === 1)}`, outcome(run)];
      }
    }
    throw new Error(`no such verb: ${verb}`);
  }

  // ------------------------------------------------------------------------------------------------------------- comparing

  /** Every entry of every space: kind, rights, marks, which page it is and where, and the words of that page. */
  #compareEntries(): void {
    this.#pass++;
    for (let index = 0; index < this.#spaces.length; index++) {
      const space = this.#spaces[index];
      if (!space) continue;
      const { entries } = this.#world.spaces[index]!;
      for (const slot of SLOTS) this.#compareEntry(index, space, slot, entries[slot.index]);
    }
  }

  #compareEntry(index: number, space: AddressSpace, slot: Slot, entry: Entry | undefined): void {
    const { core } = this.#machine.platform;
    const last = slot.vpn + slot.pages - 1;
    const expected = entry ? codeOf(entry) : 0;
    let found = core.entry(space.table, slot.vpn) & MARKS;
    const frame = core.entryLow;
    if (found === expected && slot.pages > 1) found = core.entry(space.table, last) & MARKS;
    if (found !== expected)
      throw new Divergence(`space ${index}, slot ${slot.index}: the oracle has ${printed(expected)}, the machine ${printed(found)}`);
    if (slot.pages > 1 && core.entryLow !== frame && entry?.page?.block && core.entryLow !== frame + slot.pages - 1)
      throw new Divergence(`space ${index}, slot ${slot.index}: a huge page has frames that do not follow each other`);
    if (entry?.page) this.#comparePage(`space ${index}, slot ${slot.index}`, entry.page, frame);
  }

  #comparePage(where: string, page: Page, frame: number): void {
    if (page.seen === this.#pass) {
      if (page.frame !== frame) throw new Divergence(`${where}: the page is in frame ${page.frame} elsewhere, here in ${frame}`);
      return;
    }
    page.seen = this.#pass;
    page.frame = frame;
    if (this.#frameSeen[frame] === this.#pass) throw new Divergence(`${where}: frame ${frame} is of another page as well`);
    this.#frameSeen[frame] = this.#pass;
    const { core, host } = this.#machine.platform;
    const node = page.memory.kind === 'host' ? host : this.#memories.get(page.memory)!.node;
    if (!node.holds(frame)) throw new Divergence(`${where}: frame ${frame} is not on ${page.memory.name}`);
    const at = core.frameBytes(frame) >>> 2;
    for (let i = 0; i < 4; i++) {
      const value = core.u32[at + (WORD_OFFSETS[i]! >>> 2)]!;
      if (value !== page.words[i]) throw new Divergence(`${where}, word ${i}: the oracle has ${page.words[i]}, the machine ${value}`);
    }
  }

  #compareAll(): void {
    this.#compareFiles();
    this.#compareUsage();
    this.#compareDevices();
    this.#compareDump();
    this.#pass++;
    this.#pins.forEach((pin, i) => {
      if (!pin) return;
      const { pages } = this.#world.pins[i]!;
      const first = SLOTS[pages[0]!.slot]!.vpn;
      for (const { slot, page } of pages)
        if (page) this.#comparePage(`pin ${i}, slot ${slot}`, page, pin.frames[SLOTS[slot]!.vpn - first]!);
    });
    for (const space of this.#world.spaces)
      for (const entry of space?.entries ?? []) {
        this.#mix(entry ? codeOf(entry) : 0);
        if (entry?.page) for (const each of entry.page.words) this.#mix(each);
      }
  }

  #compareFiles(): void {
    this.#files.forEach((file, index) => {
      const model = this.#world.files[index]!;
      if (file.bytes !== model.bytes) throw new Divergence(`file ${index} is ${file.bytes} bytes long, not ${model.bytes}`);
      if (file.dirty !== model.dirty.size) throw new Divergence(`file ${index} has ${file.dirty} dirty pages, not ${model.dirty.size}`);
      if (file.cached !== model.cache.size) throw new Divergence(`file ${index} has ${file.cached} cached pages, not ${model.cache.size}`);
      for (let page = 0; page < 8; page++)
        for (let i = 0; i < 4; i++) {
          const at = page * PAGE + WORD_OFFSETS[i]!;
          const stored = word(file.stored(at, 4))!;
          if (stored !== (model.store.get(page)?.[i] ?? 0))
            throw new Divergence(`file ${index}, page ${page}, word ${i}: ${stored} is stored`);
          if (at + 4 > model.bytes) continue;
          const seen = word(file.read(at, 4))!;
          const expected = (model.cache.get(page)?.words ?? model.store.get(page))?.[i] ?? 0;
          if (seen !== expected) throw new Divergence(`file ${index}, page ${page}, word ${i}: ${seen}, not ${expected}`);
          this.#mix(seen);
        }
    });
  }

  #compareUsage(): void {
    const usage = oracle.usage(this.#world);
    const { platform } = this.#machine;
    const host = usage.get(oracle.HOST) ?? 0;
    const used = this.#hostUsed() - this.#free;
    if (used !== host) throw new Divergence(`the host has ${used} pages in use, not ${host}`);
    this.#mix(used);
    for (const device of this.#world.devices)
      for (const memory of device.memories) {
        if (!memory) continue;
        const { node } = this.#memories.get(memory)!;
        const expected = usage.get(memory) ?? 0;
        if (node.used !== expected) throw new Divergence(`${memory.name} has ${node.used} pages in use, not ${expected}`);
        this.#mix(expected);
      }
    if (platform.stray.length > 0) throw new Divergence(`stray: ${String(platform.stray[0])}`);
  }

  /** Whatever a device has in its table must be true. */
  #compareDevices(): void {
    const { core } = this.#machine.platform;
    this.#contexts.forEach((contexts, index) => {
      const space = this.#spaces[index];
      if (!space) return;
      const model = this.#world.spaces[index]!;
      contexts.forEach((context, which) => {
        if (!context) return;
        for (const slot of SLOTS) {
          if (!context.reaches(slot.vpn, false)) continue;
          const entry = model.entries[slot.index];
          const where = `space ${index}, slot ${slot.index}, device ${context.name}`;
          if (!entry || entry.special) throw new Divergence(`${where}: a translation of what is not there`);
          const frame = context.frameBehind(slot.vpn);
          core.entry(space.table, slot.vpn);
          if (core.entryLow !== frame) throw new Divergence(`${where}: a translation to frame ${frame}, the page is in ${core.entryLow}`);
          if (entry.noAccess && !entry.exclusive) throw new Divergence(`${where}: a translation where the promise gives no right`);
          if (oracle.isPrivate(entry) && entry.page!.memory.device !== this.#world.devices[which])
            throw new Divergence(`${where}: a translation to the private memory of another device`);
          if (context.reaches(slot.vpn, true) && !entry.write && !entry.exclusive && !entry.cpuReads)
            throw new Divergence(`${where}: a writable translation of a page that may only be read`);
        }
      });
    });
  }

  #compareDump(): void {
    this.#spaces.forEach((space, index) => {
      if (!space) return;
      const first = SLOTS[0]!.vpn;
      const last = SLOTS.at(-1)!;
      const text = space.dump({ start: first * PAGE, end: (last.vpn + 1) * PAGE });
      const model = this.#world.spaces[index]!;
      for (const slot of SLOTS) {
        const expected = this.#letter(model.entries[slot.index], model.promises[slot.index] !== undefined);
        for (let i = 0; i < slot.pages; i++) {
          const found = text[slot.vpn - first + i];
          if (found !== expected)
            throw new Divergence(`space ${index}, slot ${slot.index}, page ${i}: dump says ${found}, the oracle ${expected}`);
        }
      }
    });
  }

  #letter(entry: Entry | undefined, promised: boolean): string {
    if (!entry) return promised ? '.' : '-';
    if (entry.special) return '*';
    if (entry.exclusive) return 'x';
    const page = entry.page;
    let letter = page?.isFile ? 'f' : 'h';
    if (page?.memory.kind === 'private') letter = 'degi'[this.#world.devices.indexOf(page.memory.device!)]!;
    else if (entry.noAccess) return 'n';
    else if (entry.zero) return 'z';
    else if (entry.cpuReads) return 'a';
    else if (page!.memory.kind === 'coherent') letter = 'c';
    return entry.write ? letter.toUpperCase() : letter;
  }

  #mix(value: number): void {
    this.hash = Math.imul(this.hash ^ (value >>> 0), 0x01000193) >>> 0;
  }

  #mixText(text: string): void {
    for (let i = 0; i < text.length; i++) this.#mix(text.charCodeAt(i));
  }

  // ------------------------------------------------------------------------------------------------------------- coverage

  #note({ verb, args }: Op): void {
    const space = this.#world.spaces[args[0]!];
    if (!space || WITHOUT_ENTRY.has(verb)) return;
    let name = verb;
    let from = 0;
    let to = SLOTS.length;
    if (verb === 'advise') name = ADVICE[args[3]!]!;
    if (verb === 'fork') name = `fork-${FORKS[args[1]!]!}`;
    if (verb === 'migrate') name = args[4] === 1 ? 'to-device' : 'to-host';
    const at = SLOT_ARG[verb];
    if (at !== undefined) {
      from = args[at]!;
      to = RANGED.has(verb) ? args[at + 1]! : from + 1;
    }
    const verbs = this.#coverage!;
    for (let slot = from; slot < to; slot++) {
      const cell = `${kindOf(space.entries[slot], space.promises[slot])} | ${name}`;
      verbs.set(cell, (verbs.get(cell) ?? 0) + 1);
    }
  }
}

/** Which argument is the slot that an operation is about; the others are about all of a space. */
const SLOT_ARG: Readonly<Record<string, number>> = {
  map: 1,
  unmap: 1,
  protect: 1,
  advise: 1,
  remap: 1,
  msync: 1,
  pin: 1,
  'insert-page': 1,
  'insert-pfn': 1,
  read: 1,
  write: 1,
  load: 2,
  store: 2,
  atomic: 2,
  migrate: 2,
  exclusive: 2,
};
const RANGED = new Set(['map', 'unmap', 'protect', 'advise', 'remap', 'msync', 'pin', 'migrate']);
/** Verbs that are about a pin, a file, or a memory. */
const WITHOUT_ENTRY = new Set([
  'pin-read',
  'pin-write',
  'unpin',
  'file-read',
  'file-write',
  'truncate',
  'sync',
  'plug',
  'unplug',
  'attach',
]);

export const KINDS = [
  'unmapped',
  'hole',
  'zero',
  'host',
  'private',
  'coherent',
  'protnone',
  'exclusive',
  'cpu-reads',
  'cached',
  'driver',
  'special',
  'hugetlb',
  'huge zero',
  'huge host',
  'huge private',
  'huge coherent',
  'huge protnone',
] as const;

export const CELL_VERBS: readonly string[] = [
  ...Object.keys(SLOT_ARG).filter((verb) => verb !== 'advise' && verb !== 'migrate'),
  ...ADVICE,
  ...FORKS.map((fork) => `fork-${fork}`),
  'to-device',
  'to-host',
  'detach',
  'close',
];

/** Cells that have not been reached. */
export function missingCells(coverage: Coverage): string[] {
  return KINDS.flatMap((kind) => CELL_VERBS.map((verb) => `${kind} | ${verb}`)).filter((cell) => !coverage.has(cell));
}

/** How often each kind of entry met each verb. */
export function printCoverage(coverage: Coverage): string {
  const width = 8;
  const head = ''.padEnd(14) + CELL_VERBS.map((verb) => verb.slice(0, width - 1).padStart(width)).join('');
  const rows = KINDS.map(
    (kind) => kind.padEnd(14) + CELL_VERBS.map((verb) => String(coverage.get(`${kind} | ${verb}`) ?? 0).padStart(width)).join(''),
  );
  return [head, ...rows].join('\n');
}

export function kindOf(entry: Entry | undefined, promise: { readonly object: unknown } | undefined): string {
  if (!entry) return promise ? 'hole' : 'unmapped';
  if (entry.special) return 'special';
  if (entry.exclusive) return 'exclusive';
  const block = entry.hugeZero || entry.page?.block ? 'huge ' : '';
  if (entry.zero) return entry.noAccess ? `${block}protnone` : `${block}zero`;
  if (entry.cpuReads) return 'cpu-reads';
  const { memory, isFile, block: owner } = entry.page!;
  if (owner?.hugetlb) return 'hugetlb';
  if (isFile) return entry.page!.isCached ? 'cached' : 'driver';
  if (memory.kind !== 'private' && entry.noAccess) return `${block}protnone`;
  return `${block}${memory.kind}`;
}

const MARKS = L.ENTRY_KIND | L.ENTRY_WRITE | L.ENTRY_ZERO | L.ENTRY_ANON_EXCLUSIVE | L.ENTRY_NO_ACCESS | L.ENTRY_CPU_READS | L.ENTRY_ORDER;

function codeOf(entry: Entry): number {
  const huge = entry.hugeZero || entry.page?.block ? L.HUGE_ORDER << L.ENTRY_ORDER_SHIFT : 0;
  const marks =
    (entry.write ? L.ENTRY_WRITE : 0) |
    (entry.zero ? L.ENTRY_ZERO : 0) |
    (entry.own ? L.ENTRY_ANON_EXCLUSIVE : 0) |
    (entry.cpuReads ? L.ENTRY_CPU_READS : 0) |
    huge;
  const bit = entry.noAccess ? L.ENTRY_NO_ACCESS : 0;
  if (entry.special) return L.KIND_SPECIAL | marks;
  if (entry.exclusive) return L.KIND_EXCLUSIVE | marks | bit;
  if (entry.page?.memory.kind === 'private') return L.KIND_DEVICE_PRIVATE | marks | bit;
  return (entry.noAccess ? L.KIND_PROTNONE : L.KIND_PRESENT) | marks;
}

function printed(code: number): string {
  if (code === 0) return 'none';
  const kind = ['none', 'present', 'private', 'exclusive', 'migration', 'swap', 'protnone', 'special', 'poison'][code & L.ENTRY_KIND];
  const marks = [
    [L.ENTRY_WRITE, 'write'],
    [L.ENTRY_ZERO, 'zero'],
    [L.ENTRY_ANON_EXCLUSIVE, 'own'],
    [L.ENTRY_NO_ACCESS, 'no-access'],
    [L.ENTRY_CPU_READS, 'cpu-reads'],
    [L.ENTRY_ORDER, 'huge'],
  ] as const;
  return [kind, ...marks.filter(([bit]) => code & bit).map(([, name]) => name)].join(' ');
}

function outcome(run: () => unknown): string {
  try {
    const value = run();
    return value === undefined ? 'ok' : `ok ${String(value)}`;
  } catch (error) {
    if (isFarfaultError(error)) return error.code;
    throw error;
  }
}

function bytes(value: number): Uint8Array {
  const buffer = new Uint8Array(4);
  new DataView(buffer.buffer).setUint32(0, value, true);
  return buffer;
}

function word(buffer: Uint8Array): number | undefined {
  return buffer.length < 4 ? undefined : new DataView(buffer.buffer, buffer.byteOffset).getUint32(0, true);
}

/** What a program does. Throws a Divergence. */
export function runOps(ops: readonly Op[]): Both {
  const both = new Both();
  try {
    for (const op of ops) both.step(op);
    both.finish();
    return both;
  } catch (error) {
    both.discard();
    throw error;
  }
}

/** Makes a program from a seed while it runs; `ops` gets its operations. The first ones bring the devices in, and make room. */
export function runSeed(seed: number, length: number, ops: Op[], coverage?: Coverage): Both {
  const both = new Both(coverage);
  const maker = new OpMaker(seed, both);
  const step = (op: Op): void => {
    ops.push(op);
    both.step(op);
  };
  try {
    for (let space = 0; space < 2; space++) {
      for (let device = 0; device < DEVICE_SPECS.length; device++) step({ verb: 'attach', args: [space, device] });
      step({ verb: 'map', args: [space, 0, 32, 2, 0, 0, 0, 1] });
    }
    while (ops.length < length) step(maker.next());
    both.finish();
    return both;
  } catch (error) {
    both.discard();
    throw error;
  }
}
