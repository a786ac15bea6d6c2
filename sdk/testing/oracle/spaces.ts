/** A space begins, forks and ends. */
import { leaveSpace } from './devices.ts';
import { sweepObjects } from './files.ts';
import { toHost } from './migrations.ts';
import { cut, freshBlock, isPrivate, makePage, mapPage, split, zap } from './pages.ts';
import { vmasIn } from './promises.ts';
import { type Entry, HOST, type Page, SLOTS, type SpaceModel, windowOf, type World } from './state.ts';

export function createSpace(): SpaceModel {
  const space: SpaceModel = {
    promises: new Array(SLOTS.length).fill(undefined),
    entries: new Array(SLOTS.length).fill(undefined),
    attached: [],
  };
  return space;
}

export function fork(space: SpaceModel, device: 'share' | 'home' | 'omit'): SpaceModel {
  const child = createSpace();
  for (const part of vmasIn(space, 0, SLOTS.length)) {
    const { promise } = part;
    if (promise.dontfork) continue;
    for (let slot = part.from; slot < part.to; slot++) child.promises[slot] = space.promises[slot];
    if (promise.shared && !promise.special) continue;
    if (device === 'home') {
      for (let slot = part.from; slot < part.to; slot++) {
        const entry = space.entries[slot];
        if (entry && isPrivate(entry)) toHost(space, slot, part.to, entry.page!.memory);
      }
    }
    cut(space, part.from, part.to);
    for (let slot = part.from; slot < part.to; slot++) {
      const entry = space.entries[slot];
      if (!entry || (device === 'omit' && isPrivate(entry))) continue;
      if (entry.page && !entry.page.block?.hugetlb && entry.page.block && isPinned(entry)) split(space, slot);
    }
    let copied: Page[] | undefined;
    for (let slot = part.from; slot < part.to; slot++) {
      const entry = space.entries[slot];
      if (!entry || (device === 'omit' && isPrivate(entry))) continue;
      const { page } = entry;
      if (!page) {
        mapPage(child, slot, undefined, { ...entry });
        continue;
      }
      if (entry.exclusive) {
        entry.exclusive = false;
        entry.write = false;
      }
      entry.cpuReads = false;
      if (isPinned(entry)) {
        let copy = makePage(HOST, page.words, false, page.weight);
        if (page.block) {
          const window = windowOf(slot);
          if (slot === window) copied = freshBlock(window, HOST, true);
          copy = copied![slot - window]!;
          copy.words = [...page.words];
        }
        mapPage(child, slot, copy, { ...entry, page: copy });
        continue;
      }
      entry.write = false;
      entry.own = false;
      mapPage(child, slot, page, { ...entry });
    }
  }
  return child;
}

/** Whether a page is this space's own and somebody has it pinned, of a huge one any of it. */
function isPinned(entry: Entry): boolean {
  const { page } = entry;
  if (!page || !entry.own || page.isFile || isPrivate(entry)) return false;
  return (page.block ? page.block.pages : [page]).some((each) => each.pins > 0);
}

export function closeSpace(world: World, index: number): string {
  const space = world.spaces[index]!;
  zap(space, 0, SLOTS.length);
  space.promises.fill(undefined);
  for (const device of [...space.attached]) leaveSpace(world, space, device);
  world.spaces[index] = undefined;
  sweepObjects(world);
  return 'ok';
}
