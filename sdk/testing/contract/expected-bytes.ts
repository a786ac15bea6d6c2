/**
 * What every byte that a case has written must be, by address space: told by the verbs that change bytes, asked by those that read.
 *
 * Invariants: a page that is not here is zeros; `mapped` names every range that a case has mapped in a space that is still there, those that have been unmapped meanwhile included.
 */
import type { Driver } from '../../gmem/index.ts';
import type { Job, JobReport } from '../../gmem/job.ts';
import type { AddressRange, AddressSpace } from '../../mm/address-space.ts';
import { ContractFailure } from './case.ts';

export const PAGE = 4096;

/** Pages that are looked at in one piece when a case ends. */
const SEEN_PAGES = 64;

const ZEROS = new Uint32Array(PAGE / 4);

/** Whether what is written to a memory of the driver's is lost: it gives zeros back. */
export function isWithoutBytes({ memory }: Driver): boolean {
  return memory?.some(({ bytesIn }) => bytesIn === 'metadata') === true;
}

/** Part of a saved world: plain fields. */
export class ExpectedBytes {
  readonly mapped: { readonly space: AddressSpace; readonly range: AddressRange }[] = [];
  /** By space and page number. */
  private readonly pages: Map<AddressSpace, Map<number, Uint8Array>> = new Map();
  private readonly areKept: boolean;

  /** `areKept`: whether memories give back what was written; without it nothing is compared. */
  constructor(areKept: boolean) {
    this.areKept = areKept;
  }

  // ------------------------------------------------------------------------------------------------------------------------ what changes

  /** A space is there, with the bytes and the mappings of `parent`. */
  begin(space: AddressSpace, parent?: AddressSpace): void {
    const pages = new Map<number, Uint8Array>();
    if (parent) {
      for (const [vpn, page] of this.pages.get(parent)!) pages.set(vpn, page.slice());
      for (const { space: owner, range } of [...this.mapped]) if (owner === parent) this.map(space, range);
    }
    this.pages.set(space, pages);
  }

  /** It has nothing any more. */
  clear(space: AddressSpace): void {
    this.pages.get(space)!.clear();
    for (let i = this.mapped.length - 1; i >= 0; i--) if (this.mapped[i]!.space === space) this.mapped.splice(i, 1);
  }

  /** It is gone. */
  end(space: AddressSpace): void {
    this.clear(space);
    this.pages.delete(space);
  }

  map(space: AddressSpace, range: AddressRange): void {
    this.mapped.push({ space, range });
  }

  /** Pages are new: they read as zeros. */
  forget(space: AddressSpace, range: AddressRange): void {
    const pages = this.pages.get(space)!;
    for (const vpn of [...pages.keys()]) if (vpn * PAGE >= range.start && vpn * PAGE < range.end) pages.delete(vpn);
  }

  /** The bytes of a mapping go along to `to`, as many as find a place there. */
  move(space: AddressSpace, from: AddressRange, to: AddressRange): void {
    const pages = this.pages.get(space)!;
    const taken: (readonly [number, Uint8Array])[] = [];
    for (let at = 0; at < from.end - from.start; at += PAGE) {
      const page = pages.get((from.start + at) / PAGE);
      pages.delete((from.start + at) / PAGE);
      if (page && at < to.end - to.start) taken.push([(to.start + at) / PAGE, page]);
    }
    for (const [vpn, page] of taken) pages.set(vpn, page);
    this.map(space, to);
  }

  wrote(space: AddressSpace, addr: number, bytes: Uint8Array): void {
    const pages = this.pages.get(space)!;
    for (let done = 0; done < bytes.length;) {
      const at = (addr + done) % PAGE;
      const vpn = Math.floor((addr + done) / PAGE);
      const length = Math.min(PAGE - at, bytes.length - done);
      let page = pages.get(vpn);
      if (!page) pages.set(vpn, (page = new Uint8Array(PAGE)));
      page.set(bytes.subarray(done, done + length), at);
      done += length;
    }
  }

  // ------------------------------------------------------------------------------------------------------------------------ what must be

  byteAt(space: AddressSpace, addr: number): number {
    return this.pages.get(space)!.get(Math.floor(addr / PAGE))?.[addr % PAGE] ?? 0;
  }

  snapshot(space: AddressSpace, range: AddressRange): Uint8Array {
    const bytes = new Uint8Array(range.end - range.start);
    for (let at = 0; at < bytes.length; at += PAGE) {
      const page = this.pages.get(space)!.get((range.start + at) / PAGE);
      if (page) bytes.set(page, at);
    }
    return bytes;
  }

