/** What the shipped drivers must do beside keeping the contract: the scenarios of their author, as `expectations.exercise` has them. */
import { type Context, isFarfaultError } from 'farfault';
import dmirror, { type DmirrorOp, type DmirrorReply } from 'farfault/drivers/dmirror';
import mirror from 'farfault/drivers/mirror';
import nouveau from 'farfault/drivers/nouveau';
import type { Driver } from 'farfault/gmem';
import type { Bench } from 'farfault/testing';
import { late } from './zoo/good.ts';

const PAGE = 4096;
const HUGE = 512;

const EPERM = -1;
const ENOENT = -2;
const ENOMEM = -12;
const EFAULT = -14;
const EBUSY = -16;
const EINVAL = -22;
const EOPNOTSUPP = -95;
const FAIL_ALLOC = 1;

// Bytes of a snapshot.
const NONE = 0x00;
const READ = 0x01;
const WRITE = 0x02;
const PMD = 0x04;
const ZERO = 0x10;

interface Range {
  readonly start: number;
  readonly end: number;
}

/** Page `page` is filled with `first + page`. */
function pattern(pages: number, first: number): Uint8Array {
  const bytes = new Uint8Array(pages * PAGE);
  for (let page = 0; page < pages; page++) bytes.fill(first + page, page * PAGE, (page + 1) * PAGE);
  return bytes;
}

function part({ start }: Range, from: number, pages: number): Range {
  return { start: start + from * PAGE, end: start + (from + pages) * PAGE };
}

function same(bench: Bench, actual: unknown, expected: unknown, what: string): void {
  bench.equal(JSON.stringify(actual), JSON.stringify(expected), what);
}

function sameBytes(bench: Bench, actual: Uint8Array, expected: Uint8Array, what: string): void {
  bench.equal(actual.length, expected.length, `length of ${what}`);
  bench.equal(
    actual.findIndex((byte, i) => byte !== expected[i]),
    -1,
    `first wrong byte of ${what}`,
  );
}

/** Commands on one mirror. */
class Commands {
  readonly bench: Bench;
  readonly context: Context;
  /** What a page on this device, and one on another of its kind, looks like in a snapshot. */
  readonly local: number;
  readonly remote: number;

  constructor(bench: Bench, context: Context = bench.context) {
    this.bench = bench;
    this.context = context;
    const coherent = bench.driver.memory![0]!.kind === 'coherent';
    this.local = coherent ? 0x40 : 0x20;
    // Private memory of another device is nothing to a look that faults nothing in.
    this.remote = coherent ? 0x50 | WRITE : NONE;
  }

  get coherent(): boolean {
    return this.local === 0x40;
  }

  async raw(request: unknown): Promise<DmirrorReply> {
    return (await this.bench.wait(this.context.commandAsync(request))) as DmirrorReply;
  }

  async run(op: DmirrorOp, range: Range, buffer?: Uint8Array): Promise<DmirrorReply> {
    return this.raw({ op, addr: range.start, pages: (range.end - range.start) / PAGE, ...(buffer ? { buffer } : {}) });
  }

  /** The reply must be this. */
  async replies(op: DmirrorOp, range: Range, buffer: Uint8Array | undefined, reply: DmirrorReply): Promise<void> {
    this.bench.mark();
    same(this.bench, await this.run(op, range, buffer), reply, `reply to ${op}`);
  }

  /** It must be refused with this number, and leave the buffer as it was. */
  async refuses(op: DmirrorOp, range: Range, ret: number): Promise<void> {
    const pages = (range.end - range.start) / PAGE;
    const buffer = new Uint8Array(pages * PAGE).fill(0xee);
    await this.replies(op, range, buffer, { ret, cpages: 0, faults: 0 });
    this.bench.equal(
      buffer.every((byte) => byte === 0xee),
      true,
      `that ${op}, refused, leaves the buffer alone`,
    );
  }

  /** READ must find these bytes, in so many rounds. */
  async reads(range: Range, bytes: Uint8Array, faults: number): Promise<void> {
    const buffer = new Uint8Array(bytes.length + 5).fill(0xee);
    await this.replies('READ', range, buffer, { ret: 0, cpages: bytes.length / PAGE, faults });
    sameBytes(this.bench, buffer.subarray(0, bytes.length), bytes, 'what READ found');
    this.bench.equal(
      buffer.subarray(bytes.length).every((byte) => byte === 0xee),
      true,
      'that READ leaves the rest of the buffer alone',
    );
  }

  async writes(range: Range, bytes: Uint8Array, faults: number): Promise<void> {
    await this.replies('WRITE', range, bytes, { ret: 0, cpages: bytes.length / PAGE, faults });
    this.bench.wrote(this.context.space, range.start, bytes);
  }

  async goesToDevice(range: Range, bytes: Uint8Array): Promise<void> {
    const buffer = new Uint8Array(bytes.length).fill(0xee);
    await this.replies('MIGRATE_TO_DEV', range, buffer, { ret: 0, cpages: bytes.length / PAGE, faults: 0 });
    sameBytes(this.bench, buffer, bytes, 'what MIGRATE_TO_DEV read back');
  }

  async comesHome(range: Range, cpages: number): Promise<void> {
    await this.replies('MIGRATE_TO_SYS', range, undefined, { ret: 0, cpages, faults: 0 });
  }

