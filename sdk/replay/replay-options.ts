/**
 * What a replay is told, and the rules of it.
 */
import * as L from '../../assembly/layout.ts';
import { fail } from '../errors.ts';
import type { Driver } from '../gmem/driver.ts';
import {
  type NamesOf,
  requireArray,
  requireBoolean,
  requireCount,
  requireFunction,
  requireNames,
  requireObject,
  requireOptions,
  requireWord,
} from '../mm/arguments.ts';
import type { Preset } from '../policy/preset.ts';
import { VICTIM_POLICIES, type VictimPolicyName } from '../policy/victim.ts';
import { type OffloadRange, requireInstructions } from './offload.ts';
import { REPLAY_LINKS, type ReplayDevice, type ReplayLink, RESERVATION_BYTES } from './replay.ts';
import type { WorkingSet } from './working-set.ts';

/** What `replayTrace` is told. */
export interface ReplayOptions {
  /** What reports and errors call the trace. */
  readonly name: string;
  readonly driver: Driver;
  /** Host memory in bytes, a multiple of 4096. */
  readonly dram: number;
  /** Lanes that the device's jobs are dealt to. */
  readonly lanes: number;
  readonly preset: Preset;
  /** Instructions whose data accesses are the device's; none: all are. */
  readonly offload: readonly OffloadRange[];
  /** Further devices, with instructions of their own: at most ACCESS_DEVICES_MAX in all, each of another name. Then every device has ranges. */
  readonly further?: readonly ReplayDevice[];
  /** Whether the devices are linked, each with each. Default: they are not, and pages go between them by way of the host. */
  readonly link?: ReplayLink;
  /**
   * Where the machine has its bytes: `metadata` is a machine without, of hundreds of GiB and more, in which no load is checked. See `createMachine`. Default 'backed'.
   */
  readonly bytesIn?: 'backed' | 'metadata';
  /** Bytes of a page, without bytes: 4096 (default) up to 2 MiB. Memories of drivers and granules count small pages then: a driver is made with `bytes / (pageBytes / 4096)`. The report says bytes. */
  readonly pageBytes?: number;
  /** Bytes of the second tier, to which pages go that host memory has no room for; a multiple of 4096. Default: there is none. */
  readonly swap?: number;
  /** What chooses which pages of the devices' memories go when there is no room: see `DevicePolicy`. Default: each device's own choice. */
  readonly victims?: VictimPolicyName;
  /** A device that reads a page gets a copy of it, which the others may go on reading; a write drops all copies. Default false: the page moves. */
  readonly duplicate?: boolean;
  /** What `measureTrace` said: the report tells how much larger than its memory the working set of a device is. */
  readonly workingSet?: WorkingSet;
  /** Seed of the written values: 32 bits. */
  readonly seed?: number;
  /** Told after every chunk how many bytes of the source have been read. */
  readonly onProgress?: (bytesRead: number) => void;
  /** Milliseconds of the host's clock; without one the report's `host` says 0. The library itself never looks at a clock. */
  readonly now?: () => number;
  /** Gets the timeline, piece by piece: see `timeline`. What it throws ends the replay with its last access. */
  readonly timeline?: (text: string) => void;
  /** Ends the replay between two batches when it is aborted. */
  readonly signal?: { readonly aborted: boolean };
}

const FURTHER: NamesOf<ReplayDevice> = { driver: true, offload: true };

const REPLAY_OPTIONS: NamesOf<ReplayOptions> = {
  name: true,
  driver: true,
  dram: true,
  lanes: true,
  preset: true,
  offload: true,
  further: true,
  link: true,
  bytesIn: true,
  pageBytes: true,
  swap: true,
  victims: true,
  duplicate: true,
  workingSet: true,
  seed: true,
  onProgress: true,
  now: true,
  timeline: true,
  signal: true,
};

