/** One atomic of a device, by the means that it has, in their order. */
import { makeExclusive, serveDeviceFault } from './device-faults.ts';
import { CODES } from './faults.ts';
import { mayMove, migrate } from './migrations.ts';
import { isPresent } from './pages.ts';
import type { DeviceModel, Entry, SpaceModel } from './state.ts';

export function deviceAtomic(space: SpaceModel, device: DeviceModel, slot: number, word: number, operand: number, has: boolean): string {
  let busy = false;
  let reaches = has;
  for (const means of [...device.atomics, undefined]) {
    let moved = false;
    for (;;) {
      const entry = space.entries[slot];
      const isOwn = entry?.page?.memory.device === device && !(entry.noAccess && entry.page.memory.kind === 'coherent');
      const isAlone = entry?.exclusive || entry?.cpuReads;
      if (means !== undefined && reaches && (means === 'native' || isOwn || isAlone)) return addToWord(entry!, word, operand);
      if (means === undefined) return busy ? 'EAGAIN' : 'EOPNOTSUPP';
      if (means === 'exclusive') {
        const end = makeExclusive(space, slot, false);
        if (end === 'done') return addToWord(space.entries[slot]!, word, operand);
        if (end !== 'not supported') return CODES[end];
        break;
      }
      if (means === 'migrate') {
        if (!device.memories.some((each) => each !== undefined)) break;
        if (reaches && couldMove(space, slot)) {
          if (!moved) {
            moved = true;
            migrate(space, device, slot, slot + 1, true, -1);
            reaches = true;
            continue;
          }
          busy = true;
          break;
        }
      }
      if (!reaches) {
        const end = serveDeviceFault(space, device, slot, true);
        if (end !== 'served') return CODES[end];
        reaches = true;
      }
      const now = space.entries[slot]!;
      if (means === 'native' || now.page?.memory.device === device) return addToWord(now, word, operand);
      if (couldMove(space, slot)) {
        // Made movable by the fault, and left where it was: asked for explicitly, once.
        if (means === 'migrate' && !moved) continue;
        busy = true;
      }
      break;
    }
  }
  throw new Error('unreachable');
}

function couldMove(space: SpaceModel, slot: number): boolean {
  const entry = space.entries[slot];
  return isPresent(entry) && mayMove(space.promises[slot]!, entry!);
}

function addToWord(entry: Entry, word: number, operand: number): string {
  const { words } = entry.page!;
  const old = words[word]!;
  words[word] = (old + operand) >>> 0;
  return `ok ${old}`;
}
