/** Every public verb, as one row each: how its world is arranged, what it is, and who reads what before and after it. */
import { type AddressRange, type AddressSpace, type Context, type ErrorCode, isFarfaultError, type Machine, MiB } from 'farfault';
import dmirror, { type DmirrorOp, type DmirrorReply } from 'farfault/drivers/dmirror';
import { fail } from '../../sdk/errors.ts';
import { MakeExclusive } from 'farfault/mm';
import { PAGE } from '../machine/probe.ts';
import { type Arranged, type Cell, type DeviceShape, pagesOf, type View, type World } from './world.ts';

export interface Verb {
  readonly name: string;
  /** It needs room for huge pages. */
  readonly huge?: boolean;
  arrange(world: World): Arranged;
}

/** Pages of the usual range. */
const PAGES = 8;
/** What they hold. */
const CELLS: readonly Cell[] = [1, 2, 3, 4, 0, 0, 7, 8];
const GONE: readonly Cell[] = CELLS.map(() => 'EFAULT');
/** What a device reads that has left. */
const LEFT: readonly Cell[] = CELLS.map(() => 'EBADF');

/** The usual: host pages (0, 1), pages on a device (2, 3), the page of zeros (4), a hole (5), a page shared with a child (6), a host page that the device maps (7). */
interface Usual {
  readonly space: AddressSpace;
  readonly range: AddressRange;
  readonly context: Context;
  readonly child: AddressSpace;
  /** The child's view: nothing that is done to the parent reaches it. */
  readonly others: readonly View[];
  at(page: number, offset?: number): number;
  pages(first: number, end: number): AddressRange;
  cpu(after?: readonly Cell[]): View;
  dev(after?: readonly Cell[]): View;
}

function usual(world: World, shape: DeviceShape = {}): Usual {
  const space = world.machine.createAddressSpace();
  const range = space.mmap({ bytes: PAGES * PAGE });
  const at = (page: number, offset = 0): number => range.start + page * PAGE + offset;
  const pages = (first: number, end: number): AddressRange => ({ start: at(first), end: at(end) });
  space.write(at(6), pagesOf(7));
  const child = space.fork();
  space.write(at(0), pagesOf(1, 2, 3, 4));
  const context = world.attach(space, shape);
  if (shape.pages !== 0) context.migrate(pages(2, 4), { to: 'device' });
  space.read(at(4), 1);
  space.write(at(7), pagesOf(8));
  if (shape.pages === 0) context.read(at(7), 1);
  const childCells: Cell[] = [0, 0, 0, 0, 0, 0, 7, 0];
  return {
    space,
    range,
    context,
    child,
    at,
    pages,
    cpu: (after = CELLS) => world.cpuView('the CPU', () => space, range, CELLS, after),
    dev: (after = CELLS) => world.deviceView(context, range, CELLS, after),
    others: [world.cpuView('the child', () => child, range, childCells)],
  };
}

/** The usual cells with some of them changed. */
function but(changes: Readonly<Record<number, Cell>>, of: readonly Cell[] = CELLS): Cell[] {
  return of.map((cell, page) => (page in changes ? changes[page] : cell));
}

/** Outcomes of faults as errors, so that a row needs no other way to fail. */
function served(outcome: string): void {
  if (outcome === 'served' || outcome === 'present') return;
  const code = outcome === 'no memory' ? 'ENOMEM' : outcome === 'bus error' ? 'EIO' : 'EAGAIN';
  throw fail(code, 'fault', outcome, 'is how it ended');
}

/** A row about one verb on the usual pages: what it does, and what the CPU and the device read afterwards. */
function onUsual(
  name: string,
  act: (it: Usual, world: World) => unknown,
  after: readonly Cell[] = CELLS,
  more: { readonly shape?: DeviceShape; readonly codes?: readonly string[]; readonly once?: boolean; readonly dev?: readonly Cell[] } = {},
): Verb {
  return {
    name,
    arrange(world) {
      const it = usual(world, more.shape);
      return {
        act: () => act(it, world),
        views: [it.cpu(after), it.dev(more.dev ?? after), ...it.others],
        codes: more.codes ?? [],
        once: more.once ?? false,
      };
    },
  };
}

