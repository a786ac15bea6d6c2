/** What the kernel's suite asks in other words, and what it leaves open between its cases: fork, protection, two devices, pins, huge pages in pieces. */
import { describe, expect, test } from 'vitest';
import { MiB } from 'farfault';
import {
  addDevices,
  Buffer,
  emptyMachine,
  EFAULT,
  ENOMEM,
  expectAll,
  expectClean,
  expectWords,
  FAIL_ALLOC,
  H,
  hex,
  hmm,
  hmm2,
  hmmCoherent,
  hmmPrivate,
  index,
  minus,
  N,
  ok,
  PAGE,
  Process,
  PROT,
  type Self,
  suite,
  used,
  usedOn,
  words,
  zero,
} from './harness.ts';

suite();

const buffer = (pages: number): Uint8Array => new Uint8Array(pages * PAGE).fill(0xee);

describe('fork', () => {
  for (const [what, pages] of [
    ['small pages', N],
    ['a huge page', H],
  ] as const) {
    for (const migrated of [false, true]) {
      hmm(`a child's device writes to ${what} ${migrated ? 'on the device' : 'at home'}: the parent keeps its own`, (self) => {
        const range = pages === H ? self.mapWindow() : self.map(pages);
        if (pages === H) self.space.madvise(range, 'hugepage');
        range.fill(index);
        if (migrated) expect(self.fd.cmd('MIGRATE_TO_DEV', range, pages, buffer(pages))).toMatchObject(ok(pages));
        const child = self.fork();
        const fd = child.open(self.variant.nodes[0]);
        expect(fd.cmd('WRITE', range, pages, words(pages, minus))).toEqual(ok(pages, 1));
        range.in(child).expectWords(minus);
        fd.close();
        child.exit();
        range.expectWords(index);
        expectClean(self.machine);
      });

      hmm(`a parent's device writes to ${what} ${migrated ? 'on the device' : 'at home'}: the child keeps its own`, (self) => {
        const range = pages === H ? self.mapWindow() : self.map(pages);
        if (pages === H) self.space.madvise(range, 'hugepage');
        range.fill(index);
        const mirror = buffer(pages);
        if (migrated) expect(self.fd.cmd('MIGRATE_TO_DEV', range, pages, mirror)).toMatchObject(ok(pages));
        else expect(self.fd.cmd('WRITE', range, pages, words(pages, index))).toEqual(ok(pages, 1));
        const child = self.fork();
        // What the device could write before the fork it must ask for again.
        expect(self.fd.cmd('WRITE', range, pages, words(pages, minus))).toEqual(ok(pages, 1));
        range.in(child).expectWords(index);
        range.expectWords(minus);
        child.exit();
        expectClean(self.machine);
      });
    }
  }

  hmmPrivate('a device reads its own pages in both processes without bringing them home', (self) => {
    const range = self.map(8).fill(index);
    expect(self.fd.cmd('MIGRATE_TO_DEV', range, 8, buffer(8))).toMatchObject(ok(8));
    const child = self.fork();
    const fd = child.open(0);
    for (const each of [self.fd, fd]) {
      const mirror = buffer(8);
      expect(each.cmd('READ', range, 8, mirror)).toEqual(ok(8, 1));
      expectWords(mirror, index);
      expectAll(each.snapshot(range, 8), PROT.DEV_PRIVATE_LOCAL | PROT.READ);
    }
    expect(usedOn(self.machine, 0)).toBe(8);
    child.exit();
    range.expectWords(index);
  });

  hmm('exclusive, then fork, then both write', (self) => {
    const range = self.map(N).fill(index);
    const mirror = buffer(N);
    expect(self.fd.cmd('EXCLUSIVE', range, N, mirror)).toMatchObject(ok(N));
    expectWords(mirror, index);
    const child = self.fork();
    expect(self.fd.cmd('CHECK_EXCLUSIVE', range, N).ret).toBe(0);
    range.fill((i) => i + 1);
    range.in(child).expectWords(index);
    range.in(child).fill(minus);
    range.expectWords((i) => i + 1);
    range.in(child).expectWords(minus);
    child.exit();
    expectClean(self.machine);
  });

  hmm('exclusive again after the fork takes copies of its own', (self) => {
    const range = self.map(4).fill(index);
    const child = self.fork();
    const mirror = buffer(4);
    expect(self.fd.cmd('EXCLUSIVE', range, 4, mirror)).toMatchObject(ok(4));
    expectWords(mirror, index);
    range.fill(minus);
    range.in(child).expectWords(index);
    child.exit();
  });

  hmm('a grandchild and its ancestors share pages of the device until one of them writes', (self) => {
    const range = self.map(4).fill(index);
    expect(self.fd.cmd('MIGRATE_TO_DEV', range, 4, buffer(4))).toMatchObject(ok(4));
    const child = self.fork();
    const grandchild = child.fork();
    expect(usedOn(self.machine, self.variant.nodes[0])).toBe(4);
    child.exit();
    range.in(grandchild).fill(minus);
    range.expectWords(index);
    range.in(grandchild).expectWords(minus);
    grandchild.exit();
    range.expectWords(index);
    expectClean(self.machine);
  });
});

