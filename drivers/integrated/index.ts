/**
 * integrated: a GPU on the processor's die. It has no memory and no page table of its own: it walks the table of the CPU, so whatever the CPU has, it has, and a fault of either serves both.
 *
 * What a driver of such a device is left with:
 *
 * ```
 *   format     the table that its walker understands, which has to be that of the address space (the `cookie` of GMEM)
 *   TLB        what the walker has cached; it is emptied before an entry of the CPU changes, as that of any other device
 *   atomics    on its bus they are the CPU's own
 * ```
 *
 * Models: an Intel GPU behind an IOMMU with first-stage translation (SVA), `GM_MMU_MODE_SHARE`.
 */
import {
  type Context,
  defineDriver,
  deviceTable,
  deviceTlb,
  type Driver,
  type DriverFactory,
  fail,
  type GmMmu,
  HOME_TABLE_FORMAT,
} from '../../sdk/gmem/index.ts';

/** Options of the integrated driver. */
export interface IntegratedOptions {
  /** Records of the fault buffer. Default 256. */
  readonly faultEntries?: number;
  /** Sets of its TLB, four ways each: a power of two up to 256, the default. */
  readonly tlbSets?: number;
}

/** An integrated GPU. */
const integrated: DriverFactory<IntegratedOptions> = defineDriver(
  ({ faultEntries = 256, tlbSets = 256 }: IntegratedOptions): Driver => {
    if (!Number.isSafeInteger(faultEntries) || faultEntries < 1)
      throw fail('EINVAL', 'integrated.faultEntries', faultEntries, 'is not a positive count');
    return {
      name: 'integrated',
      tableFormat: HOME_TABLE_FORMAT,
      mode: 'share',
      atomics: ['native'],
      faultEntries,
      attach: (context: Context): GmMmu => ({ pmap: deviceTable(context), tlb: deviceTlb(context, tlbSets) }),
    };
  },
  { faultEntries: true, tlbSets: true },
);

export default integrated;
