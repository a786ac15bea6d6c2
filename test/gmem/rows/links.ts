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
];
