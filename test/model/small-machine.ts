/** Machines that fit in a comment: one space of 64 writable pages from page 0 on, and one device. */
import type { ModelContext } from '../../sdk/testing/model/context.ts';
import { ModelMachine } from '../../sdk/testing/model/machine.ts';
import type { ModelNouveau } from '../../sdk/testing/model/nouveau.ts';
import type { JobAccess } from '../../sdk/testing/model/lanes.ts';
import type { ModelSpace } from '../../sdk/testing/model/space.ts';

export interface Small {
  machine: ModelMachine;
  space: ModelSpace;
}

export function smallMachine({ dramPages = 256, mapped = 64 }: { dramPages?: number; mapped?: number } = {}): Small {
  const machine = new ModelMachine({ dramPages });
  const space = machine.createSpace();
  space.mmap(0, mapped, 'rw');
  return { machine, space };
}

export interface SmallNouveau extends Small {
  device: ModelNouveau;
  context: ModelContext;
}

export function smallNouveau(
  shape: { vramPages?: number; granulePages?: number; faultEntries?: number; dramPages?: number; mapped?: number } = {},
): SmallNouveau {
  const { vramPages = 64, granulePages = 1, faultEntries = 256 } = shape;
  const { machine, space } = smallMachine(shape);
  const device = machine.addNouveau({ name: 'nouveau', vramPages, granulePages, faultEntries });
  return { machine, space, device, context: machine.attach(space, device) };
}

export function smallMirror({ granulePages = 1 }: { granulePages?: number } = {}): Small & { context: ModelContext } {
  const { machine, space } = smallMachine();
  return { machine, space, context: machine.attach(space, machine.addMirror({ name: 'mirror', granulePages, faultEntries: 256 })) };
}

/** Address of the first byte of a page. */
export function at(vpn: number): number {
  return vpn * 4096;
}

/** A load of the first 8 bytes of a page. */
export function load(vpn: number): JobAccess {
  return { addr: at(vpn), bytes: 8, write: false };
}

/** A store to the first 8 bytes of a page. */
export function store(vpn: number, lo = 1, hi = 0): JobAccess {
  return { addr: at(vpn), bytes: 8, write: true, lo, hi };
}
