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
    id: 'D9',
    title: 'Memory cost report per table',
    here: '`machine.cost()`: bytes of the table of each space and of each context, 32 bytes a frame wherever it is (GMEM has about 48 for each 4 KiB of device memory, `struct page` 64), 16 for each further mapping, intervals of advice',
    tests: [
      'test/gmem/cost.test.ts > what tables cost is told by table: grows with what is mapped far apart, and comes back',
      'test/gmem/cost.test.ts > what frames and their mappings cost: 32 bytes a frame, wherever it is, and a record for each mapping that is not the only one',
    ],
    canary: {
      file: 'sdk/gmem/device-mirror.ts',
      find: 'return this.table && this.table.pages * L.PAGE_BYTES;',
      replace: 'return this.table && L.PAGE_BYTES;',
    },
  },
  {
    id: 'J2',
    title: 'KVM: second-stage table as an attached MMU, dirty log',
    here: '`drivers/kvm`: a guest is a device whose table maps what it calls memory; a page of the program takes its entry along when it changes. The dirty log is got and cleared, by marks of the walker or by withholding the right to write; it keeps what was written to pages that have gone since',
    tests: [
      'test/gmem/kvm.test.ts > the dirty log, kept by marks > keeps what was written to a page that has moved or gone since',
      'test/gmem/kvm.test.ts > the dirty log, kept by write protect > is all that a migration of the guest has to send again: round by round, until both have the same',
      'test/gmem/kvm.test.ts > a guest > faults anew on pages that have moved, and sees what others wrote meanwhile',
      'test/contract/shipped.test.ts > every shipped driver keeps the contract > kvm',
    ],
    canary: {
      file: 'drivers/kvm/index.ts',
      find: 'if (marks.isDirty(i)) this.log.set(marks.vpn(i), 1);',
      replace: ';',
    },
  },
  {
    id: 'J3',
    title: 'RDMA/ODP: registration of ranges, fault, invalidate',
    here: '`drivers/rdma`: `register(context, range, { pinned })`. On demand, an access from the wire faults its pages in with `context.hmm.rangeFault`, and the notifier takes them out; pinned, the pages stay where they are. What may not be done is an error completion, and changes nothing',
    tests: [
      'test/gmem/rdma.test.ts > memory registered on demand > follows the program: what it copies, moves to a device or gives back is faulted in anew',
      'test/gmem/rdma.test.ts > memory registered on demand > is refused beyond its end, without its right, without the program’s, and where nothing is mapped',
      'test/gmem/rdma.test.ts > memory registered pinned > stays where it is until it is deregistered: no fault, no invalidation, and no migration',
      'test/contract/shipped.test.ts > every shipped driver keeps the contract > rdma',
    ],
    canary: {
      file: 'drivers/rdma/index.ts',
      find: 'for (let i = 0; i < ranges.count; i++) this.frames.deleteRange(ranges.start(i), ranges.length(i));',
      replace: '',
    },
  },
  {
    id: 'J4',
    title: 'GPU discrete (nouveau-like) and integrated (shared page table)',
    here: '`drivers/nouveau`: replayable faults, memory in chunks of 2 MiB, eviction; `drivers/integrated`: it walks the table of the CPU, and faults for both',
    tests: [
      'test/machine/devices.test.ts > a memory smaller than the working set > nouveau: chunks go home and come again, and every byte is right',
      'test/contract/shipped.test.ts > every shipped driver keeps the contract > nouveau',
      'test/contract/shipped.test.ts > every shipped driver keeps the contract > integrated',
    ],
    canary: { file: 'drivers/nouveau/index.ts', find: 'copies.perform();', replace: '' },
  },
  {
    id: 'K1',
    title: 'Coherence oracle: every load sees the last write, any interleaving',
    here: '`npm run coherence -- [seed] [operations]`: random programs over three address spaces and four devices (two GPUs, one that shares its memory with the CPU, an NPU with the family `peer`) whose flushes, copies and batches end late: accesses, jobs, atomics, streams, migrations, hints, copies, links, copies of pages, a second tier, limits, fork, exec, reaping, resets. A load must return what was written last at some moment between its beginning and its end, and nothing older than what another has seen before; rights are checked alike (`Register`, test/gmem/coherence/register.ts)',
    tests: [
      'test/gmem/coherence.node.test.ts > three spaces and four devices that answer late: every load sees the last write, whatever is under way',
      'test/gmem/coherence.node.test.ts > the oracle knows what a read may return',
      'test/gmem/found-by-coherence.test.ts > a device that writes while the right goes is told so, whatever comes first',
    ],
    canary: {
      file: 'sdk/gmem/device-mirror.ts',
      find: 'return this.withdraw(ranges, event.cause) ?? true;',
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
      file: 'sdk/gmem/device-mirror.ts',
      find: 'return this.flushes.make(this.withOvershoot(ranges));',
      replace: 'return undefined;',
    },
  },
  {
    id: 'K3',
    title: 'Leak and double-free ledger for pages, VA, DMA maps',
    here: '`Ledger` (test/gmem/ledger.ts) names every page, mapping and DMA page that has not come back, and where it is held. What is given back twice is refused by its name: `putFrame`, `pin.unpin`, `VaSpace.free`; what a driver gives twice breaks the rule "pages once" of `checked`',
    tests: [
      'test/gmem/ledger.test.ts > the ledger > is even when everything has come back, and names each page, mapping and DMA page that has not',
      'test/gmem/ledger.test.ts > the ledger > a frame that a driver took and forgot is named; one that it gives twice is refused by name',
      'test/gmem/ledger.test.ts > the ledger > a pin ends once, addresses and a DMA page come back once: the second time is refused by name, or does nothing',
    ],
    canary: {
      file: 'sdk/mm/pin.ts',
      find: '    release(this.platform, this.frames, this.frames.length);\n    const { events }',
      replace: '    const { events }',
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
  {
    id: 'K5',
    title: 'Statistics H2D/D2H, invalidations, round trips',
    here: '`machine.counters`: pages and bytes copied by source and target node, by cause and by length of transfer, faults, batches, evictions, invalidations. They are the events folded (`foldEvent`), so none can be forgotten',
    tests: [
      'test/events/fold.test.ts > events folded are the counters, all of them > in random programs of every verb, which are what they are without a listener',
    ],
    canary: { file: 'sdk/gmem/device-mirror.ts', find: 'events.counters.invalidations++;', replace: '' },
  },
  {
    id: 'K6',
    title: 'LoC report per example driver',
    here: '`npm run loc`: lines of code and statements of each shipped driver, comments and imports left out. A device that walks the table of the CPU takes 17 lines, one with a table and a TLB of its own 69; GMEM speaks of less than 70 for an IOMMU, and of 30 changed of 3,700 for an NPU',
    tests: [
      'test/gmem/loc.node.test.ts > lines with code and statements are counted, and nothing else',
      'test/gmem/loc.node.test.ts > every driver is in the report, and the simplest ones are short',
    ],
    canary: { file: 'scripts/loc.mjs', find: 'if (ts.isImportDeclaration(node)) return;', replace: '' },
  },
  {
    id: 'K7',
    title: 'Mapping from each GMEM name to ours, and from each HMM/gpusvm notion',
    here: '[docs/names.md](names.md): a table of kernel names and one of names of GMEM and drm_gpusvm. A test looks whether each file names what its row says',
    tests: [
      'test/gmem/gmem-names.node.test.ts > every name of GMEM, and each notion of gpusvm and HMM, has a row that says what it is here',
    ],
    canary: { file: 'docs/names.md', find: '`pgsize_bitmap`', replace: '`nothing`' },
  },
];
