/**
 * npu: an accelerator with an operating system of its own. It owns the pages of its memory and the addresses of its tasks; host and NPU only exchange messages, over a bounded channel on which answers can be late or
 * get lost. A page is brought, or taken, with one message for all of a batch.
 *
 * ```
 *   index.ts     what the framework asks, as messages
 *   channel.ts   the channel: bounded, timed in ticks, counted
 *   os.ts        the other side: pages, addresses, tables, and what it sends away by itself
 * ```
 *
 * Models: the Ascend NPU behind `remote_pager`.
 */
import {
  AGAIN,
  type CommandStep,
  type Context,
  defineDriver,
  DONE,
  type Driver,
  type DriverFactory,
  fail,
  type GivenUp,
  type GiveUp,
  type GmMmu,
  type Mappings,
  MiB,
  permits,
  type Progress,
  type Run,
} from '../../sdk/gmem/index.ts';
import { Channel } from './channel.ts';
import type { Places, Response } from './messages.ts';
import { NpuOs, Task, type VaRange } from './os.ts';

const PAGE = 4096;

/** Options of the NPU. */
export interface NpuOptions {
  /** Bytes of its memory, a multiple of 2 MiB. Default 64 MiB. */
  readonly vram?: number;
  /** How much one fault brings: a power of two between 4096 and 2 MiB (default). */
  readonly granule?: number;
  /** Ticks after which the host gives a request up. Default 100. */
  readonly timeout?: number;
  /** Ticks that a request takes. Default 1. */
  readonly latency?: number;
  /** Addresses that the NPU keeps for itself in every task. Default: none. */
  readonly kept?: readonly VaRange[];
}

/** What can be asked of it beside the framework: to make room (pages), to do something else for a while (ticks), to lose answers (responses), to say what went over the channel. */
export type NpuCommand = { readonly type: 'evict' | 'stall' | 'lose'; readonly count: number } | { readonly type: 'counts' };

/** A command that is done at once. */
class Told implements CommandStep {
  readonly name = 'npu command';
  readonly result: unknown;

  constructor(result: unknown) {
    this.result = result;
  }

  next(): Progress {
    return DONE;
  }
}

/** The NPU makes room: it takes its translations of the oldest pages, and asks the host to have them back. One that the host needs there it keeps. */
class SendAway implements CommandStep {
  readonly name = 'npu eviction';
  /** What became of each page. */
  result: readonly GivenUp[] = [];
  private readonly task: Task;
  private readonly victims: readonly number[];
  private readonly step: GiveUp;
  private phase = 0;

  constructor(context: Context, task: Task, victims: readonly number[]) {
    this.task = task;
    this.victims = victims;
    this.step = context.giveUpStep(victims);
    task.eviction = context.ticket('eviction');
  }

  next(run: Run): Progress {
    switch (this.phase++) {
      case 0:
        return AGAIN;
      case 1:
        return run.call(this.step);
      default:
        this.result = this.step.results;
        this.end();
        return DONE;
    }
  }

  abort(): void {
    this.end();
  }

  private end(): void {
    for (let i = 0; i < this.victims.length; i++) this.task.leaving.delete(this.victims[i]!);
    if (this.task.eviction?.state === 'pending') this.task.eviction.complete();
    this.task.eviction = undefined;
  }
}

/** Mappings as the places of a message. */
const placesOf = (mappings: Mappings): Places => ({
  count: mappings.count,
  item: (i) => ({
    vpn: mappings.vpn(i),
    pages: mappings.length(i),
    page: mappings.page(i),
    memory: mappings.memory(i),
    write: mappings.isWritable(i),
  }),
});

const isCount = (value: unknown): value is number => typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;

const isRange = (range: VaRange): boolean =>
  isCount(range?.start) && isCount(range.end) && range.start < range.end && range.start % PAGE === 0 && range.end % PAGE === 0;

/** Throws EINVAL unless `holds`. */
function require(holds: boolean, what: string, value: unknown, rule: string): void {
  if (!holds) throw fail('EINVAL', what, value, rule);
}

/** What the NPU says to a request for addresses; without an answer it has not been done. */
function reserved(response: Response | undefined): 'success' | 'nomem' | 'failure' {
  const code = response?.code;
  return code === 'success' || code === 'nomem' ? code : 'failure';
}

