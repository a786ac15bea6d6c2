/**
 * A small world that can be saved between any two turns: three actors, each with a list of operations of its own, an asynchronous device whose copies and flushes end when
 * a fourth one says so, and a seed that says whose turn it is. All of it is plain data, and goes into the image.
 */
import {
  type AddressRange,
  type AddressSpace,
  type Context,
  createMachine,
  isFarfaultError,
  type Machine,
  MiB,
  type Pin,
  restoreMachine,
} from 'farfault';
import dmirror from 'farfault/drivers/dmirror';
import mirror from 'farfault/drivers/mirror';
import { type Copies, defineDriver, type Driver, type Step, type Ticket } from 'farfault/gmem';
import { DONE, Run, type RunHost } from '../../sdk/step/step.ts';

const PAGE = 4096;
const PAGES = 12;

/** What the slow device has begun. */
class Engine {
  readonly queue: { readonly ticket: Ticket; readonly copies: Copies | undefined }[] = [];
}

/** A device with memory whose copies and flushes are tickets. */
const slow = defineDriver((): Driver => {
  let engine = new Engine();
  return {
    name: 'slow',
    memory: [{ name: 'vram', kind: 'private', bytes: 6 * PAGE }],
    granuleBytes: 2 * PAGE,
    atomics: ['native', 'migrate'],
    classes: [Engine],
    save: () => engine,
    restore(saved) {
      engine = saved as Engine;
    },
    attach(context) {
      const later = (copies: Copies): Ticket => {
        const ticket = context.ticket('copy');
        engine.queue.push({ ticket, copies: copies.keep() });
        return ticket;
      };
      return {
        copy: { toDevice: later, toHost: later, zero: later },
        command: (request) => ({
          name: 'finish',
          result: undefined,
          next() {
            if (request === 'finish') {
              const first = engine.queue.shift();
              first?.copies?.perform();
              first?.ticket.complete();
            }
            return DONE;
          },
        }),
      };
    },
  };
});

const drivers = (): Driver[] => [slow(), mirror({ ownTable: true, granule: 8192 }), dmirror({ chunkBytes: 2 * MiB })];

/** One operation, as data. */
type Operation = readonly [kind: string, page: number, pages: number, value: number];
const KINDS = [
  'read',
  'write',
  'device read',
  'device write',
  'mirror read',
  'mirror write',
  'job',
  'to device',
  'to host',
  'unmap',
  'protect',
  'move',
  'fork',
  'pin',
  'unpin',
  'advise',
  'dmirror',
  'exclusive',
  'atomic',
] as const;

/** xorshift32 whose state is a number that can be saved. */
class Random {
  state: number;

  constructor(seed: number) {
    this.state = Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) | 1;
  }

  below(n: number): number {
    this.state ^= this.state << 13;
    this.state ^= this.state >>> 17;
    this.state ^= this.state << 5;
    return Math.floor(((this.state >>> 0) / 0x1_0000_0000) * n);
  }
}

class Actor {
  readonly operations: Operation[] = [];
  next = 0;
  run: Run | undefined = undefined;
  step: (Step & { outcome?: unknown; bytes?: unknown; result?: unknown; moved?: unknown }) | undefined = undefined;
}

/** Whose turn it is, and what came of it. A host of runs. */
export class World implements RunHost {
  readonly checked = true;
  readonly interleaves = true;
  readonly actors: Actor[] = [];
  readonly waiting = new Set<Run>();
  readonly log: string[] = [];
  readonly random: Random;
  readonly space: AddressSpace;
  readonly context: Context;
  readonly mirror: Context;
  readonly test: Context;
  range: AddressRange;
  child: AddressSpace | undefined = undefined;
  pin: Pin | undefined = undefined;
  runs = 0;

  constructor(machine: Machine, seed: number, operations: number) {
    this.random = new Random(seed);
    this.space = machine.createAddressSpace();
    const [first, second, third] = drivers();
    this.context = this.space.attach(machine.addDevice(first!));
    this.mirror = this.space.attach(machine.addDevice(second!));
    this.test = this.space.attach(machine.addDevice(third!));
    this.range = this.space.mmap({ bytes: PAGES * PAGE });
    for (let actor = 0; actor < 3; actor++) {
      const made = new Actor();
      for (let i = 0; i < operations; i++) {
        const page = this.random.below(PAGES);
        made.operations.push([
          KINDS[this.random.below(KINDS.length)]!,
          page,
          1 + this.random.below(Math.min(4, PAGES - page)),
          this.random.below(256),
        ]);
      }
      this.actors.push(made);
    }
  }

  woken(run: Run): void {
    this.waiting.delete(run);
  }

  settle(): void {}

  report(error: unknown): void {
    this.log.push(`stray ${String(error)}`);
  }

  /** One turn of somebody; false when all have ended. */
  turn(): boolean {
    const able = this.actors.flatMap((actor, i) =>
      (actor.run ? !this.waiting.has(actor.run) : actor.next < actor.operations.length) ? [i] : [],
    );
    const open = this.context.isAttached && this.tickets;
    if (able.length === 0 && !open) return false;
    const choice = this.random.below(able.length + (open ? 1 : 0));
    if (choice === able.length) this.context.command('finish');
    else this.advance(choice, this.actors[able[choice]!]!);
    return true;
  }

  private get tickets(): boolean {
    return this.context.device.driver.save !== undefined && (this.context.device.driver.save() as Engine).queue.length > 0;
  }

