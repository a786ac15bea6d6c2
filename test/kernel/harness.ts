/**
 * What the cases of the kernel's HMM suite begin with: a machine with four test devices (two private, two coherent), processes that open them, buffers with known words,
 * and the command wrapper. Names are those of tools/testing/selftests/mm/hmm-tests.c.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  type AddressRange,
  type AddressSpace,
  type Context,
  createMachineSync,
  type Device,
  type Machine,
  type MachineOptions,
  MiB,
  type MmapOptions,
} from 'farfault';
import dmirror, { type DmirrorOp, type DmirrorReply } from 'farfault/drivers/dmirror';

export const PAGE = 4096;
/** Pages of the usual buffer: 4 MiB. */
export const N = 1024;
/** Pages of a huge page. */
export const H = 512;

export const EPERM = -1;
export const ENOENT = -2;
export const EAGAIN = -11;
export const ENOMEM = -12;
export const EFAULT = -14;
export const EBUSY = -16;
export const EINVAL = -22;
export const EOPNOTSUPP = -95;

/** Bytes of a snapshot: where a page is, and what may be done to it. A writable page is WRITE alone. */
export const PROT = {
  ERROR: 0xff,
  NONE: 0x00,
  READ: 0x01,
  WRITE: 0x02,
  PMD: 0x04,
  PUD: 0x08,
  ZERO: 0x10,
  DEV_PRIVATE_LOCAL: 0x20,
  DEV_PRIVATE_REMOTE: 0x30,
  DEV_COHERENT_LOCAL: 0x40,
  DEV_COHERENT_REMOTE: 0x50,
} as const;

/** FLAGS: the next allocation of a migration fails, once. */
export const FAIL_ALLOC = 1;

/** One run of the suite: which device nodes its mirrors open. */
export interface Variant {
  readonly name: string;
  readonly coherent: boolean;
  /** Device nodes of `hmm` (the first) and of `hmm2` (both). */
  readonly nodes: readonly [number, number];
}

export const PRIVATE: Variant = { name: 'device_private', coherent: false, nodes: [0, 1] };
export const COHERENT: Variant = { name: 'device_coherent', coherent: true, nodes: [2, 3] };

/** Bytes of a chunk of device memory: enough for two buffers, and small enough that the suite meets the second chunk. */
const CHUNK = 8 * MiB;

/** Device nodes of a machine: 0 and 1 private, 2 and 3 coherent. */
export const KINDS = ['private', 'private', 'coherent', 'coherent'] as const;

/** The machine of a file: frames for a few buffers on either side. */
export const MACHINE: MachineOptions = { dram: 48 * MiB, deviceMemory: 96 * MiB };

/** A process: an address space, and what it has opened. */
export class Process {
  readonly machine: Machine;
  readonly devices: readonly Device[];
  readonly space: AddressSpace;

  constructor(machine: Machine, devices: readonly Device[], space: AddressSpace) {
    this.machine = machine;
    this.devices = devices;
    this.space = space;
  }

  /** Opens a device node: a mirror of this process. */
  open(node: number): Mirror {
    return new Mirror(this.space.attach(this.devices[node]!));
  }

  /** A child with a copy of everything but the mirrors. */
  fork(): Process {
    return new Process(this.machine, this.devices, this.space.fork());
  }

  /** Ends it, as exit or a signal would. */
  exit(): void {
    this.space.close();
  }

  /** Maps `pages` pages: private, anonymous, read and write unless it is said otherwise. */
  map(pages: number, options: Partial<MmapOptions> = {}): Buffer {
    return new Buffer(this.space, this.space.mmap({ ...options, bytes: pages * PAGE }));
  }

  /** A window of H pages, aligned to 2 MiB, inside a mapping of twice as many. */
  mapWindow(prot: 'rw' | 'r' = 'rw'): Buffer {
    const all = this.map(2 * H, { prot });
    const start = Math.ceil(all.start / (2 * MiB)) * 2 * MiB;
    return new Buffer(this.space, { start, end: start + H * PAGE });
  }
}

/** An open mirror: commands, and what of them is asserted. */
export class Mirror {
  readonly context: Context;

  constructor(context: Context) {
    this.context = context;
  }

  /** A command on the first `pages` pages of a buffer. */
  cmd(op: DmirrorOp, buffer: AddressRange, pages: number, bytes?: Uint8Array): DmirrorReply {
    const request = { op, addr: buffer.start, pages, ...(bytes ? { buffer: bytes } : {}) };
    return this.context.command(request) as DmirrorReply;
  }

  /** SNAPSHOT: the bytes, one a page; the command itself must succeed. */
  snapshot(buffer: AddressRange, pages: number): Uint8Array {
    const bytes = new Uint8Array(pages).fill(0xee);
    expect(this.cmd('SNAPSHOT', buffer, pages, bytes)).toMatchObject(ok(pages));
    return bytes;
  }

  flags(flags: number): void {
    expect(this.cmd('FLAGS', { start: 0, end: 0 }, flags).ret).toBe(0);
  }

  close(): void {
    this.context.detach();
  }
}

/** A range of a space, seen through the CPU. */
export class Buffer implements AddressRange {
  readonly space: AddressSpace;
  readonly start: number;
  readonly end: number;

  constructor(space: AddressSpace, { start, end }: AddressRange) {
    this.space = space;
    this.start = start;
    this.end = end;
  }

  get pages(): number {
    return (this.end - this.start) / PAGE;
  }

  at(page: number): number {
    return this.start + page * PAGE;
  }

  /** Pages `[from, to)` of it. */
  part(from: number, to: number): Buffer {
    return new Buffer(this.space, { start: this.at(from), end: this.at(to) });
  }

  /** The same addresses in another space. */
  in(process: Process): Buffer {
    return new Buffer(process.space, this);
  }

