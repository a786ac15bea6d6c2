/** The verbs that make, change and end mappings. */
import { anonymousObject, sweepObjects } from './files.ts';
import { toHost } from './migrations.ts';
import {
  cut,
  freshBlock,
  isAlone,
  isHuge,
  isPresent,
  isPrivate,
  makePage,
  mapPage,
  revokeExclusive,
  split,
  unmapPage,
  zap,
} from './pages.ts';
import { cutsHugetlb, firstGap, isAnonymous, isCovered, isFree, vmaOf, vmasIn } from './promises.ts';
import {
  BASE_VPN,
  type Entry,
  HOST,
  type Promise_,
  type Prot,
  SKIP,
  SLOTS,
  slotsOf,
  type SpaceModel,
  WINDOW_PAGES,
  WINDOW_SLOTS,
  windowOf,
  type World,
} from './state.ts';

export interface MapRequest {
  readonly pages: number;
  readonly prot: Prot;
  /** Exactly at this slot; -1: the first gap. */
  readonly at: number;
  readonly shared: boolean;
  readonly file: number;
  readonly offset: number;
  readonly hugetlb: boolean;
  readonly special: '' | 'mixed' | 'pfn' | 'io';
}

export function mmap(world: World, space: SpaceModel, request: MapRequest): string {
  const { prot, at, shared, file, offset, hugetlb, special } = request;
  const pages = hugetlb ? Math.ceil(request.pages / WINDOW_PAGES) * WINDOW_PAGES : request.pages;
  if (file >= 0 && (hugetlb || special)) return 'EINVAL';
  if (special && hugetlb) return 'EINVAL';
  if (hugetlb && shared) return 'EINVAL';
  const align = hugetlb ? WINDOW_PAGES : 1;
  const start = at < 0 ? firstGap(space, pages, align) : SLOTS[at]!.vpn;
  if (at >= 0 && start % align !== 0) return 'EINVAL';
  const place = slotsOf(start, pages);
  if (!place) return SKIP;
  const object = file >= 0 ? world.files[file]! : shared && !special ? anonymousObject() : undefined;
  for (let slot = place.from; object && slot < place.to; slot++) if (SLOTS[slot]!.pages > 1) return SKIP;
  if (!isFree(space, place.from, place.to)) return 'EINVAL';
  if (object && object.kind === 'anonymous') world.objects.add(object);
  for (let slot = place.from; slot < place.to; slot++)
    space.promises[slot] = {
      prot,
      shared,
      hugepage: false,
      nohugepage: false,
      dontfork: false,
      hugetlb,
      special,
      object,
      offset: object ? (file >= 0 ? offset : 0) + SLOTS[slot]!.vpn - start : 0,
    };
  return `ok ${start}`;
}

export function munmap(world: World, space: SpaceModel, from: number, to: number): string {
  if (cutsHugetlb(space, from, to)) return 'EINVAL';
  for (const part of vmasIn(space, from, to)) zap(space, part.from, part.to);
  for (let slot = from; slot < to; slot++) space.promises[slot] = undefined;
  sweepObjects(world);
  return 'ok';
}

export function mprotect(space: SpaceModel, from: number, to: number, prot: Prot): string {
  if (!isCovered(space, from, to) || cutsHugetlb(space, from, to)) return 'EINVAL';
  for (const part of vmasIn(space, from, to)) {
    if (part.promise.prot === prot) continue;
    cut(space, part.from, part.to);
    for (let slot = part.from; slot < part.to; slot++) {
      const entry = space.entries[slot];
      if (entry) underRights(entry, prot);
    }
  }
  for (let slot = from; slot < to; slot++) space.promises[slot] = { ...space.promises[slot]!, prot };
  return 'ok';
}

/** S2: write comes back in place where the page is the space's own and the CPU's; a page on a private memory lost it for good. */
function underRights(entry: Entry, prot: Prot): void {
  if (entry.special) return;
  entry.noAccess = prot === 'none';
  if (entry.exclusive) return;
  entry.cpuReads = false;
  if (isPrivate(entry)) entry.write &&= prot === 'rw';
  else entry.write = prot === 'rw' && entry.own && !entry.zero;
}

