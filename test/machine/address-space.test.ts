import { afterEach, describe, expect, test } from 'vitest';
import { isFarfaultError, type Machine } from 'farfault';
import { defineDriver, deviceTable } from 'farfault/gmem';
import { expectClean, PAGE, Probe, smallMachine, used } from './probe.ts';

let machine: Machine;

function fresh(options = {}): Machine {
  machine = smallMachine(options);
  return machine;
}

afterEach(() => machine.close());

/** Code and message of what is thrown. */
function thrown(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (isFarfaultError(error)) return `${error.code}: ${error.message}`;
    throw error;
  }
  return 'nothing thrown';
}

describe('mmap', () => {
  test('chooses the first gap from 256 MiB on, rounds up to pages, and fills holes again', () => {
    const space = fresh().createAddressSpace();
    const first = space.mmap({ bytes: 1 });
    const second = space.mmap({ bytes: 2 * PAGE + 1, prot: 'r' });
    expect(first).toEqual({ start: 0x1000_0000, end: 0x1000_1000 });
    expect(second).toEqual({ start: 0x1000_1000, end: 0x1000_4000 });
    space.munmap(first);
    expect(space.mmap({ bytes: PAGE, prot: 'rwx' })).toEqual(first);
    expect(space.dump()).toBe('10000000-10001000 rwx .\n10001000-10004000 r-- ...');
  });

  test('takes the place asked for, or the next free one; a fixed place must be free', () => {
    const space = fresh().createAddressSpace();
    const there = space.mmap({ bytes: 4 * PAGE, at: 0x5000_0000 });
    expect(there.start).toBe(0x5000_0000);
    expect(space.mmap({ bytes: PAGE, at: 0x5000_1000 }).start).toBe(0x5000_4000);
    expect(thrown(() => space.mmap({ bytes: PAGE, at: 0x5000_3000, fixed: true }))).toBe('EINVAL: mmap.at 0x50003000 is mapped already');
    expect(space.mmap({ bytes: PAGE, at: 0, fixed: true })).toEqual({ start: 0, end: PAGE });
  });

  test('reaches to the end of the address space and says when there is no room', () => {
    const space = fresh().createAddressSpace();
    const last = space.mmap({ bytes: PAGE, at: 2 ** 48 - PAGE, fixed: true });
    space.write(last.start + PAGE - 1, Uint8Array.of(7));
    expect(space.read(2 ** 48 - 1, 1)[0]).toBe(7);
    expect(thrown(() => space.read(2 ** 48 - 1, 2))).toBe('EOVERFLOW: read.addr 0xffffffffffff leaves the address space after 2 bytes');
    expect(thrown(() => space.mmap({ bytes: 2 * PAGE, at: 2 ** 48 - PAGE }))).toBe(
      'ENOMEM: mmap.bytes 8192 has no gap in the address space',
    );
    expect(thrown(() => space.mmap({ bytes: 2 * PAGE, at: 2 ** 48 - PAGE, fixed: true }))).toBe(
      'EINVAL: mmap.at 0xfffffffff000 leaves no room for 8192 bytes below 2^48',
    );
    expectClean(machine);
  });

  test('of half the address space costs nothing before it is touched', () => {
    const space = fresh().createAddressSpace();
    const vast = space.mmap({ bytes: 2 ** 47 });
    space.write(vast.start + 2 ** 46, Uint8Array.of(1));
    expect(used(machine)).toBe('dram 1');
    space.munmap(vast);
    expect(used(machine)).toBe('dram 0');
    expectClean(machine);
  });
});

