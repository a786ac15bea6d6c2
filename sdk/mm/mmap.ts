/**
 * New mappings: what was asked for becomes a VMA, and nothing else. Pages come with the first touch.
 *
 * ```
 *   shared   file    hugetlb  special      memory
 *   no       -       -        -            anonymous: zeros, this space's own
 *   yes      -       -        -            shared anonymous: zeros, one object for everybody who inherits it
 *   no       yes     -        -            a file's pages, copied at the first write
 *   yes      yes     -        -            a file's pages
 *   no       -       2M, 1G   -            anonymous, made of huge pages only
 *   any      -       -        mixed        a driver puts pages into it, and numbers of what are none (insertPage, insertPfn)
 *   any      -       -        pfn, io      numbers only (insertPfn)
 *   no       -       -        -            with peerShared: anonymous, at an address that every device has agreed to (peer-va.ts)
 * ```
 *
 * Models: `do_mmap`, `shmem_zero_setup`, `hugetlb_file_setup`, `vm_flags_set`.
 */
import * as L from '../../assembly/layout.ts';
import { fail } from '../errors.ts';
import { GiB, MiB } from '../units.ts';
import type { AddressSpace } from './address-space.ts';
import { DONE, type Progress, type Run, type Step } from '../step/step.ts';
import {
  ADDRESS_LIMIT,
  type AddressRange,
  isBytes,
  type NamesOf,
  requireAligned,
  requireBoolean,
  requireOptions,
  requireWord,
} from './arguments.ts';
import { MemoryFile, SharedObject } from './page-cache.ts';
import { Negotiation, pagesOfNarrowest, PEER_SHARED_PAGES } from './peer-va.ts';
import type { Platform } from './platform.ts';
import { type Prot, protBits } from './prot.ts';
import {
  PROT_WRITE,
  VMA_ANONYMOUS,
  VMA_DONTEXPAND,
  VMA_DONTFORK,
  VMA_HUGETLB_1G,
  VMA_HUGETLB_2M,
  VMA_IO,
  VMA_MIXEDMAP,
  VMA_PEER_SHARED,
  VMA_PFNMAP,
  VMA_PRIVATE,
} from './vma.ts';

/** What to map, and where. */
export interface MmapOptions {
  /** Length; rounded up to whole pages (of `hugetlb`, if given). */
  readonly bytes: number;
  /** Rights: any of the letters r, w and x, or 'none'. Default 'rw'. */
  readonly prot?: Prot;
  /** Where, page-aligned; with `fixed` exactly there, else the first free place from there on. Default: the first free place from 256 MiB on. */
  readonly at?: number;
  /** Exactly at `at`; fails when anything is mapped there. Models: MAP_FIXED_NOREPLACE. */
  readonly fixed?: boolean;
  /** The place that is chosen is a multiple of this: 4096 (default), 2 MiB or 1 GiB. */
  readonly align?: number;
  /** Writes are seen by everybody who maps it. Default false. Models: MAP_SHARED. */
  readonly shared?: boolean;
  /** The file behind it; without one the memory is anonymous. */
  readonly file?: MemoryFile;
  /** Byte of the file behind the first byte, a multiple of 4096. Default 0. */
  readonly offset?: number;
  /** Made of huge pages only, 2 MiB or 1 GiB, which are never split and never migrate. Models: MAP_HUGETLB. */
  readonly hugetlb?: number;
  /** A driver's mapping: what it inserts is all that is there. Models: VM_MIXEDMAP, VM_PFNMAP, VM_IO. */
  readonly special?: 'mixed' | 'pfn' | 'io';
  /**
   * At an address that every attached device takes: those that hand out their addresses themselves (`peerVa`) are asked, and the place is below what the narrowest can address. Private and anonymous only; in whole 2 MiB, at a
   * multiple of them; never the page of zeros; no child gets it, unless `madvise('dofork')` says so. Models: MAP_PEER_SHARED.
   */
  readonly peerShared?: boolean;
}

const MMAP_OPTIONS: NamesOf<MmapOptions> = {
  bytes: true,
  prot: true,
  at: true,
  fixed: true,
  align: true,
  shared: true,
  file: true,
  offset: true,
  hugetlb: true,
  special: true,
  peerShared: true,
};

const SPECIAL: Readonly<Record<'mixed' | 'pfn' | 'io', number>> = {
  mixed: VMA_MIXEDMAP,
  pfn: VMA_PFNMAP | VMA_DONTEXPAND,
  io: VMA_IO | VMA_PFNMAP | VMA_DONTEXPAND,
};

