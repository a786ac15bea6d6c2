/**
 * The device without memory: it works on host frames through a mirror of the host's table. Its driver serves records as they came: each
 * faults its own page in on the host, and looks at the granule around it. Models: `hmm_range_fault` in `lib/test_hmm.c`.
 */
import { isAllowed } from './batch.ts';
import type { ModelContext, ModelDevice, Service } from './context.ts';
import type { Counters } from './counters.ts';
import { faultCause, resolve } from './fault.ts';
import { hostMemoryExhausted } from './frame.ts';
import type { FaultRecord } from './lanes.ts';
import { granuleBlock } from './vma.ts';

export interface MirrorOptions {
  name: string;
  /** Pages that one fault looks at. */
  granulePages: number;
  /** Records that the fault buffer holds. */
  faultEntries: number;
  /** Its table cannot take the right to write alone: the translation goes. */
  ownTable?: boolean;
}

export class ModelMirror implements ModelDevice {
  readonly name: string;
  readonly granulePages: number;
  readonly faultEntries: number;
  readonly protects: boolean;
  readonly #counters: Counters;

  constructor(options: MirrorOptions, counters: Counters) {
    this.name = options.name;
    this.granulePages = options.granulePages;
    this.faultEntries = options.faultEntries;
    this.protects = options.ownTable !== true;
    this.#counters = counters;
  }

  serve(context: ModelContext, records: readonly FaultRecord[]): Service {
    const service: Service = { served: 0, cancelled: new Set() };
    for (const record of records) {
      if (isAllowed(context.space, record, service.cancelled)) {
        if (context.permits(record.vpn, record.write)) {
          this.#counters.detail.coalesced += 1;
          continue;
        }
        rangeFault(context, record, this.granulePages);
      }
      service.served += 1;
    }
    return service;
  }

  migrate(): number {
    return 0;
  }

  migrateHome(): number {
    return 0;
  }

  leave(): boolean {
    return true;
  }
}

/** Makes the page of a record present on the host, then enters whatever of its granule lies in host memory. */
function rangeFault(context: ModelContext, { vpn, write }: FaultRecord, granulePages: number): void {
  const { space } = context;
  for (let cause = faultCause(space, vpn, write); cause !== undefined; cause = faultCause(space, vpn, write)) {
    if (!resolve(space, vpn, cause)) throw hostMemoryExhausted();
  }
  const block = granuleBlock(space.vmas.find(vpn)!, vpn, granulePages);
  for (let page = block.start; page < block.end; page++) {
    const entry = space.pages.get(page);
    if (entry !== undefined && entry.kind !== 'device') context.enter(page);
  }
}
