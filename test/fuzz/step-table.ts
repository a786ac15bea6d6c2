/**
 * What operations have met, and where: entry kind × verb × step. A step is what an operation waits for, and what others can see of it there. Every cell that can be must be seen; every other one
 * has a reason.
 */
import { ENTRIES, ENTRYLESS } from './coverage.ts';
import { VERBS, type Verb } from './operations.ts';

/**
 * Where an operation is when it meets an entry.
 *
 *   start         it begins
 *   lock          it waits for a lock: of the mappings of its space, of a batch or of a job
 *   invalidation  a device without an answer waits for the end of what somebody has announced
 *   page          it waits for a page that somebody moves
 *   flush         it has announced what it takes away, and devices flush
 *   copy          bytes are on their way
 */
export const STEPS = ['start', 'lock', 'invalidation', 'page', 'flush', 'copy'] as const;
export type Step = (typeof STEPS)[number];

/** Kinds of entries; moving: on the way to another place. What an operation moves itself counts as what it was. */
export const MET = [...ENTRIES, 'moving', 'huge moving'] as const;
/** Verbs that meet entries. */
export const MEETING: readonly Verb[] = VERBS.filter((verb) => !ENTRYLESS.includes(verb));

/** Which kinds some verbs meet in a step, and why no other. */
interface Rule {
  readonly step: Step;
  readonly verbs: readonly Verb[];
  /** All, all but these, only these. */
  readonly kinds: 'all' | { readonly but: readonly string[] } | { readonly only: readonly string[] };
  readonly why: string;
}

const MOVING = ['moving', 'huge moving'];
const HUGETLB = ['hugetlb', 'hugetlb ro'];
const FILE = ['file', 'file ro'];
const NO_RIGHTS = ['protnone', 'huge protnone'];
const ON_DEVICE = ['private', 'private ro', 'huge private', 'huge private ro'];
const COHERENT = ['coherent', 'coherent ro', 'huge coherent', 'huge coherent ro'];
const NONE = { only: [] };

const MARKS: readonly Verb[] = ['hugepage', 'nohugepage', 'dontfork', 'dofork'];
const BY_CPU: readonly Verb[] = ['read', 'write'];
const BY_DEVICE: readonly Verb[] = ['device read', 'device write'];
const FORKS: readonly Verb[] = ['fork share', 'fork home', 'fork omit'];
const MAPPINGS: readonly Verb[] = ['munmap', 'mprotect', 'dontneed'];
const others = (...not: readonly Verb[]): Verb[] => MEETING.filter((verb) => !not.includes(verb));