// -------------------------------------------------------------------------------------------------------------- spaces and mappings

const mapping: Verb[] = [
  {
    name: 'machine.createAddressSpace',
    arrange(world) {
      const it = usual(world);
      return { act: () => world.machine.createAddressSpace(), views: [it.cpu(), ...it.others] };
    },
  },
  onUsual('space.mmap', ({ space }) => space.mmap({ bytes: 4 * PAGE })),
  onUsual('space.mmap, shared', ({ space }) => space.mmap({ bytes: 4 * PAGE, shared: true })),
  onUsual('space.munmap', ({ space, range }) => space.munmap(range), GONE),
  onUsual('space.munmap of a part', ({ space, pages }) => space.munmap(pages(1, 3)), but({ 1: 'EFAULT', 2: 'EFAULT' })),
  onUsual('space.munmap of pages that a device maps', ({ space, range }) => space.munmap(range), GONE, { shape: { pages: 0 } }),
  onUsual('space.munmap of pages that a driver hands out', ({ space, range }) => space.munmap(range), GONE, {
    shape: { allocator: 'driver' },
  }),
  onUsual('space.mprotect, read-only', ({ space, range }) => space.mprotect(range, 'r')),
  onUsual('space.mprotect, none', ({ space, range }) => space.mprotect(range, 'none'), GONE),
  onUsual('space.mprotect of a part', ({ space, pages }) => space.mprotect(pages(3, 5), 'r')),
  {
    name: 'space.mremap, in place',
    arrange(world) {
      const it = usual(world);
      return { act: () => it.space.mremap(it.range, { bytes: 12 * PAGE }), views: [it.cpu(), it.dev(), ...it.others], once: true };
    },
  },
  {
    name: 'space.mremap, shorter',
    arrange(world) {
      const it = usual(world);
      const after = but({ 3: 'EFAULT', 4: 'EFAULT', 5: 'EFAULT', 6: 'EFAULT', 7: 'EFAULT' });
      return { act: () => it.space.mremap(it.range, { bytes: 3 * PAGE }), views: [it.cpu(after), it.dev(after), ...it.others], once: true };
    },
  },
  {
    name: 'space.mremap, to another place',
    arrange(world) {
      const it = usual(world);
      // Another table page, and another upper level.
      const to = { start: 0x4000_0000_0000, end: 0x4000_0000_0000 + PAGES * PAGE };
      return {
        act: () => it.space.mremap(it.range, { bytes: PAGES * PAGE, mayMove: true, to: to.start }),
        views: [it.cpu(GONE), world.cpuView('the CPU at the new place', () => it.space, to, GONE, CELLS), ...it.others],
        once: true,
      };
    },
  },
  {
    name: 'space.mremap, dontUnmap',
    arrange(world) {
      const it = usual(world);
      const to = { start: 0x4000_0000_0000, end: 0x4000_0000_0000 + PAGES * PAGE };
      const zeros = CELLS.map(() => 0);
      return {
        act: () => it.space.mremap(it.range, { bytes: PAGES * PAGE, mayMove: true, to: to.start, dontUnmap: true }),
        views: [it.cpu(zeros), world.cpuView('the CPU at the new place', () => it.space, to, GONE, CELLS), ...it.others],
        once: true,
      };
    },
  },
  onUsual(
    'space.madvise dontneed',
    ({ space, range }) => space.madvise(range, 'dontneed'),
    CELLS.map(() => 0),
  ),
  // What a device has, and what is shared, is passed over; looking may have brought it home.
  onUsual('space.madvise free', ({ space, range }) => space.madvise(range, 'free'), but({ 0: 0, 1: 0, 2: [0, 3], 3: [0, 4], 7: 0 })),
  onUsual('space.madvise hugepage', ({ space, range }) => space.madvise(range, 'hugepage')),
  onUsual('space.madvise nohugepage', ({ space, range }) => space.madvise(range, 'nohugepage')),
  onUsual('space.madvise dontfork', ({ space, range }) => space.madvise(range, 'dontfork')),
  onUsual('space.madvise dofork', ({ space, range }) => space.madvise(range, 'dofork')),
  ...(['share', 'home', 'omit'] as const).map((device): Verb => ({
    name: `space.fork, ${device}`,
    arrange(world) {
      const it = usual(world);
      let child: AddressSpace | undefined;
      // What is on the device when it is called is left out; looking has moved pages since.
      const cells = device === 'omit' ? CELLS.map((cell): Cell => [cell as number, 0]) : CELLS;
      return {
        act: () => (child = it.space.fork({ device })),
        views: [it.cpu(), it.dev(), ...it.others, world.cpuView('the new child', () => child, it.range, cells)],
      };
    },
  })),
  onUsual(
    'space.close',
    ({ space, context }) => {
      try {
        space.close();
      } catch (error) {
        // Closed already: by the part of the first try that went on by itself.
        if (!isFarfaultError(error) || error.code !== 'EBADF' || context.space !== space) throw error;
      }
    },
    CELLS.map((): Cell => ['EBADF', 'EFAULT']),
    { codes: ['EBUSY'], once: true },
  ),
];

