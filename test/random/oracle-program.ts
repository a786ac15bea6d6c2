/**
 * Random programs for the oracle: an operation is a word and numbers, a program is a list of those. Any list is a program; what is not possible where it stands is passed over. So taking
 * operations away leaves a program, which is how it is shrunk.
 */
import { BASE_VPN, SLOTS, WINDOW_PAGES, WINDOW_SLOTS, WINDOWS } from '../../sdk/testing/oracle/state.ts';

export interface Op {
  readonly verb: string;
  readonly args: readonly number[];
}

export const SPACES_MAX = 5;
export const FILES = 2;
export const DEVICES = 4;
export const PINS_MAX = 6;

export function printOps(ops: readonly Op[]): string {
  return ops.map(({ verb, args }) => [verb, ...args].join(' ')).join('; ');
}

export function parseOps(text: string): Op[] {
  return text
    .split(';')
    .map((part) => part.trim())
    .filter((part) => part !== '')
    .map((part) => {
      const [verb = '', ...args] = part.split(/\s+/);
      return { verb, args: args.map(Number) };
    });
}

/** Numbers from 0 up to, not including, a bound; the same for a seed on every host. */
export function generator(seed: number): (bound: number) => number {
  let state = (seed * 0x9e3779b9 + 0x7f4a7c15) >>> 0;
  return (bound) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % bound;
  };
}

const SMALL = WINDOWS * WINDOW_SLOTS;

/** Weights of the verbs: how many of their sum. */
const VERBS: readonly (readonly [string, number])[] = [
  ['map', 60],
  ['unmap', 8],
  ['protect', 60],
  ['advise', 70],
  ['remap', 40],
  ['insert-page', 26],
  ['insert-pfn', 26],
  ['read', 90],
  ['write', 130],
  ['load', 90],
  ['store', 100],
  ['atomic', 60],
  ['migrate', 80],
  ['exclusive', 25],
  ['fork', 22],
  ['close', 7],
  ['pin', 45],
  ['pin-read', 20],
  ['pin-write', 25],
  ['unpin', 35],
  ['file-read', 12],
  ['file-write', 16],
  ['truncate', 6],
  ['sync', 6],
  ['msync', 14],
  ['attach', 35],
  ['detach', 6],
  ['plug', 4],
  ['unplug', 4],
];
const SUM = VERBS.reduce((sum, [, weight]) => sum + weight, 0);

/** What a maker may know: most operations are to find something. */
export interface View {
  exists(space: number): boolean;
  isPromised(space: number, slot: number): boolean;
  isAttached(space: number, device: number): boolean;
}

/** Tries for an operation that finds something. */
const TRIES = 4;

/** Makes the operations of a seed, one after the other. */
export class OpMaker {
  readonly #pick: (bound: number) => number;
  readonly #view: View;
  readonly #queue: Op[] = [];
  #value = 0;

  constructor(seed: number, view: View) {
    this.#pick = generator(seed);
    this.#view = view;
  }

