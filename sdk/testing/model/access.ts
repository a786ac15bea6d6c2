/** One access of one or two pages, by a CPU or a lane: it executes whole or not at all. */
import { type Frame, PAGE_BYTES } from './frame.ts';
import type { Tlb } from './tlb.ts';

export const ADDRESS_END: number = 2 ** 48;

/** What `tryAccess` returns when the access was done; otherwise it returns a page number. */
export const EXECUTED = -1;

/** Throws unless the access lies below 2^48 and is 1 to 4096 bytes long. */
export function checkAccess(addr: number, bytes: number): void {
  if (!Number.isSafeInteger(bytes) || bytes < 1 || bytes > PAGE_BYTES) throw new RangeError(`bytes ${bytes} is not within 1 to 4096`);
  if (!Number.isSafeInteger(addr) || addr < 0 || addr + bytes > ADDRESS_END) throw new RangeError(`addr ${addr} is not below 2^48`);
}

/** The pages that an access touches: `last` is `first` or the one after. */
export function touched(addr: number, bytes: number): { first: number; last: number } {
  return { first: Math.floor(addr / PAGE_BYTES), last: Math.floor((addr + bytes - 1) / PAGE_BYTES) };
}

/**
 * Loads into `data`, or stores from it, when every touched page permits it. Otherwise changes nothing, not even the TLB, and returns the
 * first page that does not.
 */
export function tryAccess(tlb: Tlb, addr: number, bytes: number, write: boolean, data: Uint8Array): number {
  const offset = addr % PAGE_BYTES;
  const vpn = (addr - offset) / PAGE_BYTES;
  const here = Math.min(bytes, PAGE_BYTES - offset);
  if (!tlb.permits(vpn, write)) return vpn;
  if (here < bytes && !tlb.permits(vpn + 1, write)) return vpn + 1;

  copy(tlb.use(vpn, write), offset, data, 0, here, write);
  if (here < bytes) copy(tlb.use(vpn + 1, write), 0, data, here, bytes - here, write);
  return EXECUTED;
}

function copy(frame: Frame, frameOffset: number, data: Uint8Array, dataOffset: number, bytes: number, write: boolean): void {
  const memory = frame.bytes;
  if (write) for (let i = 0; i < bytes; i++) memory[frameOffset + i] = data[dataOffset + i]!;
  else for (let i = 0; i < bytes; i++) data[dataOffset + i] = memory[frameOffset + i]!;
}
