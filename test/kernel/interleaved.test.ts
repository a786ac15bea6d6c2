/**
 * Case 20 of the kernel's suite, made deterministic, and more of its kind: a command of the device, and something that happens in the middle of it. Whatever happens is tried at every turn
 * of the command, and in many orders of the turns of both.
 */
import { describe, expect, test } from 'vitest';
import { isFarfaultError, type Machine } from 'farfault';
import type { DmirrorReply, DmirrorRequest } from 'farfault/drivers/dmirror';
import dmirror from 'farfault/drivers/dmirror';
import { Fork } from '../../sdk/mm/fork.ts';
import { PinRange } from '../../sdk/mm/pin.ts';
import { exploreSeeded, printFinding, type Race, replaySchedule } from '../../sdk/testing/simulator.ts';
import type { Step } from '../../sdk/step/step.ts';
import {
  type Buffer,
  COHERENT,
  EBUSY,
  EFAULT,
  emptyMachine,
  ENOENT,
  EPERM,
  expectWords,
  index,
  KINDS,
  minus,
  type Mirror,
  N,
  PAGE,
  PRIVATE,
  Process,
  suite,
  used,
  type Variant,
  words,
} from './harness.ts';

const MIB = 2 ** 20;

// Small: every schedule gets it empty.
suite({ dram: 12 * MIB, deviceMemory: 12 * MIB, tablePages: 256 });

/** A process with one device open, and a buffer. */
class World extends Process {
  readonly fd: Mirror;
  readonly range: Buffer;
  /** What a command receives; filled, so that what is not written shows. */
  readonly bytes: Uint8Array;

  constructor(machine: Machine, { nodes: [node] }: Variant, pages: number, devices = 1) {
    const made = Array.from({ length: devices }, (_, i) =>
      machine.addDevice(dmirror({ name: `dmirror${node + i}`, kind: KINDS[node]!, chunkBytes: 4 * MIB })),
    );
    super(machine, made, machine.createAddressSpace());
    this.fd = this.open(0);
    this.range = this.map(pages);
    this.bytes = new Uint8Array(pages * PAGE).fill(0xee);
  }

  /** A command as a step: `outcome` is its reply. */
  command(op: DmirrorRequest['op'], bytes: Uint8Array = this.bytes, fd: Mirror = this.fd): Step & { readonly result: unknown } {
    return fd.context.commandStep({ op, addr: this.range.start, pages: this.range.pages, buffer: bytes });
  }
}

/** One command, and what comes in between. */
interface Case {
  readonly world: World;
  readonly command: Step & { readonly result: unknown };
  readonly disturbance: Step;
  /** Looks at how the command ended. */
  check(reply: DmirrorReply): void;
}

/** Whatever happened: nothing is broken, and nothing is left when the process is gone. */
function after({ world: { machine, space } }: Case): void {
  expect(machine.verify()).toBe(undefined);
  expect(machine.strayErrors).toEqual([]);
  for (const mirror of space.mirrors) expect((mirror as { failure?: unknown }).failure).toBe(undefined);
}

function leave({ world: { machine } }: Case): void {
  for (const space of [...machine.platform.spaces.values()]) space.close();
  expect(used(machine)).toBe('');
  expect(machine.verify()).toBe(undefined);
}

/** The disturbance at every turn of the command, all of it at once as far as the locks allow. Returns the replies seen, and how many turns there were. */
function atEveryTurn(setup: () => Case): { turns: number; seen: Set<string> } {
  const seen = new Set<string>();
  const race = (): Race => {
    const it = setup();
    return {
      steps: [it.disturbance, it.command],
      check() {
        const reply = it.command.result as DmirrorReply;
        seen.add(`${reply.ret} ${reply.cpages} ${reply.faults}`);
        after(it);
        it.check(reply);
        leave(it);
      },
    };
  };
  for (let turns = 0; ; turns++) {
    try {
      const finding = replaySchedule(race, Array.from({ length: turns }, () => 1).join('.'));
      if (finding) throw new Error(printFinding(finding));
    } catch (error) {
      // The command has ended, or waits, before that turn.
      if (isFarfaultError(error) && error.argument === 'schedule') return { turns, seen };
      throw error;
    }
  }
}

