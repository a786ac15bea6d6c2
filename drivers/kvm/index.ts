/**
 * kvm: a virtual machine as a device. Its second-stage table maps what the guest calls memory to pages of the program that runs it, and is kept as a device's table is: a guest access that it
 * does not have is a fault, and before a page of the program changes its entry goes.
 *
 * ```
 *   slot         guest bytes [guest, guest + bytes) are the program's [addr, addr + bytes)             KVM_SET_USER_MEMORY_REGION
 *   access       guest address -> slot -> page of the program -> entry; none: a fault, served by the framework
 *   dirty log    which pages of a slot have been written since it was last asked for: get and clear     KVM_GET_DIRTY_LOG
 * ```
 *
 * The log is kept in one of two ways. `marks`: the walker sets a dirty mark at the first write through an entry, and asking takes the marks. `write protect`: asking takes the right to write from the
 * entries; the first write after that exits to the hypervisor, which notes the page and gives the right back, without a fault of the framework. In both, an entry that goes leaves what it
 * knows to the log. Two slots may show one page: they share its entry and its mark.
 *
 * Models: `kvm_mmu_page`, `kvm_mmu_notifier_invalidate_range_start`, `mark_page_dirty_in_slot`, `fast_page_fault`.
 */
import {
  type Access,
  type CommandStep,
  type Context,
  defineDriver,
  DONE,
  type Driver,
  type DriverFactory,
  fail,
  type GmMmu,
  type Harvest,
  type Mappings,
  Marks,
  PageMap,
  permits,
  type Progress,
  type Ranges,
  type Run,
  type Translation,
  Translations,
} from '../../sdk/gmem/index.ts';

const PAGE_BYTES = 4096;

/** How the dirty log is kept. */
export type DirtyLog = 'marks' | 'write protect';

/** Options of the kvm driver. */
export interface KvmOptions {
  /** Default `marks`. */
  readonly dirtyLog?: DirtyLog;
  /** How much one fault maps. 4096 (default) to 2 MiB. */
  readonly granule?: number;
}

/** What `context.command` takes: the dirty log of a range of the program, by page number, ascending; it is empty afterwards. `exits`: writes that the log itself has cost so far. */
export interface KvmRequest {
  readonly op: 'get dirty log' | 'exits';
  /** First page and pages. */
  readonly vpn?: number;
  readonly pages?: number;
}

/** The second stage of one guest, its TLB and its log. */
export class SecondStage {
  /** Writes that met a withheld right. */
  exits = 0;
  private readonly guards: boolean;
  private readonly entries = new Translations();
  private readonly cached = new Translations();
  /** Pages that were accessed since the marks were taken; 1: written. */
  private readonly marks = new PageMap();
  private readonly log = new PageMap();
  /** Marks of entries that go, and what is taken from the log. */
  private readonly last = new Marks();

  constructor(guards: boolean) {
    this.guards = guards;
  }

  /** A fault next to a page may enter it again: what the guest has done with it stays known. */
  enter(mappings: Mappings): void {
    this.entries.enter(mappings);
  }

  release(ranges: Ranges): void {
    this.harvest(ranges, this.last.clear());
    this.entries.release(ranges);
  }

  invalidate(ranges: Ranges): void {
    this.cached.release(ranges);
  }

  translate(vpn: number, access: Access): Translation | undefined {
    const known = this.cached.get(vpn);
    if (permits(known, access)) return known;
    const entry = this.entries.get(vpn);
    if (!permits(entry, access)) return undefined;
    const wasDirty = this.marks.get(vpn) === 1;
    const dirty = wasDirty || access === 'write';
    // `write protect` withholds the right to write from what is not dirty.
    if (dirty && !wasDirty && this.guards) this.exits++;
    this.marks.set(vpn, dirty ? 1 : 0);
    // Until it is dirty it is cached without the right to write, so that the first write is seen.
    return this.cached.set(vpn, entry.page, entry.memory, entry.write && dirty);
  }

  /** Takes the marks; what was written is in the log. The framework empties the TLB afterwards. */
  harvest(ranges: Ranges, marks: Marks): void {
    const first = marks.count;
    for (let i = 0; i < ranges.count; i++) this.marks.deleteRange(ranges.start(i), ranges.length(i), marks);
    for (let i = first; i < marks.count; i++) if (marks.isDirty(i)) this.log.set(marks.vpn(i), 1);
  }

  /** The log of these pages, ascending, which is empty afterwards. */
  take(start: number, pages: number): number[] {
    const taken = this.last.clear();
    this.log.deleteRange(start, pages, taken);
    taken.sort();
    return Array.from({ length: taken.count }, (_, i) => taken.vpn(i));
  }
}

/** Get and clear: the marks first, then the log that they and earlier ones have filled. */
export class GetDirtyLog implements CommandStep {
  readonly name = 'get dirty log';
  result: readonly number[] = [];
  private readonly table: SecondStage;
  private readonly harvest: Harvest;
  private readonly start: number;
  private readonly pages: number;
  /** Steps that have ended, to be used again. */
  private readonly spare: Harvest[];
  private called = false;

