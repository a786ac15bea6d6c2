/** Pages in one buffer, copied by nothing but `copyWithin`: what moving bytes costs when there is nothing else to do. */

const PAGE_BYTES = 4096;

export class PageCopies {
  readonly words: Uint32Array;
  readonly #bytes: Uint8Array;

  /** Room for `pages` pages. */
  constructor(pages: number) {
    this.#bytes = new Uint8Array(pages * PAGE_BYTES);
    this.words = new Uint32Array(this.#bytes.buffer);
  }

  /** Page `sources[i]` goes to page `targets[i]`, one after the other. */
  copy(sources: Uint32Array, targets: Uint32Array): void {
    for (let i = 0; i < sources.length; i++) {
      const from = sources[i]! * PAGE_BYTES;
      this.#bytes.copyWithin(targets[i]! * PAGE_BYTES, from, from + PAGE_BYTES);
    }
  }
}
