/**
 * A CPU fault: an access found no entry, or none with the right it needs.
 *
 * ```
 *   home entry             read                       write
 *   none                   page of zeros (zero)       zeroed frame (demand)
 *   page of zeros          -                          notifier CLEAR, zeroed frame (cow)
 *   present, no write      -                          the right comes back in place: the page is this space's own (reuse)
 *   device-private         migrate_to_ram (home), then the access looks again
 *   migration              waits for the page lock, then looks again
 *   poison                 bus error
 * ```
 *
 * Before that the VMA decides: none, or without the right, is a segmentation fault. Models: `handle_mm_fault`, `do_swap_page`.
 */
import * as L from '../../assembly/layout.ts';
import type { CpuFaultCause } from '../events.ts';
import { AGAIN, DONE, type Progress, type Run, type Step } from '../step/step.ts';
import type { AddressSpace } from './address-space.ts';
import { endInvalidation, Migration } from './migration.ts';
import { Invalidation } from './notifier.ts';
import type { Platform } from './platform.ts';
import { PROT_READ, PROT_WRITE } from './vma.ts';

/**
 * How a fault ended. `served`: the entry now allows the access, or the access is to look again. `no mapping`, `permission`: a segmentation
 * fault. `no memory`: no frame, table page or record is to be had. `bus error`: the bytes cannot be had.
 */
export type FaultOutcome = 'served' | 'no mapping' | 'permission' | 'no memory' | 'bus error';

const LOCK = 0;
const LOOK = 1;
const FLUSHED = 2;
const HOME = 3;

/** Serves one fault of one page. Reused by its owner. */
export class CpuFault implements Step {
  readonly name = 'cpu fault';
  outcome: FaultOutcome = 'served';
  readonly #platform: Platform;
  #space!: AddressSpace;
  #vpn = 0;
  #write = false;
  #forDevice = false;
  #phase = LOCK;
  readonly #clear: Invalidation = new Invalidation();
  /** Made when a page first has to come home: most faults need none. */
  #home: Migration | undefined;

  constructor(platform: Platform) {
    this.#platform = platform;
  }

  /**
   * For an access to page `vpn`. With `forDevice` it is served on behalf of a device, which holds the mmap lock already and is not counted among
   * the CPU's faults.
   */
  of(space: AddressSpace, vpn: number, write: boolean, forDevice = false): this {
    this.outcome = 'served';
    this.#space = space;
    this.#vpn = vpn;
    this.#write = write;
    this.#forDevice = forDevice;
    this.#phase = forDevice ? LOOK : LOCK;
    return this;
  }

