/**
 * The bytes area of the core: what a program writes, and what it reads, passes through it piece by piece. Pieces end where pages do: a page that is in two of them would be looked up twice.
 *
 * What an access has put there stands there until somebody else uses the area: after a fault it goes on where it was. Its views are made once, the memory cannot grow.
 */
import * as L from '../../assembly/layout.ts';
import type { Core } from './abi.ts';

/** Bytes of the first piece of an access, and of one that has lost its place to somebody else. Those that follow are as long as what has been done, up to the whole area. */
export const PIECE_BYTES = 65536;

/** Bytes so few that a loop has copied them before a view of them is made. */
const FEW_BYTES = 64;

export class BytesArea {
  /** Where in the core's memory the byte stands that was lent last. */
  address = 0;
  private readonly core: Core;
  /** The last number that was given, and the one whose bytes stand here: 0, nobody's. */
  private last = 0;
  private owner = 0;
  /** They are `[first, end)` of its bytes. */
  private first = 0;
  private end = 0;
  /** Of each page of the area, and of its beginnings that are long: made when they are first needed. */
  private pages: Uint8Array[] = [];
  private pieces: Uint8Array[] = [];

  constructor(core: Core) {
    this.core = core;
  }

  /** A number for an access that is about to write. */
  begin(): number {
    return ++this.last;
  }

  /** Has byte `from` of `bytes`, which is for `addr`, stand in the area (`address`), and what follows it; returns how many do. Of one access, `from` never goes back. */
  lend(writer: number, bytes: Uint8Array, from: number, addr: number): number {
    const isOwn = this.owner === writer;
    const at = this.core.area(L.AREA_BYTES);
    if (!isOwn || from >= this.end) {
      const length = Math.min(bytes.length - from, (isOwn ? pieceAt(from) : PIECE_BYTES) - (addr % L.PAGE_BYTES));
      const { u8 } = this.core;
      if (length > FEW_BYTES) u8.set(bytes.subarray(from, from + length), at);
      else for (let i = 0; i < length; i++) u8[at + i] = bytes[from + i]!;
      this.owner = writer;
      this.first = from;
      this.end = from + length;
    }
    this.address = at + from - this.first;
    return this.end - from;
  }

  /** Puts byte `from` of `bytes` into the area (`address`), and what follows it, as much as fits: for who uses it up at once. Returns how many there are. */
  put(bytes: Uint8Array, from: number): number {
    const length = Math.min(bytes.length - from, L.AREA_BYTES_LENGTH);
    this.owner = 0;
    this.address = this.core.area(L.AREA_BYTES);
    this.core.u8.set(length === bytes.length ? bytes : bytes.subarray(from, from + length), this.address);
    return length;
  }

  /** Makes room for what is to be read, from byte `from` of `total` on, which is at `addr` (`address`: where); returns for how many bytes. */
  room(from: number, total: number, addr: number): number {
    this.owner = 0;
    this.address = this.core.area(L.AREA_BYTES);
    return Math.min(total - from, pieceAt(from) - (addr % L.PAGE_BYTES));
  }

  /** Copies the first `length` bytes of the area to `bytes`, from byte `to` on. */
  take(bytes: Uint8Array, to: number, length: number): void {
    const { u8 } = this.core;
    const at = this.core.area(L.AREA_BYTES);
    let done = 0;
    if (length >= PIECE_BYTES && Number.isInteger(Math.log2(length))) {
      bytes.set(this.beginning(length), to);
      return;
    }
    for (; length - done >= L.PAGE_BYTES; done += L.PAGE_BYTES) bytes.set(this.page(done / L.PAGE_BYTES), to + done);
    if (length - done > FEW_BYTES) bytes.set(u8.subarray(at + done, at + length), to + done);
    else for (; done < length; done++) bytes[to + done] = u8[at + done]!;
  }

  /** Copies bytes of the core's memory, from address `at` on, to the front of `bytes`: no more than the area has. */
  fetch(at: number, bytes: Uint8Array, length: number): void {
    this.owner = 0;
    const area = this.core.area(L.AREA_BYTES);
    this.core.u8.copyWithin(area, at, at + length);
    this.take(bytes, 0, length);
  }

  /** Somebody has used the area without asking: nothing stands there that was lent. */
  lose(): void {
    this.owner = 0;
  }

  /** Drops the views, so that the memory can be collected. */
  close(): void {
    this.pages = [];
    this.pieces = [];
  }

  private page(i: number): Uint8Array {
    const at = this.core.area(L.AREA_BYTES) + i * L.PAGE_BYTES;
    return (this.pages[i] ??= this.core.u8.subarray(at, at + L.PAGE_BYTES));
  }

  private beginning(length: number): Uint8Array {
    const at = this.core.area(L.AREA_BYTES);
    return (this.pieces[Math.log2(length / PIECE_BYTES)] ??= this.core.u8.subarray(at, at + length));
  }
}

/** Length of the piece behind this many bytes. */
function pieceAt(done: number): number {
  return done < 2 * PIECE_BYTES ? PIECE_BYTES : done >= L.AREA_BYTES_LENGTH ? L.AREA_BYTES_LENGTH : 2 ** (31 - Math.clz32(done));
}