  /** The snapshot, a byte a page. */
  async looks(range: Range, bytes: readonly number[] | number): Promise<void> {
    const pages = (range.end - range.start) / PAGE;
    const buffer = new Uint8Array(pages).fill(0xee);
    await this.replies('SNAPSHOT', range, buffer, { ret: 0, cpages: pages, faults: 0 });
    same(this.bench, [...buffer], typeof bytes === 'number' ? new Array(pages).fill(bytes) : bytes, 'snapshot');
  }

  async flags(flags: number): Promise<void> {
    same(this.bench, await this.raw({ op: 'FLAGS', addr: 0, pages: flags }), { ret: 0, cpages: 0, faults: 0 }, 'reply to FLAGS');
  }
}

/** The test device: nine commands, each with what it returns. */
export async function dmirrorScenario(bench: Bench): Promise<void> {
  const MIB = 2 ** 20;
  describes(bench, dmirror(), { name: 'dmirror0', memory: [{ name: 'chunk0', kind: 'private', bytes: 16 * MIB }] });
  describes(bench, dmirror({ name: 'other', kind: 'coherent', chunkBytes: 4 * MIB }), {
    name: 'other',
    memory: [{ name: 'chunk0', kind: 'coherent', bytes: 4 * MIB }],
  });
  for (const chunkBytes of [0, -2 * MIB, MIB, 2 * MIB + 1, Number.NaN, '2097152' as never])
    refuses(bench, () => dmirror({ chunkBytes }), `chunkBytes: ${String(chunkBytes)}`);
  refuses(bench, () => dmirror({ name: 3 as never }), 'a name that is a number');
  refuses(bench, () => dmirror({ kind: 'public' as never }), 'a kind that there is not');
  const fd = new Commands(bench);
  await requests(bench, fd);
  await readingAndWriting(bench, fd);
  await migrating(bench, fd);
  await refusedAllocations(bench, fd);
  await exclusive(bench, fd);
  await snapshots(bench, fd);
  await huge(bench, fd);
  await leaves(bench, fd);
  await chunks(bench, fd);
  await together(bench, fd);
  await brokenOff(bench);
  await twoMirrors(bench, fd);
  await twoDevices(bench, fd);
}

async function requests(bench: Bench, fd: Commands): Promise<void> {
  const range = bench.mmap(2);
  const buffer = new Uint8Array(2 * PAGE);
  const { start: addr } = range;
  const good = { op: 'READ', addr, pages: 2, buffer };
  const bad: readonly (readonly [string, object, number])[] = [
    ['an address that is not aligned', { ...good, addr: addr + 8 }, EINVAL],
    ['a negative address', { ...good, addr: -PAGE }, EINVAL],
    ['a fraction', { ...good, addr: addr + 0.5 }, EINVAL],
    ['an address that is text', { ...good, addr: String(addr) }, EINVAL],
    ['no pages', { ...good, pages: 0 }, EINVAL],
    ['negative pages', { ...good, pages: -1 }, EINVAL],
    ['half a page', { ...good, pages: 0.5 }, EINVAL],
    ['pages that are text', { ...good, pages: '2' }, EINVAL],
    ['an unknown operation', { ...good, op: 'LAUNCH' }, EINVAL],
    ['an operation of every object', { ...good, op: 'toString' }, EINVAL],
    ['no operation', { ...good, op: undefined }, EINVAL],
    ['an end behind the address space', { ...good, addr: 2 ** 48 - PAGE }, EINVAL],
    ['no buffer', { ...good, buffer: undefined }, EFAULT],
    ['a buffer of another type', { ...good, buffer: [...buffer] }, EFAULT],
    ['a buffer that is too short', { ...good, buffer: buffer.subarray(1) }, EFAULT],
    ['a buffer that is too short for a snapshot', { ...good, op: 'SNAPSHOT', buffer: new Uint8Array(1) }, EFAULT],
    ['a buffer that is too short to write', { ...good, op: 'WRITE', buffer: buffer.subarray(1) }, EFAULT],
    ['a buffer that is too short to migrate', { ...good, op: 'MIGRATE_TO_DEV', buffer: buffer.subarray(1) }, EFAULT],
    ['a buffer that is too short to be exclusive', { ...good, op: 'EXCLUSIVE', buffer: buffer.subarray(1) }, EFAULT],
  ];
  for (const [what, request, ret] of bad) same(bench, await fd.raw(request), { ret, cpages: 0, faults: 0 }, `reply to ${what}`);
  for (const request of [null, 3, 'READ', undefined]) {
    const error = await bench.fails('EINVAL', fd.raw(request), `a request that is ${String(request)}`);
    bench.require(error.message.includes('command.request'), `the error of a request that is none does not name it: ${error.message}`);
  }
  // At the end of the address space nothing is mapped, but the request is a good one.
  same(bench, (await fd.raw({ ...good, addr: 2 ** 48 - 2 * PAGE })).ret, EFAULT, 'reply to the last pages');
  same(bench, (await fd.raw({ ...good, addr: 0 })).ret, EFAULT, 'reply to address 0');
  await fd.replies('READ', range, new Uint8Array(2 * PAGE + 1), { ret: 0, cpages: 2, faults: 1 });
  await fd.replies('CHECK_EXCLUSIVE', range, undefined, { ret: 0, cpages: 0, faults: 0 });
}