describe('migration', () => {
  hmm('to the device, touched, to the device again, and home by command', (self) => {
    const range = self.map(N).fill(index);
    const mirror = buffer(N);
    expect(self.fd.cmd('MIGRATE_TO_DEV', range, N, mirror)).toMatchObject(ok(N));
    range.expectWords(index);
    range.fill(minus);
    expect(self.fd.cmd('MIGRATE_TO_DEV', range, N, mirror)).toMatchObject(ok(N));
    expectWords(mirror, minus);
    const { ret, cpages } = self.fd.cmd('MIGRATE_TO_SYS', range, N);
    expect([ret, cpages]).toEqual([0, N]);
    expectAll(self.fd.snapshot(range, N), PROT.WRITE);
    range.expectWords(minus);
    expect(usedOn(self.machine, self.variant.nodes[0])).toBe(0);
  });

  hmm2('from one device to the other goes through the host', (self) => {
    const range = self.map(N).fill(index);
    const mirror = buffer(N);
    expect(self.fd.cmd('MIGRATE_TO_DEV', range, N, mirror)).toMatchObject(ok(N));
    // Foreign pages are not selected: nothing moves until they are at home.
    expect(self.fd2.cmd('MIGRATE_TO_DEV', range, N, buffer(N)).ret).toBeLessThan(0);
    if (self.variant.coherent) expect(self.fd.cmd('MIGRATE_TO_SYS', range, N)).toMatchObject(ok(N));
    range.expectWords(index);
    expect(self.fd2.cmd('MIGRATE_TO_DEV', range, N, mirror)).toMatchObject(ok(N));
    expectWords(mirror, index);
    const [one, two] = self.variant.nodes;
    expect([usedOn(self.machine, one), usedOn(self.machine, two)]).toEqual([0, N]);
  });

  hmm2('a device reads what is on the other one', (self) => {
    const range = self.map(8).fill(index);
    expect(self.fd.cmd('MIGRATE_TO_DEV', range, 8, buffer(8))).toMatchObject(ok(8));
    const mirror = buffer(8);
    expect(self.fd2.cmd('READ', range, 8, mirror)).toEqual(ok(8, 1));
    expectWords(mirror, index);
    // A private page had to come home for that, a coherent one is everybody's.
    expect(usedOn(self.machine, self.variant.nodes[0])).toBe(self.variant.coherent ? 8 : 0);
    // The read found them writable: what the table has suffices.
    expect(self.fd2.cmd('WRITE', range, 8, words(8, minus))).toEqual(ok(8, 0));
    range.expectWords(minus);
  });

  hmm('of a range over two mappings with a hole between ends at the hole', (self) => {
    const range = self.map(8).fill(index);
    range.part(4, 5).unmap();
    const { ret } = self.fd.cmd('MIGRATE_TO_DEV', range, 8, buffer(8));
    expect(ret).toBe(-22);
    // What came before has moved.
    expect(usedOn(self.machine, self.variant.nodes[0])).toBe(4);
    expect(self.fd.cmd('MIGRATE_TO_SYS', range, 8).ret).toBe(-22);
    range.part(0, 4).expectWords(index);
  });

  hmm('of a range over several readable mappings moves all of them', (self) => {
    const range = self.map(8).fill(index);
    range.part(4, 6).protect('r');
    const mirror = buffer(8);
    expect(self.fd.cmd('MIGRATE_TO_DEV', range, 8, mirror)).toMatchObject(ok(8));
    expectWords(mirror, index);
    range.part(0, 1).protect('none');
    expect(self.fd.cmd('MIGRATE_TO_SYS', range, 8).ret).toBe(-22);
  });

  hmm2('of a range without rights is refused, of what is left afterwards only once', (self) => {
    const range = self.map(6, { prot: 'none' });
    expect(self.fd2.cmd('MIGRATE_TO_DEV', range, 6, buffer(6)).ret).toBe(-22);
    range.part(1, 2).unmap();
    expect(self.fd2.cmd('MIGRATE_TO_DEV', range, 3, buffer(3)).ret).toBe(-22);
    // Page 2 is the page of zeros, page 3 read-only, pages 4 and 5 writable.
    range.part(2, 3).protect('r');
    self.space.read(range.at(2), 1);
    range.part(3, 4).protect('rw');
    self.space.write(range.at(3), Uint8Array.of(3));
    range.part(3, 4).protect('r');
    range.part(4, 6).protect('rw');
    self.space.write(range.at(4), Uint8Array.of(4));
    self.space.write(range.at(5), Uint8Array.of(5));
    const mirror = buffer(4);
    expect(self.fd2.cmd('MIGRATE_TO_DEV', range.part(2, 6), 4, mirror)).toMatchObject(ok(4));
    expect([0, 1, 2, 3].map((page) => mirror[page * PAGE])).toEqual([0, 3, 4, 5]);
    // It is on the other device.
    expect(self.fd.cmd('MIGRATE_TO_DEV', range.part(5, 6), 1, buffer(1)).ret).toBe(-2);
    expect([2, 3, 4, 5].map((page) => self.space.read(range.at(page), 1)[0])).toEqual([0, 3, 4, 5]);
  });

  hmm('of hugetlb memory is refused', (self) => {
    const range = self.map(H, { hugetlb: 2 * MiB }).fill(index);
    expect(self.fd.cmd('MIGRATE_TO_DEV', range, H, buffer(H)).ret).toBe(-22);
    range.expectWords(index);
  });
});