// -------------------------------------------------------------------------------------------------------------- pins and accesses

const accesses: Verb[] = [
  ...[{}, { write: true }, { longTerm: true }, { write: true, longTerm: true }].map((options): Verb => ({
    name: `space.pin ${JSON.stringify(options)}`,
    arrange(world) {
      const it = usual(world);
      let pin: ReturnType<AddressSpace['pin']> | undefined;
      return {
        act: () => {
          pin?.unpin();
          pin = undefined;
          pin = it.space.pin(it.range, options);
        },
        views: [
          it.cpu(),
          it.dev(),
          ...it.others,
          {
            name: 'the pin',
            before: CELLS,
            after: CELLS,
            read: (page) => pin!.read(page * PAGE, 1)[0]!,
            there: () => pin !== undefined,
          },
        ],
        end: () => pin?.unpin(),
      };
    },
  })),
  {
    name: 'space.pin, long-term, of coherent memory',
    arrange(world) {
      const it = usual(world, { kind: 'coherent' });
      let pin: ReturnType<AddressSpace['pin']> | undefined;
      return {
        act: () => (pin = it.space.pin(it.range, { longTerm: true })),
        views: [it.cpu(), it.dev(), ...it.others],
        end: () => pin?.unpin(),
        codes: ['EBUSY'],
        once: true,
      };
    },
  },
  ...CELLS.map((_, page) => onUsual(`space.read of page ${page}`, ({ space, at }) => space.read(at(page), 1), CELLS, { codes: ['EIO'] })),
  ...CELLS.map((_, page) =>
    onUsual(`space.write to page ${page}`, ({ space, at }) => space.write(at(page), pagesOf(99)), but({ [page]: 99 }), { codes: ['EIO'] }),
  ),
  onUsual('space.read of all pages', ({ space, at }) => space.read(at(0), PAGES * PAGE), CELLS, { codes: ['EIO'] }),
  onUsual(
    'space.write to all pages',
    ({ space, at }) => space.write(at(0), pagesOf(...CELLS.map(() => 99))),
    CELLS.map(() => 99),
    { codes: ['EIO'] },
  ),
];

// -------------------------------------------------------------------------------------------------------------- files and shared memory

interface Filed {
  readonly space: AddressSpace;
  readonly file: ReturnType<Machine['createFile']>;
  readonly shared: AddressRange;
  readonly own: AddressRange;
  readonly context: Context;
  views(after?: { readonly shared?: readonly Cell[]; readonly own?: readonly Cell[]; readonly file?: readonly Cell[] }): View[];
}

