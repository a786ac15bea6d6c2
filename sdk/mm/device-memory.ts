/**
 * Device memory as the memory management sees it: a page map. What a migration and a CPU fault need to know of a device, and no more;
 * `sdk/gmem/device.ts` provides it.
 *
 * Models: `struct dev_pagemap` and `dev_pagemap_ops` (`page_free`, `migrate_to_ram`).
 */
import type { Copies, Ranges } from '../core/batch.ts';
import type { Ticket } from '../step/ticket.ts';
import type { AddressSpace } from './address-space.ts';
import type { AdvisedDevice } from './attributes.ts';
import type { PinnedAccess } from '../policy/policy.ts';
import type { Node } from './node.ts';

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
  /** Fills targets with zeros, by the copy engine if it has that operation. */
  zero(space: AddressSpace | undefined, copies: Copies): Ticket | void;
  /**
   * Removes this device's own translations of exactly these pages of a space, caches included, because a migration of its own makes them wrong: its notifier
   * ignores its own MIGRATE events. Tickets of unfinished flushes are appended.
   */
  withdraw(space: AddressSpace, ranges: Ranges, tickets: Ticket[]): void;
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
  /** A frame of 2^order pages with one reference, or -1 when none is free. */
  takeFrame(order?: number): number;
  /** Frames that could be brought home to make room, as frame numbers; empty when none may go. */
  victims(pages: number): readonly number[];
  /** A driver-owned frame came free. Models: `page_free`. */
  freed(frame: number): void;
}
