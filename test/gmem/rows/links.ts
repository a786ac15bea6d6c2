import type { Row } from './row.ts';

export const rows: readonly Row[] = [
  {
    id: 'F4',
    title: 'Device-to-device migration, direct or bounced',
    here: '`machine.link(a, b)`: `Migration.toPeer`, copied by `copy.peer` of one of the two drivers or by the core; without a link home first, then out, counted both ways',
    tests: [
      'test/gmem/links.test.ts > a page on one device that another one needs > goes directly over a link: one migration, its frame freed on the one and its translation withdrawn',
      'test/gmem/links.test.ts > a page on one device that another one needs > goes by way of the host when there is no link, and is counted both ways',
      'test/gmem/links.test.ts > copy.peer > that ends later keeps the page from everybody until then, and is in a saved machine',
      'test/replay/devices.test.ts > a replay with several devices > goes directly between two that are linked, and the report says so',
    ],
    canary: {
      file: 'sdk/mm/migration-routes.ts',
      find: "from === 0 || from === to ? 'toDevice' : 'peer'",
      replace: "from === 0 || from !== to ? 'toDevice' : 'peer'",
    },
  },
  {
    id: 'F6',
    title: 'Remote map instead of migrate, coherent link required',
    here: "'remote' of the placement policy (sdk/policy/placement.ts) for a page in another device's private memory: `ServeFault.enterRemote`, over `machine.link(a, b, { coherent: true })`; withdrawn like any translation",
    tests: [
      'test/gmem/remote.test.ts > over a coherent link a page that is to be accessed by a device > is mapped where it is, and both read and write it there',
      'test/gmem/remote.test.ts > over a coherent link a page that is to be accessed by a device > is withdrawn when the page moves, and its flush is waited for',
      'test/gmem/remote.test.ts > over a coherent link a page that is to be accessed by a device > is let go when the link is cut; then it comes home',
      'test/gmem/remote.test.ts > a page of another device is not used there > without advice, or over a link that is only for copies',
    ],
    canary: {
      file: 'sdk/gmem/fault-policy.ts',
      find: "question.isReachable = state !== 'other' || isReachable(platform, device, frame);",
      replace: "question.isReachable = state !== 'other';",
    },
  },
  {
    id: 'F10',
    title: 'Anti-thrash residency',
    here: '`DevicePolicy.thrashing` and `.residency` (sdk/policy/thrashing.ts): blocks that change sides too often are pinned or their faults put off, a page stays so many ticks where it came to; `Movements` remembers, in ticks of the machine',
    tests: [
      'test/gmem/thrashing.test.ts > two devices that write one page in turn > move it a few times when it is pinned: in the memory of one of them over a coherent link',
      'test/gmem/thrashing.test.ts > two devices that write one page in turn > move it a few times when it is pinned: on the host, where there is no coherent link',
      'test/gmem/thrashing.test.ts > a device that works on a page while another one wants it > keeps it longer when faults are put off, or while it resides there; all accesses end',
      'test/gmem/thrashing.test.ts > an access alone is put off so many times, and then served',
    ],
    canary: { file: 'sdk/mm/movements.ts', find: 'if (block.side === to) continue;', replace: 'continue;' },
  },
  {
    id: 'D8',
    title: 'Remote-machine node id, a network peer',
    here: 'A network peer is a device: its memory is a node, reached over a link that is not coherent, by its own `copy.peer`, `toDevice` and `toHost` with late tickets (the driver in test/gmem/network.test.ts)',
    tests: [
      'test/gmem/network.test.ts > a node of another machine > hands pages to a local device, and gets them, in one trip over the wire',
      'test/gmem/network.test.ts > a node of another machine > makes who touches its page wait for the messages; a call that cannot wait is told so',
      'test/gmem/network.test.ts > a node of another machine > is never used remotely: nothing but messages crosses the wire',
      'test/gmem/network.test.ts > a node of another machine > keeps its page when the wire is cut on the way',
    ],
    canary: {
      file: 'sdk/gmem/device.ts',
      find: 'return this.mover(space)?.mmu.copy?.peer !== undefined;',
      replace: 'return false;',
    },
  },
];
