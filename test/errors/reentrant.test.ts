/**
 * Calls back into the machine, from where it calls out: every operation of a driver, notifier callbacks, event listeners. The rule of drivers is that they do not (`sdk/gmem/driver.ts`); here is what
 * keeps the machine whole when they do.
 *
 * ```
 *   runs an operation, or changes what one may be in the middle of   EINVAL, in one sentence
 *   ...Async                                                        gets its turn when the call is over
 *   looks, and what the HMM dialect offers to steps                  done
 * ```
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  type AddressRange,
  type AddressSpace,
  type Context,
  createMachineSync,
  type Device,
  isFarfaultError,
  type Machine,
  MiB,
  type MemoryFile,
  type Pin,
} from 'farfault';
import { defineDriver, deviceTable, DONE, type Driver, type IntervalNotifier, type Ranges } from 'farfault/gmem';
import { printed } from '../../sdk/errors.ts';
import { PAGE, plainDriver } from './world.ts';

/** Where the machine calls out. */
const PLACES = [
  'attach',
  'enter',
  'release',
  'destroy',
  'invalidate',
  'translate',
  'harvest',
  'toDevice',
  'toHost',
  'zero',
  'allocPage',
  'freePage',
  'victims',
  'service',
  'command',
  'command step',
  'detach',
  'notifier',
  'notifier start',
  'notifier finish',
  'event',
] as const;
type Place = (typeof PLACES)[number];

/** Calls `hook` wherever it is called. */
function hookedDriver(hook: (place: Place, context?: Context) => void): Driver {
  const free = [0, 1, 2, 3];
  const taken: number[] = [];
  const phys = {
    allocPage(): number | undefined {
      hook('allocPage');
      const page = free.shift();
      if (page !== undefined) taken.push(page);
      return page;
    },
    freePage(page: number): void {
      taken.splice(taken.indexOf(page), 1);
      free.push(page);
      hook('freePage');
    },
    victims(spared: (page: number) => boolean): readonly number[] {
      hook('victims');
      return taken.filter((page) => !spared(page)).slice(0, 1);
    },
  };
  return defineDriver(() => ({
    name: 'hooked',
    memory: [{ name: 'ram', kind: 'private' as const, bytes: 4 * PAGE, allocator: 'driver' as const }],
    attach(context: Context) {
      hook('attach', context);
      const table = deviceTable(context);
      const serve = context.batchStep();
      return {
        pmap: {
          enter: (mappings) => (hook('enter'), table.enter(mappings)),
          release: (ranges: Ranges) => (hook('release'), table.release(ranges)),
          destroy: () => hook('destroy'),
        },
        tlb: { invalidate: () => hook('invalidate') },
        walk: {
          translate: (vpn, access) => (hook('translate'), table.walk(vpn, access)),
          harvest: (ranges, marks) => (hook('harvest'), table.harvest(ranges, marks)),
        },
        copy: {
          toDevice: (copies) => (hook('toDevice'), copies.perform()),
          toHost: (copies) => (hook('toHost'), copies.perform()),
          zero: (copies) => (hook('zero'), copies.perform()),
        },
        phys,
        fault: { service: (batch) => (hook('service'), serve.of(batch, batch.records)) },
        command: () => {
          hook('command');
          return { name: 'hooked command', result: 5, next: () => (hook('command step'), DONE) };
        },
        detach: () => hook('detach'),
      };
    },
  }))();
}

/** What is called from inside. */
interface Stage {
  readonly machine: Machine;
  readonly space: AddressSpace;
  readonly device: Device;
  context: Context | undefined;
  readonly range: AddressRange;
  readonly special: AddressRange;
  readonly file: MemoryFile;
  readonly pin: Pin;
  readonly pinned: AddressRange;
  readonly notifier: IntervalNotifier;
}

type Verb = (stage: Stage) => unknown;
type Verdict = 'refused' | 'later' | 'done';

const at = ({ range }: Stage): number => range.start;
const first = ({ range }: Stage): AddressRange => ({ start: range.start, end: range.start + PAGE });

