/**
 * nouveau: a discrete GPU with memory of its own and replayable faults, after the Linux driver of that name.
 *
 *   coalesce.ts   what it makes of a fault buffer: sorted, one fault a page
 *   vram.ts       VRAM in chunks: allocation and victims
 *   this file     the device: table geometry, copy engine, fault service, and the families put together
 *
 * A device fault moves the granule around the page to VRAM; a CPU touch brings it home; a VRAM that is full gives its least recently
 * allocated-into chunk back.
 */
import {
  type Context,
  type Copies,
  defineDriver,
  type Driver,
  type DriverFactory,
  deviceTable,
  deviceTlb,
  fail,
  GiB,
  type GmMmu,
  MiB,
} from '../../sdk/gmem/index.ts';
import { Coalescer } from './coalesce.ts';
import { Vram } from './vram.ts';

/** Options of the nouveau driver. */
export interface NouveauOptions {
  /** Bytes of VRAM, a multiple of 4096 and at least four chunks. Default 64 MiB. */
  readonly vram?: number;
  /** How much one fault moves: a power of two between 4096 (default) and 2 MiB. */
  readonly granule?: number;
  /** Records of the fault buffer. Default 256. */
  readonly faultEntries?: number;
  /**
   * Who hands VRAM out. `driver` (default): it does, in chunks, and gives whole chunks back. `core`: the machine's allocator, page by page, and the device's policy chooses what goes
   * (`machine.addDevice(nouveau({ allocator: 'core' }), { victims: 'lru' })`); then VRAM need not hold four chunks.
   */
  readonly allocator?: 'driver' | 'core';
}

/** Pascal's five levels, leaves first: 4 KiB pages, 2 MiB, 512 MiB, 256 GiB, and what is left of a 48-bit address. */
const PASCAL = { bits: [9, 8, 9, 9, 1] };

/** All that a machine can have. */
const VRAM_MAX = 4 * GiB;

/** The copy engine: one submission copies any number of pieces. */
class CopyEngine {
  submissions = 0;
  pages = 0;

  toDevice(copies: Copies): void {
    this.run(copies);
  }

  toHost(copies: Copies): void {
    this.run(copies);
  }

  zero(copies: Copies): void {
    this.run(copies);
  }

  private run(copies: Copies): void {
    this.submissions++;
    this.pages += copies.pages;
    copies.perform();
  }
}

/** A discrete GPU with `vram` bytes of memory. */
const nouveau: DriverFactory<NouveauOptions> = defineDriver(
  ({ vram = 64 * MiB, granule = 4096, faultEntries = 256, allocator = 'driver' }: NouveauOptions): Driver => {
    if (!Number.isSafeInteger(vram) || vram <= 0 || vram > VRAM_MAX || vram % 4096 !== 0)
      throw fail('EINVAL', 'nouveau.vram', vram, 'is not a positive multiple of 4096, up to 4 GiB');
    if (!Number.isInteger(granule) || granule < 4096 || granule > 2 * MiB || (granule & (granule - 1)) !== 0)
      throw fail('EINVAL', 'nouveau.granule', granule, 'is not a power of two between 4096 and 2 MiB');
    if (!Number.isSafeInteger(faultEntries) || faultEntries < 1)
      throw fail('EINVAL', 'nouveau.faultEntries', faultEntries, 'is not a positive count');
    if (allocator !== 'driver' && allocator !== 'core')
      throw fail('EINVAL', 'nouveau.allocator', allocator, "is not one of: 'driver', 'core'");
    let memory = allocator === 'driver' ? new Vram(Math.floor(vram / 4096), granule / 4096) : undefined;
    let engine = new CopyEngine();
    return {
      name: 'nouveau',
      pageBytes: [4096, 2 * MiB],
      memory: [{ name: 'vram', kind: 'private', bytes: vram, allocator }],
      granuleBytes: granule,
      faultEntries,
      classes: [CopyEngine, Vram],
      save: () => ({ memory, engine }),
      restore(saved) {
        ({ memory, engine } = saved as { memory: Vram | undefined; engine: CopyEngine });
      },
      attach(context: Context): GmMmu {
        const coalescer = new Coalescer();
        const serve = context.batchStep();
        return {
          pmap: deviceTable(context, PASCAL),
          tlb: deviceTlb(context),
          ...(memory && { phys: memory }),
          copy: engine,
          fault: {
            service(batch) {
              const faults = coalescer.of(batch.records);
              batch.coalesced += batch.records.length - faults.length;
              return serve.of(batch, faults);
            },
          },
        };
      },
    };
  },
  { vram: true, granule: true, faultEntries: true, allocator: true },
);

export default nouveau;
