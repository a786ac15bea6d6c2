import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as L from '../../assembly/layout.ts';
import { flavours } from './harness.ts';
import { NOTHING, SmallCore } from './small-core.ts';

const ORDERS = 11;

/** One node as an array of what each of its frames is. */
class NodeModel {
  readonly used: boolean[];

  constructor(frames: number) {
    this.used = Array.from({ length: frames }, () => false);
  }

  isFree(first: number, order: number): boolean {
    const block = this.used.slice(first, first + 2 ** order);
    return block.length === 2 ** order && block.every((used) => !used);
  }

  /** Whether some aligned block of this order is free. */
  has(order: number): boolean {
    for (let first = 0; first < this.used.length; first += 2 ** order) if (this.isFree(first, order)) return true;
    return false;
  }

  mark(first: number, order: number, used: boolean): void {
    this.used.fill(used, first, first + 2 ** order);
  }

  /** Number of free blocks of each order, once buddies are merged. */
  blocks(): number[] {
    const counts = Array.from({ length: L.ORDER_MAX + 1 }, () => 0);
    for (let first = 0; first < this.used.length;) {
      let order = L.ORDER_MAX;
      while (order > 0 && (first % 2 ** order !== 0 || !this.isFree(first, order))) order--;
      if (!this.used[first]) counts[order]!++;
      first += this.used[first] ? 1 : 2 ** order;
    }
    return counts;
  }
}

type Step = { readonly node: number; readonly order: number } | { readonly give: number };

const sizes = fc.array(fc.oneof(fc.integer({ min: 1, max: 70 }), fc.constantFrom(512, 1000, 1024, 2049, 3000)), {
  minLength: 1,
  maxLength: 3,
});
const takes = fc.record({
  node: fc.nat(2),
  order: fc.oneof({ weight: 3, arbitrary: fc.nat(3) }, { weight: 1, arbitrary: fc.nat(ORDERS - 1) }),
});
const gives = fc.record({ give: fc.nat(1000) });
const steps: fc.Arbitrary<Step[]> = fc.array(fc.oneof({ weight: 3, arbitrary: takes }, { weight: 2, arbitrary: gives }), { maxLength: 80 });

const make = (flavour: (typeof flavours)[number], frames: readonly number[]): SmallCore =>
  new SmallCore(flavour, { nodes: frames.map((n) => ({ kind: L.NODE_IS_HOST, frames: n, backed: false })) });

const counts = (small: SmallCore, node: number): number[] => small.list(small.nodeRecord(node) + L.NODE_COUNTS, L.ORDER_MAX + 1);

