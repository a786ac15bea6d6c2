/**
 * The eight ways in which a change makes neighbouring mappings one (`vma_merge`), on a machine: after each of them every page has its byte, its place, its advice and its rights, for the CPU and for devices, and what was not
 * changed keeps its translations.
 *
 * A drawing has one letter a cell: a is rw, b is r, c is rx, '.' is free.
 */
import { afterEach, describe, expect, test } from 'vitest';
import { type AddressRange, type AddressSpace, type Context, isFarfaultError, type Machine, MiB } from 'farfault';
import { expectClean, smallMachine, used } from '../machine/probe.ts';
import { PAGE, peerDriver, sharedPages } from './peer-world.ts';

const BASE = 0x1000_0000;
const RIGHTS = { a: 'rw', b: 'r', c: 'rx' } as const;
const PRINTED = { a: 'rw-', b: 'r--', c: 'r-x' } as const;
type Letter = keyof typeof RIGHTS;

const machines: Machine[] = [];
afterEach(() => {
  for (const machine of machines.splice(0)) machine.close();
});

function runs(drawing: string): { letter: Letter; start: number; end: number }[] {
  return [...drawing.matchAll(/a+|b+|c+/g)].map(({ 0: run, index }) => ({
    letter: run[0] as Letter,
    start: index,
    end: index + run.length,
  }));
}

/** What a page is before and after. */
interface Page {
  readonly addr: number;
  readonly cell: number;
  readonly byte: number;
}

class Mapped {
  readonly machine: Machine;
  readonly space: AddressSpace;
  /** One with memory, one without. */
  readonly devices: readonly Context[];
  readonly own;
  readonly pages: Page[] = [];
  readonly advised: string;
  private readonly cellPages: number;

  constructor(drawing: string, isPeerShared: boolean) {
    this.machine = smallMachine({ dram: 4 * MiB });
    machines.push(this.machine);
    this.space = this.machine.createAddressSpace();
    const card = peerDriver({ name: 'card' });
    const reader = peerDriver({ name: 'reader', pages: 0, peers: false });
    this.own = card.own;
    const added = [card, reader].map(({ driver }) => this.machine.addDevice(driver));
    this.devices = added.map((device) => this.space.attach(device));
    this.cellPages = isPeerShared ? 512 : 3;
    for (const { letter, ...run } of runs(drawing)) {
      const range = this.range(run);
      this.space.mmap({ bytes: range.end - range.start, at: range.start, fixed: true, peerShared: isPeerShared });
      for (let cell = run.start; cell < run.end; cell++) this.fill(cell);
      if (letter !== 'a') this.space.mprotect(range, RIGHTS[letter]);
      this.space.attributes.set(range, letter === 'b' ? { readMostly: true } : { preferred: added[letter === 'a' ? 0 : 1]! });
    }
    this.advised = this.advice();
    // The device without memory maps what is at home, the other one has what is its own.
    for (const { addr } of this.pages) this.devices[this.space.dump(pageAt(addr)).toLowerCase() === 'd' ? 0 : 1]!.read(addr, 1);
  }

  range({ start, end }: { readonly start: number; readonly end: number }): AddressRange {
    const bytes = this.cellPages * PAGE;
    return { start: BASE + start * bytes, end: BASE + end * bytes };
  }

  /** Its first page is the device's, its last one the CPU's. */
  private fill(cell: number): void {
    const { start, end } = this.range({ start: cell, end: cell + 1 });
    const [first, last] = [
      { addr: start, cell, byte: 2 * cell + 1 },
      { addr: end - PAGE, cell, byte: 2 * cell + 2 },
    ];
    this.devices[0]!.write(first.addr, Uint8Array.of(first.byte));
    this.space.write(last.addr, Uint8Array.of(last.byte));
    this.pages.push(first, last);
  }

  advice(): string {
    return JSON.stringify(this.space.attributes.list());
  }

  /** Where a page is, and what each device can do with it without a fault. */
  state({ addr }: Page): string {
    const can = this.devices.map((context) =>
      [false, true].map((write) => (context.reaches(addr / PAGE, write) ? 'rw'[+write] : '-')).join(''),
    );
    return `${this.space.dump(pageAt(addr))} ${can.join(' ')}`;
  }

  vmas(): string[] {
    return this.space
      .dump()
      .split('\n')
      .map((line) => line.split(' ').slice(0, 2).join(' '));
  }
}

const pageAt = (addr: number): AddressRange => ({ start: addr, end: addr + PAGE });

function codeOf(call: () => unknown): string {
  try {
    call();
  } catch (error) {
    if (isFarfaultError(error)) return error.code;
    throw error;
  }
  return 'done';
}

