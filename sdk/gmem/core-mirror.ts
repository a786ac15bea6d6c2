/**
 * What a context has in the core, when it has all of it there: the ready-made table and TLB, entered into by its own faults alone and flushed at once. Whoever moves a page can then change them in the core, in
 * the same call that moves it, and tells the context afterwards.
 */
import type { Copies } from '../core/batch.ts';
import type { CoreMirror } from '../mm/device-memory.ts';
import type { IntervalNotifier } from '../mm/notifier.ts';
import type { Ticket } from '../step/ticket.ts';
import type { DeviceMirror } from './device-mirror.ts';
import type { DeviceTable } from './device-table.ts';

/** The one of a context. It stays for as long as the context's families do; whether it may be used at the moment is `isWhole`. */
export class ReadyMirror implements CoreMirror {
  readonly descriptor: number;
  readonly slot: number;
  readonly notifier: IntervalNotifier;
  private readonly mirror: DeviceMirror;

  constructor(mirror: DeviceMirror, table: DeviceTable) {
    this.mirror = mirror;
    this.descriptor = table.table;
    this.slot = mirror.slot;
    this.notifier = mirror.notifier;
  }

  /** Whether nothing is advised or owed that a migration would have to look at, and the context works. */
  get isWhole(): boolean {
    const { mirror } = this;
    return mirror.works && mirror.replicas.size === 0 && mirror.marks.areTold && mirror.space.attributes.size === 0;
  }

  get mayEnter(): boolean {
    return this.mirror.mayEnter;
  }

  get hasEngine(): boolean {
    const { copy, phys } = this.mirror.mmu;
    return copy !== undefined || phys?.preparePage !== undefined;
  }

  copy(operation: 'toDevice' | 'toHost' | 'zero', copies: Copies): Ticket | void {
    return this.mirror.device.copyIn(this.mirror, copies, operation);
  }

  withdrawn(): void {
    this.mirror.flushes.countOne();
  }

  enterOne(vpn: number, frame: number): void {
    this.mirror.installAsHome(vpn, frame);
  }
}
