/**
 * The shared way around a driver: whichever of its families a layer has something to say about is wrapped, everything else stays as it is.
 *
 * What all layers have in common is here: an allocator is one for all contexts of a device, so it is wrapped once; the ready-made table and TLB are called by the core and not by this, so they are
 * passed through; a family or an operation that a layer does not know, a later one too, is passed through.
 */
import {
  type Context,
  type Copy,
  DeviceTable,
  type Driver,
  type DriverFactory,
  type FaultService,
  type GmMmu,
  type Peer,
  type PeerVa,
  type Phys,
  type Pmap,
  type Tlb,
  type Walk,
} from '../../gmem/index.ts';
import { DRIVER_FIELDS } from '../../gmem/driver.ts';
import { isPlain, type NamesOf, requireFunction, requireNames, requireObject } from '../../mm/arguments.ts';

/** What a layer puts around each family; a family that it leaves out is passed through. */
export interface Layer {
  /** Around `attach` itself: `attach()` calls the driver. */
  attach?(context: Context, attach: () => GmMmu): GmMmu;
  pmap?(pmap: Pmap, context: Context): Pmap;
  tlb?(tlb: Tlb, context: Context): Tlb;
  walk?(walk: Walk, context: Context): Walk;
  copy?(copy: Copy, context: Context): Copy;
  /** Once for each allocator, with the first context that has it. */
  phys?(phys: Phys, context: Context): Phys;
  peer?(peer: Peer, context: Context): Peer;
  fault?(fault: FaultService, context: Context): FaultService;
  peerVa?(peerVa: PeerVa, context: Context): PeerVa;
  command?(command: NonNullable<GmMmu['command']>, context: Context): NonNullable<GmMmu['command']>;
  /** `detach`: what the driver does when it leaves; nothing when it has no such operation. */
  detach?(detach: (() => void) | undefined, context: Context): () => void;
}

const LAYER: NamesOf<Layer> = {
  attach: true,
  pmap: true,
  tlb: true,
  walk: true,
  copy: true,
  phys: true,
  peer: true,
  fault: true,
  peerVa: true,
  command: true,
  detach: true,
};

/** The driver with a layer around it, of the driver's own type. `attach` has `this` as the driver itself has it. */
export function wrapDriver<D extends Driver>(driver: D, layer: Layer): D {
  requireObject('driver', driver, 'a driver (an object made by a defineDriver factory)');
  requireFunction('driver.attach', driver.attach);
  requireObject('wrapDriver.layer', layer, 'a layer');
  if (isPlain(layer)) requireNames('wrapDriver.layer', layer, LAYER);
  const allocators = new WeakMap<Phys, Phys>();
  const wrapped = {
    // What is no field of a driver stays as well, so that the machine refuses it by name; but what else an instance of a class has is its state.
    ...(isPlain(driver) ? driver : {}),
    ...described(driver),
    attach(context: Context, saved?: unknown): GmMmu {
      const attach = (): GmMmu => driver.attach(context, saved);
      const mmu = layer.attach ? layer.attach(context, attach) : attach();
      return isObject(mmu) ? wrapFamilies(mmu, layer, context, allocators) : mmu;
    },
  };
  // To whoever wrapped it, it still is what it was.
  return (isPlain(driver) ? wrapped : Object.setPrototypeOf(wrapped, driver)) as D;
}

/** A factory of wrapped drivers, with the options of the one inside: what a driver module exports by default. */
export function wrapFactory<Options extends object>(
  factory: DriverFactory<Options>,
  wrap: (driver: Driver) => Driver,
): DriverFactory<Options> {
  requireFunction('wrapFactory.factory', factory);
  requireFunction('wrapFactory.wrap', wrap);
  return Object.assign((options?: Options): Driver => wrap(factory(options)), { driverFactory: true as const });
}

/** The fields of a driver: it may be an instance of a class, which has them as getters and methods. */
function described(driver: Driver): Partial<Driver> {
  const fields: Record<string, unknown> = {};
  for (const name of Object.keys(DRIVER_FIELDS) as (keyof Driver)[]) {
    const value: unknown = driver[name];
    if (value !== undefined) fields[name] = typeof value === 'function' ? (value.bind(driver) as unknown) : value;
  }
  return fields;
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}

function wrapFamilies(mmu: GmMmu, layer: Layer, context: Context, allocators: WeakMap<Phys, Phys>): GmMmu {
  const { pmap, tlb, walk, copy, phys, peer, fault, peerVa, command, save, detach } = mmu;
  // A driver that does not translate by itself has the ready-made table, or none of its own: the core goes through it without asking.
  const wrapsTable = isObject(pmap) && walk !== undefined && !(pmap instanceof DeviceTable);
  const wrapsTlb = isObject(tlb) && walk !== undefined;
  return {
    ...mmu,
    ...(pmap && { pmap: wrapsTable && layer.pmap ? layer.pmap(pmap, context) : pmap }),
    ...(tlb && { tlb: wrapsTlb && layer.tlb ? layer.tlb(tlb, context) : tlb }),
    ...(walk && { walk: isObject(walk) && layer.walk ? layer.walk(walk, context) : walk }),
    ...(copy && { copy: isObject(copy) && layer.copy ? layer.copy(copy, context) : copy }),
    ...(phys && { phys: isObject(phys) && layer.phys ? once(allocators, phys, (each) => layer.phys!(each, context)) : phys }),
    ...(peer && { peer: isObject(peer) && layer.peer ? layer.peer(peer, context) : peer }),
    ...(fault && { fault: isObject(fault) && layer.fault ? layer.fault(fault, context) : fault }),
    ...(peerVa && { peerVa: isObject(peerVa) && layer.peerVa ? layer.peerVa(peerVa, context) : peerVa }),
    ...(command && {
      command: typeof command === 'function' && layer.command ? layer.command((request) => command.call(mmu, request), context) : command,
    }),
    ...(typeof save === 'function' && { save: () => save.call(mmu) }),
    ...(layer.detach && (detach === undefined || typeof detach === 'function')
      ? { detach: layer.detach(detach && (() => detach.call(mmu)), context) }
      : typeof detach === 'function'
        ? { detach: () => detach.call(mmu) }
        : {}),
  };
}

function once<K extends object, V>(known: WeakMap<K, V>, key: K, make: (key: K) => V): V {
  let value = known.get(key);
  if (value === undefined) known.set(key, (value = make(key)));
  return value;
}

/**
 * A family with some operations in place of its own: those that it does not have stay away. Other operations of a plain object stay, so that the core refuses by name what it does not know; fields of an
 * instance do not, which are its state.
 */
export function withOperations<F extends object>(family: F, operations: Partial<F>): F {
  const wrapped: Record<string, unknown> = isPlain(family) ? { ...family } : {};
  for (const [name, operation] of Object.entries(operations)) {
    const own: unknown = family[name as keyof F];
    if (typeof own === 'function') wrapped[name] = operation;
    else if (own !== undefined) wrapped[name] = own;
  }
  return wrapped as F;
}
