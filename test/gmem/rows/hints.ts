/** Advice, copies, streams, and what a process does to its pages. */
import type { Row } from './row.ts';

export const rows: readonly Row[] = [
  {
    id: 'G6',
    title: 'Range attribute store: preferred location, accessed-by, read-mostly, atomics',
    here: '`space.attributes`: intervals outside the VMAs ([attributes.ts](../sdk/mm/attributes.ts)); policies read `at(vpn)`',
    tests: [
      'test/gmem/attributes.test.ts > attributes of ranges > say what a list with one entry a page says, whatever is mapped, unmapped, protected and moved, and are as few as they can be',
      'test/gmem/attributes.test.ts > attributes of ranges > do not split a mapping, and do not grow with it',
      'test/gmem/attributes.test.ts > attributes of ranges > say which atomics a device may do',
    ],
    canary: {
      file: 'sdk/mm/attributes.ts',
      find: 'if (to > end) append(put, Math.max(from, end), to, value);',
      replace: '',
    },
  },
  {
    id: 'G1',
    title: 'PREFETCH to hnode, outward rounding, worker split, overlap',
    here: "`space.hmadvise(range, 'prefetch', { device })` ([hint.ts](../sdk/mm/hint.ts)): rounded outward to the granule as far as the mappings go, in parts of 512 pages, a page that cannot follow is counted and named",
    tests: [
      'test/gmem/hints.test.ts > prefetch to a device > brings pages there without a fault, and says how many there are',
      'test/gmem/hints.test.ts > prefetch to a device > rounds outward, to pages and to whole granules of the device, and not beyond the mappings that the range touches',
      'test/gmem/hints.test.ts > prefetch to a device > goes on behind a page that cannot follow, and tells of the first one',
      'test/gmem/hints.test.ts > prefetch to a device > comes in parts, so that others get their turn, over several mappings',
    ],
    canary: { file: 'sdk/mm/hint.ts', find: "return run.call(this.target!.migrateStep(range, 'device'));", replace: 'return 1;' },
  },
  {
    id: 'G2',
    title: 'Prefetch to host',
    here: "`space.hmadvise(range, 'prefetch', { device: 'host' })`",
    tests: [
      'test/gmem/hints.test.ts > prefetch to the host > brings home what devices have, of all of them, and leaves holes holes',
      'test/gmem/hints.test.ts > prefetch to the host > leaves what is pinned, and counts it',
    ],
    canary: { file: 'sdk/mm/hint.ts', find: '!memory.node.holds(core.entryLow)) return vpn;', replace: 'false) return vpn;' },
  },
  {
    id: 'G3',
    title: 'DONTNEED inward rounding, -1',
    here: "`space.hmadvise(range, 'dontneed')`, with or without a device",
    tests: [
      'test/gmem/hints.test.ts > dontneed > rounds inward: what is asked for in part stays, and nothing left is success',
      'test/gmem/hints.test.ts > dontneed > frees pages on devices and passes over holes between mappings',
    ],
    canary: {
      file: 'sdk/mm/hint.ts',
      find: 'this.start = Math.ceil(first / granule) * granule;',
      replace: 'this.start = Math.floor(first / granule) * granule;',
    },
  },
  {
    id: 'G4',
    title: 'PINNED/UNPINNED, CPU access to pinned',
    here: "`space.hmadvise(range, 'pinned' \\| 'unpinned')`, `DevicePolicy.pinnedAccess`: 'error', 'remote' or 'wait'; coherent memory is used in place",
    tests: [
      'test/gmem/hints.test.ts > pages pinned to a device > are not evicted, whatever else needs room, until they are unpinned',
      'test/gmem/hints.test.ts > pages pinned to a device > are a bus error for the CPU, unless the policy says otherwise',
      'test/gmem/hints.test.ts > pages pinned to a device > are read and written where they are under the policy remote, by no right that the mapping does not give',
      'test/gmem/hints.test.ts > pages pinned to a device > make the CPU wait under the policy wait, without keeping others from changing the mappings',
    ],
    canary: { file: 'sdk/mm/device-pins.ts', find: 'if (!this.platform.core.exports.framePin(frame, 1)) return false;', replace: '' },
  },
  {
    id: 'G5',
    title: 'WILLNEED/hot',
    here: "`space.hmadvise(range, 'willneed')`: pages on devices are the newest, and one that an eviction is taking away stays (`Migration.keep`)",
    tests: [
      'test/gmem/hints.test.ts > willneed > makes pages the newest, so that others go first',
      'test/gmem/hints.test.ts > willneed > lets a page stay that an eviction is taking away',
    ],
    canary: { file: 'sdk/mm/hint.ts', find: 'else core.exports.frameTouch(core.headOf(frame));', replace: '' },
  },
  {
    id: 'G7',
    title: 'madvise/mempolicy-style alias',
    here: "`space.hmadvise(range, 'preferred' \\| 'accessedby' \\| 'readmostly' ...)`, `space.mbind(range, { mode, node, move })` by names of nodes",
    tests: [
      'test/gmem/hints.test.ts > advice by other names > sets the attributes of a range',
      'test/gmem/hints.test.ts > advice by other names > binds a range to a memory by the name of its node, and moves what is elsewhere if asked to',
    ],
    canary: { file: 'sdk/mm/hint.ts', find: "readMostly: advice === 'readmostly'", replace: 'readMostly: false' },
  },
];