describe('a first touch', () => {
  test('by a read finds the page of zeros, by a write a frame of its own; a write to the page of zeros makes one', () => {
    const space = fresh().createAddressSpace();
    const range = space.mmap({ bytes: 4 * PAGE });
    expect([...space.read(range.start, 4)]).toEqual([0, 0, 0, 0]);
    expect(space.dump(range)).toBe('z...');
    expect(used(machine)).toBe('dram 0');
    space.write(range.start + PAGE, Uint8Array.of(1));
    expect(space.dump(range)).toBe('zH..');
    space.write(range.start + 5, Uint8Array.of(2));
    expect(space.dump(range)).toBe('HH..');
    expect([...space.read(range.start + 4, 3)]).toEqual([0, 2, 0]);
    expect(machine.counters.cpuFaults).toEqual({ zero: 1, demand: 1, cow: 1, reuse: 0, home: 0 });
    expectClean(machine);
  });

  test('finds zeros in a frame that had other bytes before', () => {
    const space = fresh({ dram: PAGE }).createAddressSpace();
    const range = space.mmap({ bytes: PAGE });
    space.write(range.start, new Uint8Array(PAGE).fill(0xff));
    space.munmap(range);
    const again = space.mmap({ bytes: PAGE });
    space.write(again.start, Uint8Array.of(1));
    expect([...space.read(again.start, 3)]).toEqual([1, 0, 0]);
    expect(space.read(again.start + 1, PAGE - 1).every((byte) => byte === 0)).toBe(true);
  });

  test('that finds no frame says ENOMEM, keeps what was written before, and works when there is room again', () => {
    const space = fresh({ dram: 2 * PAGE }).createAddressSpace();
    const range = space.mmap({ bytes: 4 * PAGE });
    const bytes = new Uint8Array(3 * PAGE).fill(9);
    expect(thrown(() => space.write(range.start, bytes))).toBe('ENOMEM: write.addr 0x10002000 needs a page, and host memory is exhausted');
    expect(space.dump(range)).toBe('HH..');
    expect(space.tryWrite(range.start, bytes)).toEqual({ status: 'no memory', bytes: 2 * PAGE });
    expectClean(machine);
    space.madvise({ start: range.start, end: range.start + PAGE }, 'dontneed');
    space.write(range.start + 2 * PAGE, Uint8Array.of(1));
    expect(space.dump(range)).toBe('.HH.');
    expectClean(machine);
  });
});

describe('an access', () => {
  test('without the right to it is EFAULT, with the address where it stopped', () => {
    const space = fresh().createAddressSpace();
    const { start } = space.mmap({ bytes: PAGE, prot: 'rw' });
    space.mmap({ bytes: PAGE, prot: 'r', at: start + PAGE, fixed: true });
    space.mmap({ bytes: PAGE, prot: 'none', at: start + 2 * PAGE, fixed: true });
    expect(thrown(() => space.write(start + PAGE - 2, Uint8Array.of(1, 2, 3)))).toBe(
      'EFAULT: write.addr 0x10001000 is mapped without the right to write',
    );
    expect([...space.read(start + PAGE - 2, 3)]).toEqual([1, 2, 0]);
    expect(thrown(() => space.read(start + PAGE, PAGE + 1))).toBe('EFAULT: read.addr 0x10002000 is mapped without the right to read');
    expect(thrown(() => space.read(start + 3 * PAGE, 1))).toBe('EFAULT: read.addr 0x10003000 is not mapped');
    expect(space.dump({ start, end: start + 4 * PAGE })).toBe('Hz.-');
    expectClean(machine);
  });

  test('that is tried says how far it came', () => {
    const space = fresh().createAddressSpace();
    const { start } = space.mmap({ bytes: PAGE });
    const bytes = new Uint8Array(PAGE).fill(5);
    expect(space.tryWrite(start + 96, bytes)).toEqual({ status: 'no mapping', bytes: PAGE - 96 });
    const back = new Uint8Array(PAGE);
    expect(space.tryRead(start + 96, back)).toEqual({ status: 'no mapping', bytes: PAGE - 96 });
    expect(back.subarray(0, PAGE - 96).every((byte) => byte === 5)).toBe(true);
    expect(back.subarray(PAGE - 96).every((byte) => byte === 0)).toBe(true);
    space.mprotect({ start, end: start + PAGE }, 'none');
    expect(space.tryRead(start, back)).toEqual({ status: 'permission', bytes: 0 });
    space.mprotect({ start, end: start + PAGE }, 'r');
    expect(space.tryWrite(start, bytes)).toEqual({ status: 'permission', bytes: 0 });
    expect(space.tryRead(start, new Uint8Array(0))).toEqual({ status: 'done', bytes: 0 });
    expectClean(machine);
  });

  test('longer than the copy area crosses pages and areas', () => {
    const space = fresh({ dram: 4 * 2 ** 20 }).createAddressSpace();
    const range = space.mmap({ bytes: 3 * 2 ** 20 });
    const bytes = Uint8Array.from({ length: 2.5 * 2 ** 20 }, (_, i) => (i * 31 + (i >> 12)) & 0xff);
    space.write(range.start + 123, bytes);
    const back = space.read(range.start, bytes.length + 123);
    expect(back.every((byte, i) => byte === (i < 123 ? 0 : bytes[i - 123]))).toBe(true);
    expectClean(machine);
  });
});

