import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type AddressSpace, GiB, isFarfaultError, type Machine, type MemoryFile, MiB, type MmapOptions } from 'farfault';
import { expectClean, PAGE, Probe, smallMachine, used } from './probe.ts';

let machine: Machine;
let space: AddressSpace;
let file: MemoryFile;

function refused(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (!isFarfaultError(error)) throw error;
    return `${error.code}: ${error.message}`;
  }
  return 'nothing thrown';
}

beforeEach(() => {
  machine = smallMachine({ dram: 8 * MiB });
  space = machine.createAddressSpace();
  file = machine.createFile({ content: Uint8Array.of(7) });
});

afterEach(() => {
  for (const each of [...machine.platform.spaces.values()]) each.close();
  file.close();
  expect(used(machine)).toMatch(/^(\S+ 0(, )?)+$/);
  expectClean(machine);
  machine.close();
});

describe('a mapping', () => {
  const rows: [string, (file: MemoryFile) => Partial<MmapOptions>, string, string][] = [
    ['anonymous and private', () => ({}), 'z then H', 'own'],
    ['anonymous and shared', () => ({ shared: true }), 'f then F', 'seen'],
    ['of a file, private', (of) => ({ file: of }), 'f then H', 'own'],
    ['of a file, shared', (of) => ({ file: of, shared: true }), 'f then F', 'seen'],
    ['of huge pages', () => ({ hugetlb: 2 * MiB }), 'h then H', 'own'],
  ];
  test.each(rows)(
    '%s: what is there after a read and a write, and whether a child sees the parent’s next write',
    (_, options, letters, sight) => {
      const { start } = space.mmap({ bytes: PAGE, ...options(file) });
      const page = { start, end: start + PAGE };
      expect(space.dump(page)).toBe('.');
      space.read(start, 1);
      const read = space.dump(page);
      space.write(start, Uint8Array.of(1));
      expect(`${read} then ${space.dump(page)}`).toBe(letters);
      const child = space.fork();
      space.write(start, Uint8Array.of(2));
      expect(child.read(start, 1)[0]).toBe(sight === 'seen' ? 2 : 1);
      expect(machine.verify()).toBe(undefined);
    },
  );

  test.each(['mixed', 'pfn', 'io'] as const)('that is special (%s) has nothing until a driver puts it there', (special) => {
    for (const shared of [false, true]) {
      const { start } = space.mmap({ bytes: PAGE, special, shared });
      expect(refused(() => space.read(start, 1))).toMatch(/^EIO/);
    }
    expect(used(machine)).toBe('dram 0');
  });

  test('goes where it is aligned as asked', () => {
    for (const align of [PAGE, 2 * MiB, GiB]) expect(space.mmap({ bytes: PAGE, align }).start % align).toBe(0);
    const { start } = space.mmap({ bytes: PAGE, at: 6 * MiB, align: 2 * MiB, fixed: true });
    expect(start).toBe(6 * MiB);
  });

  test('of huge pages is as long as whole ones, and as aligned', () => {
    const { start, end } = space.mmap({ bytes: 2 * MiB + 1, hugetlb: 2 * MiB });
    expect([start % (2 * MiB), end - start]).toEqual([0, 4 * MiB]);
    expect(space.mmap({ bytes: 1, hugetlb: GiB }).start % GiB).toBe(0);
  });

  test('joins its neighbour when the file continues there', () => {
    const at = 16 * MiB;
    space.mmap({ bytes: PAGE, file, offset: 0, at, fixed: true });
    space.mmap({ bytes: PAGE, file, offset: PAGE, at: at + PAGE, fixed: true });
    expect(space.vmas.size).toBe(1);
    space.mmap({ bytes: PAGE, file, offset: 0, at: at + 2 * PAGE, fixed: true });
    space.mmap({ bytes: PAGE, at: at + 3 * PAGE, shared: true, fixed: true });
    space.mmap({ bytes: PAGE, at: at + 4 * PAGE, shared: true, fixed: true });
    expect(space.vmas.size).toBe(4);
  });
});

