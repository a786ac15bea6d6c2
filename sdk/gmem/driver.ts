/**
 * What a device-model author implements: a `Driver`, whose `attach(context)` returns small families of operations. **Having a family
 * is the capability**; a family or an operation with an unknown name is refused by name when the device is attached.
 *
 * ```
 *   defineDriver(options => driver)          a device, before it is in a machine
 *     driver.attach(context) => GmMmu        the device in one address space: the families below
 *
 *   family   operations                          without it
 *   pmap     create enter release protect destroy  the ready-made device table (deviceTable); in share mode the home table
 *   tlb      invalidate invalidateCoalesced      the ready-made TLB (deviceTlb), or none when the driver translates
 *   walk     translate harvest                   ready-made TLB in front of the ready-made table, in the core
 *   copy     toDevice toHost zero peer           the core copies, at once
 *   phys     allocPage freePage preparePage victims  frames are handed out by the core's buddy allocator, oldest evicted first
 *   peer     map unmap importPages freePage      pages come and go in the steps of the other families
 *   fault    service                             the framework serves every fault in the order of its coming
 *   peerVa   allocFixed free                     every address is free for it: nobody asks
 * ```
 *
 * Rules of every operation: it must not call the machine it serves; lists that it is given are borrowed until it returns; it is never entered
 * twice at once for one context. One that throws marks the context failed and leaves the machine consistent.
 *
 * Models: `struct gm_mmu` (RFC, 28 Nov 2023), cut into families.
 */
import { type Step } from '../step/step.ts';
import { type Ticket } from '../step/ticket.ts';
import { fail } from '../errors.ts';
import { type NamesOf, requireFunction, requireNames, requireObject } from '../mm/arguments.ts';
import { type AttachMode } from '../mm/attach.ts';
import { type Prot } from '../mm/prot.ts';
import type { AtomicMeans } from '../mm/attributes.ts';
import { type DmaDevice } from '../mm/dma.ts';
import { type Copies, type Mappings, type Marks, type Ranges } from '../core/batch.ts';
import type { PeerBatch } from '../mm/peer-batch.ts';
import { type StateClass } from '../step/method.ts';
import { type Context } from './context.ts';
import { type FaultBatch } from './fault-batch.ts';

/** What an access wants to do. */
export type Access = 'read' | 'write';

/** Index into the driver's `memory`, HOST for the machine's own, or below HOST: the coherent memory of another device, which is used where it is. */
export type MemoryIndex = number;

/** The memory index that means the host's DRAM. */
export const HOST: MemoryIndex = -1;

/** Where a page is and what may be done to it: what `walk.translate` answers. */
export interface Translation {
  /** Virtual page number. */
  readonly vpn: number;
  /** Which memory: an index into the driver's `memory`, HOST, or one below HOST that `context.memoryOf` has named. */
  readonly memory: MemoryIndex;
  /** Page within that memory, counted from 0: a device address. The first 512 pages of HOST are pages of zeros. */
  readonly page: number;
  readonly write: boolean;
  /** The opaque bits that it was entered with; undefined: none. */
  readonly attributes?: number;
}

/** One memory of a device. */
export interface MemoryDescription {
  /** Unique in the driver; the node is called `<driver>.<name>`. */
  readonly name: string;
  /**
   * `private`: the CPU cannot reach it, a CPU touch brings the page home. `coherent`: the CPU uses a page there like one of its own, and only a migration brings it
   * home. Models: MEMORY_DEVICE_PRIVATE, MEMORY_DEVICE_COHERENT.
   */
  readonly kind: 'private' | 'coherent';
  /** Bytes, a multiple of 4096. */
  readonly bytes: number;
  /**
   * `backed` (default): its bytes are in the machine's memory. `metadata`: no bytes, only counts and states: a page that comes home is zeros, an access of the device ends in EIO. `external`: the driver holds the bytes;
   * the `copy` family is then required.
   */
  readonly bytesIn?: 'backed' | 'metadata' | 'external';
  /** Who hands its pages out: the core's buddy allocator (default), the driver's `phys` family, or the device itself: `peer` (the latter two: its first memory only). */
  readonly allocator?: 'core' | 'driver' | 'peer';
}

/** Its fields. */
export const MEMORY_FIELDS: NamesOf<MemoryDescription> = { name: true, kind: true, bytes: true, bytesIn: true, allocator: true };