describe('munmap', () => {
  test('of the middle of a mapping gives its frames back and leaves the rest', () => {
    const space = fresh().createAddressSpace();
    const { start, end } = space.mmap({ bytes: 5 * PAGE });
    space.write(start, new Uint8Array(5 * PAGE).fill(3));
    expect(used(machine)).toBe('dram 5');
    space.munmap({ start: start + PAGE, end: start + 3 * PAGE });
    expect(space.dump({ start, end })).toBe('H--HH');
    expect(space.dump()).toBe('10000000-10001000 rw- H\n10003000-10005000 rw- HH');
    expect(used(machine)).toBe('dram 3');
    space.munmap({ start: 0, end: 2 ** 48 });
    expect(used(machine)).toBe('dram 0');
    expect(space.dump()).toBe('');
    expectClean(machine);
  });

  test('of nothing does nothing', () => {
    const space = fresh().createAddressSpace();
    space.munmap({ start: 0x1000, end: 0x9000 });
    expectClean(machine);
  });
});

describe('mprotect', () => {
  test('splits and joins mappings, and takes rights from pages that are there', () => {
    const space = fresh().createAddressSpace();
    const range = space.mmap({ bytes: 4 * PAGE });
    space.write(range.start, new Uint8Array(4 * PAGE).fill(3));
    const middle = { start: range.start + PAGE, end: range.start + 3 * PAGE };
    space.mprotect(middle, 'r');
    expect(space.dump()).toBe('10000000-10001000 rw- H\n10001000-10003000 r-- hh\n10003000-10004000 rw- H');
    expect(thrown(() => space.write(middle.start, Uint8Array.of(1)))).toBe(
      'EFAULT: write.addr 0x10001000 is mapped without the right to write',
    );
    space.mprotect(middle, 'none');
    expect(space.dump(range)).toBe('HnnH');
    expect(thrown(() => space.read(middle.start, 1))).toBe('EFAULT: read.addr 0x10001000 is mapped without the right to read');
    space.mprotect(middle, 'rw');
    expect(space.dump()).toBe('10000000-10004000 rw- HHHH');
    expect([...space.read(middle.start, 1)]).toEqual([3]);
    expectClean(machine);
  });

  test('of a range with a hole changes nothing', () => {
    const space = fresh().createAddressSpace();
    const { start } = space.mmap({ bytes: PAGE });
    space.mmap({ bytes: PAGE, at: start + 2 * PAGE, fixed: true });
    expect(thrown(() => space.mprotect({ start, end: start + 3 * PAGE }, 'r'))).toBe(
      'EINVAL: mprotect.range.start 0x10000000 has no mapping at 0x10001000',
    );
    expect(space.dump()).toBe('10000000-10001000 rw- .\n10002000-10003000 rw- .');
  });

  test('to none hides a page on a device, and it stays hidden when it comes home', () => {
    const probe = new Probe();
    const space = fresh().createAddressSpace();
    const context = space.attach(machine.addDevice(probe.driver));
    const range = space.mmap({ bytes: 2 * PAGE });
    context.write(range.start, new Uint8Array(2 * PAGE).fill(4));
    expect(space.dump(range)).toBe('DD');
    space.mprotect(range, 'none');
    expect(thrown(() => space.read(range.start, 1))).toBe('EFAULT: read.addr 0x10000000 is mapped without the right to read');
    expect(context.migrate(range, { to: 'host' })).toBe(2);
    expect(space.dump(range)).toBe('nn');
    expect(thrown(() => space.read(range.start, 1))).toBe('EFAULT: read.addr 0x10000000 is mapped without the right to read');
    space.mprotect(range, 'r');
    expect([...space.read(range.start, 1)]).toEqual([4]);
    expectClean(machine);
  });
});

