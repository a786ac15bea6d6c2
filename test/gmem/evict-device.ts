/** A device with memory of its own, the ready-made table and nothing else, and what its tests count. */
import { type DevicePolicy, type Machine, MiB } from 'farfault';
import { type Context, defineDriver, type Driver } from 'farfault/gmem';
import { PAGE, smallMachine } from '../machine/probe.ts';

export interface VramOptions {
  readonly name?: string;
  readonly pages?: number;
  readonly granulePages?: number;
}

/** `pages` pages of private memory. */
export const vram: (options?: VramOptions) => Driver = defineDriver(
  ({ name = 'gpu', pages = 4, granulePages = 1 }: VramOptions): Driver => ({
    name,
    memory: [{ name: 'vram', kind: 'private', bytes: pages * PAGE }],
    granuleBytes: granulePages * PAGE,
    attach: () => ({}),
  }),
);

/** One space with one device and a mapping of `pages` pages. */
export interface World {
  readonly machine: Machine;
  readonly context: Context;
  readonly space: Context['space'];
  /** Address of page `i`. */
  at(i: number): number;
  readonly range: { readonly start: number; readonly end: number };
}

/** What `worldOf` is told. */
export interface WorldOptions {
  readonly driver?: Driver;
  readonly policy?: DevicePolicy;
  readonly pages?: number;
  readonly dram?: number;
  readonly swap?: number;
  readonly deviceMemory?: number;
}

export function worldOf({ driver = vram(), policy = {}, pages = 16, dram = 1 * MiB, ...more }: WorldOptions = {}): World {
  const machine = smallMachine({ dram, ...more });
  const space = machine.createAddressSpace();
  const context = space.attach(machine.addDevice(driver, policy));
  const range = space.mmap({ bytes: pages * PAGE });
  return { machine, context, space, range, at: (i) => range.start + i * PAGE };
}

/** Which pages of the mapping are in the device's memory. */
export function resident({ context, range }: World): number[] {
  const pages: number[] = [];
  for (let vpn = range.start / PAGE; vpn < range.end / PAGE; vpn++)
    if (context.residency(vpn) !== undefined) pages.push(vpn - range.start / PAGE);
  return pages;
}

/** xorshift32. */
export function randomOf(seed: number): (below: number) => number {
  let state = Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) | 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return Math.floor(((state >>> 0) / 2 ** 32) * below);
  };
}
