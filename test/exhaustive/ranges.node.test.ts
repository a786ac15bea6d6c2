/**
 * Every placement of three ranges on five pages: two mappings and one verb, and as many subscriptions as mappings, against five plain cells.
 *
 * ```
 *   A   mapped 'rw', its pages touched
 *   B   mapped 'r' where that is free; inside A, made 'r'
 *   C   what the verb is given
 * ```
 *
 * Compared are the error, the VMAs, the letter of every page, its byte, and what the subscribers of A and B are told.
 */
import { afterAll, describe, expect, test } from 'vitest';
import { type AddressSpace, isFarfaultError, type Machine } from 'farfault';
import { PAGE, smallMachine, used } from '../machine/probe.ts';

const PAGES = 5;
/** A longer mapping may grow out of the window. */
const CELLS = 2 * PAGES;
const BASE = 0x1000_0000;
const FIRST = BASE / PAGE;

const machine: Machine = smallMachine();
afterAll(() => machine.close());

/** Pages `[start, end)` of the window. */
interface Place {
  readonly start: number;
  readonly end: number;
}

const PLACES: readonly Place[] = Array.from({ length: PAGES }, (_, start) =>
  Array.from({ length: PAGES - start }, (_, i): Place => ({ start, end: start + i + 1 })),
).flat();

const addresses = ({ start, end }: Place): { start: number; end: number } => ({ start: BASE + start * PAGE, end: BASE + end * PAGE });

// ------------------------------------------------------------------------------------------------------------- the model

type Prot = 'none' | 'r' | 'rw';

interface Cell {
  prot: Prot;
  /** Nothing yet, the page of zeros, or a page with this byte. */
  page: 'nothing' | 'zeros' | number;
}

class Model {
  cells: (Cell | undefined)[] = new Array<Cell | undefined>(CELLS).fill(undefined);
  readonly told: string[] = [];
  #subscribers: readonly (readonly [string, Place])[] = [];

  subscribe(subscribers: readonly (readonly [string, Place])[]): void {
    this.#subscribers = subscribers;
  }