/** Orders of the turns of both, chosen by a seed. */
function inManyOrders(setup: () => Case, runs: number): void {
  const some = exploreSeeded(
    () => {
      const it = setup();
      return {
        steps: [it.command, it.disturbance],
        check() {
          after(it);
          it.check(it.command.result as DmirrorReply);
          leave(it);
        },
      };
    },
    1,
    runs,
  );
  if (some.finding) throw new Error(printFinding(some.finding));
}

/** Pages of the buffer of most cases: two batches and a bit. */
const PAGES = 80;
const RUNS = 60;

function interleaved(name: string, setup: (variant: Variant) => Case, { atLeast = 3 } = {}): void {
  describe(name, () => {
    for (const variant of [PRIVATE, COHERENT]) {
      test(`hmm_${variant.name}`, () => {
        const { turns } = atEveryTurn(() => setup(variant));
        expect(turns).toBeGreaterThan(atLeast);
        inManyOrders(() => setup(variant), RUNS);
      });
    }
  });
}

describe('hmm.anon_teardown', () => {
  for (const variant of [PRIVATE, COHERENT]) {
    test(`hmm_${variant.name}`, () => {
      let round = 0;
      const { turns, seen } = atEveryTurn(() => {
        const c = round++ % 10;
        const world = new World(emptyMachine(), variant, N);
        world.range.fill((i) => i + c);
        return {
          world,
          command: world.command('READ'),
          disturbance: world.space.unmapStep(world.range.part(N / 2, N)),
          check({ ret, cpages, faults }) {
            if (ret === 0) {
              expect([cpages, faults]).toEqual([N, 1]);
              expectWords(world.bytes, (i) => i + c);
            } else {
              expect(ret).toBe(EFAULT);
              // A failure leaves the caller's buffer as it was.
              expectWords(world.bytes, () => 0xeeeeeeee);
            }
            world.range.part(0, N / 2).expectWords((i) => i + c);
          },
        };
      });
      // Both ends are met: the upper half goes before it is read, and after.
      expect([...seen].sort()).toEqual([`${EFAULT} 0 0`, `0 ${N} 1`].sort());
      expect(turns).toBeGreaterThan(N / 32);
    }, 60_000);
  }
});

describe('something happens during READ', () => {
  interleaved('munmap of the middle', (variant) => {
    const world = new World(emptyMachine(), variant, PAGES);
    world.range.fill(index);
    return {
      world,
      command: world.command('READ'),
      disturbance: world.space.unmapStep(world.range.part(20, 50)),
      check({ ret, faults }) {
        expect([0, EFAULT]).toContain(ret);
        if (ret === 0) {
          expect(faults).toBe(1);
          expectWords(world.bytes, index);
        }
      },
    };
  });

  interleaved('mprotect to nothing', (variant) => {
    const world = new World(emptyMachine(), variant, PAGES);
    world.range.fill(index);
    return {
      world,
      command: world.command('READ'),
      disturbance: world.space.protectStep(world.range.part(40, 41), 'none'),
      check({ ret }) {
        expect([0, EFAULT]).toContain(ret);
        if (ret === 0) expectWords(world.bytes, index);
      },
    };
  });

  interleaved('a CPU write: the device sees the old word or the new one', (variant) => {
    const world = new World(emptyMachine(), variant, PAGES);
    // The page of zeros: the write replaces it.
    world.space.read(world.range.at(40), 1);
    return {
      world,
      command: world.command('READ'),
      disturbance: world.space.writeStep(world.range.at(40), Uint8Array.of(9)),
      check({ ret }) {
        expect(ret).toBe(0);
        expect([0, 9]).toContain(world.bytes[40 * PAGE]);
        world.bytes[40 * PAGE] = 0;
        expect(world.bytes.every((byte) => byte === 0)).toBe(true);
        expect(world.space.read(world.range.at(40), 1)[0]).toBe(9);
      },
    };
  });

  interleaved('the same mirror takes the pages to its memory', (variant) => {
    const world = new World(emptyMachine(), variant, PAGES);
    world.range.fill(index);
    const back = new Uint8Array(PAGES * PAGE);
    const move = world.command('MIGRATE_TO_DEV', back);
    return {
      world,
      command: world.command('READ'),
      disturbance: move,
      check({ ret }) {
        expect(ret).toBe(0);
        expectWords(world.bytes, index);
        expect(move.result).toMatchObject({ ret: 0, cpages: PAGES });
        expectWords(back, index);
        // What the table says now is where the pages are.
        world.space.write(world.range.start, words(PAGES, minus));
        const again = new Uint8Array(PAGES * PAGE);
        expect(world.fd.cmd('READ', world.range, PAGES, again).ret).toBe(0);
        expectWords(again, minus);
      },
    };
  });

  interleaved('the CPU brings the pages home', (variant) => {
    const world = new World(emptyMachine(), variant, PAGES);
    world.range.fill(index);
    expect(world.fd.cmd('MIGRATE_TO_DEV', world.range, PAGES, new Uint8Array(PAGES * PAGE)).ret).toBe(0);
    // The device has to look again.
    world.range.protect('r');
    world.range.protect('rw');
    const touch = world.space.writeStep(world.range.at(10), words(40, minus));
    return {
      world,
      command: world.command('READ'),
      disturbance: touch,
      check({ ret }) {
        expect(ret).toBe(0);
        expect(touch.outcome).toBe('done');
        const view = new Uint32Array(world.bytes.buffer);
        for (let i = 0; i < view.length; i += 1024) {
          const page = i / 1024;
          const written = page >= 10 && page < 50 ? -(i - 10 * 1024) >>> 0 : i;
          expect([i, written]).toContain(view[i]);
        }
        expect(world.fd.cmd('READ', world.range, PAGES, world.bytes).ret).toBe(0);
        expectWords(world.bytes.subarray(10 * PAGE, 50 * PAGE), minus);
      },
    };
  });
});