/** Throws EINVAL for what is no options, or for options that do not go together. */
export function checkReplayOptions(options: ReplayOptions): void {
  requireOptions('replayTrace', options, REPLAY_OPTIONS);
  const {
    name,
    driver,
    dram,
    lanes,
    offload,
    further = [],
    link,
    swap,
    bytesIn = 'backed',
    pageBytes = L.PAGE_BYTES,
    victims,
    duplicate,
    workingSet,
    seed = 0,
    preset,
    onProgress,
    signal,
    now,
    timeline,
  } = options;
  if (typeof name !== 'string') throw fail('EINVAL', 'replayTrace.name', name, 'is not text');
  requireWord('replayTrace.bytesIn', bytesIn, ['backed', 'metadata']);
  const bytesMost = bytesIn === 'metadata' ? 2 ** L.ADDRESS_BITS : 2 ** 32;
  requireCount('replayTrace.pageBytes', pageBytes, L.PAGE_BYTES, RESERVATION_BYTES);
  requireCount('replayTrace.dram', dram, L.PAGE_BYTES, bytesMost);
  requireObject('replayTrace.driver', driver, 'a driver (an object made by a defineDriver factory)');
  requireObject('replayTrace.preset', preset, 'a preset (see presets)');
  if (typeof preset.name !== 'string') throw fail('EINVAL', 'replayTrace.preset', preset, 'is not a preset (see presets)');
  requireArray('replayTrace.offload', offload);
  for (const range of offload) requireInstructions('replayTrace.offload', range);
  requireFurther(further, offload);
  for (const [field, value] of [
    ['onProgress', onProgress],
    ['now', now],
    ['timeline', timeline],
  ] as const)
    if (value !== undefined) requireFunction(`replayTrace.${field}`, value);
  if (signal !== undefined) {
    requireObject('replayTrace.signal', signal, 'an AbortSignal');
    requireBoolean('replayTrace.signal.aborted', signal.aborted);
  }
  if (!Number.isInteger(lanes) || lanes < 1 || lanes > L.LANES_MAX)
    throw fail('EINVAL', 'lanes', lanes, `is not a count between 1 and ${L.LANES_MAX}`);
  if (!Number.isInteger(seed) || seed < 0 || seed >= 2 ** 32) throw fail('EINVAL', 'seed', seed, 'is not an integer below 2^32');
  if (link !== undefined) requireWord('replayTrace.link', link, REPLAY_LINKS);
  if (swap !== undefined) requireCount('replayTrace.swap', swap, L.PAGE_BYTES, bytesMost);
  if (pageBytes > L.PAGE_BYTES && timeline !== undefined)
    throw fail(
      'EINVAL',
      'replayTrace.timeline',
      'a function',
      'is not for pages of more than 4096 bytes: a timeline has the copies of small ones',
    );
  if (duplicate !== undefined) requireBoolean('replayTrace.duplicate', duplicate);
  if (victims !== undefined) requireChoice(victims, [driver, ...further.map((each) => each.driver)]);
  if (workingSet !== undefined) requireWorkingSet(workingSet, 1 + further.length);
}

/** Throws unless all devices that have memory leave the choice of what goes to a policy, and one has. */
function requireChoice(victims: unknown, drivers: readonly Driver[]): void {
  requireWord('replayTrace.victims', victims, VICTIM_POLICIES);
  const memories = drivers.flatMap(({ name, memory = [] }) => memory.map(({ allocator = 'core' }) => ({ name, allocator })));
  const own = memories.find(({ allocator }) => allocator !== 'core');
  if (own) throw fail('EINVAL', 'replayTrace.victims', victims, `have no say in the memory of ${own.name}, which hands it out itself`);
  if (memories.length === 0)
    throw fail('EINVAL', 'replayTrace.victims', victims, `mean nothing to ${drivers[0]!.name}, which has no memory of its own`);
}

/** Throws unless it has a count of bytes for each of so many devices. */
function requireWorkingSet(workingSet: WorkingSet, devices: number): void {
  requireObject('replayTrace.workingSet', workingSet, 'what measureTrace gives');
  requireArray('replayTrace.workingSet.devices', workingSet.devices);
  if (workingSet.devices.length !== devices)
    throw fail('EINVAL', 'replayTrace.workingSet.devices', workingSet.devices.length, `is not one for each of ${devices} devices`);
  for (const bytes of workingSet.devices) requireCount('replayTrace.workingSet.devices', bytes, 0, Number.MAX_SAFE_INTEGER);
}

/** Throws unless they are devices with ranges of their own, few enough. */
function requireFurther(further: readonly ReplayDevice[], offload: readonly OffloadRange[]): void {
  requireArray('replayTrace.further', further);
  for (const device of further) {
    requireObject('replayTrace.further', device, 'a driver with its offload ranges');
    requireNames('replayTrace.further', device, FURTHER);
    requireObject('replayTrace.further.driver', device.driver, 'a driver (an object made by a defineDriver factory)');
    requireArray('replayTrace.further.offload', device.offload);
    for (const range of device.offload) requireInstructions('replayTrace.further.offload', range);
    if (device.offload.length === 0)
      throw fail(
        'EINVAL',
        'replayTrace.further.offload',
        device.offload,
        `has no range: which instructions are those of ${device.driver.name}?`,
      );
  }
  if (further.length === 0) return;
  if (offload.length === 0) throw fail('EINVAL', 'replayTrace.offload', offload, 'has no range, though there are several devices');
  if (further.length >= L.ACCESS_DEVICES_MAX)
    throw fail('EINVAL', 'replayTrace.further', further.length + 1, `devices are more than ${L.ACCESS_DEVICES_MAX}`);
}
