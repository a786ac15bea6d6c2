/**
 * Random programs: lists of operations on two address spaces and two devices, as plain data with small numbers. A seed and a length decide
 * a program; its text says the same in one line, for a shell and for a bug report:
 *
 * ```
 * dram 256; a nouveau 24/1/8; b mirror 16/256; map 0 464+12 rw; attach 0 a; job 0 a 4 r464:0+8 w465:4090+16=5; read 0 464:100+8
 *      |              |  | |           |  |         |  |    |                     |   |  |  |    |            |
 *      host pages     |  | fault       |  fault     |  vpn  pages                 |   |  |  |    bytes        value
 *            vram pages  | entries     |  entries   space                     lanes   |  |  offset in the page
 *                        granule pages granule pages                         read, write vpn
 * ```
 *
 * Any list is a program: an operation that is not possible where it stands (a place that is mapped, a device that is not attached) is
 * refused or passed over by whoever runs it. So taking operations away leaves a program, which is how `shrinkProgram` works.
 */
import { fail } from '../errors.ts';
import { requireCount, requireFunction, requireObject } from '../mm/arguments.ts';

/** A device of a program: the first is called `a`, the second `b`. */
export type ProgramDevice =
  | { readonly kind: 'nouveau'; readonly vramPages: number; readonly granulePages: number; readonly faultEntries: number }
  | { readonly kind: 'mirror'; readonly granulePages: number; readonly faultEntries: number; readonly ownTable: boolean };

/** One access of a job: bytes from a byte address on. The value says what a write stores. */
export interface ProgramAccess {
  readonly write: boolean;
  readonly addr: number;
  readonly bytes: number;
  readonly value: number;
}

/** Rights of a range. */
export type ProgramProt = 'none' | 'r' | 'rw';

/** Pages of a space. */
interface Place {
  readonly space: number;
  readonly vpn: number;
  readonly pages: number;
}

/** Bytes of a space. */
interface Bytes {
  readonly space: number;
  readonly addr: number;
  readonly bytes: number;
}

/** One operation. `read` and `write` are the CPU's, `load` and `store` a device's by itself, `job` a device's in lanes. */
export type Operation =
  | ({ readonly verb: 'map' | 'protect'; readonly prot: ProgramProt } & Place)
  | ({ readonly verb: 'unmap' | 'dontneed' } & Place)
  | ({ readonly verb: 'read' } & Bytes)
  | ({ readonly verb: 'write'; readonly value: number } & Bytes)
  | ({ readonly verb: 'load'; readonly device: number } & Bytes)
  | ({ readonly verb: 'store'; readonly device: number; readonly value: number } & Bytes)
  | ({ readonly verb: 'to-device' | 'to-host'; readonly device: number } & Place)
  | { readonly verb: 'attach' | 'detach'; readonly space: number; readonly device: number }
  | {
      readonly verb: 'job';
      readonly space: number;
      readonly device: number;
      readonly lanes: number;
      readonly accesses: readonly ProgramAccess[];
    };

/** Two spaces, the devices, and what happens. */
export interface Program {
  readonly dramPages: number;
  readonly devices: readonly ProgramDevice[];
  readonly operations: readonly Operation[];
}

/** Spaces of every program. */
export const PROGRAM_SPACES = 2;
/** Most pages of host memory that a random program asks for. */
export const PROGRAM_DRAM_PAGES_MAX = 256;
/** Most pages of memory that the devices of a random program have together. */
export const PROGRAM_VRAM_PAGES_MAX = 192;
/** Programs that `shrinkProgram` tries. */
const SHRINK_TRIES_MAX = 2000;

const PAGE_BYTES = 4096;

// ------------------------------------------------------------------------------------------------------------------- making

/**
 * Where random programs live: 96 pages around a border of leaf tables, and four times 8 pages that share TLB sets with the first of those.
 *
 * ```
 *   464 ......... 512 ......... 560     720..728     976..984     1232..1240   1488..1496
 *   window        | border              +256         +512         +768         +1024
 * ```
 */
export const PROGRAM_PAGES: readonly number[] = Array.from({ length: 128 }, (_, i) =>
  i < 96 ? 464 + i : 464 + 256 * (1 + Math.floor((i - 96) / 8)) + (i % 8),
);
const WINDOW_PAGES = 96;

/** Most operations of a random program. */
const PROGRAM_LENGTH_MAX = 2 ** 20;