  constructor(context: Context, table: SecondStage, start: number, pages: number, spare: Harvest[]) {
    this.table = table;
    this.spare = spare;
    this.start = start;
    this.pages = pages;
    this.harvest = context.harvestStep({ start: start * PAGE_BYTES, end: (start + pages) * PAGE_BYTES }, spare.pop());
  }

  next(run: Run): Progress {
    if (!this.called) {
      this.called = true;
      return run.call(this.harvest);
    }
    this.spare.push(this.harvest);
    this.result = this.table.take(this.start, this.pages);
    return DONE;
  }
}

/** How many writes have exited. */
class CountExits implements CommandStep {
  readonly name = 'exits';
  readonly result: number;

  constructor(exits: number) {
    this.result = exits;
  }

  next(): Progress {
    return DONE;
  }
}

function attach(context: Context, guards: boolean, saved: unknown): GmMmu {
  const table = (saved as SecondStage | undefined) ?? new SecondStage(guards);
  const spare: Harvest[] = [];
  return {
    save: () => table,
    pmap: table,
    tlb: { invalidate: (ranges) => table.invalidate(ranges) },
    walk: table,
    command(request) {
      const { op, vpn, pages } = (request ?? {}) as Partial<KvmRequest>;
      if (op === 'exits') return new CountExits(table.exits);
      if (op !== 'get dirty log') throw fail('EINVAL', 'kvm.op', op, "is not one of: 'get dirty log', 'exits'");
      if (!Number.isSafeInteger(vpn) || !Number.isSafeInteger(pages) || vpn! < 0 || pages! < 1)
        throw fail('EINVAL', 'kvm.pages', pages, 'is not a range of pages');
      return new GetDirtyLog(context, table, vpn!, pages!, spare);
    },
  };
}

/** A virtual machine. */
const kvm: DriverFactory<KvmOptions> = defineDriver(
  ({ dirtyLog = 'marks', granule = PAGE_BYTES }: KvmOptions): Driver => {
    if (dirtyLog !== 'marks' && dirtyLog !== 'write protect')
      throw fail('EINVAL', 'kvm.dirtyLog', dirtyLog, "is not one of: 'marks', 'write protect'");
    return {
      name: 'kvm',
      granuleBytes: granule,
      attach: (context, saved) => attach(context, dirtyLog === 'write protect', saved),
      classes: [SecondStage, GetDirtyLog, CountExits],
    };
  },
  { dirtyLog: true, granule: true },
);

export default kvm;

/** Guest memory that is a range of the program. */
interface Slot {
  readonly guest: number;
  readonly addr: number;
  readonly bytes: number;
}

/** The guest that runs in a kvm context: memory by its own addresses. */
export class Guest {
  private readonly context: Context;
  private readonly slots: Slot[] = [];

  constructor(context: Context) {
    this.context = context;
  }

  /** Guest memory from `guest` on is the program's range. Throws EINVAL for a place that is not page-aligned, or taken. Models: KVM_SET_USER_MEMORY_REGION. */
  addSlot(guest: number, range: { readonly start: number; readonly end: number }): void {
    const bytes = range.end - range.start;
    if (!Number.isSafeInteger(guest) || guest < 0 || guest % PAGE_BYTES !== 0 || range.start % PAGE_BYTES !== 0 || bytes <= 0)
      throw fail('EINVAL', 'addSlot.guest', guest, 'is not a page of guest memory, and a range of whole pages for it');
    if (this.slots.some((slot) => guest < slot.guest + slot.bytes && slot.guest < guest + bytes))
      throw fail('EINVAL', 'addSlot.guest', guest, 'is in a slot already');
    this.slots.push({ guest, addr: range.start, bytes });
  }

  /** Reads guest memory. Throws EFAULT outside of all slots, which is where a hypervisor emulates a device. */
  read(guest: number, bytes: number): Uint8Array {
    return this.context.read(this.resolve(guest, bytes), bytes);
  }

  write(guest: number, bytes: Uint8Array): void {
    this.context.write(this.resolve(guest, bytes.length), bytes);
  }

  /** Guest page numbers of a slot that have been written since they were last asked for. Models: KVM_GET_DIRTY_LOG. */
  dirtyLog(guest: number): readonly number[] {
    const { addr, bytes, guest: first } = this.slot(guest, 1);
    const request: KvmRequest = { op: 'get dirty log', vpn: addr / PAGE_BYTES, pages: Math.ceil(bytes / PAGE_BYTES) };
    const log = this.context.command(request) as number[];
    for (let i = 0; i < log.length; i++) log[i]! += (first - addr) / PAGE_BYTES;
    return log;
  }

  /** Writes that the log has cost an exit. */
  get exits(): number {
    return this.context.command({ op: 'exits' } satisfies KvmRequest) as number;
  }

  private resolve(guest: number, bytes: number): number {
    const slot = this.slot(guest, bytes);
    return slot.addr + guest - slot.guest;
  }

  private slot(guest: number, bytes: number): Slot {
    const slot = this.slots.find((each) => guest >= each.guest && guest + bytes <= each.guest + each.bytes);
    if (!slot) throw fail('EFAULT', 'guest address', guest, 'is in no slot');
    return slot;
  }
}