async function readingAndWriting(bench: Bench, fd: Commands): Promise<void> {
  // More than one look's worth, and no multiple of one.
  const range = bench.mmap(70);
  const first = pattern(70, 1);
  await bench.wait(bench.space.writeAsync(range.start, first));
  bench.wrote(bench.space, range.start, first);
  await fd.reads(range, first, 1);
  await fd.reads(range, first, 0);
  const second = pattern(70, 101);
  await fd.writes(range, second, 0);
  await bench.cpuSees(range, 0, 70);
  // A hole in the table is one round, from there on.
  bench.space.madvise(part(range, 40, 2), 'dontneed');
  const third = second.slice().fill(0, 40 * PAGE, 42 * PAGE);
  bench.wrote(bench.space, range.start + 40 * PAGE, new Uint8Array(2 * PAGE));
  await fd.reads(range, third, 1);
  await fd.writes(part(range, 40, 2), pattern(2, 7), 1);
  await bench.cpuSees(range, 0, 70);

  // Fresh pages.
  const fresh = bench.mmap(3);
  await fd.writes(fresh, pattern(3, 9), 1);
  await bench.cpuSees(fresh, 0, 3);
  const zeros = bench.mmap(3);
  await fd.reads(zeros, new Uint8Array(3 * PAGE), 1);
  await fd.writes(part(zeros, 1, 1), pattern(1, 3), 1);
  await bench.cpuSees(zeros, 0, 3);

  // Rights.
  await bench.mprotect(part(range, 0, 4), 'r');
  await fd.refuses('WRITE', part(range, 0, 4), EPERM);
  await fd.refuses('WRITE', part(range, 2, 4), EPERM);
  const then = new Uint8Array(70 * PAGE);
  then.set(bench.space.read(range.start, 70 * PAGE));
  await fd.reads(part(range, 0, 4), then.slice(0, 4 * PAGE), 1);
  await fd.refuses('WRITE', part(range, 0, 4), EPERM);
  await bench.mprotect(part(range, 0, 4), 'none');
  await fd.refuses('READ', part(range, 0, 4), EFAULT);
  await bench.mprotect(part(range, 0, 4), 'rw');
  await fd.writes(part(range, 0, 4), pattern(4, 77), 1);
  await bench.cpuSees(range, 0, 70);

  // The last page is missing: no byte of the others is handed over.
  const short = bench.mmap(4);
  await bench.munmap(part(short, 3, 1));
  await fd.refuses('READ', short, EFAULT);
  await fd.refuses('WRITE', short, EFAULT);
  bench.wrote(bench.space, short.start, bench.space.read(short.start, 3 * PAGE));
}

async function migrating(bench: Bench, fd: Commands): Promise<void> {
  const range = bench.mmap(6);
  const bytes = pattern(6, 21);
  await bench.wait(bench.space.writeAsync(range.start, bytes));
  bench.wrote(bench.space, range.start, bytes);
  await fd.goesToDevice(range, bytes);
  // The first chunk is there from the beginning, and cut small.
  bench.equal(bench.device.memories.length, 1, 'chunks that six small pages take');
  await fd.looks(range, fd.local | WRITE);
  await fd.reads(range, bytes, 0);
  await fd.writes(part(range, 1, 2), pattern(2, 90), 0);
  bytes.set(pattern(2, 90), PAGE);
  // What is there does not go again, and is read back.
  await fd.goesToDevice(range, bytes);
  await fd.comesHome(part(range, 0, 4), 4);
  await fd.looks(range, [WRITE, WRITE, WRITE, WRITE, fd.local | WRITE, fd.local | WRITE]);
  await fd.comesHome(range, 2);
  await fd.comesHome(range, 0);
  await bench.cpuSees(range, 0, 6);

  // Holes and pages of zeros go, too; the device may read them, and a write comes by a fault.
  const holes = bench.mmap(4);
  await bench.cpuSees(holes, 2, 1);
  await fd.goesToDevice(holes, new Uint8Array(4 * PAGE));
  await fd.looks(holes, fd.local | WRITE);
  await fd.writes(holes, pattern(4, 31), 1);
  await bench.cpuSees(holes, 0, 4);

  // What may not be written stays so.
  await bench.mprotect(range, 'r');
  await fd.goesToDevice(range, bytes);
  await fd.looks(range, fd.local | READ);
  await fd.refuses('WRITE', range, EPERM);
  await bench.mprotect(range, 'rw');
  await fd.comesHome(range, 6);

  // No mapping, no right to read; what lies before has gone.
  await bench.mprotect(part(range, 4, 1), 'none');
  await fd.refuses('MIGRATE_TO_DEV', part(range, 3, 2), EINVAL);
  // A page of private memory gets its right back by a fault only.
  await fd.looks(part(range, 3, 1), fd.local | (fd.coherent ? WRITE : READ));
  await fd.refuses('MIGRATE_TO_SYS', part(range, 4, 1), EINVAL);
  await bench.mprotect(part(range, 4, 1), 'rw');
  await bench.munmap(part(range, 5, 1));
  await fd.refuses('MIGRATE_TO_DEV', range, EINVAL);
  await fd.refuses('MIGRATE_TO_SYS', range, EINVAL);
  await bench.cpuSees(range, 0, 5);

  // One that somebody holds stays, and the read-back misses it.
  const held = bench.mmap(3);
  await bench.wait(bench.space.writeAsync(held.start, pattern(3, 41)));
  bench.wrote(bench.space, held.start, pattern(3, 41));
  const pin = bench.space.pin(part(held, 1, 1));
  await fd.refuses('MIGRATE_TO_DEV', held, ENOENT);
  await fd.looks(held, [fd.local | WRITE, WRITE, fd.local | WRITE]);
  pin.unpin();
  await fd.goesToDevice(held, pattern(3, 41));
  await bench.cpuSees(held, 0, 3);

  // More than one migration, across two mappings, not aligned.
  const long = bench.mmap(700);
  const many = pattern(700, 3);
  await bench.wait(bench.space.writeAsync(long.start, many));
  bench.wrote(bench.space, long.start, many);
  await bench.mprotect(part(long, 0, 9), 'r');
  await fd.goesToDevice(part(long, 5, 690), many.subarray(5 * PAGE, 695 * PAGE));
  await fd.comesHome(part(long, 5, 690), 690);
  await bench.mprotect(part(long, 0, 9), 'rw');
  await bench.munmap(long);
}

