/** VMAs of one space: which pages are promised, and with which right. A sorted list, rebuilt at every change. */

export type Prot = 'none' | 'r' | 'rw';

/** Pages [start, end) with one right. */
export interface Vma {
  readonly start: number;
  readonly end: number;
  readonly prot: Prot;
}

/** True when a VMA (or the lack of one) allows the access. */
export function allows(vma: Vma | undefined, write: boolean): vma is Vma {
  return vma !== undefined && (write ? vma.prot === 'rw' : vma.prot !== 'none');
}

/** The block of `granulePages` pages around a page, clipped to its VMA. */
export function granuleBlock(vma: Vma, vpn: number, granulePages: number): { start: number; end: number } {
  const start = vpn - (vpn % granulePages);
  return { start: Math.max(start, vma.start), end: Math.min(start + granulePages, vma.end) };
}

export class VmaList {
  #vmas: Vma[] = [];
  /** Where the last `find` ended: the next access is most often near. */
  #last: Vma | undefined;

  find(vpn: number): Vma | undefined {
    const last = this.#last;
    if (last !== undefined && vpn >= last.start && vpn < last.end) return last;
    const found = this.#vmas.find((vma) => vpn >= vma.start && vpn < vma.end);
    if (found !== undefined) this.#last = found;
    return found;
  }

  /** The VMAs of a range, clipped to it, ascending. Holes are skipped. */
  parts(start: number, end: number): Vma[] {
    return this.#vmas
      .filter((vma) => vma.start < end && vma.end > start)
      .map((vma) => ({ start: Math.max(vma.start, start), end: Math.min(vma.end, end), prot: vma.prot }));
  }

  /**
   * Makes [start, end) one VMA, or a hole when `prot` is undefined; what lay there is cut. Neighbours with equal rights become one VMA,
   * as anonymous memory does in Linux: a VMA is the longest range with one promise.
   *
   * ```
   * old      |----rw----|   |---rw---|
   * set r          |------------|
   * new      |--rw-|-----r------|-rw-|
   * ```
   */
  set(start: number, end: number, prot: Prot | undefined): void {
    const pieces: Vma[] = [];
    for (const vma of this.#vmas) {
      if (vma.start < start) pieces.push({ ...vma, end: Math.min(vma.end, start) });
      if (vma.end > end) pieces.push({ ...vma, start: Math.max(vma.start, end) });
    }
    if (prot !== undefined) pieces.push({ start, end, prot });
    pieces.sort((a, b) => a.start - b.start);

    this.#last = undefined;
    this.#vmas = [];
    for (const piece of pieces) {
      const before = this.#vmas.at(-1);
      if (before !== undefined && before.end === piece.start && before.prot === piece.prot) {
        this.#vmas[this.#vmas.length - 1] = { ...before, end: piece.end };
      } else {
        this.#vmas.push(piece);
      }
    }
  }
}
