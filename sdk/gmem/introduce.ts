/**
 * A device that has just been attached is told of the peer-shared memory that is there already: each range is reserved with it, at its place. When it has no address for one, or refuses one, what it has reserved goes back, and
 * it is detached again.
 */
import type { Platform } from '../mm/platform.ts';
import { answerOf, type PeerAnswer, pendingOf, type PeerAddresses, refusal, releasePeers } from '../mm/peer-va.ts';
import { VMA_PEER_SHARED, type Vma } from '../mm/vma.ts';
import { DONE, type Progress, type Run, type Step } from '../step/step.ts';
import { isTicket, type Ticket } from '../step/ticket.ts';
import type { FarfaultError } from '../errors.ts';
import type { Context } from './context.ts';
import { Detach } from './detach.ts';

const LOCK = 0;
const ASK = 1;
const GIVE_BACK = 2;
const DETACHED = 3;

/** The step behind `space.attach` of a device with addresses of its own. Throws ENOMEM for what is refused, ENODEV for a failure. */
export class Introduce implements Step {
  readonly name = 'attach';
  readonly context: Context;
  private readonly platform: Platform;
  /** Pages up to here are reserved. */
  private vpn = 0;
  private answer: Ticket | undefined = undefined;
  private error: FarfaultError | undefined;
  private isAbandoned = false;
  private readonly tickets: Ticket[] = [];
  private readonly owners: PeerAddresses[] = [];
  private phase = LOCK;

  constructor(platform: Platform, context: Context) {
    this.platform = platform;
    this.context = context;
  }

  next(run: Run): Progress {
    const { context } = this;
    const { mmapLock } = context.space;
    switch (this.phase) {
      case LOCK:
        if (!mmapLock.tryAcquire(run)) return run.waitFor(mmapLock);
        this.phase = ASK;
      // falls through
      case ASK: {
        const pending = this.ask();
        if (pending) return run.waitFor(pending);
        context.peer?.introduce();
        if (!this.error && !this.isAbandoned) {
          mmapLock.release(run);
          return DONE;
        }
        if (context.peer)
          releasePeers(
            this.platform,
            context.space,
            { start: 0, end: this.vpn, cause: 'rollback', only: context.peer },
            this.tickets,
            this.owners,
          );
        context.peer?.leave();
        this.phase = GIVE_BACK;
      }
      // falls through
      case GIVE_BACK: {
        const pending = pendingOf(this.tickets, this.owners);
        if (pending) return run.waitFor(pending);
        mmapLock.release(run);
        this.phase = DETACHED;
        return run.call(new Detach(this.platform, context));
      }
      default:
        if (this.error) throw this.error;
        return DONE;
    }
  }

  /** Nobody waits for the context any more: it is detached when the step ends. */
  abandon(): void {
    this.isAbandoned = true;
  }

  abort(run: Run): void {
    const { mmapLock } = this.context.space;
    if (run.holds(mmapLock)) mmapLock.release(run);
  }

  /** Asks for each range that comes next; a ticket: it has not answered. */
  private ask(): Ticket | undefined {
    const { context } = this;
    const { vmas } = context.space;
    // What has been asked for already is answered, also when nobody waits any more.
    for (let vma = vmas.next(this.vpn); vma && !this.error && (this.answer || !this.isAbandoned); vma = vmas.next(this.vpn)) {
      const answer = vma.flags & VMA_PEER_SHARED ? this.reserve(vma) : 'success';
      if (isTicket(answer) && answer.state === 'pending') return (this.answer = answer);
      this.answer = undefined;
      const said = answer === 'width' ? answer : answerOf(answer);
      if (said === 'success') this.vpn = vma.end;
      else this.refuse(vma, said);
    }
    return undefined;
  }

  private reserve({ start, end, prot }: Vma): PeerAnswer | Ticket | 'width' {
    const { peer, pageLimit } = this.context;
    if (this.answer) return this.answer;
    if (end > pageLimit) return 'width';
    return peer ? peer.reserve(start, end - start, prot) : 'success';
  }

  private refuse({ start, end }: Vma, why: 'nomem' | 'failure' | 'width'): void {
    const { context, platform } = this;
    this.error = (why === 'failure' ? context.failure : undefined) ?? refusal(context.name, start, why);
    const { events } = platform;
    if (!events.heard || why === 'width') return;
    const what = { space: context.space.id, device: context.name, vpn: start, pages: end - start };
    events.emit({ type: 'va.refused', ...what, answer: why, cause: 'attach' });
  }
}
