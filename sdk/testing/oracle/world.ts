/** The world that the oracle has in mind. */
import type { Backing, DeviceModel, Memory, Page, World } from './state.ts';

export function createWorld(): World {
  return { spaces: [], files: [], objects: new Set(), devices: [], pins: [] };
}

export function addDevice(
  world: World,
  name: string,
  granulePages: number,
  kinds: readonly ('private' | 'coherent')[],
  atomics: DeviceModel['atomics'],
): DeviceModel {
  const device: DeviceModel = { name, granulePages, atomics, memories: [] };
  for (const kind of kinds) plugMemory(device, kind);
  world.devices.push(device);
  return device;
}

export function plugMemory(device: DeviceModel, kind: 'private' | 'coherent'): number {
  let index = 0;
  while (device.memories[index]) index++;
  device.memories[index] = { name: `${device.name}.${index}`, kind, device };
  return index;
}

export function addFile(world: World, bytes: number, words: readonly (readonly number[])[]): void {
  const file: Backing = { kind: 'file', bytes, cache: new Map(), store: new Map(), dirty: new Set() };
  words.forEach((each, page) => file.store.set(page, [...each]));
  world.files.push(file);
}

/** Pages in use on each memory. */
export function usage(world: World): Map<Memory, number> {
  const pages = new Set<Page>();
  for (const space of world.spaces) for (const entry of space?.entries ?? []) if (entry?.page) pages.add(entry.page);
  for (const pin of world.pins) for (const { page } of pin?.pages ?? []) if (page) pages.add(page);
  for (const object of [...world.files, ...world.objects]) for (const page of object.cache.values()) pages.add(page);
  // A huge page is freed as one.
  for (const page of [...pages]) if (page.block) for (const each of page.block.pages) pages.add(each);
  const usage = new Map<Memory, number>();
  for (const page of pages) usage.set(page.memory, (usage.get(page.memory) ?? 0) + page.weight);
  return usage;
}
