/**
 * Shared objects: what stands behind memory that several mappings see. Their pages are host frames in a page cache, one for each page of the object; every space that maps the
 * object maps those.
 *
 * ```
 *   object page      0        1        2        3
 *   cache            [f17]    -        [f4]     -          f17: references = mappings + 1 for the cache
 *   space A          vpn 80   81       82       83         shared: the cached frame itself
 *   space B          -        vpn 12   13       14         private: the cached frame read-only, a copy after a write
 * ```
 *
 * An anonymous object (shared anonymous memory) lives as long as a page of it is promised somewhere. A file lives until it is closed; what was written to its pages reaches
 * its backing store by write-back (`sync`, `msync`).
 *
 * Models: `struct address_space` (`i_pages`), `shmem`, `filemap_fault`, `filemap_fdatawrite`.
 */
import * as L from '../../assembly/layout.ts';
import { PageMap } from '../core/page-map.ts';
import { fail } from '../errors.ts';
import { Lock } from '../step/lock.ts';
import { requireBytes, requireLength as requireReadLength } from './arguments.ts';
import type { Platform } from './platform.ts';
import { Truncate } from './truncate.ts';
import { WriteBack } from './write-back.ts';

/** The longest file, in bytes. */
export const FILE_BYTES_MAX: number = 2 ** 40;

/** Pages that several mappings see. */
export class SharedObject {
  readonly kind: 'anonymous' | 'file';
  protected readonly platform: Platform;
  /** Cached frames by page of the object. */
  protected readonly frames: PageMap = new PageMap();
  /** Pages of VMAs that name this object, counted once a VMA. */
  protected promised = 0;

  constructor(platform: Platform, kind: 'anonymous' | 'file' = 'anonymous') {
    this.platform = platform;
    this.kind = kind;
  }

  /** Whether it is of this machine. */
  isOf(platform: Platform): boolean {
    return this.platform === platform;
  }

  /** Pages before the end: a touch past it is a bus error. */
  get pagesLimit(): number {
    return Infinity;
  }

  /** Pages in the cache. */
  get cached(): number {
    return this.frames.size;
  }

  /** The cached frame of a page. */
  frameOf(page: number): number | undefined {
    return this.frames.get(page);
  }

  /** Puts a page into the cache: a host frame with the bytes of the backing store, or zeros. Returns it, or -1 when there is none. Requires: not cached. */
  take(page: number): number {
    const { core, host } = this.platform;
    const frame = host.take();
    if (frame < 0) return L.FRAME_NONE;
    core.exports.frameClear(frame);
    const record = core.frameRecord(frame);
    core.setField(record, L.FRAME_FLAGS, core.field(record, L.FRAME_FLAGS) | L.FRAME_FILE | L.FRAME_CACHED);
    this.frames.set(page, frame);
    return frame;
  }

  /** A page has been, or is about to be, written to. */
  markDirty(_page: number): void {}

  /** More pages of VMAs name the object; the VMA set says so. */
  mapped(pages: number): void {
    this.promised += pages;
  }

  /** Fewer do: the pages of an anonymous object go with its last promise. */
  unmapped(pages: number): void {
    this.promised -= pages;
    if (this.promised === 0 && this.kind === 'anonymous') this.drop(0);
  }

  /** Takes every page from `first` on out of the cache; one that is mapped yet lives as long as that. */
  drop(first: number): void {
    const { core } = this.platform;
    const { frames } = this;
    for (let at = frames.next(0); at >= 0; at = frames.next(at + 1)) {
      if (frames.pageAt(at) < first) continue;
      const frame = frames.valueAt(at);
      frames.delete(frames.pageAt(at));
      const record = core.frameRecord(frame);
      core.setField(record, L.FRAME_FLAGS, core.field(record, L.FRAME_FLAGS) & ~L.FRAME_CACHED);
      core.exports.framePut(frame);
    }
  }

  /** The bytes of a cached page. Borrowed until the next call into the core. */
  protected bytesOf(frame: number): Uint8Array {
    const { core } = this.platform;
    const at = core.frameBytes(frame);
    return core.u8.subarray(at, at + L.PAGE_BYTES);
  }
}

/** A file. Made by `machine.createFile`; map it with `space.mmap({ file, ... })`. */
export class MemoryFile extends SharedObject {
  /** Names it in events: 1 for the first file of the machine. */
  readonly id: number;
  /** @internal One truncation at a time. */
  readonly lock: Lock;
  private length = 0;
  private open = true;
  /** What write-back has stored, by page; a page that is not here is zeros. */
  private readonly disk: Map<number, Uint8Array> = new Map();
  private readonly unwritten: PageMap = new PageMap();

