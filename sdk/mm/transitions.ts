/**
 * Which changes of a page's state are legal, and a checker that looks after every turn of every step: `createMachine({ checked: 'states' })`. For tests: each look is proportional to what is mapped.
 *
 * ```
 *   from \ to     nothing   host   device   tier    moving   alone   lost
 *   nothing       -         yes    yes (1)  (2)     (2)      (2)     yes
 *   host          yes       (3)    no       no      yes      yes     yes
 *   device        yes       no     (3)      no      yes      yes     yes
 *   tier          yes       no     no       (3)     yes      no      yes
 *   moving        yes       yes    yes      yes     yes      no      yes
 *   alone         yes       yes    yes (4)  no      no       yes     yes
 *   lost          yes       no     no       no      no       no      yes
 *
 *   (1) a hole migrates as "clear the target"     (3) the same frame; or, on the host, a copy (COW, collapse)
 *   (2) an entry that another address or space had before: mremap, fork     (4) in coherent memory
 *   alone: a device's for its atomics                                  tier: in the second tier
 * ```
 *
 * And, whatever the state: who may write is alone with the page. While a device has a copy, the home entry is on the host, says so, and is without write.
 *
 * Models: the states of `gm_mapping` (NOMAP, CPU, DEVICE), which nothing checked.
 */
import * as L from '../../assembly/layout.ts';
import { fail, type FarfaultError } from '../errors.ts';
import type { AddressSpace } from './address-space.ts';
import type { Platform } from './platform.ts';

/** A page's logical state, by its home entry. */
export type LogicalState = 'nothing' | 'host' | 'device' | 'tier' | 'moving' | 'alone' | 'lost';

/** To which states a page may go. A frame that stays in its state keeps its number, but for copies on the host. */
export const LEGAL: Readonly<Record<LogicalState, readonly LogicalState[]>> = {
  nothing: ['nothing', 'host', 'device', 'lost'],
  host: ['nothing', 'host', 'moving', 'alone', 'lost'],
  device: ['nothing', 'device', 'moving', 'alone', 'lost'],
  tier: ['nothing', 'tier', 'moving', 'lost'],
  moving: ['nothing', 'host', 'device', 'tier', 'moving', 'lost'],
  alone: ['nothing', 'host', 'device', 'alone', 'lost'],
  lost: ['nothing', 'lost'],
};

interface Seen {
  readonly state: LogicalState;
  readonly frame: number;
}

/** Pages of one space that are looked at; larger spaces are not checked. */
const PAGES_MAX = 4096;

const NOTHING: Seen = { state: 'nothing', frame: L.FRAME_NONE };

/** The checker of one machine. */
export class Transitions {
  private readonly platform: Platform;
  /** What each page was when it was last looked at, by space. */
  private readonly seen: Map<number, Map<number, Seen>> = new Map();

  constructor(platform: Platform) {
    this.platform = platform;
  }

  /** Looks at every space; what is not legal is reported, once. */
  look(): void {
    const { spaces } = this.platform;
    const known = new Set<number>();
    for (const pages of this.seen.values()) for (const { frame } of pages.values()) known.add(frame);
    for (const id of this.seen.keys()) if (!spaces.has(id)) this.seen.delete(id);
    for (const space of spaces.values()) this.lookAt(space, known);
  }

  private lookAt(space: AddressSpace, known: ReadonlySet<number>): void {
    const now = this.pagesOf(space);
    if (!now) return;
    const before = this.seen.get(space.id) ?? new Map<number, Seen>();
    for (const [vpn, page] of now) {
      const was = before.get(vpn) ?? NOTHING;
      if (!isLegal(was, page, known)) this.report(space, vpn, `goes from ${was.state} to ${page.state}, which is not legal`);
      const broken = this.held(space, vpn);
      if (broken) this.report(space, vpn, broken);
    }
    this.seen.set(space.id, now);
  }

  private pagesOf(space: AddressSpace): Map<number, Seen> | undefined {
    const { core, nodes } = this.platform;
    const pages = new Map<number, Seen>();
    let isTooLarge = false;
    space.vmas.each(0, 2 ** L.VPN_BITS, (_, start, end) => {
      if (end - start > PAGES_MAX || pages.size > PAGES_MAX) isTooLarge = true;
      else
        for (let vpn = start; vpn < end; vpn++) {
          const high = core.entry(space.table, vpn);
          const frame = core.entryLow;
          const state = stateOf(high, () => nodes.of(frame).owner > 0);
          if (state !== 'nothing') pages.set(vpn, { state, frame });
        }
    });
    return isTooLarge ? undefined : pages;
  }

  /** What is wrong with who has a page. */
  private held(space: AddressSpace, vpn: number): string | undefined {
    const { core } = this.platform;
    const high = core.entry(space.table, vpn);
    for (const mirror of space.mirrors) {
      if (mirror.holds(vpn) !== 'copy') continue;
      const wanted = L.KIND_PRESENT | L.ENTRY_REPLICATED;
      if ((high & (L.ENTRY_KIND | L.ENTRY_REPLICATED | L.ENTRY_WRITE)) !== wanted) return `may change, and ${mirror.name} has a copy of it`;
      for (const other of space.mirrors)
        if (other.holds(vpn) === 'write') return `may be written by ${other.name}, and ${mirror.name} has a copy of it`;
    }
    return undefined;
  }

  private report(space: AddressSpace, vpn: number, rule: string): void {
    this.platform.addStray(illegal(space, vpn, rule));
  }
}

function illegal(space: AddressSpace, vpn: number, rule: string): FarfaultError {
  return fail('EINVAL', `page state of space ${space.id} at`, vpn * L.PAGE_BYTES, rule);
}

function isLegal(was: Seen, now: Seen, known: ReadonlySet<number>): boolean {
  if (was.state === 'nothing' && (now.state === 'moving' || now.state === 'alone' || now.state === 'tier')) return known.has(now.frame);
  if (was.state === now.state && (now.state === 'device' || now.state === 'tier')) return was.frame === now.frame;
  return LEGAL[was.state].includes(now.state);
}

function stateOf(high: number, isOnDevice: () => boolean): LogicalState {
  switch (high & L.ENTRY_KIND) {
    case L.KIND_NONE:
      return 'nothing';
    case L.KIND_PRESENT:
    case L.KIND_PROTNONE:
      if (high & L.ENTRY_ZERO) return 'nothing';
      return isOnDevice() ? 'device' : 'host';
    case L.KIND_DEVICE_PRIVATE:
      return 'device';
    case L.KIND_MIGRATION:
      return 'moving';
    case L.KIND_SWAP:
      return 'tier';
    case L.KIND_EXCLUSIVE:
      return 'alone';
    default:
      return 'lost';
  }
}
