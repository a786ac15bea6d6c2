/**
 * The totals of a replay: what its machine has counted, folded into a report, and the time that this would have taken by the constants of a preset.
 *
 * `modelledNs` of a report is the sum of its `modelledParts`, each a count times a constant; nothing is estimated.
 */
import * as L from '../../assembly/layout.ts';
import { fail } from '../errors.ts';
import type { Counters, Traffic } from '../events/counters.ts';
import type { Context } from '../gmem/context.ts';
import { requireObject } from '../mm/arguments.ts';
import type { Preset } from '../policy/preset.ts';
import { type LinkWay, transferNs } from './cost.ts';
import { type OffloadRange, printRange } from './offload.ts';
import type { ReplayOptions } from './replay-options.ts';
import type { ModelledParts, ReplayDetail, ReplayReport } from './report.ts';
import type { Replay } from './replay.ts';

/** The report of a replay that has ended. `trace`: what was seen of it; `host`: what the replay took there. */
export function reportOf(
  replay: Replay,
  options: ReplayOptions,
  trace: { readonly instructions: number; readonly unmet: readonly OffloadRange[] },
  host: { wallMs: number; replayMs: number },
): ReplayReport {
  const { machine, context, contexts, space } = replay;
  const { counters, nodes } = machine;
  const ofEach = <T>(of: (each: Context, i: number) => T): Record<string, T> =>
    Object.fromEntries(contexts.map((each, i) => [each.name, of(each, i)]));
  const records = ofEach(({ name }) => counters.deviceFaults[name] ?? 0);
  const memories = contexts.flatMap(({ device }) => device.memories);
  const parts = modelledParts(replay, options.preset);
  const cpu = nodes[0]!.name;
  const none = { pages: 0, bytes: 0 };
  const { addressUnit } = machine;
  /** In bytes. */
  const whole = ({ pages, bytes }: Readonly<Traffic>): Traffic => ({ pages, bytes: bytes * addressUnit });
  const migrated: Record<string, Record<string, { pages: number; bytes: number }>> = {};
  for (const { node } of memories) {
    (migrated[cpu] ??= {})[node.name] = whole(counters.migrated[cpu]?.[node.name] ?? none);
    const away = Object.entries(counters.migrated[node.name] ?? {}).map(([to, traffic]) => [to, whole(traffic)] as const);
    migrated[node.name] = { [cpu]: none, ...Object.fromEntries(away) };
  }
  const { fault, home, evict, 'swap out': out = none, 'swap in': back = none } = counters.migratedByCause;
  return {
    schema: 1,
    trace: options.name,
    preset: options.preset.name,
    accesses: {
      cpu: replay.cpu,
      device: replay.device,
      ...(contexts.length > 1 ? { devices: ofEach((_, i) => replay.devices[i]!) } : {}),
      read: replay.reads,
      write: replay.writes,
      instructions: trace.instructions,
    },
    tlb: { cpu: space.tlbCounts, devices: ofEach((each) => each.tlbCounts) },
    faults: { cpu: Object.values(counters.cpuFaults).reduce((total, each) => total + each, 0), devices: records },
    migrated,
    evictions: counters.evictions,
    invalidations: counters.invalidations,
    frames: Object.fromEntries(nodes.map((node) => [node.name, { peak: node.peak }])),
    modelledNs: Object.values(parts).reduce((total, part) => total + part, 0),
    detail: {
      cpuFaults: { ...counters.cpuFaults },
      batches: counters.batches,
      batchSizes: [...counters.batchSizes],
      recorded: Object.values(records).reduce((total, each) => total + each, 0),
      coalesced: counters.coalesced,
      deferred: counters.deferred,
      cancelled: counters.cancelled,
      overflow: counters.overflow,
      cleared: counters.cleared,
      migratedByCause: { fault: whole(fault), home: whole(home), evict: whole(evict) },
      ...(options.victims === undefined ? {} : { victims: { ...counters.evicted } }),
      ...(options.swap ? { secondTier: { out: whole(out), in: whole(back), clean: counters.clean } } : {}),
      ...conversations(replay),
      ...(trace.unmet.length > 0 ? { unmet: trace.unmet.map(printRange) } : {}),
      modelledParts: parts,
      presetSource: options.preset.source,
      options: {
        device: contexts.map(({ name }) => name).join(' + '),
        dram: options.dram,
        deviceMemory: Object.fromEntries(memories.map(({ node }) => [node.name, node.frames * L.PAGE_BYTES * addressUnit])),
        granulePages: context.device.granulePages,
        lanes: options.lanes,
        offload: options.offload.map(printRange),
        seed: options.seed ?? 0,
        ...(options.bytesIn === 'metadata' ? { bytesIn: options.bytesIn } : {}),
        ...(addressUnit > 1 ? { pageBytes: addressUnit * L.PAGE_BYTES } : {}),
        ...(options.swap ? { swap: options.swap } : {}),
        ...(options.victims === undefined ? {} : { victims: options.victims }),
        ...(options.duplicate ? { duplicate: true } : {}),
        ...(options.workingSet ? { workingSet: ofEach((_, i) => options.workingSet!.devices[i]!) } : {}),
        ...(options.link === undefined ? {} : { link: options.link }),
        ...(contexts.length > 1
          ? {
              devices: ofEach(({ device }, i) => ({
                granulePages: device.granulePages,
                offload: (i === 0 ? options.offload : options.further![i - 1]!.offload).map(printRange),
              })),
            }
          : {}),
      },
    },
    // The rate is that of the replay itself; reading and parsing the text is in the wall time only.
    host: {
      wallMs: host.wallMs,
      accessesPerSecond: host.replayMs > 0 ? Math.round(((replay.cpu + replay.device) / host.replayMs) * 1000) : 0,
    },
  };
}