  /** @internal Use `machine.createFile`. */
  constructor(platform: Platform, bytes: number, content: Uint8Array | undefined) {
    super(platform, 'file');
    requireLength('createFile.bytes', bytes);
    this.id = ++platform.lastFile;
    this.lock = new Lock('file', this.id);
    this.length = bytes;
    for (let at = 0; content && at < content.length; at += L.PAGE_BYTES) {
      const page = new Uint8Array(L.PAGE_BYTES);
      page.set(content.subarray(at, at + L.PAGE_BYTES));
      this.disk.set(at / L.PAGE_BYTES, page);
    }
  }

  /** Length in bytes. */
  get bytes(): number {
    return this.length;
  }

  override get pagesLimit(): number {
    return Math.ceil(this.length / L.PAGE_BYTES);
  }

  /** Pages that write-back has to store. */
  get dirty(): number {
    return this.unwritten.size;
  }

  override take(page: number): number {
    this.requireOpen('page of the file');
    const frame = super.take(page);
    const stored = this.disk.get(page);
    if (frame >= 0 && stored) this.platform.core.u8.set(stored, this.platform.core.frameBytes(frame));
    return frame;
  }

  override markDirty(page: number): void {
    this.unwritten.set(page, 1);
  }

  /** Reads up to `bytes` bytes from byte `offset` on, as every mapping sees them; fewer at the end of the file. Models: `pread`. */
  read(offset: number, bytes: number): Uint8Array {
    this.requireOpen('read');
    requireLength('read.offset', offset);
    requireLength('read.bytes', bytes);
    const there = Math.max(0, Math.min(bytes, this.length - offset));
    requireReadLength('read.bytes', there);
    const into = new Uint8Array(there);
    this.each(offset, into.length, (page, at, done, length) => {
      const frame = this.frames.get(page);
      // A view is only made of a part of a page: whole ones pass through the bytes area.
      if (frame !== undefined && length === L.PAGE_BYTES) this.fetch(frame, into, done);
      else {
        const source = frame === undefined ? this.disk.get(page) : this.bytesOf(frame);
        if (source) into.set(length === L.PAGE_BYTES ? source : source.subarray(at, at + length), done);
      }
    });
    return into;
  }

  /** Copies the bytes of a cached page to `into`, from byte `to` on. */
  private fetch(frame: number, into: Uint8Array, to: number): void {
    const { core } = this.platform;
    const at = core.frameBytes(frame);
    const { bytesArea } = core;
    bytesArea.room(0, L.PAGE_BYTES, 0);
    core.u8.copyWithin(bytesArea.address, at, at + L.PAGE_BYTES);
    bytesArea.take(into, to, L.PAGE_BYTES);
  }

  /**
   * Writes bytes from byte `offset` on into the page cache; the file grows as needed. A host that is full makes room in its second tier. Errors: ENOMEM when host memory is exhausted, EBUSY while a device flushes
   * what would make room: what was written before stays written. Models: `pwrite`.
   */
  write(offset: number, bytes: Uint8Array): void {
    this.requireOpen('write');
    this.platform.requireIdle('write');
    requireLength('write.offset', offset);
    requireBytes('write.bytes', bytes);
    requireLength('write end', offset + bytes.length);
    this.each(offset, bytes.length, (page, at, done, length) => {
      const frame = this.frames.get(page) ?? this.takeWithRoom(page);
      if (frame < 0) throw fail('ENOMEM', 'write.offset', offset + done, 'needs a page of the cache, and host memory is exhausted');
      this.growTo(page * L.PAGE_BYTES + at + length);
      this.bytesOf(frame).set(bytes.subarray(done, done + length), at);
      this.markDirty(page);
    });
  }

  /** A page into the cache; -1 when the second tier, too, has no room for what would go. */
  private takeWithRoom(page: number): number {
    const { platform } = this;
    if (platform.host.free === 0 && platform.tier) platform.scheduler.runSync(platform.tier.roomStep(1));
    return this.take(page);
  }

  /**
   * Makes the file `bytes` long. What lies behind is gone for everybody: pages past the end are unmapped in every space, private copies too, and a touch is a bus error from now on;
   * the rest of the last page is zeros. One at a time: another waits until every space has lost its pages. Errors: EBUSY while a device flushes. Models: `ftruncate`, `truncate_pagecache`.
   */
  truncate(bytes: number): void {
    this.platform.scheduler.runSync(this.truncateStep(bytes));
  }

  async truncateAsync(bytes: number): Promise<void> {
    await this.platform.scheduler.runAsync(this.truncateStep(bytes));
  }

  truncateStep(bytes: number): Truncate {
    this.requireOpen('truncate');
    requireLength('truncate.bytes', bytes);
    return new Truncate(this.platform, this, bytes);
  }

  /** Writes every dirty page back: mappings lose the right to write until their next write, the bytes reach the backing store. Errors: EBUSY while a device flushes. Models: `fsync`. */
  sync(): void {
    const { platform } = this;
    const step = this.syncStep(0, Infinity, platform.spareWriteBack);
    platform.spareWriteBack = undefined;
    platform.scheduler.runSync(step);
    platform.spareWriteBack = step;
  }

  async syncAsync(): Promise<void> {
    await this.platform.scheduler.runAsync(this.syncStep());
  }