/** Each verb in each step once. */
const RULES: readonly Rule[] = [
  { step: 'start', verbs: MEETING, kinds: 'all', why: '' },

  {
    step: 'lock',
    verbs: ['read'],
    kinds: { only: ['none', ...ON_DEVICE, ...NO_RIGHTS, 'exclusive'] },
    why: 'the CPU may read it, and faults not; or it is on its way, and who moves it shares the lock',
  },
  {
    step: 'lock',
    verbs: ['write'],
    kinds: { but: ['host', 'file', 'coherent', 'huge host', 'huge coherent', 'hugetlb', ...MOVING] },
    why: 'the CPU may write to it, and faults not; or it is on its way, and who moves it shares the lock',
  },
  {
    step: 'lock',
    verbs: ['atomic'],
    kinds: { but: ['huge moving'] },
    why: 'a device waits for its own batch only, and the one that moves huge pages makes them exclusive instead: it shares the lock',
  },
  { step: 'lock', verbs: ['exclusive', 'pin'], kinds: { but: MOVING }, why: 'who moves it shares the lock with them' },
  { step: 'lock', verbs: ['mmap'], kinds: NONE, why: 'memory is mapped in one turn, without a lock' },
  { step: 'lock', verbs: ['msync'], kinds: NONE, why: 'goes by the pages of the file, without a lock' },
  { step: 'lock', verbs: ['mremap'], kinds: { but: HUGETLB }, why: 'the programs move no hugetlb' },
  { step: 'lock', verbs: ['hugepage', 'nohugepage'], kinds: { but: HUGETLB }, why: 'is refused for hugetlb at once' },
  {
    step: 'lock',
    verbs: ['free'],
    kinds: { but: [...FILE, ...HUGETLB] },
    why: 'is refused at once for what is not private anonymous memory',
  },
  {
    step: 'lock',
    verbs: others('read', 'write', 'atomic', 'exclusive', 'pin', 'mmap', 'msync', 'mremap', 'hugepage', 'nohugepage', 'free'),
    kinds: 'all',
    why: '',
  },

  {
    step: 'invalidation',
    verbs: BY_DEVICE,
    kinds: { but: ['file', ...HUGETLB, ...NO_RIGHTS, ...ON_DEVICE, 'exclusive', ...MOVING] },
    why: 'shared memory and hugetlb do not move, and nobody announces it; no rights, nothing to wait for; else it waits for the page or the lock',
  },
  { step: 'invalidation', verbs: others(...BY_DEVICE), kinds: NONE, why: 'waits for the lock of whoever announces, or for the page' },

  {
    step: 'page',
    verbs: [...BY_CPU, ...BY_DEVICE, 'atomic', 'exclusive', 'pin'],
    kinds: { only: MOVING },
    why: 'what is waited for is on its way',
  },
  { step: 'page', verbs: ['to device', 'to host'], kinds: NONE, why: 'a migration leaves out what somebody else moves' },
  { step: 'page', verbs: ['mmap'], kinds: NONE, why: 'maps where nothing is' },
  { step: 'page', verbs: ['msync'], kinds: NONE, why: 'pages of files do not move' },
  {
    step: 'page',
    verbs: others(...BY_CPU, ...BY_DEVICE, 'atomic', 'exclusive', 'pin', 'to device', 'to host', 'mmap', 'msync'),
    kinds: NONE,
    why: 'has the lock alone: who moves pages has ended before',
  },

  {
    step: 'flush',
    verbs: ['read'],
    kinds: { only: [...ON_DEVICE, 'exclusive'] },
    why: 'takes nothing away: only what a device has to itself comes home',
  },
  {
    step: 'flush',
    verbs: ['write'],
    kinds: { only: ['zero', 'huge zero', 'host ro', 'file ro', 'coherent ro', 'hugetlb ro', 'exclusive', 'cpu reads', ...ON_DEVICE] },
    why: 'the CPU may write to it, or there is nothing yet, or no right to; a huge page that is shared is split first',
  },
  {
    step: 'flush',
    verbs: ['device read'],
    kinds: { but: [...FILE, ...COHERENT, ...HUGETLB, ...NO_RIGHTS, ...MOVING] },
    why: 'a device reads it where it is, or may not',
  },
  {
    step: 'flush',
    verbs: ['device write'],
    kinds: { but: ['file', 'coherent', 'huge coherent', 'hugetlb', ...NO_RIGHTS, 'huge host ro', 'huge coherent ro', ...MOVING] },
    why: 'a device writes to it where it is, or may not; a huge page that is shared is split first',
  },
  {
    step: 'flush',
    verbs: ['atomic'],
    kinds: { but: ['file', 'hugetlb', ...NO_RIGHTS, 'huge host ro', 'huge coherent', 'huge coherent ro', ...MOVING] },
    why: 'is done where it is, or may not be done; what is huge is split first, unless it is on a device',
  },
  {
    step: 'flush',
    verbs: ['exclusive'],
    kinds: {
      but: ['none', 'file', ...HUGETLB, ...NO_RIGHTS, 'huge host', 'huge host ro', 'huge coherent', 'huge coherent ro', ...MOVING],
    },
    why: 'is for a page that is there, and anonymous when it is made; what is huge at home is split first, and a hole is filled',
  },
  { step: 'flush', verbs: ['mmap'], kinds: NONE, why: 'maps where nothing is' },
  { step: 'flush', verbs: MARKS, kinds: NONE, why: 'changes a word of the mapping, and no entry' },
  {
    step: 'flush',
    verbs: [...MAPPINGS, ...FORKS, 'close', 'to device', 'to host'],
    kinds: { but: MOVING },
    why: 'the lock has been waited for: it has arrived by then',
  },
  {
    step: 'flush',
    verbs: ['mremap'],
    kinds: { but: [...HUGETLB, ...MOVING] },
    why: 'the programs move no hugetlb; what was on its way has arrived',
  },
  {
    step: 'flush',
    verbs: ['free'],
    kinds: { but: [...FILE, ...HUGETLB, ...MOVING] },
    why: 'is refused for what is not private anonymous memory; what was on its way has arrived',
  },
  {
    step: 'flush',
    verbs: ['collapse'],
    kinds: { but: [...FILE, 'protnone', ...HUGETLB, ...MOVING] },
    why: 'is for private anonymous memory that may be read; what was on its way has arrived',
  },
  {
    step: 'flush',
    verbs: ['pin'],
    kinds: { but: ['none', 'file', 'hugetlb', ...NO_RIGHTS, 'huge host', 'huge host ro', 'huge coherent ro', ...MOVING] },
    why: 'is pinned where it is, or may not be; a huge page that is shared is split first; what was on its way has arrived',
  },
  { step: 'flush', verbs: ['msync'], kinds: { only: ['file'] }, why: 'nobody can have written to it through a shared mapping of a file' },

  {
    step: 'copy',
    verbs: [...BY_CPU, 'exclusive', 'free', 'collapse', 'fork home'],
    kinds: { only: ON_DEVICE },
    why: 'engines copy what the CPU does not reach, and nothing else for it',
  },
  {
    step: 'copy',
    verbs: ['device read'],
    kinds: {
      only: ['none', 'zero', 'host', 'host ro', 'cpu reads', 'huge zero', 'huge host', 'huge host ro', ...ON_DEVICE],
    },
    why: 'a device reads it where it is, or may not; a page that is another’s alone is at home before it moves',
  },
  {
    step: 'copy',
    verbs: ['device write'],
    kinds: { only: ['none', 'zero', 'host', 'huge zero', 'huge host', ...ON_DEVICE] },
    why: 'a device writes to it where it is, or may not; what is shared is broken first, and it is its own page that moves',
  },
  {
    step: 'copy',
    verbs: ['atomic'],
    kinds: { only: ['none', 'zero', 'host', 'huge host', ...ON_DEVICE] },
    why: 'is done where it is, or may not be done; what is shared is broken first, and it is its own page that moves',
  },
  {
    step: 'copy',
    verbs: ['pin'],
    kinds: { only: ['host', ...ON_DEVICE, 'coherent', 'huge coherent'] },
    why: 'is pinned where it is, or may not be; what is shared on coherent memory is broken first',
  },
  {
    step: 'copy',
    verbs: ['to device'],
    kinds: { but: [...FILE, ...NO_RIGHTS, ...HUGETLB, ...MOVING] },
    why: 'files, hugetlb and what nobody may read do not move; what somebody else moves is left out',
  },
  {
    step: 'copy',
    verbs: ['to host'],
    kinds: { only: [...ON_DEVICE, ...COHERENT] },
    why: 'is at home, or nowhere; what somebody else moves is left out',
  },
  {
    step: 'copy',
    verbs: ['mmap', ...MAPPINGS, 'mremap', ...MARKS, 'fork share', 'fork omit', 'close', 'msync'],
    kinds: NONE,
    why: 'moves no bytes: what it needs of a page on a device is its entry',
  },
];

