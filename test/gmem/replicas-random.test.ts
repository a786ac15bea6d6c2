/** Programs of a CPU, two devices with memory and a mirror over pages that are mostly read, against a plain map of bytes: several operations at once, flushes and copies that end late. */
import { type AddressSpace, type Context, type Machine } from 'farfault';
import { expect, it } from 'vitest';
import { randomOf } from '../../sdk/testing/random.ts';
import { expectClean, PAGE, Probe, smallMachine } from '../machine/probe.ts';

const PAGES = 12;
const BASE = 0x1000_0000;
const ROUNDS = 60;

const at = (page: number): number => BASE + page * PAGE;
const part = (from: number, to: number): { start: number; end: number } => ({ start: at(from), end: at(to) });

class Program {
  readonly machine: Machine;
  private readonly random: (below: number) => number;
  private readonly probes: readonly Probe[];
  private readonly space: AddressSpace;
  private readonly contexts: Context[];
  /** What each page holds: its first byte, and whether it may be written. */
  private readonly bytes: number[] = new Array<number>(PAGES).fill(0);
  private readonly writable: boolean[] = new Array<boolean>(PAGES).fill(true);
  private value = 0;

  constructor(seed: number) {
    this.random = randomOf(seed);
    this.machine = smallMachine({ tables: 64, dram: 128 * PAGE, checked: seed % 4 ? 'states' : true });
    const allocator = seed % 2 ? 'driver' : 'core';
    const cached = seed % 3 > 0;
    this.probes = [
      new Probe({ name: 'one', pages: 5, granulePages: 4, cached }),
      new Probe({ name: 'two', pages: 3, allocator, cached }),
      new Probe({ name: 'mirror', pages: 0, granulePages: 2 }),
    ];
    const devices = this.probes.map((probe) => this.machine.addDevice(probe.driver, seed % 5 ? {} : { placement: { duplicate: 'reads' } }));
    this.space = this.machine.createAddressSpace();
    this.contexts = devices.map((device) => this.space.attach(device));
    this.space.mmap({ bytes: PAGES * PAGE, at: BASE, fixed: true });
    this.space.attributes.set(part(0, PAGES - 2), { readMostly: true });
  }

  async run(): Promise<void> {
    for (let round = 0; round < ROUNDS; round++) {
      for (const probe of this.probes) {
        probe.slow.clear();
        for (const operation of ['invalidate', 'toDevice', 'toHost'] as const) if (this.random(3) === 0) probe.slow.add(operation);
      }
      await (this.random(4) ? this.atOnce() : this.alone());
    }
    for (const probe of this.probes) probe.slow.clear();
    for (let page = 0; page < PAGES; page++)
      for (const reader of [this.space, ...this.contexts]) expect(reader.read(at(page), 1)[0], `page ${page}`).toBe(this.bytes[page]);
    this.space.close();
    expect(this.machine.nodes.map((node) => node.used)).toEqual([0, 0, 0]);
    expectClean(this.machine);
    this.machine.close();
  }

  /** Operations on pages of their own, all begun before any has to have ended. */
  private async atOnce(): Promise<void> {
    const free = Array.from({ length: PAGES }, (_, page) => page);
    const running: Promise<unknown>[] = [];
    for (let n = 0; n < 1 + this.random(5); n++) {
      const [page] = free.splice(this.random(free.length), 1) as [number];
      running.push(this.operation(page));
      this.look();
    }
    await this.end(running);
  }

  private operation(page: number): Promise<unknown> {
    const who = this.random(5);
    const agent = who < 2 ? this.space : this.contexts[who - 2]!;
    const choice = this.random(10);
    if (choice < 6) {
      const expected = this.bytes[page]!;
      return agent.readAsync(at(page), 1).then(([byte]) => expect(byte, `page ${page} read by ${who}`).toBe(expected));
    }
    if (choice < 9 && this.writable[page]) {
      const value = (this.bytes[page] = ++this.value % 251);
      return agent.writeAsync(at(page), Uint8Array.of(value));
    }
    return this.contexts[this.random(2)]!.migrateAsync(part(page, page + 1), { to: this.random(2) ? 'device' : 'host' });
  }

