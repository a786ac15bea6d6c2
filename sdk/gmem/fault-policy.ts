/**
 * What the policies of a device make of its faults: where a page is to be used (`sdk/policy/placement.ts`), and whether it may move just now, when its block goes back and forth (`sdk/policy/thrashing.ts`).
 * It decides and reports what it has noticed; what comes of it is done by `ServeFault`.
 */
import { BLOCK_PAGES, type MovedBlock } from '../mm/movements.ts';
import type { Platform } from '../mm/platform.ts';
import { AT_NOWHERE, type Placement, type PlacementAdvice, type PlacementQuestion } from '../policy/placement.ts';
import { pinnedUntil, resides, type Restraint, restraintOf } from '../policy/thrashing.ts';
import { choosePlacement } from './choose-placement.ts';
import type { Context } from './context.ts';
import type { Device } from './device.ts';
import type { PageState } from './fault-table.ts';
import { isReachable } from './page-state.ts';

/** What a policy is asked; filled anew for each page. */
export class Question implements PlacementQuestion {
  readonly device: number;
  vpn = 0;
  write = false;
  at: number = AT_NOWHERE;
  isReachable = false;
  mayDuplicate = false;
  advice: PlacementAdvice | undefined;

  constructor(device: number) {
    this.device = device;
  }
}

export class FaultPolicy {
  /** Something is advised, or chosen: each page is asked about. Else all of them come. */
  asks = false;
  readonly platform: Platform;
  /** Whose faults. */
  readonly context: Context;
  /** Made when a policy is first asked. */
  private question: Question | undefined;

  constructor(platform: Platform, context: Context) {
    this.platform = platform;
    this.context = context;
  }

  /** Begins a fault: whether pages are asked about. */
  begin(): void {
    const { space, device } = this.context;
    this.asks = space.attributes.size > 0 || device.policy.placement !== undefined;
  }

  /** Where page `vpn`, in that state and at `frame`, is to be used. */
  choose(vpn: number, write: boolean, state: PageState, frame: number): Placement {
    if (!this.asks) return 'migrate';
    const { platform, context } = this;
    const { space, device } = context;
    const question = (this.question ??= new Question(device.owner));
    question.vpn = vpn;
    question.write = write;
    question.at = state === 'nothing' ? AT_NOWHERE : platform.nodes.of(frame).owner;
    question.isReachable = state !== 'other' || isReachable(platform, device, frame);
    question.mayDuplicate = !write && (state === 'host' || state === 'other') && context.mayDuplicate;
    question.advice = space.attributes.at(vpn);
    return choosePlacement(platform, device, question);
  }

  /** Whether what is chosen for one of the pages of `[start, end)` holds for all of them. */
  isUniform(start: number, end: number): boolean {
    const { space, device } = this.context;
    return !this.asks || (device.policy.placement?.choose === undefined && space.attributes.sameUntil(start, end) === end);
  }

  /** What the movements of the page's block are to its coming; `reside`: it stays a while yet on the device that has it. */
  restraint(vpn: number, state: PageState, frame: number): Restraint | 'reside' {
    const { movements } = this.platform;
    if (!movements || state === 'nothing') return 'go';
    const { space, device } = this.context;
    const now = ++movements.tick;
    const block = movements.blockOf(space.id, vpn);
    if (!block) return 'go';
    const residency = state === 'other' ? this.residencyOf(frame) : 0;
    if (residency > 0 && resides(block, now, residency)) return 'reside';
    const { thrashing } = device.policy;
    const restraint = thrashing === undefined ? 'go' : restraintOf(block, now, thrashing);
    if (restraint === 'defer' && block.deferred++ === 0) this.report(vpn, 'throttle', block);
    if (restraint === 'pin' && block.pinnedUntil <= now) {
      block.pinnedUntil = pinnedUntil(now, thrashing!);
      this.report(vpn, 'pin', block);
    }
    return restraint;
  }

  /** Ticks that pages stay on the device whose frame this is. */
  private residencyOf(frame: number): number {
    const { owner } = this.platform.nodes.of(frame);
    return (this.platform.devices as readonly Device[]).find((device) => device.owner === owner)?.policy.residency ?? 0;
  }

  private report(vpn: number, response: 'throttle' | 'pin', { moves }: MovedBlock): void {
    const { events } = this.platform;
    const { space, device } = this.context;
    if (!events.heard) return;
    const first = vpn - (vpn % BLOCK_PAGES);
    events.emit({
      type: 'thrashing.detected',
      space: space.id,
      vpn: first,
      pages: BLOCK_PAGES,
      device: device.name,
      response,
      moves: moves.length,
    });
  }
}
