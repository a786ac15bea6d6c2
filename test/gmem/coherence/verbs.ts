/**
 * What a random program of the coherence oracle does: one entry a verb. A verb that changes no value is a line; one that does says so to the registers before it begins. To add a verb, add
 * an entry: weights are relative.
 */
import { type AddressRange, type Context, isFarfaultError, type Job, type JobReport, type MemcpyResult } from 'farfault';
import type { Stream } from 'farfault/gmem';
import { Evict } from '../../../sdk/gmem/evict.ts';
import type { Step } from '../../../sdk/step/step.ts';
import { Register, type Write } from './register.ts';
import {
  addressOf,
  bytesOf,
  endWrite,
  mapAll,
  numberIn,
  PAGE,
  PAGES,
  requireRight,
  type Right,
  type Slot,
  SPACES,
  valuesOf,
  wordAt,
  type World,
} from './world.ts';

/** Random choices. */
export type Below = (limit: number) => number;

export interface Verb {
  readonly name: string;
  readonly weight: number;
  /** Only while nothing is under way: everything ends first. */
  readonly alone?: boolean;
  /** Begins one operation somewhere. */
  readonly start: (world: World, slot: Slot, below: Below) => void;
}

interface Place {
  readonly page: number;
  readonly addr: number;
  readonly word: Register<number>;
  readonly rights: Register<Right>;
}

function place({ words, rights }: Slot, below: Below): Place {
  const page = below(PAGES);
  const { addr, index } = wordAt(page, below(2));
  return { page, addr, word: words[index]!, rights: rights[page]! };
}

/** One to three pages. */
function pagesIn(below: Below): { readonly first: number; readonly pages: number; readonly range: { start: number; end: number } } {
  const first = below(PAGES);
  const pages = 1 + below(Math.min(3, PAGES - first));
  return { first, pages, range: { start: addressOf(first), end: addressOf(first + pages) } };
}

function contextOf(slot: Slot, below: Below): Context | undefined {
  return slot.contexts[below(slot.contexts.length)];
}

type Reader = { readAsync(addr: number, bytes: number): Promise<Uint8Array> };
type Writer = { writeAsync(addr: number, bytes: Uint8Array): Promise<void> };

/** A page that is pinned to a device is out of reach for others: they may be told so. */
const isRefused = ({ held }: Slot, page: number, code: string): boolean => code === 'EIO' && held.has(page);

function read(world: World, slot: Slot, who: string, from: Reader, { page, addr, word, rights }: Place): void {
  world.start(
    slot,
    () => from.readAsync(addr, 4),
    (code, began, bytes) => {
      if (isRefused(slot, page, code)) return;
      requireRight(rights, code, false, began, `a read of page ${page} by ${who}`);
      if (code !== 'done') return;
      const seen = numberIn(bytes!);
      const wanted = valuesOf(word, began);
      if (!word.saw(seen, began, world.now)) throw new Error(`${who} reads ${seen} in page ${page}, should be ${wanted}`);
    },
  );
}

function write(world: World, slot: Slot, who: string, to: Writer, { page, addr, word, rights }: Place): void {
  const value = world.fresh();
  const mark = word.begin(value, world.now + 1);
  world.start(
    slot,
    () => to.writeAsync(addr, bytesOf(value)),
    (code, began) => {
      endWrite(word, mark, code, world.now);
      if (!isRefused(slot, page, code)) requireRight(rights, code, true, began, `a write to page ${page} by ${who}`);
    },
  );
}

/** Pages get zeros, or a right, or both: all at once or not at all, by what `done` says of the code that it ends with. */
function change(
  world: World,
  slot: Slot,
  { first, pages, zeros, right }: { first: number; pages: number; zeros: boolean; right?: Right },
  operation: () => Promise<unknown>,
  check: (code: string, began: number) => boolean,
): void {
  const marks: (readonly [Register<unknown>, Write<unknown>])[] = [];
  for (let page = first; page < first + pages; page++) {
    // Advice and unmapping leave what is shared as it is.
    if (zeros && !slot.shared[page]) for (const half of [0, 1]) mark(slot.words[page * 2 + half]!, 0);
    if (right) mark(slot.rights[page]!, right);
  }
  function mark<T>(register: Register<T>, value: T): void {
    marks.push([register as Register<unknown>, register.begin(value, world.now + 1)]);
  }
  world.start(slot, operation, (code, began) => {
    const happened = check(code, began);
    for (const [register, each] of marks) endWrite(register, each, happened ? 'done' : code, world.now);
  });
}