  mmap(place: Place, prot: Prot): string {
    if (this.#in(place).some((cell) => cell)) return 'EINVAL';
    for (let i = place.start; i < place.end; i++) this.cells[i] = { prot, page: 'nothing' };
    return 'done';
  }

  munmap(place: Place): string {
    if (!this.#in(place).some((cell) => cell)) return 'done';
    this.#tell('UNMAP', place);
    for (let i = place.start; i < place.end; i++) this.cells[i] = undefined;
    return 'done';
  }

  mprotect(place: Place, prot: Prot): string {
    const cells = this.#in(place);
    if (cells.some((cell) => !cell)) return 'EINVAL';
    if (cells.every((cell) => cell!.prot === prot)) return 'done';
    this.#tell('PROTECTION_VMA', place);
    for (const cell of cells) cell!.prot = prot;
    return 'done';
  }

  dontneed(place: Place): string {
    const cells = this.#in(place);
    if (cells.some((cell) => !cell)) return 'EINVAL';
    this.#tell('CLEAR', place);
    for (const cell of cells) cell!.page = 'nothing';
    return 'done';
  }

  /** Moves `from` to where `to` begins. */
  mremap(from: Place, to: number, dontUnmap: boolean): string {
    const pages = from.end - from.start;
    const target = { start: to, end: to + pages };
    if (target.start < from.end && from.start < target.end) return 'EINVAL';
    if (!this.#isOne(from)) return 'EFAULT';
    this.munmap(target);
    this.#tell('UNMAP', from);
    for (let i = 0; i < pages; i++) {
      const cell = this.cells[from.start + i]!;
      this.cells[to + i] = { ...cell };
      this.cells[from.start + i] = dontUnmap ? { prot: cell.prot, page: 'nothing' } : undefined;
    }
    return 'done';
  }

  /** Makes `from` `pages` pages long, where it is. */
  resize(from: Place, pages: number): string {
    if (!this.#isOne(from)) return 'EFAULT';
    const end = from.start + pages;
    if (end < from.end) this.munmap({ start: end, end: from.end });
    if (end <= from.end) return 'done';
    // Behind it must be nothing: not the rest of its own mapping either.
    if (this.#in({ start: from.end, end }).some((cell) => cell)) return 'ENOMEM';
    for (let i = from.end; i < end; i++) this.cells[i] = { prot: this.cells[from.start]!.prot, page: 'nothing' };
    return 'done';
  }

  write(page: number, value: number): void {
    this.cells[page]!.page = value;
  }

  read(page: number): void {
    if (this.cells[page]!.page === 'nothing') this.cells[page]!.page = 'zeros';
  }

  get vmas(): string {
    const runs: string[] = [];
    for (let i = 0; i < CELLS; i++) {
      const cell = this.cells[i];
      if (!cell) continue;
      let end = i + 1;
      while (end < CELLS && this.cells[end]?.prot === cell.prot) end++;
      runs.push(`${i}-${end} ${cell.prot}`);
      i = end - 1;
    }
    return runs.join(', ');
  }

  get letters(): string {
    return this.cells
      .map((cell) => {
        if (!cell) return '-';
        if (cell.page === 'nothing') return '.';
        if (cell.prot === 'none') return 'n';
        if (cell.page === 'zeros') return 'z';
        return cell.prot === 'rw' ? 'H' : 'h';
      })
      .join('');
  }

  get bytes(): string {
    return this.cells
      .map((cell) => (!cell || cell.prot === 'none' || cell.page === 'nothing' ? '-' : cell.page === 'zeros' ? 0 : cell.page))
      .join(' ');
  }

  #in({ start, end }: Place): (Cell | undefined)[] {
    return this.cells.slice(start, end);
  }

  #isOne(place: Place): boolean {
    const cells = this.#in(place);
    return cells.every((cell) => cell?.prot === cells[0]?.prot) && cells[0] !== undefined;
  }

  #tell(reason: string, { start, end }: Place): void {
    for (const [name, place] of this.#subscribers)
      if (place.start < end && start < place.end) this.told.push(`${name} ${reason} ${start}-${end}`);
  }
}

// ------------------------------------------------------------------------------------------------------------- the machine

const PROTS: readonly Prot[] = ['none', 'r', 'r', 'rw'];

function vmasOf(space: AddressSpace): string {
  const runs: string[] = [];
  space.vmas.each(FIRST, FIRST + CELLS, ({ start, end, prot }) => runs.push(`${start - FIRST}-${end - FIRST} ${PROTS[prot]}`));
  return runs.join(', ');
}

function bytesOf(space: AddressSpace, letters: string): string {
  return [...letters].map((letter, page) => ('zhH'.includes(letter) ? space.read(BASE + page * PAGE, 1)[0] : '-')).join(' ');
}

function codeOf(action: () => unknown): string {
  try {
    action();
    return 'done';
  } catch (error) {
    if (isFarfaultError(error)) return error.code;
    throw error;
  }
}

/** A verb as the machine and the model have it. */
interface Verb {
  readonly real: (space: AddressSpace, place: Place) => unknown;
  readonly model: (model: Model, place: Place) => string;
}

const space = machine.createAddressSpace();
let cases = 0;

/** One placement: arranged, done, compared, cleared away. */
function compare(a: Place, b: Place, c: Place, verb: Verb): string | undefined {
  const model = new Model();
  const both = (real: () => unknown, expected: string): void => expect(codeOf(real)).toBe(expected);
  const touch = (place: Place, writes: boolean): void => {
    for (let page = place.start; page < place.end; page++) {
      // One page of the window stays untouched, one is only read.
      if (page === 1 || model.cells[page]!.page !== 'nothing') continue;
      const addr = BASE + page * PAGE;
      if (writes && page !== 3) {
        space.write(addr, Uint8Array.of(page + 1));
        model.write(page, page + 1);
      } else {
        space.read(addr, 1);
        model.read(page);
      }
    }
  };
  both(() => space.mmap({ bytes: (a.end - a.start) * PAGE, at: BASE + a.start * PAGE, fixed: true }), model.mmap(a, 'rw'));
  touch(a, true);
  const taken = model.mmap(b, 'r');
  both(() => space.mmap({ bytes: (b.end - b.start) * PAGE, at: BASE + b.start * PAGE, fixed: true, prot: 'r' }), taken);
  if (taken === 'done') touch(b, false);
  else both(() => space.mprotect(addresses(b), 'r'), model.mprotect(b, 'r'));
  const told: string[] = [];
  model.told.length = 0;
  model.subscribe([
    ['A', a],
    ['B', b],
  ]);
  const notifiers = [
    ['A', a],
    ['B', b],
  ].map(([name, place]) =>
    space.subscribe(addresses(place as Place), {
      invalidate: ({ reason, start, end }) => {
        told.push(`${String(name)} ${reason} ${start - FIRST}-${end - FIRST}`);
        return true;
      },
    }),
  );
  const code = verb.model(model, c);
  const real = codeOf(() => verb.real(space, c));
  for (const notifier of notifiers) space.unsubscribe(notifier);
  const letters = space.dump({ start: BASE, end: BASE + CELLS * PAGE });
  const now = { code: real, vmas: vmasOf(space), letters, bytes: bytesOf(space, letters), told: told.sort().join('; ') };
  const wanted = { code, vmas: model.vmas, letters: model.letters, bytes: model.bytes, told: [...model.told].sort().join('; ') };
  const differs = JSON.stringify(now) !== JSON.stringify(wanted);
  const broken = cases++ % 64 === 0 || differs ? machine.verify() : undefined;
  space.munmap({ start: BASE, end: BASE + CELLS * PAGE });
  if (!differs && broken === undefined) return undefined;
  const place = ({ start, end }: Place): string => `${start}-${end}`;
  return `A ${place(a)}, B ${place(b)}, C ${place(c)}: ${JSON.stringify(now)}, not ${JSON.stringify(wanted)}${broken ? `; ${broken}` : ''}`;
}

const VERBS: Readonly<Record<string, Verb>> = {
  mmap: {
    real: (it, c) => it.mmap({ bytes: (c.end - c.start) * PAGE, at: BASE + c.start * PAGE, fixed: true }),
    model: (it, c) => it.mmap(c, 'rw'),
  },
  munmap: { real: (it, c) => it.munmap(addresses(c)), model: (it, c) => it.munmap(c) },
  'mprotect none': { real: (it, c) => it.mprotect(addresses(c), 'none'), model: (it, c) => it.mprotect(c, 'none') },
  'mprotect r': { real: (it, c) => it.mprotect(addresses(c), 'r'), model: (it, c) => it.mprotect(c, 'r') },
  'mprotect rw': { real: (it, c) => it.mprotect(addresses(c), 'rw'), model: (it, c) => it.mprotect(c, 'rw') },
  'mprotect none, then rw': {
    real(it, c) {
      it.mprotect(addresses(c), 'none');
      it.mprotect(addresses(c), 'rw');
    },
    model(it, c) {
      const first = it.mprotect(c, 'none');
      return first === 'done' ? it.mprotect(c, 'rw') : first;
    },
  },
  'madvise dontneed': { real: (it, c) => it.madvise(addresses(c), 'dontneed'), model: (it, c) => it.dontneed(c) },
  ...Object.fromEntries(
    Array.from({ length: PAGES }, (_, to) =>
      [false, true].map((dontUnmap): [string, Verb] => [
        `mremap to page ${to}${dontUnmap ? ', dontUnmap' : ''}`,
        {
          real: (it, c) => it.mremap(addresses(c), { mayMove: true, to: BASE + to * PAGE, dontUnmap }),
          model: (it, c) => it.mremap(c, to, dontUnmap),
        },
      ]),
    ).flat(),
  ),
  ...Object.fromEntries(
    Array.from({ length: PAGES }, (_, i): [string, Verb] => [
      `mremap to ${i + 1} pages`,
      { real: (it, c) => it.mremap(addresses(c), { bytes: (i + 1) * PAGE }), model: (it, c) => it.resize(c, i + 1) },
    ]),
  ),
};

describe('three ranges on five pages', () => {
  test.each(Object.entries(VERBS))('%s', (_, verb) => {
    const wrong: string[] = [];
    for (const a of PLACES)
      for (const b of PLACES)
        for (const c of PLACES) {
          const difference = compare(a, b, c, verb);
          if (difference) wrong.push(difference);
        }
    expect(wrong.slice(0, 5)).toEqual([]);
    expect(used(machine)).toBe('dram 0');
    expect(machine.verify()).toBe(undefined);
  });
});
