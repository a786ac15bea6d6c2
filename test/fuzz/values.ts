/**
 * The value model: what every byte must be, and nothing of where it is. Private memory is a map of values that fork copies; shared memory is the object's; a private page of a
 * file is the file's until it is written. No sharing, no frames, no tables: plain enough to be right by reading.
 *
 * A page is two words, at its start and in its middle.
 */

/** Words of a page, by offset 0 and HALF. Its identity is the page's: a pin keeps it. */
export interface Page {
  a: number;
  b: number;
}

export const HALF = 2048;
export const PAGE = 4096;

/** Pages that several mappings see. */
export interface Shared {
  readonly kind: 'anonymous' | 'file';
  readonly pages: Map<number, Page>;
  /** What write-back has stored. */
  readonly stored: Map<number, Page>;
  /** Length; anonymous ones have no end. */
  bytes: number;
}

/** What is promised for a page. */
export interface Promise_ {
  read: boolean;
  write: boolean;
  readonly shared: boolean;
  readonly object: Shared | undefined;
  /** Page of the object. */
  readonly index: number;
  dontFork: boolean;
  /** A driver's mapping: there is what was inserted, and nothing else. */
  readonly special: boolean;
}

export function newShared(kind: Shared['kind'], bytes: number): Shared {
  return { kind, pages: new Map(), stored: new Map(), bytes };
}

/** How an access ends. */
export type Ending = 'done' | 'EFAULT' | 'EIO';

/** One address space. */
export class ValueSpace {
  readonly promises: Map<number, Promise_> = new Map();
  readonly pages: Map<number, Page> = new Map();

  /** Whether an access may happen, and how it fails. */
  ending(vpn: number, write: boolean): Ending {
    const promise = this.promises.get(vpn);
    if (!promise || !promise.read || (write && !promise.write)) return 'EFAULT';
    if (promise.special && !this.pages.has(vpn)) return 'EIO';
    if (promise.object?.kind === 'file' && promise.index * PAGE >= promise.object.bytes && !this.pages.has(vpn)) return 'EIO';
    return 'done';
  }

  /** The page as it is read; a fresh one of zeros where nothing has been written. Not to be written to. */
  look(vpn: number): Page {
    const promise = this.promises.get(vpn)!;
    return this.pages.get(vpn) ?? promise.object?.pages.get(promise.index) ?? { a: 0, b: 0 };
  }

  /** The page to write to: the object's when shared, else this space's own. */
  own(vpn: number): Page {
    const { shared, object, index } = this.promises.get(vpn)!;
    if (shared && object) return ownOf(object.pages, index, { a: 0, b: 0 });
    return ownOf(this.pages, vpn, this.look(vpn));
  }

  fork(): ValueSpace {
    const child = new ValueSpace();
    for (const [vpn, promise] of this.promises) {
      if (promise.dontFork) continue;
      child.promises.set(vpn, { ...promise });
      const page = this.pages.get(vpn);
      if (page) child.pages.set(vpn, { ...page });
    }
    return child;
  }

  unmap(vpn: number): void {
    this.promises.delete(vpn);
    this.pages.delete(vpn);
  }

  /** Page `from` and its promise go to `to`; with `keep` the old promise stays, empty. */
  move(from: number, to: number, keep: boolean): void {
    const promise = this.promises.get(from)!;
    const page = this.pages.get(from);
    this.pages.delete(from);
    if (!keep) this.promises.delete(from);
    this.promises.set(to, { ...promise });
    if (page) this.pages.set(to, page);
  }
}

export function ownOf(pages: Map<number, Page>, key: number, old: Page): Page {
  let page = pages.get(key);
  if (!page) {
    page = { ...old };
    pages.set(key, page);
  }
  return page;
}

/** A file gets longer: what mappings wrote behind its end, in its last page, is zeros. */
export function grow(object: Shared, bytes: number): void {
  if (bytes <= object.bytes) return;
  const last = object.pages.get(Math.ceil(object.bytes / PAGE) - 1);
  if (last && endsInside(object.bytes)) last.b = 0;
  object.bytes = bytes;
}

/** Whether a length ends before the second word of a page. */
function endsInside(bytes: number): boolean {
  return bytes % PAGE !== 0 && bytes % PAGE <= HALF;
}

/** Write-back of one page: what lies behind the end is not the file's. */
export function store(object: Shared, index: number): void {
  const page = object.pages.get(index);
  if (!page || index * PAGE >= object.bytes) return;
  const cut = index === Math.ceil(object.bytes / PAGE) - 1 && endsInside(object.bytes);
  object.stored.set(index, { a: page.a, b: cut ? 0 : page.b });
}

/** What a file is after its end has moved. */
export function truncate(object: Shared, bytes: number, spaces: readonly ValueSpace[]): void {
  grow(object, bytes);
  if (bytes === object.bytes) return;
  object.bytes = bytes;
  const limit = Math.ceil(bytes / PAGE);
  for (const pages of [object.pages, object.stored]) {
    for (const index of [...pages.keys()]) if (index >= limit) pages.delete(index);
    const last = pages.get(limit - 1);
    if (last && endsInside(bytes)) last.b = 0;
  }
  for (const space of spaces)
    for (const [vpn, promise] of space.promises) if (promise.object === object && promise.index >= limit) space.pages.delete(vpn);
}