  next(): Op {
    const queued = this.#queue.shift();
    if (queued) return queued;
    if (this.#pick(25) === 0) this.#queueHuge();
    if (this.#pick(60) === 0) this.#queueSpecial();
    let at = this.#pick(SUM);
    for (const [verb, weight] of VERBS) {
      if (at < weight) return { verb, args: this.#args(verb) };
      at -= weight;
    }
    throw new Error('unreachable');
  }

  /** A window is emptied, advised to have huge pages, and touched. */
  #queueHuge(): void {
    const pick = this.#pick;
    const space = pick(2);
    const from = pick(WINDOWS) * WINDOW_SLOTS;
    const to = from + WINDOW_SLOTS;
    const queue = (verb: string, ...args: number[]): void => void this.#queue.push({ verb, args: [space, ...args] });
    if (pick(2) === 0) {
      queue('unmap', from, to);
      const isHugetlb = pick(4) === 0;
      queue('map', from, to, 2, isHugetlb ? 4 : 0, 0, 0, 1);
      if (isHugetlb) return queue('write', from + 3, 2, ++this.#value);
    }
    queue('advise', from, to, 2);
    if (pick(2) === 0) queue('advise', from, to, 0);
    switch (pick(6)) {
      case 0:
        queue('read', from, 0);
        return;
      case 1:
        queue('load', 2, from + 1, 0);
        return;
      case 2:
        queue('store', 2, from + 7, 1, ++this.#value);
        return;
      case 3:
        queue('migrate', 2, from, to, 1, 1);
        return;
      case 4:
        queue('advise', from, to, 4);
        return;
      default:
        queue('write', from + 3, 2, ++this.#value);
    }
  }

  /** A driver's mapping, with what it inserts. */
  #queueSpecial(): void {
    const pick = this.#pick;
    const space = pick(2);
    const from = SMALL + pick(SLOTS.length - SMALL - 4);
    const queue = (verb: string, ...args: number[]): void => void this.#queue.push({ verb, args: [space, ...args] });
    queue('unmap', from, from + 4);
    queue('map', from, from + 4, 2, pick(2) === 0 ? 5 : 8, 0, 0, 1);
    queue('insert-page', from + pick(2), ++this.#value);
    queue('insert-page', from, ++this.#value);
    queue('insert-pfn', from + 1 + pick(2));
    queue('insert-pfn', from + 3);
    if (pick(3) === 0) queue('fork', pick(3));
  }

  #args(verb: string): number[] {
    const pick = this.#pick;
    let space = pick(3) === 0 ? pick(SPACES_MAX) : pick(2);
    for (let i = 0; i < TRIES && !this.#view.exists(space); i++) space = pick(SPACES_MAX);
    switch (verb) {
      case 'map': {
        // space from to prot sort file offset fixed; sorts: 0 anonymous 1 shared 2 file private 3 file shared 4 hugetlb 5.. special
        const sorts = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 3, 4, 5, 5, 6, 7, 8, 9];
        const sort = sorts[pick(sorts.length)]!;
        const prot = [2, 2, 2, 2, 1, 0][pick(6)]!;
        if (sort === 4) {
          const window = pick(WINDOWS) * WINDOW_SLOTS;
          return [space, window, window + WINDOW_SLOTS, prot, sort, 0, 0, pick(8) === 0 ? 0 : 1];
        }
        const [from, to] = sort === 0 ? this.#anyRange() : this.#small();
        return [space, from, to, prot, sort, pick(FILES), pick(4), pick(6) === 0 ? 0 : 1];
      }
      case 'unmap':
      case 'msync':
        return [space, ...this.#range(space)];
      case 'protect':
        return [space, ...this.#range(space), [0, 1, 2, 2, 2][pick(5)]!];
      case 'advise':
        return [space, ...this.#range(space), [0, 1, 2, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6][pick(13)]!];
      case 'remap': {
        const [from, to] = this.#range(space);
        const pages = SLOTS[to - 1]!.vpn + SLOTS[to - 1]!.pages - SLOTS[from]!.vpn;
        const lengths = [pages, pages, pages, pages + 1, pages + 2, Math.max(1, pages - 1), Math.max(1, pages - 2), pages + WINDOW_PAGES];
        const dontUnmap = pick(5) === 0 ? 1 : 0;
        const newPages = dontUnmap ? pages : lengths[pick(lengths.length)]!;
        const at = pick(3) === 0 ? -1 : from < SMALL && pick(2) === 0 ? (from + WINDOW_SLOTS) % SMALL : pick(SLOTS.length);
        return [space, from, to, newPages, pick(8) === 0 ? 0 : 1, at, dontUnmap];
      }
      case 'insert-page':
        return [space, this.#one(space), ++this.#value];
      case 'insert-pfn':
        return [space, this.#one(space)];
      case 'read':
        return [space, this.#one(space), pick(4)];
      case 'write':
        return [space, this.#one(space), pick(4), ++this.#value];
      case 'load':
        return [space, this.#device(space), this.#one(space), pick(4)];
      case 'store':
        return [space, this.#device(space), this.#one(space), pick(4), ++this.#value];
      case 'atomic':
        return [space, this.#device(space), this.#one(space), pick(4), 1 + pick(9)];
      case 'migrate':
        return [space, this.#device(space), ...this.#range(space), pick(3) === 0 ? 0 : 1, pick(3) === 0 ? pick(3) : -1];
      case 'exclusive':
        return [space, this.#device(space), this.#one(space), pick(3) === 0 ? 0 : 1];
      case 'fork':
        return [space, pick(3)];
      case 'close':
        return [pick(SPACES_MAX)];
      case 'pin':
        return [space, ...this.#range(space), pick(2), pick(3) === 0 ? 1 : 0];
      case 'pin-read':
        return [pick(PINS_MAX), pick(16), pick(4)];
      case 'pin-write':
        return [pick(PINS_MAX), pick(16), pick(4), ++this.#value];
      case 'unpin':
        return [pick(PINS_MAX)];
      case 'file-read':
        return [pick(FILES), pick(7), pick(4)];
      case 'file-write':
        return [pick(FILES), pick(7), pick(4), ++this.#value];
      case 'truncate':
        return [pick(FILES), pick(7) * 4096 + [0, 0, 4, 1024, 2052][pick(5)]!];
      case 'sync':
        return [pick(FILES)];
      case 'attach':
      case 'detach':
        return [space, pick(DEVICES)];
      case 'plug':
        return [pick(3), pick(2)];
      default:
        return [pick(3), pick(3)];
    }
  }

  /** A slot of one page. */
  #one(space: number): number {
    for (let tries = 0; ; tries++) {
      const slot = this.#pick(2) === 0 ? this.#pick(SMALL) : SMALL + this.#pick(SLOTS.length - SMALL);
      if (SLOTS[slot]!.pages === 1 && (tries >= TRIES || this.#view.isPromised(space, slot))) return slot;
    }
  }

  /** A range whose ends are promised, mostly. */
  #range(space: number): [number, number] {
    for (let tries = 0; ; tries++) {
      const range = this.#anyRange();
      if (tries >= TRIES || (this.#view.isPromised(space, range[0]) && this.#view.isPromised(space, range[1] - 1))) return range;
    }
  }

  #anyRange(): [number, number] {
    const pick = this.#pick;
    switch (pick(8)) {
      case 0:
      case 1:
      case 2: {
        const window = pick(WINDOWS) * WINDOW_SLOTS;
        return [window, window + WINDOW_SLOTS];
      }
      case 3:
        return [0, SMALL];
      case 4: {
        const window = pick(WINDOWS) * WINDOW_SLOTS;
        const from = window + pick(WINDOW_SLOTS);
        return [from, Math.min(SMALL, from + 1 + pick(WINDOW_SLOTS))];
      }
      default:
        return this.#small();
    }
  }

  #device(space: number): number {
    for (let tries = 0; ; tries++) {
      const device = this.#pick(DEVICES);
      if (tries >= TRIES || this.#view.isAttached(space, device)) return device;
    }
  }

  #small(): [number, number] {
    const from = SMALL + this.#pick(SLOTS.length - SMALL);
    return [from, Math.min(SLOTS.length, from + 1 + this.#pick(this.#pick(3) === 0 ? 16 : 4))];
  }
}

/** The list without as many items as `holds` permits. */
export function shrinkOps(ops: readonly Op[], fails: (ops: readonly Op[]) => boolean, tries = 3000): Op[] {
  let left = tries;
  let kept = [...ops];
  for (let again = true; again && left > 0;) {
    again = false;
    for (let block = 2 ** Math.floor(Math.log2(Math.max(1, kept.length))); block >= 1; block /= 2) {
      for (let start = Math.max(0, kept.length - block); ; start -= block) {
        const rest = [...kept.slice(0, Math.max(0, start)), ...kept.slice(Math.max(0, start) + block)];
        if (rest.length < kept.length && left-- > 0 && fails(rest)) {
          kept = rest;
          again = true;
        }
        if (start <= 0) break;
      }
    }
  }
  return kept;
}

export { BASE_VPN };
