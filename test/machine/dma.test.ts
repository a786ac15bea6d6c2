import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type AddressRange, type AddressSpace, type Context, isFarfaultError, type Machine } from 'farfault';
import { defineDriver, type DmaDevice, type DmaMap, type Driver, HMM_DMA_MAPPED, HMM_P2PDMA, HMM_P2PDMA_BUS } from 'farfault/gmem';
import { HMM_ERROR, HMM_VALID, HMM_WRITE } from 'farfault/mm';
import { expectClean, PAGE, smallMachine } from './probe.ts';

/** An adapter that maps pages for DMA, with or without memory that others reach. */
const adapter = defineDriver(
  ({ name = 'nic', dma, coherent = 0 }: { name?: string; dma?: Omit<DmaDevice, 'name' | 'owner'>; coherent?: number }): Driver => ({
    name,
    ...(dma ? { dma } : {}),
    memory: coherent > 0 ? [{ name: 'bar', kind: 'coherent', bytes: coherent * PAGE }] : [],
    attach: () => ({}),
  }),
);

let machine: Machine;
let space: AddressSpace;
let nic: Context;
let range: AddressRange;

function begin(dma?: Omit<DmaDevice, 'name' | 'owner'>): void {
  machine = smallMachine();
  space = machine.createAddressSpace();
  nic = space.attach(machine.addDevice(adapter(dma ? { dma } : {})));
  range = space.mmap({ bytes: 4 * PAGE });
  for (let i = 0; i < 4; i++) space.write(range.start + i * PAGE, Uint8Array.of(i + 1));
}

/** Words of a range fault that asks for every page with these bits. */
function fault(request: (page: number) => number, context = nic): Uint32Array {
  let words = new Uint32Array(0);
  const step = context.hmm.rangeFault({ vpn: range.start / PAGE, pages: 4, request }, (found, _vpn, pages) => {
    words = found.slice(0, pages * 2);
  });
  machine.platform.scheduler.runSync(step);
  expect(step.outcome).toBe('done');
  return words;
}

const read = (): number => HMM_VALID;
const write = (): number => HMM_VALID + HMM_WRITE;
const sticky = (words: Uint32Array, i: number): number => words[i * 2 + 1]! & (HMM_DMA_MAPPED | HMM_P2PDMA | HMM_P2PDMA_BUS);
/** What an operation throws, as a sentence with its code. */
function thrown(operation: () => unknown): string {
  try {
    operation();
  } catch (error) {
    if (isFarfaultError(error)) return `${error.code}: ${error.message}`;
    throw error;
  }
  return 'nothing';
}
const reached = (map: { translate(address: number): { frame: number; write: boolean } | undefined }, address: number): unknown =>
  map.translate(address);

afterEach(() => {
  expectClean(machine);
  machine.close();
});

describe('a map of addresses', () => {
  let map: DmaMap;
  beforeEach(() => {
    begin();
    map = nic.hmm.dmaMap(4);
  });

  test('has one range of I/O virtual addresses, one page a word, through which the device reaches the frames', () => {
    const words = fault(write);
    const addresses = [0, 1, 2, 3].map((i) => map.map(words, i));
    expect(addresses).toEqual([0, 1, 2, 3].map((i) => map.iova! + i * PAGE));
    expect(map.iova).toBeGreaterThan(0);
    for (const i of [0, 1, 2, 3]) {
      expect(reached(nic.device.iommu!, addresses[i]! + 5)).toEqual({ frame: words[i * 2], write: true });
      expect(sticky(words, i)).toBe(HMM_DMA_MAPPED);
    }
    map.free();
    expect([nic.device.iommu!.mapped, reached(nic.device.iommu!, addresses[0]!)]).toEqual([0, undefined]);
  });

  test('maps a page once: when its right grows, the address stays, since the sticky bit comes back in the answer', () => {
    space.mprotect(range, 'r');
    let words = fault(read);
    const before = map.map(words, 1);
    expect(reached(nic.device.iommu!, before)).toMatchObject({ write: false });
    space.mprotect(range, 'rw');
    const old = words;
    words = fault((page) => HMM_VALID + HMM_WRITE + sticky(old, page));
    expect([0, 1, 2].map((i) => sticky(words, i))).toEqual([0, HMM_DMA_MAPPED, 0]);
    expect(map.map(words, 1)).toBe(before);
    expect(reached(nic.device.iommu!, before)).toMatchObject({ write: true });
    expect(nic.device.iommu!.mapped).toBe(1);
  });

  test('keeps the bits of words that are not VALID, and of those that are ERROR', () => {
    space.munmap({ start: range.start + 3 * PAGE, end: range.end });
    const words = fault((page) => (page >= 2 ? HMM_DMA_MAPPED : HMM_VALID));
    expect(words[2 * 3 + 1]! >>> 0).toBe((HMM_ERROR | HMM_DMA_MAPPED) >>> 0);
    expect(sticky(words, 2)).toBe(HMM_DMA_MAPPED);
  });

  test('unmaps what is VALID and mapped, once', () => {
    const words = fault(read);
    const address = map.map(words, 2);
    expect([map.unmap(words, 1), map.unmap(words, 2), map.unmap(words, 2)]).toEqual([false, true, false]);
    expect([sticky(words, 2), reached(nic.device.iommu!, address)]).toEqual([0, undefined]);
    words[5] = HMM_DMA_MAPPED;
    expect(map.unmap(words, 2)).toBe(false);
  });

  test('refuses words that are not VALID and indices that it does not have, in a sentence', () => {
    const words = fault(read);
    expect(thrown(() => map.map(words, 4))).toBe('EINVAL: dma.map index 4 is not one of the 4 words');
    // Not a word of the map, and words that end before.
    for (const i of [-1, 0.5]) expect(thrown(() => map.map(words, i))).toMatch(`EINVAL: dma.map index ${i} is not`);
    expect(thrown(() => map.map(words.slice(0, 6), 3))).toMatch('EINVAL: dma.map index 3 is not one of');
    expect(thrown(() => map.map(words.slice(0, 7), 3))).toMatch('EINVAL: dma.map index 3 is not one of');
    words[1] = 0;
    expect(thrown(() => map.map(words, 0))).toBe('EINVAL: dma.map word 0 is not VALID');
    expect(thrown(() => nic.hmm.dmaMap(0))).toBe('EINVAL: dma.entries 0 is not a count between 1 and 8192');
  });
});

