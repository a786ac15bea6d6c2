/**
 * Faults through the full path, from the access to the page: for a device the lane stalls, the record goes into the fault buffer, the driver
 * serves it, the page migrates, the lane is replayed. The peer is the copy of the page alone, so `ours - theirs` is all the rest.
 */
import { createMachineSync, type Job } from 'farfault';
import nouveau from 'farfault/drivers/nouveau';
import * as L from '../assembly/layout.ts';
import type { Contender, Goal, Row } from './row.ts';

export interface Size {
  /** Pages faulted in a run: few, within the L2 cache, and many, in DRAM. */
  readonly hot: number;
  readonly cold: number;
}

const FULL: Size = { hot: 64, cold: 8192 };

/** Records of nouveau's fault buffer: a batch. */
const BATCH = 256;

export function rows({ hot, cold }: Size = FULL): Row[] {
  return (['hot', 'cold'] as const).flatMap((where): Row[] => {
    const pages = where === 'hot' ? hot : cold;
    const goal: Goal = where === 'hot' ? { above: 120 } : { ratio: 1.1 };
    const row = (name: string, ours: () => Contender, hoped?: Goal): Row => ({
      name: `${name}.${where}`,
      unit: 'ns',
      items: pages,
      ours,
      peers: [
        {
          name: 'copy of the page in C',
          contender: { program: 'memory', row: 'copy.read', numbers: [pages, 1] },
          ...(hoped ? { goal: hoped } : {}),
        },
      ],
    });
    return [
      row('fault.device', () => new Faults(pages).device(pages, 1), goal),
      row('fault.job', () => new Faults(pages).device(1, 1)),
      row('fault.batch', () => new Faults(pages).device(Math.min(BATCH, pages), BATCH)),
      row('fault.cpu', () => new Faults(pages).cpu()),
      row('fault.core', () => new Faults(pages, 'core').core()),
    ];
  });
}

/** A range with bytes in it, and the device that wants it. */
class Faults {
  readonly #pages: number;
  readonly #bytes: number;
  readonly #machine;
  readonly #space;
  readonly #context;
  readonly #range;

  constructor(pages: number, allocator: 'driver' | 'core' = 'driver') {
    this.#pages = pages;
    this.#bytes = pages * L.PAGE_BYTES;
    const room = Math.max(4 * this.#bytes, 2 ** 20);
    this.#machine = createMachineSync({ dram: room, deviceMemory: room });
    this.#space = this.#machine.createAddressSpace();
    this.#context = this.#space.attach(this.#machine.addDevice(nouveau({ vram: room, faultEntries: BATCH, allocator })));
    this.#range = this.#space.mmap({ bytes: this.#bytes });
    this.#space.write(this.#range.start, bytesOf(this.#bytes));
  }

  /** The device reads a word of every page, in jobs of so many accesses: with one lane every fault is a batch, with as many lanes as accesses one batch has them all. */
  device(accesses: number, lanes: number): Contender {
    const jobs: Job[] = [];
    for (let at = 0; at < this.#pages; at += accesses) {
      const reads = Array.from({ length: Math.min(accesses, this.#pages - at) }, (_, i) => ({
        op: 'read' as const,
        addr: this.#word(at + i),
        bytes: 4,
      }));
      jobs.push({ accesses: reads, lanes });
    }
    let total = 0;
    const run = (): void => {
      total = 0;
      for (const job of jobs) {
        const { observed } = this.#context.submit(job);
        for (let i = 0; i < observed.length; i += 2) total = (total + observed[i]!) | 0;
      }
    };
    return { reset: () => this.#migrate('host'), run, checksum: () => total };
  }

  /** The CPU reads a word of every page. */
  cpu(): Contender {
    let total = 0;
    const word = new Uint32Array(1);
    const bytes = new Uint8Array(word.buffer);
    const run = (): void => {
      total = 0;
      for (let page = 0; page < this.#pages; page++) {
        this.#space.tryRead(this.#word(page), bytes);
        total = (total + word[0]!) | 0;
      }
    };
    return { reset: () => this.#migrate('device'), run, checksum: () => total };
  }

  /**
   * The calls of the core that `device` with one lane comes to, by themselves: the round that stalls, the page taken from its mapping, a frame, the copy, the page entered into both tables. No VMA, lock, notifier, count or driver: what `device`
   * takes beyond it is what TypeScript takes.
   */
  core(): Contender {
    const { core } = this.#machine.platform;
    const { exports } = core;
    const { slot, device, ready: mirror } = this.#context;
    const { table } = this.#space;
    const { memory } = device;
    if (!memory || !mirror) throw new Error('the device has neither memory nor table of its own');
    const [job, accesses, values] = [core.area(L.AREA_JOB), core.area(L.AREA_ACCESSES), core.area(L.AREA_VALUES)];
    const [order, faults] = [core.area(L.AREA_ORDER), core.area(L.AREA_FAULTS)];
    let total = 0;
    const run = (): void => {
      for (let page = 0; page < this.#pages; page++) {
        const addr = this.#word(page);
        core.u32[(accesses >>> 2) + page * 2] = addr;
        core.u32[(accesses >>> 2) + page * 2 + 1] = (addr / 2 ** 32) | (3 << L.ACCESS_LENGTH_SHIFT) | L.ACCESS_DEVICE;
      }
      exports.jobBegin(job, this.#pages, 1, BATCH);
      while (exports.laneRound(slot, job, accesses, values, order, faults) > 0) {
        const vpn = (core.u32[(faults >>> 2) + 1]! & 0xf) * 2 ** 32 + core.u32[faults >>> 2]!;
        const select = L.SELECT_SYSTEM | L.SELECT_UNTRANSLATED;
        const source = exports.pageIsolate(table, vpn, select, memory.owner, mirror.descriptor, mirror.slot);
        const target = exports.frameTake(memory.node.index, 0);
        if (source < 0 || target < 0) throw new Error(`page ${vpn} is not simple, or has no frame`);
        exports.frameCopy(source, target, 1);
        exports.pageSettle(table, vpn, source, target, 1, 0, 1, mirror.descriptor);
      }
      total = 0;
      for (let page = 0; page < this.#pages; page++) total = (total + core.u32[(values >>> 2) + page * 2]!) | 0;
    };
    return { reset: () => this.#migrate('host'), run, checksum: () => total };
  }

  #word(page: number): number {
    return this.#range.start + page * L.PAGE_BYTES + (page % 1024) * 4;
  }

  #migrate(to: 'device' | 'host'): void {
    if (this.#context.migrate(this.#range, { to }) > this.#pages) throw new Error(`more than ${this.#pages} pages moved`);
  }
}

function bytesOf(length: number): Uint8Array {
  return new Uint8Array(new Uint32Array(length / 4).map((_, i) => Math.imul(i, 0x9e3779b1)).buffer);
}