async function refusedAllocations(bench: Bench, fd: Commands): Promise<void> {
  const range = bench.mmap(4);
  const bytes = pattern(4, 51);
  await bench.wait(bench.space.writeAsync(range.start, bytes));
  bench.wrote(bench.space, range.start, bytes);
  await fd.flags(FAIL_ALLOC);
  await fd.refuses('MIGRATE_TO_DEV', range, ENOENT);
  await fd.looks(range, [WRITE, fd.local | WRITE, fd.local | WRITE, fd.local | WRITE]);
  // Once.
  await fd.goesToDevice(range, bytes);
  await fd.flags(FAIL_ALLOC);
  await fd.refuses('MIGRATE_TO_SYS', range, ENOMEM);
  await fd.looks(range, fd.local | WRITE);
  await fd.comesHome(range, 4);
  // Other bits mean nothing, and there may be many of them.
  await fd.flags(2);
  await fd.flags(2 ** 40);
  await fd.goesToDevice(range, bytes);
  await bench.cpuSees(range, 0, 4);
}

async function exclusive(bench: Bench, fd: Commands): Promise<void> {
  const range = bench.mmap(3);
  const bytes = pattern(3, 61);
  await bench.wait(bench.space.writeAsync(range.start, bytes));
  bench.wrote(bench.space, range.start, bytes);
  const back = new Uint8Array(3 * PAGE);
  await fd.replies('EXCLUSIVE', range, back, { ret: 0, cpages: 3, faults: 0 });
  sameBytes(bench, back, bytes, 'what EXCLUSIVE read back');
  await fd.refuses('CHECK_EXCLUSIVE', range, EPERM);
  await fd.reads(range, bytes, 0);
  await bench.cpuSees(range, 0, 1);
  await fd.replies('CHECK_EXCLUSIVE', part(range, 0, 1), undefined, { ret: 0, cpages: 0, faults: 0 });
  await fd.refuses('CHECK_EXCLUSIVE', part(range, 0, 2), EPERM);
  await fd.refuses('CHECK_EXCLUSIVE', part(range, 2, 1), EPERM);
  await bench.cpuSees(range, 1, 1);
  await fd.refuses('CHECK_EXCLUSIVE', range, EPERM);
  // A plain write of the device ends it.
  await fd.writes(part(range, 2, 1), pattern(1, 99), 1);
  await fd.replies('CHECK_EXCLUSIVE', range, undefined, { ret: 0, cpages: 0, faults: 0 });
  await bench.cpuSees(range, 0, 3);

  // Fresh pages become real ones.
  const fresh = bench.mmap(2);
  await fd.replies('EXCLUSIVE', fresh, new Uint8Array(2 * PAGE), { ret: 0, cpages: 2, faults: 0 });
  await fd.refuses('CHECK_EXCLUSIVE', fresh, EPERM);
  await bench.cpuSees(fresh, 0, 2);

  await bench.mprotect(part(range, 1, 1), 'r');
  await fd.refuses('EXCLUSIVE', range, EFAULT);
  // What was made before stays so.
  await fd.refuses('CHECK_EXCLUSIVE', part(range, 0, 1), EPERM);
  await bench.mprotect(part(range, 1, 1), 'rw');
  await bench.munmap(part(range, 2, 1));
  await fd.refuses('EXCLUSIVE', range, EFAULT);
  await bench.cpuSees(range, 0, 2);
  // Not on a shared mapping.
  const shared = bench.space.mmap({ bytes: PAGE, prot: 'rw', flags: 'shared' } as never);
  const { ret } = await fd.run('EXCLUSIVE', shared, new Uint8Array(PAGE));
  bench.require([0, EOPNOTSUPP, EFAULT].includes(ret), `EXCLUSIVE on a shared mapping answers ${ret}`);
  bench.space.munmap(shared);
}

async function snapshots(bench: Bench, fd: Commands): Promise<void> {
  const range = bench.mmap(40);
  // Written, of zeros, never touched, read-only, without rights, not mapped.
  await bench.cpuWrite(range, 0, 1, 5);
  await bench.cpuWrite(range, 3, 2, 6);
  await bench.cpuWrite(range, 39, 1, 7);
  await bench.cpuSees(range, 1, 1);
  await bench.mprotect(part(range, 3, 1), 'r');
  await bench.mprotect(part(range, 4, 1), 'none');
  const middle = new Array<number>(32).fill(NONE);
  const before = [WRITE, ZERO | READ, NONE, READ];
  await fd.looks(part(range, 0, 4), before);
  await fd.looks(part(range, 5, 35), [...middle, NONE, NONE, WRITE]);
  const buffer = new Uint8Array(5).fill(0xee);
  const reply = await fd.run('SNAPSHOT', part(range, 0, 5), buffer);
  bench.equal(reply.ret, 0, 'reply to SNAPSHOT of a page without rights');
  same(bench, [...buffer.subarray(0, 4)], before, 'snapshot');
  bench.require((buffer[4]! & WRITE) === 0 || buffer[4] === 0xff, 'a page without rights is shown as writable');
  await bench.mprotect(part(range, 3, 2), 'rw');
  await fd.goesToDevice(part(range, 0, 1), pattern(1, 5));
  await fd.looks(part(range, 0, 1), fd.local | WRITE);
  await bench.munmap(range);
}

