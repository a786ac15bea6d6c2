/** Pages that are held where they are. */
import { CODES, fault } from './faults.ts';
import { toHost } from './migrations.ts';
import { isPresent } from './pages.ts';
import { type Backing, type Page, type SpaceModel, WINDOW_SLOTS, windowOf, type World } from './state.ts';

export function pinPages(world: World, space: SpaceModel, from: number, to: number, write: boolean, longTerm: boolean): string {
  const pages: { slot: number; page: Page | undefined; object: Backing | undefined; offset: number }[] = [];
  const stop = (code: string): string => {
    for (const { page } of pages) if (page) page.pins--;
    return code;
  };
  for (let slot = from; slot < to; slot++) {
    for (let tries = 0; ; tries++) {
      if (tries > 64) throw new Error('the oracle makes no progress');
      const promise = space.promises[slot];
      if (!promise || promise.special === 'pfn' || promise.special === 'io') return stop('EFAULT');
      if (promise.prot === 'none' || (write && promise.prot !== 'rw')) return stop('EFAULT');
      if (write && longTerm && promise.shared && promise.object?.kind === 'file') return stop('EFAULT');
      const entry = space.entries[slot];
      if (entry?.special) return stop('EFAULT');
      if (!entry || !isPresent(entry) || (write && !entry.write)) {
        const end = fault(space, slot, write);
        if (end !== 'served') return stop(CODES[end]);
        continue;
      }
      const isAnon = !entry.zero && !entry.page!.isFile;
      if (!promise.shared && !entry.own && (isAnon || longTerm)) {
        const end = fault(space, slot, false, undefined, true);
        if (end !== 'served') return stop(CODES[end]);
        continue;
      }
      if (longTerm && entry.page?.memory.kind === 'coherent') {
        const window = windowOf(slot);
        const [first, end] = entry.page.block ? [window, window + WINDOW_SLOTS] : [slot, slot + 1];
        toHost(space, first, end, entry.page.memory);
        if (entry.page.memory.kind === 'coherent') return stop('EBUSY');
        continue;
      }
      if (entry.page) entry.page.pins++;
      const object = write && promise.shared ? promise.object : undefined;
      pages.push({ slot, page: entry.page, object, offset: promise.offset });
      break;
    }
  }
  world.pins.push({ pages, write });
  return 'ok';
}

export function pinAccess(world: World, index: number, at: number, word: number, value: number | undefined): string {
  const pin = world.pins[index]!;
  const { page, object, offset } = pin.pages[at]!;
  if (value === undefined) return `ok ${page?.words[word] ?? 0}`;
  if (!pin.write) return 'EPERM';
  page!.words[word] = value;
  if (object?.cache.get(offset) === page) object!.dirty.add(offset);
  return 'ok';
}

export function unpin(world: World, index: number): string {
  for (const { page } of world.pins[index]!.pages) if (page) page.pins--;
  world.pins[index] = undefined;
  return 'ok';
}
