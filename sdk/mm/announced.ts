/**
 * What a migration has told subscribers of other spaces, or of many: the pages that map its frames, at the time of telling. Mappings come and go while devices flush (a fork, an mremap); what has come is told
 * before it changes.
 */
import type { Ranges } from '../core/batch.ts';
import type { InvalidationCause } from '../events.ts';
import type { Ticket } from '../step/ticket.ts';
import type { AddressSpace } from './address-space.ts';
import { Invalidation, type InvalidateReason } from './notifier.ts';

export class Announced {
  private readonly events: Map<AddressSpace, Invalidation[]> = new Map();

  /** Tells what has not been told yet, one event for each run of pages. Returns whether there was any. */
  tell(places: ReadonlyMap<AddressSpace, Ranges>, reason: InvalidateReason, cause: InvalidationCause, owner?: number): boolean {
    let any = false;
    for (const [space, ranges] of places) {
      let events = this.events.get(space);
      if (!events) this.events.set(space, (events = []));
      const told = events.length;
      // Both ascend by their ends: what ends before a run can be passed over for all that follow.
      let at = 0;
      for (let i = 0; i < ranges.count; i++) {
        const start = ranges.start(i);
        const end = start + ranges.length(i);
        while (at < told && events[at]!.end < end) at++;
        let known = at;
        while (known < told && events[known]!.start > start) known++;
        if (known < told) continue;
        const event = new Invalidation();
        space.announce(event.set(start, end, reason, owner, cause));
        events.push(event);
        any = true;
      }
      if (told > 0 && events.length > told) events.sort((a, b) => a.end - b.end);
    }
    return any;
  }

  /** Ticket of a flush that is not finished. */
  get unfinished(): Ticket | undefined {
    for (const events of this.events.values()) for (const { unfinished } of events) if (unfinished) return unfinished;
    return undefined;
  }

  /** The change is over, or will not come. */
  end(): void {
    if (this.events.size === 0) return;
    for (const events of this.events.values()) for (const event of events) event.running?.invalidateEnd(event);
    this.events.clear();
  }
}
