/** The test device's own table, and the bytes of its snapshots, without a machine. */
import { describe, expect, test } from 'vitest';
import { HMM_ERROR, HMM_VALID, HMM_WRITE, type FrameDescription, Ranges } from 'farfault/gmem';
import { snapshotByte } from '../../drivers/dmirror/snapshot.ts';
import { MirrorTable, TAG_ATOMIC, TAG_READ, TAG_WRITE } from '../../drivers/dmirror/table.ts';

const ranges = (...parts: [number, number][]): Ranges => {
  const list = new Ranges();
  for (const [vpn, pages] of parts) list.add(vpn, pages);
  return list;
};

describe('the table of a mirror', () => {
  test('a write needs the write tag: that of an exclusive page is another', () => {
    const table = new MirrorTable();
    table.set(1, 10, TAG_READ);
    table.set(2, 20, TAG_ATOMIC);
    table.set(3, 0, TAG_WRITE);
    expect([0, 1, 2, 3].map((vpn) => table.find(vpn, 'read'))).toEqual([-1, 10, 20, 0]);
    expect([0, 1, 2, 3].map((vpn) => table.find(vpn, 'write'))).toEqual([-1, -1, -1, 0]);
    expect([table.hasTag(0, 2, TAG_ATOMIC), table.hasTag(0, 3, TAG_ATOMIC)]).toEqual([false, true]);
  });

  test('loses exactly the pages of a release, over leaves and in the middle of one', () => {
    const table = new MirrorTable();
    const pages = Array.from({ length: 2000 }, (_, i) => i + 300);
    for (const vpn of pages) table.set(vpn, vpn, TAG_READ);
    table.release(ranges([400, 1], [700, 1000]));
    expect(pages.filter((vpn) => table.find(vpn, 'read') < 0)).toEqual([400, ...Array.from({ length: 1000 }, (_, i) => 700 + i)]);
    table.release(ranges([0, 2 ** 36]));
    expect(pages.every((vpn) => table.find(vpn, 'read') < 0)).toBe(true);
  });
});

describe('the byte of a page', () => {
  const at =
    (owner: FrameDescription['owner'], kind: FrameDescription['kind'], zero = false) =>
    (): FrameDescription => ({
      owner,
      kind,
      zero,
      memory: undefined,
    });
  const order = (n: number): number => n * 2 ** 21;
  test.each([
    ['never', HMM_ERROR, at('host', 'host'), 0xff],
    ['nothing now', 0, at('host', 'host'), 0],
    ['the page of zeros', HMM_VALID, at('host', 'host', true), 0x11],
    ['read', HMM_VALID, at('host', 'host'), 0x01],
    ['write', HMM_VALID + HMM_WRITE, at('host', 'host'), 0x02],
    ['2 MiB', HMM_VALID + HMM_WRITE + order(9), at('host', 'host'), 0x06],
    ['1 GiB', HMM_VALID + order(18), at('host', 'host'), 0x09],
    ['private here', HMM_VALID + HMM_WRITE + order(9), at('own', 'private'), 0x26],
    ['private elsewhere', HMM_VALID, at('foreign', 'private'), 0x31],
    ['coherent here', HMM_VALID + HMM_WRITE, at('own', 'coherent'), 0x42],
    ['coherent elsewhere', HMM_VALID, at('foreign', 'coherent'), 0x51],
  ])('%s', (_what, high, describeFrame, byte) => {
    expect(snapshotByte(high, 0, { describe: describeFrame })).toBe(byte);
  });
});
