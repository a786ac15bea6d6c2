/**
 * The naive model of the machine: plain objects, Maps of pages, real bytes, no cleverness. It is the oracle that the fast machine is
 * checked against, so it shares no code with it and follows the written semantics sentence by sentence.
 */
import { ModelContext } from './context.ts';
import { type Counters, zeroCounters } from './counters.ts';
import { HOST_NODE, HostNode } from './frame.ts';
import { ModelMirror, type MirrorOptions } from './mirror.ts';
import { ModelNouveau, type NouveauOptions } from './nouveau.ts';
import { ModelSpace } from './space.ts';

export const GRANULES: readonly number[] = [1, 16, 512];

/** The naive machine: address spaces and devices over plain maps of pages. */
export class ModelMachine {
  readonly host: HostNode;
  readonly spaces: ModelSpace[] = [];
  readonly devices: (ModelNouveau | ModelMirror)[] = [];
  readonly #counters: Counters = zeroCounters();

  constructor({ dramPages }: { dramPages: number }) {
    checkCount('dramPages', dramPages);
    const count = { peak: 0 };
    this.#counters.frames[HOST_NODE] = count;
    this.host = new HostNode(dramPages, count);
  }

  createSpace(): ModelSpace {
    const space = new ModelSpace(this.spaces.length, this.host, this.#counters);
    this.spaces.push(space);
    return space;
  }

  /** A device with memory; its node is `<name>.vram`. */
  addNouveau(options: NouveauOptions): ModelNouveau {
    this.#checkDevice(options);
    checkCount('vramPages', options.vramPages);
    const device = new ModelNouveau(options, this.host, this.#counters);
    this.#addDevice(device);
    return device;
  }

  /** A device without memory. */
  addMirror(options: MirrorOptions): ModelMirror {
    this.#checkDevice(options);
    const device = new ModelMirror(options, this.#counters);
    this.#addDevice(device);
    return device;
  }

  /** The one context of a device in a space. */
  attach(space: ModelSpace, device: ModelNouveau | ModelMirror): ModelContext {
    if (space.contexts.some((context) => context.device === device)) throw new Error(`${device.name} is attached to this space already`);
    const context = new ModelContext(space, device, this.#counters);
    space.contexts.push(context);
    return context;
  }

  /** A copy of everything counted so far. */
  counters(): Counters {
    return JSON.parse(JSON.stringify(this.#counters)) as Counters;
  }

  /** One letter a page, see `ModelSpace.dump`. */
  dump(space: ModelSpace, vpn: number, pages: number): string {
    return space.dump(vpn, pages);
  }

  #addDevice(device: ModelNouveau | ModelMirror): void {
    this.#counters.tlb.devices[device.name] = { hit: 0, miss: 0 };
    this.#counters.faults.devices[device.name] = 0;
    this.devices.push(device);
  }

  #checkDevice({ name, granulePages, faultEntries }: MirrorOptions): void {
    if (this.devices.some((device) => device.name === name)) throw new RangeError(`name ${name} is taken`);
    if (!GRANULES.includes(granulePages)) throw new RangeError(`granulePages ${granulePages} is not 1, 16 or 512`);
    checkCount('faultEntries', faultEntries);
  }
}

function checkCount(argument: string, value: number): void {
  if (!Number.isSafeInteger(value) || value < 1) throw new RangeError(`${argument} ${value} is not a positive count`);
}
