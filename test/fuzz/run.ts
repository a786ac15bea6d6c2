/** Runs programs on the machine and on the value model, and compares. */
import {
  type AddressSpace,
  type Context,
  createMachineSync,
  type Device,
  isFarfaultError,
  type Machine,
  type MemoryFile,
  MiB,
} from 'farfault';
import { defineDriver, type Driver } from 'farfault/gmem';
import { MakeExclusive, type Pin } from 'farfault/mm';
import nouveau from 'farfault/drivers/nouveau';
import * as L from '../../assembly/layout.ts';
import { type ADVICES, KINDS, type Operation, randomOperations, SMALL, UNIVERSE, type Verb, WINDOW } from './operations.ts';
import { Seen } from './coverage.ts';
import {
  type Ending,
  grow,
  HALF,
  newShared,
  ownOf,
  PAGE,
  type Page,
  type Promise_,
  type Shared,
  store,
  truncate,
  ValueSpace,
} from './values.ts';

/** First page of the universe in every space; a multiple of 2 MiB. */
export const BASE = 2 ** 18;
const SPACES = 5;
const FILES = 2;
const FILE_PAGES = 40;

/** A device with memory that the CPU reaches. */
const coherent = defineDriver((): Driver => ({
  name: 'apu',
  memory: [{ name: 'hbm', kind: 'coherent', bytes: 3 * MiB }],
  atomics: ['native', 'migrate'],
  attach: () => ({}),
}));

/** A device with memory of both kinds, whose faults move 2 MiB. */
const both = defineDriver((): Driver => ({
  name: 'both',
  memory: [
    { name: 'vram', kind: 'private', bytes: 6 * MiB },
    { name: 'hbm', kind: 'coherent', bytes: 2 * MiB },
  ],
  pageBytes: [4096, 2 * MiB],
  granuleBytes: 2 * MiB,
  atomics: ['exclusive', 'migrate'],
  attach: () => ({}),
}));

export interface World {
  readonly machine: Machine;
  readonly devices: Device[];
  readonly spaces: (Slot | undefined)[];
  readonly files: { readonly file: MemoryFile; readonly model: Shared }[];
  readonly pins: { readonly pin: Pin; readonly pages: readonly Page[] }[];
  plugged: ReturnType<Device['addMemory']> | undefined;
}

export interface Slot {
  readonly space: AddressSpace;
  readonly contexts: readonly Context[];
  readonly model: ValueSpace;
  readonly hugetlb: Set<number>;
}

/** The drivers of a world; and what is around each operation. */
export interface Around {
  readonly drivers: () => Driver[];
  /** Called instead of each operation, which it carries out by `carryOut`. */
  readonly operation?: (world: World, slot: Slot | undefined, operation: Operation, carryOut: () => void) => void;
}

const USUAL: Around = { drivers: () => [nouveau({ vram: 3 * MiB, granule: 16 * 1024 }), coherent(), both()] };

let used: Machine | undefined;

function begin({ drivers }: Around): World {
  if (used) used.reset();
  else used = createMachineSync({ dram: 40 * MiB, deviceMemory: 20 * MiB, tables: 40 });
  const machine = used;
  const devices = drivers().map((driver) => machine.addDevice(driver));
  const files = Array.from({ length: FILES }, () => {
    const content = new Uint8Array(FILE_PAGES * PAGE);
    const model = newShared('file', content.length);
    for (let page = 0; page < FILE_PAGES; page += 2) {
      write32(content, page * PAGE, page + 1);
      model.pages.set(page, { a: page + 1, b: 0 });
      model.stored.set(page, { a: page + 1, b: 0 });
    }
    return { file: machine.createFile({ content }), model };
  });
  const world: World = { machine, devices, spaces: [], files, pins: [], plugged: undefined };
  world.spaces[0] = enter(world, machine.createAddressSpace(), new ValueSpace());
  return world;
}

function enter(world: World, space: AddressSpace, model: ValueSpace, hugetlb: Set<number> = new Set()): Slot {
  return { space, model, hugetlb, contexts: world.devices.map((device) => space.attach(device)) };
}

