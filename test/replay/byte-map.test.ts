/** The map of bytes that every load of a replay is compared with: it has to be right, and it has to notice. */
import { describe, expect, test } from 'vitest';
import * as L from '../../assembly/layout.ts';
import { ByteMap } from '../../sdk/replay/byte-map.ts';
import { fill, observe } from '../../sdk/testing/model/value.ts';
import { random } from '../model/random.ts';

interface Access {
  readonly addr: number;
  readonly bytes: number;
  readonly write: boolean;
  readonly value: { readonly lo: number; readonly hi: number };
}

/** Packed accesses and their values, as the core lays them out. */
function packed(accesses: readonly Access[]): [Uint32Array, Uint32Array] {
  const words = new Uint32Array(accesses.length * 2);
  const values = new Uint32Array(accesses.length * 2);
  accesses.forEach(({ addr, bytes, write, value }, i) => {
    words[i * 2] = addr;
    words[i * 2 + 1] = (addr / 2 ** 32) | ((bytes - 1) << L.ACCESS_LENGTH_SHIFT) | (write ? L.ACCESS_WRITE : 0);
    values[i * 2] = value.lo;
    values[i * 2 + 1] = value.hi;
  });
  return [words, values];
}

/** Of pairs of words those at these places, in this order. */
function gathered(pairs: Uint32Array, order: readonly number[]): Uint32Array {
  return Uint32Array.from(order.flatMap((at) => [pairs[2 * at]!, pairs[2 * at + 1]!]));
}

/** Random accesses with the values that a plain map gives; the addresses are few, far apart, and often over a page boundary. */
function accesses(count: number, seed: number): Access[] {
  const next = random(seed);
  const plain = new Map<number, number>();
  const bases = [0x1000, 0x1fff_0000_0000, 0xffff_ffff_0000, 2 ** 32 - 4096, 2 ** 33];
  return Array.from({ length: count }, () => {
    const bytes = next(4) === 0 ? 1 + next(64) : [1, 2, 4, 8][next(4)]!;
    const addr = bases[next(bases.length)]! + 4096 - 32 + next(64);
    const write = next(2) === 0;
    const data = new Uint8Array(bytes);
    if (write) {
      const value = { lo: next(2 ** 31), hi: next(2 ** 31) };
      fill(data, bytes, value);
      data.forEach((byte, i) => plain.set(addr + i, byte));
      return { addr, bytes, write, value };
    }
    for (let i = 0; i < bytes; i++) data[i] = plain.get(addr + i) ?? 0;
    return { addr, bytes, write, value: observe(data, bytes) };
  });
}

