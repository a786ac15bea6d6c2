/**
 * Borrowed lists: what crosses a boundary by the range and not by the page. Each is filled by its owner, lent for one call, and reused; whoever wants to keep
 * something copies it.
 */

/** Page ranges, ascending in the order they were added; neighbours merge. */
export class Ranges {
  private readonly starts: number[] = [];
  private readonly lengths: number[] = [];
  private used = 0;

  /** How many ranges. */
  get count(): number {
    return this.used;
  }

  /** How many pages, all ranges together. */
  get pages(): number {
    let pages = 0;
    for (let i = 0; i < this.used; i++) pages += this.lengths[i]!;
    return pages;
  }

  /** First page of range `i`. */
  start(i: number): number {
    return this.starts[i]!;
  }

  /** Pages of range `i`. */
  length(i: number): number {
    return this.lengths[i]!;
  }

  /** Calls `visit` once for every range: first virtual page number, number of pages. */
  each(visit: (vpn: number, pages: number) => void): void {
    for (let i = 0; i < this.used; i++) visit(this.starts[i]!, this.lengths[i]!);
  }

  /** Empties the list; for its owner. */
  clear(): this {
    this.used = 0;
    return this;
  }

  /** Adds a range; one that begins where the last one ends makes it longer. For its owner. */
  add(vpn: number, pages: number): void {
    const last = this.used - 1;
    if (last >= 0 && this.starts[last]! + this.lengths[last]! === vpn) {
      this.lengths[last]! += pages;
      return;
    }
    this.starts[this.used] = vpn;
    this.lengths[this.used] = pages;
    this.used++;
  }
}

/** What a device did with a page since it was asked last. */
export interface Mark {
  /** Virtual page number. */
  readonly vpn: number;
  readonly accessed: boolean;
  readonly dirty: boolean;
}

/** Marks that a list has room for when it is first needed. */
const FEW_MARKS = 64;

/** Marks that a driver hands over: what `walk.harvest` fills. */
export class Marks {
  private vpns: Float64Array = new Float64Array(0);
  private dirt: Uint8Array = new Uint8Array(0);
  private used = 0;

  /** How many pages. */
  get count(): number {
    return this.used;
  }

  /** Adds a page that was accessed; `dirty`: written. In any order; a page may come twice. */
  add(vpn: number, dirty: boolean): void {
    if (this.used === this.vpns.length) this.makeRoom();
    // What is no number shall not become one.
    this.vpns[this.used] = Number.isFinite(vpn) ? vpn : NaN;
    this.dirt[this.used++] = dirty ? 1 : 0;
  }

  /** Calls `visit` for every page that was added. */
  each(visit: (vpn: number, dirty: boolean) => void): void {
    for (let i = 0; i < this.used; i++) visit(this.vpns[i]!, this.dirt[i] === 1);
  }

  /** Mark `i` without a call for it: its page, and whether it was written. For the framework. */
  vpn(i: number): number {
    return this.vpns[i]!;
  }

  isDirty(i: number): boolean {
    return this.dirt[i] === 1;
  }

  /** Empties the list; for its owner. */
  clear(): this {
    this.used = 0;
    return this;
  }

  /** Ascending by page, each page once: written, if it was by any of its marks. For its owner. Requires: page numbers below 2^52. */
  sort(): this {
    if (this.isSorted()) return this;
    const { vpns, dirt, used } = this;
    // A page and its mark are one number; what was written comes behind what was not.
    for (let i = 0; i < used; i++) vpns[i] = vpns[i]! * 2 + dirt[i]!;
    vpns.subarray(0, used).sort();
    let kept = 0;
    for (let i = 0; i < used; i++) {
      const vpn = Math.floor(vpns[i]! / 2);
      const dirty = vpns[i]! % 2;
      if (kept === 0 || vpns[kept - 1] !== vpn) kept++;
      vpns[kept - 1] = vpn;
      dirt[kept - 1] = dirty;
    }
    this.used = kept;
    return this;
  }

  private isSorted(): boolean {
    for (let i = 1; i < this.used; i++) if (this.vpns[i - 1]! >= this.vpns[i]!) return false;
    return true;
  }

  private makeRoom(): void {
    const length = Math.max(FEW_MARKS, 2 * this.vpns.length);
    const { vpns, dirt } = this;
    this.vpns = new Float64Array(length);
    this.vpns.set(vpns);
    this.dirt = new Uint8Array(length);
    this.dirt.set(dirt);
  }
}

