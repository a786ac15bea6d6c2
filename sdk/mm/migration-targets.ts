/**
 * Where the pages of a migration get their target frames from. A page without one stays where it is.
 *
 * ```
 *   caller   from whoever asks for the migration, before it begins
 *   host     from the host, for what comes home: with a second tier, room is made there first, once
 *   plan     from somebody's plan, which looks at what was collected
 *   tier     from the second tier, for what leaves the host; what is there already, still true, goes without a copy
 * ```
 *
 * Invariant: a frame in a target word has one reference, which goes over when the page moves. Nothing is taken that no word has: what is left when all are given goes back.
 */
import * as L from '../../assembly/layout.ts';
import { HostFrames } from './host-frames.ts';
import type { MigrationWords } from './migration-words.ts';
import type { Platform } from './platform.ts';
import type { RoomStep, SecondTier } from './second-tier.ts';

export class MigrationTargets {
  giver: 'caller' | 'host' | 'plan' | 'tier' = 'caller';
  /** The second tier had no frame for something. */
  isShort = false;
  /** Pages that go to the second tier without a copy. */
  clean = 0;
  private readonly platform: Platform;
  private readonly words: MigrationWords;
  /** Made when something first comes home. */
  private hostFrames: HostFrames | undefined;
  /** Of the host: not wanted for pages that the second tier has. Of the second tier: only for those. */
  private dropsClean = false;
  private onlyClean = false;
  /** Room has been made on the host, as far as it could be. */
  private hasRoom = false;

  constructor(platform: Platform, words: MigrationWords) {
    this.platform = platform;
    this.words = words;
  }

  /** Begins anew: the caller gives them. */
  begin(): void {
    this.giver = 'caller';
    this.isShort = false;
    this.clean = 0;
    this.dropsClean = false;
    this.onlyClean = false;
    this.hasRoom = false;
  }

  /** They are the host's. `dropsClean`: what the second tier has goes there, it does not come home. */
  fromHost(dropsClean: boolean): void {
    this.hostFrames ??= new HostFrames(this.platform);
    this.giver = 'host';
    this.dropsClean = dropsClean;
  }

  /** They are the second tier's. `onlyClean`: what it does not have stays. */
  fromTier(onlyClean: boolean): void {
    this.giver = 'tier';
    this.onlyClean = onlyClean;
  }

  /** Before frames are collected that are to come home: as `HostFrames.prepare`. */
  prepare(frames: readonly number[], most: number): readonly number[] {
    return this.giver === 'host' ? this.hostFrames!.prepare(frames, most) : frames;
  }

  /** Where there is a second tier, host frames that are missing are made there: the step that does it, once. */
  makeRoom(): RoomStep | undefined {
    const { words } = this;
    const { host, tier } = this.platform;
    if (!tier || this.giver !== 'host' || this.hasRoom) return undefined;
    this.hasRoom = true;
    if (this.dropsClean) this.giveClean(tier);
    let missing = -host.free;
    for (let i = 0; i < words.count; i++) if (words.moves(i) && !words.hasTarget(i)) missing += words.span(i);
    if (missing <= 0) return undefined;
    return tier.roomStep(missing);
  }

  /** Gives what the host, or the second tier, has. `vpn`, `first`, `most`: as for `HostFrames.give`. */
  give(vpn: number | undefined, first: number, most: number): void {
    if (this.giver === 'host') this.hostFrames!.give(this.words, vpn, first, most);
    else if (this.giver === 'tier') this.giveTier();
  }

  private giveTier(): void {
    const { words } = this;
    const tier = this.platform.tier!;
    this.giveClean(tier);
    if (this.onlyClean) return;
    for (let i = 0; i < words.count; i++) {
      if (!words.moves(i) || words.hasTarget(i)) continue;
      const slot = tier.take();
      if (slot === L.FRAME_NONE) {
        this.isShort = true;
        return;
      }
      words.aim(i, slot, false);
    }
  }

  /** Pages that the second tier has, still true, go there. */
  private giveClean(tier: SecondTier): void {
    const { words } = this;
    for (let i = 0; i < words.count; i++) {
      if (!words.moves(i) || words.span(i) > 1 || words.hasTarget(i)) continue;
      const slot = tier.backingOf(words.frame(i));
      if (slot < 0) continue;
      this.platform.core.exports.frameGet(slot);
      words.aim(i, slot, false);
      this.clean++;
    }
  }

  /** Of the pages that were to go without a copy, those that really do: after the commit. */
  countClean(): number {
    if (this.clean === 0) return 0;
    const { words } = this;
    const { tier } = this.platform;
    this.clean = 0;
    for (let i = 0; i < words.count; i++) {
      if (!words.moves(i) || !words.hasTarget(i) || !tier!.node.holds(words.targetFrame(i))) continue;
      if (tier!.backingOf(words.frame(i)) === words.targetFrame(i)) this.clean++;
    }
    return this.clean;
  }

  /** The migration is broken off: what was got for it and is in no word goes back. `isUntouched`: nothing was collected, so that what the caller gave goes as well. */
  abort(isUntouched: boolean): void {
    const { words } = this;
    this.hostFrames?.putBack();
    words.dropAllLater();
    if (!isUntouched || this.giver !== 'caller') return;
    for (let i = 0; i < words.count; i++) if (words.hasTarget(i)) this.platform.core.exports.framePut(words.targetFrame(i));
  }
}