  next(run: Run): Progress {
    switch (this.#phase) {
      case LOCK:
        if (!this.#space.mmapLock.tryAcquireShared(run)) return run.waitFor(this.#space.mmapLock);
        this.#phase = LOOK;
      // falls through
      case LOOK:
        return this.#look(run);
      case FLUSHED: {
        const { unfinished } = this.#clear;
        if (unfinished) return run.waitFor(unfinished);
        // While devices flushed, another fault may have been quicker, or the page may have gone to a device.
        if (this.#isZero()) this.#fresh();
        endInvalidation(this.#clear);
        return this.#end(run, this.outcome);
      }
      default:
        return this.#cameHome(run);
    }
  }

  abort(run: Run): void {
    endInvalidation(this.#clear);
    this.#unlock(run);
  }

  #end(run: Run, outcome: FaultOutcome): typeof DONE {
    this.outcome = outcome;
    this.#unlock(run);
    return DONE;
  }

  #unlock(run: Run): void {
    if (!this.#forDevice && run.holds(this.#space.mmapLock)) this.#space.mmapLock.release(run);
  }

  #look(run: Run): Progress {
    const space = this.#space;
    const { core } = this.#platform;
    const vma = space.vmas.find(this.#vpn);
    if (!vma) return this.#end(run, 'no mapping');
    if (!(vma.prot & PROT_READ) || (this.#write && !(vma.prot & PROT_WRITE))) return this.#end(run, 'permission');
    const high = core.entry(space.table, this.#vpn);
    switch (high & L.ENTRY_KIND) {
      case L.KIND_NONE:
        this.#count(this.#write ? 'demand' : 'zero');
        if (this.#write) this.#fresh();
        else if (!core.exports.mapZero(space.table, this.#vpn)) this.outcome = 'no memory';
        return this.#end(run, this.outcome);
      case L.KIND_PRESENT:
        return this.#present(run, high);
      case L.KIND_DEVICE_PRIVATE:
        return this.#callHome(run, core.nodeOf(core.entryLow));
      case L.KIND_MIGRATION:
        return run.waitFor(this.#platform.pageLocks.wait(core.entryLow));
      default:
        return this.#end(run, 'bus error');
    }
  }

  #present(run: Run, high: number): Progress {
    // Somebody else served it meanwhile.
    if (!this.#write || high & L.ENTRY_WRITE) return this.#end(run, 'served');
    if (!(high & L.ENTRY_ZERO)) {
      this.#count('reuse');
      this.#platform.core.exports.mapReuse(this.#space.table, this.#vpn);
      return this.#end(run, 'served');
    }
    this.#count('cow');
    // Before anybody is told: without a frame nothing changes.
    if (this.#platform.host.free === 0) return this.#end(run, 'no memory');
    this.#space.announce(this.#clear.set(this.#vpn, this.#vpn + 1, 'CLEAR'));
    this.#phase = FLUSHED;
    return AGAIN;
  }

  #fresh(): void {
    const { core, host } = this.#platform;
    if (core.exports.mapFresh(this.#space.table, this.#vpn, host.index) === L.FRAME_NONE) this.outcome = 'no memory';
  }

  #isZero(): boolean {
    const high = this.#platform.core.entry(this.#space.table, this.#vpn);
    return (high & L.ENTRY_KIND) === L.KIND_PRESENT && (high & L.ENTRY_ZERO) !== 0;
  }

  /**
   * `migrate_to_ram`: the device's whole granule comes home, the faulting page first. No reference is taken meanwhile: two faults on one page would each
   * be a holder that the other's migration does not know. Whoever collects the page first has it, the other one then waits for its page lock.
   */
  #callHome(run: Run, node: number): Progress {
    const space = this.#space;
    const memory = this.#platform.memories.get(node)!;
    this.#count('home');
    const { start, end } = space.granule(this.#vpn, memory.granulePages);
    this.#phase = HOME;
    this.#home ??= new Migration(this.#platform);
    return run.call(this.#home.toHost(space, start, end - start, memory, 'home', this.#vpn));
  }

  #cameHome(run: Run): Progress {
    switch (this.#home!.verdict(this.#vpn)) {
      case 'moved':
        return this.#end(run, 'served');
      case 'refused':
        return this.#end(run, this.#platform.host.free === 0 ? 'no memory' : 'bus error');
      case 'not collected':
        // Somebody else had it: look again. Unless somebody holds it.
        return this.#end(run, this.#isHeld() ? 'bus error' : 'served');
    }
  }

  /** Whether the page is on a device, and has a holder that is neither a mapping nor a migration. */
  #isHeld(): boolean {
    const { core } = this.#platform;
    if ((core.entry(this.#space.table, this.#vpn) & L.ENTRY_KIND) !== L.KIND_DEVICE_PRIVATE) return false;
    const record = core.frameRecord(core.entryLow);
    return core.field(record, L.FRAME_REFS) !== (core.field(record, L.FRAME_MAPS) & L.MAPS_MASK);
  }

  #count(cause: CpuFaultCause): void {
    const { events } = this.#platform;
    if (!this.#forDevice) events.counters.cpuFaults[cause]++;
    if (events.heard) {
      events.emit({ type: 'fault.cpu', space: this.#space.id, vpn: this.#vpn, write: this.#write, cause, forDevice: this.#forDevice });
    }
  }
}