describe('madvise dontneed', () => {
  test('drops the pages and keeps the promise', () => {
    const space = fresh().createAddressSpace();
    const range = space.mmap({ bytes: 3 * PAGE });
    space.write(range.start, new Uint8Array(3 * PAGE).fill(3));
    space.madvise({ start: range.start, end: range.start + 2 * PAGE }, 'dontneed');
    expect(space.dump(range)).toBe('..H');
    expect(used(machine)).toBe('dram 1');
    expect([...space.read(range.start, 1)]).toEqual([0]);
    expectClean(machine);
  });
});

describe('a dump', () => {
  test('has a letter a page, and of a long mapping its length only', () => {
    const space = fresh().createAddressSpace();
    const { start } = space.mmap({ bytes: 65536 * PAGE, prot: 'r' });
    space.read(start, 1);
    expect(space.dump()).toBe(`10000000-20000000 r-- z${'.'.repeat(65535)}`);
    const long = space.mmap({ bytes: 65537 * PAGE });
    expect(space.dump().split('\n')[1]).toBe('20000000-30001000 rw- (65537 pages)');
    expect(space.dump(long)).toBe('.'.repeat(65537));
  });
});

describe('a snapshot of extents', () => {
  test('goes on where the core has no room for more at once', () => {
    const space = fresh({ tablePages: 128 }).createAddressSpace();
    const PAGES = 17_000;
    const { start, end } = space.mmap({ bytes: PAGES * PAGE });
    for (let page = 0; page < PAGES; page += 2) space.read(start + page * PAGE, 1);
    const extents = space.snapshotExtents({ start, end });
    expect(extents).toHaveLength(PAGES / 2);
    expect(extents.findIndex((extent, i) => extent.start !== start + 2 * i * PAGE || extent.pages !== 1)).toBe(-1);
  });
});

