/**
 * SNAPSHOT: what the CPU's table says of a range, one byte a page, as this device sees it. Nothing is faulted in. Each batch has a notifier of its own, over exactly its pages.
 *
 * Models: `dmirror_snapshot`, `dmirror_range_snapshot`, `dmirror_mkentry`.
 */
import {
  type Hmm,
  HMM_ERROR,
  HMM_VALID,
  HMM_WRITE,
  hmmOrder,
  type IntervalNotifier,
  type InvalidateEvent,
  method,
  type MirrorRange,
  type OnePassOps,
  type Progress,
  type Run,
} from '../../sdk/gmem/index.ts';
import { Operation } from './command.ts';
import { EBUSY } from './errno.ts';
import {
  PROT_DEV_COHERENT_LOCAL,
  PROT_DEV_COHERENT_REMOTE,
  PROT_DEV_PRIVATE_LOCAL,
  PROT_DEV_PRIVATE_REMOTE,
  PROT_ERROR,
  PROT_NONE,
  PROT_PMD,
  PROT_PUD,
  PROT_READ,
  PROT_WRITE,
  PROT_ZERO,
} from './request.ts';

/** Pages of one look. */
const SNAPSHOT_PAGES = 32;
const PMD_ORDER = 9;
const PUD_ORDER = 18;

/** The byte of a page: the high word of its HMM word, and where its frame is. */
export function snapshotByte(high: number, frame: number, hmm: Pick<Hmm, 'describe'>): number {
  if (high & HMM_ERROR) return PROT_ERROR;
  if (!(high & HMM_VALID)) return PROT_NONE;
  const { kind, owner, zero } = hmm.describe(frame);
  let byte: number;
  if (kind === 'private') byte = owner === 'own' ? PROT_DEV_PRIVATE_LOCAL : PROT_DEV_PRIVATE_REMOTE;
  else if (kind === 'coherent') byte = owner === 'own' ? PROT_DEV_COHERENT_LOCAL : PROT_DEV_COHERENT_REMOTE;
  else byte = zero ? PROT_ZERO : 0;
  byte |= high & HMM_WRITE ? PROT_WRITE : PROT_READ;
  const order = hmmOrder(high & ~HMM_VALID);
  if (order >= PUD_ORDER) byte |= PROT_PUD;
  else if (order >= PMD_ORDER) byte |= PROT_PMD;
  return byte;
}

/** The subscription of one look: a change makes it begin again, and there is nothing to take away. */
export class Watch implements OnePassOps {
  invalidate(event: InvalidateEvent, notifier: IntervalNotifier): boolean {
    notifier.setSequence(event.sequence);
    return true;
  }
}

export class Snapshot extends Operation {
  private readonly seen = new Uint8Array(this.pages);
  private at = 0;
  private readonly installed = method<Snapshot, 'install'>(this, 'install');
  private readonly watch = new Watch();
  private notifier: IntervalNotifier | undefined;
  private look: MirrorRange | undefined;
  private isLooking = false;

  protected turn(run: Run): Progress {
    const { hmm } = this.mirror;
    if (this.notifier) {
      const notifier = this.notifier;
      this.notifier = undefined;
      return run.call(hmm.unsubscribe(notifier));
    }
    if (this.isLooking) {
      // Without a request a look has nothing to fail at but collisions.
      if (this.look!.outcome !== 'done') return this.fail(EBUSY);
      this.isLooking = false;
      this.at += Math.min(SNAPSHOT_PAGES, this.pages - this.at);
    }
    if (this.at === this.pages) {
      this.bytes.set(this.seen);
      return this.succeed(this.pages);
    }
    const vpn = this.vpn + this.at;
    const pages = Math.min(SNAPSHOT_PAGES, this.pages - this.at);
    this.notifier = hmm.subscribe(vpn, pages, this.watch);
    this.look = hmm.rangeFault({ vpn, pages, notifier: this.notifier }, this.installed, this.look);
    this.isLooking = true;
    return run.call(this.look);
  }

  override abort(run: Run): void {
    // Nobody waits here: a notifier that cannot go now would stay, without harm, since it keeps nothing.
    if (this.notifier) this.notifier.set.remove(this.notifier);
    this.notifier = undefined;
    super.abort(run);
  }

  /** @internal */
  install(words: Uint32Array, vpn: number, pages: number): void {
    const { hmm } = this.mirror;
    // Signed: a number that is not small needs room of its own.
    for (let i = 0; i < pages; i++) this.seen[vpn - this.vpn + i] = snapshotByte(words[i * 2 + 1]! | 0, words[i * 2]!, hmm);
  }
}