describe('two devices', () => {
  hmm2('both map one read-only frame; one takes it, the other reads it again', (self) => {
    const range = self.map(6).fill(index);
    range.protect('r');
    for (const fd of [self.fd, self.fd2]) {
      const mirror = buffer(6);
      expect(fd.cmd('READ', range, 6, mirror)).toEqual(ok(6, 1));
      expectWords(mirror, index);
    }
    const mirror = buffer(6);
    expect(self.fd2.cmd('MIGRATE_TO_DEV', range, 6, mirror)).toMatchObject(ok(6));
    expectWords(mirror, index);
    const again = buffer(6);
    expect(self.fd.cmd('READ', range, 6, again)).toEqual(ok(6, 1));
    expectWords(again, index);
  });

  hmm2('a write of one is what the other reads', (self) => {
    const range = self.map(6);
    expect(self.fd.cmd('WRITE', range, 6, words(6, index))).toEqual(ok(6, 1));
    const mirror = buffer(6);
    expect(self.fd2.cmd('READ', range, 6, mirror)).toEqual(ok(6, 1));
    expectWords(mirror, index);
    expect(self.fd2.cmd('WRITE', range, 6, words(6, minus))).toEqual(ok(6, 0));
    expect(self.fd.cmd('READ', range, 6, mirror)).toEqual(ok(6, 0));
    expectWords(mirror, minus);
  });

  hmm2('exclusive to one: the other revokes it by reading', (self) => {
    const range = self.map(2).fill(index);
    const mirror = buffer(2);
    expect(self.fd.cmd('EXCLUSIVE', range, 2, mirror)).toMatchObject(ok(2));
    expectAll(self.fd2.snapshot(range, 2), PROT.NONE);
    expect(self.fd2.cmd('READ', range, 2, mirror)).toEqual(ok(2, 1));
    expectWords(mirror, index);
    expect(self.fd.cmd('CHECK_EXCLUSIVE', range, 2).ret).toBe(0);
  });

  hmm2('exclusive to one, then to the other', (self) => {
    const range = self.map(2).fill(index);
    const mirror = buffer(2);
    expect(self.fd.cmd('EXCLUSIVE', range, 2, mirror)).toMatchObject(ok(2));
    expect(self.fd2.cmd('EXCLUSIVE', range, 2, mirror)).toMatchObject(ok(2));
    expectWords(mirror, index);
    expect([self.fd.cmd('CHECK_EXCLUSIVE', range, 2).ret, self.fd2.cmd('CHECK_EXCLUSIVE', range, 2).ret]).toEqual([0, -1]);
  });
});