/** Ends the machine that runs share. */
export function closeMachine(): void {
  used?.close();
  used = undefined;
}

/** Runs one program. Throws at the first difference, naming the operation. */
export function runProgram(operations: readonly Operation[], seen: Seen, around: Around = USUAL): void {
  const world = begin(around);
  operations.forEach((operation, i) => {
    try {
      carryOut(world, operation, seen, around);
      if (i % 64 === 63) sound(world);
      if (i % 512 === 511) compareAll(world, seen);
    } catch (error) {
      throw new Error(`operation ${i}, ${JSON.stringify(operation)}: ${error instanceof Error ? error.message : String(error)}`, {
        cause: error,
      });
    }
    seen.operations++;
  });
  compareAll(world, seen);
  finish(world);
}

function sound({ machine }: World): void {
  const broken = machine.verify();
  if (broken !== undefined) throw new Error(broken);
  if (machine.strayErrors.length > 0) throw new Error(`stray: ${String(machine.strayErrors[0])}`);
}

/** Everything closed: no frame may be left. */
function finish(world: World): void {
  for (const { pin } of world.pins) pin.unpin();
  for (const slot of world.spaces) slot?.space.close();
  for (const { file } of world.files) file.close();
  sound(world);
  for (const { name, used: left } of world.machine.nodes) if (left !== 0) throw new Error(`${name} has ${left} frames in use at the end`);
}

function same(what: string, found: number | string, wanted: number | string): void {
  if (found !== wanted) throw new Error(`${what} is ${found}, should be ${wanted}`);
}

function write32(bytes: Uint8Array, at: number, value: number): void {
  for (let i = 0; i < 4; i++) bytes[at + i] = (value >>> (8 * i)) & 255;
}

