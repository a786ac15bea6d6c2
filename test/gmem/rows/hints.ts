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
      'test/gmem/hints.test.ts > prefetch to a device > fetches what another device has over their link, by its engine, and is counted as such',
    ],
    canary: {
      file: 'sdk/mm/hint.ts',
      find: 'return run.call(this.move);',
      replace: 'return 1;',
    },
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
  {
    id: 'G8',
    title: 'hmemcpy H2H, H2D, D2H, D2D, unaligned three-way cut, honest errors',
    here: '`space.hmemcpy(dest, src, bytes, { to })` ([hmemcpy.ts](../sdk/mm/hmemcpy.ts)): bytes by way, from device to device over a link where there is one, every piece that failed, and the pages that are not where they should be',
    tests: [
      'test/gmem/hmemcpy.test.ts > a copy > is what a list of bytes says, for any lengths, offsets, overlaps and places, with engines and without',
      'test/gmem/hmemcpy.test.ts > a copy > goes from host to host, to a device, on it, and back, by its copy engine',
      'test/gmem/hmemcpy.test.ts > a copy > cuts a page of the destination in at most three, and keeps what is beside it',
      'test/gmem/hmemcpy.test.ts > a copy > does not stop at what cannot be copied, and loses no error',
      'test/gmem/hmemcpy.test.ts > a copy > goes from one device to another over their link, by the engine of one of them: whole pages, without the host',
    ],
    canary: { file: 'sdk/mm/hmemcpy.ts', find: 'this.backwards = dest > src && dest < src + bytes;', replace: 'this.backwards = false;' },
  },
  {
    id: 'G9',
    title: 'Stream-ordered async forms; libgmem-like front',
    here: '`context.stream()` ([stream.ts](../sdk/gmem/stream.ts)) with `record` and `wait`; `gmemPrefetch`, `gmemFreeEager`, `gmemGetNumaId`',
    tests: [
      'test/gmem/streams.test.ts > a stream > does one thing after the other, while the program goes on',
      'test/gmem/streams.test.ts > a stream > waits for what another one had before it recorded an event, and for nothing later',
      'test/gmem/streams.test.ts > a stream > is saved with what is under way, and with what has not begun',
      'test/gmem/streams.test.ts > the names of libgmem > prefetch to a node by its number, at once or on a stream, and free eagerly',
    ],
    canary: { file: 'sdk/gmem/stream.ts', find: 'if (this.before && !this.before.ended) return run.waitFor(this.before);', replace: '' },
  },
  {
    id: 'D6',
    title: 'THP: multi-order entries, split, collapse',
    here: "Entries have an order (`ENTRY_ORDER`), on the CPU and on devices; a huge page moves as one to a device whose granule is 2 MiB, is split where a border cuts it, and made by `madvise(range, 'collapse')`",
    tests: [
      'test/machine/huge-migration.test.ts > goes to the device as one by a fault, and home as one',
      'test/machine/huge-migration.test.ts > an mprotect or munmap of part of a huge page on the device > splits it there, and the device keeps the rest',
      'test/machine/huge.test.ts > is split when part of it goes or changes its rights',
    ],
    canary: { file: 'sdk/gmem/movable.ts', find: 'if (hugeWindow(vma, vpn) !== vpn) return false;', replace: 'return false;' },
  },
  {
    id: 'D7',
    title: 'File-backed: shared and private mappings, page-cache merge, writeback, truncate, msync',
    here: '`machine.createFile`, `space.mmap({ file })`, `msync`, `file.truncate`, `file.sync`; devices use the pages of a file where they are, and take what a private mapping has copied',
    tests: [
      'test/machine/files.test.ts > goes to a device as a copy only',
      'test/machine/files.test.ts > has one frame a page for all who map it',
      'test/machine/files.test.ts > stores what was written, and takes the right to write from spaces and devices',
      'test/machine/files.test.ts > by msync is for the pages of the range, and for shared mappings only',
      'test/machine/files.test.ts > takes the pages behind its end from all spaces and devices, private copies too',
    ],
    canary: {
      file: 'sdk/gmem/movable.ts',
      find: 'return (core.field(core.frameRecord(frame), L.FRAME_FLAGS) & L.FRAME_FILE) === 0;',
      replace: 'return false;',
    },
  },
  {
    id: 'I1',
    title: 'munmap full/partial',
    here: '`space.munmap`: devices are told and flush, then pages go, of a huge page on a device its part',
    tests: [
      'test/machine/huge-migration.test.ts > an mprotect or munmap of part of a huge page on the device > splits it there, and the device keeps the rest',
      'test/machine/address-space.test.ts > of the middle of a mapping gives its frames back and leaves the rest',
      'test/machine/races.test.ts > a device job and an munmap: each access is done or given up',
    ],
    canary: { file: 'sdk/mm/take-down.ts', find: '        vmas.remove(this.parts[i]!, this.parts[i + 1]!);\n', replace: '' },
  },
  {
    id: 'I2',
    title: 'mprotect incl. mid-huge-page',
    here: '`space.mprotect`: translations of devices go before the rights change; a huge page across the border is split, on a device too',
    tests: [
      'test/machine/huge-migration.test.ts > an mprotect or munmap of part of a huge page on the device > splits it there, and the device keeps the rest',
      'test/machine/address-space.test.ts > splits and joins mappings, and takes rights from pages that are there',
      'test/machine/address-space.test.ts > to none hides a page on a device, and it stays hidden when it comes home',
    ],
    canary: { file: 'sdk/mm/take-down.ts', find: 'vmas.protect(this.parts[i]!, this.parts[i + 1]!, prot);', replace: '' },
  },
  {
    id: 'I3',
    title: 'fork x3 policies',
    here: "`space.fork({ device: 'share' | 'home' | 'omit' })`",
    tests: [
      'test/machine/fork.test.ts > leaves pages on a device out when told so: the child finds zeros',
      'test/machine/fork.test.ts > shares pages on a device: they come home for both at the first touch',
      'test/machine/fork.test.ts > brings pages on a device home first when told so',
    ],
    canary: { file: 'sdk/mm/fork.ts', find: "this.device === 'omit' ? L.FORK_OMIT_DEVICE : 0", replace: '0' },
  },
  {
    id: 'I4',
    title: 'mremap, exec, exit, OOM reap',
    here: '`space.mremap`, `space.exec`, `space.close`, `machine.oomReap(space)` ([reap.ts](../sdk/mm/reap.ts))',
    tests: [
      'test/gmem/process.test.ts > a space that is reaped > ends a fault that was under way in an error, and nothing comes back',
      'test/gmem/process.test.ts > exec > unmaps everything, tells devices before, and the addresses are free again',
      'test/gmem/process.test.ts > exit > with a device at work waits for it, and the job gives up what it has not done',
      'test/gmem/process.test.ts > a space that is reaped > frees nothing before its devices have flushed',
      'test/machine/mremap.test.ts > leaves the device’s table, stays in its memory, and is found at the new place',
    ],
    canary: { file: 'sdk/mm/fault.ts', find: "if (space.isReaped) return this.end(run, 'bus error');", replace: '' },
  },
];
