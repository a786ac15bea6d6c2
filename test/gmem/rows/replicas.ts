import type { Row } from './row.ts';

export const rows: readonly Row[] = [
  {
    id: 'F1',
    title: 'CPU fault table (a)',
    here: '`CPU_TABLE` (sdk/gmem/fault-table.ts), done by `CpuFault`: read and write differ, a failed copy leaves the page where it is',
    tests: [
      'test/gmem/fault-table.test.ts > table (a): a CPU fault > does what the table says, for each state and access',
      'test/gmem/fault-table.test.ts > table (a): a CPU fault > waits for a page that is moving, and fails on one that is lost',
    ],
    canary: {
      file: 'sdk/gmem/fault-table.ts',
      find: "  shared: { read: 'nothing', write: 'copy' },",
      replace: "  shared: { read: 'nothing', write: 'reuse' },",
    },
  },
  {
    id: 'F2',
    title: 'Device fault table (b), all states and hints',
    here: '`WITH_MEMORY`, `WITHOUT_MEMORY` (sdk/gmem/fault-table.ts), acted on by `ServeFault`; hints are `space.attributes` and `DevicePolicy.placement`, asked where the table says "place" (`placementOf`, sdk/policy/placement.ts)',
    tests: [
      'test/gmem/fault-table.test.ts > table (b): a device fault > does what the table says, for each state and question, with memory and without',
      'test/gmem/fault-table.test.ts > table (b): a device fault > waits for a page that is moving',
      'test/gmem/placement.test.ts > a device > uses pages on the host where that is their place, whoever touches them first',
      'test/gmem/placement.test.ts > a device > lets a page stay where its policy says so: it uses it there, or is told that it cannot',
    ],
    canary: {
      file: 'sdk/gmem/fault-table.ts',
      find: "  other: { read: 'place', write: 'place', denied: 'fault' },",
      replace: "  other: { read: 'map', write: 'map', denied: 'map' },",
    },
  },
  {
    id: 'F3',
    title: 'Read against write, permission faults',
    here: '`ServeFault` looks at the mapping first ("permission", which cancels the access), then at the entry ("denied"): a batch cancels the write and still serves who reads',
    tests: [
      'test/gmem/fault-table.test.ts > table (b): a device fault > does what the table says, for each state and question, with memory and without',
      'test/machine/devices.test.ts > a job > gives up accesses without a mapping or a right, by their indices, and does the others',
    ],
    canary: { file: 'sdk/gmem/serve.ts', find: "(high & L.ENTRY_WRITE) !== 0 ? 'write' : 'denied'", replace: "'write'" },
  },
  {
    id: 'D2',
    title: 'Flags DIRTY, PINNED, WILLNEED, EVICTING',
    here: '`space.holders(addr).flags`, read from the entry, the frame, the batch under way and the eviction under way: nothing is kept twice. A fault on a page that is being evicted waits for it, and cancels nothing',
    tests: [
      'test/gmem/replicas.test.ts > the flags of a page > say that it is written, pinned, needed by a batch, or on its way home to make room',
    ],
    canary: {
      file: 'sdk/mm/migration.ts',
      find: 'this.platform.evicting.push(this.listed!)',
      replace: 'this.platform.evicting.delete(frame)',
    },
  },
  {
    id: 'D3',
    title: 'Owner and holder set for many devices',
    here: '`space.holders(addr)`: one owner, by the home entry; its readers and writers, by what attached devices have of the page (`Context.holds`, `Replicas`)',
    tests: [
      'test/gmem/replicas.test.ts > a page that is mostly read > is read by every device from a copy of its own, and by the CPU and a device without memory where it is',
      'test/gmem/replicas.test.ts > a page that is mostly read > goes to the device that writes it, whichever that is, and all copies go',
    ],
    canary: { file: 'sdk/gmem/replica.ts', find: 'this.frames.set(vpn, frame);', replace: 'this.frames.set(vpn + 1, frame);' },
  },
  {
    id: 'F5',
    title: 'Read-only duplication hint; write upgrade invalidates replicas',
    here: '`space.attributes.set(range, { readMostly: true })`, or `DevicePolicy.placement.duplicate`: `Duplicate` makes copies, a page that comes home for a reader leaves one behind; a write, whosever, is "upgrade" in `CpuFault`: all copies dropped and flushed first. Copies are the first victims, and nothing is moved for them',
    tests: [
      "test/gmem/replicas.test.ts > a page that is mostly read > is nobody else's any more when the CPU has written it, and is copied anew",
      'test/gmem/replicas.test.ts > a page that is mostly read > leaves its copy behind on the device that wrote it, when another one or the CPU reads it',
      'test/gmem/replicas.test.ts > copies go > with whatever happens to their page: each verb names itself, and leaves none',
      'test/gmem/replicas.test.ts > copies go > before anything that would have to be moved',
      'test/gmem/replicas.test.ts > a program that moves pages which are mostly read > gives the device copies, which count as well, and the CPU keeps the pages',
      'test/gmem/replicas.test.ts > a flush that is late > keeps the frame of the copy, and the write, until it has ended',
    ],
    canary: {
      file: 'sdk/gmem/device-mirror.ts',
      find: 'if (this.replicas.size > 0) this.replicas.drop(ranges, ticket, cause);',
      replace: '',
    },
  },
  {
    id: 'D1',
    title: 'States NOMAP/CPU/DEVICE with legal-transition checker',
    here: '`Transitions` (sdk/mm/transitions.ts), in a machine made with `checked: "states"`: after every turn of every step, which states pages went to, and that nobody writes what others have copies of. The states are readings of the home entry (`LogicalState`)',
    tests: [
      'test/gmem/transitions.test.ts > the checker of states > reports a page that is on a device without having migrated',
      'test/gmem/transitions.test.ts > the checker of states > has nothing to say of faults, migrations, copies, forks and unmaps, and goes on in a restored machine',
      'test/gmem/transitions.test.ts > the checker of states > reports a page that may be written while a device has a copy of it',
    ],
    canary: {
      file: 'sdk/mm/transitions.ts',
      find: "host: ['nothing', 'host', 'moving',",
      replace: "host: ['nothing', 'host', 'device', 'moving',",
    },
  },
  {
    id: 'F9',
    title: 'Batch of faults, dedupe, replay, cancel',
    here: '`FaultBatch`, `ServeBatch`: what the buffer held is served in one go, a record whose page is there by then is coalesced, accesses that are not allowed are cancelled, stalled lanes replayed, what was lost or put off faults again',
    tests: [
      'test/machine/devices.test.ts > a job > gives up accesses without a mapping or a right, by their indices, and does the others',
      'test/machine/devices.test.ts > a job > with more faults than the buffer has records loses some, and comes to its end all the same',
    ],
    canary: { file: 'sdk/gmem/serve-batch.ts', find: 'batch.cancel(vpn, write, outcome);', replace: '' },
  },
];
