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
      file: 'sdk/gmem/serve.ts',
      find: "question.isReachable = state !== 'other' || this.isReachable(frame);",
      replace: "question.isReachable = state !== 'other';",
    },
  },
];
