/** Machines whose memories have no bytes: the same pages, faults, moves and counts, and no values. */
import { describe, expect, test } from 'vitest';
import {
  createMachineSync,
  type MachineEvent,
  GiB,
  isFarfaultError,
  type Machine,
  type MachineOptions,
  MiB,
  restoreMachine,
} from 'farfault';
import { defineDriver } from 'farfault/gmem';
import nouveau from 'farfault/drivers/nouveau';
import npu from 'farfault/drivers/npu';
import { randomBelow } from '../../bench/random.ts';
import { expectClean, PAGE, Probe, used } from './probe.ts';

function refused(call: () => unknown): string {
  try {
    call();
  } catch (error) {
    if (!isFarfaultError(error)) throw error;
    return `${error.code}: ${error.message}`;
  }
  return 'nothing thrown';
}

const AT = 2 ** 40;
const PAGES = 96;

/** A program of many kinds of calls, from a seed, on a machine that is short of everything; what the machine says of it. What a call is refused with is part of that. */
function played(options: MachineOptions, seed: number): { events: readonly MachineEvent[]; answers: readonly string[]; machine: Machine } {
  const machine = createMachineSync({ dram: 160 * PAGE, swap: 64 * PAGE, deviceMemory: 4 * MiB, tablePages: 512, ...options });
  const events: MachineEvent[] = [];
  machine.onEvent((event) => void events.push(event));
  const below = randomBelow(seed);
  const space = machine.createAddressSpace();
  const devices = [nouveau({ vram: 32 * PAGE }), npu({ vram: 2 * MiB, granule: 16 * PAGE }), new Probe({ pages: 16, cached: true }).driver];
  const contexts = devices.map((driver) => space.attach(machine.addDevice(driver)));
  machine.link(machine.devices[0]!, machine.devices[1]!, { coherent: seed % 4 === 1 });
  const file = machine.createFile({ bytes: 16 * PAGE });
  space.mmap({ at: AT, bytes: PAGES * PAGE, fixed: true });
  space.mmap({ at: AT + PAGES * PAGE, bytes: 16 * PAGE, fixed: true, file });
  const answers: string[] = [];
  const at = (): number => AT + below(PAGES + 16) * PAGE;
  const range = (): { start: number; end: number } => {
    const start = at();
    return { start, end: start + (1 + below(8)) * PAGE };
  };
  const context = (): (typeof contexts)[number] => contexts[below(contexts.length)]!;
  const calls: readonly (() => unknown)[] = [
    () => space.read(at() + below(PAGE), 1 + below(9)).length,
    () => space.write(at() + below(PAGE), new Uint8Array(1 + below(9)).fill(below(256))),
    () => context().fault(at(), below(2) === 0 ? 'read' : 'write'),
    () => context().read(at() + 8, 16).length,
    () => context().write(at() + 8, new Uint8Array(16).fill(7)),
    () => context().migrate(range(), { to: below(2) === 0 ? 'device' : 'host' }),
    () => space.mprotect(range(), below(3) === 0 ? 'r' : 'rw'),
    () => space.madvise(range(), 'dontneed'),
    () => space.munmap(range()),
    () => space.mmap({ at: at(), bytes: (1 + below(4)) * PAGE, fixed: true }),
    () => {
      const child = space.fork();
      child.write(at(), Uint8Array.of(3));
      child.close();
    },
    () => {
      const accesses = Array.from({ length: 12 }, () => ({
        op: below(2) === 0 ? ('read' as const) : ('write' as const),
        addr: at() + below(PAGE - 8),
        bytes: 1 + below(16),
      }));
      const job = context().submit({ accesses: accesses.map((each) => (each.op === 'read' ? each : { ...each, value: 5 })), lanes: 3 });
      return [job.order.length, job.cancelled];
    },
    () => void context().atomic(at() + 16, { op: 'add', bytes: 4, operand: 1n }),
    () => {
      const pin = space.pin(range(), { write: true });
      pin.write(0, Uint8Array.of(1, 2));
      pin.unpin();
    },
    () => void space.hmemcpy(at() + 100, at() + 200, 300),
    () => file.write(below(16) * PAGE, Uint8Array.of(9)),
  ];
  for (let i = 0; i < 400; i++) {
    const call = below(calls.length);
    try {
      answers.push(`${call}: ${JSON.stringify(calls[call]!())}`);
    } catch (error) {
      if (!isFarfaultError(error)) throw error;
      answers.push(`${call}: ${error.message}`);
    }
  }
  expectClean(machine);
  return { events, answers, machine };
}

