/**
 * What no case of the kernel's suite asks: the notifier protocol by itself, requests page by page, holes, budgets, partial failures, migration by frame, counts and charges, memory that runs out, and mirrors that
 * share a device.
 */
import { describe, expect, test } from 'vitest';
import { createMachineSync, type Machine, MiB } from 'farfault';
import dmirror from 'farfault/drivers/dmirror';
import {
  HMM_ERROR,
  HMM_VALID,
  HMM_WRITE,
  hmmOrder,
  type HmmRequest,
  type Migration,
  MIGRATE_MOVE,
  MIGRATE_VALID,
  SELECT_COMPOUND,
  SELECT_PRIVATE,
  SELECT_SYSTEM,
} from 'farfault/gmem';
import { type IntervalNotifier, Invalidation, type InvalidateReason } from 'farfault/mm';
import * as L from '../../assembly/layout.ts';
import { AGAIN, DONE, type Progress, type Run, type Step } from '../../sdk/step/step.ts';
import {
  addDevices,
  type Buffer,
  EBUSY,
  EFAULT,
  EINVAL,
  emptyMachine,
  ENOENT,
  ENOMEM,
  expectClean,
  expectWords,
  H,
  hex,
  hmm,
  hmmPrivate,
  index,
  minus,
  ok,
  PAGE,
  Process,
  type Self,
  suite,
  used,
  usedOn,
  words,
} from './harness.ts';

suite();

const RW = HMM_VALID + HMM_WRITE;
const buffer = (pages: number): Uint8Array => new Uint8Array(pages * PAGE).fill(0xee);

/** Kind and rights of the entry of a page. */
const entry = (self: Process, addr: number): number => self.space.snapshot({ start: addr, end: addr + PAGE })[1]!;
const frameOf = (self: Process, addr: number): number => self.space.snapshot({ start: addr, end: addr + PAGE })[0]!;

/** One letter a page: `w` writable, `r` readable, `x` never, `.` nothing now. */
function letters(high: readonly number[]): string {
  return high.map((bits) => (bits & HMM_ERROR ? 'x' : bits < HMM_VALID ? '.' : bits & HMM_WRITE ? 'w' : 'r')).join('');
}

/** A look through the HMM dialect of a mirror: how it ended, and the pages as letters when it was installed. */
function look(self: Self, request: HmmRequest): { outcome: string; pages: string; orders: number[] } {
  let [pages, orders]: [string, number[]] = ['', []];
  const step = self.fd.context.hmm.rangeFault(request, (given, _vpn, count) => {
    const high = Array.from({ length: count }, (_, i) => given[i * 2 + 1]!);
    pages = letters(high);
    orders = high.map(hmmOrder);
  });
  self.machine.platform.scheduler.runSync(step);
  return { outcome: step.outcome, pages, orders };
}

/** Runs a step under the mmap lock, shared. */
class Locked<Inner extends Step> implements Step {
  readonly name = 'locked';
  readonly #self: Process;
  readonly #inner: Inner;
  #called = false;

  constructor(self: Process, inner: Inner) {
    this.#self = self;
    this.#inner = inner;
  }