describe('snapshot', () => {
  hmm2('of a mixed range: no right, gone, hole, zero, read-only, writable, own, foreign', (self) => {
    const range = self.map(8);
    range.part(0, 1).protect('none');
    range.part(1, 2).unmap();
    // Page 2 stays a hole, page 3 is the page of zeros.
    self.space.read(range.at(3), 1);
    for (let page = 4; page < 8; page++) self.space.write(range.at(page), Uint8Array.of(page));
    range.part(4, 5).protect('r');
    expect(self.fd.cmd('MIGRATE_TO_DEV', range.part(6, 7), 1, buffer(1))).toMatchObject(ok(1));
    expect(self.fd2.cmd('MIGRATE_TO_DEV', range.part(7, 8), 1, buffer(1))).toMatchObject(ok(1));
    const seen = hex(self.fd.snapshot(range, 8));
    const seen2 = hex(self.fd2.snapshot(range, 8));
    if (self.variant.coherent) {
      expect(seen).toBe('ff ff 00 11 01 02 42 52');
      expect(seen2).toBe('ff ff 00 11 01 02 52 42');
    } else {
      expect(seen).toBe('ff ff 00 11 01 02 22 00');
      expect(seen2).toBe('ff ff 00 11 01 02 00 22');
    }
    // Looking has changed nothing.
    expect(hex(self.fd.snapshot(range, 8))).toBe(seen);
    expect(self.fd.cmd('READ', range, 8, buffer(8)).ret).toBe(EFAULT);
  });

  hmm2('of holes that became pages of two devices', (self) => {
    const range = self.map(3);
    expect(self.fd.cmd('MIGRATE_TO_DEV', range.part(0, 1), 1, buffer(1))).toMatchObject(ok(1));
    expect(self.fd2.cmd('MIGRATE_TO_DEV', range.part(1, 2), 1, buffer(1))).toMatchObject(ok(1));
    expect(hex(self.fd.snapshot(range, 3))).toBe(self.variant.coherent ? '42 52 00' : '22 00 00');
  });

  hmm('of a page of a shared mapping and of a file', (self) => {
    const file = self.machine.createFile({ bytes: 2 * PAGE });
    const range = self.map(2, { file, shared: true });
    expect(hex(self.fd.snapshot(range, 2))).toBe('00 00');
    self.space.read(range.at(0), 1);
    self.space.write(range.at(1), Uint8Array.of(1));
    expect(hex(self.fd.snapshot(range, 2))).toBe('01 02');
    const secret = self.map(2, { file });
    self.space.read(secret.at(0), 1);
    self.space.write(secret.at(1), Uint8Array.of(2));
    expect(hex(self.fd.snapshot(secret, 2))).toBe('01 02');
    range.unmap();
    secret.unmap();
    file.close();
  });

  hmm('of frame numbers and I/O memory: never', (self) => {
    for (const special of ['pfn', 'io'] as const) {
      const range = self.map(2, { special });
      self.space.insertPfn(range.start, 0x1234);
      expectAll(self.fd.snapshot(range, 2), PROT.ERROR);
      expect(self.fd.cmd('READ', range, 2, buffer(2)).ret).toBe(EFAULT);
      range.unmap();
    }
  });
});

