/**
 * The rules of what a driver says of itself, looked at when its device is added: name, granule, memories, atomics, and what goes with what. And what it says as plain facts, by which a saved machine knows its
 * drivers again.
 */
import * as L from '../../assembly/layout.ts';
import { fail, printed } from '../errors.ts';
import { ATTACH_MODES, HOME_TABLE_FORMAT } from '../mm/attach.ts';
import {
  isPlain,
  type NamesOf,
  requireArray,
  requireBoolean,
  requireFunction,
  requireNames,
  requireObject,
  requireWord,
} from '../mm/arguments.ts';
import type { DevicePolicy } from '../policy/policy.ts';
import { checkGeometry, DEFAULT_GEOMETRY } from './device-table.ts';
import { type AtomicMeans, type Copy, type Driver, DRIVER_FIELDS, MEMORY_FIELDS, type MemoryDescription } from './driver.ts';

/** A block of the largest granule. */
const ADDRESS_BITS_MIN = 21;
const HUGE_BYTES = L.PAGE_BYTES << L.HUGE_ORDER;

const DMA_FIELDS: NamesOf<NonNullable<Driver['dma']>> = { iovaBits: true, needsSync: true, peer: true };

/** Throws EINVAL when a driver description breaks a rule. What an instance of a class has beside it is its state; a plain object has nothing beside it. */
export function checkDriver(driver: Driver): void {
  if (typeof driver !== 'object' || driver === null || Array.isArray(driver))
    throw fail('EINVAL', 'driver', driver, 'is not a driver (an object made by a defineDriver factory)');
  const { name, granuleBytes, faultEntries, addressBits, pageBytes = [L.PAGE_BYTES], memory = [], atomics = [] } = driver;
  if (typeof name !== 'string' || !/^[a-z][a-z0-9-]{0,31}$/.test(name))
    throw fail('EINVAL', 'driver.name', name, 'is not 1 to 32 lower-case letters, digits or -, a letter first');
  if (isPlain(driver)) requireNames(name, driver, DRIVER_FIELDS);
  if (typeof driver.attach !== 'function') throw fail('EINVAL', `${name}.attach`, driver.attach, 'is not a function');
  if (granuleBytes !== undefined && !isPowerBetween(granuleBytes, L.PAGE_BYTES, HUGE_BYTES)) {
    throw fail('EINVAL', `${name}.granuleBytes`, granuleBytes, 'is not a power of two between 4096 and 2 MiB');
  }
  requireArray(`${name}.pageBytes`, pageBytes);
  if (!pageBytes.includes(L.PAGE_BYTES))
    throw fail('EINVAL', `${name}.pageBytes`, pageBytes, 'is not an array of page sizes with 4096 among them');
  for (const bytes of pageBytes as readonly number[]) {
    if (!isPowerBetween(bytes, L.PAGE_BYTES, L.PAGE_BYTES << L.GIANT_ORDER))
      throw fail('EINVAL', `${name}.pageBytes`, bytes, 'is not a power of two between 4096 and 1 GiB');
  }
  if (addressBits !== undefined && (!Number.isInteger(addressBits) || addressBits < ADDRESS_BITS_MIN || addressBits > L.ADDRESS_BITS))
    throw fail('EINVAL', `${name}.addressBits`, addressBits, `are not between ${ADDRESS_BITS_MIN} and ${L.ADDRESS_BITS}`);
  if (faultEntries !== undefined && (!Number.isInteger(faultEntries) || faultEntries < 1 || faultEntries > L.FAULTS_MAX)) {
    throw fail('EINVAL', `${name}.faultEntries`, faultEntries, `is not a count between 1 and ${L.FAULTS_MAX}`);
  }
  requireArray(`${name}.memory`, memory);
  for (const each of memory as readonly MemoryDescription[]) {
    checkMemory(name, each);
    if ((each.allocator === 'driver' || each.allocator === 'peer') && each !== memory[0])
      throw fail('EINVAL', `${name}.memory.${each.name}.allocator`, each.allocator, 'is for the first memory only');
  }
  checkAtomics(name, atomics);
  const { geometry, dma, classes, save, restore, mode, tableFormat } = driver;
  if (geometry !== undefined) checkGeometry(geometry);
  if (mode !== undefined) requireWord(`${name}.mode`, mode, ATTACH_MODES);
  if (tableFormat !== undefined && (typeof tableFormat !== 'string' || tableFormat.length === 0))
    throw fail('EINVAL', `${name}.tableFormat`, tableFormat, 'is not the name of a format');
  if (tableFormat === HOME_TABLE_FORMAT && geometry !== undefined && geometry.bits.join() !== DEFAULT_GEOMETRY.bits.join())
    throw fail('EINVAL', `${name}.geometry`, geometry.bits, `is not that of the format "${tableFormat}"`);
  if (dma !== undefined) {
    requireObject(`${name}.dma`, dma, 'an object');
    requireNames(`${name}.dma`, dma, DMA_FIELDS);
    const { iovaBits, needsSync, peer } = dma;
    if (iovaBits !== undefined && iovaBits !== 0 && (!Number.isInteger(iovaBits) || iovaBits < 13 || iovaBits > 52))
      throw fail('EINVAL', `${name}.dma.iovaBits`, iovaBits, 'is not 0, nor between 13 and 52');
    if (needsSync !== undefined) requireBoolean(`${name}.dma.needsSync`, needsSync);
    if (peer !== undefined) requireFunction(`${name}.dma.peer`, peer);
  }
  if (classes !== undefined) {
    requireArray(`${name}.classes`, classes);
    for (const each of classes) if (typeof each !== 'function') throw fail('EINVAL', `${name}.classes`, each, 'is not a class');
  }
  if (driver.replayable !== undefined) requireBoolean(`${name}.replayable`, driver.replayable);
  if (driver.activeContexts !== undefined) requireWord(`${name}.activeContexts`, driver.activeContexts, ['one', 'all']);
  if (driver.reset !== undefined) requireFunction(`${name}.reset`, driver.reset);
  if (driver.counts !== undefined) requireFunction(`${name}.counts`, driver.counts);
  if (save !== undefined) requireFunction(`${name}.save`, save);
  if (restore !== undefined) requireFunction(`${name}.restore`, restore);
}

