/** Files and shared anonymous memory: the page cache, what is stored, and where the end is. */
import { makePage, unmapPage } from './pages.ts';
import { isCovered } from './promises.ts';
import { type Backing, HOST, type Page, PAGE_BYTES, SLOTS, type SpaceModel, WORD_OFFSETS, type World } from './state.ts';

export function anonymousObject(): Backing {
  return { kind: 'anonymous', bytes: 0, cache: new Map(), store: new Map(), dirty: new Set() };
}

export function cachedPage(object: Backing, offset: number): Page {
  let page = object.cache.get(offset);
  if (!page) {
    page = makePage(HOST, object.store.get(offset) ?? [0, 0, 0, 0], true, 1);
    page.isCached = true;
    object.cache.set(offset, page);
  }
  return page;
}

export function limitOf(object: Backing): number {
  return object.kind === 'file' ? Math.ceil(object.bytes / PAGE_BYTES) : Infinity;
}

function dropCache(object: Backing, first: number): void {
  for (const [page, frame] of object.cache) {
    if (page < first) continue;
    frame.isCached = false;
    object.cache.delete(page);
  }
}

export function sweepObjects(world: World): void {
  const used = new Set<Backing>();
  for (const space of world.spaces) for (const promise of space?.promises ?? []) if (promise?.object) used.add(promise.object);
  for (const object of world.objects) {
    if (used.has(object)) continue;
    world.objects.delete(object);
    dropCache(object, 0);
  }
}

export function fileRead(world: World, index: number, page: number, word: number): string {
  const file = world.files[index]!;
  if (page * PAGE_BYTES + WORD_OFFSETS[word]! + 4 > file.bytes) return 'ok';
  return `ok ${(file.cache.get(page)?.words ?? file.store.get(page))?.[word] ?? 0}`;
}

export function fileWrite(world: World, index: number, page: number, word: number, value: number): string {
  const file = world.files[index]!;
  const cached = cachedPage(file, page);
  grow(file, page * PAGE_BYTES + WORD_OFFSETS[word]! + 4);
  cached.words[word] = value;
  file.dirty.add(page);
  return 'ok';
}

/** What mappings wrote behind the end is not the file's: when that moves, it is zeros. */
function grow(file: Backing, bytes: number): void {
  if (bytes <= file.bytes) return;
  clearBehind(file.cache.get(Math.floor(file.bytes / PAGE_BYTES))?.words, file.bytes % PAGE_BYTES);
  file.bytes = bytes;
}

export function truncateFile(world: World, index: number, bytes: number): string {
  const file = world.files[index]!;
  if (bytes >= file.bytes) {
    grow(file, bytes);
    return 'ok';
  }
  file.bytes = bytes;
  const limit = limitOf(file);
  for (const space of world.spaces)
    for (const slot of SLOTS) {
      const promise = space?.promises[slot.index];
      if (promise?.object === file && promise.offset >= limit) unmapPage(space!, slot.index);
    }
  dropCache(file, limit);
  for (const page of [...file.dirty]) if (page >= limit) file.dirty.delete(page);
  for (const page of [...file.store.keys()]) if (page >= limit) file.store.delete(page);
  for (const words of [file.store.get(limit - 1), file.cache.get(limit - 1)?.words]) clearBehind(words, bytes % PAGE_BYTES);
  return 'ok';
}

export function syncFile(world: World, index: number, first: number = 0, end: number = Infinity): string {
  const file = world.files[index]!;
  for (const page of [...file.dirty]) {
    const cached = file.cache.get(page);
    if (!cached || page < first || page >= end) continue;
    for (const space of world.spaces) for (const entry of space?.entries ?? []) if (entry?.page === cached) entry.write = false;
    const words = [...cached.words];
    if (page === Math.floor(file.bytes / PAGE_BYTES)) clearBehind(words, file.bytes % PAGE_BYTES);
    file.store.set(page, words);
    file.dirty.delete(page);
  }
  return 'ok';
}

export function msync(world: World, space: SpaceModel, from: number, to: number): string {
  if (!isCovered(space, from, to)) return 'EINVAL';
  for (let slot = from; slot < to; slot++) {
    const { object, offset, shared } = space.promises[slot]!;
    const index = object && shared ? world.files.indexOf(object) : -1;
    if (index >= 0) syncFile(world, index, offset, offset + 1);
  }
  return 'ok';
}

export function closeFile(world: World, index: number): void {
  dropCache(world.files[index]!, 0);
}

/** Zeros from byte `rest` of a page on, unless the page is whole. */
function clearBehind(words: number[] | undefined, rest: number): void {
  if (words && rest !== 0) WORD_OFFSETS.forEach((offset, word) => (words[word] = offset >= rest ? 0 : words[word]!));
}