function read32(bytes: Uint8Array, at: number): number {
  return (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0;
}

/** Runs what may throw a FarfaultError; returns its code, or `done`. */
function ends(operation: () => void): string {
  try {
    operation();
    return 'done';
  } catch (error) {
    if (isFarfaultError(error)) return error.code;
    throw error;
  }
}

/** The kind of an entry, for the coverage tables. */
export function kindOf({ machine }: World, space: AddressSpace, vpn: number): string {
  const { core, nodes } = machine.platform;
  const high = core.entry(space.table, vpn);
  const size = high & L.ENTRY_ORDER ? 'huge ' : '';
  const right = high & L.ENTRY_WRITE ? '' : ' ro';
  switch (high & L.ENTRY_KIND) {
    case L.KIND_NONE:
      return 'none';
    case L.KIND_PRESENT: {
      if (high & L.ENTRY_ZERO) return `${size}zero`;
      if (high & L.ENTRY_CPU_READS) return 'cpu reads';
      const flags = core.field(core.frameRecord(core.headOf(core.entryLow)), L.FRAME_FLAGS);
      if (flags & L.FRAME_FILE) return `file${right}`;
      if (flags & L.FRAME_HUGETLB) return `hugetlb${right}`;
      return `${size}${nodes.of(core.entryLow).kind === 'coherent' ? 'coherent' : 'host'}${right}`;
    }
    case L.KIND_DEVICE_PRIVATE:
      return `${size}private${right}`;
    case L.KIND_EXCLUSIVE:
      return 'exclusive';
    case L.KIND_PROTNONE:
      return `${size}protnone`;
    case L.KIND_MIGRATION:
      return `${size}moving`;
    default:
      return 'other';
  }
}

const SPACELESS: readonly Verb[] = ['file write', 'file read', 'truncate', 'sync', 'unpin', 'pin write', 'plug', 'unplug'];

function carryOut(world: World, operation: Operation, seen: Seen, around: Around): void {
  const slot = world.spaces[operation.space % world.spaces.length];
  if (!slot && !SPACELESS.includes(operation.verb)) return;
  if (slot) seen.see(kindOf(world, slot.space, BASE + operation.page), operation.verb);
  const once = (): void => seen.fold(run(world, slot!, operation, seen));
  if (around.operation) around.operation(world, slot, operation, once);
  else once();
}

function run(world: World, slot: Slot, operation: Operation, seen: Seen): number {
  const { machine } = world;
  const { verb, page, pages, half, choice, value } = operation;
  const vpn = BASE + page;
  const range = { start: vpn * PAGE, end: (vpn + pages) * PAGE };
  const attempt = (what: () => void): string => {
    const code = ends(what);
    seen.note(code);
    return code;
  };
  const each = (visit: (vpn: number) => void): void => {
    for (let i = 0; i < pages; i++) visit(vpn + i);
  };
  const cuts = (): boolean => {
    for (let i = 0; i < pages; i++) if (slot.hugetlb.has(vpn + i) && (vpn % WINDOW !== 0 || pages % WINDOW !== 0)) return true;
    return false;
  };
  const mapped = (): boolean => {
    for (let i = 0; i < pages; i++) if (!slot.model.promises.has(vpn + i)) return false;
    return true;
  };
  switch (verb) {
    case 'read':
    case 'device read': {
      const wanted = slot.model.ending(vpn, false);
      const from = verb === 'read' ? slot.space : slot.contexts[operation.device]!;
      let found = 0;
      same(
        verb,
        attempt(() => (found = read32(from.read(vpn * PAGE + half * HALF, 4), 0))),
        wanted,
      );
      if (wanted === 'done') same(`${verb} of page ${page}`, found, half ? slot.model.look(vpn).b : slot.model.look(vpn).a);
      return found;
    }
    case 'write':
    case 'device write': {
      const wanted = slot.model.ending(vpn, true);
      const to = verb === 'write' ? slot.space : slot.contexts[operation.device]!;
      const bytes = new Uint8Array(4);
      write32(bytes, 0, value);
      same(
        verb,
        attempt(() => to.write(vpn * PAGE + half * HALF, bytes)),
        wanted,
      );
      if (wanted === 'done') slot.model.own(vpn)[half ? 'b' : 'a'] = value;
      return value;
    }
    case 'atomic': {
      const wanted = slot.model.ending(vpn, true);
      let old = -1;
      const code = attempt(() => (old = Number(slot.contexts[operation.device]!.atomic(vpn * PAGE, { op: 'add', bytes: 4, operand: 1 }))));
      if (wanted !== 'done') {
        if (code === 'done') throw new Error(`atomic is done, should be ${wanted}`);
        return 0;
      }
      if (code !== 'done') return 1;
      same(`atomic on page ${page}`, old, slot.model.look(vpn).a);
      const own = slot.model.own(vpn);
      own.a = (own.a + 1) >>> 0;
      return old;
    }
    case 'exclusive': {
      const context = slot.contexts[operation.device]!;
      const step = new MakeExclusive(machine.platform).of(slot.space, vpn, context.device.owner, { cpuReads: half === 1 }, () => {});
      machine.platform.scheduler.runSync(step);
      seen.note(step.outcome);
      const promise = slot.model.promises.get(vpn);
      if (step.outcome === 'done') {
        if (slot.model.ending(vpn, true) !== 'done' || promise?.shared) throw new Error('exclusive is done where nobody may write');
        // Broken out of what it shared.
        slot.model.own(vpn);
      }
      return 0;
    }
    case 'mmap':
      return map(world, slot, operation);
    case 'munmap': {
      const wanted = cuts() ? 'EINVAL' : 'done';
      same(
        verb,
        attempt(() => slot.space.munmap(range)),
        wanted,
      );
      if (wanted === 'done')
        each((at) => {
          slot.model.unmap(at);
          slot.hugetlb.delete(at);
        });
      return 0;
    }
    case 'mprotect': {
      const wanted = !mapped() || cuts() ? 'EINVAL' : 'done';
      const prot = (['none', 'r', 'rw', 'rw'] as const)[choice % 4]!;
      same(
        verb,
        attempt(() => slot.space.mprotect(range, prot)),
        wanted,
      );
      if (wanted === 'done')
        each((at) => {
          const promise = slot.model.promises.get(at)!;
          promise.read = prot !== 'none';
          promise.write = prot === 'rw';
        });
      return 0;
    }
    case 'mremap':
      return remap(slot, operation, attempt);
    case 'fork share':
    case 'fork home':
    case 'fork omit': {
      const free = Array.from({ length: SPACES }, (_, i) => i).find((i) => !world.spaces[i]);
      if (free === undefined) return 0;
      let child: AddressSpace | undefined;
      const device = verb.slice(5) as 'share' | 'home' | 'omit';
      if (attempt(() => (child = slot.space.fork({ device }))) !== 'done') return 1;
      const model = slot.model.fork();
      const hugetlb = new Set([...slot.hugetlb].filter((at) => model.promises.has(at)));
      world.spaces[free] = enter(world, child!, model, hugetlb);
      if (device === 'omit')
        resync(world.spaces[free]!, [...model.pages.keys()], (promise) => promise.object?.pages.get(promise.index) ?? { a: 0, b: 0 });
      return free;
    }
    case 'close': {
      if (world.spaces.filter(Boolean).length < 2) return 0;
      slot.space.close();
      world.spaces[operation.space % world.spaces.length] = undefined;
      return 0;
    }
    case 'pin': {
      if (world.pins.length >= 6 || pages > 8) return 0;
      const longTerm = choice % 2 === 0;
      let wanted: Ending = 'done';
      let reached = 0;
      for (; reached < pages && wanted === 'done'; reached++) {
        const promise = slot.model.promises.get(vpn + reached);
        wanted = slot.model.ending(vpn + reached, true);
        // A long-term pin of a shared file is refused, by the mapping alone.
        if (wanted !== 'EFAULT' && longTerm && promise?.shared && promise.object?.kind === 'file') wanted = 'EFAULT';
      }
      let pin: Pin | undefined;
      const code = attempt(() => (pin = slot.space.pin(range, { write: true, longTerm })));
      if (code === 'EBUSY' && longTerm) {
        // A page that somebody has pinned in coherent memory cannot leave it.
        const held = Array.from({ length: pages }, (_, i) => i).find((i) => isPinned(world, slot, vpn + i));
        if (held === undefined || held >= reached) throw new Error('pin is EBUSY, and no page of it is pinned');
        for (let i = 0; i < held; i++) slot.model.own(vpn + i);
        return 2;
      }
      same(verb, code, wanted);
      if (wanted !== 'done') {
        // The pages before have been broken out of what they shared all the same.
        for (let i = 0; i < reached - 1; i++) slot.model.own(vpn + i);
        return 1;
      }
      world.pins.push({ pin: pin!, pages: Array.from({ length: pages }, (_, i) => slot.model.own(vpn + i)) });
      return 0;
    }
    case 'unpin':
      if (world.pins.length > 0) world.pins.splice(choice % world.pins.length, 1)[0]!.pin.unpin();
      return 0;
    case 'pin write': {
      const held = world.pins[choice % Math.max(1, world.pins.length)];
      if (!held) return 0;
      const at = page % held.pages.length;
      same('what a pin reads', read32(held.pin.read(at * PAGE, 4), 0), held.pages[at]!.a);
      const bytes = new Uint8Array(4);
      write32(bytes, 0, value);
      held.pin.write(at * PAGE, bytes);
      held.pages[at]!.a = value;
      return value;
    }
    case 'to device':
    case 'to host': {
      const context = slot.contexts[operation.device]!;
      const memories = context.device.memories.length;
      attempt(() =>
        context.migrate(
          range,
          verb === 'to device' ? { to: 'device', memory: context.device.memories[choice % memories]!.index } : { to: 'host' },
        ),
      );
      return 0;
    }
    case 'msync':
      same(
        verb,
        attempt(() => slot.space.msync(range)),
        mapped() ? 'done' : 'EINVAL',
      );
      if (mapped())
        each((at) => {
          const { object, index, shared } = slot.model.promises.get(at)!;
          if (shared && object?.kind === 'file') store(object, index);
        });
      return 0;
    case 'file write':
    case 'file read':
    case 'truncate':
    case 'sync':
      return onFile(world, operation);
    case 'plug':
      if (!world.plugged)
        attempt(
          () => (world.plugged = world.devices[2]!.addMemory({ name: 'more', kind: half ? 'private' : 'coherent', bytes: 64 * PAGE })),
        );
      return 0;
    case 'unplug':
      if (world.plugged && attempt(() => world.devices[2]!.removeMemory(world.plugged!)) === 'done') world.plugged = undefined;
      return 0;
    default:
      return advise(slot, operation, attempt, mapped(), cuts());
  }
}

function isPinned({ pins }: World, slot: Slot, vpn: number): boolean {
  if (!slot.model.promises.has(vpn)) return false;
  const page = slot.model.look(vpn);
  return pins.some(({ pages }) => pages.includes(page));
}

function map(world: World, slot: Slot, { page, pages, choice, half }: Operation): number {
  const vpn = BASE + page;
  for (let i = 0; i < pages; i++) if (slot.model.promises.has(vpn + i)) return 1;
  let kind = KINDS[choice % KINDS.length]!;
  const whole = vpn % WINDOW === 0 && pages % WINDOW === 0;
  if (kind === 'hugetlb' && !whole) kind = 'anon';
  if (kind === 'mixed' && pages > 8) kind = 'anon';
  const prot = choice % 5 === 4 ? 'r' : 'rw';
  const at = { at: vpn * PAGE, fixed: true, bytes: pages * PAGE, prot } as const;
  const { file, model: fileModel } = world.files[half]!;
  const offset = choice % 24;
  let object: Shared | undefined;
  switch (kind) {
    case 'anon':
      slot.space.mmap(at);
      break;
    case 'shared':
      slot.space.mmap({ ...at, shared: true });
      object = newShared('anonymous', Infinity);
      break;
    case 'file private':
      slot.space.mmap({ ...at, file, offset: offset * PAGE });
      object = fileModel;
      break;
    case 'file shared':
      slot.space.mmap({ ...at, file, offset: offset * PAGE, shared: true });
      object = fileModel;
      break;
    case 'hugetlb':
      slot.space.mmap({ ...at, hugetlb: 2 * MiB });
      for (let i = 0; i < pages; i++) slot.hugetlb.add(vpn + i);
      break;
    case 'mixed':
      slot.space.mmap({ ...at, special: 'mixed' });
      for (let i = 0; i < pages; i++) slot.space.insertPage((vpn + i) * PAGE);
      break;
  }
  const shared = kind === 'shared' || kind === 'file shared';
  const index = kind.startsWith('file') ? offset : 0;
  const special = kind === 'mixed';
  for (let i = 0; i < pages; i++) {
    slot.model.promises.set(vpn + i, { read: true, write: prot === 'rw', shared, object, index: index + i, dontFork: false, special });
    if (special) slot.model.own(vpn + i);
  }
  return choice % KINDS.length;
}

function remap(slot: Slot, { page, pages, choice, value }: Operation, attempt: (what: () => void) => string): number {
  const vpn = BASE + page;
  for (let i = 0; i < pages; i++) if (slot.hugetlb.has(vpn + i)) return 1;
  const to = BASE + (value % 2 === 0 ? value % SMALL : 512 + (value % 1000));
  const length = choice % 4 === 0 ? Math.max(1, pages - 1) : choice % 4 === 1 ? pages + 1 : pages;
  const fixed = choice % 3 !== 0 && to + length <= BASE + UNIVERSE;
  const dontUnmap = choice % 7 === 6 && length === pages;
  for (let i = 0; fixed && i < length; i++) if (slot.hugetlb.has(to + i)) return 1;
  let start = -1;
  const code = attempt(() => {
    const options = {
      bytes: length * PAGE,
      mayMove: fixed || dontUnmap,
      ...(fixed ? { to: to * PAGE } : {}),
      ...(dontUnmap ? { dontUnmap } : {}),
    };
    if (dontUnmap && !fixed) return;
    start = slot.space.mremap({ start: vpn * PAGE, end: (vpn + pages) * PAGE }, options).start / PAGE;
  });
  if (code !== 'done') {
    if (code === 'ENOMEM' && (fixed || length <= pages)) throw new Error('mremap has no room, and needs none');
    return 2;
  }
  if (start < 0) return 3;
  const last = slot.model.promises.get(vpn + pages - 1)!;
  if (start !== vpn) {
    for (let i = 0; i < length; i++) slot.model.unmap(start + i);
    for (let i = length; i < pages; i++) slot.model.unmap(vpn + i);
    for (let i = 0; i < Math.min(length, pages); i++) slot.model.move(vpn + i, start + i, dontUnmap);
  } else for (let i = length; i < pages; i++) slot.model.unmap(vpn + i);
  for (let i = pages; i < length; i++) slot.model.promises.set(start + i, { ...last, index: last.index + i - pages + 1 });
  return start - BASE;
}

function advise(
  slot: Slot,
  { verb, page, pages }: Operation,
  attempt: (what: () => void) => string,
  isMapped: boolean,
  isCut: boolean,
): number {
  const vpn = BASE + page;
  const advice = verb as (typeof ADVICES)[number];
  const range = { start: vpn * PAGE, end: (vpn + pages) * PAGE };
  const code = attempt(() => slot.space.madvise(range, advice));
  if (!isMapped || isCut) same(verb, code, 'EINVAL');
  if (code !== 'done') {
    if (code !== 'EINVAL' && advice !== 'collapse') throw new Error(`${advice} is ${code}`);
    return 1;
  }
  const touched: number[] = [];
  for (let at = vpn; at < vpn + pages; at++) {
    if (advice === 'dontneed') slot.model.pages.delete(at);
    else if (advice === 'dontfork') slot.model.promises.get(at)!.dontFork = true;
    else if (advice === 'dofork') slot.model.promises.get(at)!.dontFork = false;
    else if (advice === 'free' && slot.model.pages.has(at)) touched.push(at);
  }
  resync(slot, touched, () => ({ a: 0, b: 0 }));
  return 0;
}

/** Where the machine may have dropped pages: each is as it was, or as it would be without its private copy. Unreadable ones are forgotten when dropped. */
function resync(slot: Slot, pages: readonly number[], without: (promise: Promise_) => Page): void {
  // Whether there is an entry says whether it was dropped: the values may be the same. All of them first, since reading one may bring others.
  const gone = pages.map((vpn) => (slot.space.snapshot({ start: vpn * PAGE, end: (vpn + 1) * PAGE })[1]! & L.ENTRY_KIND) === L.KIND_NONE);
  pages.forEach((vpn, i) => {
    const promise = slot.model.promises.get(vpn)!;
    const { a, b } = gone[i] ? without(promise) : slot.model.pages.get(vpn)!;
    if (gone[i]) slot.model.pages.delete(vpn);
    if (!promise.read) return;
    const start = vpn * PAGE;
    const found = `${read32(slot.space.read(start, 4), 0)} ${read32(slot.space.read(start + HALF, 4), 0)}`;
    same(`page ${vpn - BASE}, ${gone[i] ? 'dropped' : 'kept'}`, found, `${a} ${b}`);
  });
}

function onFile({ files, spaces }: World, { verb, page, choice, half, value }: Operation): number {
  const { file, model } = files[choice % FILES]!;
  const index = page % FILE_PAGES;
  const word = half ? 'b' : 'a';
  const at = index * PAGE + half * HALF;
  switch (verb) {
    case 'file write': {
      const bytes = new Uint8Array(4);
      write32(bytes, 0, value);
      file.write(at, bytes);
      grow(model, at + 4);
      ownOf(model.pages, index, { a: 0, b: 0 })[word] = value;
      return value;
    }
    case 'file read': {
      const read = file.read(at, 4);
      same('bytes that the file has there', read.length, Math.max(0, Math.min(4, model.bytes - at)));
      const stored = model.stored.get(index) ?? { a: 0, b: 0 };
      same(`stored page ${index}`, read32(file.stored(at, 4), 0), stored[word]);
      if (read.length < 4) return 0;
      same(`page ${index} of the file`, read32(read, 0), (model.pages.get(index) ?? { a: 0, b: 0 })[word]);
      return read32(read, 0);
    }
    case 'truncate': {
      const bytes = index * PAGE + (half ? 1024 : 0);
      file.truncate(bytes);
      truncate(
        model,
        bytes,
        spaces.flatMap((slot) => slot?.model ?? []),
      );
      return bytes;
    }
    default:
      file.sync();
      for (const each of model.pages.keys()) store(model, each);
      return 0;
  }
}

/** Every page of every space that may be read, and every file. */
function compareAll(world: World, seen: Seen): void {
  sound(world);
  for (const [i, slot] of world.spaces.entries()) {
    if (!slot) continue;
    for (const [vpn, promise] of slot.model.promises) {
      // Of the windows a sample: what has been written, and the borders.
      const inWindow = vpn - BASE >= WINDOW;
      if (inWindow && !slot.model.pages.has(vpn) && !promise.object && (vpn + 1) % WINDOW > 1) continue;
      if (slot.model.ending(vpn, false) !== 'done') continue;
      const { a, b } = slot.model.look(vpn);
      const bytes = slot.space.read(vpn * PAGE, HALF + 4);
      same(`space ${i}, page ${vpn - BASE}`, `${read32(bytes, 0)} ${read32(bytes, HALF)}`, `${a} ${b}`);
      seen.fold(a);
      seen.fold(b);
    }
  }
  for (const { file, model } of world.files) {
    same('length of a file', file.bytes, model.bytes);
    for (const [index, { a }] of model.pages)
      if (index * PAGE + 4 <= model.bytes) same(`page ${index} of a file`, read32(file.read(index * PAGE, 4), 0), a);
  }
}

/** Removes operations for as long as the program still fails. */
export function shrink(operations: readonly Operation[]): { readonly program: Operation[]; readonly message: string } {
  let message = '';
  const fails = (program: readonly Operation[]): boolean => {
    try {
      runProgram(program, new Seen());
      return false;
    } catch (error) {
      message = error instanceof Error ? error.message : String(error);
      return true;
    }
  };
  let program = [...operations];
  for (let size = Math.ceil(program.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let at = 0; at < program.length;) {
      const shorter = [...program.slice(0, at), ...program.slice(at + size)];
      if (fails(shorter)) program = shorter;
      else at += size;
    }
  }
  fails(program);
  return { program, message };
}

const OPERATIONS_EACH = 1000;

export { Seen } from './coverage.ts';

export interface FuzzOptions {
  readonly seed: number;
  readonly operations: number;
  /** Operations of one program. */
  readonly each?: number;
  readonly progress?: (operations: number) => void;
}

/** Programs of consecutive seeds, `operations` operations together. Throws for the first that differs: shrunk, with the command that runs it again. */
export async function fuzz({ seed, operations, each = OPERATIONS_EACH, progress }: FuzzOptions): Promise<Seen> {
  const seen = new Seen();
  for (let number = 0; seen.operations < operations; number++) {
    const program = randomOperations(seed + number, Math.min(each, operations - seen.operations));
    try {
      runProgram(program, seen);
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      const smallest = shrink(program);
      closeMachine();
      throw new Error(
        `seed ${seed + number} differs: ${message}\nagain: npm run fuzz -- ${seed + number} ${program.length}\nsmallest program (${smallest.program.length} operations): ${smallest.message}\n` +
          smallest.program.map((operation) => JSON.stringify(operation)).join('\n'),
        { cause: error },
      );
    }
    progress?.(seen.operations);
    // A test runner wants to hear of its tests.
    if (number % 20 === 19) await new Promise((resolve) => setTimeout(resolve));
  }
  closeMachine();
  return seen;
}
