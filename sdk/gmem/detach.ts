/** Detaching: the device's pages of this space come home, its translations go, its notifier ends. */
import * as L from '../../assembly/layout.ts';
import { Ranges } from '../core/batch.ts';
import { Migration } from '../mm/migration.ts';
import type { RemoveNotifier } from '../mm/notifier.ts';
import type { Platform } from '../mm/platform.ts';
import { fail } from '../errors.ts';
import { DONE, type Progress, type Run, type Step } from '../step/step.ts';
import type { Ticket } from '../step/ticket.ts';
import type { Context } from './context.ts';

const LOCK = 0;
const HOME = 1;
const WITHDRAW = 2;
const FLUSHED = 3;
const ENDED = 4;

export class Detach implements Step {
  readonly name = 'detach';
  readonly #platform: Platform;
  readonly #context: Context;
  readonly #migration: Migration;
  #remove: RemoveNotifier | undefined;
  #flush: Ticket | undefined;
  #phase = LOCK;
  #vpn = 0;

  constructor(platform: Platform, context: Context) {
    this.#platform = platform;
    this.#context = context;
    this.#migration = new Migration(platform);
  }

  next(run: Run): Progress {
    const { space } = this.#context;
    switch (this.#phase) {
      case LOCK:
        if (!space.mmapLock.tryAcquire(run)) return run.waitFor(space.mmapLock);
        this.#phase = HOME;
      // falls through
      case HOME: {
        const progress = this.#next(run);
        if (progress !== undefined) return progress;
        this.#requireEmpty();
        this.#phase = WITHDRAW;
      }
      // falls through
      case WITHDRAW: {
        const everything = new Ranges();
        everything.add(0, 2 ** L.VPN_BITS);
        this.#flush = this.#context.withdraw(everything);
        this.#phase = FLUSHED;
      }
      // falls through
      case FLUSHED:
        if (this.#flush?.state === 'pending') return run.waitFor(this.#flush);
        this.#remove = this.#context.removeNotifierStep();
        this.#phase = ENDED;
        return run.call(this.#remove);
      default:
        // Held to the end: a fault that came in between would bring pages to a device that is not there any more.
        this.#context.end();
        space.mmapLock.release(run);
        return DONE;
    }
  }

  abort(run: Run): void {
    const { mmapLock } = this.#context.space;
    if (run.holds(mmapLock)) mmapLock.release(run);
  }

  /** Brings the next mapped part that has pages of this device home, or waits for one that is on its way; undefined: there is none. */
  #next(run: Run): Progress | undefined {
    const { space, device } = this.#context;
    const { memory } = device;
    if (!memory) return undefined;
    const { core } = this.#platform;
    for (;;) {
      const found = core.exports.rangeNext(space.table, this.#vpn, Math.min(2 ** L.VPN_BITS - this.#vpn, 2 ** 31));
      if (found < 0) {
        this.#vpn += 2 ** 31;
        if (this.#vpn >= 2 ** L.VPN_BITS) return undefined;
        continue;
      }
      const vma = space.vmas.find(found);
      const kind = core.entry(space.table, found) & L.ENTRY_KIND;
      const onOwn = memory.node.holds(core.entryLow);
      if (kind === L.KIND_MIGRATION && onOwn) return run.waitFor(this.#platform.pageLocks.wait(core.entryLow));
      this.#vpn = found + 1;
      if (!vma || kind !== L.KIND_DEVICE_PRIVATE || !onOwn) continue;
      const pages = Math.min(vma.end - found, L.WORDS_MAX);
      this.#vpn = found + pages;
      return run.call(this.#migration.toHost(space, found, pages, memory, 'detach', found));
    }
  }

  /** A page that could not come home (no host frame, a pin) keeps the device: nothing is lost, and the detach can be tried again. */
  #requireEmpty(): void {
    const { space, device } = this.#context;
    const { core } = this.#platform;
    space.vmas.each(0, 2 ** L.VPN_BITS, (_vma, from, to) => {
      for (let vpn = from; vpn < to;) {
        const found = core.exports.rangeNext(space.table, vpn, Math.min(to - vpn, 2 ** 31));
        if (found < 0) return;
        const kind = core.entry(space.table, found) & L.ENTRY_KIND;
        if (kind === L.KIND_DEVICE_PRIVATE && device.memory?.node.holds(core.entryLow)) {
          throw fail(
            'EAGAIN',
            `detach ${device.name}, page`,
            found * L.PAGE_BYTES,
            'could not be brought home: it is pinned, or host memory is exhausted',
          );
        }
        vpn = found + 1;
      }
    });
  }
}