/** A file of four pages, mapped shared (pages 0 and 1 touched, 1 written) and private (page 2 copied) in one space, and read by a device. */
function filed(world: World): Filed {
  const space = world.machine.createAddressSpace();
  const file = world.machine.createFile({ bytes: 4 * PAGE, content: pagesOf(1, 2, 3, 4) });
  world.files.push(file);
  const shared = space.mmap({ bytes: 4 * PAGE, shared: true, file });
  const own = space.mmap({ bytes: 4 * PAGE, file });
  space.read(shared.start, 1);
  space.write(shared.start + PAGE, pagesOf(12));
  space.read(own.start, 1);
  space.write(own.start + 2 * PAGE, pagesOf(13));
  const context = world.attach(space);
  context.read(shared.start, 1);
  context.read(own.start + 2 * PAGE, 1);
  const sharedCells: Cell[] = [1, 12, 3, 4];
  const ownCells: Cell[] = [1, 12, 13, 4];
  return {
    space,
    file,
    shared,
    own,
    context,
    views: (after = {}) => [
      world.cpuView('the shared mapping', () => space, shared, sharedCells, after.shared ?? sharedCells),
      world.cpuView('the private mapping', () => space, own, ownCells, after.own ?? ownCells),
      world.deviceView(context, shared, sharedCells, after.shared ?? sharedCells),
      {
        name: 'the file',
        before: sharedCells,
        after: after.file ?? after.shared ?? sharedCells,
        read: (page) => {
          const bytes = file.read(page * PAGE, PAGE);
          return bytes.length === 0 ? 'EIO' : bytes[0]!;
        },
      },
    ],
  };
}

function onFile(name: string, act: (it: Filed) => unknown, after: Parameters<Filed['views']>[0] = {}, codes: readonly string[] = []): Verb {
  return {
    name,
    arrange(world) {
      const it = filed(world);
      return { act: () => act(it), views: it.views(after), codes };
    },
  };
}

const files: Verb[] = [
  onFile('space.mmap of a file', ({ space, file }) => space.mmap({ bytes: 4 * PAGE, file, shared: true })),
  onFile('file.write', ({ file }) => file.write(0, pagesOf(21, 22, 23, 24)), { shared: [21, 22, 23, 24], own: [21, 22, 13, 24] }),
  onFile('file.write that makes it longer', ({ file }) => file.write(4 * PAGE, pagesOf(25, 26))),
  onFile('file.truncate', ({ file }) => file.truncate(2 * PAGE), { shared: [1, 12, 'EIO', 'EIO'], own: [1, 12, 'EIO', 'EIO'] }),
  onFile('file.truncate, longer', ({ file }) => file.truncate(6 * PAGE)),
  onFile('file.sync', ({ file }) => file.sync()),
  onFile('space.msync', ({ space, shared }) => space.msync(shared)),
  onFile('space.read of a file, shared', ({ space, shared }) => space.read(shared.start, 4 * PAGE)),
  onFile('space.write to a file, shared', ({ space, shared }) => space.write(shared.start, pagesOf(31, 32, 33, 34)), {
    shared: [31, 32, 33, 34],
    own: [31, 32, 13, 34],
  }),
  onFile('space.write to a file, private', ({ space, own }) => space.write(own.start, pagesOf(31, 32, 33, 34)), { own: [31, 32, 33, 34] }),
  onFile('context.read of a file', ({ context, shared }) => context.read(shared.start, 4 * PAGE), {}, ['EIO']),
  onFile(
    'context.write to a file, shared',
    ({ context, shared }) => context.write(shared.start, pagesOf(31, 32, 33, 34)),
    { shared: [31, 32, 33, 34], own: [31, 32, 13, 34] },
    ['EIO'],
  ),
  onFile(
    'context.write to a file, private',
    ({ context, own }) => context.write(own.start, pagesOf(31, 32, 33, 34)),
    { own: [31, 32, 33, 34] },
    ['EIO'],
  ),
  onFile('space.munmap of a file', ({ space, shared }) => space.munmap(shared), {
    shared: ['EFAULT', 'EFAULT', 'EFAULT', 'EFAULT'],
    file: [1, 12, 3, 4],
  }),
  onFile('space.mprotect of a file', ({ space, shared }) => space.mprotect(shared, 'r')),
  onFile('space.madvise dontneed of a file, shared', ({ space, shared }) => space.madvise(shared, 'dontneed')),
  onFile('space.madvise dontneed of a file, private', ({ space, own }) => space.madvise(own, 'dontneed'), { own: [1, 12, 3, 4] }),
  onFile('space.fork with a file', ({ space }) => space.fork()),
];

// -------------------------------------------------------------------------------------------------------------- devices

