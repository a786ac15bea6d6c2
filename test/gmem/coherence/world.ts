/** The world of the coherence oracle: address spaces, devices that are slow to answer, and for each word of memory what it may hold. */
import {
  type AddressSpace,
  type Context,
  createMachineSync,
  type Device,
  type DevicePolicy,
  isFarfaultError,
  KiB,
  type Machine,
  type Ticket,
} from 'farfault';
import type { Stream, StreamEvent } from 'farfault/gmem';
import type { Pin } from 'farfault/mm';
import { PeerDevice } from '../peer-device.ts';
import { Register, type Write } from './register.ts';
import { finishLate, type Late, type Pace, slowDevice } from './slow.ts';

export const PAGE = 4096;
/** Pages of a space; the last ones are shared memory, which a fork shares. */
export const PAGES = 12;
export const PRIVATE_PAGES = 8;
export const SPACES = 3;
const BASE = 2 ** 16;
/** Offsets of the two words of a page that are looked at. */
const WORDS = [0, 2048];

export type Right = 'none' | 'r' | 'rw' | 'unmapped';

/** One space, and what it may hold. */
export interface Slot {
  readonly space: AddressSpace;
  readonly contexts: (Context | undefined)[];
  /** Word w of page p is element 2 p + w. Spaces that share a page have the same register. */
  readonly words: Register<number>[];
  readonly rights: Register<Right>[];
  /** Pages that are shared memory; what has been mapped anew is not. */
  readonly shared: boolean[];
  /** Pages that a program may have pinned to a device: some of whose accesses are refused. */
  readonly held: Set<number>;
  /** Streams of the contexts, made when they are first used. */
  readonly streams: (Stream | undefined)[];
  /** Its memory is being reaped: whatever ends after that may end in any error. */
  isDying: boolean;
}

/** Two devices with memory, one of which has an engine that reaches the other's, and one whose memory the CPU reaches. */
const DEVICES = [
  { name: 'gpu', kind: 'private', bytes: 24 * KiB, granuleBytes: 8 * KiB },
  { name: 'gpu2', kind: 'private', bytes: 12 * KiB, granuleBytes: 4 * KiB, hasPeerEngine: true },
  { name: 'apu', kind: 'coherent', bytes: 16 * KiB, granuleBytes: 4 * KiB },
] as const;

/** What is chosen for the devices, a world after the other. */
const CHOICES: readonly (readonly DevicePolicy[])[] = [
  [{}, { flush: 'deferred' }, { placement: { duplicate: 'reads' } }, { flush: 'immediate', victims: 'lru' }],
  [
    {},
    { thrashing: { moves: 2, response: 'pin' } },
    { residency: 4 },
    { thrashing: { moves: 2, response: 'throttle' } },
    { placement: { duplicate: 'reads' } },
  ],
  [{}, { flush: 'deferred' }, { victims: 'clock' }, { watermarks: { low: 4096, high: 8192 } }],
  [{}, { form: 'decoupled' }, { flush: 'deferred' }],
];

const HANDS = ['core', 'imports', 'places'] as const;

export class World implements Pace {
  readonly machine: Machine;
  readonly devices: readonly Device[];
  readonly slots: (Slot | undefined)[] = new Array<undefined>(SPACES).fill(undefined);
  readonly pins: Pin[] = [];
  /** Work of devices that has been begun and not been done. */
  readonly late: Late[] = [];
  /** Whether devices answer late. */
  slow = false;
  /** Operations under way. */
  underWay = 0;
  /** Logical time: operations and ends of operations. */
  now = 0;
  failure: Error | undefined = undefined;
  /** Points in streams that others may wait for. */
  readonly events: StreamEvent[] = [];
  private value = 0;