describe('pins', () => {
  hmm('short ones keep a coherent page where it is, long ones bring it home first', (self) => {
    const range = self.map(4).fill(index);
    expect(self.fd.cmd('MIGRATE_TO_DEV', range, 4, buffer(4))).toMatchObject(ok(4));
    const pins = [
      self.space.pin(range.part(0, 1)),
      self.space.pin(range.part(1, 2), { write: true }),
      self.space.pin(range.part(2, 3), { longTerm: true }),
      self.space.pin(range.part(3, 4), { write: true, longTerm: true }),
    ];
    const seen = hex(self.fd.snapshot(range, 4));
    // A private page cannot be pinned where it is: all of them come home.
    expect(seen).toBe(self.variant.coherent ? '42 42 02 02' : '02 02 02 02');
    for (const pin of pins) pin.unpin();
    range.expectWords(index);
  });

  hmm('a pinned page stays when its range moves to the device', (self) => {
    const range = self.map(4).fill(index);
    const pin = self.space.pin(range.part(1, 2));
    expect(self.fd.cmd('MIGRATE_TO_DEV', range, 4, buffer(4)).ret).toBe(-2);
    expect(usedOn(self.machine, self.variant.nodes[0])).toBe(3);
    expect(Array.from(pin.read(0, 4))).toEqual(Array.from(words(1, (i) => i + 1024).subarray(0, 4)));
    pin.unpin();
    expect(self.fd.cmd('MIGRATE_TO_DEV', range.part(1, 2), 1, buffer(1))).toMatchObject(ok(1));
    range.expectWords(index);
  });

  hmmCoherent('a pinned coherent page does not come home by command', (self) => {
    const range = self.map(4).fill(index);
    expect(self.fd.cmd('MIGRATE_TO_DEV', range, 4, buffer(4))).toMatchObject(ok(4));
    const pin = self.space.pin(range.part(1, 2), { write: true });
    expect(self.fd.cmd('MIGRATE_TO_SYS', range, 4)).toMatchObject(ok(3));
    expect(hex(self.fd.snapshot(range, 4))).toBe('02 42 02 02');
    pin.write(0, Uint8Array.of(7));
    expect(self.space.read(range.at(1), 1)[0]).toBe(7);
    pin.unpin();
    expect(self.fd.cmd('MIGRATE_TO_SYS', range, 4)).toMatchObject(ok(1));
  });

  hmm('a page that was pinned before a fork is not shared with the child', (self) => {
    const range = self.map(1).fill(index);
    const pin = self.space.pin(range, { write: true });
    const child = self.fork();
    pin.write(0, Uint8Array.of(0x77));
    expect(self.space.read(range.start, 1)[0]).toBe(0x77);
    expect(range.in(child).space.read(range.start, 1)[0]).toBe(0);
    pin.unpin();
    child.exit();
  });
});