test('a device that needs bounce buffers or synchronisation is refused', () => {
  begin({ needsSync: true });
  expect(thrown(() => nic.hmm.dmaMap(4))).toBe('EOPNOTSUPP: dma.device "nic" needs bounce buffers or synchronisation, which HMM cannot do');
});

test('without an IOMMU an address is the frame’s own', () => {
  begin({ iovaBits: 0 });
  const words = fault(read);
  const map = nic.hmm.dmaMap(4);
  expect([nic.device.iommu, map.iova, map.map(words, 3)]).toEqual([undefined, undefined, words[6]! * PAGE]);
  expect(map.unmap(words, 3)).toBe(true);
});

test('when no range is long enough each word takes an address of its own, until there is none', () => {
  // 2^14 bytes are four pages, of which page 0 is not handed out.
  begin({ iovaBits: 14 });
  const words = fault(read);
  const map = nic.hmm.dmaMap(4);
  expect(map.iova).toBe(undefined);
  expect([0, 1, 2].map((i) => map.map(words, i))).toEqual([PAGE, 2 * PAGE, 3 * PAGE]);
  expect(thrown(() => map.map(words, 3))).toBe('ENOMEM: dma.map index 3 needs an I/O virtual address, and there is none');
});

describe('pages in the memory of a peer', () => {
  /** Pages 0 and 1 are in the peer's coherent memory. */
  function withPeer(dma?: Omit<DmaDevice, 'name' | 'owner'>): Uint32Array {
    begin(dma);
    const peer = space.attach(machine.addDevice(adapter({ name: 'gpu', coherent: 8 })));
    expect(peer.migrate({ start: range.start, end: range.start + 2 * PAGE }, { to: 'device' })).toBe(2);
    return fault(read);
  }

  test('go through the host bridge, mapped', () => {
    const words = withPeer();
    const map = nic.hmm.dmaMap(4);
    expect(reached(nic.device.iommu!, map.map(words, 1))).toMatchObject({ frame: words[2] });
    expect([sticky(words, 1), map.unmap(words, 1)]).toEqual([HMM_DMA_MAPPED | HMM_P2PDMA, true]);
  });

  test('are reached by their bus address where both are behind one switch, and nothing is mapped', () => {
    const words = withPeer({ peer: () => 'bus' });
    const map = nic.hmm.dmaMap(4);
    const address = map.map(words, 1);
    expect(address % PAGE === 0 && address < 8 * PAGE).toBe(true);
    expect([sticky(words, 1), nic.device.iommu!.mapped, map.unmap(words, 1)]).toEqual([HMM_P2PDMA_BUS, 0, false]);
    map.map(words, 3);
    expect([sticky(words, 3), nic.device.iommu!.mapped]).toEqual([HMM_DMA_MAPPED, 1]);
  });

  test('are refused where there is no way', () => {
    const words = withPeer({ peer: () => 'none' });
    expect(thrown(() => nic.hmm.dmaMap(4).map(words, 0))).toMatch(/^EOPNOTSUPP: dma.map frame \d+ is in gpu.bar, which nic cannot reach$/);
  });
});

test('addresses are given back, of a range and of single words, and neighbours are one again', () => {
  // Seven pages, of eight.
  begin({ iovaBits: 15 });
  const words = fault(read);
  for (let round = 0; round < 100; round++) {
    const whole = nic.hmm.dmaMap(4);
    // No four in a row are left.
    const single = nic.hmm.dmaMap(4);
    expect([whole.iova, single.iova]).toEqual([PAGE, undefined]);
    for (let i = 0; i < 4; i++) whole.map(words.slice(), i);
    const mapped = words.slice();
    const at = [0, 1, 2].map((i) => single.map(mapped, i));
    expect(at).toEqual([5 * PAGE, 6 * PAGE, 7 * PAGE]);
    expect(single.unmap(mapped, 1)).toBe(true);
    expect(single.map(mapped, 3)).toBe(6 * PAGE);
    for (const map of round % 2 ? [whole, single] : [single, whole]) {
      map.free();
      map.free();
    }
    const all = nic.hmm.dmaMap(7);
    expect([all.iova, nic.device.iommu!.mapped]).toEqual([PAGE, 0]);
    all.free();
  }
});
