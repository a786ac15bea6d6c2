/** Rows of virtual addresses: C1 to C7, C9, and the IOMMU client, J1. */
import type { Row } from './row.ts';

export const rows: readonly Row[] = [
  {
    id: 'C1',
    title: 'MAP_PEER_SHARED flag validation matrix',
    here: '`space.mmap({ peerShared: true })`: private and anonymous only, whole 2 MiB, never the page of zeros',
    tests: [
      'test/gmem/peer-va.test.ts > peer-shared memory is private and anonymous > it does not go with shared',
      'test/gmem/peer-va.test.ts > peer-shared memory is private and anonymous > it goes with an alignment',
      'test/gmem/peer-va.test.ts > it is handed out in whole 2 MiB, and marked in a dump',
      'test/gmem/peer-va.test.ts > a read finds a page of its own, never the page of zeros',
      'test/gmem/peer-va.test.ts > a child > does not get it, unless it is advised to',
    ],
    canary: {
      file: 'sdk/mm/mmap.ts',
      find: 'const other = { shared: shared || undefined, file,',
      replace: 'const other = { file,',
    },
  },
  {
    id: 'C2',
    title: 'peer negotiation, blocker list, 10 retries, rollback of earlier peers',
    here: 'the family `peerVa` of a driver, `Negotiation` ([peer-va.ts](../sdk/mm/peer-va.ts)), events `va.negotiated`, `va.refused`, `va.released`',
    tests: [
      'test/gmem/peer-va.test.ts > a place is negotiated > and picked again when one refuses; those asked before give it back, the last one first',
      'test/gmem/peer-va.test.ts > a place is negotiated > ten times over, and no more',
      'test/gmem/peer-va.test.ts > a peer that answers later > is waited for; meanwhile nobody is given the place',
      'test/gmem/peer-va.test.ts > random mappings, moves, devices that come and go, refuse and fall silent: every peer has what is shared, and nothing else',
      'test/contract/zoo.test.ts > a broken driver does not',
    ],
    canary: {
      file: 'sdk/mm/peer-va.ts',
      find: 'while (this.taken > 0) this.release(this.peers[--this.taken]!, this.start, pages);',
      replace: 'if (this.taken > 0) this.release(this.peers[--this.taken]!, this.start, pages);',
    },
  },
  {
    id: 'C3',
    title: 'fixed mappings',
    here: '`space.mmap({ peerShared: true, at, fixed: true })`, `space.mremap(range, { to })`',
    tests: [
      'test/gmem/peer-va.test.ts > a place is negotiated > but not for a fixed place',
      'test/gmem/peer-va.test.ts > mremap > to a fixed place, and with the old range kept',
    ],
    canary: {
      file: 'sdk/mm/peer-va.ts',
      find: 'const start = at ?? vmas.gap(',
      replace: 'const start = vmas.gap(',
    },
  },
  {
    id: 'C4',
    title: 'gm_as_alloc: default, firstfit, bestfit, nextfit; hint, alignment, no-cross boundary, upper bound',
    here: '`new VaSpace({ start, end, strategy }).alloc({ bytes, hint, align, noCross, below, at })`, [addresses.md](addresses.md)',
    tests: [
      'test/gmem/va.test.ts > firstfit, random requests > agrees with a list of who has each page',
      'test/gmem/va.test.ts > bestfit, random requests > agrees with a list of who has each page',
      'test/gmem/va.test.ts > nextfit, random requests > agrees with a list of who has each page',
      'test/gmem/va.test.ts > default, random requests > agrees with a list of who has each page',
      'test/gmem/va.test.ts > an allocation is cut > between two multiples of a boundary that it may not cross',
    ],
    canary: {
      file: 'sdk/gmem/va-tree.ts',
      find: 'return place + bytes <= Math.min(end, below) ? place : -1;',
      replace: 'return place + bytes <= end ? place : -1;',
    },
  },
  {
    id: 'C5',
    title: 'quantum object cache',
    here: '`VaSpace` with the strategy `default`, `cacheQuantum`; `use.cacheHits`, `shrink()`',
    tests: [
      'test/gmem/va.test.ts > the cache of objects > serves a length again without a look at the tree, the one given back last first',
      'test/gmem/va.test.ts > the cache of objects > gives its older half back when it is full',
      'test/gmem/va.test.ts > the cache of objects > gives everything back before an allocation fails, and rounds up only where there is room to',
    ],
    canary: { file: 'sdk/gmem/va.ts', find: 'cache.push(start);', replace: 'cache.unshift(start);' },
  },
  {
    id: 'C6',
    title: 'regions with deferred callback; mapping sets',
    here: '`MappingSet`: `add(region, freed)`, `ranges(batch)`, `free()`',
    tests: [
      'test/gmem/va.test.ts > a mapping set > gives no address away before it is freed, and tells everybody afterwards',
      'test/gmem/va.test.ts > a mapping set > keeps its regions from being changed one by one',
      'test/gmem/va.test.ts > a mapping set > frees all of them also when one who is told throws',
    ],
    canary: {
      file: 'sdk/gmem/va.ts',
      find: '      region.set = undefined;\n      this.space.drop(region);\n    }',
      replace: '      region.set = undefined;\n      this.space.drop(region);\n      told[regions.indexOf(region)]?.(region);\n    }',
    },
  },
  {
    id: 'C7',
    title: 'VMA split/merge/adjust for eight merge cases',
    here: '`VmaSet` ([vma.ts](../sdk/mm/vma.ts)); advice is kept outside the VMAs (`space.attributes`), so nothing has to be split with them',
    tests: [
      'test/gmem/vma-merge.test.ts > neighbours become one: ordinary memory > mmap, case 1: a hole is filled, both sides become one',
      'test/gmem/vma-merge.test.ts > neighbours become one: peer-shared memory > mprotect, case 6: a whole one and both sides become one',
      'test/gmem/vma-merge.test.ts > neighbours become one: ordinary memory > a part on its own is split off, and put back',
      'test/gmem/vma-merge.test.ts > peer-shared memory and other memory never become one',
      'test/mm/vma.test.ts > merging with neighbours that promise the same',
    ],
    canary: {
      file: 'sdk/mm/vma.ts',
      find: 'before.end = joinsAfter ? after.end : end;',
      replace: 'before.end = end;',
    },
  },
  {
    id: 'C9',
    title: 'different VA widths/formats per device',
    here: '`driver.addressBits`; peer-shared memory is placed below the narrowest, an access above ends in EFAULT, a job gives it up; formats: `driver.tableFormat`',
    tests: [
      'test/gmem/peer-va.test.ts > a device with fewer address bits > has peer-shared memory below what it can address',
      'test/gmem/peer-va.test.ts > a device with fewer address bits > faults above, and says why; what is below works',
      'test/gmem/peer-va.test.ts > a device with fewer address bits > is not attached where peer-shared memory is above',
    ],
    canary: {
      file: 'sdk/mm/peer-va.ts',
      find: 'limit = Math.min(limit, pageLimit);',
      replace: 'limit = Math.max(limit, pageLimit);',
    },
  },
  {
    id: 'J1',
    title: "IOMMU/IOVA driver: map/unmap streams, deferred vs coalesced flush; reproduce direction of the paper's NIC result",
    here: '`drivers/iommu`, `DmaStream`, the preset `NIC_100G`; see [addresses.md](addresses.md#an-iommu)',
    tests: [
      'test/gmem/iommu.test.ts > receiving: coalesced flushes make 1.3 to 1.9 times the packets of strict ones, with 20 to 50 % less time of the processor for each',
      'test/gmem/iommu.test.ts > coalesced flush > an address and a page are used again only after it',
      'test/gmem/iommu.test.ts > a coalesced flush leaves the translations that are in use, a deferred one does not',
      'test/gmem/iommu.test.ts > coalesced, random: what the device reaches is what is mapped, or what is still held',
      'test/contract/shipped.test.ts > every shipped driver keeps the contract',
    ],
    canary: {
      file: 'drivers/iommu/domain.ts',
      find: "options.flush === 'strict' || queue.size >= options.queueEntries",
      replace: 'queue.size > 0',
    },
  },
];