/** What is to be mapped, checked. */
interface Plan {
  readonly options: MmapOptions;
  readonly pages: number;
  readonly prot: number;
  readonly flags: number;
  readonly alignPages: number;
  /** Page to search from, or the fixed place. */
  readonly wanted: number;
  readonly fixed: boolean;
}

/** Maps what the options say. Throws EINVAL for options that do not go together or a fixed place that is taken, ENOMEM when there is no gap. */
export function mmap(platform: Platform, space: AddressSpace, options: MmapOptions): AddressRange {
  return promise(platform, space, planOf(platform, space, options));
}

function planOf(platform: Platform, space: AddressSpace, options: MmapOptions): Plan {
  requireOptions('mmap', options, MMAP_OPTIONS);
  const { bytes, at, fixed = false } = options;
  if (!Number.isSafeInteger(bytes) || bytes <= 0 || bytes > ADDRESS_LIMIT)
    throw fail('EINVAL', 'mmap.bytes', bytes, 'is not a length between 1 byte and 2^48');
  const prot = protBits('mmap.prot', options.prot === undefined ? 'rw' : options.prot);
  requireBoolean('mmap.fixed', fixed);
  if (at !== undefined) requireAligned('mmap.at', at);
  else if (fixed) throw fail('EINVAL', 'mmap.at', at, 'is required with fixed');
  const flags = flagsOf(platform, options);
  const unit = flags & VMA_PEER_SHARED ? PEER_SHARED_PAGES : (options.hugetlb ?? L.PAGE_BYTES) / L.PAGE_BYTES;
  return {
    options,
    pages: Math.ceil(bytes / L.PAGE_BYTES / unit) * unit,
    prot,
    flags,
    alignPages: Math.max(alignmentOf(options) / L.PAGE_BYTES, unit),
    wanted: at === undefined ? space.base : fixed ? at / L.PAGE_BYTES : Math.max(at / L.PAGE_BYTES, space.first),
    fixed,
  };
}

function promise(platform: Platform, space: AddressSpace, plan: Plan): AddressRange {
  const { options, pages, prot, flags } = plan;
  const { file, shared = false } = options;
  const start = placeOf(space, plan);
  const object = file ?? (shared && options.special === undefined ? new SharedObject(platform) : undefined);
  space.vmas.insert({ start, end: start + pages, prot, flags, object, offset: (options.offset ?? 0) / L.PAGE_BYTES });
  return mapped(platform, space, start, pages);
}

function mapped({ events }: Platform, space: AddressSpace, start: number, pages: number): AddressRange {
  if (events.heard) events.emit({ type: 'space.mapped', space: space.id, vpn: start, pages, cause: 'mmap' });
  return { start: start * L.PAGE_BYTES, end: (start + pages) * L.PAGE_BYTES };
}

const LOCK = 0;
const AGREED = 1;
const UNDONE = 2;

/** The step behind `space.mmap`. Memory that no peer is asked for is mapped in one turn, without a lock. Throws as `mmap` does; ENODEV when a peer fails. */
export class Mmap implements Step {
  readonly name = 'mmap';
  /** Where it is; undefined when nobody wanted it any more. */
  result: AddressRange | undefined;
  private readonly platform: Platform;
  private readonly space: AddressSpace;
  private readonly plan: Plan;
  private readonly negotiation: Negotiation;
  private isAbandoned = false;
  private phase = LOCK;

  constructor(platform: Platform, space: AddressSpace, options: MmapOptions) {
    this.platform = platform;
    this.space = space;
    this.plan = planOf(platform, space, options);
    this.negotiation = new Negotiation(platform, space);
  }

  next(run: Run): Progress {
    const { mmapLock } = this.space;
    const { pages, prot, flags, wanted, fixed, alignPages } = this.plan;
    switch (this.phase) {
      case LOCK: {
        if (!(flags & VMA_PEER_SHARED)) {
          this.result = promise(this.platform, this.space, this.plan);
          return DONE;
        }
        if (!mmapLock.tryAcquire(run)) return run.waitFor(mmapLock);
        // While it waited, the space may have begun to end.
        this.space.requireOpen('mmap');
        if (fixed) placeOf(this.space, this.plan);
        this.phase = AGREED;
        return run.call(this.negotiation.of({ pages, prot, cause: 'mmap', ...(fixed ? { at: wanted } : { base: wanted, alignPages }) }));
      }
      case AGREED: {
        this.negotiation.requireDone('mmap.bytes', this.plan.options.bytes);
        const { start } = this.negotiation;
        if (this.isAbandoned) {
          this.phase = UNDONE;
          return run.call(this.negotiation.undo());
        }
        this.negotiation.keep({ start, end: start + pages, prot, flags });
        this.result = mapped(this.platform, this.space, start, pages);
      }
      // falls through
      default:
        mmapLock.release(run);
        return DONE;
    }
  }