/** Finds where a frame is: its memory (an index into the driver's list, HOST = -1) and its page there. */
export interface Locator {
  memoryOf(frame: number): number;
  pageOf(frame: number): number;
}

/** Translations to install: contiguous pages of one memory with the same right to write are one item. */
export class Mappings {
  private readonly vpns: number[] = [];
  private readonly lengths: number[] = [];
  private readonly frames: number[] = [];
  private readonly writes: boolean[] = [];
  private readonly bits: number[] = [];
  private used = 0;
  private readonly locator: Locator;

  constructor(locator: Locator) {
    this.locator = locator;
  }

  get count(): number {
    return this.used;
  }

  get pages(): number {
    let pages = 0;
    for (let i = 0; i < this.used; i++) pages += this.lengths[i]!;
    return pages;
  }

  /**
   * Calls `visit` once for every item: first virtual page, number of pages, first page within its memory, which memory (an index into the driver's `memory`, or
   * HOST), whether writes are allowed, and the opaque bits of `context.setAttributes`.
   */
  each(visit: (vpn: number, pages: number, page: number, memory: number, write: boolean, attributes: number) => void): void {
    for (let i = 0; i < this.used; i++) {
      const frame = this.frames[i]!;
      visit(this.vpns[i]!, this.lengths[i]!, this.locator.pageOf(frame), this.locator.memoryOf(frame), this.writes[i]!, this.bits[i]!);
    }
  }

  /** The same with frame numbers of the machine: for the ready-made table. */
  eachFrame(visit: (vpn: number, pages: number, frame: number, write: boolean, attributes: number) => void): void {
    for (let i = 0; i < this.used; i++) visit(this.vpns[i]!, this.lengths[i]!, this.frames[i]!, this.writes[i]!, this.bits[i]!);
  }

  /** Item `i` without a call for it: its first virtual page, its pages, the first page within its memory, which memory, the first frame, whether writes are allowed, the opaque bits. */
  vpn(i: number): number {
    return this.vpns[i]!;
  }

  length(i: number): number {
    return this.lengths[i]!;
  }

  page(i: number): number {
    return this.locator.pageOf(this.frames[i]!);
  }

  memory(i: number): number {
    return this.locator.memoryOf(this.frames[i]!);
  }

  frame(i: number): number {
    return this.frames[i]!;
  }

  isWritable(i: number): boolean {
    return this.writes[i]!;
  }

  attributes(i: number): number {
    return this.bits[i]!;
  }

  clear(): this {
    this.used = 0;
    return this;
  }

  /** Adds one page, or `pages` of them with frames that follow each other; they join the last item when both page and frame follow on and the right and the opaque bits are the same. For its owner. */
  add(vpn: number, frame: number, write: boolean, attributes = 0, pages = 1): void {
    const last = this.used - 1;
    if (last >= 0) {
      const had = this.lengths[last]!;
      const follows = this.vpns[last]! + had === vpn && this.frames[last]! + had === frame;
      if (follows && this.writes[last] === write && this.bits[last] === attributes) {
        this.lengths[last] = had + pages;
        return;
      }
    }
    const i = this.used++;
    this.vpns[i] = vpn;
    this.lengths[i] = pages;
    this.frames[i] = frame;
    this.writes[i] = write;
    this.bits[i] = attributes;
  }
}

/** One side of a copy between two devices, as the driver of that side knows it. */
export interface PeerPlace {
  /** Name of the device. */
  readonly device: string;
  /** Index into that driver's `memory`. */
  readonly memory: number;
  /** Page in there. */
  readonly page: number;
}

/** Where a list of copies stands: what its frames are, and how their bytes move. */
export interface CopyGround extends Locator {
  /** Moves bytes inside the machine's memory; a source of -1 means: clear the target. */
  copyRun(from: number, to: number, pages: number): void;
  /** A view of the bytes of frames, empty when they are elsewhere. */
  bytesOf(frame: number, pages: number): Uint8Array;
  /** Where a frame of a device is for that device's own driver; undefined for the host's. */
  placeOf?(frame: number): PeerPlace | undefined;
}