/** Changes what is mapped by `change`, and looks at everything. */
function changes(
  old: string,
  request: string,
  now: string,
  isPeerShared: boolean,
  change: (it: Mapped, range: AddressRange, letter: Letter) => void,
): void {
  const it = new Mapped(old, isPeerShared);
  const { space, devices, pages } = it;
  const before = new Map(pages.map((page) => [page, it.state(page)]));
  // Each device can use what it is to use: what follows could not see a translation that stays otherwise.
  expect(
    [...before.values()].every((state) => /^d r. --$|^h -- r.$/i.test(state)),
    [...before.values()].join(),
  ).toBe(true);
  const [{ letter, ...cells }] = runs(request) as [{ letter: Letter; start: number; end: number }];
  change(it, it.range(cells), letter);

  expect(it.vmas()).toEqual(
    runs(now).map((run) => {
      const { start, end } = it.range(run);
      return `${start.toString(16)}-${end.toString(16)} ${PRINTED[run.letter]}`;
    }),
  );
  expect(it.advice()).toBe(it.advised);
  for (const page of pages) {
    const isInside = page.cell >= cells.start && page.cell < cells.end;
    if (!isInside) expect(it.state(page), `page ${page.addr.toString(16)} beside the change`).toBe(before.get(page));
    else if (RIGHTS[letter] !== 'rw') expect(it.state(page), 'nobody can write any more').not.toContain('w');
  }
  if (isPeerShared) expect([...it.own.reserved].sort((a, b) => a - b)).toEqual(sharedPages(space));
  for (const { addr, cell, byte } of pages) {
    const may = RIGHTS[now[cell] as Letter] === 'rw' ? 'done' : 'EFAULT';
    for (const context of devices) {
      expect(context.read(addr, 1)).toEqual(Uint8Array.of(byte));
      expect(codeOf(() => context.write(addr, Uint8Array.of(byte)))).toBe(may);
    }
    expect(space.read(addr, 1)).toEqual(Uint8Array.of(byte));
    expect(codeOf(() => space.write(addr, Uint8Array.of(byte)))).toBe(may);
  }
  expectClean(it.machine);
  space.munmap({ start: 0, end: 2 ** 40 });
  expect(used(it.machine)).not.toMatch(/ [1-9]/);
  expect([it.own.reserved.size, it.own.wrong]).toEqual([0, []]);
}

describe.each([
  ['ordinary memory', false],
  ['peer-shared memory', true],
] as const)('neighbours become one: %s', (_, isPeerShared) => {
  test.each([
    // old        request     new
    ['1: a hole is filled, both sides become one', 'aa..aa..', '..aa....', 'aaaaaa..'],
    ['2: the one before grows', 'aa..bb..', '..aa....', 'aaaabb..'],
    ['3: the one after grows', 'bb..aa..', '..aa....', 'bbaaaa..'],
  ])('mmap, case %s', (_case, old, request, now) => {
    changes(old, request, now, isPeerShared, ({ space }, range) =>
      space.mmap({ bytes: range.end - range.start, at: range.start, fixed: true, peerShared: isPeerShared }),
    );
  });

  test.each([
    ['4: a tail goes to the one after', 'aaaabbbb', '..bb....', 'aabbbbbb'],
    ['5: a head goes to the one before', 'aaaabbbb', '....aa..', 'aaaaaabb'],
    ['6: a whole one and both sides become one', 'aabbaa..', '..aa....', 'aaaaaa..'],
    ['7: a whole one goes to the one before', 'aabbcc..', '..aa....', 'aaaacc..'],
    ['8: a whole one goes to the one after', 'aabbcc..', '..cc....', 'aacccc..'],
  ])('mprotect, case %s', (_case, old, request, now) => {
    changes(old, request, now, isPeerShared, ({ space }, range, letter) => space.mprotect(range, RIGHTS[letter]));
  });

  test('a part on its own is split off, and put back', () => {
    changes('aaaaaa..', '..bb....', 'aabbaa..', isPeerShared, ({ space }, range, letter) => space.mprotect(range, RIGHTS[letter]));
    changes('aaaaaa..', '..aa....', 'aaaaaa..', isPeerShared, ({ space }, range) => {
      space.mprotect(range, 'r');
      space.mprotect(range, 'rw');
    });
  });

  test('mremap: what grows becomes one with what it meets', () => {
    changes('aa..aa..', '..aa....', 'aaaaaa..', isPeerShared, (it) =>
      it.space.mremap(it.range({ start: 0, end: 2 }), { bytes: it.range({ start: 0, end: 4 }).end - BASE }),
    );
  });
});

test('peer-shared memory and other memory never become one', () => {
  const it = new Mapped('aa......', true);
  const { start, end } = it.range({ start: 2, end: 3 });
  it.space.mmap({ bytes: end - start, at: start, fixed: true });
  expect(
    it.space
      .dump()
      .split('\n')
      .map((line) => line.endsWith(' ps')),
  ).toEqual([true, false]);
});