/** Shape of a radix table: bits per level, leaves first. `[9, 9, 9, 9]` is x86-64's four levels. */
export interface TableGeometry {
  readonly bits: readonly number[];
}

/** Installs, changes and removes translations in the device's own table. None of these may fail, but for `enter` where there is no room: it throws ENOMEM, as the ready-made table does, and what it has not entered faults again. */
export interface Pmap {
  /** The context begins: called once, when the device is attached, before anything else of the family; one that throws refuses the attach. Models: `gm_mmu.pmap_create`. */
  create?(): void;
  /** Installs translations, in place of older ones. Models: `gm_mmu.pmap_enter`. */
  enter(mappings: Mappings): void;
  /** Removes every translation in the ranges. Models: `gm_mmu.pmap_release`. */
  release(ranges: Ranges): void;
  /** Changes the right to write of every translation in the ranges. With it a page that only loses that right stays readable (mprotect, fork, write-back); without it `release` is called. Models: `gm_mmu.pmap_protect`. */
  protect?(ranges: Ranges, write: boolean): void;
  /** The context ends; every translation has been released. Not called when `create` has thrown. Models: `gm_mmu.pmap_destroy`. */
  destroy?(): void;
}

/** Empties the device's translation caches. A ticket says that the flush is not finished: nothing is freed before it is. */
export interface Tlb {
  /** Models: `gm_mmu.tlb_invl`. */
  invalidate(ranges: Ranges): Ticket | void;
  /** One flush for several ranges; without it `invalidate` gets them all. Models: `gm_mmu.tlb_invl_coalesced`. */
  invalidateCoalesced?(ranges: Ranges): Ticket | void;
}

/** The driver's own way from a page to where it is. */
export interface Walk {
  /** The translation of a page if it allows the access; `undefined` raises a device fault. It is used before the next call: a driver may answer with the same object again. */
  translate(vpn: number, access: Access): Translation | undefined;
  /**
   * Takes the accessed and dirty marks of the pages in the ranges: `marks.add(vpn, dirty)` for each page that has been accessed, whose marks are cleared in the table. A mark may be there
   * without an access, never missing after one; the first write through a translation that a read has filled sets dirty. Its caches are emptied right after it, by
   * `tlb.invalidate` of those pages, so that the next access marks again. Models: `iommu_dirty_ops.read_and_clear_dirty`, `mmu_notifier_ops.clear_young`.
   */
  harvest?(ranges: Ranges, marks: Marks): void;
}

/** The device's copy engine. A ticket says that the copies are not finished; the pages wait for it. */
export interface Copy {
  toDevice?(copies: Copies): Ticket | void;
  toHost?(copies: Copies): Ticket | void;
  /**
   * Copies between its memory and that of another device, over their link (`machine.link`), either way: having it says that this engine reaches the other's memory. `copies.each` names the other
   * side by a memory index below HOST, `copies.eachPeer` names both sides as their own drivers do. Without it the engine of the other driver does it, else the core; a page of an external
   * memory goes by way of the host then. Models: `gm_memcpy_kind` D2D, `copy_to_devmem` between peers.
   */
  peer?(copies: Copies): Ticket | void;
  /** Fills target pages with zeros. Models: the zero-fill of `gm_mmu.prepare_page`. */
  zero?(copies: Copies): Ticket | void;
}

/** The driver's own allocator for its first memory, in pages of that memory. Models: `alloc_page`, `free_page` of the GMEM cover letter. */
export interface Phys {
  /** A page that is not in use, or `undefined` when none is free. */
  allocPage(): number | undefined;
  /** A page came free, for whatever reason: munmap, a CPU touch, an eviction, a refused migration. */
  freePage(page: number): void;
  /**
   * Fills pages that `allocPage` gave, with pages of the host or with zeros (a source memory of -1 and no source page): in place of `copy.toDevice` and `copy.zero`. Models: `gm_mmu.prepare_page`.
   */
  preparePage?(copies: Copies): Ticket | void;
  /**
   * Pages to bring home so that `allocPage` succeeds; an empty list when nothing may go now. `spared`: whether the operation under way has been given that page
   * or needs it where it is; none of those may be among them.
   */
  victims?(spared: (page: number) => boolean): readonly number[];
}

