/** The addresses of a device that hands them out itself, in one space: the `peerVa` family of its driver, as the steps of the space see it. */
import * as L from '../../assembly/layout.ts';
import { fail } from '../errors.ts';
import type { PeerAddresses, PeerAnswer } from '../mm/peer-va.ts';
import { protWord } from '../mm/prot.ts';
import { isTicket, type Ticket } from '../step/ticket.ts';
import type { Context } from './context.ts';

const ANSWERS: readonly unknown[] = ['success', 'nomem', 'failure'];

/** What the `peerVa` family has reserved is what is peer-shared in the space: no list is kept. */
export class PeerVaClient implements PeerAddresses {
  readonly name: string;
  private readonly context: Context;
  /** It has been told of all that was there when it came. */
  private introduced = false;

  constructor(context: Context) {
    this.context = context;
    this.name = context.name;
  }

  get isReady(): boolean {
    return this.introduced && this.context.isAttached && this.context.failure === undefined;
  }

  /** It takes part from now on. */
  introduce(): void {
    this.introduced = true;
  }

  /** It takes part no more: it is leaving. */
  leave(): void {
    this.introduced = false;
  }

  reserve(vpn: number, pages: number, prot: number): PeerAnswer | Ticket {
    const { context } = this;
    try {
      const answer = context.mmu.peerVa!.allocFixed(vpn * L.PAGE_BYTES, pages * L.PAGE_BYTES, protWord(prot));
      if (isTicket(answer) || ANSWERS.includes(answer)) return answer;
      throw fail('EINVAL', `${this.name}.peerVa.allocFixed result`, answer, "is not one of: 'success', 'nomem', 'failure', a ticket");
    } catch (error) {
      context.failWith(error);
      return 'failure';
    }
  }

  release(vpn: number, pages: number): Ticket | undefined {
    const { context } = this;
    // One that has failed is not called any more: what it has goes with it.
    if (context.failure) return undefined;
    try {
      const answer = context.mmu.peerVa!.free(vpn * L.PAGE_BYTES, pages * L.PAGE_BYTES);
      return isTicket(answer) ? answer : undefined;
    } catch (error) {
      context.failWith(error);
      return undefined;
    }
  }

  lost(ticket: Ticket): void {
    this.context.failWith(fail('ENODEV', `${this.name}.peerVa.free`, ticket.reason, 'failed: taking away cannot'));
  }
}