/** What a device access may fail with. */
const DEVICE = ['EIO', 'EAGAIN', 'ETIME'];

function onDevice(
  name: string,
  act: (it: Usual, world: World) => unknown,
  after: readonly Cell[] = CELLS,
  codes: readonly string[] = DEVICE,
): Verb[] {
  const shapes: readonly (readonly [string, DeviceShape])[] = [
    ['', {}],
    [', granules of 4 pages', { granulePages: 4 }],
    [', 4 pages of memory', { pages: 4, granulePages: 2 }],
    [', a driver that hands out 4 pages', { pages: 4, allocator: 'driver' }],
    [', coherent memory', { kind: 'coherent' }],
    [', no memory', { pages: 0 }],
  ];
  return shapes
    .filter(([, { pages }]) => pages !== 0 || !name.includes('migrate'))
    .map(([what, shape]) => onUsual(`${name}${what}`, act, after, { shape, codes }));
}

const devices: Verb[] = [
  ...onDevice('context.read', ({ context, at }) => context.read(at(0), PAGES * PAGE)),
  ...onDevice(
    'context.write',
    ({ context, at }) => context.write(at(0), pagesOf(...CELLS.map(() => 99))),
    CELLS.map(() => 99),
  ),
  ...onDevice('context.submit', ({ context, at }) =>
    context.submit({ accesses: CELLS.map((_, page) => ({ op: 'read' as const, addr: at(page), bytes: 8 })), lanes: 4 }),
  ),
  ...onDevice('context.migrate to the device', ({ context, range }) => context.migrate(range, { to: 'device' }), CELLS),
  ...onDevice('context.migrate to the host', ({ context, range }) => context.migrate(range, { to: 'host' }), CELLS),
  ...[0, 2, 5, 6].flatMap((page) =>
    (['read', 'write'] as const).map((access) =>
      onUsual(`context.fault, ${access} of page ${page}`, ({ context, at }) => served(context.fault(at(page), access)), CELLS, {
        codes: DEVICE,
      }),
    ),
  ),
  ...(['native', 'exclusive', 'migrate'] as const).flatMap((means) =>
    [0, 2, 5, 6].map((page) =>
      onUsual(
        `context.atomic, ${means}, page ${page}`,
        ({ context, at }) => context.atomic(at(page), { op: 'exchange', bytes: 4, operand: 0 }) as unknown,
        but({ [page]: page === 5 ? 0 : undefined }),
        { shape: { atomics: [means] }, codes: DEVICE },
      ),
    ),
  ),
  onUsual(
    'make exclusive',
    ({ space, context, at }, { machine }) => {
      for (let page = 0; page < PAGES; page++) {
        const step = new MakeExclusive(machine.platform).of(space, at(page) / PAGE, context.device.owner, {}, (frame) =>
          context.installAlone(at(page) / PAGE, frame),
        );
        machine.platform.scheduler.runSync(step);
        served(step.outcome === 'done' ? 'served' : step.outcome);
      }
    },
    CELLS,
    { codes: DEVICE },
  ),
  onUsual('context.command', ({ context }) => context.command({ hello: 1 })),
  onUsual('context.detach', ({ context }) => context.detach(), CELLS, { codes: ['EAGAIN'], once: true, dev: LEFT }),
  onUsual('context.detach, a driver that hands out pages', ({ context }) => context.detach(), CELLS, {
    codes: ['EAGAIN'],
    once: true,
    shape: { allocator: 'driver' },
    dev: LEFT,
  }),
  {
    name: 'space.attach',
    arrange(world) {
      const it = usual(world);
      const other = world.device({ name: 'npu', pages: 4 });
      return { act: () => it.space.attach(other), views: [it.cpu(), it.dev(), ...it.others], once: true };
    },
  },
  {
    name: 'machine.addDevice',
    arrange(world) {
      const it = usual(world);
      let added = 0;
      return { act: () => (world.device({ name: `npu${added}`, pages: 4 }), added++), views: [it.cpu(), it.dev(), ...it.others] };
    },
  },
  {
    name: 'device.addMemory',
    arrange(world) {
      const it = usual(world);
      let added = 0;
      return {
        act: () => it.context.device.addMemory({ name: `more${added++}`, kind: 'private', bytes: 4 * PAGE }),
        views: [it.cpu(), it.dev(), ...it.others],
      };
    },
  },
  {
    name: 'device.removeMemory',
    arrange(world) {
      const it = usual(world);
      return {
        act: () => it.context.device.removeMemory(it.context.device.memory!),
        views: [it.cpu(), it.dev(), ...it.others],
        codes: ['EBUSY'],
        once: true,
      };
    },
  },
  {
    name: 'two devices hand pages to each other',
    arrange(world) {
      const it = usual(world);
      const npu = world.attach(it.space, { name: 'npu', pages: 16 });
      return {
        act: () => npu.write(it.at(0), pagesOf(...CELLS.map(() => 99))),
        views: [it.cpu(CELLS.map(() => 99)), it.dev(CELLS.map(() => 99)), ...it.others],
        codes: DEVICE,
      };
    },
  },
];