async function huge(bench: Bench, fd: Commands): Promise<void> {
  const all = bench.mmap(3 * HUGE);
  const start = Math.ceil(all.start / (HUGE * PAGE)) * HUGE * PAGE;
  const range = { start, end: start + HUGE * PAGE };
  bench.space.madvise(range, 'hugepage');
  const bytes = pattern(HUGE, 1);
  await bench.wait(bench.space.writeAsync(range.start, bytes));
  bench.wrote(bench.space, range.start, bytes);
  await fd.looks(range, WRITE | PMD);
  await fd.goesToDevice(range, bytes);
  await fd.looks(range, fd.local | WRITE | PMD);
  await fd.reads(range, bytes, 0);
  await fd.writes(part(range, HUGE - 1, 1), pattern(1, 3), 0);
  bytes.set(pattern(1, 3), (HUGE - 1) * PAGE);
  await fd.comesHome(range, 1);
  await fd.looks(range, WRITE | PMD);
  await bench.cpuSees(range, 0, HUGE);
  // Read-only, as one.
  await bench.mprotect(range, 'r');
  await fd.goesToDevice(range, bytes);
  await fd.looks(range, fd.local | READ | PMD);
  await fd.refuses('WRITE', part(range, HUGE - 1, 1), EPERM);
  await bench.mprotect(range, 'rw');
  await fd.comesHome(range, 1);
  await bench.wait(bench.space.writeAsync(range.start, bytes));
  // Refused once, there: it goes as small ones.
  await fd.flags(FAIL_ALLOC);
  await fd.goesToDevice(range, bytes);
  await fd.looks(range, fd.local | WRITE);
  await fd.comesHome(range, HUGE);
  await bench.cpuSees(range, 0, HUGE);
  bench.space.madvise(range, 'collapse');
  await fd.goesToDevice(range, bytes);
  await fd.looks(range, fd.local | WRITE | PMD);
  // And on the way home.
  await fd.flags(FAIL_ALLOC);
  await fd.comesHome(range, HUGE);
  await fd.looks(range, WRITE);
  await bench.cpuSees(range, 0, HUGE);
  await bench.munmap(all);
}

/** The table is cut in leaves of 512 pages: ranges across their borders, and all of one. */
async function leaves(bench: Bench, fd: Commands): Promise<void> {
  const all = bench.mmap(3 * HUGE);
  const start = Math.ceil(all.start / (HUGE * PAGE)) * HUGE * PAGE;
  const border = { start: start + (HUGE - 3) * PAGE, end: start + (HUGE + 3) * PAGE };
  await fd.writes(border, pattern(6, 11), 1);
  await fd.reads(border, pattern(6, 11), 0);
  bench.space.madvise(part(border, 2, 2), 'dontneed');
  bench.wrote(bench.space, border.start + 2 * PAGE, new Uint8Array(2 * PAGE));
  for (const page of [0, 1, 4, 5]) await fd.reads(part(border, page, 1), pattern(1, 11 + page), 0);
  await fd.reads(part(border, 2, 2), new Uint8Array(2 * PAGE), 1);
  const whole = { start: start + HUGE * PAGE, end: start + 2 * HUGE * PAGE };
  bench.space.madvise(whole, 'dontneed');
  bench.wrote(bench.space, whole.start, new Uint8Array(HUGE * PAGE));
  await fd.reads(part(border, 0, 2), pattern(2, 11), 0);
  await fd.reads(part(border, 3, 3), new Uint8Array(3 * PAGE), 1);
  // Most of a leaf goes: what is at its ends stays.
  const leaf = { start: start + HUGE * PAGE, end: start + 2 * HUGE * PAGE };
  await fd.writes(part(leaf, 0, 2), pattern(2, 31), 1);
  await fd.writes(part(leaf, HUGE - 2, 2), pattern(2, 33), 1);
  bench.space.madvise(part(leaf, 2, HUGE - 4), 'dontneed');
  await fd.reads(part(leaf, 0, 2), pattern(2, 31), 0);
  await fd.reads(part(leaf, HUGE - 2, 2), pattern(2, 33), 0);
  await bench.munmap(all);
}