/** Cells that no program reaches, and why. */
export const IMPOSSIBLE_STEPS: ReadonlyMap<string, string> = new Map(
  RULES.flatMap(({ step, verbs, kinds, why }) =>
    verbs.flatMap((verb) => MET.filter((kind) => !allows(kinds, kind)).map((kind) => [cellOf(kind, verb, step), why] as const)),
  ),
);

/** How often each verb and step is in a rule: once. */
export function rulesOf(verb: Verb, step: Step): number {
  return RULES.filter((rule) => rule.step === step && rule.verbs.includes(verb)).length;
}

/** Cells that the programs must reach. */
export function legalSteps(): string[] {
  return STEPS.flatMap((step) => MEETING.flatMap((verb) => MET.map((kind) => cellOf(kind, verb, step)))).filter(
    (cell) => !IMPOSSIBLE_STEPS.has(cell),
  );
}

function allows(kinds: Rule['kinds'], kind: string): boolean {
  if (kinds === 'all') return true;
  return 'only' in kinds ? kinds.only.includes(kind) : !kinds.but.includes(kind);
}

export class StepTable {
  readonly cells: Map<string, number> = new Map();

  see(kind: string, verb: Verb, step: Step): void {
    const cell = cellOf(kind, verb, step);
    this.cells.set(cell, (this.cells.get(cell) ?? 0) + 1);
  }

  /** For each step a line for each entry: how often each verb met it, in the order of VERBS; a dot where none can. */
  toString(): string {
    const wide = (text: string): string => text.slice(0, 6).padStart(7);
    return STEPS.map((step) => {
      const cell = (kind: string, verb: Verb): string => {
        const at = cellOf(kind, verb, step);
        return IMPOSSIBLE_STEPS.has(at) && !this.cells.has(at) ? '.' : String(this.cells.get(at) ?? 0);
      };
      const rows = MET.map((kind) => `${kind.padEnd(17)}${MEETING.map((verb) => wide(cell(kind, verb))).join('')}`);
      return [`${step.padEnd(17)}${MEETING.map(wide).join('')}`, ...rows].join('\n');
    }).join('\n\n');
  }
}

export function cellOf(kind: string, verb: Verb, step: Step): string {
  return `${kind} | ${verb} | ${step}`;
}