  /** Nobody waits for the range any more: it comes to nothing. */
  abandon(): void {
    this.isAbandoned = true;
  }

  abort(run: Run): void {
    this.negotiation.abort();
    if (run.holds(this.space.mmapLock)) this.space.mmapLock.release(run);
  }
}

function placeOf(space: AddressSpace, { options: { bytes }, pages, wanted, fixed, alignPages, flags }: Plan): number {
  const { vmas } = space;
  if (!fixed) {
    const start = vmas.gap({ pages, base: wanted, alignPages, limit: space.last });
    if (start === undefined) throw fail('ENOMEM', 'mmap.bytes', bytes, 'has no gap in the address space');
    return start;
  }
  const at = wanted * L.PAGE_BYTES;
  if (wanted % alignPages !== 0) throw fail('EINVAL', 'mmap.at', at, `is not a multiple of 0x${(alignPages * L.PAGE_BYTES).toString(16)}`);
  if (wanted + pages > ADDRESS_LIMIT / L.PAGE_BYTES) throw fail('EINVAL', 'mmap.at', at, `leaves no room for ${bytes} bytes below 2^48`);
  if (at < space.first * L.PAGE_BYTES || wanted + pages > space.last)
    throw fail('EINVAL', 'mmap.at', at, 'is not in the range of the address space');
  if (flags & VMA_PEER_SHARED && wanted + pages > pagesOfNarrowest(space))
    throw fail('EINVAL', 'mmap.at', at, 'is above what a device of this space can address');
  if (!vmas.isFree(wanted, wanted + pages)) throw fail('EINVAL', 'mmap.at', at, 'is mapped already');
  return wanted;
}

/** The VMA_* bits of what is asked for, once it is clear that it goes together. */
function flagsOf(platform: Platform, { shared = false, file, offset, hugetlb, special, peerShared = false }: MmapOptions): number {
  const kept = shared ? 0 : VMA_PRIVATE;
  if (typeof shared !== 'boolean') throw fail('EINVAL', 'mmap.shared', shared, 'is not true or false');
  requireBoolean('mmap.peerShared', peerShared);
  if (peerShared) {
    const other = { shared: shared || undefined, file, offset, hugetlb, special };
    for (const [name, value] of Object.entries(other))
      if (value !== undefined) throw fail('EINVAL', `mmap.${name}`, value, 'does not go with peerShared: that is private and anonymous');
    return kept | VMA_ANONYMOUS | VMA_PEER_SHARED | VMA_DONTFORK;
  }
  if (file !== undefined) {
    if (!(file instanceof MemoryFile)) throw fail('EINVAL', 'mmap.file', file, 'is not a file (see machine.createFile)');
    if (!file.isOf(platform)) throw fail('EINVAL', 'mmap.file', file.bytes, 'bytes long, is of another machine');
    file.requireOpen('mmap');
    if (hugetlb !== undefined) throw fail('EINVAL', 'mmap.hugetlb', hugetlb, 'does not go with a file');
    if (special !== undefined) throw fail('EINVAL', 'mmap.special', special, 'does not go with a file');
    const from = offset === undefined ? 0 : offset;
    if (!Number.isSafeInteger(from) || from < 0 || from % L.PAGE_BYTES !== 0)
      throw fail('EINVAL', 'mmap.offset', from, 'is not a multiple of 4096');
    return kept;
  }
  if (offset !== undefined) throw fail('EINVAL', 'mmap.offset', offset, 'is for files');
  if (special !== undefined) {
    if (hugetlb !== undefined) throw fail('EINVAL', 'mmap.hugetlb', hugetlb, 'does not go with a special mapping');
    return kept | SPECIAL[requireWord('mmap.special', special, ['mixed', 'pfn', 'io'])];
  }
  if (hugetlb !== undefined) {
    if (hugetlb !== 2 * MiB && hugetlb !== GiB) throw fail('EINVAL', 'mmap.hugetlb', hugetlb, 'is not 2 MiB or 1 GiB');
    if (shared) throw fail('EINVAL', 'mmap.hugetlb', hugetlb, 'is for private memory only');
    return kept | VMA_ANONYMOUS | (hugetlb === GiB ? VMA_HUGETLB_1G : VMA_HUGETLB_2M);
  }
  return shared ? kept : kept | VMA_ANONYMOUS;
}