/** Every verb, and what becomes of it inside. */
const VERBS: readonly (readonly [string, Verdict, Verb])[] = [
  ['machine.addDevice', 'refused', ({ machine }) => machine.addDevice(plainDriver('late'))],
  ['machine.createAddressSpace', 'refused', ({ machine }) => machine.createAddressSpace()],
  ['machine.createFile', 'refused', ({ machine }) => machine.createFile({ bytes: PAGE })],
  ['machine.save', 'refused', ({ machine }) => machine.save()],
  ['machine.reset', 'refused', ({ machine }) => machine.reset()],
  ['machine.close', 'refused', ({ machine }) => machine.close()],
  ['machine.nodes', 'done', ({ machine }) => machine.nodes],
  ['machine.counters', 'done', ({ machine }) => machine.counters],
  ['machine.pending', 'done', ({ machine }) => machine.pending],
  ['machine.onEvent', 'done', ({ machine }) => machine.onEvent(() => {})()],
  ['space.mmap', 'refused', ({ space }) => space.mmap({ bytes: PAGE })],
  ['space.insertPage', 'refused', ({ space, special }) => space.insertPage(special.start)],
  ['space.insertPfn', 'refused', ({ space, special }) => space.insertPfn(special.start, 1)],
  ['space.munmap', 'refused', (stage) => stage.space.munmap(first(stage))],
  ['space.mprotect', 'refused', (stage) => stage.space.mprotect(first(stage), 'r')],
  ['space.madvise', 'refused', (stage) => stage.space.madvise(first(stage), 'dontneed')],
  ['space.mremap', 'refused', (stage) => stage.space.mremap(first(stage), { bytes: PAGE })],
  ['space.msync', 'refused', (stage) => stage.space.msync(first(stage))],
  ['space.fork', 'refused', ({ space }) => space.fork()],
  ['space.pin', 'refused', (stage) => stage.space.pin(first(stage))],
  ['space.read', 'refused', (stage) => stage.space.read(at(stage), 1)],
  ['space.write', 'refused', (stage) => stage.space.write(at(stage), Uint8Array.of(1))],
  ['space.tryRead', 'refused', (stage) => stage.space.tryRead(at(stage), new Uint8Array(1))],
  ['space.tryWrite', 'refused', (stage) => stage.space.tryWrite(at(stage), Uint8Array.of(1))],
  ['space.attach', 'refused', ({ space, device }) => space.attach(device)],
  ['space.dump', 'done', ({ space }) => space.dump()],
  ['space.snapshot', 'done', ({ space, range }) => space.snapshot(range)],
  ['space.unsubscribe', 'refused', ({ space, notifier }) => space.unsubscribe(notifier)],
  ['space.close', 'refused', ({ space }) => space.close()],
  ['space.readAsync', 'later', (stage) => stage.space.readAsync(at(stage), 1)],
  ['space.madviseAsync', 'later', (stage) => stage.space.madviseAsync(stage.special, 'dontneed')],
  ['space.pinAsync', 'later', (stage) => stage.space.pinAsync(stage.pinned).then((pin) => pin.unpin())],
  ['device.removeMemory', 'refused', ({ device }) => device.removeMemory(device.memory!)],
  ['context.read', 'refused', (stage) => stage.context!.read(at(stage), 1)],
  ['context.readAsync', 'later', (stage) => stage.context!.readAsync(at(stage), 1)],
  ['context.write', 'refused', (stage) => stage.context!.write(at(stage), Uint8Array.of(1))],
  ['context.submit', 'refused', (stage) => stage.context!.submit({ accesses: [] })],
  ['context.migrate', 'refused', (stage) => stage.context!.migrate(stage.range, { to: 'host' })],
  ['context.fault', 'refused', (stage) => stage.context!.fault(at(stage), 'read')],
  ['context.atomic', 'refused', (stage) => stage.context!.atomic(at(stage), { op: 'add', bytes: 4, operand: 1 })],
  ['context.command', 'refused', (stage) => stage.context!.command({})],
  ['context.harvest', 'refused', (stage) => stage.context!.harvest(stage.range)],
  ['context.detach', 'refused', (stage) => stage.context!.detach()],
  ['file.read', 'done', ({ file }) => file.read(0, 1)],
  ['file.write', 'refused', ({ file }) => file.write(0, Uint8Array.of(1))],
  ['file.truncate', 'refused', ({ file }) => file.truncate(5)],
  ['file.sync', 'refused', ({ file }) => file.sync()],
  ['file.close', 'refused', ({ file }) => file.close()],
  ['pin.read', 'done', ({ pin }) => pin.read(0, 1)],
  ['pin.unpin', 'refused', ({ pin }) => pin.unpin()],
];

const makeMachine = (): Machine => createMachineSync({ dram: 1 * MiB, deviceMemory: 1 * MiB, tablePages: 256, tables: 16 });
let machine: Machine;
beforeAll(() => {
  machine = makeMachine();
});
afterAll(() => machine.close());