export function madvise(space: SpaceModel, from: number, to: number, advice: string): string {
  if (!isCovered(space, from, to) || cutsHugetlb(space, from, to)) return 'EINVAL';
  const parts = vmasIn(space, from, to);
  for (const { promise } of parts) if (refuses(promise, advice)) return 'EINVAL';
  switch (advice) {
    case 'dontneed':
      for (const part of parts) zap(space, part.from, part.to);
      return 'ok';
    case 'free':
      for (const part of parts) freeLazily(space, part.from, part.to);
      return 'ok';
    case 'collapse':
      return collapse(space, from, to);
    default:
      // No huge page is of two mappings.
      cut(space, from, to);
      for (let slot = from; slot < to; slot++) {
        const old = space.promises[slot]!;
        const marks = {
          hugepage: { hugepage: true, nohugepage: false },
          nohugepage: { hugepage: false, nohugepage: true },
          dontfork: { dontfork: true },
          dofork: { dontfork: false },
        }[advice];
        space.promises[slot] = { ...old, ...marks };
      }
      return 'ok';
  }
}

function refuses(promise: Promise_, advice: string): boolean {
  switch (advice) {
    case 'dontneed':
      return promise.special === 'pfn' || promise.special === 'io';
    case 'free':
      return !isAnonymous(promise);
    case 'hugepage':
    case 'nohugepage':
      return promise.special !== '' || promise.hugetlb;
    case 'dofork':
      return promise.special !== '';
    default:
      return false;
  }
}

function freeLazily(space: SpaceModel, from: number, to: number): void {
  for (let slot = from; slot < to; slot++) {
    const entry = space.entries[slot];
    if (!entry?.page || !isPresent(entry) || entry.page.isFile || !isAlone(entry.page)) continue;
    const window = windowOf(slot);
    if (entry.page.block && (window < from || window + WINDOW_SLOTS > to)) split(space, slot);
    if (!entry.page.block) unmapPage(space, slot);
    else for (let i = 0; i < WINDOW_SLOTS; i++) unmapPage(space, window + i);
  }
}

function collapse(space: SpaceModel, from: number, to: number): string {
  const first = Math.ceil((SLOTS[from]!.vpn - BASE_VPN) / WINDOW_PAGES);
  const end = Math.floor((SLOTS[to - 1]!.vpn + SLOTS[to - 1]!.pages - BASE_VPN) / WINDOW_PAGES);
  if (first >= end) return 'EINVAL';
  for (let i = first; i < end; i++) {
    const window = i * WINDOW_SLOTS;
    const vma = vmaOf(space, window);
    if (vma.to < window + WINDOW_SLOTS || !isAnonymous(vma.promise) || vma.promise.nohugepage) return 'EINVAL';
    const { prot } = vma.promise;
    for (let slot = window; slot < window + WINDOW_SLOTS; slot++) {
      const entry = space.entries[slot];
      if (entry && isPrivate(entry)) toHost(space, window, window + WINDOW_SLOTS, entry.page!.memory);
    }
    const entries = space.entries.slice(window, window + WINDOW_SLOTS);
    for (const entry of entries) {
      if (!entry) continue;
      if (entry.exclusive) revokeExclusive(entry, prot);
    }
    if (isHuge(entries[0])) continue;
    for (const entry of entries) {
      if (!entry || entry.zero) continue;
      const page = entry.page;
      if (!page || page.isFile || !isAlone(page) || page.memory.kind !== 'host') return 'EBUSY';
    }
    const pages = freshBlock(window, HOST);
    for (let k = 0; k < WINDOW_SLOTS; k++) {
      const old = space.entries[window + k];
      if (old?.page) pages[k]!.words = [...old.page.words];
      mapPage(space, window + k, pages[k], { own: true, write: prot === 'rw', noAccess: prot === 'none' });
    }
  }
  return 'ok';
}

export function insertPage(space: SpaceModel, slot: number, word: number): string {
  const promise = space.promises[slot];
  if (promise?.special !== 'mixed' || space.entries[slot]) return 'EINVAL';
  const page = makePage(HOST, [word, 0, 0, 0], true, 1);
  mapPage(space, slot, page, { write: promise.shared && promise.prot === 'rw', noAccess: promise.prot === 'none' });
  return 'ok';
}

export function insertPfn(space: SpaceModel, slot: number): string {
  const promise = space.promises[slot];
  if (!promise?.special || space.entries[slot]) return 'EINVAL';
  mapPage(space, slot, undefined, { special: true, write: promise.shared && promise.prot === 'rw' });
  return 'ok';
}
