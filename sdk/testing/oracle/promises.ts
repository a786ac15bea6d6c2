/** What a space promises: its VMAs, what is covered and what is free. */
import { BASE_VPN, type Promise_, SLOTS, type SpaceModel, WINDOW_SLOTS, windowOf } from './state.ts';

/** The slots `[from, to)` of the VMA of a slot. */
export function vmaOf(space: SpaceModel, slot: number): { from: number; to: number; promise: Promise_ } {
  const promise = space.promises[slot]!;
  let from = slot;
  let to = slot + 1;
  while (from > 0 && isOne(space.promises[from - 1], SLOTS[from - 1]!.pages, space.promises[from]!)) from--;
  while (to < SLOTS.length && isOne(space.promises[to - 1], SLOTS[to - 1]!.pages, space.promises[to])) to++;
  return { from, to, promise };
}

/** VMAs that touch `[from, to)`, with the part inside. */
export function vmasIn(space: SpaceModel, from: number, to: number): { from: number; to: number; promise: Promise_ }[] {
  const parts = [];
  for (let slot = from; slot < to;) {
    if (!space.promises[slot]) {
      slot++;
      continue;
    }
    const vma = vmaOf(space, slot);
    parts.push({ from: Math.max(from, vma.from), to: Math.min(to, vma.to), promise: vma.promise });
    slot = vma.to;
  }
  return parts;
}

export function isCovered(space: SpaceModel, from: number, to: number): boolean {
  for (let slot = from; slot < to; slot++) if (!space.promises[slot]) return false;
  return true;
}

export function isFree(space: SpaceModel, from: number, to: number): boolean {
  for (let slot = from; slot < to; slot++) if (space.promises[slot]) return false;
  return true;
}

/** First fit from the base on. */
export function firstGap(space: SpaceModel, pages: number, align: number): number {
  let start = BASE_VPN;
  for (const slot of SLOTS) {
    if (!space.promises[slot.index]) continue;
    if (start + pages <= slot.vpn) return start;
    start = Math.max(start, Math.ceil((slot.vpn + slot.pages) / align) * align);
  }
  return start;
}

export function cutsHugetlb(space: SpaceModel, from: number, to: number): boolean {
  return vmasIn(space, from, to).some((part) => part.promise.hugetlb && (part.from % WINDOW_SLOTS !== 0 || part.to % WINDOW_SLOTS !== 0));
}

export function granuleOf(space: SpaceModel, slot: number, pages: number): { from: number; to: number } {
  if (pages === 1) return { from: slot, to: slot + 1 };
  const window = windowOf(slot);
  const vma = vmaOf(space, slot);
  // The small pages are in the window behind the last one.
  const first = window >= 0 ? window : 2 * WINDOW_SLOTS;
  const end = window >= 0 ? window + WINDOW_SLOTS : SLOTS.length;
  return { from: Math.max(first, vma.from), to: Math.min(end, vma.to) };
}

export function wholeWindow(space: SpaceModel, slot: number): number {
  const window = windowOf(slot);
  if (window < 0) return -1;
  const vma = vmaOf(space, slot);
  return vma.from <= window && vma.to >= window + WINDOW_SLOTS ? window : -1;
}

export function isAnonymous(promise: Promise_): boolean {
  return !promise.shared && !promise.object && !promise.special && !promise.hugetlb;
}

/** Whether two neighbouring slots are of one VMA. */
function isOne(low: Promise_ | undefined, lowPages: number, high: Promise_ | undefined): boolean {
  if (!low || !high) return false;
  return (
    low.prot === high.prot &&
    low.shared === high.shared &&
    low.hugepage === high.hugepage &&
    low.nohugepage === high.nohugepage &&
    low.dontfork === high.dontfork &&
    low.hugetlb === high.hugetlb &&
    low.special === high.special &&
    low.object === high.object &&
    (low.object === undefined || low.offset + lowPages === high.offset)
  );
}
