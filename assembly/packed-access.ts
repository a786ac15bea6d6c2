import { ACCESS_LENGTH, ACCESS_LENGTH_SHIFT, ACCESS_WRITE, ADDRESS_BITS, PAGE_BYTES, PAGE_SHIFT } from './layout';

/** What a packed access, one 64-bit word, says: see layout.ts. Short enough to be written into whatever asks. */

/** Bits of an access: its address; the number of its page; that it writes. */
export const ADDRESS: u64 = ((<u64>1) << ADDRESS_BITS) - 1;
export const PAGE_NUMBER: u64 = ADDRESS ^ (PAGE_BYTES - 1);
export const WRITES: u64 = (<u64>ACCESS_WRITE) << 32;

export function addressOf(access: u64): u64 {
  return access & ADDRESS;
}

/** Number of the unit of 2^shift bytes that the first byte is in. */
export function unitOf(access: u64, shift: u64): u64 {
  return (access << (64 - ADDRESS_BITS)) >> (shift + 64 - ADDRESS_BITS);
}

/** Page of the first byte. */
export function vpnOf(access: u64): u64 {
  return unitOf(access, PAGE_SHIFT);
}

/** Where in its page the first byte is. */
export function offsetOf(access: u64): u32 {
  return (<u32>access) & (PAGE_BYTES - 1);
}

/** How many bytes come after the first one. */
export function moreOf(access: u64): u32 {
  return (<u32>(access >> (ACCESS_LENGTH_SHIFT + 32))) & ACCESS_LENGTH;
}

/** Not 0 for a write. */
export function writeOf(access: u64): u32 {
  return (<u32>(access >> 32)) & ACCESS_WRITE;
}

/** Whether an access goes over a page boundary. */
export function crosses(access: u64): bool {
  return offsetOf(access) + moreOf(access) >= <u32>PAGE_BYTES;
}