/** RELEASE, and the next chunk. */
async function chunks(bench: Bench, fd: Commands): Promise<void> {
  const names = (): string[] => bench.device.memories.map(({ node }) => node.name.split('.')[1]!);
  same(bench, names().includes('chunk0'), true, 'that the first chunk is there');
  await fd.replies('RELEASE', { start: 0, end: PAGE }, undefined, { ret: 0, cpages: 0, faults: 0 });
  same(bench, names(), [], 'chunks after a RELEASE');
  const range = bench.mmap(HUGE + 20);
  const bytes = pattern(HUGE + 20, 1);
  await bench.wait(bench.space.writeAsync(range.start, bytes));
  bench.wrote(bench.space, range.start, bytes);
  // One chunk is 512 pages: two are made.
  await fd.goesToDevice(range, bytes);
  bench.equal(names().length, 2, 'chunks that hold more pages than one has');
  bench.equal(new Set(names()).size, 2, 'names of chunks');
  if (fd.coherent) {
    const pin = bench.space.pin(part(range, 1, 1));
    await fd.refuses('RELEASE', part(range, 0, 1), EBUSY);
    pin.unpin();
  }
  await fd.replies('RELEASE', { start: 0, end: PAGE }, undefined, { ret: 0, cpages: 0, faults: 0 });
  same(bench, names(), [], 'chunks after a RELEASE');
  await fd.looks(part(range, 0, 8), WRITE);
  await bench.cpuSees(range, 0, HUGE + 20);
  // A small page first: what is cut small takes no huge page, and the other way round.
  const all = bench.mmap(3 * HUGE);
  const start = Math.ceil(all.start / (HUGE * PAGE)) * HUGE * PAGE;
  const window = { start, end: start + HUGE * PAGE };
  bench.space.madvise(window, 'hugepage');
  await bench.wait(bench.space.writeAsync(window.start, bytes.subarray(0, HUGE * PAGE)));
  await fd.goesToDevice(window, bytes.subarray(0, HUGE * PAGE));
  bench.equal(names().length, 1, 'chunks with one huge page');
  await bench.munmap(all);
  await fd.goesToDevice(part(range, 0, 2), bytes.subarray(0, 2 * PAGE));
  bench.equal(names().length, 2, 'chunks with a huge page gone and two small ones come');
  await fd.goesToDevice(part(range, 2, 2), bytes.subarray(2 * PAGE, 4 * PAGE));
  bench.equal(names().length, 2, 'chunks with four small pages');
  await fd.replies('RELEASE', { start: 0, end: PAGE }, undefined, { ret: 0, cpages: 0, faults: 0 });
  await bench.cpuSees(range, 0, 8);
  await bench.munmap(range);
}

/** Commands that run at once, on a table that changes meanwhile. */
async function together(bench: Bench, fd: Commands): Promise<void> {
  const range = bench.mmap(40);
  const bytes = pattern(40, 1);
  await bench.wait(bench.space.writeAsync(range.start, bytes));
  bench.wrote(bench.space, range.start, bytes);
  const buffers = Array.from({ length: 4 }, () => new Uint8Array(40 * PAGE));
  const replies = await Promise.all([
    fd.run('READ', range, buffers[0]),
    fd.run('MIGRATE_TO_DEV', range, buffers[1]),
    fd.run('READ', range, buffers[2]),
    fd.run('SNAPSHOT', range, buffers[3]),
    fd.run('MIGRATE_TO_SYS', range),
  ]);
  for (const { ret } of replies) bench.require(ret === 0 || ret === ENOENT || ret === EBUSY, `a command among others answers ${ret}`);
  sameBytes(bench, buffers[0]!, bytes, 'what a READ among others found');
  sameBytes(bench, buffers[2]!, bytes, 'what a READ among others found');
  await bench.cpuSees(range, 0, 40);
  const again = new Uint8Array(40 * PAGE);
  bench.equal((await fd.run('READ', range, again)).ret, 0, 'reply to READ');
  sameBytes(bench, again, bytes, 'what READ found');
  await fd.comesHome(range, 0);
  await bench.munmap(range);
}

/** A mirror that is closed while its command waits for another device: the command ends, and holds nothing. */
async function brokenOff(bench: Bench): Promise<void> {
  const slow = bench.machine.addDevice({ ...late().factory(), name: 'slow' });
  for (const op of ['MIGRATE_TO_DEV', 'WRITE', 'READ', 'EXCLUSIVE', 'SNAPSHOT', 'MIGRATE_TO_SYS'] as const) {
    const space = bench.addSpace();
    const range = bench.mmap(4, { space });
    const other = bench.attach(space, slow);
    const fd = new Commands(bench, bench.attach(space));
    await bench.cpuWrite(range, 0, 4, 7, space);
    if (op === 'MIGRATE_TO_SYS') await fd.goesToDevice(range, new Uint8Array(4 * PAGE).fill(7));
    await bench.deviceSees(range, 0, 4, other);
    const command = fd.run(op, range, new Uint8Array(4 * PAGE).fill(7));
    const [ended] = await bench.wait(Promise.allSettled([command, fd.context.detachAsync()]));
    if (ended.status === 'rejected') {
      const { reason } = ended as { reason: unknown };
      bench.require(
        isFarfaultError(reason) && reason.code === 'EBADF',
        `${op} on a mirror that is closed meanwhile ends with ${String(reason)}`,
      );
    }
    await bench.cpuSees(range, 0, 4, space);
    await bench.munmap(range, space);
  }
}

/** A child's mirror has a table of its own. */
async function twoMirrors(bench: Bench, fd: Commands): Promise<void> {
  const range = bench.mmap(3);
  await fd.writes(range, pattern(3, 11), 1);
  const child = await bench.fork();
  const other = new Commands(bench, bench.attach(child));
  await other.reads(range, pattern(3, 11), 1);
  await other.writes(range, pattern(3, 71), 1);
  await fd.reads(range, pattern(3, 11), 1);
  await bench.cpuSees(range, 0, 3);
  await bench.cpuSees(range, 0, 3, child);
  await fd.flags(FAIL_ALLOC);
  await other.goesToDevice(range, pattern(3, 71));
  await fd.refuses('MIGRATE_TO_DEV', range, ENOENT);
  await fd.replies('EXCLUSIVE', range, new Uint8Array(3 * PAGE), { ret: 0, cpages: 3, faults: 0 });
  await other.replies('CHECK_EXCLUSIVE', range, undefined, { ret: 0, cpages: 0, faults: 0 });
  await bench.wait(other.context.detachAsync());
  await bench.fails('EBADF', other.run('CHECK_EXCLUSIVE', range), 'a command on a mirror that has been closed');
  await bench.cpuSees(range, 0, 3);
  await bench.cpuSees(range, 0, 3, child);
  await bench.munmap(range);
}