  /** The parts of a range that have been written, ascending: each of pages that follow each other, 64 at the most. */
  runsIn(space: AddressSpace, range: AddressRange): AddressRange[] {
    const vpns = [...(this.pages.get(space)?.keys() ?? [])]
      .filter((vpn) => vpn * PAGE >= range.start && vpn * PAGE < range.end)
      .sort((a, b) => a - b);
    const runs: AddressRange[] = [];
    for (let at = 0; at < vpns.length;) {
      let pages = 1;
      while (pages < SEEN_PAGES && vpns[at + pages] === vpns[at]! + pages) pages++;
      const start = vpns[at]! * PAGE;
      runs.push({ start, end: start + pages * PAGE });
      at += pages;
    }
    return runs;
  }

  /** Throws ContractFailure unless `bytes`, which `who` has read from page `from` of a range on, are what was written last. */
  compare(who: string, space: AddressSpace, range: AddressRange, from: number, bytes: Uint8Array): void {
    if (!this.areKept) return;
    const pages = this.pages.get(space)!;
    for (let page = 0; page < bytes.length / PAGE; page++) {
      const addr = range.start + (from + page) * PAGE;
      const wanted = pages.get(addr / PAGE);
      if (isSame(bytes, page * PAGE, wanted)) continue;
      for (let at = 0; at < PAGE; at++) {
        const value = wanted?.[at] ?? 0;
        if (bytes[page * PAGE + at] === value) continue;
        const told = wanted ? `${value}, which was written last` : '0: nothing was written there';
        throw new ContractFailure(
          `${who} reads ${bytes[page * PAGE + at]} at 0x${(addr + at).toString(16)} (page ${from + page} of its range) and not ${told}`,
        );
      }
    }
  }

  /** Takes account of a job: every access executed or cancelled, and once only; what was read is what the accesses before it have left, in the order of the report. Throws ContractFailure. */
  follow({ accesses }: Job, { order, observed, cancelled }: JobReport, space: AddressSpace): void {
    const seen = new Set<number>(cancelled);
    if (seen.size < cancelled.length) throw new ContractFailure('an access of a job was cancelled twice');
    for (const i of order) {
      const { op, addr, bytes, value = 0 } = accesses[i]!;
      if (seen.has(i))
        throw new ContractFailure(`access ${i} of the job (${op} of 0x${addr.toString(16)}) was executed twice, or cancelled as well`);
      seen.add(i);
      if (op === 'write') this.wrote(space, addr, wordsOf(value, bytes));
      else if (bytes <= 8) this.compareRead(space, addr, bytes, observed, i);
    }
    if (seen.size < accesses.length)
      throw new ContractFailure(`${accesses.length - seen.size} accesses of the job were neither executed nor cancelled`);
  }

  private compareRead(space: AddressSpace, addr: number, bytes: number, observed: Uint32Array, index: number): void {
    if (!this.areKept) return;
    for (let at = 0; at < bytes; at++) {
      const wanted = this.byteAt(space, addr + at);
      const got = (observed[index * 2 + (at >> 2)]! >>> ((at % 4) * 8)) & 0xff;
      if (got !== wanted)
        throw new ContractFailure(
          `access ${index} of the job reads ${got} at 0x${(addr + at).toString(16)} and not ${wanted}, which was written last`,
        );
    }
  }
}

/** The bytes that a write of a job leaves: its value as a little-endian word of 8 bytes, repeated, 1 more in its low half each time. */
function wordsOf(value: number, bytes: number): Uint8Array {
  const out = new Uint8Array(bytes);
  const high = Math.floor(value / 2 ** 32);
  for (let i = 0; i < bytes; i++) {
    const part = i % 8;
    out[i] = (part < 4 ? value + Math.floor(i / 8) : high) >>> ((part % 4) * 8);
  }
  return out;
}

/** Whether a page of bytes is the wanted one, or zeros. */
function isSame(bytes: Uint8Array, from: number, wanted: Uint8Array | undefined): boolean {
  if ((bytes.byteOffset + from) % 4 !== 0 || (wanted && wanted.byteOffset % 4 !== 0)) return false;
  const actual = new Uint32Array(bytes.buffer, bytes.byteOffset + from, PAGE / 4);
  const expected = wanted ? new Uint32Array(wanted.buffer, wanted.byteOffset, PAGE / 4) : ZEROS;
  for (let i = 0; i < actual.length; i++) if (actual[i] !== expected[i]) return false;
  return true;
}
