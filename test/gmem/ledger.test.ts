import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type AddressSpace, type Context, isFarfaultError, type Machine } from 'farfault';
import { VaSpace } from 'farfault/gmem';
import { HMM_VALID } from 'farfault/mm';
import { expectClean, PAGE, Probe, smallMachine } from '../machine/probe.ts';
import { Ledger } from './ledger.ts';

let machine: Machine;
let space: AddressSpace;
let gpu: Context;

beforeEach(() => {
  machine = smallMachine();
  space = machine.createAddressSpace();
  gpu = space.attach(machine.addDevice(new Probe({ name: 'gpu' }).driver));
});

afterEach(() => {
  expectClean(machine);
  machine.close();
});

const said = (operation: () => unknown): string => {
  try {
    operation();
    return 'nothing';
  } catch (error) {
    if (isFarfaultError(error)) return error.message;
    throw error;
  }
};

describe('the ledger', () => {
  test('is even when everything has come back, and names each page, mapping and DMA page that has not', () => {
    const ledger = new Ledger(machine);
    const range = space.mmap({ at: 0x1000_0000, bytes: 2 * PAGE, fixed: true });
    gpu.write(range.start, Uint8Array.of(1));
    space.write(range.start + PAGE, Uint8Array.of(1));
    const pin = space.pin({ start: range.start + PAGE, end: range.end }, { write: true });
    const map = gpu.hmm.dmaMap(2);
    const words = new Uint32Array(4);
    machine.platform.scheduler.runSync(
      gpu.hmm.rangeFault({ vpn: range.start / PAGE + 1, pages: 1, request: HMM_VALID }, (found) => words.set(found.subarray(0, 2))),
    );
    map.map(words, 0);
    expect(ledger.open()).toEqual([
      'dram: page 0, mapped once',
      'gpu.ram: page 0, mapped once',
      'space 0: mapping 0x10000000, 2 pages',
      'gpu: mapped for DMA',
    ]);
    space.munmap(range);
    // A pin keeps its page, a map its address.
    expect(ledger.open()).toEqual(['dram: page 0, held by one reference', 'gpu: mapped for DMA']);
    pin.unpin();
    map.free();
    expect(ledger.open()).toEqual([]);
  });

  test('a frame that a driver took and forgot is named; one that it gives twice is refused by name', () => {
    const ledger = new Ledger(machine);
    const frame = gpu.hmm.hostFrame();
    expect(ledger.open()).toEqual(['dram: page 0, held by one reference']);
    gpu.hmm.putFrame(frame);
    expect(ledger.open()).toEqual([]);
    expect(said(() => gpu.hmm.putFrame(frame))).toBe(`putFrame.frame ${frame} is not a frame to which there is a reference`);
  });

  test('a pin ends once, addresses and a DMA page come back once: the second time is refused by name, or does nothing', () => {
    const range = space.mmap({ bytes: PAGE });
    const pin = space.pin(range, { write: true });
    pin.unpin();
    expect(said(() => pin.unpin())).toMatch(/^pin\.unpin|^unpin/);
    const addresses = new VaSpace({ start: 0, end: 16 * PAGE });
    const region = addresses.alloc({ bytes: PAGE })!;
    addresses.free(region);
    expect(said(() => addresses.free(region))).not.toBe('nothing');
    space.munmap(range);
  });
});