describe('something happens during WRITE', () => {
  interleaved('mprotect to read-only', (variant) => {
    const world = new World(emptyMachine(), variant, PAGES);
    return {
      world,
      command: world.command('WRITE', words(PAGES, index)),
      disturbance: world.space.protectStep(world.range.part(40, 60), 'r'),
      check({ ret }) {
        expect([0, EPERM]).toContain(ret);
        if (ret === 0) world.range.expectWords(index);
      },
    };
  });

  interleaved('fork: the child has each page before or after the write, the parent after', (variant) => {
    const world = new World(emptyMachine(), variant, PAGES);
    world.range.fill(minus);
    const fork = new Fork(world.machine.platform, world.space, {});
    return {
      world,
      command: world.command('WRITE', words(PAGES, index)),
      disturbance: fork,
      check({ ret }) {
        expect(ret).toBe(0);
        world.range.expectWords(index);
        const view = new Uint32Array(fork.result!.read(world.range.start, PAGES * PAGE).slice().buffer);
        for (let i = 0; i < view.length; i++) if (view[i] !== i && view[i] !== -i >>> 0) expect(view[i]).toBe(i);
      },
    };
  });
});

describe('something happens during MIGRATE_TO_DEV', () => {
  interleaved('a CPU write into the range', (variant) => {
    const world = new World(emptyMachine(), variant, PAGES);
    world.range.fill(index);
    const write = world.space.writeStep(world.range.at(40), Uint8Array.of(0xab));
    return {
      world,
      command: world.command('MIGRATE_TO_DEV'),
      disturbance: write,
      check({ ret }) {
        // The page came home before the device read it back, or not.
        expect([0, ENOENT]).toContain(ret);
        expect(write.outcome).toBe('done');
        expect(world.space.read(world.range.at(40), 1)[0]).toBe(0xab);
        world.range.part(0, 40).expectWords(index);
        world.range.part(41, PAGES).expectWords((i) => i + 41 * 1024);
      },
    };
  });

  interleaved('a CPU write into a hole of the range', (variant) => {
    const world = new World(emptyMachine(), variant, PAGES);
    const write = world.space.writeStep(world.range.at(40), Uint8Array.of(0xab));
    return {
      world,
      command: world.command('MIGRATE_TO_DEV'),
      disturbance: write,
      check({ ret }) {
        expect([0, ENOENT]).toContain(ret);
        expect(write.outcome).toBe('done');
        expect(world.space.read(world.range.at(40), 1)[0]).toBe(0xab);
        world.range.part(0, 40).expectWords(() => 0);
      },
    };
  });

  interleaved('munmap of a part: it waits for the end', (variant) => {
    const world = new World(emptyMachine(), variant, PAGES);
    world.range.fill(index);
    return {
      world,
      command: world.command('MIGRATE_TO_DEV'),
      disturbance: world.space.unmapStep(world.range.part(20, 50)),
      check({ ret }) {
        // Before: the hole ends the command. After the migration, before the read-back: an entry is missing.
        expect([0, ENOENT, -22]).toContain(ret);
        world.range.part(0, 20).expectWords(index);
        world.range.part(50, PAGES).expectWords((i) => i + 50 * 1024);
      },
    };
  });

  interleaved('fork', (variant) => {
    const world = new World(emptyMachine(), variant, PAGES);
    world.range.fill(index);
    const fork = new Fork(world.machine.platform, world.space, {});
    return {
      world,
      command: world.command('MIGRATE_TO_DEV'),
      disturbance: fork,
      check({ ret }) {
        expect([0, ENOENT]).toContain(ret);
        const child = fork.result!;
        child.write(world.range.start, Uint8Array.of(0xcd));
        world.range.expectWords(index);
        expectWords(child.read(world.range.at(1), PAGE), (i) => i + 1024);
      },
    };
  });

  interleaved('a pin: the page stays, or comes home for it', (variant) => {
    const world = new World(emptyMachine(), variant, PAGES);
    world.range.fill(index);
    const pinning = new PinRange(world.machine.platform, world.space, world.range.start / PAGE + 40, world.range.start / PAGE + 42, {
      write: true,
    });
    return {
      world,
      command: world.command('MIGRATE_TO_DEV'),
      disturbance: pinning,
      check({ ret }) {
        expect([0, ENOENT]).toContain(ret);
        const pin = pinning.pin!;
        pin.write(0, Uint8Array.of(0x5a));
        expect(world.space.read(world.range.at(40), 1)[0]).toBe(0x5a);
        pin.unpin();
        world.range.part(41, PAGES).expectWords((i) => i + 41 * 1024);
      },
    };
  });

  interleaved('madvise dontneed: zeros, wherever', (variant) => {
    const world = new World(emptyMachine(), variant, PAGES);
    world.range.fill(index);
    return {
      world,
      command: world.command('MIGRATE_TO_DEV'),
      disturbance: world.space.adviseStep(world.range.part(20, 30), 'dontneed'),
      check({ ret }) {
        expect([0, ENOENT]).toContain(ret);
        world.range.part(20, 30).expectWords(() => 0);
        world.range.part(30, PAGES).expectWords((i) => i + 30 * 1024);
      },
    };
  });

  interleaved('another device wants the same pages', (variant) => {
    const world = new World(emptyMachine(), variant, PAGES, 2);
    world.range.fill(index);
    const other = world.open(1);
    const move = world.command('MIGRATE_TO_DEV', new Uint8Array(PAGES * PAGE), other);
    return {
      world,
      command: world.command('MIGRATE_TO_DEV'),
      disturbance: move,
      check({ ret }) {
        expect([0, ENOENT]).toContain(ret);
        expect([0, ENOENT]).toContain((move.result as DmirrorReply).ret);
        world.range.expectWords(index);
      },
    };
  });
});

