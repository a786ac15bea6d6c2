/** What nouveau makes of its fault buffer, beside the same said in one line: batch after batch, since lists and faults are used again. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Coalescer } from '../../drivers/nouveau/coalesce.ts';
import type { BatchFault, DeviceFaultRecord } from '../../sdk/gmem/index.ts';

/** Far above 32 bits, where the last bit of a double is not far. */
const VPN = 2 ** 36 - 16;

const record = fc
  .record({ page: fc.nat(12), write: fc.boolean(), lane: fc.nat(63), before: fc.boolean(), after: fc.boolean() })
  .map(({ page, write, lane, before, after }): DeviceFaultRecord => {
    const vpn = VPN + page;
    return { vpn, write, lane, spanStart: before ? vpn - 1 : vpn, spanPages: 1 + Number(before) + Number(after) };
  });

function naive(records: readonly DeviceFaultRecord[]): BatchFault[] {
  const pages = [...new Set(records.map(({ vpn }) => vpn))].sort((a, b) => a - b);
  return pages.map((vpn) => {
    const of = records.filter((each) => each.vpn === vpn);
    const spanStart = Math.min(...of.map((each) => each.spanStart));
    const spanEnd = Math.max(...of.map((each) => each.spanStart + each.spanPages));
    return { vpn, write: of.some(({ write }) => write), reads: of.some(({ write }) => !write), spanStart, spanPages: spanEnd - spanStart };
  });
}

/** With what a single record leaves unsaid. */
function whole({ vpn, write, reads = !write, spanStart, spanPages }: BatchFault): BatchFault {
  return { vpn, write, reads, spanStart, spanPages };
}

test('one fault a page, ascending: the strongest access, whether anybody reads, the union of the spans; the records stay as they were', () => {
  fc.assert(
    fc.property(fc.array(fc.array(record, { minLength: 1, maxLength: 40 }), { minLength: 1, maxLength: 6 }), (batches) => {
      const coalescer = new Coalescer();
      for (const records of batches) {
        const before = structuredClone(records);
        expect(coalescer.of(records).map(whole)).toEqual(naive(records));
        expect(records).toEqual(before);
      }
    }),
  );
});

test('a buffer of 8192 records, none of which is in order', () => {
  const records = Array.from({ length: 8192 }, (_, i): DeviceFaultRecord => {
    const vpn = VPN - ((i * 5) % 8192);
    return { vpn, write: i % 3 === 0, lane: i % 4096, spanStart: vpn, spanPages: 1 };
  });
  expect(new Coalescer().of(records).map(whole)).toEqual(naive(records));
});