/**
 * The device does in one go what the framework else does in steps: an operating system of its own, behind messages. A batch is answered item by item (`batch.answer`); one that is not finished is answered
 * before its ticket ends. What does not succeed has left the device as it was, and the page stays where it is with its bytes.
 */
export interface Peer {
  /**
   * Each item's page is on the device when it succeeds: a page of its memory (the item's, or one that `batch.place` gives an item without), the bytes copied or cleared (`batch.copies(item)`), the translation
   * entered in place of an older one, which has left the caches before a byte was copied. Models: `gm_mmu.peer_map`.
   */
  map(batch: PeerBatch): Ticket | void;
  /**
   * Each item's translations are gone when it succeeds, from table and caches, and after that the bytes of one to be copied are in the host's page. The page of the device is not free by that: `freePage` says so. An
   * item without bytes must succeed. Models: `gm_mmu.peer_unmap`.
   */
  unmap(batch: PeerBatch): Ticket | void;
  /**
   * Pages of a memory that the device hands out, `count` of them or fewer: from then on the framework gives them to the pages that it brings, and none of them comes back. An empty list: it has none; it is not
   * asked again before a page of that memory comes free. Without it the device chooses each page when it is brought (`batch.place`). Models: `gm_mmu.import_phys_mem`.
   */
  importPages?(count: number): readonly number[];
  /** A page that `batch.place` gave came free, for whatever reason; `pages`: 512 for a huge one. */
  freePage?(page: number, pages: number): void;
}

/** The driver in control of its faults: its fault buffer is handed over when every lane has stalled or finished. */
export interface FaultService {
  /** The step that serves this batch; the framework replays all stalled lanes when it is DONE. */
  service(batch: FaultBatch): Step;
}

/**
 * The device hands out its addresses itself, as one with an operating system of its own does: memory that is peer-shared has to be at an address that it takes, too. It is asked at `mmap`, and when it is attached for what is
 * there already. What it has reserved is what is peer-shared in the space at any time; there is no other count of it.
 */
export interface PeerVa {
  /**
   * Reserves exactly `[start, start + bytes)`, addresses and whole pages. `nomem`: something of it is not free; `failure`: it cannot be done; nothing has changed then. A ticket says that the answer comes later: completed, it is
   * success; failed for the reason `nomem`, that; failed for another reason, a failure. Throwing fails the context. `prot`: the rights that the memory begins with. Models: `gm_mmu.peer_va_alloc_fixed`.
   */
  allocFixed(start: number, bytes: number, prot: Prot): 'success' | 'nomem' | 'failure' | Ticket;
  /**
   * Frees `[start, start + bytes)`, all of which it has reserved: a part of a range, one, or several that touch. Cannot fail. A ticket says that it is not done yet: the addresses are nobody's before it is.
   * Models: `gm_mmu.peer_va_free`.
   */
  free(start: number, bytes: number): Ticket | void;
}

/** A driver's command under way. */
export interface CommandStep extends Step {
  /** What `context.command` returns, once the step is DONE. */
  readonly result: unknown;
}

/** The operations of a device in one address space. */
export interface GmMmu {
  readonly pmap?: Pmap;
  readonly tlb?: Tlb;
  readonly walk?: Walk;
  readonly copy?: Copy;
  readonly phys?: Phys;
  readonly peer?: Peer;
  readonly fault?: FaultService;
  readonly peerVa?: PeerVa;
  /** The step behind `context.command(request)`: the driver's control interface. Throws for a request that it does not know. Models: an ioctl. */
  command?(request: unknown): CommandStep;
  /**
   * What this context has beside the machine's state, for a machine that is being saved: plain data, arrays, maps, typed arrays, objects of the machine (tickets, kept copies),
   * instances of `driver.classes`. `attach(context, saved)` gets it back. Required of a driver with a table or an allocator of its own, unless `driver.save` says it all.
   */
  save?(): unknown;
  /** The device runs this address space from now on: its table is the one that is walked. For a device that runs one at a time. Models: `gm_dev_switch`. */
  load?(): void;
  /** The device runs another one from now on: caches whose translations do not say of which address space they are have to be emptied. */
  unload?(): void;
  /** The device leaves this address space. */
  detach?(): void;
}

export type { AtomicMeans } from '../mm/attributes.ts';

