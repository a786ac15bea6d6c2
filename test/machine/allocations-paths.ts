/** What a batch path asks the heap for, for each of its pages: the machine that it is measured in, and the measurement. */
import { type AddressRange, type AddressSpace, createMachineSync, type Machine } from 'farfault';
import dmirror from 'farfault/drivers/dmirror';
import integrated from 'farfault/drivers/integrated';
import iommu from 'farfault/drivers/iommu';
import kvm from 'farfault/drivers/kvm';
import mirror from 'farfault/drivers/mirror';
import npu from 'farfault/drivers/npu';
import nouveau from 'farfault/drivers/nouveau';
import rdma from 'farfault/drivers/rdma';
import { type Context, defineDriver, type Driver, MiB, permits, Translations } from 'farfault/gmem';
import { describe, expect, test } from 'vitest';
import { Allocations, arrayBytes } from './allocations.ts';
import { PAGE } from './probe.ts';

const FEW = 1024;
const MANY = 8192;
/** Times that it is done before it is looked at, and in each look: there and back again. */
const TIMES = 2;
/** Looks at one machine, and machines that are looked at again, before a path is found to ask for too much. */
const LOOKS = 4;
const AGAIN_MAX = 4;
/** On a busy machine. */
const TIMEOUT_MS = 120_000;
/** Bytes of heap and of arrays for a page, unless a path says otherwise. */
export const HEAP_MAX = 4;
export const ARRAYS_MAX = 0.1;

export const plain = defineDriver(({ pages = 1, name = 'plain' }: { pages?: number; name?: string }) => ({
  name,
  memory: [{ name: 'ram', kind: 'private' as const, bytes: pages * PAGE }],
  attach: () => ({}),
}));

const coherent = defineDriver(({ pages = 1 }: { pages?: number }) => ({
  name: 'coherent',
  memory: [{ name: 'ram', kind: 'coherent' as const, bytes: pages * PAGE }],
  attach: () => ({}),
}));

const coupled = defineDriver(({ pages = 1 }: { pages?: number }) => ({
  name: 'coupled',
  memory: [{ name: 'ram', kind: 'private' as const, bytes: pages * PAGE }],
  granuleBytes: 2 * MiB,
  attach() {
    const table = new Translations();
    return {
      pmap: table,
      walk: {
        translate(vpn, access) {
          const entry = table.get(vpn);
          return permits(entry, access) ? entry : undefined;
        },
      },
      peer: {
        map(batch) {
          for (let i = 0; i < batch.count; i++) {
            const item = batch.item(i);
            batch.copies(item).perform();
            table.enter(batch.mappings(item));
            batch.answer(item, 'success');
          }
        },
        unmap(batch) {
          for (let i = 0; i < batch.count; i++) {
            const item = batch.item(i);
            table.deleteRange(item.vpn, item.pages);
            batch.copies(item).perform();
            batch.answer(item, 'success');
          }
        },
      },
    };
  },
}));

const ONES = new Uint8Array(2 * MANY * PAGE).fill(1);

/** A device whose memory the machine hands out and whose bytes the core copies; one that does both by itself; two that bring and take pages in one go, the second of which has them handed out by a system of its own; one whose memory the CPU reaches; four that use the host's. */
const DRIVERS = {
  plain: (pages: number) => plain({ pages }),
  nouveau: (pages: number) => nouveau({ vram: pages * PAGE }),
  coherent: (pages: number) => coherent({ pages }),
  coupled: (pages: number) => coupled({ pages }),
  npu: (pages: number) => npu({ vram: pages * PAGE }),
  mirror: () => mirror({}),
  integrated: () => integrated({}),
  'own table': () => mirror({ ownTable: true }),
  dmirror: (pages: number) => dmirror({ chunkBytes: pages * PAGE }),
  kvm: () => kvm({}),
  rdma: () => rdma({}),
  iommu: () => iommu({}),
} as const satisfies Record<string, (pages: number) => Driver>;

/** A space with as many pages, and a device whose memory has room for them. */
export interface World {
  readonly machine: Machine;
  readonly space: AddressSpace;
  context: Context;
  /** Of `pages` pages, which have bytes. */
  readonly range: AddressRange;
  readonly pages: number;
  /** Of as many bytes as the range has: to be read into, and written. */
  readonly bytes: Uint8Array;
}

