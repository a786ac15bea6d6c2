/**
 * What a migration has told subscribers of other spaces, or of many: the pages that map its frames, at the time of telling. Mappings come and go while devices flush (a fork, an mremap); what has come is told
 * before it changes.
 */
import type { InvalidationCause } from '../events/cause.ts';
import type { Ticket } from '../step/ticket.ts';
import type { AddressSpace } from './address-space.ts';
import type { Places } from './places.ts';
import { Invalidation, type InvalidateReason } from './notifier.ts';

/** Events that are kept for their next use. */
const SPARE_MAX = 64;

export class Announced {
  /** Spaces that have been told something, and what: by the ends of the ranges. */
  private readonly spaces: AddressSpace[] = [];
  private readonly events: Invalidation[][] = [];
  private readonly spare: Invalidation[] = [];

  /** Tells what has not been told yet, one event for each run of pages. Returns whether there was any. */
  tell(places: Places, reason: InvalidateReason, cause: InvalidationCause, owner?: number): boolean {
    let any = false;
    for (let place = 0; place < places.count; place++) {
      const space = places.space(place);
      const ranges = places.ranges(place);
      const events = this.eventsOf(space, place);
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
        const event = this.spare.pop() ?? new Invalidation();
        space.announce(event.set(start, end, reason, owner, cause));
        events.push(event);
        any = true;
      }
      if (told > 0 && events.length > told) events.sort((a, b) => a.end - b.end);
    }
    return any;
  }

  /** What a space has been told; `place`: where it was come across this time, and most likely the last time. */
  private eventsOf(space: AddressSpace, place: number): Invalidation[] {
    const at = this.spaces[place] === space ? place : this.spaces.indexOf(space);
    if (at >= 0) return this.events[at]!;
    this.spaces.push(space);
    // Lists of those who were told the last time are empty, and used again.
    return (this.events[this.spaces.length - 1] ??= []);
  }

  /** Ticket of a flush that is not finished. */
  get unfinished(): Ticket | undefined {
    for (let i = 0; i < this.spaces.length; i++) {
      const events = this.events[i]!;
      for (let k = 0; k < events.length; k++) {
        const { unfinished } = events[k]!;
        if (unfinished) return unfinished;
      }
    }
    return undefined;
  }

  /** The change is over, or will not come. */
  end(): void {
    for (let i = 0; i < this.spaces.length; i++) for (const event of this.events[i]!) event.close();
    while (this.spaces.length > 0) {
      this.spaces.pop();
      const events = this.events[this.spaces.length]!;
      for (let event = events.pop(); event; event = events.pop()) if (this.spare.length < SPARE_MAX) this.spare.push(event);
    }
  }
}