/** A device, before it is in a machine. One object is one device: what it keeps outside of `attach` is of the machine that it is in. */
export interface Driver {
  /** Lower case letters, digits, `-`: names the device and its nodes. */
  readonly name: string;
  /**
   * Page sizes that entries of the ready-made table may have, in bytes: 4096, and powers of two up to 1 GiB. Runs that are aligned and contiguous get the largest
   * that fits; a size between two levels is a group of neighbouring entries. Default: 4096 only.
   */
  readonly pageBytes?: readonly number[];
  readonly memory?: readonly MemoryDescription[];
  /** How much one fault moves or maps: a power of two between 4096 and 2 MiB. Default: 4096. */
  readonly granuleBytes?: number;
  /** Records that the fault buffer holds. Default: FAULT_BUFFER_ENTRIES. */
  readonly faultEntries?: number;
  /** Whether it can wait for a page, and try the access again. Without it the pages of a job are brought and held beforehand, and a fault fails the job. Default true. Models: `GM_DEV_CAP_REPLAYABLE`. */
  readonly replayable?: boolean;
  /** How many address spaces it can run at a time; with `one`, they take turns. Default 'all'. Models: `gm_dev.current_ctx`. */
  readonly activeContexts?: 'one' | 'all';
  /** What its hardware has for atomics, the best first; see `context.atomic`. Default: none. */
  readonly atomics?: readonly AtomicMeans[];
  /** How it stands on the bus, for drivers that map pages for DMA by themselves (`context.hmm.dmaMap`). Default: behind an IOMMU of 48 bits, peers through the host bridge. */
  readonly dma?: Omit<DmaDevice, 'name' | 'owner'>;
  /** The format of the table that its hardware walks; equal to that of an address space (`HOME_TABLE_FORMAT`), the device can share the table of the CPU. Models: the `cookie` of `gm_mmu`. */
  readonly tableFormat?: string;
  /** How it is attached when nobody says. Default 'exclusive'. */
  readonly mode?: AttachMode;
  /**
   * Bits of the addresses that it can put on its bus, 21 to 48. Memory above is not there for it: an access ends in EFAULT, nothing of it is entered into its table; peer-shared memory is placed below. Default: 48.
   */
  readonly addressBits?: number;
  /** Shape of its table, when it uses the ready-made one. Default: four levels of 9 bits. */
  readonly geometry?: TableGeometry;
  /** The device in one address space. `saved`: what `save` of the families returned, when a saved machine is restored; the ready-made table and TLB are filled then. */
  attach(context: Context, saved?: unknown): GmMmu;
  /** The device is reset: its engines, rings and caches are as at power-on. Its unfinished tickets have failed; they are not its own any more. What `phys` has handed out stays handed out. */
  reset?(): void;
  /** What the device has counted by itself, whole numbers by name, for whoever reports: messages that it was sent, say. The names are the same at any time. */
  counts?(): Readonly<Record<string, number>>;
  /** Classes of this driver whose instances are in saved machines, its own steps among them. Their state is in fields that can be seen, without `#`. */
  readonly classes?: readonly StateClass[];
  /** What its address spaces share beside the machine's state, as `GmMmu.save`. */
  save?(): unknown;
  /** Takes back what `save` returned, before any `attach`. */
  restore?(saved: unknown): void;
}

/** Its fields. */
export const DRIVER_FIELDS: NamesOf<Driver> = {
  name: true,
  memory: true,
  granuleBytes: true,
  pageBytes: true,
  tableFormat: true,
  mode: true,
  geometry: true,
  faultEntries: true,
  replayable: true,
  activeContexts: true,
  atomics: true,
  dma: true,
  addressBits: true,
  attach: true,
  reset: true,
  counts: true,
  classes: true,
  save: true,
  restore: true,
};

/** Makes a driver from options: what a driver module exports by default. */
export interface DriverFactory<Options extends object> {
  (options?: Options): Driver;
  /** How `isDriverFactory` knows one. */
  readonly driverFactory: true;
}

export const FAULT_BUFFER_ENTRIES = 256;

/** What stands beside the families. */
const FUNCTIONS: readonly string[] = ['detach', 'command', 'save', 'load', 'unload'];