/** Something that changes no value, and may be refused. */
function quietly(world: World, slot: Slot | undefined, operation: () => Promise<unknown>, codes: readonly string[] = []): void {
  world.start(slot, operation, (code) => {
    if (code !== 'done' && !codes.includes(code)) throw new Error(`ends with ${code}`);
  });
}

const runAsync = (world: World, step: Step): Promise<void> => world.machine.platform.scheduler.runAsync(step);

/** Something is not mapped in the range, at some moment since `began`. */
function hasHole(slot: Slot, first: number, pages: number, began: number): boolean {
  for (let page = first; page < first + pages; page++)
    if (slot.rights[page]!.possible(began).some(({ value }) => value === 'unmapped')) return true;
  return false;
}

/** A job of up to twelve accesses. */
function job(world: World, slot: Slot, below: Below, who: string, submit: (job: Job) => Promise<JobReport>): void {
  const accesses = Array.from({ length: 1 + below(12) }, () => {
    const at = place(slot, below);
    const isWrite = below(2) === 0;
    const value = isWrite ? world.fresh() : 0;
    return { ...at, value, mark: isWrite ? at.word.begin(value, world.now + 1) : undefined };
  });
  world.start(
    slot,
    () => submit({ accesses: accesses.map(({ addr, mark, value }) => ({ op: mark ? 'write' : 'read', addr, bytes: 4, value })), lanes: 4 }),
    (code, began, report) => {
      // Broken off at a page that is out of reach: some of its accesses have been done.
      if (accesses.some(({ page }) => isRefused(slot, page, code))) return;
      if (code !== 'done') throw new Error(`a job of ${who} ends with ${code}`);
      accesses.forEach(({ page, word, rights, mark }, i) => {
        const ended = report!.cancelled.includes(i) ? 'EFAULT' : 'done';
        requireRight(rights, ended, mark !== undefined, began, `access ${i} of a job of ${who} to page ${page}`);
        if (mark) endWrite(word, mark, ended, world.now);
      });
      accesses.forEach(({ page, word, mark }, i) => {
        if (mark || report!.cancelled.includes(i)) return;
        const wanted = valuesOf(word, began);
        const seen = report!.observed[2 * i]!;
        if (!word.saw(seen, began, world.now)) throw new Error(`a job of ${who} reads ${seen} in page ${page}, should be ${wanted}`);
      });
    },
  );
}

/** Offsets in a page at which a copy begins or ends: no word is copied in part. */
const CUTS = [0, 4, 100, 2048, 2052, 3000];

type Memcpy = (dest: number, src: number, bytes: number) => Promise<MemcpyResult>;

/** A copy of up to three pages: words go to words, by whole and half pages; or bytes between the words go anywhere between them. */
function copy(world: World, slot: Slot, below: Below, who: string, memcpy: Memcpy): void {
  const from = below(PAGES);
  const to = below(PAGES);
  if (below(4) === 0) {
    const dest = addressOf(to) + 4 + below(1000);
    const src = addressOf(from) + below(PAGE - 1000);
    memcpyOf(world, slot, who, { dest, src, bytes: 1 + below(1000), words: [] }, memcpy);
    return;
  }
  const shift = below(3) === 0 ? 2048 : 0;
  const pages = below(Math.min(3, PAGES - Math.max(from, to)));
  const cut = CUTS[below(CUTS.length)]!;
  const last = (shift ? 2048 : PAGE) + pages * PAGE;
  const ends = CUTS.map((each) => each + pages * PAGE).filter((each) => each > cut && each <= last);
  const end = ends.length === 0 || below(3) === 0 ? last : ends[below(ends.length)]!;
  if (end <= cut) return;
  const words: Copied[] = [];
  for (let half = 0; half * 2048 < end; half++) {
    if (half * 2048 < cut) continue;
    const source = from * 2 + half;
    const target = to * 2 + half + (shift ? 1 : 0);
    words.push({ source, target, addr: addressOf(to) + shift + half * 2048 });
  }
  memcpyOf(world, slot, who, { dest: addressOf(to) + shift + cut, src: addressOf(from) + cut, bytes: end - cut, words }, memcpy);
}

/** A word of a copy: its number in both places, and the address that it goes to. */
interface Copied {
  readonly source: number;
  readonly target: number;
  readonly addr: number;
}