describe('closing', () => {
  test('a space tells every subscriber RELEASE, once, before its pages go, and takes no new one', () => {
    fresh();
    const space = machine.createAddressSpace();
    const range = space.mmap({ bytes: 2 * PAGE });
    space.write(range.start, Uint8Array.of(1));
    const heard: string[] = [];
    space.subscribe(range, {
      invalidate(event) {
        heard.push(`${event.reason} ${used(machine)}`);
        return true;
      },
    });
    const before = used(machine);
    space.close();
    expect(heard).toEqual([`RELEASE ${before}`]);
    expectClean(machine);
  });

  test('a space waits for a device that flushes, as a promise', async () => {
    fresh();
    const flushes: { complete(): void }[] = [];
    const driver = defineDriver(() => ({
      name: 'flusher',
      attach(context) {
        const table = deviceTable(context);
        return {
          pmap: table,
          walk: { translate: (vpn, access) => table.walk(vpn, access) },
          tlb: {
            invalidate() {
              const ticket = context.ticket('flush');
              flushes.push(ticket);
              return ticket;
            },
          },
        };
      },
    }));
    const device = machine.addDevice(driver());
    const space = machine.createAddressSpace();
    const context = space.attach(device);
    const range = space.mmap({ bytes: PAGE });
    context.write(range.start, Uint8Array.of(1));
    const closing = space.closeAsync();
    expect(used(machine)).toBe('dram 1');
    while (flushes.length > 0) {
      flushes.shift()!.complete();
      await Promise.resolve();
    }
    await closing;
    expect(used(machine)).toBe('dram 0');
    expectClean(machine);
  });

  test('a space gives everything back, its devices included; later use is EBADF', () => {
    const probe = new Probe();
    fresh();
    const device = machine.addDevice(probe.driver);
    const before = used(machine);
    const space = machine.createAddressSpace();
    const context = space.attach(device);
    const range = space.mmap({ bytes: 8 * PAGE });
    space.write(range.start, new Uint8Array(4 * PAGE).fill(3));
    context.write(range.start + 2 * PAGE, new Uint8Array(4 * PAGE).fill(5));
    expect(space.dump(range)).toBe('HHDDDD..');
    space.close();
    space.close();
    expect(used(machine)).toBe(before);
    expect(probe.log.slice(-2)).toEqual(['detach', 'destroy']);
    expect(thrown(() => space.read(range.start, 1))).toBe('EBADF: read.addr "address space" has been closed');
    expect(thrown(() => space.mmap({ bytes: 1 }))).toBe('EBADF: mmap "address space" has been closed');
    expect(thrown(() => context.read(range.start, 1))).toBe('EBADF: read "address space" has been closed');
    expectClean(machine);
  });

  test('a space works when host memory is exhausted and its pages are on a device', () => {
    const probe = new Probe();
    fresh({ dram: PAGE });
    const space = machine.createAddressSpace();
    const context = space.attach(machine.addDevice(probe.driver));
    const range = space.mmap({ bytes: 4 * PAGE });
    context.write(range.start, new Uint8Array(3 * PAGE).fill(1));
    space.write(range.start + 3 * PAGE, Uint8Array.of(1));
    expect(space.dump(range)).toBe('DDDH');
    space.close();
    expect(used(machine)).toBe('dram 0, probe.ram 0');
    expectClean(machine);
  });

  test('spaces one after the other use up nothing', () => {
    fresh({ tables: 4 });
    const device = machine.addDevice(new Probe().driver);
    for (let i = 0; i < 40; i++) {
      const space = machine.createAddressSpace();
      const context = space.attach(device);
      const range = space.mmap({ bytes: 4 * PAGE });
      context.write(range.start, Uint8Array.of(i));
      expect(space.read(range.start, 1)[0]).toBe(i);
      space.close();
    }
    expect(used(machine)).toBe('dram 0, probe.ram 0');
    expectClean(machine);
  });

  test('a machine ends what is unfinished and leaves no lock held', async () => {
    const probe = new Probe();
    const space = fresh().createAddressSpace();
    const context = space.attach(machine.addDevice(probe.driver));
    const range = space.mmap({ bytes: PAGE });
    space.write(range.start, Uint8Array.of(1));
    probe.slow.add('toDevice');
    const moved = context.migrateAsync(range, { to: 'device' });
    const read = space.readAsync(range.start, 1);
    const gone = space.munmapAsync(range);
    expect(machine.pending.length).toBe(3);
    machine.close();
    for (const each of [moved, read, gone]) {
      await expect(each).rejects.toMatchObject({ code: 'EBADF' });
    }
    expect(machine.strayErrors).toEqual([]);
    expect(thrown(() => machine.verify())).toBe('EBADF: verify "machine" has been closed');
    expect(thrown(() => space.read(range.start, 1))).toBe('EBADF: read.addr "machine" has been closed');
  });

  test('a machine that is emptied is as new, and what it had is closed', () => {
    fresh();
    const device = machine.addDevice(new Probe().driver);
    const space = machine.createAddressSpace();
    const context = space.attach(device);
    const range = space.mmap({ bytes: 4 * PAGE });
    context.write(range.start, Uint8Array.of(1));
    machine.reset();
    expect(used(machine)).toBe('dram 0');
    expect(machine.counters.migrated).toEqual({});
    expect(thrown(() => space.read(range.start, 1))).toBe('EBADF: read.addr "machine" has been closed');
    expect(thrown(() => context.submit({ accesses: [] }))).toBe('EBADF: submit "machine" has been closed');
    expect(thrown(() => machine.createAddressSpace().attach(device))).toBe('EBADF: attach "machine" has been closed');
    expectClean(machine);
  });
});