/** An accelerator with an operating system of its own. Errors: EINVAL for options that make no sense. */
const npu: DriverFactory<NpuOptions> = defineDriver(
  ({ vram = 64 * MiB, granule = 2 * MiB, timeout = 100, latency = 1, kept = [] }: NpuOptions): Driver => {
    require(isCount(vram) && vram > 0 && vram % (2 * MiB) === 0, 'npu.vram', vram, 'is not a positive multiple of 2 MiB');
    require(isCount(latency) && latency > 0, 'npu.latency', latency, 'is not a positive count of ticks');
    require(isCount(timeout) && timeout >= latency, 'npu.timeout', timeout, 'is not a count of ticks that lets an answer come');
    require(Array.isArray(kept) && kept.every(isRange), 'npu.kept', kept, 'is not a list of ranges of whole pages');
    let os = new NpuOs(vram / PAGE, kept);
    let channel = new Channel(os, timeout, latency);
    return {
      name: 'npu',
      pageBytes: [PAGE, 2 * MiB],
      memory: [{ name: 'hbm', kind: 'private', bytes: vram, allocator: 'peer' }],
      granuleBytes: granule,
      classes: [NpuOs, Task, Channel, SendAway, Told],
      counts: () => ({ ...channel.counts }),
      save: () => ({ os, channel }),
      restore(saved) {
        ({ os, channel } = saved as { os: NpuOs; channel: Channel });
      },
      attach(context: Context): GmMmu {
        const id = context.space.id;
        if (!os.tasks.has(id)) channel.call({ type: 'task pairing', task: id }, true);
        return {
          pmap: {
            enter: (mappings) => void channel.call({ type: 'alloc page', task: id, places: placesOf(mappings) }, true),
            release: (ranges) => void channel.call({ type: 'unmap', task: id, ranges }, true),
          },
          peer: {
            map(batch) {
              const answers = channel.call({ type: 'alloc page', task: id, places: batch })?.answers;
              // Taken back: nothing has been done, no item is answered.
              if (!answers) return;
              const until = os.tasks.get(id)!.eviction;
              for (let i = 0; i < batch.count; i++) {
                const item = batch.item(i);
                const { code, page } = answers[i]!;
                if (page >= 0 && item.page < 0) batch.place(item, page);
                if (page >= 0) batch.copies(item).perform();
                batch.answer(item, code, code === 'migrating' && until ? { until } : undefined);
              }
            },
            unmap(batch) {
              const ranges = batch.ranges();
              // What must go has all the time that there is.
              let mustGo = false;
              batch.each(({ bytes }) => (mustGo ||= bytes === 'none'));
              if (ranges.count > 0 && !channel.call({ type: 'unmap', task: id, ranges }, mustGo)) return;
              batch.each((item) => {
                batch.copies(item).perform();
                batch.answer(item, 'success');
              });
            },
            freePage: (page, pages) => channel.free(page, pages),
          },
          peerVa: {
            allocFixed: (start, bytes) => reserved(channel.call({ type: 'alloc vma', task: id, start, bytes })),
            free: (start, bytes) => void channel.call({ type: 'free vma', task: id, start, bytes }, true),
          },
          walk: {
            translate(vpn, access) {
              const entry = os.tasks.get(id)?.entry(vpn);
              return permits(entry, access) ? entry : undefined;
            },
          },
          command: (request) => commanded(context, os.tasks.get(id)!, request as NpuCommand),
          detach: () => void channel.call({ type: 'task exit', task: id }, true),
        };
      },
    };

    function commanded(context: Context, task: Task, request: NpuCommand): CommandStep {
      require(request?.type === 'counts' || isCount(request?.count), 'npu.command', request, 'is not a command of the NPU with its count');
      switch (request?.type) {
        case 'evict':
          return new SendAway(context, task, os.sendAway(task, request.count));
        case 'stall':
          return new Told((channel.stalled += request.count));
        case 'lose':
          return new Told((channel.lossy += request.count));
        case 'counts':
          return new Told({ ...channel.counts });
        default:
          throw fail('EINVAL', 'npu.command', request, 'is not a command of the NPU');
      }
    }
  },
  { vram: true, granule: true, timeout: true, latency: true, kept: true },
);

export default npu;