  /** Writes word(i) at word index i, over the whole buffer. */
  fill(word: (i: number) => number): this {
    this.space.write(this.start, words(this.pages, word));
    return this;
  }

  /** The CPU reads word(i) at word index i, over the first `pages` pages. */
  expectWords(word: (i: number) => number, pages: number = this.pages): void {
    expectWords(this.space.read(this.start, pages * PAGE), word);
  }

  protect(prot: 'rw' | 'r' | 'none'): void {
    this.space.mprotect(this, prot);
  }

  unmap(): void {
    this.space.munmap(this);
  }
}

/** The words of "fill i" and "fill -i". */
export const index = (i: number): number => i;
export const minus = (i: number): number => -i;
export const zero = (): number => 0;

/** `pages` pages with word(i) at word index i. */
export function words(pages: number, word: (i: number) => number): Uint8Array {
  const view = new Uint32Array((pages * PAGE) / 4);
  for (let i = 0; i < view.length; i++) view[i] = word(i);
  return new Uint8Array(view.buffer);
}

/** Every word of `bytes` is word(i). */
export function expectWords(bytes: Uint8Array, word: (i: number) => number): void {
  const view = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
  for (let i = 0; i < view.length; i++) {
    if (view[i] !== word(i) >>> 0) expect(`word ${i} is ${view[i]}`).toBe(`word ${i} is ${word(i) >>> 0}`);
  }
}

/** What a command answers that dealt with `pages` pages; with `faults`, in that many rounds. */
export function ok(pages: number, faults?: number): Partial<DmirrorReply> {
  return faults === undefined ? { ret: 0, cpages: pages } : { ret: 0, cpages: pages, faults };
}

/** Every page of a snapshot has this byte. */
export function expectAll(bytes: Uint8Array, byte: number): void {
  expect([...new Set(bytes)].map((value) => value.toString(16))).toEqual([byte.toString(16)]);
}

/** Bytes of a snapshot as text, two digits a page. */
export function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(' ');
}

/** Frames in use of every node that has any. */
export function used(machine: Machine): string {
  return machine.nodes
    .filter((node) => node.used > 0)
    .map((node) => `${node.name} ${node.used}`)
    .join(', ');
}

/** Pages in use of a device's memories. */
export function usedOn(machine: Machine, node: number): number {
  return machine.nodes.reduce((sum, { name, used }) => (name.startsWith(`dmirror${node}.`) ? sum + used : sum), 0);
}

/** Nothing is broken, unfinished, or went wrong unheard. */
export function expectClean(machine: Machine): void {
  expect(machine.strayErrors).toEqual([]);
  expect(machine.pending).toEqual([]);
  expect(machine.tickets).toEqual([]);
  expect(machine.verify()).toBe(undefined);
}

/** Adds the four devices. */
export function addDevices(machine: Machine, chunkBytes: number = CHUNK): Device[] {
  return KINDS.map((kind, node) => machine.addDevice(dmirror({ name: `dmirror${node}`, kind, chunkBytes })));
}

/** What a case gets: its process, with the mirrors of its fixture open. */
export interface Self extends Process {
  readonly variant: Variant;
  /** The mirror; `hmm2` has a second one. */
  readonly fd: Mirror;
  readonly fd2: Mirror;
}

class Fixture extends Process implements Self {
  readonly variant: Variant;
  readonly fd: Mirror;
  readonly #second: Mirror | undefined;

  constructor(machine: Machine, devices: readonly Device[], variant: Variant, mirrors: 1 | 2) {
    super(machine, devices, machine.createAddressSpace());
    this.variant = variant;
    this.fd = this.open(variant.nodes[0]);
    this.#second = mirrors === 2 ? this.open(variant.nodes[1]) : undefined;
  }

  get fd2(): Mirror {
    return this.#second!;
  }

  /** Closes what is open, frees what is mapped; nothing may be left. */
  teardown(): void {
    this.fd.close();
    this.#second?.close();
    expectClean(this.machine);
    this.exit();
    expect(used(this.machine)).toBe('');
    expectClean(this.machine);
  }
}

let machine: Machine | undefined;

/** One machine for a file; every case gets it empty. */
export function emptyMachine(): Machine {
  machine ??= createMachineSync(MACHINE);
  machine.reset();
  return machine;
}

/** Called once in a file: makes the machine, ends it. */
export function suite(options: MachineOptions = MACHINE): void {
  beforeAll(() => {
    machine = createMachineSync(options);
  });
  afterAll(() => {
    machine?.close();
    machine = undefined;
  });
}

/** A case of `hmm` (one mirror) or `hmm2` (two), run for each variant. */
function cases(fixture: 'hmm' | 'hmm2', variants: readonly Variant[]) {
  return (name: string, body: (self: Self) => void, timeout?: number): void => {
    describe(`${fixture}.${name}`, () => {
      for (const variant of variants) {
        test(
          `${fixture}_${variant.name}`,
          () => {
            const empty = emptyMachine();
            const self = new Fixture(empty, addDevices(empty), variant, fixture === 'hmm' ? 1 : 2);
            body(self);
            self.teardown();
          },
          timeout,
        );
      }
    });
  };
}

export const hmm: (name: string, body: (self: Self) => void, timeout?: number) => void = cases('hmm', [PRIVATE, COHERENT]);
export const hmm2: (name: string, body: (self: Self) => void, timeout?: number) => void = cases('hmm2', [PRIVATE, COHERENT]);
/** Cases that only one kind of memory has. */
export const hmmPrivate: (name: string, body: (self: Self) => void) => void = cases('hmm', [PRIVATE]);
export const hmmCoherent: (name: string, body: (self: Self) => void) => void = cases('hmm', [COHERENT]);
