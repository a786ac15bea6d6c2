/**
 * The oracle: every verb of the machine said a second time, in the plainest way. It decides by the promises, entries and pages of `state.ts`; memory never runs out here.
 *
 * Results are words: `ok`, `ok <value>`, or the code of the error. The one thing that it is told is whether a device has a translation of a page: which of them a device keeps
 * is nobody's promise, and whether those that it keeps are true is checked elsewhere.
 */
import {
  BASE_VPN,
  type Backing,
  type Block,
  type DeviceModel,
  type Entry,
  type Memory,
  type Page,
  type PinModel,
  type Promise_,
  type Prot,
  SLOTS,
  slotsOf,
  type SpaceModel,
  WINDOW_PAGES,
  WINDOW_SLOTS,
  windowOf,
  WORD_OFFSETS,
} from './state.ts';

const PAGE_BYTES = 4096;

export type FaultEnd = 'served' | 'no mapping' | 'permission' | 'bus error';

/** An operation that the universe has no place for: neither side does it. */
export const SKIP = 'skip';

const CODES: Readonly<Record<Exclude<FaultEnd, 'served'>, string>> = { 'no mapping': 'EFAULT', permission: 'EFAULT', 'bus error': 'EIO' };

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

export interface RemapRequest {
  readonly from: number;
  readonly to: number;
  readonly pages: number;
  readonly mayMove: boolean;
  /** Slot; -1: none. */
  readonly at: number;
  readonly dontUnmap: boolean;
}

export class Oracle {
  readonly host: Memory = { name: 'host', kind: 'host', device: undefined };
  readonly spaces: (SpaceModel | undefined)[] = [];
  readonly files: Backing[] = [];
  readonly devices: DeviceModel[] = [];
  readonly pins: (PinModel | undefined)[] = [];

  // ------------------------------------------------------------------------------------------------------------ the world

  addDevice(name: string, granulePages: number, kinds: readonly ('private' | 'coherent')[], atomics: DeviceModel['atomics']): DeviceModel {
    const device: DeviceModel = { name, granulePages, atomics, memories: [] };
    for (const kind of kinds) this.#plug(device, kind);
    this.devices.push(device);
    return device;
  }

  addFile(bytes: number, words: readonly (readonly number[])[]): void {
    const file: Backing = { kind: 'file', bytes, cache: new Map(), store: new Map(), dirty: new Set() };
    words.forEach((each, page) => file.store.set(page, [...each]));
    this.files.push(file);
  }

  createSpace(): SpaceModel {
    const space: SpaceModel = {
      promises: new Array(SLOTS.length).fill(undefined),
      entries: new Array(SLOTS.length).fill(undefined),
      attached: [],
    };
    return space;
  }