  /** `kind`: worlds of different numbers have other policies. */
  constructor(machine: Machine, kind: number, arrange?: (world: World) => void) {
    machine.reset();
    this.machine = machine;
    const handsOf = HANDS[kind % 3]!;
    const peer = new PeerDevice({ name: 'npu', pages: 4, hands: handsOf, ends: () => (this.slow ? this.isLate : undefined) });
    const hasMarks = (kind >>> 1) % 3 > 0;
    const slow = DEVICES.map(({ kind: reach, bytes, ...each }) => {
      const atomics = reach === 'coherent' ? (['native'] as const) : (['migrate', 'exclusive'] as const);
      return slowDevice({ pace: this, hasMarks, ...each, atomics, memory: [{ name: 'ram', kind: reach, bytes }] });
    });
    const drivers = [...slow, peer.driver];
    this.devices = drivers.map((driver, i) => {
      const choices = CHOICES[i]!;
      const policy = choices[(kind + (kind >>> 3) * i) % choices.length]!;
      // What the device chooses when a page is brought, it brings itself.
      const { form, ...rest } = policy;
      return machine.addDevice(driver, { ...rest, ...(form && handsOf !== 'places' ? { form } : {}), pinnedAccess: 'remote' });
    });
    const space = machine.createAddressSpace();
    const slot = this.slotOf(space, {
      contexts: this.devices.map((device) => space.attach(device)),
      words: Array.from({ length: PAGES * 2 }, () => new Register(0)),
      rights: Array.from({ length: PAGES }, () => new Register<Right>('rw')),
      shared: Array.from({ length: PAGES }, (_, page) => page >= PRIVATE_PAGES),
    });
    mapAll(slot);
    this.slots[0] = slot;
    arrange?.(this);
  }

  /** A space, with what it may hold. */
  slotOf(space: AddressSpace, its: Pick<Slot, 'contexts' | 'words' | 'rights' | 'shared'>): Slot {
    return { space, ...its, held: new Set(), streams: [], isDying: false };
  }

  private readonly isLate = (ticket: Ticket, work: () => void): void => void this.late.push({ ticket, work });

  /** A value that nobody has written yet. */
  fresh(): number {
    return ++this.value;
  }

  /**
   * Runs one operation in a space, which may go on for a while. `operation` does it, `end` is told how it ended: `done`, or the code of its error. Whatever `end` throws is the finding.
   */
  start<T>(slot: Slot | undefined, operation: () => Promise<T>, end: (code: string, began: number, result: T | undefined) => void): void {
    const began = ++this.now;
    const ended = (code: string, result?: T): void => {
      this.underWay--;
      this.now++;
      // Nobody says what of it has been done.
      if (slot?.isDying && code !== 'done') return;
      try {
        end(code, began, result);
      } catch (error) {
        this.failure ??= error as Error;
      }
    };
    this.underWay++;
    let promise: Promise<T>;
    try {
      promise = operation();
    } catch (error) {
      if (!isFarfaultError(error)) throw error;
      ended(error.code);
      return;
    }
    promise.then(
      (result) => ended('done', result),
      (error: unknown) => {
        if (isFarfaultError(error)) ended(error.code);
        else {
          this.failure ??= error as Error;
          ended('thrown');
        }
      },
    );
  }

  /** Lets those who wait for what has happened go on. */
  async breathe(): Promise<void> {
    for (let i = 0; i < 12; i++) await Promise.resolve();
    if (this.failure) throw this.failure;
  }

  finish(i: number): void {
    finishLate(this, i);
  }

  /** Everything that is under way ends; each word is read, and is known afterwards. */
  async settle(): Promise<void> {
    await this.breathe();
    for (let rounds = 0; this.late.length > 0 || this.underWay > 0; rounds++) {
      if (rounds > 10_000) throw new Error(`never ends: ${this.machine.pending.map((each) => JSON.stringify(each)).join('; ')}`);
      if (this.late.length > 0) this.finish(0);
      await this.breathe();
    }
    const slow = this.slow;
    this.slow = false;
    this.events.length = 0;
    for (const [i, slot] of this.slots.entries()) {
      if (!slot?.isDying) continue;
      slot.space.close();
      this.slots[i] = undefined;
    }
    for (const slot of this.slots) if (slot) for (let page = 0; page < PAGES; page++) this.settlePage(slot, page);
    this.slow = slow;
    const broken = this.machine.verify();
    if (broken !== undefined) throw new Error(broken);
    if (this.machine.strayErrors.length > 0) throw new Error(`stray: ${String(this.machine.strayErrors[0])}`);
  }

