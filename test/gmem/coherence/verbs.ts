/**
 * What a random program of the coherence oracle does: one entry a verb. A verb that changes no value is a line; one that does says so to the registers before it begins. To add a verb, add
 * an entry: weights are relative.
 */
import { type Context, isFarfaultError } from 'farfault';
import { Evict } from '../../../sdk/gmem/evict.ts';
import type { Step } from '../../../sdk/step/step.ts';
import { Register, type Write } from './register.ts';
import {
  addressOf,
  bytesOf,
  endWrite,
  numberIn,
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

function read(world: World, who: string, from: Reader, { page, addr, word, rights }: Place): void {
  world.start(
    () => from.readAsync(addr, 4),
    (code, began, bytes) => {
      requireRight(rights, code, false, began, `a read of page ${page} by ${who}`);
      if (code !== 'done') return;
      const seen = numberIn(bytes!);
      const wanted = valuesOf(word, began);
      if (!word.saw(seen, began, world.now)) throw new Error(`${who} reads ${seen} in page ${page}, should be ${wanted}`);
    },
  );
}

function write(world: World, who: string, to: Writer, { page, addr, word, rights }: Place): void {
  const value = world.fresh();
  const mark = word.begin(value, world.now + 1);
  world.start(
    () => to.writeAsync(addr, bytesOf(value)),
    (code, began) => {
      endWrite(word, mark, code, world.now);
      requireRight(rights, code, true, began, `a write to page ${page} by ${who}`);
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
  world.start(operation, (code, began) => {
    const happened = check(code, began);
    for (const [register, each] of marks) endWrite(register, each, happened ? 'done' : code, world.now);
  });
}

/** Something that changes no value, and may be refused. */
function quietly(world: World, operation: () => Promise<unknown>, codes: readonly string[] = []): void {
  world.start(operation, (code) => {
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

export const VERBS: readonly Verb[] = [
  { name: 'CPU read', weight: 14, start: (world, slot, below) => read(world, 'the CPU', slot.space, place(slot, below)) },
  { name: 'CPU write', weight: 14, start: (world, slot, below) => write(world, 'the CPU', slot.space, place(slot, below)) },
  {
    name: 'device read',
    weight: 14,
    start(world, slot, below) {
      const context = contextOf(slot, below);
      if (context) read(world, context.name, context, place(slot, below));
    },
  },
  {
    name: 'device write',
    weight: 16,
    start(world, slot, below) {
      const context = contextOf(slot, below);
      if (context) write(world, context.name, context, place(slot, below));
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
        () => context.atomicAsync(addr, { op: 'exchange', bytes: 4, operand: value }),
        (code, began, old) => {
          const wanted = valuesOf(word, began);
          if (code === 'done' && (Number(old) === value || !word.saw(Number(old), began, world.now)))
            throw new Error(`an exchange of ${context.name} in page ${page} returns ${Number(old)}, should be ${wanted}`);
          endWrite(word, mark, code, world.now);
          // None of its means reaches the page, or somebody holds it.
          if (code !== 'EOPNOTSUPP' && code !== 'EAGAIN')
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
      if (!context) return;
      const accesses = Array.from({ length: 1 + below(12) }, () => {
        const at = place(slot, below);
        const isWrite = below(2) === 0;
        const value = isWrite ? world.fresh() : 0;
        return { ...at, value, mark: isWrite ? at.word.begin(value, world.now + 1) : undefined };
      });
      world.start(
        () =>
          context.submitAsync({
            accesses: accesses.map(({ addr, mark, value }) => ({ op: mark ? 'write' : 'read', addr, bytes: 4, value })),
            lanes: 4,
          }),
        (code, began, report) => {
          if (code !== 'done') throw new Error(`a job of ${context.name} ends with ${code}`);
          accesses.forEach(({ page, word, rights, mark }, i) => {
            const ended = report!.cancelled.includes(i) ? 'EFAULT' : 'done';
            requireRight(rights, ended, mark !== undefined, began, `access ${i} of a job of ${context.name} to page ${page}`);
            if (mark) endWrite(word, mark, ended, world.now);
          });
          accesses.forEach(({ page, word, mark }, i) => {
            if (mark || report!.cancelled.includes(i)) return;
            const wanted = valuesOf(word, began);
            const seen = report!.observed[2 * i]!;
            if (!word.saw(seen, began, world.now))
              throw new Error(`a job of ${context.name} reads ${seen} in page ${page}, should be ${wanted}`);
          });
        },
      );
    },
  },
  {
    name: 'migrate to the device',
    weight: 7,
    start(world, slot, below) {
      const { range } = pagesIn(below);
      const context = contextOf(slot, below);
      if (context) quietly(world, () => context.migrateAsync(range, { to: 'device' }), ['ENOMEM']);
    },
  },
  {
    name: 'migrate to the host',
    weight: 4,
    start(world, slot, below) {
      const { range } = pagesIn(below);
      const context = contextOf(slot, below);
      if (context) quietly(world, () => context.migrateAsync(range, { to: 'host' }), ['ENOMEM']);
    },
  },
  {
    name: 'evict',
    weight: 4,
    start(world, _, below) {
      const memory = world.devices[below(world.devices.length)]!.memory!;
      const victims = memory.victims(1 + below(2));
      if (victims.length > 0) quietly(world, () => runAsync(world, new Evict(world.machine.platform).from(memory).frames([...victims])));
    },
  },
  {
    name: 'fault',
    weight: 4,
    start(world, slot, below) {
      const context = contextOf(slot, below);
      const { addr } = place(slot, below);
      const access = below(2) === 0 ? 'read' : 'write';
      if (context) quietly(world, () => context.faultAsync(addr, access));
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
      world.slots[free] = {
        space,
        contexts: world.devices.map((device) => (below(3) > 0 ? space.attach(device) : undefined)),
        shared: [...slot.shared],
        rights: slot.rights.map((each) => each.copy()),
        words: slot.words.map((each, i) => (slot.shared[i >> 1] ? each : each.copy())),
      };
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
        if (!isFarfaultError(error) || error.code !== 'EBUSY' || world.pins.length === 0) throw error;
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
      quietly(world, async () => slot.space.attributes.set(range, changes[below(changes.length)]!), ['EBUSY', 'EINVAL']);
    },
  },
  {
    name: 'a device answers',
    weight: 40,
    start: (world, _, below) => (world.late.length > 0 ? world.finish(below(world.late.length)) : undefined),
  },
  { name: 'devices answer late, or at once', weight: 2, start: (world) => (world.slow = !world.slow) },
];
