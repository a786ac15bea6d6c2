/**
 * A range as letters, one a page: what a test expects and a person reads.
 *
 * ```
 *   -  no mapping            .  mapped, nothing there yet      z  the page of zeros
 *   h  host, read-only       H  host, writable                 n  there, but no rights (PROT_NONE)
 *   f  the same, of a file,  F                                 m  on its way (migration entry)
 *      shared memory or a driver                               x  device-exclusive
 *   d  device, read-only     D  device, writable               a  a device's, for its atomics; the CPU may read
 *   c  coherent, read-only   C  coherent, writable             s  swapped out
 *   r  host, devices have copies                               !  lost (poison)
 *   *  special
 * ```
 *
 * Without a range a VMA is a line; peer-shared memory has `ps` at its end.
 *
 * With several devices in the machine the first is d and D, then e, g, i, j, k, l and o; the ninth is d again. Coherent memory is c and C, whosever it is.
 */
import * as L from '../../assembly/layout.ts';
import type { AddressRange, AddressSpace } from './address-space.ts';
import type { Platform } from './platform.ts';
import { printedRights } from './take-down.ts';
import { VMA_PEER_SHARED } from './vma.ts';

/** By index of the device: no letter that means something else. */
const DEVICES = 'degijklo';

/** Letters of pages that can be written to: a capital that is made is a string of its own. */
const SMALL = `cfh${DEVICES}`;
const CAPITALS: string = SMALL.toUpperCase();

/** VMAs with more pages are not spelt out, unless by an explicit range. */
const DUMP_PAGES_MAX = 65536;

/** Pages whose letters are joined at once: a string that grows by a letter is an object for each. */
const LETTERS_PER_PIECE = 1024;

const LETTERS: TextDecoder = new TextDecoder();

/** Letters of a range, or of every VMA with its addresses and rights, a line each. */
export function dumpRange(platform: Platform, space: AddressSpace, range: AddressRange | undefined): string {
  if (range) return letters(platform, space, range.start / L.PAGE_BYTES, range.end / L.PAGE_BYTES);
  const lines: string[] = [];
  space.vmas.each(0, 2 ** L.VPN_BITS, (vma) => {
    const from = (vma.start * L.PAGE_BYTES).toString(16);
    const to = (vma.end * L.PAGE_BYTES).toString(16);
    const pages = vma.end - vma.start;
    const shown = pages <= DUMP_PAGES_MAX ? letters(platform, space, vma.start, vma.end) : `(${pages} pages)`;
    lines.push(`${from}-${to} ${printedRights(vma.prot)} ${shown}${vma.flags & VMA_PEER_SHARED ? ' ps' : ''}`);
  });
  return lines.join('\n');
}

function letters(platform: Platform, space: AddressSpace, start: number, end: number): string {
  let text = '';
  const codes = new Uint8Array(Math.min(end - start, LETTERS_PER_PIECE));
  for (let from = start; from < end; from += codes.length) {
    const pages = Math.min(end - from, codes.length);
    for (let i = 0; i < pages; i++) codes[i] = letterOf(platform, space, from + i).charCodeAt(0);
    text += LETTERS.decode(codes.subarray(0, pages));
  }
  return text;
}

/** The letter of one page. */
export function letterOf(platform: Platform, space: AddressSpace, vpn: number): string {
  const { core } = platform;
  const high = core.entry(space.table, vpn);
  const writable = (high & L.ENTRY_WRITE) !== 0;
  switch (high & L.ENTRY_KIND) {
    case L.KIND_NONE:
      return space.vmas.find(vpn) ? '.' : '-';
    case L.KIND_PRESENT:
      if (high & L.ENTRY_ZERO) return 'z';
      if (high & L.ENTRY_REPLICATED) return hasCopy(space, vpn) ? 'r' : 'h';
      if (high & L.ENTRY_CPU_READS) return 'a';
      return cased(placeOf(platform, core.entryLow), writable);
    case L.KIND_DEVICE_PRIVATE:
      return cased(DEVICES[(platform.nodes.of(core.entryLow).owner - 1) % DEVICES.length]!, writable);
    case L.KIND_MIGRATION:
      return 'm';
    case L.KIND_PROTNONE:
      return 'n';
    case L.KIND_EXCLUSIVE:
      return 'x';
    case L.KIND_SWAP:
      return 's';
    case L.KIND_SPECIAL:
      return '*';
    default:
      return '!';
  }
}

/** Whether a device has a copy of a page. Apart from `letterOf`, which would make room for what the function here is given, used or not. */
function hasCopy({ mirrors }: AddressSpace, vpn: number): boolean {
  return mirrors.some((mirror) => mirror.holds(vpn) === 'copy');
}

/** Where the CPU finds a present page. */
function placeOf({ core, nodes }: Platform, frame: number): string {
  if (nodes.of(frame).kind === 'coherent') return 'c';
  return core.field(core.frameRecord(core.headOf(frame)), L.FRAME_FLAGS) & L.FRAME_FILE ? 'f' : 'h';
}

function cased(letter: string, writable: boolean): string {
  return writable ? CAPITALS.charAt(SMALL.indexOf(letter)) : letter;
}