  private settlePage(slot: Slot, page: number): void {
    const rights = new Set(slot.rights[page]!.possible(this.now + 1).map(({ value }) => value));
    const code = (operation: () => unknown): string => {
      try {
        operation();
        return 'done';
      } catch (error) {
        if (isFarfaultError(error)) return error.code;
        throw error;
      }
    };
    const vma = slot.space.vmas.find(BASE + page);
    const right: Right = !vma ? 'unmapped' : vma.prot & 2 ? 'rw' : vma.prot & 1 ? 'r' : 'none';
    if (!rights.has(right)) throw new Error(`page ${page} is ${right}, should be ${[...rights].join(' or ')}`);
    slot.rights[page]!.settle(right);
    for (const [w, offset] of WORDS.entries()) {
      const word = slot.words[page * 2 + w]!;
      let seen = 0;
      const ended = code(() => (seen = numberIn(slot.space.read(addressOf(page) + offset, 4))));
      const isPinned = slot.space.devicePins.has(BASE + page);
      if (!isPinned) slot.held.delete(page);
      if (isPinned && ended === 'EIO') continue;
      if (ended !== (right === 'r' || right === 'rw' ? 'done' : 'EFAULT'))
        throw new Error(
          `page ${page} is ${right}, and a read ends with ${ended} (${slot.space.dump()}, ${JSON.stringify(slot.space.holders(addressOf(page)))}, ${slot.space.devicePins.size} pinned)`,
        );
      if (ended !== 'done') continue;
      if (!word.saw(seen, this.now + 1, this.now + 1))
        throw new Error(`page ${page} holds ${seen} in the end, should be ${valuesOf(word, this.now + 1)}`);
      word.settle(seen);
    }
  }

  /** Ends the world: nothing may be in use. */
  async close(): Promise<void> {
    this.slow = false;
    await this.settle();
    for (const pin of this.pins) pin.unpin();
    for (const slot of this.slots) slot?.space.close();
    const broken = this.machine.verify();
    if (broken !== undefined) throw new Error(broken);
    for (const { name, used } of this.machine.nodes) if (used !== 0) throw new Error(`${name} has ${used} frames in use at the end`);
  }
}

/** Maps the pages of a space that has none. */
export function mapAll({ space, shared }: Slot): void {
  for (let page = 0, end = 1; page < PAGES; page = end++) {
    while (end < PAGES && shared[end] === shared[page]) end++;
    space.mmap({ at: addressOf(page), bytes: (end - page) * PAGE, fixed: true, shared: shared[page]! });
  }
}

export function addressOf(page: number): number {
  return (BASE + page) * PAGE;
}

export function wordAt(page: number, half: number): { readonly addr: number; readonly index: number } {
  return { addr: addressOf(page) + WORDS[half]!, index: page * 2 + half };
}

export function bytesOf(value: number): Uint8Array {
  return Uint8Array.of(value & 255, (value >>> 8) & 255, (value >>> 16) & 255, value >>> 24);
}

export function numberIn(bytes: Uint8Array): number {
  return (bytes[0]! | (bytes[1]! << 8) | (bytes[2]! << 16) | (bytes[3]! << 24)) >>> 0;
}

export function valuesOf(register: Register<unknown>, began: number): string {
  return [...new Set(register.values(began))].map(String).join(' or ');
}

/** Checks an access that ended with `code`: some right that there was meanwhile says so. */
export function requireRight(rights: Register<Right>, code: string, write: boolean, began: number, what: string): void {
  const allows = (right: Right): boolean => right === 'rw' || (right === 'r' && !write);
  const possible = rights.possible(began);
  if (code !== 'done' && code !== 'EFAULT') throw new Error(`${what} ends with ${code}`);
  if (!possible.some(({ value }) => allows(value) === (code === 'done')))
    throw new Error(`${what} ends with ${code}, and the page is ${valuesOf(rights, began)}`);
}

/** Ends a write: it has happened, or it never will. */
export function endWrite<T>(register: Register<T>, write: Write<T>, code: string, now: number): void {
  if (code === 'done') write.done = Math.min(write.done, now);
  else register.withdraw(write);
}

/** Machines that a world fits into: one with plenty of memory, and one whose host has room for half of it, before a second tier. */
export function machinesForWorlds(): readonly Machine[] {
  const sizes = { deviceMemory: 256 * KiB, tablePages: 256, tables: 32 };
  return [createMachineSync({ dram: 1024 * KiB, ...sizes }), createMachineSync({ dram: 80 * KiB, swap: 512 * KiB, ...sizes })];
}