/** What the counted things of a replay would have taken, by a preset's constants. */
export function modelledParts(replay: Replay, preset: Preset): ModelledParts {
  const { counters, addressUnit } = replay.machine;
  const linkNs = (way: LinkWay): number => transfersNs(counters.transfers, way, preset, addressUnit);
  const sum = (record: Readonly<Record<string, number>> | readonly number[]): number =>
    Object.values(record).reduce((total, each) => total + each, 0);
  return {
    access: replay.cpu * preset.cpuAccessNs + replay.device * preset.deviceAccessNs,
    walk:
      replay.space.tlbCounts.miss * preset.cpuWalkNs + sum(replay.contexts.map((context) => context.tlbCounts.miss)) * preset.deviceWalkNs,
    cpuFault: sum(counters.cpuFaults) * preset.cpuFaultNs,
    batch: counters.batches * preset.batchNs + sum(counters.deviceFaults) * preset.recordNs,
    invalidation: counters.invalidations * preset.invalidationNs,
    toDevice: linkNs('toDevice') + (counters.replicas.made - counters.replicas.kept) * transferNs(addressUnit, 'toDevice', preset),
    toHost: linkNs('toHost'),
    ...(replay.machine.links.length > 0 ? { peer: linkNs('peer') } : {}),
  };
}

/** What devices said to each other, and what was asked of them: only of those that there are. */
function conversations({ machine, contexts }: Replay): Pick<ReplayDetail, 'betweenDevices' | 'replicas' | 'coupled' | 'counted'> {
  const { counters } = machine;
  const between = { pages: 0, bytes: 0 };
  const names = contexts.flatMap(({ device }) => device.memories.map(({ node }) => node.name));
  for (const from of names) {
    for (const to of names) {
      const { pages = 0, bytes = 0 } = counters.migrated[from]?.[to] ?? {};
      between.pages += pages;
      between.bytes += bytes * machine.addressUnit;
    }
  }
  const coupled: [string, NonNullable<ReplayDetail['coupled']>[string]][] = [];
  const counted: [string, Readonly<Record<string, number>>][] = [];
  for (const { name, device, peerCounts } of contexts) {
    if (peerCounts) {
      const { maps, unmaps, items, codes } = peerCounts;
      const refused = Object.values(codes).reduce((sum, each) => sum + each, 0) - codes.success - codes['page exists'];
      coupled.push([name, { maps, unmaps, items, refused }]);
    }
    const own = device.driver.counts?.();
    if (own !== undefined) counted.push([name, requireCounts(name, own)]);
  }
  const { made, kept, dropped } = counters.replicas;
  return {
    ...(machine.links.length > 0 ? { betweenDevices: between } : {}),
    ...(made > 0 ? { replicas: { made, kept, dropped } } : {}),
    ...(coupled.length > 0 ? { coupled: Object.fromEntries(coupled) } : {}),
    ...(counted.length > 0 ? { counted: Object.fromEntries(counted) } : {}),
  };
}

/** Throws EINVAL for what is no counts. */
function requireCounts(device: string, counts: Readonly<Record<string, number>>): Readonly<Record<string, number>> {
  requireObject(`${device}.counts result`, counts, 'an object of whole numbers');
  for (const [name, each] of Object.entries(counts))
    if (!Number.isSafeInteger(each) || each < 0) throw fail('EINVAL', `${device}.counts result, ${name}`, each, 'is not a whole number');
  return { ...counts };
}

/** Every transfer is rounded down by itself. `unit`: small pages in one of the machine's. */
function transfersNs(transfers: Counters['transfers'], way: LinkWay, preset: Preset, unit: number): number {
  let total = 0;
  for (const [pages, times] of Object.entries(transfers[way] ?? {})) total += times * transferNs(Number(pages) * unit, way, preset);
  return total;
}
