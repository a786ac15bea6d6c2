/**
 * The command language: what `context.command` takes and gives.
 *
 * ```
 *   op               buffer                     what it does
 *   READ             receives data              the device reads: through its table, faulting where that has nothing
 *   WRITE            has the data               the device writes
 *   MIGRATE_TO_DEV   receives the read-back     pages go to device memory, then the device reads them back from its table alone
 *   MIGRATE_TO_SYS   -                          pages on this device come home
 *   SNAPSHOT         receives a byte a page     what the CPU's table says, as the device sees it: PROT_*
 *   EXCLUSIVE        receives the read-back     pages become the device's alone, for its atomics
 *   CHECK_EXCLUSIVE  -                          EPERM if a page still is
 *   RELEASE          -                          device memory is evicted and unplugged, chunk by chunk
 *   FLAGS            -                          `pages` is the new flag word: FLAG_*
 * ```
 *
 * Models: `HMM_DMIRROR_*` and `struct hmm_dmirror_cmd` (lib/test_hmm_uapi.h).
 */
import { fail } from '../../sdk/gmem/index.ts';
import { EFAULT, EINVAL } from './errno.ts';

/** Commands. */
export type DmirrorOp =
  'READ' | 'WRITE' | 'MIGRATE_TO_DEV' | 'MIGRATE_TO_SYS' | 'SNAPSHOT' | 'EXCLUSIVE' | 'CHECK_EXCLUSIVE' | 'RELEASE' | 'FLAGS';

/** A command. */
export interface DmirrorRequest {
  readonly op: DmirrorOp;
  /** First byte address, page-aligned. */
  readonly addr: number;
  /** At least 1. For FLAGS the flag word, which can never be 0 therefore. */
  readonly pages: number;
  /** 4096 bytes a page, for SNAPSHOT one; where an operation needs none it is not looked at. */
  readonly buffer?: Uint8Array;
}

/** How a command ended. */
export interface DmirrorReply {
  /** 0, or a negative error number of Linux: -14 is EFAULT. */
  readonly ret: number;
  /** Pages dealt with; 0 unless `ret` is 0. For MIGRATE_TO_SYS words that moved: a huge page counts once. */
  readonly cpages: number;
  /** Rounds of faulting that it took, whatever their length; 0 unless `ret` is 0. */
  readonly faults: number;
}

/** Bytes of a snapshot: where a page is, plus READ or WRITE (never both), plus the size of its mapping. */
export const PROT_ERROR = 0xff;
export const PROT_NONE = 0x00;
export const PROT_READ = 0x01;
export const PROT_WRITE = 0x02;
export const PROT_PMD = 0x04;
export const PROT_PUD = 0x08;
export const PROT_ZERO = 0x10;
export const PROT_DEV_PRIVATE_LOCAL = 0x20;
export const PROT_DEV_PRIVATE_REMOTE = 0x30;
export const PROT_DEV_COHERENT_LOCAL = 0x40;
export const PROT_DEV_COHERENT_REMOTE = 0x50;

/** FLAGS: the next allocation of a migration, to the device or home, fails. Once. */
export const FLAG_FAIL_ALLOC = 1;

const PAGE_BYTES = 4096;
const ADDRESS_LIMIT = 2 ** 48;

/** Bytes that the buffer of an operation must have for each page; 0: it needs none. */
const BYTES_PER_PAGE: Readonly<Record<DmirrorOp, number>> = {
  READ: PAGE_BYTES,
  WRITE: PAGE_BYTES,
  MIGRATE_TO_DEV: PAGE_BYTES,
  MIGRATE_TO_SYS: 0,
  SNAPSHOT: 1,
  EXCLUSIVE: PAGE_BYTES,
  CHECK_EXCLUSIVE: 0,
  RELEASE: 0,
  FLAGS: 0,
};

/** A command that has been looked at: page numbers, and a buffer that is long enough. */
export interface Command {
  readonly op: DmirrorOp;
  /** First page. */
  readonly vpn: number;
  readonly pages: number;
  /** Exactly as long as the operation needs. */
  readonly bytes: Uint8Array;
}

const NO_BYTES = new Uint8Array(0);

/**
 * Looks at a request. A number is why it is refused: EINVAL for an address that is not aligned, a range that is empty or wraps around, an unknown operation; EFAULT for a buffer that is
 * missing or too short. What is no request at all is thrown.
 */
export function parse(request: unknown): Command | number {
  if (typeof request !== 'object' || request === null)
    throw fail('EINVAL', 'command.request', request, 'is not a request { op, addr, pages }');
  const { op, addr, pages, buffer } = request as Partial<Record<keyof DmirrorRequest, unknown>>;
  if (typeof addr !== 'number' || !Number.isSafeInteger(addr) || addr < 0 || addr % PAGE_BYTES !== 0) return EINVAL;
  if (typeof pages !== 'number' || !Number.isSafeInteger(pages) || pages <= 0) return EINVAL;
  if (!isOp(op)) return EINVAL;
  // The flag word is a number, not a length.
  if (op === 'FLAGS') return { op, vpn: 0, pages, bytes: NO_BYTES };
  if (addr + pages * PAGE_BYTES > ADDRESS_LIMIT) return EINVAL;
  const length = pages * BYTES_PER_PAGE[op];
  if (length > 0 && !(buffer instanceof Uint8Array && buffer.length >= length)) return EFAULT;
  return { op, vpn: addr / PAGE_BYTES, pages, bytes: length > 0 ? (buffer as Uint8Array).subarray(0, length) : NO_BYTES };
}

function isOp(op: unknown): op is DmirrorOp {
  return typeof op === 'string' && Object.hasOwn(BYTES_PER_PAGE, op);
}
