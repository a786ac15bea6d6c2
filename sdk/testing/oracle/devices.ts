/** A device attaches to a space and leaves it; its memories are plugged and removed. */
import { movePage, toHost } from './migrations.ts';
import { revokeExclusive } from './pages.ts';
import { vmaOf } from './promises.ts';
import { type DeviceModel, HOST, type Memory, SLOTS, type SpaceModel, type World } from './state.ts';
import { plugMemory } from './world.ts';

export function attach(space: SpaceModel, device: DeviceModel): string {
  if (space.attached.includes(device)) return 'EINVAL';
  space.attached.push(device);
  return 'ok';
}

export function detach(world: World, space: SpaceModel, device: DeviceModel): string {
  for (const memory of device.memories) {
    if (!memory) continue;
    for (let slot = 0; slot < SLOTS.length; slot++) {
      const entry = space.entries[slot];
      if (entry?.page?.memory !== memory) continue;
      if (entry.exclusive) revokeExclusive(entry, space.promises[slot]!.prot);
      if (memory.kind === 'coherent' && entry.noAccess) {
        movePage(entry.page, HOST);
        continue;
      }
      // All that follows, up to one that has to be revoked first, goes at once.
      let end = slot;
      for (const { to } = vmaOf(space, slot); end < to && !space.entries[end]?.exclusive;) end++;
      toHost(space, slot, end, memory);
      slot = end - 1;
    }
  }
  for (const entry of space.entries) if (entry?.page?.memory.device === device && !entry.exclusive) return 'EAGAIN';
  leaveSpace(world, space, device);
  return 'ok';
}

export function leaveSpace(world: World, space: SpaceModel, device: DeviceModel): void {
  if (!world.spaces.some((each) => each !== space && each?.attached.includes(device)))
    for (const memory of device.memories) if (memory) evacuate(world, memory);
  space.attached.splice(space.attached.indexOf(device), 1);
}

/** Everything on a memory comes home. Returns whether all of it could. */
function evacuate(world: World, memory: Memory): boolean {
  let left = false;
  for (const space of world.spaces) {
    if (!space) continue;
    for (let slot = 0; slot < SLOTS.length; slot++) {
      const entry = space.entries[slot];
      if (entry?.page?.memory !== memory) continue;
      if (entry.exclusive) revokeExclusive(entry, space.promises[slot]!.prot);
      if (movePage(entry.page, HOST) === 0) left = true;
    }
  }
  return !left;
}

export function addMemory(device: DeviceModel, kind: 'private' | 'coherent'): string {
  return `ok ${plugMemory(device, kind)}`;
}

export function removeMemory(world: World, device: DeviceModel, index: number): string {
  const memory = device.memories[index]!;
  let free = evacuate(world, memory);
  for (const pin of world.pins) for (const { page } of pin?.pages ?? []) if (page?.memory === memory) free = false;
  if (!free) return 'EBUSY';
  device.memories[index] = undefined;
  return 'ok';
}