  /** `spare`: a step of this machine that has ended, to be used again. */
  syncStep(first = 0, end: number = Infinity, spare?: WriteBack): WriteBack {
    this.requireOpen('sync');
    requirePage('sync.first', first);
    if (end !== Infinity) requirePage('sync.end', end);
    const parts = [{ file: this, first, end }];
    return spare?.of(parts) ?? new WriteBack(this.platform, parts);
  }

  /** What has reached the backing store: `bytes` bytes from byte `offset` on, zeros where nothing was ever stored. */
  stored(offset: number, bytes: number): Uint8Array {
    requireLength('stored.offset', offset);
    requireReadLength('stored.bytes', bytes);
    const into = new Uint8Array(bytes);
    this.each(offset, bytes, (page, at, done, length) => {
      const source = this.disk.get(page);
      if (source) into.set(source.subarray(at, at + length), done);
    });
    return into;
  }

  /** Ends the file: its cache is dropped, written back or not. Throws EBUSY while it is mapped. Any later use is EBADF; twice is fine. */
  close(): void {
    if (!this.open) return;
    this.platform.requireIdle('close');
    if (this.promised > 0) throw fail('EBUSY', 'close', 'file', `is mapped: ${this.promised} pages`);
    this.drop(0);
    this.open = false;
    this.unwritten.clear();
  }

  requireOpen(verb: string): void {
    this.platform.requireOpen(verb);
    if (!this.open) throw fail('EBADF', verb, 'file', 'has been closed');
  }

  // ------------------------------------------------------------------------------------------------------------ for the steps

  /** Puts the dirty pages of `[first, end)` that are cached into `pages`, ascending, and returns how many they are. Requires: there is room for all `dirty` ones. */
  dirtyPages(first: number, end: number, pages: Uint32Array): number {
    const { unwritten } = this;
    let count = 0;
    for (let at = unwritten.next(0); at >= 0; at = unwritten.next(at + 1)) {
      const page = unwritten.pageAt(at);
      if (page >= first && page < end && this.frames.has(page)) pages[count++] = page;
    }
    pages.subarray(0, count).sort();
    return count;
  }

  /** Stores a cached page. Requires: nobody may write to it now. */
  store(page: number): void {
    const frame = this.frames.get(page);
    this.unwritten.delete(page);
    if (frame === undefined) return;
    let bytes = this.disk.get(page);
    if (!bytes) this.disk.set(page, (bytes = new Uint8Array(L.PAGE_BYTES)));
    const { core } = this.platform;
    core.bytesArea.fetch(core.frameBytes(frame), bytes, L.PAGE_BYTES);
    // What mappings wrote behind the end is not the file's.
    if (page === this.pagesLimit - 1 && this.length % L.PAGE_BYTES !== 0) bytes.fill(0, this.length % L.PAGE_BYTES);
  }

  /** Makes the file longer; what mappings wrote behind its end is zeros. */
  growTo(bytes: number): void {
    if (bytes <= this.length) return;
    const last = this.frames.get(this.pagesLimit - 1);
    const rest = this.length % L.PAGE_BYTES;
    if (last !== undefined && rest !== 0) this.bytesOf(last).fill(0, rest);
    this.length = bytes;
  }

  /** Makes the file shorter: what lies behind the end is no longer its own, though mappings may still have it. */
  shrinkTo(bytes: number): void {
    this.length = bytes;
    const { pagesLimit } = this;
    this.drop(pagesLimit);
    const { unwritten } = this;
    for (let at = unwritten.next(0); at >= 0; at = unwritten.next(at + 1))
      if (unwritten.pageAt(at) >= pagesLimit) unwritten.delete(unwritten.pageAt(at));
    for (const page of this.disk.keys()) if (page >= pagesLimit) this.disk.delete(page);
    const rest = this.length % L.PAGE_BYTES;
    if (rest === 0) return;
    this.disk.get(pagesLimit - 1)?.fill(0, rest);
    const last = this.frames.get(pagesLimit - 1);
    if (last !== undefined) this.bytesOf(last).fill(0, rest);
  }

  private each(offset: number, bytes: number, visit: (page: number, at: number, done: number, length: number) => void): void {
    for (let done = 0; done < bytes;) {
      const page = Math.floor((offset + done) / L.PAGE_BYTES);
      const at = offset + done - page * L.PAGE_BYTES;
      const length = Math.min(bytes - done, L.PAGE_BYTES - at);
      visit(page, at, done, length);
      done += length;
    }
  }
}

function requirePage(argument: string, page: number): void {
  if (!Number.isSafeInteger(page) || page < 0) throw fail('EINVAL', argument, page, 'is not a page of a file');
}

function requireLength(argument: string, bytes: number): void {
  if (!Number.isSafeInteger(bytes) || bytes < 0 || bytes > FILE_BYTES_MAX)
    throw fail('EINVAL', argument, bytes, `is not a length between 0 and 2^40`);
}