describe('something happens during MIGRATE_TO_SYS', () => {
  interleaved('a CPU write', (variant) => {
    const world = new World(emptyMachine(), variant, PAGES);
    world.range.fill(index);
    expect(world.fd.cmd('MIGRATE_TO_DEV', world.range, PAGES, world.bytes).ret).toBe(0);
    const write = world.space.writeStep(world.range.at(40), Uint8Array.of(0xab));
    return {
      world,
      command: world.command('MIGRATE_TO_SYS'),
      disturbance: write,
      check({ ret, cpages }) {
        expect(ret).toBe(0);
        expect([PAGES, PAGES - 1]).toContain(cpages);
        expect(write.outcome).toBe('done');
        expect(world.space.read(world.range.at(40), 1)[0]).toBe(0xab);
        world.range.part(41, PAGES).expectWords((i) => i + 41 * 1024);
        expect(world.machine.nodes.every(({ name, used: frames }) => name === 'dram' || frames === 0)).toBe(true);
      },
    };
  });
});

describe('something happens during EXCLUSIVE', () => {
  interleaved('a CPU write', (variant) => {
    const world = new World(emptyMachine(), variant, 8);
    world.range.fill(index);
    const write = world.space.writeStep(world.range.at(4), Uint8Array.of(0xab));
    return {
      world,
      command: world.command('EXCLUSIVE'),
      disturbance: write,
      check({ ret }) {
        expect([0, ENOENT, EBUSY]).toContain(ret);
        expect(write.outcome).toBe('done');
        expect(world.space.read(world.range.at(4), 1)[0]).toBe(0xab);
        world.range.part(5, 8).expectWords((i) => i + 5 * 1024);
        expect(world.fd.cmd('CHECK_EXCLUSIVE', world.range.part(4, 8), 4).ret).toBe(0);
      },
    };
  });

  interleaved('fork: nothing is exclusive to a page of two processes', (variant) => {
    const world = new World(emptyMachine(), variant, 8);
    world.range.fill(index);
    const fork = new Fork(world.machine.platform, world.space, {});
    return {
      world,
      command: world.command('EXCLUSIVE'),
      disturbance: fork,
      check({ ret }) {
        expect([0, ENOENT]).toContain(ret);
        const child = fork.result!;
        world.range.fill(minus);
        expectWords(child.read(world.range.start, 8 * PAGE), index);
      },
    };
  });
});

