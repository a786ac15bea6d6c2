/**
 * Pages that go back and forth: how that is noticed, and what a device that wants such a page does instead of taking it. Pure; what has moved when is kept in `sdk/mm/movements.ts`, in ticks of the machine: a tick is
 * one question of a device for a page that may come to it, or one migration by a fault. There is no clock.
 *
 * ```
 *   residency    a page that has come to a device stays there so many ticks before the fault of another device may take it
 *   thrashing    a block of pages that has changed its side `moves` times within `window` ticks thrashes
 *     throttle   the fault is put off, at most `throttles` times one after the other
 *     pin        the page is used where it is, for `pinTicks`: over a coherent link, else on the host, to which it goes once more
 * ```
 *
 * Models: `uvm_perf_thrashing`, the `timeslice_ms` of `drm_gpusvm`.
 */
import { fail } from '../errors.ts';

/** What a device does about blocks that thrash. */
export interface ThrashingPolicy {
  /** Changes of side within the window that make a block thrash: 2 to 64. Default 4. */
  readonly moves?: number;
  /** Ticks. Default 64. */
  readonly window?: number;
  /** Default 'pin'. */
  readonly response?: 'throttle' | 'pin';
  /** Most faults on a block that are put off one after the other, 1 to 16. Default 8. */
  readonly throttles?: number;
  /** Ticks that a pin lasts. Default 256. */
  readonly pinTicks?: number;
}

/** Changes of side that are remembered of a block. */
export const MOVES_KEPT = 64;

/** Most ticks of residency: an access is tried that often, and more, before it gives up. */
export const RESIDENCY_MAX = 32;

const DEFAULTS: Required<ThrashingPolicy> = { moves: 4, window: 64, response: 'pin', throttles: 8, pinTicks: 256 };
const COUNTS: Readonly<Record<string, readonly [number, number]>> = {
  moves: [2, MOVES_KEPT],
  window: [1, 2 ** 32],
  throttles: [1, 16],
  pinTicks: [1, 2 ** 32],
};

/** Throws EINVAL for what is no thrashing policy. */
export function checkThrashing(argument: string, value: unknown): void {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw fail('EINVAL', argument, value, 'is not an object');
  for (const [name, each] of Object.entries(value)) {
    const bounds = COUNTS[name];
    if (name === 'response') {
      if (each !== undefined && each !== 'throttle' && each !== 'pin')
        throw fail('EINVAL', `${argument}.response`, each, "is not one of: 'throttle', 'pin'");
    } else if (!Object.hasOwn(COUNTS, name) || !bounds) throw fail('EINVAL', argument, name, 'is no choice about thrashing');
    else if (each !== undefined && (!Number.isInteger(each) || (each as number) < bounds[0] || (each as number) > bounds[1]))
      throw fail('EINVAL', `${argument}.${name}`, each, `is not a count between ${bounds[0]} and ${bounds[1]}`);
  }
}

/** Throws EINVAL for what is no residency. */
export function checkResidency(argument: string, value: unknown): void {
  if (!Number.isInteger(value) || (value as number) < 0 || (value as number) > RESIDENCY_MAX)
    throw fail('EINVAL', argument, value, `is not a count between 0 and ${RESIDENCY_MAX}`);
}

/** What is known of a block of pages. */
export interface BlockHistory {
  /** Ticks of its changes of side, oldest first. */
  readonly moves: readonly number[];
  /** When a page of it came to where they are. */
  readonly arrived: number;
  /** Faults put off since. */
  readonly deferred: number;
  /** Until when it is pinned; 0: it is not. */
  readonly pinnedUntil: number;
}

/** `go`: nothing is against it. `defer`: put off. `pin`: it is pinned, or is to be from now on. */
export type Restraint = 'go' | 'defer' | 'pin';

/** Whether the block has changed its side too often lately. */
export function thrashes({ moves }: BlockHistory, now: number, policy: ThrashingPolicy): boolean {
  const { moves: most, window } = { ...DEFAULTS, ...policy };
  const since = moves[moves.length - most];
  return since !== undefined && now - since <= window;
}

/** What a device with this policy does that wants a page of the block. */
export function restraintOf(block: BlockHistory, now: number, policy: ThrashingPolicy): Restraint {
  const { response, throttles } = { ...DEFAULTS, ...policy };
  if (block.pinnedUntil > now) return 'pin';
  if (!thrashes(block, now, policy)) return 'go';
  if (response === 'pin') return 'pin';
  return block.deferred < throttles ? 'defer' : 'go';
}

/** How long a pin that begins now lasts. */
export function pinnedUntil(now: number, { pinTicks = DEFAULTS.pinTicks }: ThrashingPolicy): number {
  return now + pinTicks;
}

/** Whether a page that has come at `arrived` to a device with this residency is still to stay there. */
export function resides({ arrived }: BlockHistory, now: number, residency: number): boolean {
  return now - arrived < residency;
}
