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