/** Another device of the same kind sees where pages are, and that they are not its own. */
async function twoDevices(bench: Bench, fd: Commands): Promise<void> {
  const range = bench.mmap(3);
  await fd.writes(range, pattern(3, 11), 1);
  await fd.goesToDevice(range, pattern(3, 11));
  const device = bench.addDevice();
  const other = new Commands(bench, bench.attach(bench.space, device));
  await other.looks(range, fd.remote);
  await other.reads(range, pattern(3, 11), 1);
  await bench.cpuSees(range, 0, 3);
  await bench.munmap(range);
}

/** What the description of a driver says. */
function describes(bench: Bench, driver: Driver, expected: Partial<Driver>): void {
  for (const [name, value] of Object.entries(expected)) same(bench, driver[name as keyof Driver], value, `${driver.name}.${name}`);
}

/** The factory must refuse these options, and say so. */
function refuses(bench: Bench, make: () => Driver, what: string): void {
  let error: unknown;
  try {
    make();
  } catch (thrown) {
    error = thrown;
  }
  bench.require(isFarfaultError(error) && error.code === 'EINVAL', `${what} is not refused with EINVAL`);
}

/** A device without memory: its options, and what they change. */
export async function mirrorScenario(bench: Bench): Promise<void> {
  describes(bench, mirror(), { name: 'mirror', granuleBytes: 4096, faultEntries: 256 });
  describes(bench, mirror({ granule: 65536, faultEntries: 3 }), { granuleBytes: 65536, faultEntries: 3 });
  refuses(bench, () => mirror({ ownTable: 1 as never }), 'a table of its own that is neither true nor false');
  const own = bench.context.mmu.walk !== undefined;
  bench.equal(own, (bench.expectations.options as { ownTable?: boolean } | undefined)?.ownTable === true, 'that it translates by itself');
  const ready = bench.machine.createAddressSpace().attach(bench.machine.addDevice({ ...mirror(), name: 'other' }));
  bench.equal(ready.mmu.walk, undefined, 'walk of a mirror that was not asked for a table of its own');
  ready.space.close();
  if (!own) return;

  // Few entries, and a range of many pages: what is there goes, and nothing else.
  const range = bench.mmap(600);
  await bench.deviceWrite(range, 0, 3, 1);
  await bench.deviceWrite(range, 599, 1, 2);
  await bench.munmap(part(range, 100, 499));
  bench.require(bench.reaches(range, 0, 'read') && bench.reaches(range, 599, 'read'), 'an invalidation beside it takes a translation away');
  // What is only read is not dirty, for a device that counts as exactly as this one.
  await bench.wait(bench.context.harvestAsync(part(range, 0, 3)));
  await bench.deviceSees(range, 0, 2);
  await bench.deviceWrite(range, 2, 1, 3);
  const marks = await bench.wait(bench.context.harvestAsync(part(range, 0, 3)));
  same(
    bench,
    marks.map(({ dirty }) => dirty),
    [false, false, true],
    'dirty marks of two pages that were read and one that was written',
  );
  // And the other way round, at either end.
  await bench.deviceWrite(range, 0, 100, 3);
  await bench.munmap(part(range, 10, 2));
  for (const page of [9, 12]) bench.require(bench.reaches(range, page, 'read'), 'an invalidation beside it takes a translation away');
  for (const page of [10, 11]) bench.require(!bench.reaches(range, page, 'read'), 'a translation outlives its invalidation');
}

/** A GPU with its memory in chunks: what goes where, what goes first, and what a batch costs. */
export async function nouveauScenario(bench: Bench): Promise<void> {
  const MIB = 2 ** 20;
  describes(bench, nouveau(), {
    name: 'nouveau',
    pageBytes: [4096, 2 * MIB],
    memory: [{ name: 'vram', kind: 'private', bytes: 64 * MIB, allocator: 'driver' }],
    granuleBytes: 4096,
    faultEntries: 256,
  });
  describes(bench, nouveau({ vram: MIB, granule: 65536, faultEntries: 8 }), { granuleBytes: 65536, faultEntries: 8 });
  // Four chunks, each a granule at least.
  nouveau({ vram: 4 * 4096 });
  nouveau({ vram: 4 * 65536, granule: 65536 });
  refuses(bench, () => nouveau({ vram: 3 * 4096 }), 'a memory of three chunks');
  refuses(bench, () => nouveau({ vram: 4 * 65536 - 4096, granule: 65536 }), 'a memory of less than four chunks');
  for (const vram of [0, -65536, 65537, 65536.5, Number.NaN, 2 ** 32 + 4096, '65536' as never])
    refuses(bench, () => nouveau({ vram }), `vram: ${String(vram)}`);
  for (const granule of [0, 2048, 3 * 4096, 4 * MIB, Number.NaN, '4096' as never])
    refuses(bench, () => nouveau({ granule }), `granule: ${String(granule)}`);
  for (const faultEntries of [0, -1, 1.5, Number.NaN, '1' as never])
    refuses(bench, () => nouveau({ faultEntries }), `faultEntries: ${String(faultEntries)}`);
  describes(bench, nouveau({ vram: 2 ** 32, granule: 2 * MIB, faultEntries: 1 }), { granuleBytes: 2 * MIB, faultEntries: 1 });
  await batches(bench);
  await chunkOrder(bench);
  chunkSwap(bench);
}

