/** The allocator of addresses again, as slow and as plain as can be: a list of who has each quantum. */
import type { VaRequest, VaStrategy } from 'farfault/gmem';

const OBJECTS = 128;
const LENGTHS = 6;

interface Had {
  readonly start: number;
  readonly taken: number;
}

/** Units of one quantum; a request's numbers are units, too. */
export class NaiveVa {
  readonly units: number;
  readonly strategy: VaStrategy;
  private readonly busy: boolean[];
  private readonly caches: number[][] = Array.from({ length: LENGTHS }, () => []);
  private next = 0;

  constructor(units: number, strategy: VaStrategy) {
    this.units = units;
    this.strategy = strategy;
    this.busy = new Array<boolean>(units).fill(false);
  }

  alloc(request: VaRequest): Had | undefined {
    const length = this.lengthOf(request);
    const first = this.place(request, length);
    if (first) return first;
    for (let i = 0; i < LENGTHS; i++) for (const start of this.caches[i]!.splice(0)) this.mark(start, start + 2 ** i, false);
    return this.place(request, length) ?? this.place(request, -1);
  }

  free({ start, taken }: Had): void {
    const length = this.strategy === 'default' ? Math.log2(taken - start) : -1;
    if (!Number.isInteger(length) || length < 0 || length >= LENGTHS || start % (taken - start) !== 0)
      return this.mark(start, taken, false);
    const cache = this.caches[length]!;
    if (cache.length === OBJECTS) for (const old of cache.splice(0, OBJECTS / 2)) this.mark(old, old + 2 ** length, false);
    cache.push(start);
  }

  /** Free extents, what is cached counted as taken. */
  extents(): [number, number][] {
    const found: [number, number][] = [];
    for (let i = 0; i < this.units; i++) {
      if (this.busy[i]) continue;
      let end = i;
      while (end < this.units && !this.busy[end]) end++;
      found.push([i, end]);
      i = end;
    }
    return found;
  }

  private lengthOf({ bytes, at, hint }: VaRequest): number {
    if (this.strategy !== 'default' || at !== undefined || hint !== undefined) return -1;
    const length = Math.ceil(Math.log2(bytes));
    return length < LENGTHS ? length : -1;
  }

  private place(request: VaRequest, length: number): Had | undefined {
    const { bytes, at, hint, align = 1, noCross = Infinity, below = this.units } = request;
    if (at !== undefined) return this.fits(at, bytes, align, noCross, below) ? this.take(at, at + bytes) : undefined;
    if (hint !== undefined) {
      const start = Math.ceil(hint / align) * align;
      if (this.fits(start, bytes, align, noCross, below)) return this.take(start, start + bytes);
    }
    if (length < 0) return this.search(bytes, align, noCross, below, bytes);
    const object = 2 ** length;
    const cache = this.caches[length]!;
    for (let i = cache.length - 1; i >= 0; i--) {
      const start = cache[i]!;
      if (start % align !== 0 || start + bytes > below) continue;
      cache.splice(i, 1);
      return { start, taken: start + object };
    }
    return this.search(object, Math.max(align, object), Math.max(noCross, object), below, object);
  }

  private search(units: number, align: number, noCross: number, below: number, taken: number): Had | undefined {
    const fits = (start: number): boolean => this.fits(start, units, align, noCross, below);
    let best: number | undefined;
    if (this.strategy === 'bestfit') {
      for (const [start, end] of this.extents().sort((a, b) => a[1] - a[0] - (b[1] - b[0]) || a[0] - b[0])) {
        for (let i = start; i < end && best === undefined; i++) if (fits(i)) best = i;
        if (best !== undefined) break;
      }
    } else {
      const from = this.strategy === 'nextfit' ? this.next : 0;
      for (let i = 0; i < this.units && best === undefined; i++) if (i >= from && fits(i)) best = i;
      for (let i = 0; i < this.units && best === undefined; i++) if (fits(i)) best = i;
    }
    return best === undefined ? undefined : this.take(best, best + taken);
  }

  private fits(start: number, units: number, align: number, noCross: number, below: number): boolean {
    if (start % align !== 0 || start + units > Math.min(below, this.units)) return false;
    if (Math.floor(start / noCross) !== Math.floor((start + units - 1) / noCross)) return false;
    for (let i = start; i < start + units; i++) if (this.busy[i]) return false;
    return true;
  }

  private take(start: number, taken: number): Had {
    this.mark(start, taken, true);
    this.next = taken;
    return { start, taken };
  }

  private mark(start: number, end: number, busy: boolean): void {
    for (let i = start; i < end; i++) this.busy[i] = busy;
  }
}
