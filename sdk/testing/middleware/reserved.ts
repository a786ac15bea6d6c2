/** Which addresses a device has been asked for, and has not been told to free: what `checked` compares the calls of `peerVa` with. */
import { isTicket, type Ticket } from '../../gmem/index.ts';

interface Reserved {
  readonly start: number;
  readonly end: number;
  /** Its answer, when it came later, or has not come. */
  readonly ticket: Ticket | undefined;
}

/** Ranges of addresses, apart from each other. */
export class ReservedAddresses {
  #list: Reserved[] = [];

  /** Notes an answer to `allocFixed`. */
  add(start: number, end: number, answer: unknown): void {
    if (answer === 'success' || isTicket(answer)) this.#list.push({ start, end, ticket: isTicket(answer) ? answer : undefined });
  }

  /** Notes a `free`. */
  remove(start: number, end: number): void {
    this.#list = this.#held().flatMap((each) => {
      const before = { ...each, end: Math.min(each.end, start) };
      const after = { ...each, start: Math.max(each.start, end) };
      return [before, after].filter((part) => part.start < part.end);
    });
  }

  /** Bytes of `[start, end)` that are reserved. */
  within(start: number, end: number): number {
    return this.#held().reduce((sum, each) => sum + Math.max(0, Math.min(each.end, end) - Math.max(each.start, start)), 0);
  }

  #held(): Reserved[] {
    // What was refused later was never reserved.
    return (this.#list = this.#list.filter(({ ticket }) => ticket?.state !== 'failed'));
  }
}