/** A batch: one fault a page, ascending. */
async function batches(bench: Bench): Promise<void> {
  const { granuleBytes = PAGE } = bench.driver;
  const range = bench.mmap(64);
  const granule = granuleBytes / PAGE;
  const served: number[] = [];
  const before = bench.machine.counters.coalesced;
  const stop = bench.machine.onEvent((event) => {
    if (event.type === 'pages.migrated' && event.way === 'toDevice') served.push(event.wanted);
  });
  const at = (page: number): number => range.start + page * PAGE;
  const accesses = [
    { op: 'read', addr: at((3 * granule) % 64), bytes: 4 },
    { op: 'read', addr: at(granule % 64), bytes: 4 },
    { op: 'write', addr: at((3 * granule) % 64), bytes: 4, value: 9 },
    { op: 'read', addr: at(granule % 64), bytes: 4 },
    { op: 'read', addr: at(0) + PAGE - 2, bytes: 4 },
  ] as const;
  await bench.submit({ accesses, lanes: 5 });
  stop();
  bench.equal(bench.machine.counters.coalesced - before, 3, 'records that were merged with another one');
  bench.equal(
    served.findIndex((vpn, i) => i > 0 && vpn < served[i - 1]!),
    -1,
    'first page that was served after a higher one',
  );
  await bench.cpuSees(range, 0, 64);
}

/** The chunk that pages went to least recently goes first, as a whole; pages are handed out in the lowest chunk that has room. */
async function chunkOrder(bench: Bench): Promise<void> {
  const { memory, granuleBytes = PAGE } = nouveau({ vram: 36 * PAGE });
  bench.equal(memory![0]!.bytes, 36 * PAGE, 'bytes of its memory');
  bench.equal(granuleBytes, PAGE, 'its granule');
  // Nine chunks of four pages; then the last one short.
  for (const [pages, chunk] of [
    [36, 4],
    [34, 4],
    [4, 1],
    [6, 1],
    [5000, 512],
    [2048, 256],
  ] as const) {
    const phys = physOf(bench, pages);
    const none = (): boolean => false;
    same(bench, phys.victims!(none), [], 'victims of an empty memory');
    const handed: (number | undefined)[] = [];
    for (let i = 0; i <= pages; i++) handed.push(phys.allocPage());
    same(
      bench,
      handed,
      [...Array.from({ length: pages }, (_, page) => page), undefined].map((page) => page ?? null),
      'pages in the order in which they are handed out',
    );
    // All chunks are full: the first was filled first.
    const first = Array.from({ length: chunk }, (_, page) => page);
    same(bench, phys.victims!(none), first, `victims of a full memory of ${pages} pages`);
    same(
      bench,
      phys.victims!((page) => page === 0),
      first.map((page) => page + chunk),
      'victims when the first page is spared',
    );
    same(
      bench,
      phys.victims!((page) => page === chunk - 1),
      first.map((page) => page + chunk),
      'victims when the last page of the first chunk is spared',
    );
    same(
      bench,
      phys.victims!(() => true),
      [],
      'victims when all are spared',
    );
    const last = Math.floor((pages - 1) / chunk) * chunk;
    same(
      bench,
      phys.victims!((page) => page < last),
      Array.from({ length: pages - last }, (_, i) => last + i),
      'victims when all but the last chunk is spared',
    );
    // A page of the first chunk comes free and goes again: that chunk is now the last to go, and what is free in it is not named.
    if (chunk > 1) phys.freePage(chunk - 1);
    if (chunk > 1) same(bench, phys.victims!(none), first.slice(0, -1), 'victims of a chunk with a free page');
    phys.freePage(0);
    bench.equal(phys.allocPage(), 0, 'the lowest free page');
    if (chunk > 1) {
      same(
        bench,
        phys.victims!(none),
        first.map((page) => page + chunk),
        'victims after the first chunk was used again',
      );
      // It goes on where it was, though a lower chunk has room.
      phys.freePage(2 * chunk);
      bench.equal(phys.allocPage(), chunk - 1, 'the page of the chunk that was used last');
      bench.equal(phys.allocPage(), 2 * chunk, 'the page of the lowest chunk with room');
      phys.freePage(0);
      phys.freePage(2 * chunk + 1);
      bench.equal(phys.allocPage(), 2 * chunk + 1, 'the page of the chunk that was used last');
    }
  }
}

/** The chunk before the last used one becomes the last when it is used. */
function chunkSwap(bench: Bench): void {
  const phys = physOf(bench, 32);
  while (phys.allocPage() !== undefined);
  phys.freePage(25);
  bench.equal(phys.allocPage(), 25, 'the only free page');
  same(
    bench,
    phys.victims!((page) => page < 24),
    [28, 29, 30, 31],
    'victims among two chunks, the first of which was used last',
  );
}

/** The allocator of a nouveau with so many pages; what the machine has of it is one page. */
function physOf(bench: Bench, pages: number): NonNullable<Context['mmu']['phys']> {
  const driver = nouveau({ vram: pages * PAGE });
  const name = `nouveau-${pages}`;
  const device = bench.machine.addDevice({ ...driver, name, memory: [{ ...driver.memory![0]!, bytes: PAGE }] });
  return bench.attach(bench.addSpace(), device).mmu.phys!;
}
