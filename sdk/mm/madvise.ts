/**
 * Advice on a range: what goes now, and what faults and forks are to do from now on.
 *
 * ```
 *   dontneed             the pages go, the promise stays                         TakeDown discard
 *   free                 pages that nobody else holds go; those on devices stay  TakeDown free
 *   hugepage nohugepage  faults bring 2 MiB, or never do                         a mark on the VMA
 *   dontfork dofork      a child does not get it, or does                        a mark on the VMA
 *   collapse             every whole 2 MiB becomes one huge page now             Collapse
 * ```
 *
 * Models: `do_madvise`, `hugepage_madvise`, `madvise_collapse`.
 */
import * as L from '../../assembly/layout.ts';
import { fail } from '../errors.ts';
import { DONE, type Progress, type Run, type Step } from '../step/step.ts';
import type { AddressSpace } from './address-space.ts';
import { requireWord } from './arguments.ts';
import { Collapse } from './collapse.ts';
import { HUGE_PAGES } from './huge-window.ts';
import type { Platform } from './platform.ts';
import { hugePagesIn, reportSplits } from './splits.ts';
import { TakeDown } from './take-down.ts';
import { isAnonymous, isHugetlb, isSpecial, VMA_DONTFORK, VMA_HUGEPAGE, VMA_IO, VMA_NOHUGEPAGE, VMA_PFNMAP, type Vma } from './vma.ts';

export const ADVICE = ['dontneed', 'free', 'hugepage', 'nohugepage', 'collapse', 'dontfork', 'dofork'] as const;

/** What `madvise` takes. */
export type Advice = (typeof ADVICE)[number];

const MARKS: Readonly<Partial<Record<Advice, { readonly set?: number; readonly clear?: number }>>> = {
  hugepage: { set: VMA_HUGEPAGE, clear: VMA_NOHUGEPAGE },
  nohugepage: { set: VMA_NOHUGEPAGE, clear: VMA_HUGEPAGE },
  dontfork: { set: VMA_DONTFORK },
  dofork: { clear: VMA_DONTFORK },
};

/** The step for an advice on the pages `[start, end)`, which are mapped from end to end. Throws EINVAL for advice that some VMA in it cannot take. */
export function adviseStep(platform: Platform, space: AddressSpace, start: number, end: number, advice: Advice): Step {
  requireWord('madvise.advice', advice, ADVICE);
  space.vmas.each(start, end, (vma, from) => {
    const reason = refusal(vma, advice);
    if (reason) throw fail('EINVAL', 'madvise.range', from * L.PAGE_BYTES, reason);
  });
  if (advice === 'dontneed') return new TakeDown(platform, space, start, end, { verb: 'discard' });
  if (advice === 'free') return new TakeDown(platform, space, start, end, { verb: 'free' });
  if (advice === 'collapse') return new Collapse(platform, space, start, end);
  return new Mark(platform, space, start, end, MARKS[advice]!);
}

/** Why a VMA cannot take an advice; undefined when it can. */
function refusal(vma: Vma, advice: Advice): string | undefined {
  switch (advice) {
    case 'dontneed':
      return vma.flags & (VMA_PFNMAP | VMA_IO) ? 'is in a mapping of page numbers' : undefined;
    case 'free':
      return isAnonymous(vma) ? undefined : 'is not private anonymous memory';
    case 'hugepage':
    case 'nohugepage':
      return isSpecial(vma) || isHugetlb(vma) ? 'is in a mapping that decides its page size itself' : undefined;
    case 'dofork':
      return isSpecial(vma) ? 'is in a special mapping' : undefined;
    default:
      return undefined;
  }
}

/** Sets and clears marks of VMAs. A huge page across a border of the range is split, as any that two VMAs would share. Models: `vma_adjust_trans_huge`. */
export class Mark implements Step {
  readonly name = 'madvise';
  private readonly platform: Platform;
  private readonly space: AddressSpace;
  private readonly start: number;
  private readonly end: number;
  private readonly marks: { readonly set?: number; readonly clear?: number };

  constructor(
    platform: Platform,
    space: AddressSpace,
    start: number,
    end: number,
    marks: { readonly set?: number; readonly clear?: number },
  ) {
    this.platform = platform;
    this.space = space;
    this.start = start;
    this.end = end;
    this.marks = marks;
  }

  next(run: Run): Progress {
    const { mmapLock, vmas, table } = this.space;
    const { core, pageLocks } = this.platform;
    if (!run.holds(mmapLock) && !mmapLock.tryAcquire(run)) return run.waitFor(mmapLock);
    for (const border of [this.start, this.end]) {
      if (border % HUGE_PAGES === 0) continue;
      const heads = hugePagesIn(this.platform, this.space, border, border + 1);
      if (core.exports.splitHuge(table, border)) {
        reportSplits(this.platform, this.space, heads, 'madvise');
        continue;
      }
      if (core.stopReason === L.STOP_LOCKED) return run.waitFor(pageLocks.wait(core.stopFrame));
    }
    vmas.flag(this.start, this.end, this.marks);
    mmapLock.release(run);
    return DONE;
  }

  abort(run: Run): void {
    if (run.holds(this.space.mmapLock)) this.space.mmapLock.release(run);
  }
}
