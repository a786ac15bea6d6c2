/** Pages that go to a memory of a device and come home. */
import { canMove, freshBlock, freshPage, isEmpty, isHuge, isPresent, mapPage, split } from './pages.ts';
import { isAnonymous, vmasIn, wholeWindow } from './promises.ts';
import {
  type DeviceModel,
  type Entry,
  HOST,
  type Memory,
  type Page,
  type Promise_,
  SLOTS,
  type SpaceModel,
  WINDOW_PAGES,
  WINDOW_SLOTS,
  windowOf,
} from './state.ts';

/** What of the slots is on a memory, comes home. Returns the pages. */
export function toHost(space: SpaceModel, from: number, to: number, memory: Memory): number {
  let moved = 0;
  for (let slot = from; slot < to; slot++) {
    const entry = space.entries[slot];
    if (entry?.page?.memory !== memory || entry.exclusive || (memory.kind === 'coherent' && entry.noAccess)) continue;
    const window = windowOf(slot);
    if (entry.page.block && (window < from || window + WINDOW_SLOTS > to)) split(space, slot);
    moved += movePage(entry.page, HOST);
  }
  return moved;
}

/** A page, of a huge one all, goes to a memory, whoever maps it, unless somebody holds it. */
export function movePage(page: Page, memory: Memory): number {
  if (!canMove(page)) return 0;
  let moved = 0;
  for (const each of page.block ? page.block.pages : [page]) {
    each.memory = memory;
    // The device's translation is gone.
    if (each.reader) each.reader.cpuReads = false;
    moved += each.weight;
  }
  return moved;
}

/** Whether a present page may go to a device. */
export function mayMove(promise: Promise_, entry: Entry): boolean {
  if (entry.zero) return isAnonymous(promise);
  if (entry.page!.memory.kind !== 'host') return false;
  if (isAnonymous(promise)) return true;
  return !promise.shared && !promise.hugetlb && !promise.special && !entry.page!.isFile;
}

/** Whether a slot is one that a migration to a device takes. */
export function goesToDevice(space: SpaceModel, slot: number): boolean {
  const entry = space.entries[slot];
  const promise = space.promises[slot]!;
  if (!entry) return isAnonymous(promise);
  return isPresent(entry) && mayMove(promise, entry);
}

function isWholeBlock(space: SpaceModel, window: number): boolean {
  if (window < 0 || wholeWindow(space, window) !== window) return false;
  const entry = space.entries[window];
  if (isPresent(entry)) return isHuge(entry);
  return space.promises[window]!.hugepage && isEmpty(space, window);
}

/** These slots go to a memory; as a huge page where they are named by `huge`. Returns the pages. */
export function toDevice(space: SpaceModel, slots: readonly number[], huge: ReadonlySet<number>, memory: Memory): number {
  let moved = 0;
  for (const slot of slots) {
    const promise = space.promises[slot]!;
    const marks = { own: true, write: promise.prot === 'rw' };
    const entry = space.entries[slot];
    if (huge.has(slot)) {
      if (entry?.page) moved += movePage(entry.page, memory);
      else {
        const pages = freshBlock(slot, memory);
        for (let i = 0; i < WINDOW_SLOTS; i++) mapPage(space, slot + i, pages[i], marks);
        moved += WINDOW_PAGES;
      }
      continue;
    }
    if (isHuge(entry)) split(space, slot);
    if (entry?.page) moved += movePage(entry.page, memory);
    else {
      mapPage(space, slot, freshPage(slot, memory), marks);
      moved += SLOTS[slot]!.pages;
    }
  }
  return moved;
}

export function migrate(space: SpaceModel, device: DeviceModel, from: number, to: number, isToDevice: boolean, index: number): string {
  const memories = device.memories.filter((memory) => memory !== undefined);
  if (memories.length === 0) return 'EOPNOTSUPP';
  const memory = index < 0 ? undefined : device.memories[index];
  if (index >= 0 && !memory) return 'EINVAL';
  const target = isToDevice ? (memory ?? memories[0]!) : undefined;
  const sources = isToDevice ? (memory ? memories.filter((each) => each !== memory) : []) : memory ? [memory] : memories;
  let moved = 0;
  for (const part of vmasIn(space, from, to)) {
    for (const source of sources) {
      const home = toHost(space, part.from, part.to, source);
      if (!isToDevice) moved += home;
    }
    if (!target || part.promise.prot === 'none') continue;
    const need: number[] = [];
    const huge = new Set<number>();
    for (let slot = part.from; slot < part.to; slot++) {
      if (!goesToDevice(space, slot)) continue;
      need.push(slot);
      if (device.granulePages < WINDOW_PAGES || windowOf(slot) !== slot || slot + WINDOW_SLOTS > part.to) continue;
      if (!isWholeBlock(space, slot)) continue;
      huge.add(slot);
      slot += WINDOW_SLOTS - 1;
    }
    moved += toDevice(space, need, huge, target);
  }
  return `ok ${moved}`;
}