  private advance(_choice: number, actor: Actor): void {
    const name = `${this.actors.indexOf(actor)}.${actor.next} ${actor.operations[actor.next]!.join(' ')}`;
    try {
      if (!actor.run) {
        const step = this.begin(actor.operations[actor.next]!);
        if (!step) {
          actor.next++;
          return;
        }
        actor.step = step;
        actor.run = new Run(this);
        actor.run.start(step, ++this.runs);
      }
      const progress = actor.run.advance();
      if (actor.run.waiting !== undefined) this.waiting.add(actor.run);
      if (progress !== DONE) return;
      this.log.push(`${name}: ${this.said(actor.step!)}`);
      const [kind] = actor.operations[actor.next]!;
      if (kind === 'fork' && actor.step!.outcome === 'done') this.child = actor.step!.result as AddressSpace;
      if (kind === 'pin' && actor.step!.outcome === 'done') this.pin = (actor.step as unknown as { pin: Pin }).pin;
    } catch (error) {
      this.log.push(`${name}: ${isFarfaultError(error) ? error.code : String(error)}`);
    }
    actor.run = undefined;
    actor.step = undefined;
    actor.next++;
  }

  private said({ outcome, moved, bytes, result }: NonNullable<Actor['step']>): string {
    const facts = [outcome, moved].filter((fact) => typeof fact === 'string' || typeof fact === 'number');
    const values = bytes instanceof Uint8Array ? [...new Set(bytes)].join(',') : '';
    const answer =
      typeof result === 'bigint'
        ? String(result)
        : typeof result === 'object' && Object.getPrototypeOf(result) === Object.prototype
          ? JSON.stringify(result)
          : '';
    return [...facts, values, answer].join(' ').trim();
  }

  private begin([kind, page, pages, value]: Operation): Step | undefined {
    const { space, context, test } = this;
    const addr = this.range.start + page * PAGE;
    const range = { start: addr, end: addr + pages * PAGE };
    const bytes = new Uint8Array(pages * PAGE).fill(value);
    switch (kind) {
      case 'read':
        return (value % 4 === 0 && this.child ? this.child : space).readStep(addr, bytes.length);
      case 'write':
        return (value % 4 === 0 && this.child ? this.child : space).writeStep(addr, bytes);
      case 'device read':
        return context.readStep(addr, bytes.length);
      case 'device write':
        return context.writeStep(addr, bytes);
      case 'mirror read':
        return this.mirror.readStep(addr, bytes.length);
      case 'mirror write':
        return this.mirror.writeStep(addr, bytes);
      case 'job': {
        const on = value % 2 ? context : this.mirror;
        return on.jobStep({
          lanes: 3,
          accesses: Array.from({ length: 6 }, (_, i) => ({
            op: (value + i) % 3 ? ('read' as const) : ('write' as const),
            addr: this.range.start + ((page + i * pages) % PAGES) * PAGE + 8 * i,
            bytes: 8,
            value,
          })),
        });
      }
      case 'to device':
        return context.migrateStep(range, 'device');
      case 'to host':
        return context.migrateStep(range, 'host');
      case 'unmap':
        if (value % 3 > 0) return undefined;
        return space.unmapStep(range);
      case 'protect':
        return space.protectStep(range, value % 2 ? 'rw' : 'r');
      case 'move':
        return value % 3 > 0 ? undefined : space.mremapStep(range, { bytes: (pages + 1) * PAGE, mayMove: true });
      case 'fork':
        return this.child ? undefined : space.forkStep({ device: (['share', 'home', 'omit'] as const)[value % 3]! });
      case 'pin':
        return this.pin ? undefined : space.pinStep(range, { longTerm: value % 2 === 0 });
      case 'unpin':
        this.pin?.unpin();
        this.pin = undefined;
        return undefined;
      case 'advise':
        return space.adviseStep(range, value % 2 ? 'dontneed' : 'free');
      case 'dmirror':
        return test.commandStep({ op: value % 2 ? 'MIGRATE_TO_DEV' : 'SNAPSHOT', addr, pages, buffer: bytes });
      case 'exclusive':
        return test.commandStep({ op: value % 2 ? 'EXCLUSIVE' : 'MIGRATE_TO_SYS', addr, pages, buffer: bytes });
      default:
        return context.atomicStep(addr, { op: 'add', operand: value, bytes: 4 });
    }
  }
}

const CLASSES = [World, Actor, Random];

/** A machine and its world. */
export interface Saved {
  readonly machine: Machine;
  readonly world: World;
}

/** What happens goes into the log: the events after a restore must be those that would have been. */
function heard(saved: Saved): Saved {
  saved.machine.onEvent((event) => saved.world.log.push(JSON.stringify(event)));
  return saved;
}

export async function worldOf(seed: number, operations: number): Promise<Saved> {
  const machine = await createMachine({ dram: 1 * MiB, deviceMemory: 8 * MiB, tablePages: 512, tables: 16 });
  return heard({ machine, world: new World(machine, seed, operations) });
}

export function save({ machine, world }: Saved): Uint8Array {
  return machine.save({ world }, { classes: CLASSES });
}

export async function restore(image: Uint8Array): Promise<Saved> {
  const { machine, handles } = await restoreMachine<{ world: World }>(image, { drivers: drivers(), classes: CLASSES });
  return heard({ machine, world: handles.world });
}

/** To the end; what there is then. */
export function finish({ machine, world }: Saved): { readonly log: string; readonly verify: string | undefined; readonly stuck: boolean } {
  let turns = 0;
  while (world.turn()) if (++turns > 20_000) throw new Error('the world does not end');
  return { log: world.log.join('\n'), verify: machine.verify(), stuck: world.actors.some(({ run }) => run !== undefined) };
}