function alignmentOf({ align = L.PAGE_BYTES, hugetlb = L.PAGE_BYTES }: MmapOptions): number {
  if (align !== L.PAGE_BYTES && align !== 2 * MiB && align !== GiB)
    throw fail('EINVAL', 'mmap.align', align, 'is not 4096, 2 MiB or 1 GiB');
  return Math.max(align, hugetlb);
}

/** Puts a page of the host into a mixed mapping: zeros, or `bytes` and zeros behind. Throws EINVAL where it may not be, EBUSY while mappings of the space change, ENOMEM. Models: `vm_insert_page`. */
export function insertPage(platform: Platform, space: AddressSpace, addr: number, bytes: Uint8Array | undefined): void {
  const { vpn, prot } = holeIn(platform, space, 'insertPage', addr, VMA_MIXEDMAP);
  if (bytes !== undefined && (!isBytes(bytes) || bytes.length > L.PAGE_BYTES))
    throw fail('EINVAL', 'insertPage.bytes', bytes, 'is not a Uint8Array of a page at most');
  const { core, host } = platform;
  const frame = host.take();
  if (frame < 0) throw fail('ENOMEM', 'insertPage.addr', addr, 'needs a page, and host memory is exhausted');
  core.exports.frameClear(frame);
  if (bytes) core.u8.set(bytes, core.frameBytes(frame));
  const record = core.frameRecord(frame);
  core.setField(record, L.FRAME_FLAGS, core.field(record, L.FRAME_FLAGS) | L.FRAME_FILE);
  const isMapped = core.exports.mapFrame(
    space.table,
    vpn,
    frame,
    space.rights(vpn) & L.RIGHT_READ ? L.KIND_PRESENT | prot : L.KIND_PROTNONE,
  );
  // The mapping holds it from now on.
  core.exports.framePut(frame);
  if (!isMapped) throw fail('ENOMEM', 'insertPage.addr', addr, 'needs a table page, and there is none');
  space.installed(vpn, 1);
  if (platform.events.heard) platform.events.emit({ type: 'page.inserted', space: space.id, vpn, what: 'page' });
}

/** Puts the number of something that is not the machine's memory into a special mapping. Throws EINVAL where it may not be, EBUSY while mappings of the space change, ENOMEM. Models: `vmf_insert_pfn`, `vmf_insert_mixed`. */
export function insertPfn(platform: Platform, space: AddressSpace, addr: number, pfn: number): void {
  const { vpn, prot } = holeIn(platform, space, 'insertPfn', addr, VMA_MIXEDMAP | VMA_PFNMAP | VMA_IO);
  if (!Number.isInteger(pfn) || pfn < 0 || pfn >= 2 ** 32) throw fail('EINVAL', 'insertPfn.pfn', pfn, 'is not a page number below 2^32');
  if (!platform.core.exports.mapSpecial(space.table, vpn, pfn, L.KIND_SPECIAL | prot))
    throw fail('ENOMEM', 'insertPfn.addr', addr, 'needs a table page, and there is none');
  if (platform.events.heard) platform.events.emit({ type: 'page.inserted', space: space.id, vpn, what: 'pfn' });
}

/** The page of an address that is a hole of a special VMA; `prot`: what its entry allows at first. */
function holeIn(
  platform: Platform,
  space: AddressSpace,
  verb: string,
  addr: number,
  flags: number,
): { readonly vpn: number; readonly prot: number } {
  requireAligned(`${verb}.addr`, addr);
  // Who holds the lock has looked at the entries already, or promised a place for others.
  if (space.mmapLock.writer) throw fail('EBUSY', `${verb}.addr`, addr, 'is in a space whose mappings are being changed');
  const vpn = addr / L.PAGE_BYTES;
  const vma = space.vmas.find(vpn);
  if (!vma || !(vma.flags & flags)) throw fail('EINVAL', `${verb}.addr`, addr, 'is not in a special mapping that takes it');
  if ((platform.core.entry(space.table, vpn) & L.ENTRY_KIND) !== L.KIND_NONE)
    throw fail('EINVAL', `${verb}.addr`, addr, 'has an entry already');
  return { vpn, prot: !(vma.flags & VMA_PRIVATE) && vma.prot & PROT_WRITE ? L.ENTRY_WRITE : 0 };
}