// -------------------------------------------------------------------------------------------------------------- huge pages

const HUGE = 2 * MiB;

interface Big {
  readonly space: AddressSpace;
  readonly range: AddressRange;
  /** Pages that are looked at: first, middle and last of each huge page. */
  views(after?: readonly Cell[]): View[];
}

/** Two huge pages: the first written (pages 0, 255 and 511 hold 1, 2, 3), the second a hole. */
function big(world: World): Big {
  const space = world.machine.createAddressSpace();
  const range = space.mmap({ bytes: 2 * HUGE, align: HUGE });
  space.madvise(range, 'hugepage');
  const spots = [0, 255, 511, 512, 1023].map((page) => range.start + page * PAGE);
  [1, 2, 3].forEach((value, i) => space.write(spots[i]!, pagesOf(value)));
  const cells: Cell[] = [1, 2, 3, 0, 0];
  return {
    space,
    range,
    views: (after = cells) => [
      {
        name: 'the CPU',
        before: cells,
        after,
        read: (page) => {
          try {
            return space.read(spots[page]! + 7, 1)[0];
          } catch (error) {
            if (isFarfaultError(error)) return error.code;
            throw error;
          }
        },
      },
    ],
  };
}

function onBig(
  name: string,
  act: (it: Big, world: World) => unknown,
  after?: readonly Cell[],
  more: { readonly codes?: readonly string[]; readonly once?: boolean; readonly before?: (it: Big, world: World) => void } = {},
): Verb {
  return {
    name: `huge: ${name}`,
    huge: true,
    arrange(world) {
      const it = big(world);
      more.before?.(it, world);
      return { act: () => act(it, world), views: it.views(after), codes: more.codes ?? [], once: more.once ?? false };
    },
  };
}

const half = ({ range }: Big): AddressRange => ({ start: range.start, end: range.start + HUGE / 2 });
const hugeDevice = (it: Big, world: World): Context => world.contexts[0] ?? world.attach(it.space, { pages: 1024, granulePages: 512 });
const toDevice = (it: Big, world: World): void => {
  hugeDevice(it, world).migrate({ start: it.range.start, end: it.range.start + HUGE }, { to: 'device' });
};

