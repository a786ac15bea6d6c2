/**
 * A fault buffer's contents as its driver sees them: the records of one round, in the order in which the lanes wrote them. Lent to `fault.service` until the step
 * that it returns is done.
 */
import * as L from '../../assembly/layout.ts';
import type { Core } from '../core/abi.ts';
import { fail } from '../errors.ts';

/** One page that is to be served: a record, or several merged into one. */
export interface BatchFault {
  readonly vpn: number;
  /** The strongest access. */
  readonly write: boolean;
  /** Of merged records: whether one of them only reads, and can be served where a write is not allowed. */
  readonly reads?: boolean;
  /** The pages that the faulting access touches: all of them have to be there at once when it is replayed. */
  readonly spanStart: number;
  readonly spanPages: number;
}

/** One record. */
export interface DeviceFaultRecord extends BatchFault {
  readonly lane: number;
}

/** The records of one round, and what the driver says became of them. */
export class FaultBatch {
  private fetched: readonly DeviceFaultRecord[];
  private lost: number;
  /** Pages served: entered, or found to be there. For the report of progress. */
  served = 0;
  /** Records merged with another one, or found served by an earlier one of this batch. */
  coalesced = 0;
  /** Records put off: their lanes will fault again. */
  deferred = 0;
  /** Of those: by a policy about pages that go back and forth. */
  throttled = 0;
  // Made at the first page that is given up: most batches have none.
  private givenUp: Map<number, 'no mapping' | 'permission'> | undefined = undefined;
  private cancelledWrites: Map<number, 'no mapping' | 'permission'> | undefined = undefined;

  constructor(records: readonly DeviceFaultRecord[], overflow: number) {
    this.fetched = records;
    this.lost = overflow;
  }

  /** In the order in which the lanes wrote them. */
  get records(): readonly DeviceFaultRecord[] {
    return this.fetched;
  }

  /** Records that found no room: their lanes stall too, and will fault again. */
  get overflow(): number {
    return this.lost;
  }

  /** @internal Begins anew with other records. Requires: nobody has the last ones any more. */
  refill(records: readonly DeviceFaultRecord[], overflow: number): this {
    this.fetched = records;
    this.lost = overflow;
    this.served = 0;
    this.coalesced = 0;
    this.deferred = 0;
    this.throttled = 0;
    this.givenUp = undefined;
    this.cancelledWrites = undefined;
    return this;
  }

  /** Gives accesses to a page up, `write`: only those that write. Their lanes drop them and go on. For pages that have no mapping, or not the right. */
  cancel(vpn: number, write: boolean, reason: 'no mapping' | 'permission'): void {
    if (!Number.isSafeInteger(vpn) || vpn < 0 || vpn >= 2 ** L.VPN_BITS)
      throw fail('EINVAL', 'cancel.vpn', vpn, 'is not a page number below 2^36');
    if (typeof write !== 'boolean') throw fail('EINVAL', 'cancel.write', write, 'is not true or false');
    if (reason !== 'no mapping' && reason !== 'permission')
      throw fail('EINVAL', 'cancel.reason', reason, "is not one of: 'no mapping', 'permission'");
    (write ? (this.cancelledWrites ??= new Map()) : (this.givenUp ??= new Map())).set(vpn, reason);
  }

  /** Why such an access to a page is given up, if it is. */
  cancelled(vpn: number, write: boolean): 'no mapping' | 'permission' | undefined {
    return this.givenUp?.get(vpn) ?? (write ? this.cancelledWrites?.get(vpn) : undefined);
  }

  get cancels(): number {
    return (this.givenUp?.size ?? 0) + (this.cancelledWrites?.size ?? 0);
  }
}

/** A record that is written again for the next batch. */
type Refilled = { -readonly [field in keyof DeviceFaultRecord]: DeviceFaultRecord[field] };

/** The records of a fault buffer, lent batch by batch: the objects are used again. */
export class FaultRecords {
  private readonly list: Refilled[] = [];
  /** Those that a shorter batch had no use for. */
  private readonly spare: Refilled[] = [];

  /** Copies `count` records out of the core's fault area. */
  fetch(core: Core, count: number): readonly DeviceFaultRecord[] {
    const { list, spare } = this;
    while (list.length > count) spare.push(list.pop()!);
    while (list.length < count) list.push(spare.pop() ?? { vpn: 0, write: false, lane: 0, spanStart: 0, spanPages: 1 });
    const words = core.u32;
    const first = core.area(L.AREA_FAULTS) >>> 2;
    for (let i = 0; i < count; i++) {
      const at = first + ((i * L.FAULT_BYTES) >>> 2);
      const high = words[at + 1]!;
      const vpn = (high & 0xf) * 2 ** 32 + words[at]!;
      const before = (high & L.FAULT_SPAN_BEFORE) !== 0;
      const after = (high & L.FAULT_SPAN_AFTER) !== 0;
      const record = list[i]!;
      record.vpn = vpn;
      record.write = (high & L.FAULT_WRITE) !== 0;
      record.lane = words[at + 2]!;
      record.spanStart = before ? vpn - 1 : vpn;
      record.spanPages = before || after ? 2 : 1;
    }
    return list;
  }
}
