import type { Row } from './row.ts';

const OPS = 'test/gmem/ops.test.ts';
const NPU = 'test/gmem/npu.test.ts';
const PEER = 'test/gmem/peer.test.ts';
const PEER_TESTING = 'test/testing/peer.test.ts';

export const rows: readonly Row[] = [
  {
    id: 'A6',
    title: 'Import of pages in batches, failure latch',
    here: "`peer.importPages(count)` of a memory with `allocator: 'peer'`: 16 at a time; a short batch is the last until a page comes free (`memory.importCounts`).",
    tests: [
      `${PEER} > memory that the device hands out > comes in batches of 16, and a batch that is short is the last one until a page comes free`,
    ],
    canary: {
      file: 'sdk/gmem/own-memory.ts',
      find: 'this.importFailed = pages.length < IMPORT_PAGES;',
      replace: 'this.importFailed = false;',
    },
  },
  {
    id: 'H3',
    title: 'Peer-managed memory mode',
    here: "`memory: [{ allocator: 'peer' }]`: the device gives a page inside `peer.map` (`batch.place`), or beforehand (`peer.importPages`); `peer.freePage` says that it is free.",
    tests: [
      `${PEER} > memory that the device hands out > is given page by page as the device chooses, huge pages as one, and every page comes back`,
      `${PEER} > memory that the device hands out > is refused when a page is handed out twice, and the device is out of the game`,
    ],
    canary: { file: 'assembly/frame.ts', find: 'order ? frame | FREED_HUGE : frame', replace: 'frame' },
  },
  {
    id: 'O4',
    title: 'Coupled peer_map/peer_unmap',
    here: 'The family `peer`: `map(batch)`, `unmap(batch)`, a result code for each item (`PeerBatch`, `PeerMoves`).',
    tests: [
      `${PEER} > a device with the family peer > evicts when the device says that it has no room`,
      `${PEER} > a device with the family peer > is told what the device wanted, and what it may do`,
    ],
    canary: {
      file: 'sdk/gmem/serve.ts',
      find: "if (this.migration.peerCode === 'nomem' && !this.context.reaches(this.vpn, this.write)) return this.clear(run);",
      replace: '',
    },
  },
  {
    id: 'O6',
    title: 'Planner that chooses coupled or decoupled; equivalence property test',
    here: "`formOf` (planner.ts), `policy.form`; the order of the steps is `Migration`'s in both forms. The driver contract runs one program in both, with and without the family (`decoupled` of farfault/testing).",
    tests: [
      'test/gmem/peer-equal.test.ts > the same program leaves the same memory > in steps, in one go, with pages of the core, of the device in batches, of the device one by one, and with refusals',
      `${PEER_TESTING} > without its family a device has the steps, and the core hands its pages out`,
    ],
    canary: {
      file: 'sdk/mm/peer-moves.ts',
      find: "const item = part.batch.add(place.vpn, words.span(i), 'copy');",
      replace: "const item = part.batch.add(place.vpn, words.span(i), 'none');",
    },
  },
  {
    id: 'O7',
    title: 'Batch/range ops, async tickets',
    here: 'Every operation takes a list (`Ranges`, `Mappings`, `Copies`, `PeerBatch`); those that can take time may answer with a ticket.',
    tests: [`${PEER} > a device with the family peer > waits for a batch that the device has not finished, and for nothing else`],
    canary: {
      file: 'sdk/mm/peer-moves.ts',
      find: "if (parts.at(i).ticket?.state === 'pending') return parts.at(i).ticket;",
      replace: 'void parts;',
    },
  },
  {
    id: 'O8',
    title: 'Prot and access type in the fault descriptor',
    here: '`PeerItem.write`, `access`, `behaviour`; `DeviceFaultRecord.write`.',
    tests: [`${PEER} > a device with the family peer > is told what the device wanted, and what it may do`],
    canary: { file: 'sdk/mm/peer-moves.ts', find: "item.access = isWanted ? request.access : 'none';", replace: '' },
  },
  {
    id: 'O11',
    title: 'Fault injection for every op and result code, with rollback checks',
    here: '`faulty(driver, plan)` for every operation, with every result code of `peer.map` and `peer.unmap` as a way to go wrong; the driver contract runs them all on every driver that has the operation, and looks at what is where.',
    tests: [
      `${PEER} > every result code of every operation > map, whoever hands the pages out: the page stays where it is with its bytes, and every page of the device is free again`,
      `${PEER} > every result code of every operation > unmap, whoever hands the pages out: the page stays on the device with its bytes`,
      `${PEER} > every result code of every operation > unmap that fails for a touch of the CPU is a bus error, not a page of zeros`,
      `${PEER_TESTING} > each result code is one of the ways in which a call goes wrong, and what must go goes even so`,
    ],
    canary: { file: 'sdk/mm/peer-moves.ts', find: 'this.words.refuse(item.word);', replace: '' },
  },
  {
    id: 'O1',
    title: 'pmap_create/destroy/enter/release/protect actually driven',
    here: 'The family `pmap`; `protect` where only the right to write goes (`InvalidateEvent.writeOnly`): mprotect, fork, write-back.',
    tests: [
      `${OPS} > the family pmap > is driven from the attach to the detach: create, enter, protect, release, destroy`,
      `${OPS} > the family pmap > without protect loses the translation`,
      `${OPS} > the family pmap > the ready-made table cuts a block where only a part of it loses a right`,
    ],
    canary: { file: 'sdk/mm/take-down.ts', find: 'this.invalidation.ofWrites();', replace: 'this.touched = true;' },
  },
  {
    id: 'O2',
    title: 'tlb_invl',
    here: '`tlb.invalidate(ranges)`, after the table and before anything is copied or freed (`Context.withdraw`).',
    tests: ['test/machine/migration.test.ts > the order of taking away > is release, invalidate, wait, free'],
    canary: {
      file: 'sdk/gmem/device-mirror.ts',
      find: 'return this.flushes.make(this.withOvershoot(ranges));',
      replace: 'return undefined;',
    },
  },
  {
    id: 'O3',
    title: 'tlb_invl_coalesced with batch statistics; immediate vs deferred vs coalesced ablation',
    here: '`tlb.invalidateCoalesced`, `policy.flush`, `context.flushCounts`: of 16 pages that leave in one operation, 16 flushes or 1; of 16 touches of the CPU at the same time, 16 or, deferred, 1.',
    tests: [
      `${OPS} > flushes > of one operation are one when coalesced, one for each range when immediate`,
      `${OPS} > flushes > of sixteen touches of the CPU at the same time are one when deferred`,
      `${OPS} > flushes > that are deferred do not keep an operation waiting for which nobody else runs, and use invalidateCoalesced`,
      'test/gmem/deferred.test.ts > a flush that is put off in a machine that is saved is made by the restored one, by itself',
      'test/gmem/deferred.test.ts > in whatever order operations take their turns, each ends, and every byte is right',
    ],
    canary: {
      file: 'sdk/gmem/device.ts',
      find: "if (this.policy.flush === 'immediate' && ranges.count > 1) {",
      replace: 'if (ranges.count > 1) {',
    },
  },
  {
    id: 'O5',
    title: 'alloc_page/free_page/prepare_page',
    here: 'The family `phys`: `allocPage`, `freePage`, `preparePage`.',
    tests: [
      `${OPS} > pages of the driver’s own allocator are filled by preparePage, with bytes of the host and with zeros, and nothing else is`,
    ],
    canary: { file: 'sdk/gmem/device.ts', find: "if (this.memory?.node.allocator !== 'driver') return false;", replace: 'return false;' },
  },
  {
    id: 'O9',
    title: 'Opaque device PTE attributes',
    here: '`context.setAttributes(range, bits)`: kept by address (`space.attributes`), handed to `pmap.enter` and `peer.map`, read back with `Translation.attributes`.',
    tests: [
      `${OPS} > opaque bits of a page > reach the device with the translation, and are kept over mprotect, migration, eviction, split, fork and mremap`,
      `${OPS} > opaque bits of a page > change what the device has: its translations go, the next ones have the new bits; munmap ends them`,
    ],
    canary: {
      file: 'sdk/mm/attributes.ts',
      find: 'if (pairs[i] === owner) return pairs[i + 1]!;',
      replace: 'if (pairs[i] === owner) return 0;',
    },
  },
  {
    id: 'O10',
    title: 'Page-size bitmap',
    here: '`driver.pageBytes`: any powers of two from 4 KiB to 1 GiB; a size between two levels is a group of neighbouring entries, as 64 KiB.',
    tests: [
      'test/machine/block-entries.test.ts > a 2 MiB fault > takes a larger size only where the page and its frame are both aligned to it',
      'test/machine/block-entries.test.ts > a 2 MiB fault > with 64 KiB pages takes groups of neighbouring entries',
    ],
    canary: { file: 'sdk/gmem/device-table.ts', find: 'pages >= size && vpn % size === 0 && frame % size === 0', replace: 'pages >= size' },
  },
  {
    id: 'F7',
    title: 'PAGE_EXIST/MIGRATING handshakes',
    here: '`page exists` counts when the device translates to the page (`translatesTo`); `migrating` sets WILLNEED and is asked again, at most `MIGRATING_RETRIES_MAX` times (`PeerMoves`, `Touch`).',
    tests: [
      `${PEER} > every result code of every operation > migrating: is asked again, and is a success only when the device has it`,
      `${PEER} > every result code of every operation > a device that says that a page exists, which it does, is believed; one that says so of what does not, is not`,
      `${PEER} > every result code of every operation > migrating without end: the access ends, and nothing has been mapped`,
    ],
    canary: { file: 'sdk/mm/peer-moves.ts', find: "else if (code === 'migrating') {", replace: "else if (code === 'failure') {" },
  },
  {
    id: 'J5',
    title: 'NPU peer with message protocol',
    here: '`drivers/npu`: an operating system of its own behind a bounded channel. Round trips are counted, times are ticks; what comes too late is taken back, what gets lost is sent again. It hands its pages and its addresses out itself, says no, and sends pages away while the host asks for them: one of both wins. 15 statements call the framework, 150 implement its operations (`node scripts/count-driver.mjs drivers/npu`)',
    tests: [
      `${NPU} > eviction that the NPU begins > meets a fault in between: the fault sets WILLNEED, the eviction sees it and keeps the page`,
      `${NPU} > messages > a fault is one round trip, whatever its granule; so is the way home`,
      `${NPU} > messages > whose answer gets lost are sent again, and what was done then is not done twice`,
      `${NPU} > addresses > that the NPU keeps are refused, and the next ones are asked for: the host and all its devices agree`,
      'test/contract/shipped.test.ts > every shipped driver keeps the contract > npu',
      'test/gmem/loc.node.test.ts > the NPU calls the framework in few statements, and implements its operations in few',
    ],
    canary: { file: 'drivers/npu/os.ts', find: "if (task.leaving.has(vpn)) return this.answer(i, 'migrating', -1);", replace: '' },
  },
];