describe('huge pages in pieces', () => {
  const onDevice = (self: Self): Buffer => {
    const window = self.mapWindow();
    self.space.madvise(window, 'hugepage');
    window.fill(index);
    const mirror = buffer(H);
    expect(self.fd.cmd('MIGRATE_TO_DEV', window, H, mirror)).toMatchObject(ok(H));
    expectWords(mirror, index);
    return window;
  };

  for (const [what, from, to] of [
    ['the first half', 0, H / 2],
    ['the last page', H - 1, H],
    ['a piece of the middle', 100, 300],
  ] as const) {
    hmm(`munmap of ${what} of one on the device, then CPU reads`, (self) => {
      const window = onDevice(self);
      window.part(from, to).unmap();
      expect(self.space.tryRead(window.at(from), new Uint8Array(1)).status).toBe('no mapping');
      for (const [first, last] of [
        [0, from],
        [to, H],
      ] as const) {
        if (first < last) window.part(first, last).expectWords((i) => i + (first * PAGE) / 4);
      }
      expectClean(self.machine);
    });
  }

  hmm('mremap of one on the device, then CPU reads at the new place', (self) => {
    const window = onDevice(self);
    const elsewhere = self.map(2 * H, { prot: 'none' });
    const start = Math.ceil(elsewhere.start / (2 * MiB)) * 2 * MiB;
    elsewhere.unmap();
    const moved = self.space.mremap(window, { bytes: H * PAGE, mayMove: true, to: start });
    const there = new Buffer(self.space, moved);
    expect(moved.start).toBe(start);
    if (!self.variant.coherent) expectAll(self.fd.snapshot(there, H), PROT.DEV_PRIVATE_LOCAL | PROT.WRITE | PROT.PMD);
    there.expectWords(index);
    expect(self.space.tryRead(window.start, new Uint8Array(1)).status).toBe('no mapping');
  });

  hmm('mremap of a part of one on the device, then CPU reads at both places', (self) => {
    const window = onDevice(self);
    const moved = self.space.mremap(window.part(64, 192), { bytes: 128 * PAGE, mayMove: true, to: self.map(1).start + 64 * MiB });
    const there = new Buffer(self.space, moved);
    there.expectWords((i) => i + (64 * PAGE) / 4);
    window.part(0, 64).expectWords(index);
    window.part(192, H).expectWords((i) => i + (192 * PAGE) / 4);
    expectClean(self.machine);
  });

  for (const dontUnmap of [false, true]) {
    for (const before of [false, true]) {
      for (const offset of [0, 128, 256]) {
        const what = `mremap ${dontUnmap ? 'that leaves the old place mapped, ' : ''}${before ? 'before' : 'after'} the migration, ${offset} pages off`;
        hmm(what, (self) => {
          const window = self.mapWindow();
          self.space.madvise(window, 'hugepage');
          window.fill(index);
          const free = self.map(4 * H, { prot: 'none' });
          const to = Math.ceil(free.start / (2 * MiB)) * 2 * MiB + offset * PAGE;
          free.unmap();
          const move = (): Buffer =>
            new Buffer(self.space, self.space.mremap(window, { bytes: H * PAGE, mayMove: true, to, ...(dontUnmap ? { dontUnmap } : {}) }));
          const mirror = buffer(H);
          let there = window;
          if (before) there = move();
          expect(self.fd.cmd('MIGRATE_TO_DEV', there, H, mirror)).toMatchObject(ok(H));
          expectWords(mirror, index);
          if (!before) there = move();
          expect(there.start).toBe(to);
          there.expectWords(index);
          if (dontUnmap) window.expectWords(zero);
          else expect(self.space.tryRead(window.start, new Uint8Array(1)).status).toBe('no mapping');
          expectClean(self.machine);
        });
      }
    }
  }

  hmm('mremap to an address that is not aligned takes the pieces there', (self) => {
    const window = onDevice(self);
    const to = self.map(1).start + 64 * MiB + PAGE;
    const there = new Buffer(self.space, self.space.mremap(window, { bytes: H * PAGE, mayMove: true, to }));
    const mirror = buffer(H);
    expect(self.fd.cmd('READ', there, H, mirror)).toEqual(ok(H, 1));
    expectWords(mirror, index);
    there.expectWords(index);
  });

  hmm('the huge page of zeros, and no huge page on the device: 512 small ones', (self) => {
    const window = self.mapWindow('r');
    self.space.madvise(window, 'hugepage');
    expectWords(self.space.read(window.start, 4), zero);
    self.fd.flags(FAIL_ALLOC);
    const mirror = buffer(H);
    expect(self.fd.cmd('MIGRATE_TO_DEV', window, H, mirror)).toMatchObject(ok(H));
    expectWords(mirror, zero);
    self.fd.flags(FAIL_ALLOC);
    // Now they are small pages, and one of those that is refused ends the command.
    expect(self.fd.cmd('MIGRATE_TO_SYS', window, H).ret).toBe(ENOMEM);
    window.expectWords(zero);
  });

  hmm('a huge page of zeros on the device, when the host refuses a huge page', (self) => {
    const window = self.mapWindow('r');
    self.space.madvise(window, 'hugepage');
    expectWords(self.space.read(window.start, 4), zero);
    expect(self.fd.cmd('MIGRATE_TO_DEV', window, H, buffer(H))).toMatchObject(ok(H));
    self.fd.flags(FAIL_ALLOC);
    expect(self.fd.cmd('MIGRATE_TO_SYS', window, H)).toMatchObject(ok(H));
    expectAll(self.fd.snapshot(window, H), PROT.READ);
    window.expectWords(zero);
  });

  hmm('a CPU write to one page of a huge one on the device', (self) => {
    const window = onDevice(self);
    self.space.write(window.at(300), Uint8Array.of(0xaa));
    const seen = self.space.read(window.at(300), 2);
    expect(Array.from(seen)).toEqual([0xaa, words(1, (i) => i + 300 * 1024)[1]]);
    // A private one came home as a whole.
    expect(usedOn(self.machine, self.variant.nodes[0])).toBe(self.variant.coherent ? H : 0);
  });

  hmm('mprotect of a part of one on the device', (self) => {
    const window = onDevice(self);
    window.part(10, 20).protect('r');
    expect(self.fd.cmd('WRITE', window, H, words(H, minus)).ret).toBe(-1);
    expect(self.space.tryWrite(window.at(10), Uint8Array.of(1)).status).toBe('permission');
    // The device wrote as far as its table allowed.
    window.part(0, 10).expectWords(minus);
    window.part(10, H).expectWords((i) => i + (10 * PAGE) / 4);
    expectClean(self.machine);
  });

  hmm('fork of a process that has one on the device, a write by each', (self) => {
    const window = onDevice(self);
    const child = self.fork();
    self.space.write(window.at(5), Uint8Array.of(1));
    child.space.write(window.at(6), Uint8Array.of(2));
    expect([self.space.read(window.at(6), 1)[0], child.space.read(window.at(5), 1)[0]]).toEqual([
      words(1, (i) => i + 6 * 1024)[0],
      words(1, (i) => i + 5 * 1024)[0],
    ]);
    child.exit();
    expectClean(self.machine);
  });
});

test('nothing of a process is left when it is killed with pages everywhere', () => {
  const machine = emptyMachine();
  const self = new Process(machine, addDevices(machine), machine.createAddressSpace());
  const range = self.map(N).fill(index);
  const mirrors = [0, 1, 2, 3].map((node) => self.open(node));
  mirrors.forEach((fd, node) => expect(fd.cmd('MIGRATE_TO_DEV', range.part(node * 100, node * 100 + 100), 100, buffer(100)).ret).toBe(0));
  expect(mirrors[0]!.cmd('EXCLUSIVE', range.part(500, 600), 100, buffer(100)).ret).toBe(0);
  self.exit();
  expect(used(machine)).toBe('');
  expectClean(machine);
});