  /** Something that is about several pages, and one read beside it. */
  private async alone(): Promise<void> {
    const from = this.random(PAGES);
    const to = from + 1 + this.random(PAGES - from);
    const range = part(from, to);
    const running: Promise<unknown>[] = [];
    switch (this.random(7)) {
      case 0: {
        this.bytes.fill(0, from, to);
        running.push(this.space.madviseAsync(range, 'dontneed'));
        break;
      }
      case 1: {
        const writable = this.random(2) === 1;
        this.writable.fill(writable, from, to);
        running.push(this.space.mprotectAsync(range, writable ? 'rw' : 'r'));
        break;
      }
      case 2:
        running.push(this.fork());
        break;
      case 3:
        this.space.attributes.set(range, { readMostly: this.random(3) > 0 });
        break;
      case 4: {
        const which = this.random(3);
        const { device } = this.contexts[which]!;
        await this.end([this.contexts[which]!.detachAsync()]);
        this.contexts[which] = this.space.attach(device);
        break;
      }
      case 5: {
        const pinning = this.space.pinAsync(range);
        await this.end([pinning]);
        const pin = await pinning;
        await this.atOnce();
        pin.unpin();
        break;
      }
      default:
        running.push(this.space.madviseAsync(part(0, PAGES), 'free').catch(() => undefined));
        // What it takes away may be read as zeros: nothing is asserted of a page until it is written.
        await this.end(running);
        for (const probe of this.probes) probe.slow.clear();
        for (let page = 0; page < PAGES; page++) this.bytes[page] = this.space.read(at(page), 1)[0]!;
    }
    const page = this.random(from + 1);
    if (page < from) {
      const expected = this.bytes[page]!;
      running.push(this.contexts[this.random(3)]!.readAsync(at(page), 1).then(([byte]) => expect(byte).toBe(expected)));
    }
    await this.end(running);
  }

  /** A child has what its parent has, and neither writes into the other. */
  private async fork(): Promise<void> {
    const child = await this.space.forkAsync();
    for (let page = 0; page < PAGES; page++) {
      const reading = child.readAsync(at(page), 1);
      await this.end([reading]);
      expect((await reading)[0]).toBe(this.bytes[page]);
      if (this.writable[page]) await this.end([child.writeAsync(at(page), Uint8Array.of(254))]);
    }
    await this.end([child.closeAsync()]);
  }

  /** Ends what is unfinished, in any order, until all have ended. */
  private async end(running: readonly Promise<unknown>[]): Promise<void> {
    let ended = false;
    const all = Promise.all(running).finally(() => (ended = true));
    all.catch(() => undefined);
    for (let turn = 0; !ended && turn < 10_000; turn++) {
      await Promise.resolve();
      const late = this.probes.filter((probe) => probe.unfinished > 0);
      if (late.length === 0 || this.random(3) === 0) continue;
      late[this.random(late.length)]!.finishOne();
      this.look();
    }
    await all;
    for (const probe of this.probes) probe.finish();
    this.look();
  }

  /** Whoever has a copy, nobody writes; copies are what they are copies of (which the machine looks at by itself). */
  private look(): void {
    expect(this.machine.verify()).toBe(undefined);
    for (let page = 0; page < PAGES; page++) {
      const { copies, writers } = this.space.holders(at(page));
      if (copies.length > 0) expect(writers, `page ${page}`).toEqual([]);
    }
  }
}

it.each([1, 2, 3, 4, 5, 6, 7, 8])('programs over pages that are mostly read come to what a map of bytes says (seed %i)', async (seed) => {
  const program = new Program(seed);
  await program.run();
  expect(program.machine.counters.replicas.made).toBeGreaterThan(20);
});
