/**
 * The replay's own memory: a plain map of bytes, in which every access is repeated in the order in which the machine executed it. A load that
 * observes anything else has found lost or stale data.
 */
import * as L from '../../assembly/layout.ts';
import { FarfaultError } from '../errors.ts';

const HIGH = 2 ** 32;

export class ByteMap {
  readonly #pages: Map<number, DataView> = new Map();
  #lastVpn = -1;
  #last: DataView | undefined;

  /** Pages that were written. */
  get pages(): number {
    return this.#pages.size;
  }

  /**
   * Repeats one executed access. `low`, `high`: its packed words; `valueLow`, `valueHigh`: what it wrote, or what it observed. Throws EIO when a load observed other bytes
   * than the last ones written. `number`: the access's number in the trace, for the message.
   */
  repeat(low: number, high: number, valueLow: number, valueHigh: number, number: number): void {
    const offset = low & (L.PAGE_BYTES - 1);
    const bytes = ((high >>> L.ACCESS_LENGTH_SHIFT) & L.ACCESS_LENGTH) + 1;
    const vpn = (high & L.ACCESS_ADDRESS_HIGH) * 2 ** (32 - L.PAGE_SHIFT) + (low >>> L.PAGE_SHIFT);
    const write = (high & L.ACCESS_WRITE) !== 0;
    if (bytes <= 8 && offset + bytes <= L.PAGE_BYTES) {
      if (write) this.#store(vpn, offset, bytes, valueLow, valueHigh);
      else this.#load(vpn, offset, bytes, valueLow, valueHigh, number);
      return;
    }
    const addr = vpn * L.PAGE_BYTES + offset;
    if (write) this.#storeLong(addr, bytes, valueLow, valueHigh);
    else this.#loadLong(addr, bytes, valueLow, valueHigh, number);
  }

  #page(vpn: number): DataView | undefined {
    if (vpn === this.#lastVpn) return this.#last;
    this.#lastVpn = vpn;
    this.#last = this.#pages.get(vpn);
    return this.#last;
  }

  #madePage(vpn: number): DataView {
    let page = this.#page(vpn);
    if (!page) {
      page = new DataView(new ArrayBuffer(L.PAGE_BYTES));
      this.#pages.set(vpn, page);
      this.#last = page;
    }
    return page;
  }

  #store(vpn: number, offset: number, bytes: number, low: number, high: number): void {
    const page = this.#madePage(vpn);
    switch (bytes) {
      case 8:
        page.setUint32(offset, low, true);
        page.setUint32(offset + 4, high, true);
        return;
      case 4:
        page.setUint32(offset, low, true);
        return;
      case 2:
        page.setUint16(offset, low, true);
        return;
      case 1:
        page.setUint8(offset, low);
        return;
      default:
        for (let i = 0; i < bytes; i++) page.setUint8(offset + i, (i < 4 ? low : high) >>> ((i & 3) * 8));
    }
  }

  #load(vpn: number, offset: number, bytes: number, low: number, high: number, number: number): void {
    const page = this.#page(vpn);
    let wantLow = 0;
    let wantHigh = 0;
    if (page) {
      switch (bytes) {
        case 8:
          wantLow = page.getUint32(offset, true);
          wantHigh = page.getUint32(offset + 4, true);
          break;
        case 4:
          wantLow = page.getUint32(offset, true);
          break;
        case 2:
          wantLow = page.getUint16(offset, true);
          break;
        case 1:
          wantLow = page.getUint8(offset);
          break;
        default:
          for (let i = 0; i < bytes; i++) {
            if (i < 4) wantLow |= page.getUint8(offset + i) << (i * 8);
            else wantHigh |= page.getUint8(offset + i) << ((i - 4) * 8);
          }
          wantLow >>>= 0;
          wantHigh >>>= 0;
      }
    }
    if (low !== wantLow || high !== wantHigh) throw lost(vpn * L.PAGE_BYTES + offset, bytes, number, [low, high], [wantLow, wantHigh]);
  }

  #storeLong(addr: number, bytes: number, low: number, high: number): void {
    for (let i = 0; i < bytes; i++) {
      const part = i & 7;
      const word = part < 4 ? low + (i >>> 3) : high;
      const at = addr + i;
      this.#madePage(Math.floor(at / L.PAGE_BYTES)).setUint8(at % L.PAGE_BYTES, word >>> ((part & 3) * 8));
    }
  }

  #byte(addr: number): number {
    return this.#page(Math.floor(addr / L.PAGE_BYTES))?.getUint8(addr % L.PAGE_BYTES) ?? 0;
  }

  #loadLong(addr: number, bytes: number, low: number, high: number, number: number): void {
    let wantLow = 0;
    let wantHigh = bytes;
    if (bytes <= 8) {
      wantHigh = 0;
      for (let i = 0; i < bytes; i++) {
        if (i < 4) wantLow |= this.#byte(addr + i) << (i * 8);
        else wantHigh |= this.#byte(addr + i) << ((i - 4) * 8);
      }
      wantHigh >>>= 0;
    } else {
      for (let i = 0; i < bytes; i += 4) {
        let word = 0;
        for (let part = 0; part < 4 && i + part < bytes; part++) word |= this.#byte(addr + i + part) << (part * 8);
        wantLow = Math.imul(wantLow ^ word, 0x01000193);
        wantLow ^= wantLow >>> 15;
      }
    }
    wantLow >>>= 0;
    if (low !== wantLow || high !== wantHigh) throw lost(addr, bytes, number, [low, high], [wantLow, wantHigh]);
  }
}

function lost(
  addr: number,
  bytes: number,
  number: number,
  observed: readonly [number, number],
  wanted: readonly [number, number],
): FarfaultError {
  const word = ([low, high]: readonly [number, number]): string => `0x${(BigInt(high) * BigInt(HIGH) + BigInt(low)).toString(16)}`;
  return new FarfaultError(
    'EIO',
    'load',
    number,
    'observes wrong data',
    `access ${number} reads ${bytes} bytes at 0x${addr.toString(16)} and observes ${word(observed)}, but ${word(wanted)} was written last: data was lost or is stale`,
  );
}
