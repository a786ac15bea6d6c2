/**
 * Lanes of a device whose driver translates by itself: the round of `assembly/lanes.ts`, over the same job block and the same areas, with one `walk.translate` a page.
 */
import * as L from '../../assembly/layout.ts';
import { fail } from '../errors.ts';
import type { Platform } from '../mm/platform.ts';
import { type Context } from './context.ts';
import { permits, requireTranslation } from './driver.ts';

/**
 * Byte address of the frame behind a page, as the driver translates it: 0 when its bytes are not in this memory, `undefined` for a fault.
 * A translation that the home table does not back any more marks the context failed: an invalidation should have removed it.
 */
export function translated(platform: Platform, context: Context, vpn: number, write: boolean): number | undefined {
  const access = write ? 'write' : 'read';
  const { core } = platform;
  let frame: number;
  try {
    const translation = context.mmu.walk!.translate(vpn, access);
    if (translation !== undefined) requireTranslation(context.name, vpn, translation);
    if (!permits(translation, access)) return undefined;
    frame = context.frameOf(translation);
  } catch (error) {
    throw context.failWith(error);
  }
  const high = core.entry(context.space.table, vpn);
  const kind = high & L.ENTRY_KIND;
  // A page that is being moved may be used until the flush has ended: its copy begins afterwards.
  const alone = kind === L.KIND_EXCLUSIVE || (kind === L.KIND_PRESENT && (high & L.ENTRY_PROMISES) === L.ENTRY_CPU_READS);
  const there = alone || kind === L.KIND_PRESENT || kind === L.KIND_DEVICE_PRIVATE || (kind === L.KIND_MIGRATION && context.flushing);
  const live = there && core.entryLow === frame && (!write || alone || (high & L.ENTRY_WRITE) !== 0);
  if (!live && (write || !context.readsCopy(vpn, frame))) {
    // A device that brings and takes pages by itself has translations of pages whose move is not over: it waits for the end, as for a page that is missing.
    if (context.coupled && (kind === L.KIND_MIGRATION || context.space.arrivals.meets(vpn))) return undefined;
    throw context.failWith(
      fail('ENODEV', `${context.name}.walk.translate of page`, vpn * L.PAGE_BYTES, 'is stale: an invalidation should have removed it'),
    );
  }
  return core.frameBytes(frame);
}

/** One access of a job. */
interface Access {
  vpn: number;
  offset: number;
  bytes: number;
  write: boolean;
  /** It ends in the page behind. */
  crosses: boolean;
}

export class WalkLanes {
  private readonly platform: Platform;
  private readonly context: Context;
  private readonly accesses: number;
  private readonly values: number;
  /** Filled anew for each. */
  private readonly access: Access = { vpn: 0, offset: 0, bytes: 0, write: false, crosses: false };
  /** Lanes that go on, in the order of their turns. */
  private readonly going: number[] = [];

  constructor(platform: Platform, context: Context, accessesAt: number, valuesAt: number) {
    this.platform = platform;
    this.context = context;
    this.accesses = accessesAt >>> 2;
    this.values = valuesAt;
  }

  /** One round; returns the lanes that stalled. */
  round(): number {
    const { core } = this.platform;
    const { u32 } = core;
    const job = core.area(L.AREA_JOB);
    const n = core.field(job, L.JOB_ACCESSES);
    const lanes = core.field(job, L.JOB_LANES);
    const order = core.area(L.AREA_ORDER) >>> 2;
    const cells = (job + L.JOB_LANE_NEXT) >>> 2;
    let executed = core.field(job, L.JOB_EXECUTED);
    let stalled = 0;
    core.setField(job, L.JOB_FAULTS, 0);
    core.setField(job, L.JOB_OVERFLOW, 0);
    const { going } = this;
    let left = 0;
    for (let lane = 0; lane < lanes; lane++) if (u32[cells + lane]! < n) going[left++] = lane;
    while (left > 0) {
      let kept = 0;
      for (let i = 0; i < left; i++) {
        const lane = going[i]!;
        const index = u32[cells + lane]!;
        if (!this.execute(index)) {
          this.record(job, lane, index);
          stalled++;
          continue;
        }
        u32[order + executed++] = index;
        u32[cells + lane] = index + lanes;
        if (index + lanes < n) going[kept++] = lane;
      }
      left = kept;
    }
    core.setField(job, L.JOB_EXECUTED, executed);
    core.setField(job, L.JOB_STALLED, stalled);
    return stalled;
  }

