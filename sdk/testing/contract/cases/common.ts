/** What several groups of cases need: when a case does not apply, and bytes that tell each page from every other. */
import type { AddressRange, AddressSpace } from '../../../mm/address-space.ts';
import type { Context } from '../../../gmem/index.ts';
import { type Bench, PAGE } from '../bench.ts';
import type { Profile } from '../case.ts';

const MIB = 2 ** 20;

/** Bytes of a memory that a case fills once, and more than once. */
const FILLED_BYTES_MAX = 256 * MIB;
const REFILLED_BYTES_MAX = 32 * MIB;

/** Pages of one access. */
const CHUNK_PAGES = 64;

/** For cases that look for translations which only a fault of the device can have brought. */
export function needsOwnTranslations({ mode }: Profile): string | undefined {
  return mode === 'exclusive' ? undefined : `it has what the CPU has, without faults (mode ${mode})`;
}

/** For cases that ask for the marks of the device. */
export function needsMarks({ mmu, mode }: Profile): string | undefined {
  if (mode === 'share') return 'it shares the table of the CPU, whose marks are in it as well';
  return mmu.walk && !mmu.walk.harvest ? 'it translates by itself and keeps no marks (walk.harvest)' : undefined;
}

export function needsMemory(profile: Profile): string | undefined {
  return profile.memoryPages === 0 ? 'it has no memory of its own' : undefined;
}

/** For cases that fill the memory again and again. */
export function needsSmallMemory(profile: Profile): string | undefined {
  return needsMemory(profile) ?? tooLarge(profile, REFILLED_BYTES_MAX);
}

function tooLarge({ memoryPages }: Profile, most: number): string | undefined {
  if (memoryPages * PAGE <= most) return undefined;
  return `its memory of ${(memoryPages * PAGE) / MIB} MiB is too large to be filled: give it at most ${most / MIB} MiB in the options`;
}

/** For cases that follow bytes into the memory. */
export function needsBytes(profile: Profile): string | undefined {
  const reason = needsMemory(profile);
  if (reason !== undefined) return reason;
  return profile.driver.memory?.some(({ bytesIn }) => bytesIn === 'metadata') ? 'its memory has no bytes' : undefined;
}

/** For cases that fill the memory once and follow bytes into it. */
export function needsFillableMemoryWithBytes(profile: Profile): string | undefined {
  return needsBytes(profile) ?? tooLarge(profile, FILLED_BYTES_MAX);
}

/** For those that do so again and again. */
export function needsSmallMemoryWithBytes(profile: Profile): string | undefined {
  return needsBytes(profile) ?? needsSmallMemory(profile);
}

/** For cases that need what only an access of the device itself does: jobs, parts of pages. */
export function needsAccesses(profile: Profile): string | undefined {
  return profile.driver.memory?.some(({ bytesIn = 'backed' }) => bytesIn !== 'backed')
    ? 'the machine cannot run its accesses: its memory has no bytes there'
    : undefined;
}

/** Byte `at` of a page: different for every page, every place in it, and every `salt`. */
function stampInto(bytes: Uint8Array, page: number, salt: number): void {
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
  let word = (page * 0x9e3779b1 + salt * 0x85ebca6b) >>> 0;
  for (let i = 0; i < words.length; i++) {
    word = (Math.imul(word ^ (word >>> 15), 0x2c1b3c6d) + i) >>> 0;
    words[i] = word;
  }
}

/** Pages of bytes, each page with a pattern of its own. */
export function stamps(first: number, pages: number, salt: number): Uint8Array {
  const bytes = new Uint8Array(pages * PAGE);
  for (let page = 0; page < pages; page++) stampInto(bytes.subarray(page * PAGE, (page + 1) * PAGE), first + page, salt);
  return bytes;
}

/** The CPU writes a pattern to each page: no two pages are the same, nor two places of a page. */
export async function cpuStamps(
  bench: Bench,
  range: AddressRange,
  from: number,
  pages: number,
  salt: number,
  space: AddressSpace = bench.space,
): Promise<void> {
  for (let at = from; at < from + pages; at += CHUNK_PAGES) {
    const bytes = stamps(at, Math.min(CHUNK_PAGES, from + pages - at), salt);
    bench.mark();
    await bench.wait(space.writeAsync(range.start + at * PAGE, bytes));
    bench.wrote(space, range.start + at * PAGE, bytes);
  }
}

/** The device writes a pattern to each page, or faults on it for writing where the machine cannot run its accesses. */
export async function deviceStamps(
  bench: Bench,
  range: AddressRange,
  from: number,
  pages: number,
  salt: number,
  context: Context = bench.context,
): Promise<void> {
  if (!bench.runsAccesses) return bench.fault(range, from, pages, 'write', context);
  for (let at = from; at < from + pages; at += CHUNK_PAGES) {
    const bytes = stamps(at, Math.min(CHUNK_PAGES, from + pages - at), salt);
    bench.mark();
    await bench.wait(context.writeAsync(range.start + at * PAGE, bytes));
    bench.wrote(context.space, range.start + at * PAGE, bytes);
  }
}

/** The CPU finds in each page what was written last. */
export async function cpuChecks(
  bench: Bench,
  range: AddressRange,
  from: number,
  pages: number,
  space: AddressSpace = bench.space,
): Promise<void> {
  for (let at = from; at < from + pages; at += CHUNK_PAGES) await bench.cpuSees(range, at, Math.min(CHUNK_PAGES, from + pages - at), space);
}

/** The device finds in each page what was written last. */
export async function deviceChecks(
  bench: Bench,
  range: AddressRange,
  from: number,
  pages: number,
  context: Context = bench.context,
): Promise<void> {
  for (let at = from; at < from + pages; at += CHUNK_PAGES)
    await bench.deviceSees(range, at, Math.min(CHUNK_PAGES, from + pages - at), context);
}

/** Pages of a range that are in the device's memory. */
export function resident(range: AddressRange, context: Context): number {
  let pages = 0;
  for (let addr = range.start; addr < range.end; addr += PAGE) if (context.residency(addr / PAGE) !== undefined) pages++;
  return pages;
}

/** Pages of the device's memories that are in use. */
export function inUse(bench: Bench): number {
  return bench.device.memories.reduce((sum, { node }) => sum + node.used, 0);
}

/** The part of a range from page `from`. */
export function part(range: AddressRange, from: number, pages: number): AddressRange {
  return { start: range.start + from * PAGE, end: range.start + (from + pages) * PAGE };
}
