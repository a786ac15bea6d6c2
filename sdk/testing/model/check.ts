/** The rules that hold between any two verbs, checked over the whole machine. Slow; for tests. */
import type { ModelMachine } from './machine.ts';
import type { ModelSpace } from './space.ts';

/** Throws the first broken rule. */
export function checkMachine(machine: ModelMachine): void {
  let hostFrames = 0;
  for (const space of machine.spaces) hostFrames += checkSpace(space);
  if (hostFrames !== machine.host.used) throw new Error(`${hostFrames} host pages live in ${machine.host.used} host frames`);

  for (const device of machine.devices) {
    if (!('vram' in device)) continue;
    let used = 0;
    for (const chunk of device.vram.chunks) {
      const frames = chunk.slots.filter((frame) => frame !== undefined);
      if (frames.length !== chunk.used) throw new Error(`chunk ${chunk.number} of ${device.name} counts ${chunk.used} used frames`);
      used += frames.length;
      for (const frame of frames) {
        if (frame.space.pages.get(frame.vpn)?.frame !== frame) throw new Error(`a frame of ${device.name} is lost (page ${frame.vpn})`);
      }
    }
    if (used !== device.vram.used) throw new Error(`${device.name} counts ${device.vram.used} used frames`);
  }

  const { accesses, detail, faults, migrated } = machine.counters();
  if (accesses.cpu + accesses.device !== accesses.read + accesses.write) throw new Error('accesses do not add up');
  if (sum(detail.cpuFaults) !== faults.cpu) throw new Error('causes of CPU faults do not add up');
  if (sum(faults.devices) !== detail.recorded) throw new Error('records do not add up');
  if (sum(detail.batchSizes) !== detail.batches) throw new Error('batch sizes do not add up');
  let copied = 0;
  for (const targets of Object.values(migrated)) for (const { pages } of Object.values(targets)) copied += pages;
  if (sum(detail.migratedByCause) !== copied) throw new Error('migrated pages do not add up');
}

/** Returns the host frames of the space. */
function checkSpace(space: ModelSpace): number {
  let hostFrames = 0;
  for (const [vpn, { kind, frame, write }] of space.pages) {
    const vma = space.vmas.find(vpn);
    if (vma === undefined) throw new Error(`page ${vpn} has an entry outside every VMA`);
    if (write && (vma.prot !== 'rw' || kind === 'zero')) throw new Error(`page ${vpn} is writable and must not be`);
    if ((kind === 'device') !== (frame.owner !== undefined)) throw new Error(`page ${vpn} is ${kind} on the wrong node`);
    if (kind === 'host') hostFrames += 1;
  }
  for (const way of space.cpu.tlb.ways()) {
    const home = space.pages.get(way.vpn);
    if (home === undefined || home.kind === 'device' || home.frame !== way.frame || home.write !== way.write) {
      throw new Error(`the CPU TLB is stale for page ${way.vpn}`);
    }
  }
  for (const { table, tlb, device } of space.contexts) {
    for (const [vpn, entry] of table) {
      const home = space.pages.get(vpn);
      if (home?.frame !== entry.frame || (entry.write && !home.write))
        throw new Error(`the table of ${device.name} is wrong for page ${vpn}`);
      if (home.kind === 'device' && home.frame.owner?.name !== device.name)
        throw new Error(`${device.name} maps a foreign device page ${vpn}`);
    }
    for (const way of tlb.ways()) {
      const entry = table.get(way.vpn);
      if (entry?.frame !== way.frame || entry.write !== way.write)
        throw new Error(`the TLB of ${device.name} is stale for page ${way.vpn}`);
    }
  }
  return hostFrames;
}

function sum(counts: Record<string, number>): number {
  return Object.values(counts).reduce((total, count) => total + count, 0);
}
