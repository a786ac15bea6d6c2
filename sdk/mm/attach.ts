/** What an address space knows of devices: how one is attached, and what is asked of it when the space ends. `sdk/gmem` implements it. */
import type { Step } from '../step/step.ts';
import { type AddressRange, type NamesOf, requireBoolean, requireOptions, requireWord } from './arguments.ts';
import type { AddressSpace } from './address-space.ts';
import type { MigrationDevice } from './device-memory.ts';
import type { PeerAddresses } from './peer-va.ts';

/**
 * How a device uses an address space. `exclusive`: a table of its own, filled by its faults; a page is in one place. `share`: it walks the home table, as the CPU does.
 * `replicate`: a table of its own, into which every entry that the CPU gets is entered, so that it does not fault for what the CPU has. Models: `gm_mmu_mode`.
 */
export type AttachMode = 'exclusive' | 'share' | 'replicate';

/** How a device is attached. Models: the parameters of `gm_as_attach`. */
export interface AttachOptions {
  /** Default: what its driver says, and 'exclusive' when it says nothing. */
  readonly mode?: AttachMode;
  /**
   * For a device that runs one address space at a time: whether it is to run this one from now on. Default: when it runs none. Without it, the device comes to it by its first access or job, or by
   * `device.switchTo`.
   */
  readonly activate?: boolean;
}

const ATTACH_OPTIONS: NamesOf<AttachOptions> = { mode: true, activate: true };

/** The words of `AttachMode`. */
export const ATTACH_MODES: readonly AttachMode[] = ['exclusive', 'share', 'replicate'];

/** What a device is attached by; `sdk/gmem/device.ts` implements it. */
export interface Attachable<Context> {
  attachTo(space: AddressSpace, options?: AttachOptions): Context;
  attachToAsync(space: AddressSpace, options?: AttachOptions): Promise<Context>;
}

/** What a device has of a page. */
export type MirrorHold = 'copy' | 'read' | 'write';

/** What a space asks of each attached context: what advice needs, and that it ends with the space. */
export interface SpaceMirror {
  readonly name: string;
  readonly device: MigrationDevice;
  /** Throws ENODEV once it serves nothing any more, EBADF once it has left. */
  requireWorking(verb: string): void;
  /** Notes that its page has been written, past its translation. */
  markAtomic(vpn: number): void;
  /** Serves one fault of it. */
  faultStep(addr: number, access: 'read' | 'write'): Step & { readonly outcome: string };
  /** Moves a range to the device's memory, or home; `whole`: what is mostly read as well, of which there would be a copy. `spare`: a step of an earlier call that has ended, to be used again. */
  migrateStep(range: AddressRange, to: 'device' | 'host', memory?: number, whole?: boolean, spare?: Step): Step;
  /** Number of its device: the owner of its memories. */
  readonly owner: number;
  /** Its addresses, when its device hands them out itself. */
  readonly peer: PeerAddresses | undefined;
  /** One past the last page that its device has an address for. */
  readonly pageLimit: number;
  /** Ranges that were its alone and touch these pages are none any more: their pages may go. */
  letGoIn(start: number, end: number): void;
  detach(): void;
  detachAsync(): Promise<void>;
  /** What the device has of a page: a copy of its own, a translation with or without write. */
  holds(vpn: number): MirrorHold | undefined;
}

/** The format of home tables: four levels of nine bits over 4 KiB pages. A device whose driver has this `tableFormat` can walk them. Models: the `cookie` of `gm_mmu`. */
export const HOME_TABLE_FORMAT = 'radix-4k-9-9-9-9';

/** Throws EINVAL for options that are none. */
export function requireAttach(options: AttachOptions): void {
  requireOptions('attach', options, ATTACH_OPTIONS);
  if (options.mode !== undefined) requireWord('attach.mode', options.mode, ATTACH_MODES);
  if (options.activate !== undefined) requireBoolean('attach.activate', options.activate);
}