describe('something happens during SNAPSHOT', () => {
  interleaved('munmap of a part', (variant) => {
    const world = new World(emptyMachine(), variant, PAGES);
    world.range.fill(index);
    return {
      world,
      command: world.command('SNAPSHOT'),
      disturbance: world.space.unmapStep(world.range.part(20, 50)),
      check({ ret, cpages }) {
        expect([ret, cpages]).toEqual([0, PAGES]);
        const bytes = world.bytes.subarray(0, PAGES);
        // A batch is of one moment: either all of its pages are there, or the part is gone.
        for (const page of [20, 31]) expect(bytes[page]).toBe(bytes[25]);
        for (const page of [32, 49]) expect(bytes[page]).toBe(bytes[40]);
        for (let page = 0; page < PAGES; page++) {
          if (page < 20 || page >= 50) expect(bytes[page]).toBe(2);
          else expect([2, 0xff]).toContain(bytes[page]);
        }
      },
    };
  });
});

describe('something happens during RELEASE', () => {
  interleaved('a CPU write', (variant) => {
    const world = new World(emptyMachine(), variant, PAGES);
    world.range.fill(index);
    expect(world.fd.cmd('MIGRATE_TO_DEV', world.range, PAGES, world.bytes).ret).toBe(0);
    const write = world.space.writeStep(world.range.at(40), Uint8Array.of(0xab));
    return {
      world,
      command: world.command('RELEASE'),
      disturbance: write,
      check({ ret }) {
        expect(ret).toBe(0);
        expect(write.outcome).toBe('done');
        expect(world.space.read(world.range.at(40), 1)[0]).toBe(0xab);
        world.range.part(41, PAGES).expectWords((i) => i + 41 * 1024);
        expect(world.machine.nodes.map(({ name }) => name)).toEqual(['dram']);
      },
    };
  });

  interleaved('munmap', (variant) => {
    const world = new World(emptyMachine(), variant, PAGES);
    world.range.fill(index);
    expect(world.fd.cmd('MIGRATE_TO_DEV', world.range, PAGES, world.bytes).ret).toBe(0);
    return {
      world,
      command: world.command('RELEASE'),
      disturbance: world.space.unmapStep(world.range.part(20, 50)),
      check({ ret }) {
        expect(ret).toBe(0);
        world.range.part(50, PAGES).expectWords((i) => i + 50 * 1024);
      },
    };
  });
});
