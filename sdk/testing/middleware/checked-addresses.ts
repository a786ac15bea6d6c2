/** The addresses that a device reserves for one context (`peerVa`): they are asked for in whole pages and once, and are freed before the context leaves. */
import * as L from '../../../assembly/layout.ts';
import { type PeerVa, type Ticket } from '../../gmem/index.ts';
import type { CheckedContext } from './checked-context.ts';
import type { DriverOperation } from './faulty.ts';
import { ReservedAddresses } from './reserved.ts';

type PeerVaAnswer = ReturnType<PeerVa['allocFixed']>;

export class CheckedAddresses {
  readonly #at: CheckedContext;
  readonly #reserved = new ReservedAddresses();

  constructor(at: CheckedContext) {
    this.#at = at;
  }

  allocFixed(start: number, bytes: number, prot: unknown, call: () => PeerVaAnswer): PeerVaAnswer {
    const operation = 'peerVa.allocFixed';
    this.#requireRange(operation, start, bytes);
    if (typeof prot !== 'string' || !/^(none|rw?x?|x)$/.test(prot))
      this.#at.report('arguments', operation, `${String(prot)} are not rights`);
    if (this.#reserved.within(start, start + bytes) > 0)
      this.#at.report('addresses', operation, `${printAddresses(start, bytes)} is asked for, and some of it is reserved`);
    const answer = this.#at.run(operation, call);
    if (answer !== 'success' && answer !== 'nomem' && answer !== 'failure') this.#at.requireTicket(operation, answer ?? null);
    this.#reserved.add(start, start + bytes, answer);
    return answer;
  }

  free(start: number, bytes: number, call: () => Ticket | void): Ticket | void {
    const operation = 'peerVa.free';
    this.#requireRange(operation, start, bytes);
    if (this.#reserved.within(start, start + bytes) !== bytes && !this.#at.restored)
      this.#at.report('addresses', operation, `${printAddresses(start, bytes)} is to be freed, and not all of it is reserved`);
    const answer = this.#at.run(operation, call);
    this.#at.requireTicket(operation, answer);
    this.#reserved.remove(start, start + bytes);
    return answer;
  }

  /** Nothing is reserved when the context leaves. */
  requireFreed(): void {
    const left = this.#reserved.within(0, Infinity);
    if (left > 0 && !this.#at.context.failure) this.#at.report('addresses', 'detach', `${left} bytes of addresses have not been freed`);
  }

  #requireRange(operation: DriverOperation, start: number, bytes: number): void {
    const whole = [start, bytes].every((number) => Number.isSafeInteger(number) && number >= 0 && number % L.PAGE_BYTES === 0);
    if (!whole || bytes === 0) this.#at.report('arguments', operation, `${printAddresses(start, bytes)} is not a range of whole pages`);
  }
}

function printAddresses(start: number, bytes: number): string {
  return `0x${start.toString(16)}+${bytes} bytes`;
}