/** Throws EINVAL when the description of a memory breaks a rule. */
export function checkMemory(name: string, each: MemoryDescription): void {
  if (typeof each !== 'object' || each === null || typeof each.name !== 'string' || !/^[a-z][a-z0-9-]{0,31}$/.test(each.name))
    throw fail('EINVAL', `${name}.memory name`, each?.name, 'is not 1 to 32 lower-case letters, digits or -, a letter first');
  if (isPlain(each)) requireNames(`${name}.memory.${each.name}`, each, MEMORY_FIELDS);
  if (!Number.isSafeInteger(each.bytes) || each.bytes <= 0 || each.bytes % L.PAGE_BYTES !== 0) {
    throw fail('EINVAL', `${name}.memory.${each.name}.bytes`, each.bytes, 'is not a positive multiple of 4096');
  }
  if (!['private', 'coherent'].includes(each.kind))
    throw fail('EINVAL', `${name}.memory.${each.name}.kind`, each.kind, "is not one of: 'private', 'coherent'");
  if (!['backed', 'metadata', 'external', undefined].includes(each.bytesIn))
    throw fail('EINVAL', `${name}.memory.${each.name}.bytesIn`, each.bytesIn, "is not one of: 'backed', 'metadata', 'external'");
  if (each.kind === 'coherent' && each.bytesIn !== undefined && each.bytesIn !== 'backed')
    throw fail(
      'EINVAL',
      `${name}.memory.${each.name}.bytesIn`,
      each.bytesIn,
      "is not 'backed': the CPU reads and writes a coherent memory",
    );
  if (!['core', 'driver', 'peer', undefined].includes(each.allocator))
    throw fail('EINVAL', `${name}.memory.${each.name}.allocator`, each.allocator, "is not one of: 'core', 'driver', 'peer'");
}

function checkAtomics(name: string, atomics: readonly AtomicMeans[]): void {
  requireArray(`${name}.atomics`, atomics);
  for (const means of atomics as readonly unknown[]) {
    if (means !== 'native' && means !== 'exclusive' && means !== 'migrate')
      throw fail('EINVAL', `${name}.atomics`, means, "is not one of: 'native', 'exclusive', 'migrate'");
  }
}

/** What a driver says of itself, by dotted names: `memory.vram.bytes`. Plain data. What it does not say is not among them. */
export type DriverFacts = Readonly<Record<string, string | number | boolean>>;

/** Its facts: all that a device is built by. Requires: `checkDriver` finds nothing. */
export function factsOf(driver: Driver): DriverFacts {
  const { granuleBytes, faultEntries, addressBits, replayable, activeContexts, mode, tableFormat, dma } = driver;
  const said: Record<string, string | number | boolean | undefined> = {
    granuleBytes,
    faultEntries,
    addressBits,
    replayable,
    activeContexts,
    mode,
    tableFormat,
    pageBytes: driver.pageBytes?.join(),
    atomics: driver.atomics?.join(),
    'geometry.bits': driver.geometry?.bits.join(),
    'dma.iovaBits': dma?.iovaBits,
    'dma.needsSync': dma?.needsSync,
    memory: driver.memory?.map(({ name }) => name).join(),
  };
  for (const { name, kind, bytes, bytesIn, allocator } of driver.memory ?? [])
    for (const [field, value] of Object.entries({ kind, bytes, bytesIn, allocator })) said[`memory.${name}.${field}`] = value;
  return Object.fromEntries(Object.entries(said).filter(([, value]) => value !== undefined)) as DriverFacts;
}

/** Throws EINVAL unless the driver says of itself what `saved` does. */
export function requireFacts(driver: Driver, saved: DriverFacts): void {
  const facts = factsOf(driver);
  for (const name of new Set([...Object.keys(saved), ...Object.keys(facts)])) {
    if (facts[name] === saved[name]) continue;
    const rule = `is not ${printed(saved[name], name)}, as it was in the saved machine`;
    throw fail('EINVAL', `restoreMachine.drivers ${driver.name}.${name}`, facts[name], rule);
  }
}

/** A memory whose bytes the driver holds is useless without all of a copy engine. */
export function requireEngine(name: string, copy: Copy | undefined): void {
  if (!(copy?.toDevice && copy.toHost && copy.zero))
    throw fail('EINVAL', `${name}.copy`, copy, 'must have toDevice, toHost and zero: its memory is external');
}

function isPowerBetween(value: number, least: number, most: number): boolean {
  return Number.isInteger(value) && value >= least && value <= most && (value & (value - 1)) === 0;
}

/** Throws EINVAL when a policy is to choose what goes, and there is no memory of which it could. */
export function requireVictims({ name, memory = [] }: Driver, { victims }: DevicePolicy): void {
  if (victims === undefined || memory.length === 0 || memory.some(({ allocator = 'core' }) => allocator === 'core')) return;
  throw fail(
    'EINVAL',
    `${name} policy.victims`,
    typeof victims === 'string' ? victims : victims.name,
    'have no say: its driver hands its memory out',
  );
}
