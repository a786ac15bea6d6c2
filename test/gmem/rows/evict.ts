import type { Row } from './row.ts';

export const rows: readonly Row[] = [
  {
    id: 'H1',
    title: 'isolated buddy per hnode, orders, split/merge, contiguity',
    here: 'every node has its own buddy allocator (`assembly/buddy.ts`), orders 0 to 18; frames for a sorted batch lie together where they can (`ServeFault`); where a huge one is needed a whole block is evicted (`OwnMemory.blocks`)',
    tests: [
      'test/gmem/evict.test.ts > a memory whose pages have come back one by one has its huge frames again',
      'test/core/buddy.node.test.ts > blocks never overlap, are aligned within their node, are refused only when there is none, and merge again',
    ],
    canary: { file: 'assembly/buddy.ts', find: 'index &= ~(1 << order);', replace: 'index |= 0;' },
  },
  {
    id: 'H5',
    title: 'LRU policy plug-in, at least two policies',
    here: '`machine.addDevice(driver, { victims })`: `fifo`, `lru`, `clock`, `lfu`, `random`, or an object of one’s own (`VictimPolicy`, `sdk/policy/victim.ts`), shown what may go with the marks of the device',
    tests: [
      'test/gmem/evict.test.ts > lru takes what has been unused for longest, fifo what has been there for longest',
      'test/gmem/evict.test.ts > what is used least often goes, even when it was used last',
      'test/gmem/evict.test.ts > an own policy is shown what may go, oldest first, with the marks of the device',
    ],
    canary: {
      file: 'sdk/policy/victim.ts',
      find: '& ACCESSED) choice.renew(i);\n      else if (room',
      replace: '& ACCESSED) choice.renew(i);\n      if (room',
    },
  },
  {
    id: 'H7',
    title: 'direct reclaim with bounded retry',
    here: 'a fault or a program that finds no frame makes room itself (`Evict.room`): at most `RECLAIM_ROUNDS_MAX` choices, each without what has been tried; then the page is used where it is',
    tests: [
      'test/gmem/evict.test.ts > a policy that never chooses is asked ten times, then the memory is full',
      'test/gmem/evict.test.ts > where a huge frame is needed a whole block goes, not as many pages here and there, by every policy',
    ],
    canary: { file: 'sdk/gmem/evict.ts', find: 'RECLAIM_ROUNDS_MAX = 10', replace: 'RECLAIM_ROUNDS_MAX = 11' },
  },
  {
    id: 'H8',
    title: 'evict result classes SUCCESS/UNMAP/FALLBACK/DEVERR',
    here: '`EvictionResult`: `success`, `unmapped`, `fallback`, `device error`, `held`, one for each victim in `frames.evicted` and in `machine.counters.evicted`',
    tests: ['test/gmem/evict.test.ts > each victim has a result: what went, what nobody copied, what found no host frame, what was gone'],
    canary: { file: 'sdk/mm/migration.ts', find: "this.failed ? 'device error' : words.hasTarget(i)", replace: 'words.hasTarget(i)' },
  },
  {
    id: 'H6',
    title: 'watermarks + daemon',
    here: '`machine.addDevice(driver, { watermarks: { low, high } })`, `Keeper` (`sdk/gmem/keeper.ts`): a step of its own, woken by whoever takes a frame; `machine.counters.reclaimed`',
    tests: [
      'test/gmem/watermarks.test.ts > a memory with watermarks > is brought to the high one when fewer than the low one are free, and nobody waits for it',
      'test/gmem/watermarks.test.ts > a memory with watermarks > in every order with faults and accesses of the CPU',
    ],
    canary: { file: 'sdk/gmem/keeper.ts', find: 'this.memory.node.free >= this.low', replace: 'true' },
  },
  {
    id: 'H9',
    title: 'dirty-aware clean drop',
    here: 'a page that came back from the second tier keeps its frame there until it is written, by a dirty mark of the CPU or of a device; an eviction then needs no copy (`assembly/backing.ts`, `machine.counters.clean`)',
    tests: [
      'test/gmem/second-tier.test.ts > a page that came back > to a device and is read there is dropped by an eviction; one that the device wrote is copied',
      'test/gmem/second-tier.test.ts > a page that came back > and was not written goes again without a copy',
    ],
    canary: { file: 'sdk/gmem/marks.ts', find: 'if (marks.isDirty(i)) this.written(marks.vpn(i));', replace: '' },
  },
  {
    id: 'H11',
    title: 'second tier: host pressure to file',
    here: '`createMachine({ swap })`: a node of kind tier, entries of kind swap, `SecondTier` and `Reclaim` (`sdk/mm`)',
    tests: [
      'test/gmem/second-tier.test.ts > a host of 8 pages holds 32: what has not been used goes, a touch brings it back',
      'test/gmem/second-tier.test.ts > what is in the second tier > is inherited by a child: shared, brought back for both, and copied by who writes',
    ],
    canary: { file: 'sdk/mm/fault.ts', find: "outcome === 'no memory' && this.platform.tier &&", replace: 'false &&' },
  },
  {
    id: 'H12',
    title: 'accounting/limits per space',
    here: '`space.charged`: bytes of every node that the space pays for; `context.limit(bytes, memory)`: over it, a fault evicts the own pages of the space first; `space.limit(bytes)`: likewise of host memory, to the second tier',
    tests: [
      'test/gmem/watermarks.test.ts > a space with a limit > evicts its own pages first, and another space keeps its',
      'test/gmem/host-limit.test.ts > a space with a limit of host memory > sends its own pages to the second tier, and another space keeps its',
    ],
    canary: { file: 'sdk/gmem/context.ts', find: 'limit - this.space.chargedOn(memory.node.index) - taken', replace: 'limit' },
  },
  {
    id: 'H13',
    title: 'host OOM during eviction',
    here: 'the host makes room below, in the second tier; without one, or with it full, the victim stays (`fallback`) and the access ends with `ENOMEM`: nothing is lost',
    tests: ['test/gmem/second-tier.test.ts > a device evicts to a full host: the host makes room below; with all full the page stays'],
    canary: {
      file: 'sdk/mm/migration-targets.ts',
      find: 'if (missing <= 0) return undefined;',
      replace: 'if (missing <= 1e9) return undefined;',
    },
  },
  {
    id: 'H2',
    title: 'compact page descriptor, bytes-per-page report vs struct page',
    here: '`machine.cost().bytesPerPage`: 32 bytes of record for a page, 36 with a second tier, against the 64 of `struct page`',
    tests: ['test/gmem/evict.test.ts > keeping track of a page costs half of what struct page does, and a record for each further mapping'],
    canary: {
      file: 'sdk/gmem/cost.ts',
      find: 'frames * L.FRAME_BYTES + records * L.CHAIN_BYTES + secondTier',
      replace: 'frames * L.FRAME_BYTES',
    },
  },
  {
    id: 'H4',
    title: 'reverse map, many mappings per page',
    here: 'the first mapping is in the frame record, more are in a chain (`assembly/rmap.ts`): an eviction, a swap out and a migration by frame follow them all',
    tests: [
      'test/gmem/second-tier.test.ts > what is in the second tier > is inherited by a child: shared, brought back for both, and copied by who writes',
      'test/core/rmap.node.test.ts > any sequence of mappings coming and going, records running out included, leaves the sets that a map of sets has',
    ],
    canary: {
      file: 'assembly/hand-over.ts',
      find: 'rmapMove(frame, to);',
      replace: 'if (frameMaps(frameRecord(frame)) == 1) rmapMove(frame, to);',
    },
  },
  {
    id: 'H10',
    title: 'oversubscription 1x..16x sweep',
    here: '`farfault replay --oversubscribe 2x --policy lru`; every policy holds 16 times the memory of its device, every byte checked',
    tests: [
      'test/gmem/evict.test.ts > a working set of 1, 2, 4, 8 and 16 times the memory of the device: every byte is right, by every policy',
      'test/replay/oversubscribe.test.ts > a device with less memory than what it touches > replays to the end at every factor, every load as it was stored: %s',
    ],
    canary: {
      file: 'sdk/gmem/evict.ts',
      find: 'if (this.freed >= this.pages || this.rounds === RECLAIM_ROUNDS_MAX) return DONE;',
      replace: 'if (this.rounds >= 0) return DONE;',
    },
  },
  {
    id: 'I5',
    title: 'THP off / fallback to base pages',
    here: 'huge pages appear where they are advised (`madvise(range, "hugepage")`) and where a huge frame is free; else, and where a device has room for none, small ones do the same',
    tests: ['test/machine/huge.test.ts > advised memory > gets small pages when no huge frame is left'],
    canary: {
      file: 'sdk/mm/fault.ts',
      find: 'this.write ? 0 : 1)) return undefined;',
      replace: "this.write ? 0 : 1))\n      return 'bus error';",
    },
  },
];
