/**
 * Where else the pages of a migration are mapped, by the reverse map: of a list of frames every page that maps them, of a range the pages of other spaces that share its frames.
 *
 * ```
 *   tell          each of them is announced; once more after every flush, since mappings come while devices flush (a fork, an mremap), until there is nothing to tell
 *   (collect)     the core puts migration entries into all of them
 *   end           the events are over
 *   withdraw      the device loses its translations of them; one that takes frames by itself keeps the place that it takes each from (`choose`)
 *   (finalize)
 *   follow        the CPU has them again: those who follow its tables are told
 * ```
 *
 * Invariant: from the `tell` that returns false until `end`, each page that maps what is to move is in an event that runs, of this list or of the range itself. From then on until the next `begin`, every page that was
 * collected, and is not of the range itself, is among the places.
 */
import * as L from '../../assembly/layout.ts';
import { Ranges } from '../core/batch.ts';
import type { InvalidationCause } from '../events/cause.ts';
import type { Ticket } from '../step/ticket.ts';
import type { AddressSpace } from './address-space.ts';
import { Announced } from './announced.ts';
import type { MigrationDevice, PeerContext } from './device-memory.ts';
import type { MigrationWords } from './migration-words.ts';
import type { Invalidation } from './notifier.ts';
import type { WordPlace, WordPlaces } from './peer-moves.ts';
import { Places } from './places.ts';
import type { Platform } from './platform.ts';
import { shorten } from './shorten.ts';

export class MigrationPlaces implements WordPlaces {
  private readonly platform: Platform;
  private readonly places: Places = new Places();
  /** Made when there is something to tell. */
  private announced: Announced | undefined;
  /** Frames of a range that other entries map, too. */
  private readonly shared: number[] = [];
  /** Where a device that takes frames by itself takes them from: by word, of a range one that is written again for each. Made at the first of such a device, as is the next. */
  private readonly chosen: WordPlace[] = [];
  /** Where one frame is mapped. */
  private sought: Places | undefined;
  /** Word i is page i of a range, from here on; else words are frames. */
  private start = 0;
  private isRange = false;

  constructor(platform: Platform) {
    this.platform = platform;
  }

  /** Begins anew: nothing is known to be mapped anywhere. */
  begin(): void {
    this.places.clear();
  }

  /** Tells every space that maps one of these frames, and has not been told. Returns whether there was one. */
  tellOf(frames: readonly number[], cause: InvalidationCause, owner: number): boolean {
    return (this.announced ??= new Announced()).tell(this.places.of(this.platform, frames), 'MIGRATE', cause, owner);
  }

  /**
   * Tells every other space that maps frames of this one in the range of its own event, and has not been told: by the reverse map they go along, whichever space it is. Returns whether there was one. Models: the events of
   * `try_to_migrate`.
   */
  tellSharers(space: AddressSpace, range: Invalidation, cause: InvalidationCause): boolean {
    // Nothing is shared in a machine without reverse-map records.
    if (this.platform.core.header(L.H_CHAIN_USED) === 0) return false;
    this.findShared(space, range);
    if (this.shared.length === 0) return false;
    const places = this.places.of(this.platform, this.shared);
    places.leaveOut(space);
    return (this.announced ??= new Announced()).tell(places, 'CLEAR', cause);
  }

  private findShared(space: AddressSpace, { start, end }: Invalidation): void {
    const { core } = this.platform;
    const frames = this.shared;
    // Cut to length 0, it would give its room back.
    shorten(frames, 0);
    for (let vpn = start; vpn < end; vpn++) {
      const high = core.entry(space.table, vpn);
      const kind = high & L.ENTRY_KIND;
      if ((kind !== L.KIND_PRESENT && kind !== L.KIND_DEVICE_PRIVATE) || high & L.ENTRY_ZERO) continue;
      const frame = core.headOf(core.entryLow);
      // A number that is not small needs room of its own where a function returns it.
      const owner = core.u32[(core.frameRecord(frame) + L.FRAME_RMAP_OWNER) >>> 2]!;
      if (owner >>> L.RMAP_CHAINED_SHIFT !== 0 && frames.at(-1) !== frame) frames.push(frame);
    }
  }

  /** Ticket of a flush that is not finished. */
  get unfinished(): Ticket | undefined {
    return this.announced?.unfinished;
  }

  /** The change is made, or will not come. */
  end(): void {
    this.announced?.end();
  }

  /** The device loses its translations of all of them. Tickets of unfinished flushes are appended. */
  withdraw(device: MigrationDevice, tickets: Ticket[]): void {
    const { places } = this;
    for (let i = 0; i < places.count; i++) device.withdraw(places.space(i), places.ranges(i), tickets);
  }

  /** The same where contexts of the device take the frames by themselves, each from one place (`placeOf`): all but those are withdrawn. `context` stands for the device where none has the frame. */
  choose(words: MigrationWords, device: MigrationDevice, context: PeerContext, tickets: Ticket[]): void {
    this.isRange = false;
    const rest = this.chooseEach(words, device, context);
    if (rest) for (const [space, ranges] of rest) device.withdraw(space, ranges, tickets);
  }

  /** Of each frame the first place that a context has; returns the others, if there are any. */
  private chooseEach(words: MigrationWords, device: MigrationDevice, none: PeerContext): Map<AddressSpace, Ranges> | undefined {
    const places = (this.sought ??= new Places());
    let rest: Map<AddressSpace, Ranges> | undefined;
    for (let i = 0; i < words.count; i++) {
      const chosen = this.put(i, none, -1);
      if (!words.moves(i)) continue;
      places.ofOne(this.platform, words.frame(i));
      for (let place = 0; place < places.count; place++) {
        const space = places.space(place);
        const ranges = places.ranges(place);
        for (let at = 0; at < ranges.count; at++) {
          for (let vpn = ranges.start(at); vpn < ranges.start(at) + ranges.length(at); vpn += words.span(i)) {
            const context = chosen.vpn < 0 ? device.coupledIn(space) : undefined;
            if (context) {
              chosen.context = context;
              chosen.vpn = vpn;
              continue;
            }
            rest ??= new Map();
            let left = rest.get(space);
            if (!left) rest.set(space, (left = new Ranges()));
            left.add(vpn, words.span(i));
          }
        }
      }
    }
    return rest;
  }

  /** Nothing is to be chosen: word i is page i of a range, and the context takes it from there. */
  chooseRange(context: PeerContext, vpn: number): this {
    this.isRange = true;
    this.start = vpn;
    this.put(0, context, -1);
    return this;
  }

  /** @internal */
  placeOf(word: number): WordPlace {
    if (!this.isRange) return this.chosen[word]!;
    const place = this.chosen[0]!;
    place.vpn = this.start + word;
    return place;
  }

  private put(i: number, context: PeerContext, vpn: number): WordPlace {
    const place = (this.chosen[i] ??= { context, vpn });
    place.context = context;
    place.vpn = vpn;
    return place;
  }

  /** Tells those who follow the CPU's tables. */
  follow(): void {
    const { places } = this;
    for (let i = 0; i < places.count; i++) {
      const space = places.space(i);
      const ranges = places.ranges(i);
      if (space.notifiers.followers.length === 0) continue;
      for (let at = 0; at < ranges.count; at++) space.installed(ranges.start(at), ranges.length(at));
    }
  }
}