  next(run: Run): Progress {
    const { mmapLock } = this.#self.space;
    if (this.#called) {
      mmapLock.release(run);
      return DONE;
    }
    if (!mmapLock.tryAcquireShared(run)) return run.waitFor(mmapLock);
    this.#called = true;
    return run.call(this.#inner);
  }
}

function migrate(self: Self, range: Buffer, select: number, allocate: (migration: Migration) => void): Migration {
  const migration = self.fd.context.hmm.migrate(range.start / PAGE, range.pages, { select, allocate });
  self.machine.platform.scheduler.runSync(new Locked(self, migration));
  return migration;
}

/** Targets on the first memory of the device for every page that is to move. */
function aimAll(self: Self): (migration: Migration) => void {
  return (migration) => {
    const memory = self.fd.context.device.memories[0]!;
    for (let i = 0; i < migration.pages; i++)
      if (migration.source[i * 2 + 1]! & MIGRATE_MOVE) migration.aim(i, self.fd.context.hmm.takeFrame(memory));
  };
}

describe('the notifier protocol by itself', () => {
  /** A subscriber that obeys, and its log. */
  function subscriber(self: Self, range: Buffer, log: string[], name: string): IntervalNotifier {
    return self.space.subscribe(range, {
      invalidate(event, notifier) {
        notifier.setSequence(event.sequence);
        log.push(`${name} ${event.reason} ${event.start - range.start / PAGE}+${event.end - event.start}`);
        return true;
      },
    });
  }

  hmm('every verb says what it is about to change, and a reader that began before it retries', (self) => {
    const range = self.map(4).fill(index);
    const log: string[] = [];
    const notifier = subscriber(self, range, log, 'a');
    const events: [string, () => void][] = [
      ['PROTECTION_VMA 1+1', () => range.part(1, 2).protect('r')],
      ['CLEAR 0+1', () => self.space.madvise(range.part(0, 1), 'dontneed')],
      ['MIGRATE 2+1', () => self.fd.cmd('MIGRATE_TO_DEV', range.part(2, 3), 1, buffer(1))],
      ['UNMAP 3+1', () => range.part(3, 4).unmap()],
    ];
    for (const [expected, act] of events) {
      const sequence = notifier.readBegin() as number;
      expect(notifier.readRetry(sequence)).toBe(false);
      act();
      expect(log.splice(0)).toContain(`a ${expected}`);
      expect(notifier.readRetry(sequence)).toBe(true);
    }
    self.space.unsubscribe(notifier);
  });

  hmm('fork and exclusive access are events, too', (self) => {
    const range = self.map(1).fill(index);
    const log: string[] = [];
    const notifier = subscriber(self, range, log, 'a');
    const child = self.fork();
    expect(log.splice(0)).toContain('a PROTECTION_PAGE 0+1');
    child.exit();
    self.fd.cmd('EXCLUSIVE', range, 1, buffer(1));
    expect(log.splice(0).at(-1)).toBe('a EXCLUSIVE 0+1');
    self.space.read(range.start, 1);
    expect(log.splice(0)).toContain('a CLEAR 0+1');
    self.space.unsubscribe(notifier);
  });

  hmm('the end of the space is a RELEASE of everything', (self) => {
    const other = new Process(self.machine, self.devices, self.machine.createAddressSpace());
    const heard: [InvalidateReason, number][] = [];
    other.space.subscribe(other.map(1), {
      invalidate(event, notifier) {
        notifier.setSequence(event.sequence);
        heard.push([event.reason, event.start]);
        return true;
      },
    });
    other.exit();
    expect(heard[0]).toEqual(['RELEASE', 0]);
  });

  hmm('a reader waits for all nested invalidations, if one of them hit it', (self) => {
    const range = self.map(8);
    const hit = subscriber(self, range.part(0, 4), [], 'hit');
    const missed = subscriber(self, range.part(4, 8), [], 'missed');
    const { notifiers } = self.space;
    const [outer, inner] = [new Invalidation(), new Invalidation()];
    const first = range.start / PAGE;
    notifiers.invalidateStart(outer.set(first, first + 1, 'CLEAR'));
    notifiers.invalidateStart(inner.set(first + 1, first + 2, 'CLEAR'));
    expect(hit.readBegin()).toBe('wait');
    expect(missed.readBegin()).not.toBe('wait');
    notifiers.invalidateEnd(outer);
    expect(hit.readBegin()).toBe('wait');
    notifiers.invalidateEnd(inner);
    const sequence = hit.readBegin() as number;
    expect(hit.readRetry(sequence)).toBe(false);
    self.space.unsubscribe(hit);
    self.space.unsubscribe(missed);
  });

  hmm('who comes while a range is invalidated waits, whatever its range; who leaves is called until the end', (self) => {
    const range = self.map(8);
    const log: string[] = [];
    const there = subscriber(self, range.part(0, 4), log, 'there');
    const { notifiers } = self.space;
    const first = range.start / PAGE;
    const [one, two] = [new Invalidation(), new Invalidation()];
    notifiers.invalidateStart(one.set(first, first + 1, 'CLEAR'));
    const late = subscriber(self, range.part(4, 8), log, 'late');
    expect([late.state, late.readBegin()]).toEqual(['joining', 'wait']);
    expect(notifiers.remove(there)).toBe('wait');
    log.length = 0;
    notifiers.invalidateStart(two.set(first, first + 8, 'CLEAR'));
    expect(log).toEqual(['there CLEAR 0+8']);
    notifiers.invalidateEnd(two);
    notifiers.invalidateEnd(one);
    expect([late.state, there.state]).toEqual(['subscribed', 'removed']);
    self.space.unsubscribe(late);
  });

  hmm('a callback that may not sleep, and would have to, ends the invalidation', (self) => {
    const range = self.map(4);
    const asked: string[] = [];
    const refuses = self.space.subscribe(range.part(0, 4), {
      invalidate(event, notifier) {
        asked.push(event.blockable ? 'may sleep' : 'may not');
        if (!event.blockable) return false;
        notifier.setSequence(event.sequence);
        return true;
      },
    });
    const { notifiers } = self.space;
    const event = new Invalidation().set(range.start / PAGE, range.end / PAGE, 'CLEAR');
    event.blockable = false;
    // EAGAIN: the caller must leave the entries alone.
    expect(notifiers.invalidateStart(event)).toBe(false);
    expect([notifiers.active, notifiers.isInvalidating]).toEqual([0, false]);
    self.space.munmap(range);
    expect(asked).toEqual(['may not', 'may sleep']);
    self.space.unsubscribe(refuses);
  });
});

describe('requests', () => {
  hmm('each page has its own: looked at, read, written', (self) => {
    const range = self.map(6);
    const asked = [0, HMM_VALID, RW, 0, RW, HMM_VALID];
    const answer = look(self, { vpn: range.start / PAGE, pages: 6, request: (i) => asked[i]! });
    expect(answer).toEqual({ outcome: 'done', pages: '.rw.wr', orders: [0, 0, 0, 0, 0, 0] });
  });

  // A mask takes bits out of every page's own request, defaults add them: the request function says the result of both.
  hmm('a request to write without one to fault asks for nothing', (self) => {
    const range = self.map(2);
    expect(look(self, { vpn: range.start / PAGE, pages: 2, request: () => HMM_WRITE }).pages).toBe('..');
  });

  hmm('a page that asks for nothing is no obstacle; one that asks for what cannot be is', (self) => {
    const range = self.map(4);
    range.part(1, 2).protect('none');
    range.part(2, 3).protect('r');
    const vpn = range.start / PAGE;
    expect(look(self, { vpn, pages: 4, request: (i) => (i === 1 ? 0 : HMM_VALID) })).toMatchObject({ outcome: 'done', pages: 'rxrr' });
    expect(look(self, { vpn, pages: 4, request: (i) => (i === 1 ? HMM_VALID : 0) })).toMatchObject({ outcome: 'fault' });
    expect(look(self, { vpn, pages: 4, request: (i) => (i === 2 ? RW : 0) })).toMatchObject({ outcome: 'permission' });
    range.part(3, 4).unmap();
    expect(look(self, { vpn, pages: 4 }).pages).toBe('rxrx');
    expect(look(self, { vpn, pages: 4, request: (i) => (i === 3 ? HMM_VALID : 0) })).toMatchObject({ outcome: 'fault' });
  });

  hmm('holes with requests are filled, those without stay', (self) => {
    const range = self.map(8);
    const before = self.machine.nodes[0]!.used;
    expect(look(self, { vpn: range.start / PAGE, pages: 8, request: (i) => (i % 4 === 0 ? RW : 0) }).pages).toBe('w...w...');
    expect(self.machine.nodes[0]!.used - before).toBe(2);
  });

  hmm('the order is that of the mapping, also when the range begins or ends inside', (self) => {
    const window = self.mapWindow();
    self.space.madvise(window, 'hugepage');
    window.fill(index);
    const vpn = window.start / PAGE;
    for (const [from, pages] of [
      [0, H],
      [100, 20],
      [H - 2, 2],
    ] as const) {
      const { orders, pages: rights } = look(self, { vpn: vpn + from, pages });
      expect(new Set(orders)).toEqual(new Set([9]));
      expect(rights).toBe('w'.repeat(pages));
    }
    // In pieces it is 512 small ones.
    window.part(0, 1).unmap();
    expect(new Set(look(self, { vpn: vpn + 1, pages: 4 }).orders)).toEqual(new Set([0]));
  });

  hmm('a look that is invalidated each time ends with busy', (self) => {
    const range = self.map(1).fill(index);
    const { notifiers } = self.space;
    let looks = 0;
    const spoil = new Invalidation();
    const step = self.fd.context.hmm.rangeFault(
      {
        vpn: range.start / PAGE,
        pages: 1,
        request: () => {
          looks++;
          notifiers.invalidateStart(spoil.set(range.start / PAGE, range.start / PAGE + 1, 'CLEAR'));
          notifiers.invalidateEnd(spoil);
          return HMM_VALID;
        },
      },
      () => expect.unreachable('what is not true any more is not installed'),
    );
    self.machine.platform.scheduler.runSync(step);
    expect(step.outcome).toBe('busy');
    expect(looks).toBe(step.retries);
    expect(looks).toBeGreaterThan(100);
  });

  hmm('what a command asks for badly is EINVAL, a buffer that is missing or short EFAULT', (self) => {
    const range = self.map(4);
    const { context } = self.fd;
    const ret = (request: object): number => (context.command(request) as { ret: number }).ret;
    const read = { op: 'READ', addr: range.start, pages: 4, buffer: buffer(4) };
    expect(ret(read)).toBe(0);
    for (const wrong of [
      { addr: range.start + 1 },
      { addr: -PAGE },
      { addr: 2 ** 48 - PAGE },
      { addr: undefined },
      { pages: 0 },
      { pages: -1 },
      { pages: 1.5 },
      { op: 'ERASE' },
      { op: 'toString' },
      { op: undefined },
    ]) {
      expect([wrong, ret({ ...read, ...wrong })]).toEqual([wrong, EINVAL]);
    }
    expect(ret({ ...read, buffer: undefined })).toBe(EFAULT);
    expect(ret({ ...read, buffer: new Uint8Array(4 * PAGE - 1) })).toBe(EFAULT);
    expect(ret({ ...read, op: 'SNAPSHOT', buffer: new Uint8Array(4) })).toBe(0);
    // The flag word can never be 0.
    expect(ret({ op: 'FLAGS', addr: 0, pages: 0 })).toBe(EINVAL);
    expect(() => context.command('READ')).toThrow('is not a request');
  });
});

describe('partial failure', () => {
  hmm('a pinned page amid a range: the others move, the command says ENOENT, the page is as it was', (self) => {
    const range = self.map(64).fill(index);
    const pin = self.space.pin(range.part(31, 33));
    expect(self.fd.cmd('MIGRATE_TO_DEV', range, 64, buffer(64)).ret).toBe(ENOENT);
    expect(usedOn(self.machine, self.variant.nodes[0])).toBe(62);
    expect(pin.pages).toBe(2);
    pin.unpin();
    range.expectWords(index);
  });

  hmm('a busy page lock: that page is passed over, nobody waits', (self) => {
    const range = self.map(8).fill(index);
    const { core, pageLocks } = self.machine.platform;
    const frame = frameOf(self, range.at(3));
    expect(core.exports.frameTryLock(frame)).toBe(1);
    expect(self.fd.cmd('MIGRATE_TO_DEV', range, 8, buffer(8)).ret).toBe(ENOENT);
    expect(usedOn(self.machine, self.variant.nodes[0])).toBe(7);
    core.exports.frameUnlock(frame);
    pageLocks.released();
    expect(self.fd.cmd('MIGRATE_TO_DEV', range.part(3, 4), 1, buffer(1))).toMatchObject(ok(1));
    range.expectWords(index);
  });

  hmm('a CPU fault into a hole between setup and pages has the hole; the target is freed', (self) => {
    const range = self.map(4);
    const vpn = range.start / PAGE;
    const migration = self.fd.context.hmm.migrate(vpn, 4, { select: SELECT_SYSTEM, allocate: aimAll(self) });
    // Turn by turn: announce and collect, then the fault, then the rest.
    let turns = 0;
    const both: Step = {
      name: 'both',
      next(run) {
        if (turns++ === 0 && !self.space.mmapLock.tryAcquireShared(run)) return run.waitFor(self.space.mmapLock);
        if (turns === 1) return migration.next(run);
        if (turns === 2) {
          const { core, host } = self.machine.platform;
          expect(core.exports.mapFresh(self.space.table, vpn + 2, host.index)).toBeGreaterThan(0);
          return AGAIN;
        }
        const progress = migration.next(run);
        if (progress === DONE) self.space.mmapLock.release(run);
        return progress;
      },
    };
    self.machine.platform.scheduler.runSync(both);
    expect([migration.verdict(vpn + 1), migration.verdict(vpn + 2)]).toEqual(['moved', 'not collected']);
    expect([migration.moved, usedOn(self.machine, self.variant.nodes[0])]).toEqual([3, 3]);
    range.expectWords(() => 0);
  });

  hmm('a device out of memory: what fits moves', (self) => {
    const machine: Machine = createMachineSync({ dram: 8 * MiB, deviceMemory: 2 * MiB });
    const small = new Process(
      machine,
      [machine.addDevice(dmirror({ kind: self.variant.coherent ? 'coherent' : 'private', chunkBytes: 2 * MiB }))],
      machine.createAddressSpace(),
    );
    const fd = small.open(0);
    const range = small.map(600).fill(index);
    expect(fd.cmd('MIGRATE_TO_DEV', range, 600, buffer(600)).ret).toBe(ENOENT);
    expect(usedOn(machine, 0)).toBe(512);
    range.expectWords(index);
    expectClean(machine);
    fd.close();
    small.exit();
    expect(used(machine)).toBe('');
    machine.close();
  });

  hmm('a host out of memory: ENOMEM, what came home stays there', (self) => {
    const machine: Machine = createMachineSync({ dram: 1 * MiB, deviceMemory: 4 * MiB });
    const small = new Process(
      machine,
      [machine.addDevice(dmirror({ kind: self.variant.coherent ? 'coherent' : 'private', chunkBytes: 2 * MiB }))],
      machine.createAddressSpace(),
    );
    const fd = small.open(0);
    const range = small.map(200).fill(index);
    expect(fd.cmd('MIGRATE_TO_DEV', range, 200, buffer(200))).toMatchObject(ok(200));
    const filler = small.map(200).fill(minus);
    expect(fd.cmd('MIGRATE_TO_SYS', range, 200).ret).toBe(ENOMEM);
    expect(machine.nodes[0]!.used).toBe(256);
    filler.unmap();
    expect(fd.cmd('MIGRATE_TO_SYS', range, 200)).toMatchObject(ok(144));
    range.expectWords(index);
    expectClean(machine);
    fd.close();
    small.exit();
    machine.close();
  });

  hmm('RELEASE while a page is held: EBUSY, and the device goes on', (self) => {
    if (!self.variant.coherent) return;
    const range = self.map(4).fill(index);
    expect(self.fd.cmd('MIGRATE_TO_DEV', range, 4, buffer(4))).toMatchObject(ok(4));
    const pin = self.space.pin(range.part(1, 2));
    expect(self.fd.cmd('RELEASE', range, 4).ret).toBe(EBUSY);
    pin.unpin();
    expect(self.fd.cmd('MIGRATE_TO_DEV', range.part(0, 1), 1, buffer(1))).toMatchObject(ok(1));
    expect(self.fd.cmd('RELEASE', range, 4).ret).toBe(0);
    range.expectWords(index);
  });
});

describe('migration by frame', () => {
  hmm('moves the listed frames, whoever maps them, and passes over free and locked ones', (self) => {
    const range = self.map(6).fill(index);
    expect(self.fd.cmd('MIGRATE_TO_DEV', range, 6, buffer(6))).toMatchObject(ok(6));
    const child = self.fork();
    const frames = Array.from({ length: 6 }, (_, page) => frameOf(self, range.at(page)));
    const { hmm: dialect, device } = self.fd.context;
    const { core, pageLocks, scheduler } = self.machine.platform;
    const free = device.memories[0]!.node.base + device.memories[0]!.node.frames - 1;
    core.exports.frameTryLock(frames[1]!);
    const listed = [frames[0]!, frames[1]!, free, frames[4]!];
    const migration = dialect.migrateFrames(listed, {
      allocate: (it) => {
        for (let i = 0; i < it.pages; i++) if (it.source[i * 2 + 1]! & MIGRATE_VALID) it.aim(i, dialect.hostFrame());
      },
    });
    scheduler.runSync(migration);
    core.exports.frameUnlock(frames[1]!);
    pageLocks.released();
    expect(migration.moved).toBe(2);
    for (const process of [self, child]) {
      const owners = Array.from({ length: 6 }, (_, page) => dialect.describe(frameOf(process, range.at(page))).owner);
      expect(owners).toEqual(['host', 'own', 'own', 'own', 'host', 'own']);
    }
    expect(usedOn(self.machine, self.variant.nodes[0])).toBe(4);
    range.in(child).expectWords(index);
    range.expectWords(index);
    child.exit();
  });

  hmm('offers no holes, and moves nothing without a target', (self) => {
    const range = self.map(2).fill(index);
    expect(self.fd.cmd('MIGRATE_TO_DEV', range, 2, buffer(2))).toMatchObject(ok(2));
    const frames = [frameOf(self, range.at(0)), frameOf(self, range.at(1))];
    const migration = self.fd.context.hmm.migrateFrames(frames, { allocate: () => {} });
    self.machine.platform.scheduler.runSync(migration);
    expect([migration.moved, migration.refused]).toEqual([0, 2]);
    range.expectWords(index);
  });
});

describe('counts and charges', () => {
  const charged = (self: Process): number => self.machine.platform.core.field(self.space.table, L.TABLE_CHARGED);

  hmm('a page is charged wherever it is, and given back once', (self) => {
    const range = self.map(16).fill(index);
    expect(charged(self)).toBe(16);
    expect(self.fd.cmd('MIGRATE_TO_DEV', range, 16, buffer(16))).toMatchObject(ok(16));
    expect([charged(self), usedOn(self.machine, self.variant.nodes[0]), self.machine.nodes[0]!.used]).toEqual([16, 16, 0]);
    range.part(0, 4).unmap();
    expect([charged(self), usedOn(self.machine, self.variant.nodes[0])]).toEqual([12, 12]);
    self.space.madvise(range.part(4, 6), 'dontneed');
    expect([charged(self), usedOn(self.machine, self.variant.nodes[0])]).toEqual([10, 10]);
    expect(self.fd.cmd('MIGRATE_TO_SYS', range.part(6, 10), 4)).toMatchObject(ok(4));
    expect([charged(self), usedOn(self.machine, self.variant.nodes[0]), self.machine.nodes[0]!.used]).toEqual([10, 6, 4]);
    expect(self.fd.cmd('RELEASE', range, 1).ret).toBe(0);
    expect([charged(self), self.machine.nodes[0]!.used]).toEqual([10, 10]);
    range.unmap();
    expect(charged(self)).toBe(0);
  });

  hmm('holes are charged when they become pages of the device', (self) => {
    const range = self.map(16);
    expect(charged(self)).toBe(0);
    expect(self.fd.cmd('MIGRATE_TO_DEV', range, 16, buffer(16))).toMatchObject(ok(16));
    expect(charged(self)).toBe(16);
  });

  hmm('a huge page is charged as 512, on the device and in pieces', (self) => {
    const window = self.mapWindow();
    self.space.madvise(window, 'hugepage');
    window.fill(index);
    expect(charged(self)).toBe(H);
    expect(self.fd.cmd('MIGRATE_TO_DEV', window, H, buffer(H))).toMatchObject(ok(H));
    expect(charged(self)).toBe(H);
    window.part(0, 100).unmap();
    expect([charged(self), usedOn(self.machine, self.variant.nodes[0])]).toEqual([H - 100, H - 100]);
  });

  hmm('a refused migration gives its targets back', (self) => {
    const range = self.map(4).fill(index);
    const { hmm: dialect, device } = self.fd.context;
    const memory = device.memories[0]!;
    const pin = self.space.pin(range.part(1, 2));
    const migration = migrate(self, range, SELECT_SYSTEM, (it) => {
      // A target for every word, also for the page that is not to move.
      for (let i = 0; i < it.pages; i++) it.aim(i, dialect.takeFrame(memory));
    });
    expect([migration.moved, usedOn(self.machine, self.variant.nodes[0])]).toEqual([3, 3]);
    pin.unpin();
  });
});

describe('two mirrors of one device', () => {
  hmm('have a table each, and share the memory', (self) => {
    const other = new Process(self.machine, self.devices, self.machine.createAddressSpace());
    const fd = other.open(self.variant.nodes[0]);
    const [here, there] = [self.map(8).fill(index), other.map(8).fill(minus)];
    for (const [mirror, range, word] of [
      [self.fd, here, index],
      [fd, there, minus],
    ] as const) {
      const bytes = buffer(8);
      expect(mirror.cmd('MIGRATE_TO_DEV', range, 8, bytes)).toMatchObject(ok(8));
      expectWords(bytes, word);
    }
    expect(usedOn(self.machine, self.variant.nodes[0])).toBe(16);
    there.expectWords(minus);
    here.expectWords(index);
    fd.close();
    other.exit();
    expectClean(self.machine);
  });

  hmm('the memory that one releases is that of both', (self) => {
    const other = new Process(self.machine, self.devices, self.machine.createAddressSpace());
    const fd = other.open(self.variant.nodes[0]);
    const [here, there] = [self.map(8).fill(index), other.map(8).fill(minus)];
    expect(self.fd.cmd('MIGRATE_TO_DEV', here, 8, buffer(8)).ret).toBe(0);
    expect(fd.cmd('MIGRATE_TO_DEV', there, 8, buffer(8)).ret).toBe(0);
    expect(fd.cmd('RELEASE', there, 8).ret).toBe(0);
    expect(usedOn(self.machine, self.variant.nodes[0])).toBe(0);
    // The next allocation plugs a chunk in again.
    expect(self.fd.cmd('MIGRATE_TO_DEV', here, 8, buffer(8))).toMatchObject(ok(8));
    here.expectWords(index);
    there.expectWords(minus);
    fd.close();
    other.exit();
  });
});

describe('S1 to S15', () => {
  for (const [how, demote] of [
    ['fork', (self: Self, _range: Buffer) => self.fork().exit()],
    ['mprotect', (_self: Self, range: Buffer) => (range.protect('r'), range.protect('rw'))],
  ] as const) {
    hmmPrivate(`S1: a device that writes to its own page, read-only after ${how}, gets it at home, writable`, (self) => {
      const range = self.map(4).fill(index);
      expect(self.fd.cmd('MIGRATE_TO_DEV', range, 4, buffer(4))).toMatchObject(ok(4));
      demote(self, range);
      expect(hex(self.fd.snapshot(range, 4))).toBe('21 21 21 21');
      expect(self.fd.cmd('WRITE', range, 4, words(4, minus))).toEqual(ok(4, 1));
      expect(hex(self.fd.snapshot(range, 4))).toBe('02 02 02 02');
      range.expectWords(minus);
    });
  }

  hmmPrivate('S2: a device page that mprotect made read-only stays so until the CPU writes', (self) => {
    const range = self.map(1).fill(index);
    expect(self.fd.cmd('MIGRATE_TO_DEV', range, 1, buffer(1))).toMatchObject(ok(1));
    range.protect('r');
    range.protect('rw');
    expect(hex(self.fd.snapshot(range, 1))).toBe('21');
    self.space.write(range.start, Uint8Array.of(1));
    expect(hex(self.fd.snapshot(range, 1))).toBe('02');
    expect(self.fd.cmd('MIGRATE_TO_DEV', range, 1, buffer(1))).toMatchObject(ok(1));
    expect(hex(self.fd.snapshot(range, 1))).toBe('22');
  });

  hmmPrivate('S3: a foreign private page is nothing now when it is small, and never when it is huge', (self) => {
    const other = self.open(1);
    const window = self.mapWindow();
    self.space.madvise(window, 'hugepage');
    window.fill(index);
    const small = self.map(1).fill(index);
    expect(self.fd.cmd('MIGRATE_TO_DEV', window, H, buffer(H))).toMatchObject(ok(H));
    expect(self.fd.cmd('MIGRATE_TO_DEV', small, 1, buffer(1))).toMatchObject(ok(1));
    expect([hex(other.snapshot(small, 1)), hex(other.snapshot(window.part(0, 2), 2))]).toEqual(['00', 'ff ff']);
    // A request makes no such difference: both come home.
    expect(other.cmd('READ', small, 1, buffer(1))).toEqual(ok(1, 1));
    const bytes = buffer(H);
    expect(other.cmd('READ', window, H, bytes)).toEqual(ok(H, 1));
    expectWords(bytes, index);
    other.close();
  });

  hmm('S4: cpages counts pages read back, and words that moved', (self) => {
    const window = self.mapWindow();
    self.space.madvise(window, 'hugepage');
    window.fill(index);
    expect(self.fd.cmd('MIGRATE_TO_DEV', window, H, buffer(H))).toMatchObject(ok(H));
    expect(self.fd.cmd('MIGRATE_TO_SYS', window, H)).toMatchObject(ok(1));
    const small = self.map(3).fill(index);
    expect(self.fd.cmd('MIGRATE_TO_DEV', small, 3, buffer(3))).toMatchObject(ok(3));
    expect(self.fd.cmd('MIGRATE_TO_SYS', small, 3)).toMatchObject(ok(3));
    expect(self.fd.cmd('MIGRATE_TO_SYS', small, 3)).toMatchObject(ok(0));
  });

  hmm('S5: faults counts rounds of a command, not pages', (self) => {
    const range = self.map(100).fill(index);
    expect(self.fd.cmd('READ', range, 100, buffer(100)).faults).toBe(1);
    expect(self.fd.cmd('READ', range, 100, buffer(100)).faults).toBe(0);
    // Two gaps in the table are one round each, unless the first one reaches over the second.
    range.part(10, 11).protect('r');
    range.part(60, 61).protect('r');
    expect(self.fd.cmd('READ', range, 100, buffer(100)).faults).toBe(1);
  });

  hmm('S6: ENOENT hides pages that moved', (self) => {
    const range = self.map(4).fill(index);
    const pin = self.space.pin(range.part(3, 4));
    const bytes = buffer(4);
    expect(self.fd.cmd('MIGRATE_TO_DEV', range, 4, bytes)).toEqual({ ret: ENOENT, cpages: 0, faults: 0 });
    expect(bytes.every((byte) => byte === 0xee)).toBe(true);
    expect(usedOn(self.machine, self.variant.nodes[0])).toBe(3);
    pin.unpin();
  });

  hmm('S6: a page that the device had read before satisfies the read-back where it is', (self) => {
    const range = self.map(4, { shared: true }).fill(index);
    expect(self.fd.cmd('READ', range, 4, buffer(4))).toEqual(ok(4, 1));
    const bytes = buffer(4);
    expect(self.fd.cmd('MIGRATE_TO_DEV', range, 4, bytes)).toMatchObject(ok(4));
    expectWords(bytes, index);
    expect(usedOn(self.machine, self.variant.nodes[0])).toBe(0);
  });

  hmm('S7: holes are offered whatever the selectors say, pages of zeros with SYSTEM only', (self) => {
    const range = self.map(2);
    self.space.read(range.at(1), 1);
    const words: number[] = [];
    const note = (it: Migration): void => void words.push(it.source[1]!, it.source[3]!);
    migrate(self, range, SELECT_PRIVATE, note);
    migrate(self, range, SELECT_SYSTEM, note);
    expect(words).toEqual([MIGRATE_MOVE, 0, MIGRATE_MOVE, MIGRATE_MOVE]);
    // So a command that brings pages home passes over holes, and succeeds.
    expect(self.fd.cmd('MIGRATE_TO_SYS', range, 2)).toMatchObject(ok(0));
  });

  hmm('S7: a shared mapping offers no holes', (self) => {
    const range = self.map(1, { shared: true });
    let word = -1;
    migrate(self, range, SELECT_SYSTEM, (it) => (word = it.source[1]!));
    expect(word).toBe(0);
  });

  hmm('S8: the right to write after a migration is the old entry’s, for a hole the VMA’s', (self) => {
    const range = self.map(3);
    self.space.write(range.at(0), Uint8Array.of(1));
    self.space.write(range.at(1), Uint8Array.of(2));
    // Page 1 is shared with a child: its entry is read-only in a writable VMA.
    const child = self.fork();
    self.space.write(range.at(0), Uint8Array.of(3));
    migrate(self, range, SELECT_SYSTEM, aimAll(self));
    const local = self.variant.coherent ? '4' : '2';
    expect(hex(self.fd.snapshot(range, 3))).toBe(`${local}2 ${local}1 ${local}2`);
    child.exit();
  });

  hmm('S9: a request to write is for its page: the neighbours are not copied', (self) => {
    const range = self.map(3).fill(index);
    const child = self.fork();
    const before = self.machine.nodes[0]!.used;
    expect(look(self, { vpn: range.start / PAGE, pages: 3, request: (i) => (i === 0 ? RW : HMM_VALID) }).pages).toBe('wrr');
    expect(self.machine.nodes[0]!.used - before).toBe(1);
    child.exit();
  });

  hmm('S10: a reader whose range was hit waits for an unrelated invalidation, too', (self) => {
    const range = self.map(8).fill(index);
    const { notifiers } = self.space;
    const first = range.start / PAGE;
    const [mine, unrelated] = [new Invalidation(), new Invalidation()];
    notifiers.invalidateStart(mine.set(first, first + 1, 'CLEAR'));
    notifiers.invalidateStart(unrelated.set(first + 7, first + 8, 'CLEAR'));
    notifiers.invalidateEnd(mine);
    expect(self.fd.context.notifier.readBegin()).toBe('wait');
    notifiers.invalidateEnd(unrelated);
    expect(self.fd.context.notifier.readBegin()).not.toBe('wait');
  });

  hmm('S11: exactly the pages that change leave the table, not the one behind them', (self) => {
    const range = self.map(4).fill(index);
    expect(self.fd.cmd('READ', range, 4, buffer(4))).toEqual(ok(4, 1));
    range.part(1, 2).unmap();
    expect(self.fd.cmd('READ', range.part(2, 4), 2, buffer(2))).toEqual(ok(2, 0));
    expect(self.fd.cmd('READ', range.part(0, 1), 1, buffer(1))).toEqual(ok(1, 0));
  });

  hmm('S12: own pages that come through the fault path are translated', (self) => {
    const range = self.map(4).fill(index);
    expect(self.fd.cmd('MIGRATE_TO_DEV', range, 4, buffer(4))).toMatchObject(ok(4));
    // The table forgets, the pages stay.
    range.protect('r');
    const bytes = buffer(4);
    expect(self.fd.cmd('READ', range, 4, bytes)).toEqual(ok(4, 1));
    expectWords(bytes, index);
    expect(usedOn(self.machine, self.variant.nodes[0])).toBe(4);
    // The device's own accesses go the same way.
    expect(Array.from(self.fd.context.read(range.at(1), 4))).toEqual([0, 4, 0, 0]);
  });

  hmm('S13: a huge page on a coherent device needs its selector, and its owner', (self) => {
    if (!self.variant.coherent) return;
    const other = self.open(3);
    const window = self.mapWindow();
    self.space.madvise(window, 'hugepage');
    window.fill(index);
    expect(self.fd.cmd('MIGRATE_TO_DEV', window, H, buffer(H))).toMatchObject(ok(H));
    expect(other.cmd('MIGRATE_TO_SYS', window, H)).toMatchObject(ok(0));
    expect(other.cmd('MIGRATE_TO_DEV', window, H, buffer(H)).ret).toBe(ENOENT);
    let word = -1;
    migrate(self, window, SELECT_SYSTEM | SELECT_COMPOUND, (it) => (word = it.source[1]!));
    expect(word).toBe(0);
    expect(usedOn(self.machine, 2)).toBe(H);
    expect(self.fd.cmd('MIGRATE_TO_SYS', window, H)).toMatchObject(ok(1));
    window.expectWords(index);
    other.close();
  });

  hmm('S14: the right to write is nothing to a migration, a page without rights stays', (self) => {
    const window = self.mapWindow('r');
    self.space.madvise(window, 'hugepage');
    expect(self.fd.cmd('MIGRATE_TO_DEV', window, H, buffer(H))).toMatchObject(ok(H));
    const secret = self.map(1).fill(index);
    secret.protect('none');
    expect(self.fd.cmd('MIGRATE_TO_DEV', secret, 1, buffer(1)).ret).toBe(EINVAL);
    // Linux moves it; here a page that nobody may touch is passed over by address.
    expect(migrate(self, secret, SELECT_SYSTEM, aimAll(self)).moved).toBe(0);
    expect(self.space.tryRead(secret.start, new Uint8Array(1)).status).toBe('permission');
    secret.protect('r');
    secret.expectWords(index);
    // Nor does a migration give a right to a hole.
    const empty = self.map(3);
    empty.protect('none');
    expect(migrate(self, empty, SELECT_SYSTEM, aimAll(self)).moved).toBe(3);
    expect([0, 1, 2].map((page) => self.space.tryRead(empty.at(page), new Uint8Array(1)).status)).toEqual(Array(3).fill('permission'));
    expect(self.fd.cmd('RELEASE', empty, 1).ret).toBe(0);
    expect([0, 1, 2].map((page) => self.space.tryRead(empty.at(page), new Uint8Array(1)).status)).toEqual(Array(3).fill('permission'));
    expect(hex(self.fd.snapshot(empty, 3))).toBe('ff ff ff');
    empty.protect('rw');
    empty.expectWords(() => 0);
  });

  hmm('S15: a mirror that is closed takes its own space’s pages home; others keep theirs', (self) => {
    const other = new Process(self.machine, self.devices, self.machine.createAddressSpace());
    const fd = other.open(self.variant.nodes[0]);
    const [here, there] = [self.map(8).fill(index), other.map(4).fill(minus)];
    expect(self.fd.cmd('MIGRATE_TO_DEV', here, 8, buffer(8)).ret).toBe(0);
    expect(fd.cmd('MIGRATE_TO_DEV', there, 4, buffer(4)).ret).toBe(0);
    fd.close();
    expect(usedOn(self.machine, self.variant.nodes[0])).toBe(8);
    there.expectWords(minus);
    const bytes = buffer(8);
    expect(self.fd.cmd('READ', here, 8, bytes)).toEqual(ok(8, 0));
    expectWords(bytes, index);
    other.exit();
  });
});

test('a device that is open twice in one space is refused', () => {
  const machine = emptyMachine();
  const self = new Process(machine, addDevices(machine), machine.createAddressSpace());
  self.open(0);
  expect(() => self.open(0)).toThrow('attached to this address space already');
  expect(entry(self, self.map(1).start) & L.ENTRY_KIND).toBe(L.KIND_NONE);
});