/** Goes everywhere, and calls `verb` at the first call of `place`. Returns what became of it: the refusal, 'done', 'later'; undefined: nobody came there. */
async function calledFrom(place: Place, verb: Verb): Promise<string | undefined> {
  if (!machine.platform.open) machine = makeMachine();
  machine.reset();
  let outcome: string | undefined;
  let promise: Promise<unknown> | undefined;
  let armed = false;
  // eslint-disable-next-line prefer-const -- the driver's hook looks at what is made with the driver
  let stage: Stage | undefined;
  const hook = (where: Place, made?: Context): void => {
    if (!armed || where !== place || outcome !== undefined) return;
    stage!.context ??= made;
    if (!stage!.context && String(verb).includes('.context')) return;
    outcome = 'running';
    try {
      const answer = verb(stage!);
      if (answer instanceof Promise) {
        promise = answer;
        promise.catch(() => {});
        outcome = 'later';
      } else outcome = 'done';
    } catch (error) {
      outcome = isFarfaultError(error)
        ? error.message === `${error.argument} ${printed(error.value)} ${error.rule}` && ['EINVAL', 'EBUSY', 'EBADF'].includes(error.code)
          ? 'refused'
          : `refused in another way: ${error.message}`
        : `broken: ${error instanceof Error ? error.stack : String(error)}`;
    }
  };
  const space = machine.createAddressSpace();
  const device = machine.addDevice(hookedDriver(hook));
  const range = space.mmap({ bytes: 8 * PAGE });
  const special = space.mmap({ bytes: PAGE, special: 'mixed' });
  const file = machine.createFile({ bytes: PAGE });
  const pinned = space.mmap({ bytes: PAGE });
  space.write(pinned.start, Uint8Array.of(9));
  const pin = space.pin(pinned, { write: true });
  const notifier = space.subscribe(range, { invalidate: () => (hook('notifier'), true) });
  space.subscribe(range, { invalidateStart: () => (hook('notifier start'), {}), invalidateFinish: () => hook('notifier finish') });
  machine.onEvent(() => hook('event'));
  stage = { machine, space, device, context: undefined, range, special, file, pin, pinned, notifier };
  armed = true;

  const context = (stage.context = space.attach(device));
  const page = (n: number): number => range.start + n * PAGE;
  space.write(page(0), Uint8Array.of(1));
  context.write(page(0) + 1, Uint8Array.of(2));
  context.submit({ accesses: [{ op: 'write', addr: page(1), bytes: 1, value: 3 }] });
  space.write(page(0) + 2, Uint8Array.of(4));
  for (let n = 0; n < 6; n++) context.write(page(n) + 3, Uint8Array.of(5));
  expect(space.read(page(0), 4)).toEqual(Uint8Array.of(1, 2, 4, 5));
  context.harvest(range);
  expect(context.command({})).toBe(5);
  space.mprotect({ start: page(6), end: page(7) }, 'r');
  space.munmap({ start: page(7), end: page(8) });
  context.detach();
  armed = false;
  if (promise) await promise.catch((error: unknown) => (outcome = isFarfaultError(error) ? 'refused' : String(error)));

  expect(context.failure).toBe(undefined);
  expect(machine.strayErrors).toEqual([]);
  expect(machine.pending).toEqual([]);
  expect(machine.verify()).toBe(undefined);
  expect(space.read(page(0), 4)).toEqual(Uint8Array.of(1, 2, 4, 5));
  expect(pin.read(0, 1)).toEqual(Uint8Array.of(9));
  pin.unpin();
  space.close();
  file.close();
  expect(machine.nodes.filter(({ used }) => used > 0)).toEqual([]);
  return outcome;
}

describe.each(PLACES)('from inside %s', (place) => {
  test.each(VERBS)('%s is %s', async (name, verdict, verb) => {
    const outcome = await calledFrom(place, verb);
    // A context that nobody has yet cannot be called; one that has left is left again by doing nothing.
    if (outcome === undefined && name.startsWith('context.')) return;
    const left = name === 'context.detach' && ['detach', 'destroy'].includes(place);
    // Nothing comes of what is put off until then.
    const gone = name === 'context.readAsync' && ['attach', 'detach', 'destroy'].includes(place);
    expect(outcome).toBe(left ? 'done' : gone ? 'refused' : verdict);
  });
});