  /** Fills `access` with what access `index` is. */
  private decode(index: number): Access {
    const { u32 } = this.platform.core;
    const { access } = this;
    const low = u32[this.accesses + index * 2]!;
    const high = u32[this.accesses + index * 2 + 1]!;
    access.vpn = Math.floor(((high & L.ACCESS_ADDRESS_HIGH) * 2 ** 32 + low) / L.PAGE_BYTES);
    access.offset = low & (L.PAGE_BYTES - 1);
    access.bytes = ((high >>> L.ACCESS_LENGTH_SHIFT) & L.ACCESS_LENGTH) + 1;
    access.write = (high & L.ACCESS_WRITE) !== 0;
    access.crosses = access.offset + access.bytes > L.PAGE_BYTES;
    return access;
  }

  private at(vpn: number, write: boolean): number | undefined {
    const at = translated(this.platform, this.context, vpn, write);
    if (at === 0) throw fail('EIO', 'job access', vpn * L.PAGE_BYTES, 'is on a page whose bytes are not in this memory');
    return at;
  }

  private execute(index: number): boolean {
    const { vpn, offset, bytes, write, crosses } = this.decode(index);
    const first = this.at(vpn, write);
    const second = crosses ? this.at(vpn + 1, write) : 0;
    if (first === undefined || second === undefined) return false;
    this.context.translations += crosses ? 2 : 1;
    const { u8, u32 } = this.platform.core;
    const value = this.values + index * 8;
    // Where byte `i` is: from `last` on in the second page.
    const last = L.PAGE_BYTES - offset;
    const [near, far] = [first + offset, second - last];
    if (write) {
      const low = u32[value >>> 2]!;
      const high = u32[(value >>> 2) + 1]!;
      for (let i = 0; i < bytes; i++) {
        const part = i & 7;
        const word = part < 4 ? low + (i >>> 3) : high;
        u8[(i < last ? near : far) + i] = word >>> ((part & 3) << 3);
      }
      return true;
    }
    if (bytes <= 8) {
      for (let i = 0; i < 8; i++) u8[value + i] = i < bytes ? u8[(i < last ? near : far) + i]! : 0;
      return true;
    }
    let hash = 0;
    for (let i = 0; i < bytes; i += 4) {
      let word = 0;
      for (let part = 0; part < 4 && i + part < bytes; part++) word |= u8[(i + part < last ? near : far) + i + part]! << (part << 3);
      hash = Math.imul(hash ^ word, 0x01000193);
      hash ^= hash >>> 15;
    }
    u32[value >>> 2] = hash;
    u32[(value >>> 2) + 1] = bytes;
    return true;
  }

  private record(job: number, lane: number, index: number): void {
    const { vpn, write, crosses } = this.decode(index);
    if (this.misses(vpn, write)) this.push(job, vpn, (write ? L.FAULT_WRITE : 0) | (crosses ? L.FAULT_SPAN_AFTER : 0), lane, index);
    if (crosses && this.misses(vpn + 1, write)) this.push(job, vpn + 1, (write ? L.FAULT_WRITE : 0) | L.FAULT_SPAN_BEFORE, lane, index);
  }

  private misses(vpn: number, write: boolean): boolean {
    return translated(this.platform, this.context, vpn, write) === undefined;
  }

  private push(job: number, vpn: number, flags: number, lane: number, index: number): void {
    const { core } = this.platform;
    const count = core.field(job, L.JOB_FAULTS);
    if (count >= core.field(job, L.JOB_FAULTS_MAX)) {
      core.setField(job, L.JOB_OVERFLOW, core.field(job, L.JOB_OVERFLOW) + 1);
      return;
    }
    const slot = (core.area(L.AREA_FAULTS) + count * L.FAULT_BYTES) >>> 2;
    core.u32[slot] = vpn;
    core.u32[slot + 1] = (vpn / 2 ** 32) | flags;
    core.u32[slot + 2] = lane;
    core.u32[slot + 3] = index;
    core.setField(job, L.JOB_FAULTS, count + 1);
  }
}
