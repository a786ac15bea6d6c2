/** A fault of the CPU, and one access of it. */
import { cachedPage, limitOf } from './files.ts';
import { toHost } from './migrations.ts';
import {
  freshBlock,
  freshPage,
  isAlone,
  isEmpty,
  isHuge,
  isPresent,
  isPrivate,
  makePage,
  mapPage,
  revokeExclusive,
  split,
} from './pages.ts';
import { granuleOf, wholeWindow } from './promises.ts';
import { type DeviceModel, type Entry, HOST, type Promise_, type SpaceModel, WINDOW_PAGES, WINDOW_SLOTS, windowOf } from './state.ts';

export type FaultEnd = 'served' | 'no mapping' | 'permission' | 'bus error';

export const CODES: Readonly<Record<Exclude<FaultEnd, 'served'>, string>> = {
  'no mapping': 'EFAULT',
  permission: 'EFAULT',
  'bus error': 'EIO',
};

/** A CPU fault, or one on behalf of a device that owns `owner`. */
export function fault(
  space: SpaceModel,
  slot: number,
  write: boolean,
  owner: DeviceModel | undefined = undefined,
  unshare = false,
): FaultEnd {
  const promise = space.promises[slot];
  if (!promise) return 'no mapping';
  if (promise.prot === 'none' || (write && promise.prot !== 'rw')) return 'permission';
  const entry = space.entries[slot];
  if (!entry) return fillHole(space, slot, promise, write);
  if (entry.special) return 'bus error';
  if (entry.exclusive) {
    revokeExclusive(entry, promise.prot);
    return 'served';
  }
  if (isPrivate(entry)) {
    const { memory } = entry.page!;
    if (memory.device === owner && (!write || entry.write)) return 'served';
    const granule = isHuge(entry) ? WINDOW_PAGES : memory.device!.granulePages;
    const { from, to } = granuleOf(space, slot, granule);
    toHost(space, from, to, memory);
    return 'served';
  }
  if (entry.noAccess) throw new Error('an entry without rights under a promise with rights');
  return servePresent(space, slot, promise, entry, write, unshare);
}

function fillHole(space: SpaceModel, slot: number, promise: Promise_, write: boolean): FaultEnd {
  const writable = promise.prot === 'rw';
  if (promise.object) {
    if (promise.offset >= limitOf(promise.object)) return 'bus error';
    const page = cachedPage(promise.object, promise.offset);
    if (write && !promise.shared) {
      mapPage(space, slot, makePage(HOST, page.words, false, 1), { write: true, own: true });
    } else {
      mapPage(space, slot, page, { write });
      if (write) promise.object.dirty.add(promise.offset);
    }
    return 'served';
  }
  if (promise.special) return 'bus error';
  const window = promise.hugetlb ? windowOf(slot) : promise.hugepage ? wholeWindow(space, slot) : -1;
  if (window >= 0 && (promise.hugetlb || isEmpty(space, window))) {
    if (!promise.hugetlb && !write) {
      for (let i = 0; i < WINDOW_SLOTS; i++) mapPage(space, window + i, undefined, { zero: true, hugeZero: true });
      return 'served';
    }
    const pages = freshBlock(window, HOST, promise.hugetlb);
    for (let i = 0; i < WINDOW_SLOTS; i++)
      mapPage(space, window + i, pages[i], { own: true, write: promise.hugetlb ? write && writable : writable });
    return 'served';
  }
  if (write) mapPage(space, slot, freshPage(slot), { write: true, own: true });
  else mapPage(space, slot, undefined, { zero: true });
  return 'served';
}

function servePresent(space: SpaceModel, slot: number, promise: Promise_, entry: Entry, write: boolean, unshare: boolean): FaultEnd {
  if (unshare ? entry.own && !entry.zero : !write || entry.write) return 'served';
  const window = windowOf(slot);
  if (entry.zero) {
    if (entry.hugeZero && !unshare) {
      const pages = freshBlock(window, HOST);
      for (let i = 0; i < WINDOW_SLOTS; i++) mapPage(space, window + i, pages[i], { own: true, write: true });
      return 'served';
    }
    split(space, slot);
    mapPage(space, slot, freshPage(slot), { own: true, write: !unshare });
    return 'served';
  }
  const page = entry.page!;
  if (promise.shared) {
    if (unshare) return 'served';
    entry.write = true;
    if (promise.object) promise.object.dirty.add(promise.offset);
    return 'served';
  }
  const together = page.block ? space.entries.slice(window, window + WINDOW_SLOTS) : [entry];
  if (!page.isFile && (entry.own || isAlone(page))) {
    for (const each of together) {
      each!.own = true;
      if (!unshare) {
        each!.write = true;
        each!.cpuReads = false;
      }
    }
    return 'served';
  }
  if (page.block?.hugetlb) {
    const pages = freshBlock(window, HOST, true);
    for (let i = 0; i < WINDOW_SLOTS; i++) {
      pages[i]!.words = [...space.entries[window + i]!.page!.words];
      mapPage(space, window + i, pages[i], { own: true, write: !unshare });
    }
    return 'served';
  }
  if (page.block) {
    split(space, slot);
    return servePresent(space, slot, promise, entry, write, unshare);
  }
  mapPage(space, slot, makePage(HOST, page.words, false, page.weight), { own: true, write: !unshare });
  return 'served';
}

/** One access of the CPU to a word. */
export function access(space: SpaceModel, slot: number, word: number, value: number | undefined): string {
  for (let tries = 0; tries < 8; tries++) {
    const entry = space.entries[slot];
    if (entry && isPresent(entry) && (value === undefined || entry.write)) return readOrWrite(entry, word, value);
    const end = fault(space, slot, value !== undefined);
    if (end !== 'served') return CODES[end];
  }
  throw new Error('the oracle makes no progress');
}

export function readOrWrite(entry: Entry, word: number, value: number | undefined): string {
  if (value === undefined) return `ok ${entry.page?.words[word] ?? 0}`;
  entry.page!.words[word] = value;
  return 'ok';
}
