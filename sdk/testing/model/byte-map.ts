/** Memory as a plain map of bytes: what a program would see if there were no pages, no devices and no faults. Absent bytes are 0. */

/** Bytes of one allocation of the map; has nothing to do with pages. */
const PIECE_BYTES = 65536;

export class ByteMap {
  readonly #pieces = new Map<number, Uint8Array>();

  read(addr: number, bytes: number, data: Uint8Array): void {
    for (let i = 0; i < bytes; i++) {
      const piece = this.#pieces.get(Math.floor((addr + i) / PIECE_BYTES));
      data[i] = piece === undefined ? 0 : piece[(addr + i) % PIECE_BYTES]!;
    }
  }

  write(addr: number, bytes: number, data: Uint8Array): void {
    for (let i = 0; i < bytes; i++) {
      const number = Math.floor((addr + i) / PIECE_BYTES);
      let piece = this.#pieces.get(number);
      if (piece === undefined) {
        piece = new Uint8Array(PIECE_BYTES);
        this.#pieces.set(number, piece);
      }
      piece[(addr + i) % PIECE_BYTES] = data[i]!;
    }
  }
}