/** The program of a seed: so many operations, the same on every host. Errors: EINVAL for a seed that is not 32 bits, or more than 2^20 operations. */
export function randomProgram(seed: number, length: number): Program {
  requireCount('randomProgram.seed', seed, 0, 2 ** 32 - 1);
  requireCount('randomProgram.length', length, 0, PROGRAM_LENGTH_MAX - 1);
  const making = new Making(seed);
  const { dramPages, devices } = making;
  return { dramPages, devices, operations: Array.from({ length }, (_, i) => making.operation(i)) };
}

/** What the maker of a program remembers: roughly what is mapped, so that most accesses find something. */
class Making {
  readonly dramPages: number;
  readonly devices: readonly ProgramDevice[];
  readonly #pick: (bound: number) => number;
  readonly #mapped: Set<number>[] = Array.from({ length: PROGRAM_SPACES }, () => new Set());
  readonly #attached: boolean[] = new Array<boolean>(PROGRAM_SPACES * 2).fill(false);
  #value = 0;

  constructor(seed: number) {
    this.#pick = generator(seed);
    // Mostly more host memory than anything asks for, at times so little that it runs out.
    this.dramPages = this.#pick(5) > 0 ? PROGRAM_DRAM_PAGES_MAX : 32 << this.#pick(2);
    this.devices = [this.#nouveau(), this.#pick(5) < 2 ? this.#nouveau() : this.#mirror()];
  }

  get #isTight(): boolean {
    return this.dramPages < PROGRAM_DRAM_PAGES_MAX;
  }

  /** The operation with that number, counted from 0. */
  operation(i: number): Operation {
    // The first ones make room and bring the devices in.
    if (i < 2) return this.#map(i);
    if (i < 6) return this.#attach('attach', i % PROGRAM_SPACES, (i - 2) >> 1);
    return this.#any();
  }

  #nouveau(): ProgramDevice {
    const granulePages = this.#pick(2) === 0 ? 1 : 16;
    const vramPages = granulePages === 1 ? 4 + this.#pick(28) : 64 + this.#pick(32);
    return { kind: 'nouveau', vramPages, granulePages, faultEntries: this.#faultEntries() };
  }

  #mirror(): ProgramDevice {
    const granulePages = this.#pick(2) === 0 ? 1 : 16;
    return { kind: 'mirror', granulePages, faultEntries: this.#faultEntries(), ownTable: this.#pick(3) === 0 };
  }