export interface Path {
  readonly name: string;
  readonly drivers?: readonly (keyof typeof DRIVERS)[];
  /** Makes ready; returns what is done again and again. */
  readonly of: (world: World) => () => void;
  /** Pages of the smaller measurement. Default 1024; more where a step of its own has lists for what one call into the core takes, 8192 pages. */
  readonly few?: number;
  /** Bytes of a page in the array that is returned. */
  readonly answer?: number;
  /** Below how many bytes of heap for a page: an element of an array takes 8, a number that is not small 12. Default 4: V8 compiles when it likes, and that is seen as well. */
  readonly heap?: number;
}

/** Of what a device takes part in. */
export const BOTH = ['plain', 'nouveau'] as const;

/** Calls a verb for as many pages as one call takes. */
const PART = 4096;
export function eachPart({ range, pages }: World, call: (vpn: number, pages: number) => void): void {
  for (let page = 0; page < pages; page += PART) call(range.start / PAGE + page, Math.min(PART, pages - page));
}

export function onDevice({ context, range, pages }: World): void {
  expect(context.migrate(range, { to: 'device' })).toBe(pages);
}

export function another({ space, bytes }: World): AddressRange {
  const range = space.mmap({ bytes: bytes.length });
  space.write(range.start, bytes);
  return range;
}

/** Bytes that are asked for while it is done once. */
export interface Asked {
  readonly heap: number;
  readonly arrays: number;
  readonly most: string;
}

/**
 * The least of the heap and the most of arrays in a few looks, the last of which is the first that is `enough`. V8 compiles when it likes, and
 * that is seen as well, later on a busy machine; what a path makes for each page is seen in every look.
 */
async function asked(driver: Driver, pages: number, { of }: Path, enough: (heap: number) => boolean): Promise<Asked> {
  const machine = createMachineSync({ dram: 4 * pages * PAGE, tablePages: 1024 });
  const space = machine.createAddressSpace();
  const context = space.attach(machine.addDevice(driver));
  const range = space.mmap({ bytes: pages * PAGE });
  const bytes = ONES.subarray(0, pages * PAGE);
  space.write(range.start, bytes);
  const work = of({ machine, space, context, range, pages, bytes });
  for (let i = 0; i < TIMES; i++) work();
  let [heap, most] = [Infinity, ''];
  for (let look = 0; look < LOOKS && !enough(heap); look++) {
    const allocations = new Allocations();
    allocations.begin();
    for (let i = 0; i < TIMES; i++) work();
    const now = (await allocations.end()) / TIMES;
    if (now < heap) [heap, most] = [now, allocations.most];
  }
  // Last, and with collections: V8 would forget what it has seen of the path, and compile again.
  const arrays = Math.max(arrayBytes(work), arrayBytes(work));
  expect(machine.verify()).toBeUndefined();
  machine.close();
  return { heap, arrays, most };
}

/** What one more page asks for. Where all that many pages ask for is little enough for them alone, few need not be measured. */
export async function forEachPage(path: Path, name: keyof typeof DRIVERS): Promise<Asked> {
  const driver = DRIVERS[name];
  const least = path.few ?? FEW;
  const pages = 2 * Math.max(least, MANY / 2);
  const most = (path.heap ?? HEAP_MAX) * (pages - least);
  let many = await asked(driver(pages), pages, path, (heap) => heap < most);
  let few: Asked = { heap: 0, arrays: least * (path.answer ?? 0), most: '' };
  const much = many.heap >= most;
  if (much || many.arrays > pages * (path.answer ?? 0)) few = await asked(driver(least), least, path, () => !much);
  for (let again = 0; again < AGAIN_MAX && many.heap - few.heap >= most; again++)
    many = await asked(driver(pages), pages, path, (heap) => heap - few.heap < most);
  return {
    heap: (many.heap - few.heap) / (pages - least),
    arrays: (many.arrays - few.arrays) / (pages - least) - (path.answer ?? 0),
    most: `${few.heap} and ${few.arrays} for ${least}, ${many.heap} and ${many.arrays} for ${pages}: ${many.most}`,
  };
}

/** Each path, with each of its drivers. */
export function hold(paths: readonly Path[]): void {
  describe.each(paths)('$name', (path) => {
    test.each(path.drivers ?? (['plain'] as const))('asks for as much whatever the pages (%s)', { timeout: TIMEOUT_MS }, async (name) => {
      const page = await forEachPage(path, name);
      expect(page.heap, `bytes of heap for a page, of heap and arrays ${page.most}`).toBeLessThan(path.heap ?? HEAP_MAX);
      expect(page.arrays, `bytes of arrays for a page, of heap and arrays ${page.most}`).toBeLessThan(ARRAYS_MAX);
    });
  });
}