  #plug(device: DeviceModel, kind: 'private' | 'coherent'): number {
    let index = 0;
    while (device.memories[index]) index++;
    device.memories[index] = { name: `${device.name}.${index}`, kind, device };
    return index;
  }

  // ------------------------------------------------------------------------------------------------------------ promises

  /** The slots `[from, to)` of the VMA of a slot. */
  vma(space: SpaceModel, slot: number): { from: number; to: number; promise: Promise_ } {
    const promise = space.promises[slot]!;
    let from = slot;
    let to = slot + 1;
    while (from > 0 && isOne(space.promises[from - 1], SLOTS[from - 1]!.pages, space.promises[from]!)) from--;
    while (to < SLOTS.length && isOne(space.promises[to - 1], SLOTS[to - 1]!.pages, space.promises[to])) to++;
    return { from, to, promise };
  }

  /** VMAs that touch `[from, to)`, with the part inside. */
  vmas(space: SpaceModel, from: number, to: number): { from: number; to: number; promise: Promise_ }[] {
    const parts = [];
    for (let slot = from; slot < to;) {
      if (!space.promises[slot]) {
        slot++;
        continue;
      }
      const vma = this.vma(space, slot);
      parts.push({ from: Math.max(from, vma.from), to: Math.min(to, vma.to), promise: vma.promise });
      slot = vma.to;
    }
    return parts;
  }

  isCovered(space: SpaceModel, from: number, to: number): boolean {
    for (let slot = from; slot < to; slot++) if (!space.promises[slot]) return false;
    return true;
  }

  isFree(space: SpaceModel, from: number, to: number): boolean {
    for (let slot = from; slot < to; slot++) if (space.promises[slot]) return false;
    return true;
  }

  /** First fit from the base on. */
  gap(space: SpaceModel, pages: number, align: number): number {
    let start = BASE_VPN;
    for (const slot of SLOTS) {
      if (!space.promises[slot.index]) continue;
      if (start + pages <= slot.vpn) return start;
      start = Math.max(start, Math.ceil((slot.vpn + slot.pages) / align) * align);
    }
    return start;
  }

  cutsHugetlb(space: SpaceModel, from: number, to: number): boolean {
    return this.vmas(space, from, to).some(
      (part) => part.promise.hugetlb && (part.from % WINDOW_SLOTS !== 0 || part.to % WINDOW_SLOTS !== 0),
    );
  }

  // ------------------------------------------------------------------------------------------------------------ pages

  #page(memory: Memory, words: readonly number[], isFile: boolean, weight: number): Page {
    return {
      words: [...words],
      memory,
      isFile,
      isCached: false,
      maps: 0,
      pins: 0,
      block: undefined,
      reader: undefined,
      weight,
      frame: -1,
      seen: -1,
    };
  }

  #fresh(slot: number, memory: Memory = this.host): Page {
    return this.#page(memory, [0, 0, 0, 0], false, SLOTS[slot]!.pages);
  }

  #freshBlock(window: number, memory: Memory, hugetlb = false): Page[] {
    const pages: Page[] = [];
    for (let i = 0; i < WINDOW_SLOTS; i++) pages.push(this.#fresh(window + i, memory));
    const block: Block = { pages, hugetlb };
    for (const page of pages) page.block = block;
    return pages;
  }

  /** Who holds the page's frame: of a huge one, who holds any of it. */
  refs(page: Page): number {
    if (!page.block) return page.maps + page.pins + (page.isCached ? 1 : 0);
    let refs = page.maps;
    for (const each of page.block.pages) refs += each.pins * each.weight;
    return refs;
  }

  #isAlone(page: Page): boolean {
    return this.refs(page) === 1 && page.maps === 1;
  }

  #canMove(page: Page): boolean {
    return !page.isFile && !page.block?.hugetlb && this.refs(page) === page.maps;
  }

  /** Puts a page at a slot, in place of what is there. */
  #map(space: SpaceModel, slot: number, page: Page | undefined, marks: Partial<Entry>): Entry {
    this.#unmap(space, slot);
    const entry: Entry = {
      page,
      zero: false,
      hugeZero: false,
      special: false,
      write: false,
      own: false,
      noAccess: false,
      exclusive: false,
      cpuReads: false,
      ...marks,
    };
    if (page) page.maps++;
    space.entries[slot] = entry;
    return entry;
  }

  #unmap(space: SpaceModel, slot: number): void {
    const page = space.entries[slot]?.page;
    if (page) page.maps--;
    space.entries[slot] = undefined;
  }

  isPrivate(entry: Entry | undefined): boolean {
    return entry?.page?.memory.kind === 'private';
  }

  /** Present for the CPU, with some right. */
  isPresent(entry: Entry | undefined): boolean {
    return entry !== undefined && !entry.special && !entry.exclusive && !entry.noAccess && !this.isPrivate(entry);
  }

  /** A huge page, or the huge page of zeros, becomes small ones, for everybody. */
  #split(space: SpaceModel, slot: number): void {
    const entry = space.entries[slot];
    if (entry?.hugeZero) {
      const window = windowOf(slot);
      for (let i = 0; i < WINDOW_SLOTS; i++) space.entries[window + i]!.hugeZero = false;
    }
    const block = entry?.page?.block;
    if (block) for (const page of block.pages) page.block = undefined;
  }

  isHuge(entry: Entry | undefined): boolean {
    return entry !== undefined && (entry.hugeZero || entry.page?.block !== undefined);
  }

  /** Splits what reaches out of `[from, to)` at its borders. */
  #cut(space: SpaceModel, from: number, to: number): void {
    for (const slot of [from, to - 1]) {
      const window = windowOf(slot);
      if (window >= 0 && this.isHuge(space.entries[slot]) && (window < from || window + WINDOW_SLOTS > to)) this.#split(space, slot);
    }
  }

  #sweep(): void {
    const used = new Set<Backing>();
    for (const space of this.spaces) for (const promise of space?.promises ?? []) if (promise?.object) used.add(promise.object);
    for (const object of this.objects) {
      if (used.has(object)) continue;
      this.objects.delete(object);
      this.#drop(object, 0);
    }
  }

  /** Shared anonymous memory that somebody promises. */
  readonly objects: Set<Backing> = new Set();

  #drop(object: Backing, first: number): void {
    for (const [page, frame] of object.cache) {
      if (page < first) continue;
      frame.isCached = false;
      object.cache.delete(page);
    }
  }

  #limit(object: Backing): number {
    return object.kind === 'file' ? Math.ceil(object.bytes / PAGE_BYTES) : Infinity;
  }

  #cached(object: Backing, offset: number): Page {
    let page = object.cache.get(offset);
    if (!page) {
      page = this.#page(this.host, object.store.get(offset) ?? [0, 0, 0, 0], true, 1);
      page.isCached = true;
      object.cache.set(offset, page);
    }
    return page;
  }

  // ------------------------------------------------------------------------------------------------------------ mapping verbs

  mmap(space: SpaceModel, request: MapRequest): string {
    const { prot, at, shared, file, offset, hugetlb, special } = request;
    const pages = hugetlb ? Math.ceil(request.pages / WINDOW_PAGES) * WINDOW_PAGES : request.pages;
    if (file >= 0 && (hugetlb || special)) return 'EINVAL';
    if (special && hugetlb) return 'EINVAL';
    if (hugetlb && shared) return 'EINVAL';
    const align = hugetlb ? WINDOW_PAGES : 1;
    const start = at < 0 ? this.gap(space, pages, align) : SLOTS[at]!.vpn;
    if (at >= 0 && start % align !== 0) return 'EINVAL';
    const place = slotsOf(start, pages);
    if (!place) return SKIP;
    const object = file >= 0 ? this.files[file]! : shared && !special ? this.#anonymous() : undefined;
    for (let slot = place.from; object && slot < place.to; slot++) if (SLOTS[slot]!.pages > 1) return SKIP;
    if (!this.isFree(space, place.from, place.to)) return 'EINVAL';
    if (object && object.kind === 'anonymous') this.objects.add(object);
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

  #anonymous(): Backing {
    return { kind: 'anonymous', bytes: 0, cache: new Map(), store: new Map(), dirty: new Set() };
  }

  munmap(space: SpaceModel, from: number, to: number): string {
    if (this.cutsHugetlb(space, from, to)) return 'EINVAL';
    for (const part of this.vmas(space, from, to)) this.#zap(space, part.from, part.to);
    for (let slot = from; slot < to; slot++) space.promises[slot] = undefined;
    this.#sweep();
    return 'ok';
  }

  #zap(space: SpaceModel, from: number, to: number): void {
    this.#cut(space, from, to);
    for (let slot = from; slot < to; slot++) this.#unmap(space, slot);
  }

  mprotect(space: SpaceModel, from: number, to: number, prot: Prot): string {
    if (!this.isCovered(space, from, to) || this.cutsHugetlb(space, from, to)) return 'EINVAL';
    for (const part of this.vmas(space, from, to)) {
      if (part.promise.prot === prot) continue;
      this.#cut(space, part.from, part.to);
      for (let slot = part.from; slot < part.to; slot++) {
        const entry = space.entries[slot];
        if (entry) this.#underRights(entry, prot);
      }
    }
    for (let slot = from; slot < to; slot++) space.promises[slot] = { ...space.promises[slot]!, prot };
    return 'ok';
  }

  /** S2: write comes back in place where the page is the space's own and the CPU's; a page on a private memory lost it for good. */
  #underRights(entry: Entry, prot: Prot): void {
    if (entry.special) return;
    entry.noAccess = prot === 'none';
    if (entry.exclusive) return;
    entry.cpuReads = false;
    if (this.isPrivate(entry)) entry.write &&= prot === 'rw';
    else entry.write = prot === 'rw' && entry.own && !entry.zero;
  }

  madvise(space: SpaceModel, from: number, to: number, advice: string): string {
    if (!this.isCovered(space, from, to) || this.cutsHugetlb(space, from, to)) return 'EINVAL';
    const parts = this.vmas(space, from, to);
    for (const { promise } of parts) if (this.#refuses(promise, advice)) return 'EINVAL';
    switch (advice) {
      case 'dontneed':
        for (const part of parts) this.#zap(space, part.from, part.to);
        return 'ok';
      case 'free':
        for (const part of parts) this.#free(space, part.from, part.to);
        return 'ok';
      case 'collapse':
        return this.#collapse(space, from, to);
      default:
        // No huge page is of two mappings.
        this.#cut(space, from, to);
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

  #refuses(promise: Promise_, advice: string): boolean {
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

  #free(space: SpaceModel, from: number, to: number): void {
    for (let slot = from; slot < to; slot++) {
      const entry = space.entries[slot];
      if (!entry?.page || !this.isPresent(entry) || entry.page.isFile || !this.#isAlone(entry.page)) continue;
      const window = windowOf(slot);
      if (entry.page.block && (window < from || window + WINDOW_SLOTS > to)) this.#split(space, slot);
      if (!entry.page.block) this.#unmap(space, slot);
      else for (let i = 0; i < WINDOW_SLOTS; i++) this.#unmap(space, window + i);
    }
  }

  #collapse(space: SpaceModel, from: number, to: number): string {
    const first = Math.ceil((SLOTS[from]!.vpn - BASE_VPN) / WINDOW_PAGES);
    const end = Math.floor((SLOTS[to - 1]!.vpn + SLOTS[to - 1]!.pages - BASE_VPN) / WINDOW_PAGES);
    if (first >= end) return 'EINVAL';
    for (let i = first; i < end; i++) {
      const window = i * WINDOW_SLOTS;
      const vma = this.vma(space, window);
      if (vma.to < window + WINDOW_SLOTS || !isAnonymous(vma.promise) || vma.promise.nohugepage) return 'EINVAL';
      const { prot } = vma.promise;
      for (let slot = window; slot < window + WINDOW_SLOTS; slot++) {
        const entry = space.entries[slot];
        if (entry && this.isPrivate(entry)) this.#toHost(space, window, window + WINDOW_SLOTS, entry.page!.memory);
      }
      const entries = space.entries.slice(window, window + WINDOW_SLOTS);
      for (const entry of entries) {
        if (!entry) continue;
        if (entry.exclusive) this.#revoke(entry, prot);
      }
      if (this.isHuge(entries[0])) continue;
      for (const entry of entries) {
        if (!entry || entry.zero) continue;
        const page = entry.page;
        if (!page || page.isFile || !this.#isAlone(page) || page.memory.kind !== 'host') return 'EBUSY';
      }
      const pages = this.#freshBlock(window, this.host);
      for (let k = 0; k < WINDOW_SLOTS; k++) {
        const old = space.entries[window + k];
        if (old?.page) pages[k]!.words = [...old.page.words];
        this.#map(space, window + k, pages[k], { own: true, write: prot === 'rw', noAccess: prot === 'none' });
      }
    }
    return 'ok';
  }

  #revoke(entry: Entry, prot: Prot): void {
    entry.exclusive = false;
    entry.noAccess = prot === 'none';
    entry.write = prot === 'rw' && entry.own;
  }

  mremap(space: SpaceModel, { from, to, pages, mayMove, at, dontUnmap }: RemapRequest): string {
    const start = SLOTS[from]!.vpn;
    const oldPages = SLOTS[to - 1]!.vpn + SLOTS[to - 1]!.pages - start;
    if (at >= 0 && !mayMove) return 'EINVAL';
    if (dontUnmap && (!mayMove || pages !== oldPages)) return 'EINVAL';
    let target = at >= 0 ? SLOTS[at]!.vpn : -1;
    if (at >= 0 && target < start + oldPages && start < target + pages) return 'EINVAL';
    const fixed = at >= 0 ? slotsOf(target, pages) : undefined;
    if (at >= 0 && !fixed) return SKIP;
    const promise = space.promises[from];
    if (!promise || this.vma(space, from).to < to) return 'EFAULT';
    const vma = this.vma(space, from);
    const grows = pages > oldPages;
    if (grows && (promise.special === 'pfn' || promise.special === 'io')) return 'EFAULT';
    if (dontUnmap && promise.special) return 'EINVAL';
    if (promise.hugetlb && (grows || [start, oldPages, pages, at >= 0 ? target : 0].some((each) => each % WINDOW_PAGES !== 0)))
      return 'EINVAL';
    if (fixed && this.cutsHugetlb(space, fixed.from, fixed.to)) return 'EINVAL';
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
      target = this.gap(space, pages, align);
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
    if (pages < oldPages) this.#take(space, keptSlots.to, to);
    if (!moves) {
      for (let slot = to; slot < place.to; slot++)
        space.promises[slot] = { ...promise, offset: promise.object ? promise.offset + SLOTS[slot]!.vpn - start : 0 };
      this.#sweep();
      return `ok ${start}`;
    }
    if (at >= 0) this.#take(space, place.from, place.to);
    this.#cut(space, keptSlots.from, keptSlots.to);
    const isAligned = (target - start) % WINDOW_PAGES === 0;
    for (let i = 0; i < count; i++) {
      const old = from + i;
      const entry = space.entries[old];
      if (!entry) continue;
      if (!isAligned && this.isHuge(entry)) this.#split(space, old);
      entry.cpuReads = false;
      space.entries[place.from + i] = entry;
      space.entries[old] = undefined;
    }
    for (let slot = place.from; slot < place.to; slot++)
      space.promises[slot] = { ...promise, offset: promise.object ? promise.offset + SLOTS[slot]!.vpn - target : 0 };
    if (!dontUnmap) for (let slot = keptSlots.from; slot < keptSlots.to; slot++) space.promises[slot] = undefined;
    this.#sweep();
    return `ok ${target}`;
  }

  #take(space: SpaceModel, from: number, to: number): void {
    for (const part of this.vmas(space, from, to)) this.#zap(space, part.from, part.to);
    for (let slot = from; slot < to; slot++) space.promises[slot] = undefined;
  }

  insertPage(space: SpaceModel, slot: number, word: number): string {
    const promise = space.promises[slot];
    if (promise?.special !== 'mixed' || space.entries[slot]) return 'EINVAL';
    const page = this.#page(this.host, [word, 0, 0, 0], true, 1);
    this.#map(space, slot, page, { write: promise.shared && promise.prot === 'rw', noAccess: promise.prot === 'none' });
    return 'ok';
  }

  insertPfn(space: SpaceModel, slot: number): string {
    const promise = space.promises[slot];
    if (!promise?.special || space.entries[slot]) return 'EINVAL';
    this.#map(space, slot, undefined, { special: true, write: promise.shared && promise.prot === 'rw' });
    return 'ok';
  }

  // ------------------------------------------------------------------------------------------------------------ faults

  /** A CPU fault, or one on behalf of a device that owns `owner`. */
  fault(space: SpaceModel, slot: number, write: boolean, owner: DeviceModel | undefined = undefined, unshare = false): FaultEnd {
    const promise = space.promises[slot];
    if (!promise) return 'no mapping';
    if (promise.prot === 'none' || (write && promise.prot !== 'rw')) return 'permission';
    const entry = space.entries[slot];
    if (!entry) return this.#hole(space, slot, promise, write);
    if (entry.special) return 'bus error';
    if (entry.exclusive) {
      this.#revoke(entry, promise.prot);
      return 'served';
    }
    if (this.isPrivate(entry)) {
      const { memory } = entry.page!;
      if (memory.device === owner && (!write || entry.write)) return 'served';
      const granule = this.isHuge(entry) ? WINDOW_PAGES : memory.device!.granulePages;
      const { from, to } = this.granule(space, slot, granule);
      this.#toHost(space, from, to, memory);
      return 'served';
    }
    if (entry.noAccess) throw new Error('an entry without rights under a promise with rights');
    return this.#present(space, slot, promise, entry, write, unshare);
  }

  granule(space: SpaceModel, slot: number, pages: number): { from: number; to: number } {
    if (pages === 1) return { from: slot, to: slot + 1 };
    const window = windowOf(slot);
    const vma = this.vma(space, slot);
    // The small pages are in the window behind the last one.
    const first = window >= 0 ? window : 2 * WINDOW_SLOTS;
    const end = window >= 0 ? window + WINDOW_SLOTS : SLOTS.length;
    return { from: Math.max(first, vma.from), to: Math.min(end, vma.to) };
  }

  #wholeWindow(space: SpaceModel, slot: number): number {
    const window = windowOf(slot);
    if (window < 0) return -1;
    const vma = this.vma(space, slot);
    return vma.from <= window && vma.to >= window + WINDOW_SLOTS ? window : -1;
  }

  #isEmpty(space: SpaceModel, window: number): boolean {
    for (let i = 0; i < WINDOW_SLOTS; i++) if (space.entries[window + i]) return false;
    return true;
  }

  #hole(space: SpaceModel, slot: number, promise: Promise_, write: boolean): FaultEnd {
    const writable = promise.prot === 'rw';
    if (promise.object) {
      if (promise.offset >= this.#limit(promise.object)) return 'bus error';
      const page = this.#cached(promise.object, promise.offset);
      if (write && !promise.shared) {
        this.#map(space, slot, this.#page(this.host, page.words, false, 1), { write: true, own: true });
      } else {
        this.#map(space, slot, page, { write });
        if (write) promise.object.dirty.add(promise.offset);
      }
      return 'served';
    }
    if (promise.special) return 'bus error';
    const window = promise.hugetlb ? windowOf(slot) : promise.hugepage ? this.#wholeWindow(space, slot) : -1;
    if (window >= 0 && (promise.hugetlb || this.#isEmpty(space, window))) {
      if (!promise.hugetlb && !write) {
        for (let i = 0; i < WINDOW_SLOTS; i++) this.#map(space, window + i, undefined, { zero: true, hugeZero: true });
        return 'served';
      }
      const pages = this.#freshBlock(window, this.host, promise.hugetlb);
      for (let i = 0; i < WINDOW_SLOTS; i++)
        this.#map(space, window + i, pages[i], { own: true, write: promise.hugetlb ? write && writable : writable });
      return 'served';
    }
    if (write) this.#map(space, slot, this.#fresh(slot), { write: true, own: true });
    else this.#map(space, slot, undefined, { zero: true });
    return 'served';
  }

  #present(space: SpaceModel, slot: number, promise: Promise_, entry: Entry, write: boolean, unshare: boolean): FaultEnd {
    if (unshare ? entry.own && !entry.zero : !write || entry.write) return 'served';
    const window = windowOf(slot);
    if (entry.zero) {
      if (entry.hugeZero && !unshare) {
        const pages = this.#freshBlock(window, this.host);
        for (let i = 0; i < WINDOW_SLOTS; i++) this.#map(space, window + i, pages[i], { own: true, write: true });
        return 'served';
      }
      this.#split(space, slot);
      this.#map(space, slot, this.#fresh(slot), { own: true, write: !unshare });
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
    if (!page.isFile && (entry.own || this.#isAlone(page))) {
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
      const pages = this.#freshBlock(window, this.host, true);
      for (let i = 0; i < WINDOW_SLOTS; i++) {
        pages[i]!.words = [...space.entries[window + i]!.page!.words];
        this.#map(space, window + i, pages[i], { own: true, write: !unshare });
      }
      return 'served';
    }
    if (page.block) {
      this.#split(space, slot);
      return this.#present(space, slot, promise, entry, write, unshare);
    }
    this.#map(space, slot, this.#page(this.host, page.words, false, page.weight), { own: true, write: !unshare });
    return 'served';
  }

  /** One access of the CPU to a word. */
  access(space: SpaceModel, slot: number, word: number, value: number | undefined): string {
    for (let tries = 0; tries < 8; tries++) {
      const entry = space.entries[slot];
      if (entry && this.isPresent(entry) && (value === undefined || entry.write)) return this.#bytes(entry, word, value);
      const end = this.fault(space, slot, value !== undefined);
      if (end !== 'served') return CODES[end];
    }
    throw new Error('the oracle makes no progress');
  }

  #bytes(entry: Entry, word: number, value: number | undefined): string {
    if (value === undefined) return `ok ${entry.page?.words[word] ?? 0}`;
    entry.page!.words[word] = value;
    return 'ok';
  }

  // ------------------------------------------------------------------------------------------------------------ migration

  /** What of the slots is on a memory, comes home. Returns the pages. */
  #toHost(space: SpaceModel, from: number, to: number, memory: Memory): number {
    let moved = 0;
    for (let slot = from; slot < to; slot++) {
      const entry = space.entries[slot];
      if (entry?.page?.memory !== memory || entry.exclusive || (memory.kind === 'coherent' && entry.noAccess)) continue;
      const window = windowOf(slot);
      if (entry.page.block && (window < from || window + WINDOW_SLOTS > to)) this.#split(space, slot);
      moved += this.#move(entry.page, this.host);
    }
    return moved;
  }

  /** A page, of a huge one all, goes to a memory, whoever maps it, unless somebody holds it. */
  #move(page: Page, memory: Memory): number {
    if (!this.#canMove(page)) return 0;
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
  mayMove(promise: Promise_, entry: Entry): boolean {
    if (entry.zero) return isAnonymous(promise);
    if (entry.page!.memory.kind !== 'host') return false;
    if (isAnonymous(promise)) return true;
    return !promise.shared && !promise.hugetlb && !promise.special && !entry.page!.isFile;
  }

  /** Whether a slot is one that a migration to a device takes. */
  #goes(space: SpaceModel, slot: number): boolean {
    const entry = space.entries[slot];
    const promise = space.promises[slot]!;
    if (!entry) return isAnonymous(promise);
    return this.isPresent(entry) && this.mayMove(promise, entry);
  }

  #isWholeBlock(space: SpaceModel, window: number): boolean {
    if (window < 0 || this.#wholeWindow(space, window) !== window) return false;
    const entry = space.entries[window];
    if (this.isPresent(entry)) return this.isHuge(entry);
    return space.promises[window]!.hugepage && this.#isEmpty(space, window);
  }

  /** These slots go to a memory; as a huge page where they are named by `huge`. Returns the pages. */
  #toDevice(space: SpaceModel, slots: readonly number[], huge: ReadonlySet<number>, memory: Memory): number {
    let moved = 0;
    for (const slot of slots) {
      const promise = space.promises[slot]!;
      const marks = { own: true, write: promise.prot === 'rw' };
      const entry = space.entries[slot];
      if (huge.has(slot)) {
        if (entry?.page) moved += this.#move(entry.page, memory);
        else {
          const pages = this.#freshBlock(slot, memory);
          for (let i = 0; i < WINDOW_SLOTS; i++) this.#map(space, slot + i, pages[i], marks);
          moved += WINDOW_PAGES;
        }
        continue;
      }
      if (this.isHuge(entry)) this.#split(space, slot);
      if (entry?.page) moved += this.#move(entry.page, memory);
      else {
        this.#map(space, slot, this.#fresh(slot, memory), marks);
        moved += SLOTS[slot]!.pages;
      }
    }
    return moved;
  }

  migrate(space: SpaceModel, device: DeviceModel, from: number, to: number, toDevice: boolean, index: number): string {
    const memories = device.memories.filter((memory) => memory !== undefined);
    if (memories.length === 0) return 'EOPNOTSUPP';
    const memory = index < 0 ? undefined : device.memories[index];
    if (index >= 0 && !memory) return 'EINVAL';
    const target = toDevice ? (memory ?? memories[0]!) : undefined;
    const sources = toDevice ? (memory ? memories.filter((each) => each !== memory) : []) : memory ? [memory] : memories;
    let moved = 0;
    for (const part of this.vmas(space, from, to)) {
      for (const source of sources) {
        const home = this.#toHost(space, part.from, part.to, source);
        if (!toDevice) moved += home;
      }
      if (!target || part.promise.prot === 'none') continue;
      const need: number[] = [];
      const huge = new Set<number>();
      for (let slot = part.from; slot < part.to; slot++) {
        if (!this.#goes(space, slot)) continue;
        need.push(slot);
        if (device.granulePages < WINDOW_PAGES || windowOf(slot) !== slot || slot + WINDOW_SLOTS > part.to) continue;
        if (!this.#isWholeBlock(space, slot)) continue;
        huge.add(slot);
        slot += WINDOW_SLOTS - 1;
      }
      moved += this.#toDevice(space, need, huge, target);
    }
    return `ok ${moved}`;
  }

  // ------------------------------------------------------------------------------------------------------------ devices

  attach(space: SpaceModel, device: DeviceModel): string {
    if (space.attached.includes(device)) return 'EINVAL';
    space.attached.push(device);
    return 'ok';
  }

  detach(space: SpaceModel, device: DeviceModel): string {
    for (const memory of device.memories) {
      if (!memory) continue;
      for (let slot = 0; slot < SLOTS.length; slot++) {
        const entry = space.entries[slot];
        if (entry?.page?.memory !== memory) continue;
        if (entry.exclusive) this.#revoke(entry, space.promises[slot]!.prot);
        if (memory.kind === 'coherent' && entry.noAccess) {
          this.#move(entry.page, this.host);
          continue;
        }
        // All that follows, up to one that has to be revoked first, goes at once.
        let end = slot;
        for (const { to } = this.vma(space, slot); end < to && !space.entries[end]?.exclusive;) end++;
        this.#toHost(space, slot, end, memory);
        slot = end - 1;
      }
    }
    for (const entry of space.entries) if (entry?.page?.memory.device === device && !entry.exclusive) return 'EAGAIN';
    this.#leave(space, device);
    return 'ok';
  }

  #leave(space: SpaceModel, device: DeviceModel): void {
    if (!this.spaces.some((each) => each !== space && each?.attached.includes(device)))
      for (const memory of device.memories) if (memory) this.#evacuate(memory);
    space.attached.splice(space.attached.indexOf(device), 1);
  }

  /** Everything on a memory comes home. Returns whether all of it could. */
  #evacuate(memory: Memory): boolean {
    let left = false;
    for (const space of this.spaces) {
      if (!space) continue;
      for (let slot = 0; slot < SLOTS.length; slot++) {
        const entry = space.entries[slot];
        if (entry?.page?.memory !== memory) continue;
        if (entry.exclusive) this.#revoke(entry, space.promises[slot]!.prot);
        if (this.#move(entry.page, this.host) === 0) left = true;
      }
    }
    return !left;
  }

  addMemory(device: DeviceModel, kind: 'private' | 'coherent'): string {
    return `ok ${this.#plug(device, kind)}`;
  }

  removeMemory(device: DeviceModel, index: number): string {
    const memory = device.memories[index]!;
    let free = this.#evacuate(memory);
    for (const pin of this.pins) for (const { page } of pin?.pages ?? []) if (page?.memory === memory) free = false;
    if (!free) return 'EBUSY';
    device.memories[index] = undefined;
    return 'ok';
  }

  /** A device fault. */
  serve(space: SpaceModel, device: DeviceModel, slot: number, write: boolean): FaultEnd {
    const memory = device.memories.find((each) => each !== undefined);
    let small = false;
    for (let looks = 0; looks < 64; looks++) {
      const promise = space.promises[slot];
      if (!promise) return 'no mapping';
      if (promise.prot === 'none' || (write && promise.prot !== 'rw')) return 'permission';
      const entry = space.entries[slot];
      if (entry?.special) return 'bus error';
      if (entry?.exclusive || (entry?.noAccess && !this.isPrivate(entry))) {
        const end = this.fault(space, slot, write, device);
        if (end !== 'served') return end;
        continue;
      }
      if (entry && this.isPrivate(entry)) {
        if (entry.page!.memory.device === device && (!write || entry.write)) return 'served';
        const end = this.fault(space, slot, write, device);
        if (end !== 'served') return end;
        continue;
      }
      if (entry) {
        if (!memory) return this.#mirror(space, device, slot, write);
        if (write && !entry.write && !entry.zero) {
          const end = this.fault(space, slot, write, device);
          if (end !== 'served') return end;
          continue;
        }
        if (entry.page?.memory.device === device) return 'served';
        if (!this.mayMove(promise, entry)) return this.#mirror(space, device, slot, write);
      } else if (!memory || !isAnonymous(promise)) return this.#mirror(space, device, slot, write);
      const { from, to } = this.granule(space, slot, device.granulePages);
      if (
        !small &&
        device.granulePages === WINDOW_PAGES &&
        windowOf(slot) >= 0 &&
        this.#wholeWindow(space, slot) >= 0 &&
        this.#isWholeFor(space, slot)
      ) {
        const window = windowOf(slot);
        this.#toDevice(space, [window], new Set([window]), memory);
        if (space.entries[slot]!.page?.memory === memory) return 'served';
        small = true;
        continue;
      }
      const need: number[] = [];
      for (let each = from; each < to; each++) if (each === slot || this.#goes(space, each)) need.push(each);
      this.#toDevice(space, need, new Set(), memory!);
      if (space.entries[slot]!.page?.memory === memory) return 'served';
      return this.#mirror(space, device, slot, write);
    }
    return 'bus error';
  }

  /** As `#isWholeBlock`, looked at from the faulting page. */
  #isWholeFor(space: SpaceModel, slot: number): boolean {
    const entry = space.entries[slot];
    if (this.isPresent(entry)) return this.isHuge(entry);
    return space.promises[slot]!.hugepage && this.#isEmpty(space, windowOf(slot));
  }

  /** The device uses the page where the CPU has it. */
  #mirror(space: SpaceModel, device: DeviceModel, slot: number, write: boolean): FaultEnd {
    for (let tries = 0; tries < 8; tries++) {
      const promise = space.promises[slot]!;
      if (promise.special === 'pfn' || promise.special === 'io') return 'bus error';
      const entry = space.entries[slot];
      if (entry?.special) return 'bus error';
      if (this.isPresent(entry) && (!write || entry!.write)) return 'served';
      const end = this.fault(space, slot, write, device);
      if (end === 'permission') return end;
      if (end !== 'served') return 'bus error';
    }
    throw new Error('the oracle makes no progress');
  }

  /** One access of a device to a word. `reaches`: it has a translation that allows it. */
  deviceAccess(space: SpaceModel, device: DeviceModel, slot: number, word: number, value: number | undefined, reaches: boolean): string {
    if (!reaches) {
      const end = this.serve(space, device, slot, value !== undefined);
      if (end !== 'served') return CODES[end];
    }
    return this.#bytes(space.entries[slot]!, word, value);
  }

  atomic(space: SpaceModel, device: DeviceModel, slot: number, word: number, operand: number, has: boolean): string {
    let busy = false;
    let reaches = has;
    for (const means of [...device.atomics, undefined]) {
      let moved = false;
      for (;;) {
        const entry = space.entries[slot];
        const isOwn = entry?.page?.memory.device === device && !(entry.noAccess && entry.page.memory.kind === 'coherent');
        const isAlone = entry?.exclusive || entry?.cpuReads;
        if (means !== undefined && reaches && (means === 'native' || isOwn || isAlone)) return this.#add(entry!, word, operand);
        if (means === undefined) return busy ? 'EAGAIN' : 'EOPNOTSUPP';
        if (means === 'exclusive') {
          const end = this.exclusive(space, slot, false);
          if (end === 'done') return this.#add(space.entries[slot]!, word, operand);
          if (end !== 'not supported') return CODES[end];
          break;
        }
        if (means === 'migrate') {
          if (!device.memories.some((each) => each !== undefined)) break;
          if (reaches && this.#couldMove(space, slot)) {
            if (!moved) {
              moved = true;
              this.migrate(space, device, slot, slot + 1, true, -1);
              reaches = true;
              continue;
            }
            busy = true;
            break;
          }
        }
        if (!reaches) {
          const end = this.serve(space, device, slot, true);
          if (end !== 'served') return CODES[end];
          reaches = true;
        }
        const now = space.entries[slot]!;
        if (means === 'native' || now.page?.memory.device === device) return this.#add(now, word, operand);
        if (this.#couldMove(space, slot)) {
          // Made movable by the fault, and left where it was: asked for explicitly, once.
          if (means === 'migrate' && !moved) continue;
          busy = true;
        }
        break;
      }
    }
    throw new Error('unreachable');
  }

  #couldMove(space: SpaceModel, slot: number): boolean {
    const entry = space.entries[slot];
    return this.isPresent(entry) && this.mayMove(space.promises[slot]!, entry!);
  }

  #add(entry: Entry, word: number, operand: number): string {
    const { words } = entry.page!;
    const old = words[word]!;
    words[word] = (old + operand) >>> 0;
    return `ok ${old}`;
  }

  /** Makes a page exclusive to a device. */
  exclusive(space: SpaceModel, slot: number, cpuReads: boolean): 'done' | 'not supported' | Exclude<FaultEnd, 'served'> {
    const promise = space.promises[slot];
    if (!promise || promise.special === 'pfn' || promise.special === 'io') return 'no mapping';
    if (promise.prot !== 'rw') return 'permission';
    if (promise.shared || promise.hugetlb) return 'not supported';
    for (let tries = 0; tries < 64; tries++) {
      const entry = space.entries[slot];
      if (!entry || !this.isPresent(entry) || !entry.write || !entry.own) {
        const end = this.fault(space, slot, true);
        if (end !== 'served') return end;
        continue;
      }
      this.#split(space, slot);
      if (cpuReads) {
        entry.cpuReads = true;
        entry.page!.reader = entry;
        entry.write = false;
      } else entry.exclusive = true;
      return 'done';
    }
    throw new Error('the oracle makes no progress');
  }

  // ------------------------------------------------------------------------------------------------------------ fork

  fork(space: SpaceModel, device: 'share' | 'home' | 'omit'): SpaceModel {
    const child = this.createSpace();
    for (const part of this.vmas(space, 0, SLOTS.length)) {
      const { promise } = part;
      if (promise.dontfork) continue;
      for (let slot = part.from; slot < part.to; slot++) child.promises[slot] = space.promises[slot];
      if (promise.shared && !promise.special) continue;
      if (device === 'home') {
        for (let slot = part.from; slot < part.to; slot++) {
          const entry = space.entries[slot];
          if (entry && this.isPrivate(entry)) this.#toHost(space, slot, part.to, entry.page!.memory);
        }
      }
      this.#cut(space, part.from, part.to);
      for (let slot = part.from; slot < part.to; slot++) {
        const entry = space.entries[slot];
        if (!entry || (device === 'omit' && this.isPrivate(entry))) continue;
        if (entry.page && !entry.page.block?.hugetlb && entry.page.block && this.#isPinned(entry)) this.#split(space, slot);
      }
      let copied: Page[] | undefined;
      for (let slot = part.from; slot < part.to; slot++) {
        const entry = space.entries[slot];
        if (!entry || (device === 'omit' && this.isPrivate(entry))) continue;
        const { page } = entry;
        if (!page) {
          this.#map(child, slot, undefined, { ...entry });
          continue;
        }
        if (entry.exclusive) {
          entry.exclusive = false;
          entry.write = false;
        }
        entry.cpuReads = false;
        if (this.#isPinned(entry)) {
          let copy = this.#page(this.host, page.words, false, page.weight);
          if (page.block) {
            const window = windowOf(slot);
            if (slot === window) copied = this.#freshBlock(window, this.host, true);
            copy = copied![slot - window]!;
            copy.words = [...page.words];
          }
          this.#map(child, slot, copy, { ...entry, page: copy });
          continue;
        }
        entry.write = false;
        entry.own = false;
        this.#map(child, slot, page, { ...entry });
      }
    }
    return child;
  }

  /** Whether a page is this space's own and somebody has it pinned, of a huge one any of it. */
  #isPinned(entry: Entry): boolean {
    const { page } = entry;
    if (!page || !entry.own || page.isFile || this.isPrivate(entry)) return false;
    return (page.block ? page.block.pages : [page]).some((each) => each.pins > 0);
  }

  // ------------------------------------------------------------------------------------------------------------ pins

  pin(space: SpaceModel, from: number, to: number, write: boolean, longTerm: boolean): string {
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
        if (!entry || !this.isPresent(entry) || (write && !entry.write)) {
          const end = this.fault(space, slot, write);
          if (end !== 'served') return stop(CODES[end]);
          continue;
        }
        const isAnon = !entry.zero && !entry.page!.isFile;
        if (!promise.shared && !entry.own && (isAnon || longTerm)) {
          const end = this.fault(space, slot, false, undefined, true);
          if (end !== 'served') return stop(CODES[end]);
          continue;
        }
        if (longTerm && entry.page?.memory.kind === 'coherent') {
          const window = windowOf(slot);
          const [first, end] = entry.page.block ? [window, window + WINDOW_SLOTS] : [slot, slot + 1];
          this.#toHost(space, first, end, entry.page.memory);
          if (entry.page.memory.kind === 'coherent') return stop('EBUSY');
          continue;
        }
        if (entry.page) entry.page.pins++;
        const object = write && promise.shared ? promise.object : undefined;
        pages.push({ slot, page: entry.page, object, offset: promise.offset });
        break;
      }
    }
    this.pins.push({ pages, write });
    return 'ok';
  }

  pinAccess(index: number, at: number, word: number, value: number | undefined): string {
    const pin = this.pins[index]!;
    const { page, object, offset } = pin.pages[at]!;
    if (value === undefined) return `ok ${page?.words[word] ?? 0}`;
    if (!pin.write) return 'EPERM';
    page!.words[word] = value;
    if (object?.cache.get(offset) === page) object!.dirty.add(offset);
    return 'ok';
  }

  unpin(index: number): string {
    for (const { page } of this.pins[index]!.pages) if (page) page.pins--;
    this.pins[index] = undefined;
    return 'ok';
  }

  // ------------------------------------------------------------------------------------------------------------ files

  fileRead(index: number, page: number, word: number): string {
    const file = this.files[index]!;
    if (page * PAGE_BYTES + WORD_OFFSETS[word]! + 4 > file.bytes) return 'ok';
    return `ok ${(file.cache.get(page)?.words ?? file.store.get(page))?.[word] ?? 0}`;
  }

  fileWrite(index: number, page: number, word: number, value: number): string {
    const file = this.files[index]!;
    const cached = this.#cached(file, page);
    this.#grow(file, page * PAGE_BYTES + WORD_OFFSETS[word]! + 4);
    cached.words[word] = value;
    file.dirty.add(page);
    return 'ok';
  }

  /** What mappings wrote behind the end is not the file's: when that moves, it is zeros. */
  #grow(file: Backing, bytes: number): void {
    if (bytes <= file.bytes) return;
    clearBehind(file.cache.get(Math.floor(file.bytes / PAGE_BYTES))?.words, file.bytes % PAGE_BYTES);
    file.bytes = bytes;
  }

  truncate(index: number, bytes: number): string {
    const file = this.files[index]!;
    if (bytes >= file.bytes) {
      this.#grow(file, bytes);
      return 'ok';
    }
    file.bytes = bytes;
    const limit = this.#limit(file);
    for (const space of this.spaces)
      for (const slot of SLOTS) {
        const promise = space?.promises[slot.index];
        if (promise?.object === file && promise.offset >= limit) this.#unmap(space!, slot.index);
      }
    this.#drop(file, limit);
    for (const page of [...file.dirty]) if (page >= limit) file.dirty.delete(page);
    for (const page of [...file.store.keys()]) if (page >= limit) file.store.delete(page);
    for (const words of [file.store.get(limit - 1), file.cache.get(limit - 1)?.words]) clearBehind(words, bytes % PAGE_BYTES);
    return 'ok';
  }

  sync(index: number, first: number = 0, end: number = Infinity): string {
    const file = this.files[index]!;
    for (const page of [...file.dirty]) {
      const cached = file.cache.get(page);
      if (!cached || page < first || page >= end) continue;
      for (const space of this.spaces) for (const entry of space?.entries ?? []) if (entry?.page === cached) entry.write = false;
      const words = [...cached.words];
      if (page === Math.floor(file.bytes / PAGE_BYTES)) clearBehind(words, file.bytes % PAGE_BYTES);
      file.store.set(page, words);
      file.dirty.delete(page);
    }
    return 'ok';
  }

  msync(space: SpaceModel, from: number, to: number): string {
    if (!this.isCovered(space, from, to)) return 'EINVAL';
    for (let slot = from; slot < to; slot++) {
      const { object, offset, shared } = space.promises[slot]!;
      const index = object && shared ? this.files.indexOf(object) : -1;
      if (index >= 0) this.sync(index, offset, offset + 1);
    }
    return 'ok';
  }

  closeSpace(index: number): string {
    const space = this.spaces[index]!;
    this.#zap(space, 0, SLOTS.length);
    space.promises.fill(undefined);
    for (const device of [...space.attached]) this.#leave(space, device);
    this.spaces[index] = undefined;
    this.#sweep();
    return 'ok';
  }

  closeFile(index: number): void {
    this.#drop(this.files[index]!, 0);
  }

  /** Pages in use on each memory. */
  usage(): Map<Memory, number> {
    const pages = new Set<Page>();
    for (const space of this.spaces) for (const entry of space?.entries ?? []) if (entry?.page) pages.add(entry.page);
    for (const pin of this.pins) for (const { page } of pin?.pages ?? []) if (page) pages.add(page);
    for (const object of [...this.files, ...this.objects]) for (const page of object.cache.values()) pages.add(page);
    // A huge page is freed as one.
    for (const page of [...pages]) if (page.block) for (const each of page.block.pages) pages.add(each);
    const usage = new Map<Memory, number>();
    for (const page of pages) usage.set(page.memory, (usage.get(page.memory) ?? 0) + page.weight);
    return usage;
  }
}

function isAnonymous(promise: Promise_): boolean {
  return !promise.shared && !promise.object && !promise.special && !promise.hugetlb;
}

/** Zeros from byte `rest` of a page on, unless the page is whole. */
function clearBehind(words: number[] | undefined, rest: number): void {
  if (words && rest !== 0) WORD_OFFSETS.forEach((offset, word) => (words[word] = offset >= rest ? 0 : words[word]!));
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