const bad: [string, (file: MemoryFile) => unknown, RegExp][] = [
  ['no options', () => 5, /^EINVAL: mmap options 5 are not an object/],
  ['no length', () => ({ bytes: 0 }), /^EINVAL: mmap.bytes 0 is not a length/],
  ['rights of its own', () => ({ bytes: 1, prot: 'q' }), /^EINVAL: mmap.prot "q" is not one of none, r/],
  ['half an address', () => ({ bytes: 1, at: 12 }), /^EINVAL: mmap.at 12 is not page-aligned/],
  ['fixed to nowhere', () => ({ bytes: 1, fixed: true }), /^EINVAL: mmap.at undefined is required with fixed/],
  ['an alignment of its own', () => ({ bytes: 1, align: 3 }), /^EINVAL: mmap.align 3 is not 4096, 2 MiB or 1 GiB/],
  [
    'a fixed place that is not so aligned',
    () => ({ bytes: 1, at: PAGE, fixed: true, align: 2 * MiB }),
    /^EINVAL: mmap.at .* is not a multiple of 0x200000/,
  ],
  [
    'huge pages at a place for small ones',
    () => ({ bytes: 1, at: PAGE, fixed: true, hugetlb: 2 * MiB }),
    /^EINVAL: mmap.at .* is not a multiple of 0x200000/,
  ],
  [
    'a fixed place at the very end',
    () => ({ bytes: 2 * PAGE, at: 2 ** 48 - PAGE, fixed: true }),
    /^EINVAL: mmap.at .* leaves no room for 8192 bytes below 2\^48/,
  ],
  ['more than there is', () => ({ bytes: 2 ** 48 }), /^ENOMEM: mmap.bytes .* has no gap/],
  ['shared a little', () => ({ bytes: 1, shared: 1 }), /^EINVAL: mmap.shared 1 is not true or false/],
  ['a file by name', () => ({ bytes: 1, file: 'a.txt' }), /^EINVAL: mmap.file "a.txt" is not a file \(see machine.createFile\)/],
  ['a file of huge pages', (file) => ({ bytes: 1, file, hugetlb: 2 * MiB }), /^EINVAL: mmap.hugetlb .* does not go with a file/],
  ['a special file', (file) => ({ bytes: 1, file, special: 'io' }), /^EINVAL: mmap.special "io" does not go with a file/],
  ['half an offset', (file) => ({ bytes: 1, file, offset: 5 }), /^EINVAL: mmap.offset 5 is not a multiple of 4096/],
  ['an offset of nothing', () => ({ bytes: 1, offset: PAGE }), /^EINVAL: mmap.offset .* is for files/],
  ['special huge pages', () => ({ bytes: 1, special: 'pfn', hugetlb: GiB }), /^EINVAL: mmap.hugetlb .* does not go with a special mapping/],
  ['special in a way of its own', () => ({ bytes: 1, special: 'odd' }), /^EINVAL: mmap.special "odd" is not one of: 'mixed', 'pfn', 'io'/],
  ['huge pages of a size of their own', () => ({ bytes: 1, hugetlb: 64 * 1024 }), /^EINVAL: mmap.hugetlb .* is not 2 MiB or 1 GiB/],
  ['shared huge pages', () => ({ bytes: 1, hugetlb: 2 * MiB, shared: true }), /^EINVAL: mmap.hugetlb .* is for private memory only/],
];

test.each(bad)('mmap of %s is refused, and nothing is mapped', (_, options, message) => {
  expect(refused(() => space.mmap(options(file) as MmapOptions))).toMatch(message);
  expect([space.vmas.size, machine.verify()]).toEqual([0, undefined]);
});

test('mmap of a file that is closed, or of another machine, is refused', () => {
  const other = smallMachine();
  expect(refused(() => space.mmap({ bytes: 1, file: other.createFile() }))).toMatch(
    /^EINVAL: mmap.file 0 bytes long, is of another machine/,
  );
  other.close();
  file.close();
  expect(refused(() => space.mmap({ bytes: 1, file }))).toMatch(/^EBADF/);
});

test('mmap at a fixed place that is taken is refused', () => {
  const { start } = space.mmap({ bytes: PAGE });
  expect(refused(() => space.mmap({ bytes: PAGE, at: start, fixed: true }))).toMatch(/^EINVAL: mmap.at .* is mapped already/);
});

describe('shared anonymous memory', () => {
  test('lives until the last mapping of it', () => {
    const range = space.mmap({ bytes: 4 * PAGE, shared: true });
    space.write(range.start, Uint8Array.of(5));
    const child = space.fork();
    space.munmap(range);
    expect(used(machine)).toBe('dram 1');
    expect(child.read(range.start, 1)[0]).toBe(5);
    child.munmap({ start: range.start, end: range.start + 3 * PAGE });
    expect(used(machine)).toBe('dram 1');
    child.munmap(range);
    expect(used(machine)).toBe('dram 0');
  });

  test('keeps its pages when one of its mappings is emptied', () => {
    const range = space.mmap({ bytes: PAGE, shared: true });
    space.write(range.start, Uint8Array.of(5));
    space.madvise(range, 'dontneed');
    expect([space.dump(range), used(machine), space.read(range.start, 1)[0]]).toEqual(['.', 'dram 1', 5]);
  });

  test('is written by a device for all, and never goes there', () => {
    const range = space.mmap({ bytes: 2 * PAGE, shared: true });
    const context = space.attach(machine.addDevice(new Probe().driver));
    const child = space.fork();
    context.write(range.start + 1, Uint8Array.of(8));
    expect([child.read(range.start + 1, 1)[0], child.dump(range), space.dump(range)]).toEqual([8, 'f.', 'F.']);
    expect(used(machine)).toBe('dram 1, probe.ram 0');
  });
});
