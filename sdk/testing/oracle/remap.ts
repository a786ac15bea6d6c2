/** mremap, and when it may. */
import { sweepObjects } from './files.ts';
import { cut, isHuge, split, zap } from './pages.ts';
import { cutsHugetlb, firstGap, vmaOf, vmasIn } from './promises.ts';
import { SKIP, SLOTS, slotsOf, type SpaceModel, WINDOW_PAGES, type World } from './state.ts';

export interface RemapRequest {
  readonly from: number;
  readonly to: number;
  readonly pages: number;
  readonly mayMove: boolean;
  /** Slot; -1: none. */
  readonly at: number;
  readonly dontUnmap: boolean;
}

export function mremap(world: World, space: SpaceModel, { from, to, pages, mayMove, at, dontUnmap }: RemapRequest): string {
  const start = SLOTS[from]!.vpn;
  const oldPages = SLOTS[to - 1]!.vpn + SLOTS[to - 1]!.pages - start;
  if (at >= 0 && !mayMove) return 'EINVAL';
  if (dontUnmap && (!mayMove || pages !== oldPages)) return 'EINVAL';
  let target = at >= 0 ? SLOTS[at]!.vpn : -1;
  if (at >= 0 && target < start + oldPages && start < target + pages) return 'EINVAL';
  const fixed = at >= 0 ? slotsOf(target, pages) : undefined;
  if (at >= 0 && !fixed) return SKIP;
  const promise = space.promises[from];
  if (!promise || vmaOf(space, from).to < to) return 'EFAULT';
  const vma = vmaOf(space, from);
  const grows = pages > oldPages;
  if (grows && (promise.special === 'pfn' || promise.special === 'io')) return 'EFAULT';
  if (dontUnmap && promise.special) return 'EINVAL';
  if (promise.hugetlb && (grows || [start, oldPages, pages, at >= 0 ? target : 0].some((each) => each % WINDOW_PAGES !== 0)))
    return 'EINVAL';
  if (fixed && cutsHugetlb(space, fixed.from, fixed.to)) return 'EINVAL';
  const kept = Math.min(pages, oldPages);
  const keptSlots = slotsOf(start, kept);
  if (!keptSlots) return SKIP;
  const inPlace = at < 0 && !dontUnmap;
  const grown = slotsOf(start, pages);
  const isRoomy = SLOTS.every((slot) => slot.index < to || slot.vpn >= start + pages || !space.promises[slot.index]);
  const growsInPlace = grows && inPlace && vma.to === to && isRoomy;
  if (growsInPlace && !grown) return SKIP;
  const moves = !(inPlace && (!grows || growsInPlace));
  if (moves && at < 0) {
    if (!mayMove) return 'ENOMEM';
    const align = start % WINDOW_PAGES === 0 && pages >= WINDOW_PAGES ? WINDOW_PAGES : 1;
    target = firstGap(space, pages, align);
  }
  const place = moves ? slotsOf(target, pages) : grown;
  if (!place) return SKIP;
  // Only what has the same shape there can be moved by whole slots.
  const count = keptSlots.to - keptSlots.from;
  if (moves) {
    for (let i = 0; i < count; i++) if (SLOTS[place.from + i]?.pages !== SLOTS[from + i]!.pages) return SKIP;
  }
  for (let slot = place.from; promise.object && slot < place.to; slot++) if (SLOTS[slot]!.pages > 1) return SKIP;
  // From here on it is done.
  if (pages < oldPages) takeAway(space, keptSlots.to, to);
  if (!moves) {
    for (let slot = to; slot < place.to; slot++)
      space.promises[slot] = { ...promise, offset: promise.object ? promise.offset + SLOTS[slot]!.vpn - start : 0 };
    sweepObjects(world);
    return `ok ${start}`;
  }
  if (at >= 0) takeAway(space, place.from, place.to);
  cut(space, keptSlots.from, keptSlots.to);
  const isAligned = (target - start) % WINDOW_PAGES === 0;
  for (let i = 0; i < count; i++) {
    const old = from + i;
    const entry = space.entries[old];
    if (!entry) continue;
    if (!isAligned && isHuge(entry)) split(space, old);
    entry.cpuReads = false;
    space.entries[place.from + i] = entry;
    space.entries[old] = undefined;
  }
  for (let slot = place.from; slot < place.to; slot++)
    space.promises[slot] = { ...promise, offset: promise.object ? promise.offset + SLOTS[slot]!.vpn - target : 0 };
  if (!dontUnmap) for (let slot = keptSlots.from; slot < keptSlots.to; slot++) space.promises[slot] = undefined;
  sweepObjects(world);
  return `ok ${target}`;
}

function takeAway(space: SpaceModel, from: number, to: number): void {
  for (const part of vmasIn(space, from, to)) zap(space, part.from, part.to);
  for (let slot = from; slot < to; slot++) space.promises[slot] = undefined;
}