const huge: Verb[] = [
  onBig('space.write to a hole', ({ space, range }) => space.write(range.start + HUGE, pagesOf(9)), [1, 2, 3, 9, 0]),
  onBig('space.read of a hole', ({ space, range }) => space.read(range.start + HUGE, 1)),
  onBig('space.write to the huge page of zeros', ({ space, range }) => space.write(range.start + HUGE, pagesOf(9)), [1, 2, 3, 9, 0], {
    before: ({ space, range }) => space.read(range.start + HUGE, 1),
  }),
  onBig('space.munmap of a half', (it) => it.space.munmap(half(it)), ['EFAULT', 'EFAULT', 3, 0, 0]),
  onBig('space.munmap', ({ space, range }) => space.munmap(range), ['EFAULT', 'EFAULT', 'EFAULT', 'EFAULT', 'EFAULT']),
  onBig('space.mprotect of a half', (it) => it.space.mprotect(half(it), 'r')),
  onBig('space.madvise dontneed of a half', (it) => it.space.madvise(half(it), 'dontneed'), [0, 0, 3, 0, 0]),
  onBig('space.madvise collapse', ({ space, range }) => space.madvise(range, 'collapse')),
  onBig('space.madvise collapse of small pages', ({ space, range }) => space.madvise(range, 'collapse'), undefined, {
    before({ space, range }) {
      space.madvise({ start: range.start, end: range.start + PAGE }, 'dontneed');
      space.write(range.start, pagesOf(1));
    },
    codes: ['EBUSY'],
  }),
  onBig('space.fork', ({ space }) => space.fork()),
  onBig('space.write after fork', ({ space, range }) => space.write(range.start, pagesOf(9)), [9, 2, 3, 0, 0], {
    before: ({ space }) => void space.fork(),
  }),
  onBig('space.munmap of a half after two forks', (it) => it.space.munmap(half(it)), ['EFAULT', 'EFAULT', 3, 0, 0], {
    before({ space }) {
      space.fork();
      space.fork();
    },
  }),
  onBig(
    'space.mremap of a half',
    (it) => it.space.mremap(half(it), { bytes: HUGE / 2, mayMove: true, to: 0x4000_0000_0000 }),
    ['EFAULT', 'EFAULT', 3, 0, 0],
    { once: true },
  ),
  onBig(
    'space.mremap',
    ({ space, range }) => space.mremap(range, { bytes: 2 * HUGE, mayMove: true, to: 0x4000_0000_0000 }),
    ['EFAULT', 'EFAULT', 'EFAULT', 'EFAULT', 'EFAULT'],
    { once: true },
  ),
  {
    name: 'huge: space.pin of a part',
    huge: true,
    arrange(world) {
      const it = big(world);
      let pin: ReturnType<AddressSpace['pin']> | undefined;
      return {
        act: () => {
          pin?.unpin();
          pin = undefined;
          pin = it.space.pin({ start: it.range.start + PAGE, end: it.range.start + 3 * PAGE }, { write: true });
        },
        views: it.views(),
        end: () => pin?.unpin(),
      };
    },
  },
  onBig('context.migrate to the device', toDevice, undefined, { before: (it, world) => void hugeDevice(it, world), codes: DEVICE }),
  onBig('context.migrate of a hole to the device', (it, world) => hugeDevice(it, world).migrate(it.range, { to: 'device' }), undefined, {
    before: (it, world) => void hugeDevice(it, world),
    codes: DEVICE,
  }),
  onBig('context.migrate to the host', (it, world) => hugeDevice(it, world).migrate(it.range, { to: 'host' }), undefined, {
    before: toDevice,
    codes: DEVICE,
  }),
  onBig('space.read of a huge page on the device', ({ space, range }) => space.read(range.start + 5 * PAGE, 1), undefined, {
    before: toDevice,
    codes: ['EIO'],
  }),
  onBig('space.write to a huge page on the device', ({ space, range }) => space.write(range.start, pagesOf(9)), [9, 2, 3, 0, 0], {
    before: toDevice,
    codes: ['EIO'],
  }),
  onBig('space.munmap of a half on the device', (it) => it.space.munmap(half(it)), ['EFAULT', 'EFAULT', 3, 0, 0], { before: toDevice }),
  onBig('space.fork, home', ({ space }) => space.fork({ device: 'home' }), undefined, { before: toDevice }),
  onBig('context.write', (it, world) => hugeDevice(it, world).write(it.range.start, pagesOf(9)), [9, 2, 3, 0, 0], {
    before: (it, world) => void hugeDevice(it, world),
    codes: DEVICE,
  }),
  onBig('context.detach', (it, world) => hugeDevice(it, world).detach(), undefined, { before: toDevice, codes: ['EAGAIN'], once: true }),
  onBig(
    'device.removeMemory',
    (it, world) => {
      const { device } = hugeDevice(it, world);
      if (device.memory) device.removeMemory(device.memory);
    },
    undefined,
    { before: toDevice, codes: ['EBUSY'] },
  ),
  onBig(
    'make exclusive',
    (it, { machine }) => {
      const step = new MakeExclusive(machine.platform).of(it.space, it.range.start / PAGE + 3, 0, {}, () => undefined);
      machine.platform.scheduler.runSync(step);
      served(step.outcome === 'done' ? 'served' : step.outcome);
    },
    undefined,
    { codes: DEVICE },
  ),
  {
    name: 'huge: space.write to hugetlb memory',
    huge: true,
    arrange(world) {
      const space = world.machine.createAddressSpace();
      const range = space.mmap({ bytes: 2 * HUGE, align: HUGE, hugetlb: HUGE });
      space.write(range.start, pagesOf(1));
      const first = { start: range.start, end: range.start + PAGE };
      const second = { start: range.start + HUGE, end: range.start + HUGE + PAGE };
      return {
        act: () => space.write(second.start, pagesOf(9)),
        views: [world.cpuView('the first', () => space, first, [1]), world.cpuView('the second', () => space, second, [0], [9])],
        codes: ['EIO'],
      };
    },
  },
  {
    name: 'huge: space.write to hugetlb memory after fork',
    huge: true,
    arrange(world) {
      const space = world.machine.createAddressSpace();
      const range = space.mmap({ bytes: HUGE, align: HUGE, hugetlb: HUGE });
      space.write(range.start, pagesOf(1));
      const child = space.fork();
      const first = { start: range.start, end: range.start + PAGE };
      return {
        act: () => space.write(first.start, pagesOf(9)),
        views: [world.cpuView('the parent', () => space, first, [1], [9]), world.cpuView('the child', () => child, first, [1])],
        codes: ['EIO'],
      };
    },
  },
];

