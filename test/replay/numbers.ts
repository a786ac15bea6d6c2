/** The numbers of a replay in the shape of the model's report. */
import type { Replay } from '../../sdk/replay/replay.ts';
import type { ModelReport } from '../../sdk/testing/model/replay.ts';

export function numbersOf(replay: Replay): ModelReport {
  const { machine, space, context } = replay;
  const { counters } = machine;
  const { name } = context;
  const sum = (record: Readonly<Record<string, number>>): number => Object.values(record).reduce((total, each) => total + each, 0);
  const vram = context.device.memory?.node.name;
  const none = { pages: 0, bytes: 0 };
  const recorded = counters.deviceFaults[name] ?? 0;
  return {
    accesses: { cpu: replay.cpu, device: replay.device, read: replay.reads, write: replay.writes },
    tlb: { cpu: space.tlbCounts, devices: { [name]: context.tlbCounts } },
    faults: { cpu: sum(counters.cpuFaults), devices: { [name]: recorded } },
    migrated: vram
      ? {
          dram: { [vram]: { ...(counters.migrated['dram']?.[vram] ?? none) } },
          [vram]: { dram: { ...(counters.migrated[vram]?.['dram'] ?? none) } },
        }
      : {},
    evictions: counters.evictions,
    invalidations: counters.invalidations,
    frames: Object.fromEntries(machine.nodes.map((node) => [node.name, { peak: node.peak }])),
    detail: {
      cpuFaults: { ...counters.cpuFaults },
      batches: counters.batches,
      batchSizes: Object.fromEntries(counters.batchSizes.flatMap((times, i) => (times > 0 ? [[2 ** i, times]] : []))),
      recorded,
      coalesced: counters.coalesced,
      deferred: counters.deferred,
      cancelled: counters.cancelled,
      overflow: counters.overflow,
      cleared: counters.cleared,
      migratedByCause: {
        fault: counters.migratedByCause.fault.pages,
        home: counters.migratedByCause.home.pages,
        evict: counters.migratedByCause.evict.pages,
      },
    },
  };
}