describe.each(flavours)('%s', (flavour) => {
  test('blocks never overlap, are aligned within their node, are refused only when there is none, and merge again', () => {
    fc.assert(
      fc.property(sizes, steps, (frames, sequence) => {
        const small = make(flavour, frames);
        const models = frames.map((n) => new NodeModel(n));
        const held: { node: number; first: number; order: number }[] = [];
        const peaks = frames.map(() => 0);
        const check = (): void => {
          models.forEach((model, i) => {
            const used = model.used.filter(Boolean).length;
            peaks[i] = Math.max(peaks[i]!, used);
            expect(small.node(i + 1, L.NODE_USED), 'used').toBe(used);
            expect(small.node(i + 1, L.NODE_FREE), 'free').toBe(model.used.length - used);
            expect(small.node(i + 1, L.NODE_USED_PEAK), 'peak').toBe(peaks[i]);
            expect(counts(small, i + 1), 'free blocks by order').toEqual(model.blocks());
          });
          expect(small.core.verify(0)).toBe(0);
        };
        const give = (at: number): void => {
          const [block] = held.splice(at, 1);
          const { node, first, order } = block!;
          small.core.framePut(small.base[node + 1]! + first);
          models[node]!.mark(first, order, false);
        };
        check();
        for (const step of sequence) {
          if ('give' in step) {
            if (held.length > 0) give(step.give % held.length);
          } else {
            const node = step.node % frames.length;
            const { order } = step;
            const model = models[node]!;
            const frame = small.core.frameTake(node + 1, order) >>> 0;
            if (!model.has(order)) expect(frame).toBe(NOTHING);
            else {
              const first = frame - small.base[node + 1]!;
              expect(first % 2 ** order, 'alignment').toBe(0);
              expect(model.isFree(first, order), `block ${first} of order ${order} is free`).toBe(true);
              model.mark(first, order, true);
              held.push({ node, first, order });
            }
          }
          check();
        }
        while (held.length > 0) give(held.length >> 1);
        check();
        // As on the first day: the same first addresses.
        const fresh = make(flavour, frames);
        frames.forEach((_, i) => {
          const order = (i + sequence.length) % ORDERS;
          expect(small.core.frameTake(i + 1, order)).toBe(fresh.core.frameTake(i + 1, order));
        });
      }),
      { numRuns: 60 },
    );
  });

  test('a new node of 2^k frames hands its frames out from the lowest on', () => {
    const small = make(flavour, [64]);
    const taken = Array.from({ length: 65 }, () => small.core.frameTake(1, 0) >>> 0);
    expect(taken).toEqual([...Array.from({ length: 64 }, (_, i) => small.base[1]! + i), NOTHING]);
  });

  test('a block comes from the smallest that holds it, and of that the low half', () => {
    const small = make(flavour, [64 + 8 + 1]);
    const base = small.base[1]!;
    expect([0, 0, 0, 2, 3].map((order) => small.core.frameTake(1, order) - base)).toEqual([72, 64, 65, 68, 0]);
  });

  test('an order above every block is refused and nothing changes', () => {
    const small = make(flavour, [1023]);
    const before = counts(small, 1);
    for (const order of [10, 11, L.ORDER_MAX]) expect(small.core.frameTake(1, order) >>> 0).toBe(NOTHING);
    expect(counts(small, 1)).toEqual(before);
    expect(small.node(1, L.NODE_FREE)).toBe(1023);
  });

  test('a node that has a frame in use is not destroyed; one that has none can be made again', () => {
    const small = make(flavour, [20, 9]);
    const frame = small.core.frameTake(1, 2);
    expect(small.core.nodeDestroy(1)).toBe(4);
    expect(small.node(1, L.NODE_USED)).toBe(4);
    small.core.framePut(frame);
    expect(small.core.nodeDestroy(1)).toBe(0);
    expect(small.node(1, L.NODE_KIND)).toBe(0);
    const record = small.frameRecord(small.base[1]!);
    expect(small.list(record, (20 * L.FRAME_BYTES) / 4).every((word) => word === 0)).toBe(true);
    small.core.nodeCreate(1, small.base[1]!, 16, L.NODE_IS_TIER, L.BYTES_METADATA, L.ALLOC_CORE, 0, 0, L.PAGE_SHIFT);
    expect(small.core.frameTake(1, 4)).toBe(small.base[1]!);
    expect(small.core.verify(0)).toBe(0);
  });

  test('a new node writes only the first records of its free blocks, and knows its frames all the same', () => {
    const frames = 2 ** L.ORDER_MAX + 2 ** 9 + 3;
    const small = make(flavour, [7, frames]);
    const base = small.base[2]!;
    const written = (): number[] => {
      const words = small.u32.subarray(small.frameRecord(base) >>> 2, small.frameRecord(base + frames) >>> 2);
      const found = new Set<number>();
      words.forEach((word, i) => void (word !== 0 && found.add(Math.floor((i * 4) / L.FRAME_BYTES))));
      return [...found];
    };
    const blocks = [0, 2 ** L.ORDER_MAX, 2 ** L.ORDER_MAX + 2 ** 9, frames - 1];
    expect(written()).toEqual(blocks);
    // One page: the lower halves are split on and on, each upper half is one more record.
    const frame = small.core.frameTake(2, 0);
    expect(written().length).toBeLessThanOrEqual(blocks.length + L.ORDER_MAX + 1);
    expect(small.frame(frame, L.FRAME_FLAGS) & L.FRAME_NODE).toBe(2 << L.FRAME_NODE_SHIFT);
    small.core.framePut(frame);
    expect(small.core.verify(1)).toBe(0);
    expect(small.core.nodeDestroy(2)).toBe(0);
    expect(written()).toEqual([]);
  });

  test('a frame that its driver claims for the first time is of the node that it lies in', () => {
    const nodes = [5, 6, 7].map((n) => ({ kind: L.NODE_IS_PRIVATE, frames: n, alloc: L.ALLOC_DRIVER, owner: 1, backed: false }));
    const small = new SmallCore(flavour, { nodes });
    for (const node of [3, 1, 2]) {
      const frame = small.base[node]! + 4;
      expect(small.core.frameClaim(frame, 0)).toBe(1);
      expect(small.frame(frame, L.FRAME_FLAGS) & L.FRAME_NODE).toBe(node << L.FRAME_NODE_SHIFT);
      expect(small.node(node, L.NODE_USED)).toBe(1);
    }
  });
});