// -------------------------------------------------------------------------------------------------------------- a driver in control

/** What the commands of the test device answer with when something is wanting, as codes. */
const REPLIES: Readonly<Record<number, ErrorCode>> = { [-2]: 'EAGAIN', [-5]: 'EIO', [-12]: 'ENOMEM', [-16]: 'EBUSY' };

/** A command on the usual pages of a space; the first two are on the device with `onDevice`. */
function onDmirror(op: DmirrorOp, after: readonly Cell[], { onDevice = false, kind = 'private' as 'private' | 'coherent' } = {}): Verb {
  return {
    name: `dmirror ${kind}: ${op}${onDevice ? ' of pages on the device' : ''}`,
    huge: true,
    arrange(world) {
      const space = world.machine.createAddressSpace();
      const range = space.mmap({ bytes: PAGES * PAGE });
      const cells: Cell[] = [1, 2, 3, 4, 0, 0, 0, 0];
      space.write(range.start, pagesOf(1, 2, 3, 4));
      space.read(range.start + 4 * PAGE, 1);
      const context = space.attach(world.add(dmirror({ kind, chunkBytes: HUGE })));
      world.contexts.push(context);
      const command = (what: DmirrorOp, pages: number): void => {
        const buffer = new Uint8Array(pages * PAGE).fill(99);
        const { ret } = context.command({ op: what, addr: range.start, pages, buffer }) as DmirrorReply;
        if (ret !== 0) throw fail(REPLIES[ret] ?? 'EINVAL', `dmirror.${what}`, ret, 'is what it answers');
      };
      if (onDevice) command('MIGRATE_TO_DEV', 2);
      return {
        act: () => command(op, PAGES),
        views: [world.cpuView('the CPU', () => space, range, cells, after.length > 0 ? after : cells)],
        codes: ['EAGAIN', 'EIO', 'EBUSY'],
      };
    },
  };
}

const dmirrors: Verb[] = (['private', 'coherent'] as const).flatMap((kind) =>
  [false, true].flatMap((onDevice) => [
    onDmirror('READ', [], { onDevice, kind }),
    onDmirror(
      'WRITE',
      CELLS.map(() => 99),
      { onDevice, kind },
    ),
    onDmirror('MIGRATE_TO_DEV', [], { onDevice, kind }),
    onDmirror('MIGRATE_TO_SYS', [], { onDevice, kind }),
    onDmirror('EXCLUSIVE', [], { onDevice, kind }),
    onDmirror('RELEASE', [], { onDevice, kind }),
  ]),
);

export const VERBS: readonly Verb[] = [...mapping, ...accesses, ...files, ...devices, ...huge, ...dmirrors];
