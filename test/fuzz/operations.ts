/** Operations of a random program: plain data, so that a program can be printed, cut down and run again. */

export const KINDS = ['anon', 'shared', 'file private', 'file shared', 'hugetlb', 'mixed'] as const;
export const ADVICES = ['dontneed', 'free', 'hugepage', 'nohugepage', 'collapse', 'dontfork', 'dofork'] as const;
export const VERBS = [
  'read',
  'write',
  'device read',
  'device write',
  'atomic',
  'exclusive',
  'mmap',
  'munmap',
  'mprotect',
  'mremap',
  ...ADVICES,
  'fork share',
  'fork home',
  'fork omit',
  'close',
  'pin',
  'unpin',
  'pin write',
  'to device',
  'to host',
  'file write',
  'file read',
  'truncate',
  'sync',
  'msync',
  'plug',
  'unplug',
] as const;
export type Verb = (typeof VERBS)[number];

/** One operation. What a field means depends on the verb; a field that is not needed is there all the same. */
export interface Operation {
  readonly verb: Verb;
  /** Slot of the space. */
  readonly space: number;
  readonly device: number;
  /** Page of the universe, and how many. */
  readonly page: number;
  readonly pages: number;
  /** Which word of a page, which file, which of several ways. */
  readonly half: 0 | 1;
  readonly choice: number;
  readonly value: number;
}

/** Pages of the universe of a space: a few small ones, and two windows of 2 MiB. */
export const SMALL = 24;
export const WINDOW = 512;
export const WINDOWS = [512, 1024] as const;
export const UNIVERSE = 1536;

const WEIGHTS: Readonly<Partial<Record<Verb, number>>> = {
  read: 10,
  write: 14,
  'device read': 9,
  'device write': 12,
  atomic: 4,
  exclusive: 4,
  mmap: 12,
  munmap: 2.5,
  mprotect: 5,
  mremap: 3,
  dontneed: 2,
  hugepage: 3,
  collapse: 2,
  'fork share': 3,
  'to device': 5,
  'to host': 3,
  pin: 2,
  unpin: 2,
  close: 0.8,
  plug: 0.3,
  unplug: 0.3,
  'fork home': 0.7,
  'fork omit': 0.5,
};

const TOTAL = VERBS.reduce((sum, verb) => sum + (WEIGHTS[verb] ?? 1), 0);

/** Numbers in [0, 1) from a seed: mulberry32. */
export function numbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A program of `count` operations. */
export function randomOperations(seed: number, count: number): Operation[] {
  const random = numbers(seed);
  const below = (limit: number): number => Math.floor(random() * limit);
  const next = (): Operation => {
    let at = random() * TOTAL;
    let verb: Verb = 'read';
    for (const each of VERBS) {
      at -= WEIGHTS[each] ?? 1;
      if (at < 0) {
        verb = each;
        break;
      }
    }
    const [page, pages] = place(random, below);
    return { verb, space: below(5), device: below(3), page, pages, half: below(2) as 0 | 1, choice: below(64), value: 1 + below(0xffff) };
  };
  const program = below(10) < 7 ? furnished(below) : [];
  while (program.length < count) program.push(next());
  return program.slice(0, count);
}

/** How most programs begin: two windows that may be huge, and small pages. What follows takes it apart. */
function furnished(below: (limit: number) => number): Operation[] {
  const at = (verb: Verb, page: number, pages: number, device = 0, choice = 0): Operation => ({
    verb,
    space: 0,
    device,
    page,
    pages,
    half: 0,
    choice,
    value: 1,
  });
  const program = [at('mmap', 0, SMALL)];
  for (const window of WINDOWS) {
    program.push(
      at('mmap', window, WINDOW),
      at('hugepage', window, WINDOW),
      at(below(2) === 0 ? 'write' : 'read', window + below(WINDOW), 1),
    );
    if (below(2) === 0) program.push(at('to device', window, WINDOW, below(3), below(2)));
  }
  return program;
}

/** Programs that bring a window into each state that chance rarely meets, and do one thing to it: for every state and verb one. */
export function directedPrograms(): Operation[][] {
  const at = (verb: Verb, more: Partial<Operation> = {}): Operation => ({
    verb,
    space: 0,
    device: 2,
    page: WINDOWS[0],
    pages: WINDOW,
    half: 0,
    choice: 0,
    value: 6,
    ...more,
  });
  const huge = [at('mmap'), at('hugepage')];
  const states = [
    [...huge, at('read')],
    [...huge, at('write')],
    [...huge, at('write'), at('fork share')],
    [...huge, at('write'), at('to device')],
    [...huge, at('write'), at('to device'), at('fork share')],
    [...huge, at('write'), at('to device', { choice: 1 })],
    [...huge, at('write'), at('to device', { choice: 1 }), at('fork share')],
    [...huge, at('write'), at('mprotect')],
    [at('mmap', { choice: 10 }), at('write')],
    [at('mmap', { choice: 10 }), at('write'), at('fork share')],
    [at('mmap', { pages: 4, choice: 3 }), at('write')],
    [at('mmap', { pages: 4, choice: 3 }), at('read')],
    [at('mmap', { pages: 4 }), at('exclusive', { pages: 1 })],
    [at('mmap', { pages: 4 }), at('exclusive', { pages: 1, half: 1 })],
    [at('mmap', { pages: 4 }), at('write'), at('to device', { pages: 4 })],
    [at('mmap', { pages: 4 }), at('write'), at('to device', { pages: 4 }), at('fork share')],
    [at('mmap', { pages: 4 }), at('write'), at('mprotect', { pages: 4 })],
  ];
  // Each verb on a part, which cuts what is huge, and on the whole window.
  return states.flatMap((state) =>
    VERBS.flatMap((verb) =>
      [1, WINDOW].map((pages) => [...state, at(verb, { pages, choice: 5 }), at('read'), at('device read'), at('write')]),
    ),
  );
}

/** Where: among the small pages, near the borders of a window, or a whole window. */
function place(random: () => number, below: (limit: number) => number): [number, number] {
  if (random() < 0.55) {
    const page = below(SMALL);
    return [page, 1 + below(Math.min(6, SMALL - page))];
  }
  const window = WINDOWS[below(2)]!;
  const where = random();
  if (where < 0.4) return [window, WINDOW];
  if (where < 0.5) return [WINDOWS[0], 2 * WINDOW];
  if (where < 0.75) return [window + below(4), 1 + below(4)];
  return [window + WINDOW - 4 + below(4), 1];
}
