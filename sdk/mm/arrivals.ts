/**
 * Holes that devices fill by themselves (`peer.map` of a page that is nowhere yet): from the call until the table of the space says where the page is. The device may have the translation, and use it; the
 * table knows nothing. So nobody else fills such a hole: a fault waits, another migration leaves it out.
 */
import type { Run, Waitable } from '../step/step.ts';
import { WaitQueue } from '../step/step.ts';

/** The arrivals of one space. Whoever waits for it goes on when some of them have ended. */
export class Arrivals implements Waitable {
  readonly label: string;
  private readonly pages: Set<number> = new Set();
  private readonly waiters: WaitQueue = new WaitQueue();

  constructor(space: number) {
    this.label = `arrivals in space ${space}`;
  }

  /** Whether a page of `[vpn, vpn + pages)` is on its way. */
  meets(vpn: number, pages = 1): boolean {
    if (this.pages.size === 0) return false;
    for (let page = vpn; page < vpn + pages; page++) if (this.pages.has(page)) return true;
    return false;
  }

  /** A device fills these holes. Requires: none of them is on its way. */
  comes(vpn: number, pages: number): void {
    for (let page = vpn; page < vpn + pages; page++) this.pages.add(page);
  }

  /** That is over, whatever came of it. */
  came(vpn: number, pages: number): void {
    for (let page = vpn; page < vpn + pages; page++) this.pages.delete(page);
    this.waiters.wakeAll();
  }

  enqueue(run: Run): boolean {
    if (this.pages.size === 0) return false;
    this.waiters.add(run);
    return true;
  }

  leave(run: Run): void {
    this.waiters.leave(run);
  }
}