const FAMILIES: Readonly<Record<string, { readonly required: readonly string[]; readonly optional: readonly string[] }>> = {
  pmap: { required: ['enter', 'release'], optional: ['create', 'protect', 'destroy'] },
  tlb: { required: ['invalidate'], optional: ['invalidateCoalesced'] },
  walk: { required: ['translate'], optional: ['harvest'] },
  copy: { required: [], optional: ['toDevice', 'toHost', 'zero', 'peer'] },
  phys: { required: ['allocPage', 'freePage'], optional: ['preparePage', 'victims'] },
  peer: { required: ['map', 'unmap'], optional: ['importPages', 'freePage'] },
  fault: { required: ['service'], optional: [] },
  peerVa: { required: ['allocFixed', 'free'], optional: [] },
};

/**
 * Declares a driver: a function from its options (all of them optional) to the driver itself. `names`: the options that there are, as `{ vram: true, granule: true }`; any other is then refused by name. Without it
 * `make` gets whatever it is given. Errors: EINVAL.
 */
export function defineDriver<Options extends object = Record<string, never>>(
  make: (options: Options) => Driver,
  names?: NamesOf<NoInfer<Options>>,
): DriverFactory<Options> {
  requireFunction('defineDriver.make', make);
  if (names !== undefined) requireObject('defineDriver.names', names, 'an object with the names of the options');
  const factory = (options?: Options): Driver => {
    if (options === undefined) return make({} as Options);
    requireObject('driver options', options, 'an object');
    if (names !== undefined) requireNames('driver', options, names, 'option');
    return make(options);
  };
  return Object.assign(factory, { driverFactory: true as const });
}

/** True for what `defineDriver` returns. */
export function isDriverFactory(value: unknown): value is DriverFactory<object> {
  return typeof value === 'function' && (value as { driverFactory?: unknown }).driverFactory === true;
}

/** True when a translation exists and allows the access. */
export function permits(translation: Translation | undefined, access: Access): translation is Translation {
  return translation !== undefined && (access === 'read' || translation.write);
}

/** Throws EINVAL for an answer of `walk.translate` that is no translation of page `vpn`. For every page: nothing is made before it is wrong. */
export function requireTranslation(driver: string, vpn: number, answer: Translation): void {
  if (typeof answer !== 'object' || (answer as unknown) === null)
    throw fail('EINVAL', `${driver}.walk.translate result`, answer, 'is neither a translation nor undefined');
  if (answer.vpn !== vpn)
    throw fail('EINVAL', `${driver}.walk.translate result.vpn`, answer.vpn, `is not the page that was asked for, ${vpn}`);
  if (typeof answer.write !== 'boolean')
    throw fail('EINVAL', `${driver}.walk.translate result.write`, answer.write, 'is not true or false');
}

/** Throws EINVAL when a driver's families or operations are not ones that the framework drives. */
export function checkFamilies(driver: string, mmu: GmMmu): void {
  if (typeof mmu !== 'object' || mmu === null) throw fail('EINVAL', `${driver}.attach result`, mmu, 'is not an object of families');
  for (const [family, operations] of Object.entries(mmu)) {
    if (operations === undefined) continue;
    if (FUNCTIONS.includes(family)) {
      if (typeof operations !== 'function') throw fail('EINVAL', `${driver}.${family}`, operations, 'is not a function');
      continue;
    }
    const known = Object.hasOwn(FAMILIES, family) ? FAMILIES[family] : undefined;
    if (!known) throw fail('EINVAL', `${driver} family`, family, `is unknown: the families are ${Object.keys(FAMILIES).join(', ')}`);
    if (typeof operations !== 'object' || operations === null)
      throw fail('EINVAL', `${driver}.${family}`, operations, 'is not an object of operations');
    for (const required of known.required) {
      if (typeof (operations as Record<string, unknown>)[required] !== 'function') {
        throw fail('EINVAL', `${driver}.${family}.${required}`, (operations as Record<string, unknown>)[required], 'is not a function');
      }
    }
    for (const optional of known.optional) {
      const operation = (operations as Record<string, unknown>)[optional];
      if (operation !== undefined && typeof operation !== 'function')
        throw fail('EINVAL', `${driver}.${family}.${optional}`, operation, 'is not a function');
    }
    if (Object.getPrototypeOf(operations) !== Object.prototype) continue;
    for (const operation of Object.keys(operations)) {
      if (!known.required.includes(operation) && !known.optional.includes(operation)) {
        throw fail(
          'EINVAL',
          `${driver}.${family} operation`,
          operation,
          `is unknown: ${family} has ${[...known.required, ...known.optional].join(', ')}`,
        );
      }
    }
  }
}
