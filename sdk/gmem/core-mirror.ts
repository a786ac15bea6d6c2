/**
 * What a context has in the core, when it has all of it there: the ready-made table and TLB, entered into by its own faults alone and flushed at once. Whoever moves a page can then change them in the core, in
 * the same call that moves it, and tells the context afterwards.
 */
import type { Copies } from '../core/batch.ts';
import type { CoreMirror } from '../mm/device-memory.ts';
import type { IntervalNotifier } from '../mm/notifier.ts';
import type { Ticket } from '../step/ticket.ts';
import type { Context } from './context.ts';
import type { DeviceTable } from './device-table.ts';

/** The one of a context. It stays for as long as the context's families do; whether it may be used at the moment is `isWhole`. */
export class ReadyMirror implements CoreMirror {
  readonly descriptor: number;
  readonly slot: number;
  readonly notifier: IntervalNotifier;
  private readonly context: Context;

  constructor(context: Context, table: DeviceTable) {
    this.context = context;
    this.descriptor = table.table;
    this.slot = context.slot;
    this.notifier = context.notifier;
  }

  /** Whether nothing is advised or owed that a migration would have to look at, and the context works. */
  get isWhole(): boolean {
    const { context } = this;
    return context.works && context.replicas.size === 0 && context.marks.areTold && context.space.attributes.size === 0;
  }

  get mayEnter(): boolean {
    return this.context.mayEnter;
  }

  get hasEngine(): boolean {
    const { copy, phys } = this.context.mmu;
    return copy !== undefined || phys?.preparePage !== undefined;
  }

  copy(operation: 'toDevice' | 'toHost' | 'zero', copies: Copies): Ticket | void {
    return this.context.device.copyIn(this.context, copies, operation);
  }

  withdrawn(): void {
    this.context.flushes.countOne();
  }

  enterOne(vpn: number, frame: number): void {
    this.context.installAsHome(vpn, frame);
  }
}
