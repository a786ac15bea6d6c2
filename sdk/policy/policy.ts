/**
 * What somebody who runs a device chooses for it, beside its driver: `machine.addDevice(driver, policy)`. The choices themselves are pure and live in this folder; the steps of
 * `sdk/gmem` act on them.
 */
import { PAGE_BYTES } from '../../assembly/layout.ts';
import { fail } from '../errors.ts';
import { checkResidency, checkThrashing, type ThrashingPolicy } from './thrashing.ts';
import { checkPlacement, type PlacementPolicy } from './placement.ts';
import { checkVictims, type VictimPolicy, type VictimPolicyName } from './victim.ts';

/** Free bytes of a memory, multiples of 4096: when fewer than `low` are, pages go until `high` are. Models: the watermarks of a zone. */
export interface Watermarks {
  readonly low: number;
  readonly high: number;
}

/**
 * What becomes of a CPU access to a page that is pinned to the private memory of a device. `error`: a bus error. `remote`: it is done in the device's memory, over the bus, if the machine has its
 * bytes. `wait`: it waits until the page is unpinned. Coherent memory is used in place, pinned or not.
 */
export type PinnedAccess = 'error' | 'remote' | 'wait';

/** The words of `PinnedAccess`. */
const PINNED_ACCESS: readonly PinnedAccess[] = ['error', 'remote', 'wait'];

/** Choices for one device; all of them have defaults. */
export interface DevicePolicy {
  /** Whether pages come to it, are duplicated, or are used where they are. Default: they come, but for those of which something else is advised. */
  readonly placement?: PlacementPolicy;
  /** Of a device that runs one address space at a time: rounds of a job before another address space that waits has its turn. Default 1. */
  readonly slice?: number;
  /** What becomes of a CPU access to a page that is pinned to its private memory (`hmadvise(range, 'pinned')`). Default 'error'. */
  readonly pinnedAccess?: PinnedAccess;
  /** What it does about pages that go back and forth. Default: nothing. */
  readonly thrashing?: ThrashingPolicy;
  /** Ticks that a page stays on it before the fault of another device may take it. Default 0. See `sdk/policy/thrashing.ts` for what a tick is. */
  readonly residency?: number;
  /** Whether a driver with the family `peer` brings and takes pages in one go ('coupled', default), or in the steps of its other families. */
  readonly form?: 'coupled' | 'decoupled';
  /**
   * When the caches of the device are emptied of ranges that are taken away together. `immediate`: a flush for each. `coalesced` (default): one flush for all that one operation takes. `deferred`: when
   * somebody must wait for it, and nothing else can go on: operations that run at the same time share one.
   */
  readonly flush?: 'immediate' | 'coalesced' | 'deferred';
  /** Which pages go when a memory needs room: a name, or an object of one's own. Default 'fifo'. A memory whose driver hands the frames out leaves the choice to its driver; a device that has only such memory is refused one. */
  readonly victims?: VictimPolicyName | VictimPolicy;
  /** How much of each of its memories is kept free, before it is needed: see `Watermarks`. Default: nothing. */
  readonly watermarks?: Watermarks;
}

/** A check for one of these words. */
function oneOf(...words: readonly string[]): (argument: string, value: unknown) => void {
  return (argument, value) => {
    if (!words.includes(value as string))
      throw fail('EINVAL', argument, value, `is not one of: ${words.map((word) => `'${word}'`).join(', ')}`);
  };
}

/** Names of the choices, and what checks them. */
export const DEVICE_POLICY: Readonly<Record<keyof DevicePolicy, (argument: string, value: unknown) => void>> = {
  placement: checkPlacement,
  slice: checkSlice,
  pinnedAccess: checkPinnedAccess,
  thrashing: checkThrashing,
  residency: checkResidency,
  form: oneOf('coupled', 'decoupled'),
  flush: oneOf('immediate', 'coalesced', 'deferred'),
  victims: checkVictims,
  watermarks: checkWatermarks,
};

/** Throws EINVAL unless a slice is a number of rounds. */
function checkSlice(argument: string, value: unknown): void {
  if (!Number.isSafeInteger(value) || (value as number) < 1) throw fail('EINVAL', argument, value, 'is not a positive count of rounds');
}

/** Throws EINVAL for a choice that cannot be made. Requires: each of them exists. */
export function checkPolicy(device: string, policy: DevicePolicy): void {
  for (const [name, value] of Object.entries(policy))
    if (value !== undefined) DEVICE_POLICY[name as keyof DevicePolicy](`${device} policy.${name}`, value);
}

function checkPinnedAccess(argument: string, value: unknown): void {
  if (!PINNED_ACCESS.includes(value as PinnedAccess)) throw fail('EINVAL', argument, value, "is not one of: 'error', 'remote', 'wait'");
}

/** Throws EINVAL unless they are two multiples of 4096, the lower one first. */
function checkWatermarks(argument: string, value: unknown): void {
  const { low, high, ...rest } = (typeof value === 'object' && value !== null ? value : {}) as Partial<Watermarks>;
  const [unknown] = Object.keys(rest);
  if (unknown !== undefined) throw fail('EINVAL', argument, unknown, 'is not one of: low, high');
  for (const [name, bytes] of Object.entries({ low, high })) {
    if (!Number.isSafeInteger(bytes) || bytes! <= 0 || bytes! % PAGE_BYTES !== 0)
      throw fail('EINVAL', `${argument}.${name}`, bytes, 'is not a positive multiple of 4096');
  }
  if (low! > high!) throw fail('EINVAL', `${argument}.low`, low, `is above high, which is ${high!}`);
}
