/**
 * Device memory as the memory management sees it: a page map. What a migration and a CPU fault need to know of a device, and no more;
 * `sdk/gmem/device.ts` and `sdk/gmem/own-memory.ts` provide it.
 *
 * Models: `struct dev_pagemap` and `dev_pagemap_ops` (`page_free`, `migrate_to_ram`).
 */
import type { Copies, Ranges } from '../core/batch.ts';
import type { MigrationCause } from '../events/cause.ts';
import type { Ticket } from '../step/ticket.ts';
import type { AddressSpace } from './address-space.ts';
import type { AdvisedDevice } from './attributes.ts';
import type { PinnedAccess } from '../policy/policy.ts';
import type { Node } from './node.ts';
import type { IntervalNotifier } from './notifier.ts';
import type { PeerBatch } from './peer-batch.ts';

/** What `takeFrame` says of a memory whose device chooses the page when it is brought, and, for a huge one, likewise. */
export const FRAME_LATER: number = -2;
export const FRAME_LATER_HUGE: number = -3;

/** A context whose device brings and takes pages by itself: the family `peer`. */
export interface PeerContext {
  /** It has left, or failed. */
  readonly isGone: boolean;
  /** Somebody changes something that its device was told of: what is entered now may be wrong. */
  readonly isInvalidating: boolean;
  /** `peer.map`; a ticket: the results come with its end. */
  bring(batch: PeerBatch): Ticket | undefined;
  /** `peer.unmap`. */
  take(batch: PeerBatch): Ticket | undefined;
  /** `peer.unmap` where it must not fail. */
  drop(batch: PeerBatch): Ticket | undefined;
  /** Whether its device translates this page to this frame. */
  translatesTo(vpn: number, frame: number): boolean;
  /** Sets, and clears, WILLNEED of a page: the device that is sending it away is to keep it. */
  want(vpn: number): void;
  unwant(vpn: number): void;
  /** Opaque bits of a page. */
  attributesAt(vpn: number): number;
}

/** What of a space a device has in the core, when it has all of it there: the ready-made table and TLB, and a notifier that ignores the device's own migrations. */
export interface CoreMirror {
  /** Descriptor of its table. */
  readonly descriptor: number;
  /** Slot of its TLB. */
  readonly slot: number;
  /** Of the whole space. */
  readonly notifier: IntervalNotifier;
  /** Whether what is true now may be entered. */
  readonly mayEnter: boolean;
  /** Whether bytes to or from its memories go through a copy engine of the driver's, and that: see `MigrationDevice`. */
  readonly hasEngine: boolean;
  copy(operation: 'toDevice' | 'toHost' | 'zero', copies: Copies): Ticket | void;
  /** Counts the withdrawal of one page, which the core has made. */
  withdrawn(): void;
  /** Enters a page as its home entry has it. */
  enterOne(vpn: number, frame: number): void;
}

/** Which way a copy goes. */
export type CopyDirection = 'to-device' | 'to-host' | 'peer';

/** A device as a migration sees it: who copies, and whose translations of the moving pages are to go. */
export interface MigrationDevice extends AdvisedDevice {
  readonly name: string;
  /** Device index + 1: the owner that selectors and MIGRATE events compare. */
  readonly owner: number;
  readonly memories: readonly DeviceMemory[];
  /** Pages that one fault of it moves or maps: a power of two. */
  readonly granulePages: number;
  /** What becomes of a CPU access to a page that is pinned to its private memory. */
  readonly pinnedAccess: PinnedAccess;
  /** Which of its memories a frame is in: an index that the driver knows, or -1. */
  memoryOf(frame: number): number;
  /** Whether bytes to or from its memories go through a copy engine of the driver's; without one the core moves a whole migration in one call. */
  hasEngine(space: AddressSpace | undefined): boolean;
  /** Whether its driver's copy engine reaches the memories of other devices over their link (`copy.peer`). */
  hasPeerEngine(space: AddressSpace | undefined): boolean;
  /** Moves bytes, by the driver's copy engine if it has one. Undefined or void: done. */
  copy(direction: CopyDirection, space: AddressSpace | undefined, copies: Copies): Ticket | void;
  /** The context by which pages of a space are brought and taken in one go (of any space: undefined); undefined: in steps. */
  coupledIn(space: AddressSpace | undefined): PeerContext | undefined;
  /** Its side of a space, if all of that is in the core, and nothing is advised that a migration would have to ask for; else undefined. */
  mirrorIn(space: AddressSpace): CoreMirror | undefined;
  /** Fills targets with zeros, by the copy engine if it has that operation. */
  zero(space: AddressSpace | undefined, copies: Copies): Ticket | void;
  /**
   * Removes this device's own translations of exactly these pages of a space, caches included, because a migration of its own makes them wrong: its notifier
   * ignores its own MIGRATE events. Tickets of unfinished flushes are appended.
   */
  withdraw(space: AddressSpace, ranges: Ranges, tickets: Ticket[]): void;
  /** Whether there is any page of a space of which the next can be true. */
  mayDuplicateIn(space: AddressSpace): boolean;
  /** Whether the device would duplicate a page of a space that is leaving its memory. */
  duplicates(space: AddressSpace, vpn: number): boolean;
  /** The frame that such a page has left, its bytes still true: it becomes the device's copy of the page, or is given up. Its one reference goes over. */
  keep(space: AddressSpace, vpn: number, frame: number): void;
}

/** One memory of a device. */
export interface DeviceMemory {
  readonly node: Node;
  /** `private`: the CPU cannot reach it. `coherent`: the CPU uses it like its own. */
  readonly kind: 'private' | 'coherent';
  readonly device: MigrationDevice;
  /** The device's. */
  readonly owner: number;
  /** Pages that a CPU touch brings home together: a power of two. */
  readonly granulePages: number;
  /** Whether a fault batch under way has been given a frame of it, or needs it where it is: it may not be evicted before its lanes have run. */
  needs(frame: number): boolean;
  /** A frame of 2^order pages with one reference, or -1 when none is free; FRAME_LATER: the device chooses it. */
  takeFrame(order?: number): number;
  /** Frames that could be brought home to make room, as frame numbers; empty when none may go. */
  victims(pages: number): readonly number[];
  /** A driver-owned frame came free, `pages` of them for a huge one. Models: `page_free`. */
  freed(frame: number, pages: number): void;
  /** A space has ended: whatever was remembered of its pages is of nobody, its number may come again. */
  forget(space: number): void;
  /** Drops those of the frames that are the device's copies of pages; returns the others. Tickets of unfinished flushes are appended: the frames are free when they have ended. */
  dropReplicas(frames: readonly number[], cause: MigrationCause, tickets: Ticket[]): readonly number[];
}
