/** A fault of a device, one access of it, and a page made exclusive to it. */
import { CODES, fault, type FaultEnd, readOrWrite } from './faults.ts';
import { goesToDevice, mayMove, toDevice } from './migrations.ts';
import { isEmpty, isHuge, isPresent, isPrivate, split } from './pages.ts';
import { granuleOf, isAnonymous, wholeWindow } from './promises.ts';
import { type DeviceModel, type SpaceModel, WINDOW_PAGES, windowOf } from './state.ts';

/** A device fault. */
export function serveDeviceFault(space: SpaceModel, device: DeviceModel, slot: number, write: boolean): FaultEnd {
  const memory = device.memories.find((each) => each !== undefined);
  let small = false;
  for (let looks = 0; looks < 64; looks++) {
    const promise = space.promises[slot];
    if (!promise) return 'no mapping';
    if (promise.prot === 'none' || (write && promise.prot !== 'rw')) return 'permission';
    const entry = space.entries[slot];
    if (entry?.special) return 'bus error';
    if (entry?.exclusive || (entry?.noAccess && !isPrivate(entry))) {
      const end = fault(space, slot, write, device);
      if (end !== 'served') return end;
      continue;
    }
    if (entry && isPrivate(entry)) {
      if (entry.page!.memory.device === device && (!write || entry.write)) return 'served';
      const end = fault(space, slot, write, device);
      if (end !== 'served') return end;
      continue;
    }
    if (entry) {
      if (!memory) return mirror(space, device, slot, write);
      if (write && !entry.write && !entry.zero) {
        const end = fault(space, slot, write, device);
        if (end !== 'served') return end;
        continue;
      }
      if (entry.page?.memory.device === device) return 'served';
      if (!mayMove(promise, entry)) return mirror(space, device, slot, write);
    } else if (!memory || !isAnonymous(promise)) return mirror(space, device, slot, write);
    const { from, to } = granuleOf(space, slot, device.granulePages);
    if (!small && device.granulePages === WINDOW_PAGES && windowOf(slot) >= 0 && wholeWindow(space, slot) >= 0 && isWholeFor(space, slot)) {
      const window = windowOf(slot);
      toDevice(space, [window], new Set([window]), memory);
      if (space.entries[slot]!.page?.memory === memory) return 'served';
      small = true;
      continue;
    }
    const need: number[] = [];
    for (let each = from; each < to; each++) if (each === slot || goesToDevice(space, each)) need.push(each);
    toDevice(space, need, new Set(), memory!);
    if (space.entries[slot]!.page?.memory === memory) return 'served';
    return mirror(space, device, slot, write);
  }
  return 'bus error';
}

/** As `isWholeBlock`, looked at from the faulting page. */
function isWholeFor(space: SpaceModel, slot: number): boolean {
  const entry = space.entries[slot];
  if (isPresent(entry)) return isHuge(entry);
  return space.promises[slot]!.hugepage && isEmpty(space, windowOf(slot));
}

/** The device uses the page where the CPU has it. */
function mirror(space: SpaceModel, device: DeviceModel, slot: number, write: boolean): FaultEnd {
  for (let tries = 0; tries < 8; tries++) {
    const promise = space.promises[slot]!;
    if (promise.special === 'pfn' || promise.special === 'io') return 'bus error';
    const entry = space.entries[slot];
    if (entry?.special) return 'bus error';
    if (isPresent(entry) && (!write || entry!.write)) return 'served';
    const end = fault(space, slot, write, device);
    if (end === 'permission') return end;
    if (end !== 'served') return 'bus error';
  }
  throw new Error('the oracle makes no progress');
}

/** One access of a device to a word. `reaches`: it has a translation that allows it. */
export function deviceAccess(
  space: SpaceModel,
  device: DeviceModel,
  slot: number,
  word: number,
  value: number | undefined,
  reaches: boolean,
): string {
  if (!reaches) {
    const end = serveDeviceFault(space, device, slot, value !== undefined);
    if (end !== 'served') return CODES[end];
  }
  return readOrWrite(space.entries[slot]!, word, value);
}

/** Makes a page exclusive to a device. */
export function makeExclusive(space: SpaceModel, slot: number, cpuReads: boolean): 'done' | 'not supported' | Exclude<FaultEnd, 'served'> {
  const promise = space.promises[slot];
  if (!promise || promise.special === 'pfn' || promise.special === 'io') return 'no mapping';
  if (promise.prot !== 'rw') return 'permission';
  if (promise.shared || promise.hugetlb) return 'not supported';
  for (let tries = 0; tries < 64; tries++) {
    const entry = space.entries[slot];
    if (!entry || !isPresent(entry) || !entry.write || !entry.own) {
      const end = fault(space, slot, true);
      if (end !== 'served') return end;
      continue;
    }
    split(space, slot);
    if (cpuReads) {
      entry.cpuReads = true;
      entry.page!.reader = entry;
      entry.write = false;
    } else entry.exclusive = true;
    return 'done';
  }
  throw new Error('the oracle makes no progress');
}
