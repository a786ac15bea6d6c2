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
];
