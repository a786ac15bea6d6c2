/** The block of the job that is being run, in its batch area: what `assembly/lanes.ts` keeps between two rounds, and says after each. */
import * as L from '../../assembly/layout.ts';
import type { Core } from './abi.ts';

export class JobBlock {
  /** Byte address. */
  readonly address: number;
  private readonly core: Core;
  private readonly first: number;

  constructor(core: Core) {
    this.core = core;
    this.address = core.area(L.AREA_JOB);
    this.first = this.address >>> 2;
  }

  /** Accesses executed so far. */
  get executed(): number {
    return this.core.u32[this.first + (L.JOB_EXECUTED >>> 2)]!;
  }

  /** Records of the last round in the fault buffer, and those that found no room there. */
  get faults(): number {
    return this.core.u32[this.first + (L.JOB_FAULTS >>> 2)]!;
  }

  get overflow(): number {
    return this.core.u32[this.first + (L.JOB_OVERFLOW >>> 2)]!;
  }

  /** Lanes that stalled in the last round. */
  get stalled(): number {
    return this.core.u32[this.first + (L.JOB_STALLED >>> 2)]!;
  }

  /** Index of the next access of a lane. */
  next(lane: number): number {
    return this.core.u32[this.first + (L.JOB_LANE_NEXT >>> 2) + lane]!;
  }
}