describe('a machine without bytes', () => {
  test.each([1, 3, 5, 7])('does page for page what one with bytes does, program %i', (seed) => {
    const backed = played({}, seed);
    const bodiless = played({ bytesIn: 'metadata' }, seed);
    expect(backed.events.length).toBeGreaterThan(1000);
    expect(bodiless.answers).toEqual(backed.answers);
    expect(bodiless.events).toEqual(backed.events);
    expect(bodiless.machine.counters).toEqual(backed.machine.counters);
    expect(used(bodiless.machine)).toBe(used(backed.machine));
    expect(bodiless.machine.spaces[0]!.dump({ start: AT, end: AT + PAGES * PAGE })).toBe(
      backed.machine.spaces[0]!.dump({ start: AT, end: AT + PAGES * PAGE }),
    );
  });

  test('has loads that see zeros, whatever was stored', () => {
    const machine = createMachineSync({ dram: 1 * MiB, deviceMemory: 1 * MiB, bytesIn: 'metadata' });
    const space = machine.createAddressSpace();
    const context = space.attach(machine.addDevice(nouveau({ vram: 64 * PAGE })));
    const { start } = space.mmap({ bytes: 4 * PAGE });
    const ones = new Uint8Array(2 * PAGE).fill(1);
    space.write(start + 100, ones);
    expect(space.read(start + 100, 2 * PAGE)).toEqual(new Uint8Array(2 * PAGE));
    context.write(start + 100, ones);
    expect(context.read(start + 100, 2 * PAGE)).toEqual(new Uint8Array(2 * PAGE));
    expect(space.dump({ start, end: start + 4 * PAGE })).toBe('DDD.');
    const { observed } = context.submit({
      accesses: [
        { op: 'write', addr: start, bytes: 8, value: 77 },
        { op: 'read', addr: start, bytes: 8 },
        { op: 'read', addr: start + PAGE - 4, bytes: 8 },
      ],
    });
    expect([...observed]).toEqual([77, 0, 0, 0, 0, 0]);
    const pin = space.pin({ start, end: start + PAGE }, { write: true });
    pin.write(0, Uint8Array.of(1, 2, 3));
    expect(pin.read(0, 3)).toEqual(new Uint8Array(3));
    pin.unpin();
    // What zeros are made of is no page that anybody could have written to.
    const fresh = space.mmap({ bytes: PAGE });
    expect(space.read(fresh.start, PAGE)).toEqual(new Uint8Array(PAGE));
    expectClean(machine);
  });

  test('refuses bytes of somebody else: a memory that a driver holds, the content of a file', () => {
    const machine = createMachineSync({ dram: 1 * MiB, bytesIn: 'metadata' });
    const card = defineDriver(() => ({
      name: 'card',
      memory: [{ name: 'ram', kind: 'private' as const, bytes: 8 * PAGE, bytesIn: 'external' as const }],
      attach: () => ({ copy: { toDevice: () => {}, toHost: () => {}, zero: () => {} } }),
    }));
    expect(refused(() => machine.addDevice(card()))).toBe(
      'EINVAL: card.memory.ram.bytesIn "external" is not for a machine without bytes: there is nothing to copy there',
    );
    expect(machine.devices).toEqual([]);
    expect(refused(() => machine.createFile({ content: Uint8Array.of(1) }))).toBe(
      'EINVAL: createFile.content 1 bytes are not for a machine without bytes',
    );
    expect(refused(() => createMachineSync({ bytesIn: 'nowhere' as 'metadata' }))).toContain("is not one of: 'backed', 'metadata'");
    expectClean(machine);
  });

  test('of 256 GiB is made in a moment, maps, faults and moves pages anywhere in it, and writes only what it needs', () => {
    const began = performance.now();
    const machine = createMachineSync({ dram: 256 * GiB, deviceMemory: 64 * MiB, bytesIn: 'metadata' });
    expect(performance.now() - began).toBeLessThan(1000);
    const space = machine.createAddressSpace();
    const context = space.attach(machine.addDevice(nouveau({ vram: 64 * MiB })));
    const whole = space.mmap({ bytes: 256 * GiB });
    const steps = Array.from({ length: 64 }, (_, i) => whole.start + i * 4 * GiB + i * PAGE);
    for (const at of steps) space.write(at, Uint8Array.of(1));
    for (const at of steps) context.fault(at, 'write');
    for (const at of steps.slice(0, 32)) space.read(at, 1);
    expect(used(machine)).toBe('dram 32, nouveau.vram 32');
    expect(space.dump({ start: steps[40]!, end: steps[40]! + PAGE })).toBe('D');
    // Every GiB of frames has one record written, and each of those is on a page of its own.
    const { u32, plan } = machine.platform.core;
    let pages = 0;
    for (let at = plan.framesAt; at < plan.framesAt + plan.frames * 32; at += PAGE) {
      let any = 0;
      for (let word = at >>> 2; word < (at + PAGE) >>> 2; word += 8) any |= u32[word + 2]!;
      if (any !== 0) pages++;
    }
    expect(pages).toBeLessThan(256 + 64);
    space.munmap(whole);
    expect(used(machine)).toBe('dram 0, nouveau.vram 0');
    expect(machine.counters.migratedByCause.fault.pages).toBe(64);
    machine.close();
  });

  test('of 16 TiB has pages of 2 MiB: an address stands for 512 bytes', () => {
    const machine = createMachineSync({ dram: 16 * 1024 * GiB, bytesIn: 'metadata', pageBytes: 2 * MiB, physicalBits: 46 });
    const unit = machine.addressUnit;
    expect(unit).toBe(512);
    expect(machine.nodes[0]!.frames).toBe(2 ** 23);
    const space = machine.createAddressSpace();
    const context = space.attach(machine.addDevice(nouveau({ vram: (64 * GiB) / unit })));
    expect(machine.nodes[1]!.frames).toBe((64 * GiB) / (2 * MiB));
    const whole = space.mmap({ bytes: (16 * 1024 * GiB) / unit });
    const pageAt = (bytes: number): number => whole.start + bytes / unit;
    for (let tib = 0; tib < 16; tib++) space.write(pageAt(tib * 1024 * GiB), Uint8Array.of(1));
    for (let tib = 0; tib < 16; tib += 2) context.fault(pageAt(tib * 1024 * GiB), 'write');
    expect(used(machine)).toBe('dram 8, nouveau.vram 8');
    expect(machine.counters.migratedByCause.fault).toEqual({ pages: 8, bytes: (8 * 2 * MiB) / unit });
    expect(context.migrate({ start: pageAt(0), end: pageAt(4 * MiB) }, { to: 'host' })).toBe(1);
    expect(space.dump({ start: pageAt(0), end: pageAt(4 * MiB) })).toBe('H.');
    expectClean(machine);
    space.munmap(whole);
    expect(used(machine)).toBe('dram 0, nouveau.vram 0');
    for (const [options, rule] of [
      [
        { dram: 8 * MiB, pageBytes: 2 * MiB },
        "EINVAL: createMachine.pageBytes 2097152 is not 4096, though the machine has bytes (bytesIn is not 'metadata')",
      ],
      [{ bytesIn: 'metadata', pageBytes: 4 * MiB }, 'EINVAL: createMachine.pageBytes 4194304 is not a power of two between 4096 and 2 MiB'],
      [
        { bytesIn: 'metadata', pageBytes: 2 * MiB, dram: 3 * MiB },
        'EINVAL: createMachine.dram 3145728 is not a multiple of 2097152 above 0',
      ],
      [
        { bytesIn: 'metadata', pageBytes: 2 * MiB, dram: 16 * 1024 * GiB, physicalBits: 44 },
        'EINVAL: createMachine.physicalBits 44 cannot address',
      ],
    ] as const)
      expect(refused(() => createMachineSync(options))).toContain(rule);
  });

  test('is saved, restored, and emptied for another use', async () => {
    const machine = createMachineSync({ dram: 1 * MiB, bytesIn: 'metadata' });
    const space = machine.createAddressSpace();
    const { start } = space.mmap({ bytes: 4 * PAGE });
    space.write(start, new Uint8Array(3 * PAGE).fill(1));
    const { machine: again } = await restoreMachine(machine.save());
    expect(again.spaces[0]!.dump({ start, end: start + 4 * PAGE })).toBe('HHH.');
    expect(again.spaces[0]!.read(start, 2)).toEqual(new Uint8Array(2));
    expectClean(again);
    machine.reset();
    expect(used(machine)).toBe('dram 0');
    expectClean(machine);
    const after = machine.createAddressSpace();
    after.write(after.mmap({ bytes: PAGE }).start, Uint8Array.of(1));
    expect(used(machine)).toBe('dram 1');
  });
});
