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
];
