/**
 * Saving a machine to bytes, and making one from them: here, in another process, in a browser.
 *
 * ```
 *   saved                                            not saved
 *   the core's memory: frames, tables, TLBs, areas   the core's code
 *   spaces, devices, locks, tickets, counters        who listens to events
 *   operations under way, at the very step           the promises of those who wait for them
 *   what each driver says is its state               the drivers: given again
 *   what the caller wants to find again (`handles`)
 * ```
 *
 * A driver with state of its own says what it is: `save` of the families that `attach` returned, and `save` of the driver for what its address spaces share. What they
 * return may hold plain data, arrays, maps, typed arrays, objects of the machine (contexts, tickets, frames' numbers, kept copies), and instances of the classes that
 * `driver.classes` names. `attach(context, saved)` gets it back.
 */
import type { Core } from '../core/abi.ts';
import { buildHash } from '../core/load.ts';
import { fail, isFarfaultError } from '../errors.ts';
import type { Context } from '../gmem/context.ts';
import type { Device } from '../gmem/device.ts';
import type { Driver } from '../gmem/driver.ts';
import { checkDriver, type DriverFacts, factsOf, requireFacts } from '../gmem/driver-description.ts';
import type { Platform } from '../mm/platform.ts';
import { type StateClass } from '../step/method.ts';
import { IDLE } from '../step/step.ts';
import { fillMemory, memoryRuns, packImage, unpackImage } from './bytes.ts';
import { STATE_CLASSES, WITHOUT } from './classes.ts';
import { readGraph, type Surroundings, writeGraph, type WrittenGraph } from './graph.ts';

const FORMAT = 2;

/** What an image is of. */
export interface Subject {
  readonly core: Core;
  /** Sizes that the machine was made with: plain data. */
  readonly options: object;
  readonly platform: Platform;
  readonly devices: readonly Device[];
}

/** What the heading of an image says. */
interface Heading {
  readonly format: number;
  readonly build: string;
  readonly options: object;
  readonly drivers: readonly { readonly name: string; readonly facts: DriverFacts }[];
}

/** The root of the graph. */
interface Root {
  readonly platform: Platform;
  readonly devices: readonly Device[];
  /** What drivers say, by name, and what they say of each context. */
  readonly drivers: readonly unknown[];
  readonly contexts: readonly (readonly [Context, unknown])[];
  readonly handles: object;
}

/** The bytes of a machine. Throws EBUSY from inside a step or a driver's operation, EOPNOTSUPP for state that cannot be saved, with the path to it. */
export function saveImage({ core, options, platform, devices }: Subject, handles: object, classes: readonly StateClass[]): Uint8Array {
  if (!platform.scheduler.isQuiet)
    throw fail('EBUSY', 'save', platform.scheduler.pending.length, 'comes from inside an operation of the machine');
  const drivers = devices.map(({ driver }) => driver);
  const root: Root = {
    platform,
    devices,
    drivers: drivers.map((driver) => driver.save?.()),
    contexts: devices.flatMap(({ contexts }) => contexts.map((context) => [context, stateOf(context)] as const)),
    handles,
  };
  const { objects, blob } = writeGraph(root, surroundings(core, drivers, classes));
  const said = drivers.map((driver) => ({ name: driver.name, facts: factsOf(driver) }));
  const heading: Heading = { format: FORMAT, build: buildHash, options, drivers: said };
  return packImage({ heading, objects: JSON.stringify(objects), blob, memory: memoryRuns(core.u8) });
}

/** What a driver says of one context. */
function stateOf(context: Context): unknown {
  const { mmu, device } = context;
  if (mmu.save) return mmu.save();
  if (!device.driver.save && (context.hasOwnTable || mmu.phys))
    throw fail(
      'EOPNOTSUPP',
      'save',
      device.name,
      'has a table or an allocator of its own, and does not say what its state is: give `attach` a `save`',
    );
  return undefined;
}

/** Reads an image: `load` makes the core and `drivers` are the machine's, in any order. Throws EINVAL for an image that is damaged, of another build, or needs other drivers, or drivers made with other options. */
export async function readImage(
  image: Uint8Array,
  drivers: readonly Driver[],
  classes: readonly StateClass[],
  load: (options: object) => Promise<Core>,
): Promise<{ readonly subject: Subject; readonly handles: object }> {
  const { heading, objects, blob, memory } = unpackImage<Heading>(image, checkHeading);
  for (const driver of drivers) checkDriver(driver);
  const ordered = heading.drivers.map(({ name, facts }) => {
    const driver = drivers.find((each) => each.name === name);
    if (!driver) throw fail('EINVAL', 'restoreMachine.drivers', drivers, `lacks the driver "${name}" of the saved machine`);
    requireFacts(driver, facts);
    return driver;
  });
  const core = await load(heading.options);
  try {
    fillMemory(core.u8, memory);
    const graph: WrittenGraph = { objects: JSON.parse(objects) as WrittenGraph['objects'], blob };
    const { platform, devices, drivers: shared, contexts, handles } = readGraph(graph, surroundings(core, ordered, classes)) as Root;
    ordered.forEach((driver, i) => driver.restore?.(shared[i]));
    for (const [context, saved] of contexts) context.reattach(saved);
    return { subject: { core, options: heading.options, platform, devices }, handles };
  } catch (error) {
    core.close();
    if (isFarfaultError(error)) throw error;
    throw fail('EINVAL', 'image', image, `cannot be read: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function checkHeading(heading: Partial<Heading>): void {
  if (heading.format !== FORMAT) throw fail('EINVAL', 'image format', heading.format, `is not ${FORMAT}, which this build reads`);
  if (heading.build !== buildHash)
    throw fail(
      'EINVAL',
      'image build',
      heading.build,
      `is another than this one, "${buildHash}": a machine is restored by the build that saved it`,
    );
}

function surroundings(core: Core, drivers: readonly Driver[], classes: readonly StateClass[]): Surroundings {
  const externals = new Map<string, object>([
    ['core', core],
    ['core.exports', core.exports],
    ['core.plan', core.plan],
    ['idle', IDLE],
  ]);
  const known = new Map<string, StateClass>(Object.entries(STATE_CLASSES));
  for (const of of classes) known.set(`handles/${requireOpenClass('classes', of)}`, of);
  for (const driver of drivers) {
    externals.set(`driver ${driver.name}`, driver);
    for (const of of driver.classes ?? []) known.set(`${driver.name}/${requireOpenClass(`${driver.name}.classes`, of)}`, of);
  }
  return { externals, classes: known, without: WITHOUT, memory: core.u8.buffer };
}

/** The name of a class whose instances hide nothing. */
function requireOpenClass(argument: string, of: StateClass): string {
  if (typeof of !== 'function' || !of.name) throw fail('EINVAL', argument, of, 'is not a class with a name');
  if (/[\s;{]#[A-Za-z_$]/.test(Function.prototype.toString.call(of)))
    throw fail('EINVAL', argument, of, 'has #private fields, which cannot be saved');
  return of.name;
}