function memcpyOf(
  world: World,
  slot: Slot,
  who: string,
  { dest, src, bytes, words }: { dest: number; src: number; bytes: number; words: readonly Copied[] },
  memcpy: Memcpy,
): void {
  const copied = words.map((each) => {
    const word = slot.words[each.target]!;
    return { ...each, word, mark: word.beginCopy(slot.words[each.source]!, world.now + 1) };
  });
  world.start(
    slot,
    () => memcpy(dest, src, bytes),
    (code, began, result) => {
      if (code !== 'done') throw new Error(`a copy by ${who} ends with ${code}`);
      const failed = result!.errors.reduce((sum, error) => sum + error.bytes, 0);
      if (result!.bytes + failed !== bytes) throw new Error(`a copy by ${who} of ${bytes} bytes says ${result!.bytes} and ${failed}`);
      for (const { source, target, addr, word, mark } of copied) {
        const pages = [source >> 1, target >> 1] as const;
        const what = `a copy by ${who} of page ${pages[0]} to ${pages[1]}`;
        const error = result!.errors.find((each) => addr >= each.dest && addr < each.dest + each.bytes);
        if (error === undefined) {
          word.endCopy(mark, world.now);
          requireRight(slot.rights[pages[0]]!, 'done', false, began, what);
          requireRight(slot.rights[pages[1]]!, 'done', true, began, what);
          continue;
        }
        word.withdraw(mark);
        const isDenied = (page: number, write: boolean): boolean =>
          slot.rights[page]!.possible(began).some(({ value }) => value !== 'rw' && (write || value !== 'r'));
        if (error.reason === 'no mapping' || error.reason === 'permission') {
          if (!isDenied(pages[0], false) && !isDenied(pages[1], true)) throw new Error(`${what}: ${error.reason}`);
        } else if (!slot.isDying && !pages.some((page) => slot.held.has(page))) throw new Error(`${what}: ${error.reason}`);
      }
    },
  );
}

/** Frees a range: it holds zeros. */
function dontneed(world: World, slot: Slot, { start, end }: AddressRange, granule: number, operation: () => Promise<unknown>): void {
  const first = Math.ceil(start / PAGE / granule) * granule - addressOf(0) / PAGE;
  const last = Math.floor(end / PAGE / granule) * granule - addressOf(0) / PAGE;
  change(world, slot, { first, pages: Math.max(0, last - first), zeros: true }, operation, (code) => {
    if (code !== 'done') throw new Error(`a hint ends with ${code}`);
    return true;
  });
}

/** The stream of a context. */
function streamOf(slot: Slot, context: Context): Stream {
  return (slot.streams[slot.contexts.indexOf(context)] ??= context.stream());
}

