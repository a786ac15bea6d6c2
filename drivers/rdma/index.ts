/**
 * rdma: a network adapter that reads and writes registered memory of a program. A registration is pinned, as it always was, or its pages come when they are needed (on-demand paging).
 *
 * ```
 *   register, pinned      the pages stay where they are until the region is deregistered; the adapter knows their frames
 *   register, on demand   nothing happens; the adapter's table is filled by faults and emptied by the notifier
 *   post                  an access by key and offset, as it comes from the wire
 *     not in the table    one fault for all pages of the access (hmm_range_fault), entered while they are still true
 *     beyond the region, without its right, or without the program's: an error completion, never a wrong byte
 * ```
 *
 * All regions of a context share one table: a page has one entry, whoever has registered it.
 *
 * Models: `ib_umem_odp`, `mlx5_ib_mr` page faults and `mlx5_ib_invalidate_range`; `ib_umem_get` for what is pinned.
 */
import {
  type Access,
  type CommandStep,
  type Context,
  defineDriver,
  DONE,
  type Driver,
  type DriverFactory,
  fail,
  type GmMmu,
  HMM_VALID,
  HMM_WRITE,
  type InstallAnswer,
  type Mappings,
  method,
  type MirrorRange,
  PageMap,
  permits,
  type Progress,
  type Ranges,
  type Run,
  type Translation,
  Translations,
} from '../../sdk/gmem/index.ts';
import type { AddressRange, Pin } from '../../sdk/mm/index.ts';

const PAGE_BYTES = 4096;
/** Bytes of one access: what one fault may bring. */
const POST_MAX = 64 * PAGE_BYTES;
/** Faults of one access: each follows a page that somebody took away again. */
const FAULTS_MAX = 64;

/** How an access ended. `protection`: the region, or the program, does not allow it. `fault`: there is nothing there. */
export type Completion = 'success' | 'protection' | 'fault' | 'no memory' | 'retries exceeded';

/** What `context.command` takes. */
export type RdmaRequest =
  | { readonly op: 'register'; readonly range: AddressRange; readonly write: boolean; readonly pin?: Pin }
  | { readonly op: 'deregister'; readonly key: number }
  | { readonly op: 'post'; readonly verb: Access; readonly key: number; readonly offset: number; readonly bytes: Uint8Array };

/** One registered region, as the adapter knows it. */
interface Region {
  readonly start: number;
  readonly end: number;
  readonly write: boolean;
  readonly pin: Pin | undefined;
}

/** What the adapter knows of one address space. */
export class Adapter {
  readonly regions: Map<number, Region> = new Map();
  private readonly entries = new Translations();
  /** Frames of host pages that a fault of an access has entered: times two, plus one where writes are allowed. */
  readonly frames: PageMap = new PageMap();
  /** `install`, to be handed out. */
  readonly installed: InstallAnswer = method<Adapter, 'install'>(this, 'install');
  /** The fault of an access that has ended, for the next one. */
  spare: MirrorRange | undefined = undefined;
  /** Those of one access. */
  readonly list: Uint32Array = new Uint32Array(POST_MAX / PAGE_BYTES + 1);
  private keys = 0;

  enter(mappings: Mappings): void {
    this.entries.enter(mappings);
  }

  release(ranges: Ranges): void {
    this.entries.release(ranges);
    for (let i = 0; i < ranges.count; i++) this.frames.deleteRange(ranges.start(i), ranges.length(i));
  }

  /** @internal What a range fault has found, while it is true. */
  install(words: Uint32Array, vpn: number, pages: number): void {
    for (let i = 0; i < pages; i++) this.frames.set(vpn + i, words[2 * i]! * 2 + (words[2 * i + 1]! & HMM_WRITE ? 1 : 0));
  }

  translate(vpn: number, access: Access): Translation | undefined {
    const entry = this.entries.get(vpn);
    return permits(entry, access) ? entry : undefined;
  }

  register(region: Region): number {
    this.regions.set(++this.keys, region);
    return this.keys;
  }
}

/** A command that is done at once. */
export class Answer implements CommandStep {
  readonly name = 'answer';
  readonly result: unknown;

  constructor(result: unknown) {
    this.result = result;
  }

  next(): Progress {
    return DONE;
  }
}

/** One access from the wire. */
export class Post implements CommandStep {
  readonly name = 'post';
  result: Completion = 'success';
  private readonly context: Context;
  private readonly adapter: Adapter;
  private readonly verb: Access;
  private readonly addr: number;
  private readonly bytes: Uint8Array;
  private readonly pin: Pin | undefined;
  private readonly regionStart: number;
  private look: MirrorRange | undefined = undefined;
  private faults = 0;

  constructor(context: Context, adapter: Adapter, region: Region, request: RdmaRequest & { readonly op: 'post' }) {
    this.context = context;
    this.adapter = adapter;
    this.verb = request.verb;
    this.addr = region.start + request.offset;
    this.bytes = request.bytes;
    this.pin = region.pin;
    this.regionStart = region.start;
  }

  next(run: Run): Progress {
    if (this.pin) return this.throughPin(this.pin);
    if (this.look) {
      const { outcome } = this.look;
      this.adapter.spare = this.look;
      this.look = undefined;
      if (outcome !== 'done') return this.end(outcome === 'permission' ? 'protection' : outcome === 'busy' ? 'retries exceeded' : outcome);
    }
    const { lock, hmm } = this.context;
    if (!lock.tryAcquire(run)) return run.waitFor(lock);
    const complete = this.copy();
    lock.release(run);
    if (complete) return DONE;
    if (this.faults++ === FAULTS_MAX) return this.end('retries exceeded');
    const vpn = Math.floor(this.addr / PAGE_BYTES);
    const pages = Math.ceil((this.addr + this.bytes.length) / PAGE_BYTES) - vpn;
    const request = this.verb === 'write' ? HMM_VALID + HMM_WRITE : HMM_VALID;
    this.look = hmm.rangeFault({ vpn, pages, request }, this.adapter.installed, this.adapter.spare);
    this.adapter.spare = undefined;
    return run.call(this.look);
  }