/** Pages to copy, or to clear, between two memories: one submission to a copy engine. */
export class Copies {
  private readonly sources: number[] = [];
  private readonly targets: number[] = [];
  private readonly lengths: number[] = [];
  private used = 0;
  private readonly ground: CopyGround;

  constructor(ground: CopyGround) {
    this.ground = ground;
  }

  /** Contiguous pieces. */
  get count(): number {
    return this.used;
  }

  get pages(): number {
    let pages = 0;
    for (let i = 0; i < this.used; i++) pages += this.lengths[i]!;
    return pages;
  }

  /** Calls `visit` for every piece that is contiguous on both sides: pages, source memory and page, target memory and page. */
  each(visit: (pages: number, fromMemory: number, fromPage: number, toMemory: number, toPage: number) => void): void {
    for (let i = 0; i < this.used; i++) {
      const from = this.sources[i]!;
      const to = this.targets[i]!;
      const source = from < 0 ? -1 : this.ground.pageOf(from);
      visit(this.lengths[i]!, from < 0 ? -1 : this.ground.memoryOf(from), source, this.ground.memoryOf(to), this.ground.pageOf(to));
    }
  }

  /**
   * Calls `visit` for every piece with the device's side of it and the host's bytes: first page in the device's memory, pages, and a view of the host's side, to
   * be read when the copy goes to the device and filled when it goes to the host. Borrowed: empty when the machine is closed. Not for `zero`, which has no
   * host side. For a memory whose bytes the driver holds.
   */
  eachHost(visit: (page: number, pages: number, bytes: Uint8Array) => void): void {
    for (let i = 0; i < this.used; i++) {
      const from = this.sources[i]!;
      if (from < 0) continue;
      const to = this.targets[i]!;
      const [host, device] = this.ground.memoryOf(from) < 0 ? [from, to] : [to, from];
      visit(this.ground.pageOf(device), this.lengths[i]!, this.ground.bytesOf(host, this.lengths[i]!));
    }
  }

  /**
   * Calls `visit` for every piece of a copy between two devices, with both sides as their own drivers know them: first page from, first page to, pages, and the bytes of each side, empty where a
   * driver holds them. Borrowed. For `copy.peer`; `each` has the same pieces as the driver that copies knows them.
   */
  eachPeer(
    visit: (from: PeerPlace, to: PeerPlace, pages: number, bytes: { readonly from: Uint8Array; readonly to: Uint8Array }) => void,
  ): void {
    for (let i = 0; i < this.used; i++) {
      const pages = this.lengths[i]!;
      const from = this.ground.placeOf?.(this.sources[i]!);
      const to = this.ground.placeOf?.(this.targets[i]!);
      if (!from || !to) continue;
      visit(from, to, pages, { from: this.ground.bytesOf(this.sources[i]!, pages), to: this.ground.bytesOf(this.targets[i]!, pages) });
    }
  }

  /** Moves the bytes now, where both sides are in the machine's memory: what a model of a copy engine calls when its copy is done. */
  perform(): void {
    for (let i = 0; i < this.used; i++) this.ground.copyRun(this.sources[i]!, this.targets[i]!, this.lengths[i]!);
  }

  /** A copy of this list, or of its first `pages` pages, that may be kept: for a copy engine that finishes later and then calls `perform` on it. */
  keep(pages: number = Infinity): Copies {
    const kept = new Copies(this.ground);
    let left = pages;
    for (let i = 0; i < this.used; i++) {
      for (let page = 0; page < this.lengths[i]! && left > 0; page++, left--)
        kept.add(this.sources[i]! < 0 ? -1 : this.sources[i]! + page, this.targets[i]! + page);
    }
    return kept;
  }

  clear(): this {
    this.used = 0;
    return this;
  }

  /** Adds `pages` pages from frame `from` on (-1: nothing, clear) to frame `to` and those behind it. For its owner. */
  add(from: number, to: number, pages = 1): void {
    const last = this.used - 1;
    if (last >= 0) {
      const had = this.lengths[last]!;
      const follows = from < 0 ? this.sources[last]! < 0 : this.sources[last]! >= 0 && this.sources[last]! + had === from;
      if (follows && this.targets[last]! + had === to) {
        this.lengths[last] = had + pages;
        return;
      }
    }
    const i = this.used++;
    this.sources[i] = from;
    this.targets[i] = to;
    this.lengths[i] = pages;
  }
}
