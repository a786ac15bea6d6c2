/** What a batch path asks the heap for, for each of its pages: the machine that it is measured in, and the measurement. */
import { type AddressRange, type AddressSpace, createMachineSync, type Machine } from 'farfault';
import kvm from 'farfault/drivers/kvm';
import mirror from 'farfault/drivers/mirror';
import nouveau from 'farfault/drivers/nouveau';
import rdma from 'farfault/drivers/rdma';
import { type Context, defineDriver, type Driver } from 'farfault/gmem';
import { describe, expect, test } from 'vitest';
import { Allocations, arrayBytes } from './allocations.ts';
import { PAGE } from './probe.ts';

const FEW = 1024;
const MANY = 16384;
/** Times that it is done, and looked at. */
const TIMES = 3;
const LOOKS = 2;
/** Measurements that are made again before a path is found to ask for too much. */
const AGAIN_MAX = 4;

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

/** A device whose memory the machine hands out and whose bytes the core copies; one that does both by itself; one whose memory the CPU reaches; three that use the host's. */
const DRIVERS = {
  plain: (pages: number) => plain({ pages }),
  nouveau: (pages: number) => nouveau({ vram: pages * PAGE }),
  coherent: (pages: number) => coherent({ pages }),
  mirror: () => mirror({}),
  kvm: () => kvm({}),
  rdma: () => rdma({}),
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

interface Asked {
  readonly heap: number;
  readonly arrays: number;
  readonly most: string;
}

/** What is asked for while it is done once with so many pages. */
async function asked(driver: Driver, pages: number, { of }: Path): Promise<Asked> {
  const machine = createMachineSync({ dram: 4 * pages * PAGE, tablePages: 1024 });
  const space = machine.createAddressSpace();
  const context = space.attach(machine.addDevice(driver));
  const range = space.mmap({ bytes: pages * PAGE });
  const bytes = new Uint8Array(pages * PAGE).fill(1);
  space.write(range.start, bytes);
  const work = of({ machine, space, context, range, pages, bytes });
  for (let i = 0; i < 3; i++) work();
  const arrays = arrayBytes(work);
  // V8 compiles when it likes, and that is seen as well.
  let [heap, most] = [Infinity, ''];
  for (let look = 0; look < LOOKS; look++) {
    const allocations = new Allocations();
    allocations.begin();
    for (let i = 0; i < TIMES; i++) work();
    const now = (await allocations.end()) / TIMES;
    if (now < heap) [heap, most] = [now, allocations.most];
  }
  expect(machine.verify()).toBeUndefined();
  machine.close();
  return { heap, arrays, most };
}

/** Each path, with each of its drivers. */
export function hold(paths: readonly Path[]): void {
  describe.each(paths)('$name', (path) => {
    test.each(path.drivers ?? (['plain'] as const))('asks for as much whatever the pages (%s)', async (name) => {
      const driver = DRIVERS[name];
      await asked(driver(MANY), MANY, path);
      const least = path.few ?? FEW;
      const few = await asked(driver(least), least, path);
      const further = MANY - least;
      const most = path.heap ?? 4;
      // On a busy machine it compiles late: what is asked for in the meantime is not asked for again, what the path makes for each page is.
      let many = await asked(driver(MANY), MANY, path);
      for (let again = 0; again < AGAIN_MAX && (many.heap - few.heap) / further >= most; again++)
        many = await asked(driver(MANY), MANY, path);
      expect(
        (many.heap - few.heap) / further,
        `bytes of heap for a page: ${few.heap} for ${least}, ${many.heap} for ${MANY}: ${many.most}`,
      ).toBeLessThan(most);
      const arrays = (many.arrays - few.arrays) / further - (path.answer ?? 0);
      expect(arrays, `bytes of arrays for a page: ${few.arrays} for ${least}, ${many.arrays} for ${MANY}`).toBeLessThan(0.1);
    });
  });
}