describe('the map of bytes', () => {
  test('agrees with a plain one, whatever the lengths and the boundaries', async () => {
    for (let seed = 1; seed <= 8; seed++) {
      const list = accesses(4000, seed);
      const [words, values] = packed(list);
      const loads = (await ByteMap.create()).repeat(words, values, undefined, list.length, 0);
      expect(loads, `seed ${seed}`).toBe(list.filter(({ write }) => !write).length);
    }
  });

  // Not all of them: a browser keeps only so many memories.
  test('notices a load that observes one other bit, wherever it is', async () => {
    const list = accesses(60, 99);
    const [words, values] = packed(list);
    for (const [i, { write }] of list.entries()) {
      if (write) continue;
      values[i * 2]! ^= 1;
      const bytes = await ByteMap.create();
      expect(() => bytes.repeat(words, values, undefined, list.length, 1000)).toThrow(`access ${1000 + i} reads`);
      values[i * 2]! ^= 1;
    }
  });

  test('compares all 64 bits of what a load observes, whatever its length, in a page that was written and in one that was not', async () => {
    const bytes = await ByteMap.create();
    const value = { lo: 0x89abcdef, hi: 0x01234567 };
    bytes.repeat(...packed([{ addr: 0x2000, bytes: 64, write: true, value }]), undefined, 1, 0);
    const data = new Uint8Array(64);
    fill(data, 64, value);
    for (const length of [1, 2, 3, 4, 5, 6, 7, 8, 9, 40]) {
      for (const [addr, from] of [
        [0x2008, data.subarray(8)],
        [0x5008, new Uint8Array(64)],
      ] as const) {
        const [words, values] = packed([{ addr, bytes: length, write: false, value: observe(from, length) }]);
        expect(bytes.repeat(words, values, undefined, 1, 0), `${length} bytes`).toBe(1);
        for (let bit = 0; bit < 64; bit++) {
          values[bit >> 5]! ^= 1 << (bit & 31);
          expect(() => bytes.repeat(words, values, undefined, 1, 0), `${length} bytes, bit ${bit}`).toThrow(
            `access 0 reads ${length} byte`,
          );
          values[bit >> 5]! ^= 1 << (bit & 31);
        }
      }
    }
  });

  test('goes by the order of execution, not by that of the trace', async () => {
    const at = { addr: 0x5000, bytes: 8 };
    const [words, values] = packed([
      { ...at, write: true, value: { lo: 1, hi: 0 } },
      { ...at, write: true, value: { lo: 2, hi: 0 } },
      { ...at, write: false, value: { lo: 1, hi: 0 } },
    ]);
    const bytes = await ByteMap.create();
    const executed = (...order: number[]): number =>
      bytes.repeat(gathered(words, order), gathered(values, order), Uint32Array.from(order), 3, 0);
    expect(executed(1, 0, 2)).toBe(1);
    expect(() => executed(0, 1, 2)).toThrow(
      'access 2 reads 8 bytes at 0x5000 and observes 0x0000000000000001, but 0x0000000000000002 was written last: data was lost or is stale',
    );
  });

  test('grows with the pages that are written, keeping what it has', async () => {
    const bytes = await ByteMap.create();
    const list = (write: boolean): Access[] =>
      Array.from({ length: 5000 }, (_, page) => ({ addr: page * 4096 * 3 + 8, bytes: 8, write, value: { lo: page, hi: 7 } }));
    for (const write of [true, false]) {
      const [words, values] = packed(list(write));
      expect(bytes.repeat(words, values, undefined, 5000, 0)).toBe(write ? 0 : 5000);
    }
    expect(bytes.pages).toBe(5000);
  });

  test('takes more accesses than it is handed at a time, in any order, and names the one that differs', async () => {
    const count = 2 * L.BYTE_MAP_ACCESSES + 77;
    const list = accesses(count, 5);
    const [words, values] = packed(list);
    // Where each stands in its trace: as far from its turn as can be.
    const places = Uint32Array.from(list, (_, i) => (i * 4099) % count);
    expect(new Set(places).size).toBe(count);
    const loads = list.filter(({ write }) => !write).length;
    expect((await ByteMap.create()).repeat(words, values, undefined, count, 0)).toBe(loads);
    expect((await ByteMap.create()).repeat(words, values, places, count, 0)).toBe(loads);
    for (const from of [0, L.BYTE_MAP_ACCESSES - 1, 2 * L.BYTE_MAP_ACCESSES]) {
      const wrong = list.findIndex(({ write }, i) => i >= from && !write);
      values[2 * wrong]! ^= 4;
      const straight = await ByteMap.create();
      expect(() => straight.repeat(words, values, undefined, count, 500)).toThrow(`access ${500 + wrong} reads`);
      const ordered = await ByteMap.create();
      expect(() => ordered.repeat(words, values, places, count, 500)).toThrow(`access ${500 + places[wrong]!} reads`);
      values[2 * wrong]! ^= 4;
    }
  });

  test('is the same when it has read ahead, as much as it can and of pages that it does not have, and notices what it noticed', async () => {
    const count = L.BYTE_MAP_ACCESSES;
    const list = accesses(3 * count, 11);
    const all = Uint32Array.from({ length: count }, (_, i) => count - 1 - i);
    const bytes = await ByteMap.create();
    for (const from of [0, count, 2 * count]) {
      const some = list.slice(from, from + count);
      const [words, values] = packed(some);
      const { pages } = bytes;
      bytes.ahead(words, all, count);
      expect(bytes.pages).toBe(pages);
      if (from < 2 * count) expect(bytes.repeat(words, values, undefined, count, from)).toBe(some.filter(({ write }) => !write).length);
      else {
        const wrong = some.findIndex(({ write }) => !write);
        values[2 * wrong]! ^= 4;
        expect(() => bytes.repeat(words, values, undefined, count, from)).toThrow(`access ${from + wrong} reads`);
      }
    }
  });

  test('reads zeros from a page until it is written, a few accesses later', async () => {
    const page = { addr: 0x7000, bytes: 8 };
    const list: Access[] = [
      { ...page, write: false, value: { lo: 0, hi: 0 } },
      { ...page, write: true, value: { lo: 3, hi: 4 } },
      { ...page, write: false, value: { lo: 3, hi: 4 } },
      { addr: 0x9000, bytes: 4, write: false, value: { lo: 0, hi: 0 } },
    ];
    expect((await ByteMap.create()).repeat(...packed(list), undefined, 4, 0)).toBe(3);
    const bytes = await ByteMap.create();
    expect(() => bytes.repeat(...packed(list.slice().reverse()), undefined, 4, 0)).toThrow('access 1 reads 8 bytes at 0x7000');
  });

  test('wants a load of fewer than 8 bytes to observe zeros above them', async () => {
    const [words, values] = packed([{ addr: 0x1000, bytes: 4, write: false, value: { lo: 0, hi: 1 } }]);
    const bytes = await ByteMap.create();
    expect(() => bytes.repeat(words, values, undefined, 1, 0)).toThrow(
      'observes 0x0000000100000000, but 0x0000000000000000 was written last',
    );
  });
});