  /** All bytes at once, or none: entries are true while the driver lock is held. */
  private copy(): boolean {
    const { frames, list } = this.adapter;
    const first = Math.floor(this.addr / PAGE_BYTES);
    const pages = Math.ceil((this.addr + this.bytes.length) / PAGE_BYTES) - first;
    for (let i = 0; i < pages; i++) {
      const entry = frames.get(first + i);
      if (entry === undefined || (this.verb === 'write' && entry % 2 === 0)) return false;
      list[i] = Math.floor(entry / 2);
    }
    const { hmm } = this.context;
    const its = list.subarray(0, pages);
    if (this.verb === 'write') hmm.writeFrames(its, this.addr % PAGE_BYTES, this.bytes);
    else hmm.readFrames(its, this.addr % PAGE_BYTES, this.bytes);
    return true;
  }

  private throughPin(pin: Pin): typeof DONE {
    const offset = this.addr - this.regionStart;
    if (this.verb === 'write') pin.write(offset, this.bytes);
    else this.bytes.set(pin.read(offset, this.bytes.length));
    return DONE;
  }

  private end(result: Completion): typeof DONE {
    this.result = result;
    return DONE;
  }
}

function attach(context: Context, saved: unknown): GmMmu {
  const adapter = (saved as Adapter | undefined) ?? new Adapter();
  return {
    save: () => adapter,
    pmap: adapter,
    walk: adapter,
    command(request) {
      const asked = (request ?? {}) as RdmaRequest;
      switch (asked.op) {
        case 'register': {
          const { range, write, pin } = asked;
          return new Answer(adapter.register({ start: range.start, end: range.end, write, pin }));
        }
        case 'deregister':
          if (!adapter.regions.delete(asked.key)) throw fail('EINVAL', 'rdma.key', asked.key, 'is no region');
          return new Answer(undefined);
        case 'post': {
          const { key, offset, bytes, verb } = asked;
          const region = adapter.regions.get(key);
          if (!(bytes instanceof Uint8Array) || bytes.length > POST_MAX)
            throw fail('EINVAL', 'rdma.bytes', bytes, `is not a Uint8Array of ${POST_MAX} bytes at most`);
          const inside = region && Number.isSafeInteger(offset) && offset >= 0 && region.start + offset + bytes.length <= region.end;
          if (!inside || (verb === 'write' && !region.write)) return new Answer('protection' satisfies Completion);
          return new Post(context, adapter, region, asked);
        }
        default:
          throw fail('EINVAL', 'rdma.op', (asked as { readonly op?: unknown }).op, "is not one of: 'register', 'deregister', 'post'");
      }
    },
  };
}

/** A network adapter. */
const rdma: DriverFactory<object> = defineDriver((): Driver => ({ name: 'rdma', attach, classes: [Adapter, Answer, Post] }), {});

export default rdma;

/** How a region is registered. */
export interface RegisterOptions {
  /** Accesses may write. Default true. */
  readonly write?: boolean;
  /** Its pages stay where they are. Default false: they come when they are needed. */
  readonly pinned?: boolean;
}

/** Registered memory, by its key: what a peer on the wire may access. Models: `ibv_mr`. */
export class MemoryRegion {
  /** What the peer says. */
  readonly key: number;
  private readonly context: Context;
  private readonly pin: Pin | undefined;

  /** @internal Use `register`. */
  constructor(context: Context, key: number, pin: Pin | undefined) {
    this.context = context;
    this.key = key;
    this.pin = pin;
  }

  /** What the peer reads; undefined with the reason in `status` when it may not. */
  read(offset: number, length: number): { readonly status: Completion; readonly bytes: Uint8Array } {
    const bytes = new Uint8Array(length);
    return { status: this.post('read', offset, bytes), bytes };
  }

  /** What the peer writes. */
  write(offset: number, bytes: Uint8Array): Completion {
    return this.post('write', offset, bytes);
  }

  /** Ends the registration; what was pinned may move again. */
  deregister(): void {
    this.context.command({ op: 'deregister', key: this.key } satisfies RdmaRequest);
    this.pin?.unpin();
  }

  private post(verb: Access, offset: number, bytes: Uint8Array): Completion {
    return this.context.command({ op: 'post', verb, key: this.key, offset, bytes } satisfies RdmaRequest) as Completion;
  }
}

/** Registers a range of a context's address space. Errors: of `space.pin`, for one that is pinned. Models: `ibv_reg_mr`, with and without IBV_ACCESS_ON_DEMAND. */
export function register(context: Context, range: AddressRange, options: RegisterOptions = {}): MemoryRegion {
  const { write = true, pinned = false } = options;
  for (const name in options)
    if (name !== 'write' && name !== 'pinned') throw fail('EINVAL', 'rdma.register option', name, 'is not one of: write, pinned');
  const pin = pinned ? context.space.pin(range, { write, longTerm: true }) : undefined;
  const key = context.command({ op: 'register', range, write, ...(pin ? { pin } : {}) } satisfies RdmaRequest) as number;
  return new MemoryRegion(context, key, pin);
}
