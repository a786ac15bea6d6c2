/** What the counted events would have taken: prices of a preset times counters, in integer nanoseconds. */
import type { Counters, Histogram } from './counters.ts';
import { PAGE_BYTES } from './frame.ts';

/** Prices. Everything is an integer; a link is a latency for each transfer and picoseconds for each KiB. */
export interface Preset {
  cpuAccessNs: number;
  deviceAccessNs: number;
  cpuWalkNs: number;
  deviceWalkNs: number;
  cpuFaultNs: number;
  batchNs: number;
  recordNs: number;
  invalidationNs: number;
  linkLatencyNs: number;
  toDevicePsPerKiB: number;
  toHostPsPerKiB: number;
}

export interface ModelledNs {
  access: number;
  walk: number;
  cpuFault: number;
  batch: number;
  invalidation: number;
  toDevice: number;
  toHost: number;
}

export function modelledNs(counters: Counters, preset: Preset): ModelledNs {
  const { accesses, tlb, faults, detail, invalidations, transfers } = counters;
  const deviceMisses = Object.values(tlb.devices).reduce((total, { miss }) => total + miss, 0);
  return {
    access: accesses.cpu * preset.cpuAccessNs + accesses.device * preset.deviceAccessNs,
    walk: tlb.cpu.miss * preset.cpuWalkNs + deviceMisses * preset.deviceWalkNs,
    cpuFault: faults.cpu * preset.cpuFaultNs,
    batch: detail.batches * preset.batchNs + detail.recorded * preset.recordNs,
    invalidation: invalidations * preset.invalidationNs,
    toDevice: linkNs(transfers.toDevice, preset.linkLatencyNs, preset.toDevicePsPerKiB),
    toHost: linkNs(transfers.toHost, preset.linkLatencyNs, preset.toHostPsPerKiB),
  };
}

/** Each transfer is rounded down by itself. */
function linkNs(transfers: Histogram, latencyNs: number, psPerKiB: number): number {
  let total = 0;
  for (const [pages, times] of Object.entries(transfers)) {
    total += times * (latencyNs + Math.floor((Number(pages) * (PAGE_BYTES / 1024) * psPerKiB) / 1000));
  }
  return total;
}