  #faultEntries(): number {
    return this.#pick(3) === 0 ? 256 : 1 + this.#pick(12);
  }

  #any(): Operation {
    const pick = this.#pick;
    // Most of it in the first space: pages gather there.
    const space = pick(3) === 0 ? 1 : 0;
    const device = pick(2);
    if (!this.#attached[device * PROGRAM_SPACES + space] && pick(3) === 0) return this.#attach('attach', space, device);
    const n = pick(100);
    if (n < 8) return this.#map(space);
    if (n < 12) return this.#taken('unmap', space);
    if (n < 15) return this.#taken('dontneed', space);
    if (n < 24) return this.#protect(space);
    // Long reads leave pages of zeros, long writes exhaust the host.
    if (n < 33) return { verb: 'read', space, ...this.#bytes(space, 16) };
    if (n < 43) return { verb: 'write', space, ...this.#bytes(space, this.#isTight ? 32 : 5), value: ++this.#value };
    if (n < 44) return this.#attach('attach', space, device);
    if (n < 46) return this.#attach('detach', space, device);
    if (n < 54) return { verb: 'to-device', space, device, ...this.#range(space, 40) };
    if (n < 60) return { verb: 'to-host', space, device, ...this.#range(space, 20) };
    if (n < 66) return { verb: 'load', space, device, ...this.#bytes(space, 3) };
    if (n < 72) return { verb: 'store', space, device, ...this.#bytes(space, 3), value: ++this.#value };
    return this.#job(space, device);
  }

  #map(space: number): Operation {
    const pick = this.#pick;
    const at = pick(3) === 0 ? WINDOW_PAGES + pick(32) : pick(WINDOW_PAGES);
    const vpn = PROGRAM_PAGES[at]!;
    const pages = 1 + pick(at < WINDOW_PAGES ? Math.min(64, WINDOW_PAGES - at) : 8);
    const prot = pick(8) === 0 ? 'r' : pick(12) === 0 ? 'none' : 'rw';
    const mapped = this.#mapped[space]!;
    let free = true;
    for (let i = 0; i < pages; i++) free &&= !mapped.has(vpn + i);
    if (free) for (let i = 0; i < pages; i++) mapped.add(vpn + i);
    return { verb: 'map', space, vpn, pages, prot };
  }

  #taken(verb: 'unmap' | 'dontneed', space: number): Operation {
    const range = this.#range(space, verb === 'unmap' ? 10 : 16);
    if (verb === 'unmap') for (let i = 0; i < range.pages; i++) this.#mapped[space]!.delete(range.vpn + i);
    return { verb, space, ...range };
  }

  #protect(space: number): Operation {
    const range = this.#range(space, 24);
    const prot = (['none', 'r', 'rw', 'rw', 'rw'] as const)[this.#pick(5)]!;
    return { verb: 'protect', space, ...range, prot };
  }

  #attach(verb: 'attach' | 'detach', space: number, device: number): Operation {
    this.#attached[device * PROGRAM_SPACES + space] = verb === 'attach';
    return { verb, space, device };
  }

  #job(space: number, device: number): Operation {
    const pick = this.#pick;
    const lanes = pick(4) === 0 ? 1 : 1 + pick(40);
    const length = 1 + pick(pick(3) === 0 ? 60 : 24);
    const start = this.#page(space);
    // All over the place, along a run of pages, or all on a few.
    const kind = pick(3);
    const writes = pick(3);
    const accesses: ProgramAccess[] = [];
    for (let k = 0; k < length; k++) {
      const near = start + (kind === 1 ? k : pick(3));
      const vpn = kind === 0 || pick(10) === 0 || !this.#mapped[space]!.has(near) ? this.#page(space) : near;
      const write = writes === 0 ? pick(4) === 0 : writes === 1 ? pick(2) === 0 : pick(4) > 0;
      const bytes = pick(8) === 0 ? 1 + pick(PAGE_BYTES) : 1 + pick(16);
      const offset = pick(6) === 0 ? PAGE_BYTES - 1 - pick(Math.min(bytes, 16)) : pick(PAGE_BYTES - 16);
      accesses.push({ write, addr: vpn * PAGE_BYTES + offset, bytes, value: write ? ++this.#value : 0 });
    }
    return { verb: 'job', space, device, lanes, accesses };
  }

  /** Mostly a page that is mapped. */
  #page(space: number): number {
    const mapped = [...this.#mapped[space]!];
    const pages = mapped.length === 0 || this.#pick(20) === 0 ? PROGRAM_PAGES : mapped;
    return pages[this.#pick(pages.length)]!;
  }

  /** A range that begins at a page as above; most of the longer ones end where the mapping does. */
  #range(space: number, longest: number): { vpn: number; pages: number } {
    const vpn = this.#page(space);
    const pages = 1 + this.#pick(longest);
    if (this.#pick(6) === 0) return { vpn, pages };
    let there = 1;
    while (there < pages && this.#mapped[space]!.has(vpn + there)) there++;
    return { vpn, pages: there };
  }

  #bytes(space: number, pages: number): { addr: number; bytes: number } {
    const pick = this.#pick;
    const vpn = this.#page(space);
    if (pick(5) === 0) return { addr: vpn * PAGE_BYTES + pick(PAGE_BYTES), bytes: 1 + pick(pages * PAGE_BYTES) };
    if (pick(4) === 0) return { addr: vpn * PAGE_BYTES + PAGE_BYTES - 1 - pick(7), bytes: 8 };
    return { addr: vpn * PAGE_BYTES + 8 * pick(512), bytes: 1 + pick(8) };
  }
}

/** Numbers in [0, bound) that a seed decides (mulberry32). */
function generator(seed: number): (bound: number) => number {
  let state = seed | 0;
  return (bound) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * bound);
  };
}

// ----------------------------------------------------------------------------------------------------------------- checking

const VERBS: readonly string[] = [
  'map',
  'protect',
  'unmap',
  'dontneed',
  'read',
  'write',
  'load',
  'store',
  'to-device',
  'to-host',
  'attach',
  'detach',
  'job',
] satisfies readonly Operation['verb'][];

function requireProgram(argument: string, program: Program): void {
  requireObject(argument, program, 'a program');
  requireCount(`${argument}.dramPages`, program.dramPages, 0, Number.MAX_SAFE_INTEGER);
  for (const list of ['devices', 'operations'] as const)
    if (!Array.isArray(program[list])) throw fail('EINVAL', `${argument}.${list}`, program[list], 'is not an array');
  for (const device of program.devices) {
    requireObject(`${argument}.device`, device, 'a device');
    if (device.kind !== 'nouveau' && device.kind !== 'mirror')
      throw fail('EINVAL', `${argument}.device kind`, (device as ProgramDevice).kind, "is not one of: 'nouveau', 'mirror'");
  }
  for (const operation of program.operations) requireOperation(`${argument}.operation`, operation);
}

function requireOperation(argument: string, operation: Operation): void {
  requireObject(argument, operation, 'an operation');
  if (!VERBS.includes(operation.verb)) throw fail('EINVAL', `${argument}.verb`, operation.verb, `is not one of: ${VERBS.join(', ')}`);
  if (operation.verb === 'job' && !Array.isArray(operation.accesses))
    throw fail('EINVAL', `${argument}.accesses`, operation.accesses, 'is not an array');
}

// ----------------------------------------------------------------------------------------------------------------- printing

/** The program in one line; `parseProgram` reads it. */
export function printProgram(program: Program): string {
  requireProgram('printProgram.program', program);
  const { dramPages, devices, operations } = program;
  const parts = [`dram ${dramPages}`, ...devices.map(printDevice), ...operations.map(printOperation)];
  return parts.join('; ');
}

function printDevice(device: ProgramDevice, i: number): string {
  const { granulePages, faultEntries } = device;
  return device.kind === 'nouveau'
    ? `${letterOf(i)} nouveau ${device.vramPages}/${granulePages}/${faultEntries}`
    : `${letterOf(i)} mirror ${granulePages}/${faultEntries}${device.ownTable ? ' own' : ''}`;
}

/** One operation as it stands in the text of a program. */
export function printOperation(operation: Operation): string {
  requireOperation('printOperation.operation', operation);
  const { verb, space } = operation;
  switch (operation.verb) {
    case 'map':
    case 'protect':
      return `${verb} ${space} ${printRange(operation)} ${operation.prot}`;
    case 'unmap':
    case 'dontneed':
      return `${verb} ${space} ${printRange(operation)}`;
    case 'read':
      return `${verb} ${space} ${printBytes(operation)}`;
    case 'write':
      return `${verb} ${space} ${printBytes(operation)}=${operation.value}`;
    case 'load':
      return `${verb} ${space} ${letterOf(operation.device)} ${printBytes(operation)}`;
    case 'store':
      return `${verb} ${space} ${letterOf(operation.device)} ${printBytes(operation)}=${operation.value}`;
    case 'to-device':
    case 'to-host':
      return `${verb} ${space} ${letterOf(operation.device)} ${printRange(operation)}`;
    case 'attach':
    case 'detach':
      return `${verb} ${space} ${letterOf(operation.device)}`;
    case 'job': {
      const accesses = operation.accesses.map((each) => (each.write ? `w${printBytes(each)}=${each.value}` : `r${printBytes(each)}`));
      return `${verb} ${space} ${letterOf(operation.device)} ${operation.lanes} ${accesses.join(' ')}`;
    }
  }
}

function printRange({ vpn, pages }: { vpn: number; pages: number }): string {
  return `${vpn}+${pages}`;
}

function printBytes({ addr, bytes }: { addr: number; bytes: number }): string {
  return `${Math.floor(addr / PAGE_BYTES)}:${addr % PAGE_BYTES}+${bytes}`;
}

function letterOf(device: number): string {
  return String.fromCharCode('a'.charCodeAt(0) + device);
}

// ------------------------------------------------------------------------------------------------------------------ parsing

/** Reads what `printProgram` wrote. Errors: EILSEQ, with the part that makes no sense. */
export function parseProgram(text: string): Program {
  if (typeof text !== 'string') throw fail('EINVAL', 'parseProgram.text', text, 'is not text');
  const parts = text
    .split(';')
    .map((part) => part.trim().split(/\s+/))
    .filter(([first]) => first !== '');
  let dramPages = PROGRAM_DRAM_PAGES_MAX;
  const devices: ProgramDevice[] = [];
  const operations: Operation[] = [];
  for (const words of parts) {
    if (words[0] === 'dram') dramPages = count(words, words[1]);
    else if (words[1] === 'nouveau' || words[1] === 'mirror') devices.push(parseDevice(words));
    else operations.push(parseOperation(words));
  }
  return { dramPages, devices, operations };
}

function parseDevice(words: readonly string[]): ProgramDevice {
  const numbers = (words[2] ?? '').split('/').map((word) => count(words, word));
  if (words[1] === 'mirror') {
    const [granulePages, faultEntries] = numbers;
    if (granulePages === undefined || faultEntries === undefined) throw nonsense(words);
    return { kind: 'mirror', granulePages, faultEntries, ownTable: words[3] === 'own' };
  }
  const [vramPages, granulePages, faultEntries] = numbers;
  if (vramPages === undefined || granulePages === undefined || faultEntries === undefined) throw nonsense(words);
  return { kind: 'nouveau', vramPages, granulePages, faultEntries };
}

function parseOperation(words: readonly string[]): Operation {
  const [verb, second, third, fourth, ...rest] = words;
  const space = count(words, second);
  switch (verb) {
    case 'map':
    case 'protect':
      if (fourth !== 'none' && fourth !== 'r' && fourth !== 'rw') throw nonsense(words);
      return { verb, space, ...parseRange(words, third), prot: fourth };
    case 'unmap':
    case 'dontneed':
      return { verb, space, ...parseRange(words, third) };
    case 'read': {
      const { addr, bytes } = parseBytes(words, third);
      return { verb, space, addr, bytes };
    }
    case 'write':
      return { verb, space, ...parseBytes(words, third) };
    case 'load': {
      const { addr, bytes } = parseBytes(words, fourth);
      return { verb, space, device: deviceOf(words, third), addr, bytes };
    }
    case 'store':
      return { verb, space, device: deviceOf(words, third), ...parseBytes(words, fourth) };
    case 'to-device':
    case 'to-host':
      return { verb, space, device: deviceOf(words, third), ...parseRange(words, fourth) };
    case 'attach':
    case 'detach':
      return { verb, space, device: deviceOf(words, third) };
    case 'job': {
      const accesses = rest.map((word) => {
        if (!/^[rw]/.test(word)) throw nonsense(words);
        return { write: word.startsWith('w'), ...parseBytes(words, word.slice(1)) };
      });
      return { verb, space, device: deviceOf(words, third), lanes: count(words, fourth), accesses };
    }
    default:
      throw nonsense(words);
  }
}

function parseRange(words: readonly string[], word: string | undefined): { vpn: number; pages: number } {
  const [, vpn, pages] = /^(\d+)\+(\d+)$/.exec(word ?? '') ?? [];
  return { vpn: count(words, vpn), pages: count(words, pages) };
}

function parseBytes(words: readonly string[], word: string | undefined): { addr: number; bytes: number; value: number } {
  const [, vpn, offset, bytes, value] = /^(\d+):(\d+)\+(\d+)(?:=(\d+))?$/.exec(word ?? '') ?? [];
  return {
    addr: count(words, vpn) * PAGE_BYTES + count(words, offset),
    bytes: count(words, bytes),
    value: value === undefined ? 0 : count(words, value),
  };
}

function deviceOf(words: readonly string[], word: string | undefined): number {
  if (word === undefined || !/^[a-z]$/.test(word)) throw nonsense(words);
  return word.charCodeAt(0) - 'a'.charCodeAt(0);
}

function count(words: readonly string[], word: string | undefined): number {
  if (word === undefined || !/^\d{1,15}$/.test(word)) throw nonsense(words);
  return Number(word);
}

function nonsense(words: readonly string[]): Error {
  return fail('EILSEQ', 'program part', words.join(' '), 'makes no sense');
}

// ---------------------------------------------------------------------------------------------------------------- shrinking

/**
 * A smaller program for which `fails` is still true: operations and accesses are taken away in blocks, large ones first, until none can go
 * or the tries are used up. Requires: `fails(program)`, and that it depends on nothing but the program.
 */
export function shrinkProgram(program: Program, fails: (program: Program) => boolean): Program {
  requireProgram('shrinkProgram.program', program);
  requireFunction('shrinkProgram.fails', fails);
  let tries = 0;
  const still = (candidate: Program): boolean => tries++ < SHRINK_TRIES_MAX && fails(candidate);

  const operations = without(program.operations, (rest) => still({ ...program, operations: rest }));
  operations.forEach((operation, i) => {
    if (operation.verb !== 'job') return;
    const put = (job: typeof operation): Program => ({ ...program, operations: operations.map((each, k) => (k === i ? job : each)) });
    const accesses = without(operation.accesses, (rest) => rest.length > 0 && still(put({ ...operation, accesses: rest })));
    let job = { ...operation, accesses };
    for (const lanes of [1, accesses.length]) {
      if (lanes < job.lanes && still(put({ ...job, lanes }))) job = { ...job, lanes };
    }
    operations[i] = job;
  });
  return { ...program, operations: without(operations, (rest) => still({ ...program, operations: rest })) };
}

/** The list without as many items as `holds` permits. */
function without<T>(list: readonly T[], holds: (rest: readonly T[]) => boolean): T[] {
  let kept = [...list];
  for (let block = 2 ** Math.floor(Math.log2(Math.max(1, kept.length))); block >= 1; block /= 2) {
    for (let start = Math.max(0, kept.length - block); start >= 0; start -= block) {
      const rest = [...kept.slice(0, start), ...kept.slice(start + block)];
      if (rest.length < kept.length && holds(rest)) kept = rest;
    }
  }
  return kept;
}