export const VERBS: readonly Verb[] = [
  { name: 'CPU read', weight: 14, start: (world, slot, below) => read(world, slot, 'the CPU', slot.space, place(slot, below)) },
  { name: 'CPU write', weight: 14, start: (world, slot, below) => write(world, slot, 'the CPU', slot.space, place(slot, below)) },
  {
    name: 'device read',
    weight: 14,
    start(world, slot, below) {
      const context = contextOf(slot, below);
      if (context) read(world, slot, context.name, context, place(slot, below));
    },
  },
  {
    name: 'device write',
    weight: 16,
    start(world, slot, below) {
      const context = contextOf(slot, below);
      if (context) write(world, slot, context.name, context, place(slot, below));
    },
  },
  {
    name: 'atomic',
    weight: 5,
    start(world, slot, below) {
      const context = contextOf(slot, below);
      if (!context) return;
      const { page, addr, word, rights } = place(slot, below);
      const value = world.fresh();
      const mark = word.begin(value, world.now + 1);
      world.start(
        slot,
        () => context.atomicAsync(addr, { op: 'exchange', bytes: 4, operand: value }),
        (code, began, old) => {
          const wanted = valuesOf(word, began);
          if (code === 'done' && (Number(old) === value || !word.saw(Number(old), began, world.now)))
            throw new Error(`an exchange of ${context.name} in page ${page} returns ${Number(old)}, should be ${wanted}`);
          endWrite(word, mark, code, world.now);
          // None of its means reaches the page, or somebody holds it.
          if (code !== 'EOPNOTSUPP' && code !== 'EAGAIN' && !isRefused(slot, page, code))
            requireRight(rights, code, true, began, `an atomic of ${context.name} on page ${page}`);
        },
      );
    },
  },
  {
    name: 'job',
    weight: 6,
    start(world, slot, below) {
      const context = contextOf(slot, below);
      if (context) job(world, slot, below, context.name, (each) => context.submitAsync(each));
    },
  },
  {
    name: 'migrate to the device',
    weight: 7,
    start(world, slot, below) {
      const { range } = pagesIn(below);
      const context = contextOf(slot, below);
      if (context) quietly(world, slot, () => context.migrateAsync(range, { to: 'device' }), ['ENOMEM']);
    },
  },
  {
    name: 'migrate to the host',
    weight: 4,
    start(world, slot, below) {
      const { range } = pagesIn(below);
      const context = contextOf(slot, below);
      if (context) quietly(world, slot, () => context.migrateAsync(range, { to: 'host' }), ['ENOMEM']);
    },
  },
  {
    name: 'evict',
    weight: 4,
    start(world, _, below) {
      const memory = world.devices[below(world.devices.length)]!.memory!;
      const victims = memory.victims(1 + below(2));
      if (victims.length > 0)
        quietly(world, undefined, () => runAsync(world, new Evict(world.machine.platform).from(memory).frames([...victims])));
    },
  },
  {
    name: 'fault',
    weight: 4,
    start(world, slot, below) {
      const context = contextOf(slot, below);
      const { addr } = place(slot, below);
      const access = below(2) === 0 ? 'read' : 'write';
      if (context) quietly(world, slot, () => context.faultAsync(addr, access));
    },
  },
  {
    name: 'madvise dontneed',
    weight: 3,
    start(world, slot, below) {
      const { first, pages, range } = pagesIn(below);
      change(
        world,
        slot,
        { first, pages, zeros: true },
        () => slot.space.madviseAsync(range, 'dontneed'),
        // Where a part is not mapped, the rest is advised all the same, or nothing is: both have been seen by then.
        (code, began) => {
          if (code !== 'done' && !(code === 'EINVAL' && hasHole(slot, first, pages, began))) throw new Error(`madvise ends with ${code}`);
          return code === 'done';
        },
      );
    },
  },
  {
    name: 'mprotect',
    weight: 5,
    start(world, slot, below) {
      const { first, pages, range } = pagesIn(below);
      const right = (['none', 'r', 'rw', 'rw', 'rw'] as const)[below(5)]!;
      if (hasHole(slot, first, pages, world.now + 1)) return;
      change(
        world,
        slot,
        { first, pages, zeros: false, right },
        () => slot.space.mprotectAsync(range, right),
        (code, began) => {
          if (code !== 'done' && !(code === 'EINVAL' && hasHole(slot, first, pages, began))) throw new Error(`mprotect ends with ${code}`);
          return code === 'done';
        },
      );
    },
  },
  {
    // While it is under way nothing else changes mappings: what is mapped again is another promise.
    name: 'munmap and mmap',
    weight: 2,
    alone: true,
    start(_, slot, below) {
      const { first, pages, range } = pagesIn(below);
      for (let page = first; page < first + pages; page++) {
        slot.shared[page] = false;
        for (const half of [0, 1]) slot.words[page * 2 + half] = new Register(0);
        slot.rights[page]!.settle('rw');
      }
      slot.space.munmap(range);
      slot.space.mmap({ at: range.start, bytes: range.end - range.start, fixed: true });
    },
  },
  {
    name: 'munmap',
    weight: 2,
    start(world, slot, below) {
      const { first, pages, range } = pagesIn(below);
      change(
        world,
        slot,
        { first, pages, zeros: false, right: 'unmapped' },
        () => slot.space.munmapAsync(range),
        (code) => {
          if (code !== 'done') throw new Error(`munmap ends with ${code}`);
          return true;
        },
      );
    },
  },
  {
    name: 'fork',
    weight: 2,
    alone: true,
    start(world, slot, below) {
      const free = Array.from({ length: SPACES }, (_, i) => i).find((i) => !world.slots[i]);
      if (free === undefined) return;
      const space = slot.space.fork({ device: below(3) === 0 ? 'home' : 'share' });
      world.slots[free] = world.slotOf(space, {
        contexts: world.devices.map((device) => (below(3) > 0 ? space.attach(device) : undefined)),
        shared: [...slot.shared],
        rights: slot.rights.map((each) => each.copy()),
        words: slot.words.map((each, i) => (slot.shared[i >> 1] ? each : each.copy())),
      });
    },
  },
  {
    name: 'close',
    weight: 1,
    alone: true,
    start(world, slot) {
      if (world.slots.filter(Boolean).length < 2) return;
      slot.space.close();
      world.slots[world.slots.indexOf(slot)] = undefined;
    },
  },
  {
    name: 'detach or attach',
    weight: 1.5,
    alone: true,
    start(world, slot, below) {
      const i = below(world.devices.length);
      const context = slot.contexts[i];
      try {
        context?.detach();
      } catch (error) {
        // What is pinned in its memory stays, and so does the device.
        if (!isFarfaultError(error) || error.code !== 'EAGAIN' || world.pins.length === 0 || !context!.isAttached) throw error;
        return;
      }
      slot.streams[i] = undefined;
      slot.contexts[i] = context ? undefined : slot.space.attach(world.devices[i]!);
    },
  },
  {
    name: 'pin',
    weight: 1.5,
    alone: true,
    start(world, slot, below) {
      const page = below(PAGES);
      if (slot.rights[page]!.possible(world.now)[0]!.value !== 'rw') return;
      if (world.pins.length === 2) world.pins.shift()!.unpin();
      try {
        world.pins.push(slot.space.pin({ start: addressOf(page), end: addressOf(page + 1) }, { write: true, longTerm: below(2) === 0 }));
      } catch (error) {
        // What somebody has pinned in the memory of a device cannot leave it.
        if (
          !isFarfaultError(error) ||
          !(error.code === 'EBUSY' ? world.pins.length > 0 || slot.held.has(page) : isRefused(slot, page, error.code))
        )
          throw error;
      }
    },
  },
  { name: 'unpin', weight: 2, start: (world) => world.pins.shift()?.unpin() },
  {
    name: 'advice',
    weight: 3,
    start(world, slot, below) {
      const { range } = pagesIn(below);
      const device = world.devices[below(world.devices.length)]!;
      const changes = [
        { readMostly: true },
        { readMostly: false },
        { preferred: device },
        { preferred: 'none' },
        { accessedBy: device },
      ] as const;
      quietly(world, slot, async () => slot.space.attributes.set(range, changes[below(changes.length)]!), ['EBUSY', 'EINVAL']);
    },
  },
  {
    name: 'prefetch',
    weight: 5,
    start(world, slot, below) {
      const { range } = pagesIn(below);
      const context = contextOf(slot, below);
      const device = below(3) === 0 ? 'host' : context?.device;
      if (device) quietly(world, slot, () => slot.space.hmadviseAsync(range, 'prefetch', { device }));
    },
  },
  {
    name: 'hmadvise dontneed',
    weight: 2,
    start(world, slot, below) {
      const { range } = pagesIn(below);
      const device = below(2) === 0 ? contextOf(slot, below)?.device : undefined;
      const operation = (): Promise<unknown> => slot.space.hmadviseAsync(range, 'dontneed', device ? { device } : {});
      dontneed(world, slot, range, device?.granulePages ?? 1, operation);
    },
  },
  {
    name: 'willneed',
    weight: 2,
    start(world, slot, below) {
      const { range } = pagesIn(below);
      const device = below(2) === 0 ? contextOf(slot, below)?.device : undefined;
      quietly(world, slot, () => slot.space.hmadviseAsync(range, 'willneed', device ? { device } : {}));
    },
  },
  {
    name: 'pinned',
    weight: 1,
    start(world, slot, below) {
      const { first, pages, range } = pagesIn(below);
      const context = contextOf(slot, below);
      if (!context) return;
      const granule = context.device.granulePages;
      for (let page = Math.max(0, first - granule); page < first + pages + granule; page++) slot.held.add(page);
      quietly(world, slot, () => slot.space.hmadviseAsync(range, 'pinned', { device: context.device }));
    },
  },
  {
    name: 'unpinned',
    weight: 2,
    start(world, slot, below) {
      const device = below(2) === 0 ? contextOf(slot, below)?.device : undefined;
      quietly(world, slot, () =>
        slot.space.hmadviseAsync({ start: addressOf(0), end: addressOf(PAGES) }, 'unpinned', device ? { device } : {}),
      );
    },
  },
  {
    name: 'marks',
    weight: 3,
    start(world, slot, below) {
      const { range } = pagesIn(below);
      const device = world.devices[below(world.devices.length)]!;
      const advice = (['preferred', 'accessedby', 'notaccessedby', 'readmostly', 'readmostly', 'notreadmostly'] as const)[below(6)]!;
      const about = advice.endsWith('accessedby') || (advice === 'preferred' && below(3) > 0) ? { device } : {};
      quietly(world, slot, () => slot.space.hmadviseAsync(range, advice, about), ['EBUSY', 'EINVAL']);
    },
  },
  {
    name: 'hmemcpy',
    weight: 6,
    start(world, slot, below) {
      const context = contextOf(slot, below);
      const to = below(4) === 0 ? 'host' : below(2) === 0 ? context?.device : undefined;
      copy(world, slot, below, 'the CPU', (dest, src, bytes) => slot.space.hmemcpyAsync(dest, src, bytes, to ? { to } : {}));
    },
  },
  {
    name: 'stream',
    weight: 6,
    start(world, slot, below) {
      const context = contextOf(slot, below);
      if (!context) return;
      const stream = streamOf(slot, context);
      const { range } = pagesIn(below);
      switch (below(6)) {
        case 0:
          return quietly(world, slot, () => stream.prefetchAsync(range, below(3) === 0 ? 'host' : 'device'));
        case 1:
          return dontneed(world, slot, range, 1, () => stream.dontneedAsync(range));
        case 2:
          return copy(world, slot, below, `a stream of ${context.name}`, (dest, src, bytes) => stream.memcpyAsync(dest, src, bytes));
        case 3:
          if (world.events.length > 3) world.events.shift();
          return void world.events.push(stream.record());
        case 4:
          if (world.events.length > 0) stream.wait(world.events[below(world.events.length)]!);
          return;
        default:
          job(world, slot, below, `a stream of ${context.name}`, (each) => stream.submitAsync(each));
      }
    },
  },
  {
    name: 'link or cut',
    weight: 1.5,
    alone: true,
    start(world, _, below) {
      const i = below(world.devices.length);
      const other = world.devices[(i + 1 + below(world.devices.length - 1)) % world.devices.length]!;
      const device = world.devices[i]!;
      const link = world.machine.links.find(({ a, b }) => (a === device && b === other) || (a === other && b === device));
      if (link) world.machine.unlink(link);
      else world.machine.link(device, other, { coherent: below(2) === 0 });
    },
  },
  {
    name: 'reset',
    weight: 0.5,
    alone: true,
    start: (world, _, below) => void world.devices[below(world.devices.length)]!.reset(),
  },
  {
    name: 'limit',
    weight: 1,
    start(_, slot, below) {
      const context = contextOf(slot, below);
      context?.limit(below(3) === 0 ? undefined : (1 + below(4)) * PAGE);
    },
  },
  {
    name: 'marks of accesses',
    weight: 1,
    start(world, slot, below) {
      const context = contextOf(slot, below);
      const { range } = pagesIn(below);
      if (context) quietly(world, slot, () => context.harvestAsync(range), ['EOPNOTSUPP']);
    },
  },
  {
    name: 'a device gives up',
    weight: 1,
    start(world, slot, below) {
      const context = contextOf(slot, below);
      const { first, pages } = pagesIn(below);
      if (context) quietly(world, slot, () => context.giveUpAsync(Array.from({ length: pages }, (_, i) => addressOf(first + i) / PAGE)));
    },
  },
  {
    name: 'exec',
    weight: 0.4,
    alone: true,
    start(_, slot) {
      slot.space.exec();
      slot.held.clear();
      for (let page = 0; page < PAGES; page++) {
        slot.shared[page] = page % 3 === 0;
        slot.rights[page]!.settle('rw');
        for (const half of [0, 1]) slot.words[page * 2 + half] = new Register(0);
      }
      mapAll(slot);
    },
  },
  {
    name: 'oom reap',
    weight: 0.4,
    start(world, slot) {
      if (world.slots.filter((each) => each && !each.isDying).length < 2) return;
      slot.isDying = true;
      quietly(world, undefined, () => world.machine.oomReapAsync(slot.space));
    },
  },
  {
    name: 'a device answers',
    weight: 40,
    start: (world, _, below) => (world.late.length > 0 ? world.finish(below(world.late.length)) : undefined),
  },
  { name: 'devices answer late, or at once', weight: 2, start: (world) => (world.slow = !world.slow) },
];
