/** A job that has given its device, and with it the machine's one area for jobs, to another: what stood in the area. */
import * as L from '../../assembly/layout.ts';
import type { Core } from '../core/abi.ts';

/** Words of the job block: state, lanes, and those of them that are live. */
const blockWords = (lanes: number): number => (L.JOB_LANE_NEXT >>> 2) + lanes * 2;

/** What a job had in the area, to be put there again. */
export class PreemptedJob {
  private readonly block: Uint32Array;
  private readonly accesses: Uint32Array;
  private readonly values: Uint32Array;
  private readonly order: Uint32Array;

  /** Takes it out: `n` accesses on so many lanes, of which `executed` are done. */
  constructor(core: Core, n: number, lanes: number, executed: number) {
    this.block = core.words(L.AREA_JOB, blockWords(lanes)).slice();
    this.accesses = core.words(L.AREA_ACCESSES, n * 2).slice();
    this.values = core.words(L.AREA_VALUES, n * 2).slice();
    this.order = core.words(L.AREA_ORDER, executed).slice();
  }

  /** Puts it back. */
  putBack(core: Core): void {
    core.words(L.AREA_JOB, this.block.length).set(this.block);
    core.words(L.AREA_ACCESSES, this.accesses.length).set(this.accesses);
    core.words(L.AREA_VALUES, this.values.length).set(this.values);
    core.words(L.AREA_ORDER, this.order.length).set(this.order);
  }
}
