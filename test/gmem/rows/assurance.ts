import type { Row } from './row.ts';

export const rows: readonly Row[] = [
  {
    id: 'D4',
    title: 'Per-process and per-VMA tables, ref-counted sharing',
    here: 'One home table for each space; what several VMAs map (a file, shared memory) has one page cache (`SharedObject`, `MemoryFile`), which lives as long as one of them. A frame counts who refers to it',
    tests: [
      'test/machine/fork.test.ts > a child > outlives its parent, with the pages',
      'test/machine/files.test.ts > a file that is mapped > has one frame a page for all who map it',
    ],
    canary: { file: 'assembly/fork.ts', find: 'frameGet(frame);', replace: '' },
  },
  {
    id: 'D5',
    title: 'Common anonymous memory without the flag',
    here: 'Every anonymous mapping of `space.mmap` can be on a device: there is no flag to ask for it (`mayMove`, sdk/gmem/movable.ts)',
    tests: ['test/machine/devices.test.ts > two devices in one space > hand a page from one to the other by way of the host'],
    canary: {
      file: 'sdk/gmem/movable.ts',
      find: '  if (isAnonymous(vma)) return true;\n',
      replace: '  if (isAnonymous(vma)) return false;\n',
    },
  },
  {
    id: 'K1',
    title: 'Coherence oracle: every load sees the last write, any interleaving',
    here: '`npm run coherence -- [seed] [operations]`: random programs over three address spaces and three devices whose flushes and copies end late. A load must return what was written last at some moment between its beginning and its end, and nothing older than what another has seen before; rights are checked alike (`Register`, test/gmem/coherence/register.ts)',
    tests: [
      'test/gmem/coherence.node.test.ts > three spaces and three devices that answer late: every load sees the last write, whatever is under way',
      'test/gmem/coherence.node.test.ts > the oracle knows what a read may return',
      'test/gmem/found-by-coherence.test.ts > a device that writes while the right goes is told so, whatever comes first',
    ],
    canary: {
      file: 'sdk/gmem/context.ts',
      find: 'return this.withdraw(ranges) ?? true;',
      replace: 'this.withdraw(ranges);\n    return true;',
    },
  },
  {
    id: 'K2',
    title: 'Exhaustive small-state model check',
    here: 'Two pages, a CPU and two devices: every operation in every state that six operations lead to, states known again by mappings, entries, tables, caches and which bytes are the last (test/gmem/small-states.ts). `FARFAULT_DEPTH=20 npx vitest run --project node test/gmem/small-states.node.test.ts` takes all states that there are',
    tests: [
      'test/gmem/small-states.node.test.ts > two pages, a CPU and two devices: in every state that a few operations lead to, every load sees the last write > devices: two with memory, one of which has room for one page',
    ],
    canary: {
      file: 'sdk/gmem/context.ts',
      find: 'const ticket = this.flush(this.withOvershoot(ranges));',
      replace: 'const ticket = undefined as Ticket | undefined;',
    },
  },
  {
    id: 'K4',
    title: 'Lock-order checker',
    here: '`checkOrder` (sdk/step/lock.ts): job, batch, mmap, page, driver, notifier, low keys first; on in every machine but one made with `checked: false`',
    tests: [
      'test/step/step.test.ts > a lock > is taken in the written order, mmap before page before driver before notifier',
      'test/step/step.test.ts > a lock > of the same rank is taken in ascending order of keys',
    ],
    canary: { file: 'sdk/step/lock.ts', find: 'held.rank > wanted.rank ||', replace: 'held.rank > wanted.rank + 40 ||' },
  },
];
