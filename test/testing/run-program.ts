/** A random program on one machine, with drivers in wraps: what came of every operation, as text. */
import dmirror from '../../drivers/dmirror/index.ts';
import mirror from '../../drivers/mirror/index.ts';
import nouveau from '../../drivers/nouveau/index.ts';
import { isFarfaultError } from '../../sdk/errors.ts';
import type { Context } from '../../sdk/gmem/context.ts';
import type { Driver } from '../../sdk/gmem/index.ts';
import { createMachineSync } from '../../sdk/machine.ts';
import {
  type Operation,
  type Program,
  PROGRAM_SPACES,
  PROGRAM_VRAM_PAGES_MAX,
  type ProgramDevice,
  printOperation,
} from '../../sdk/testing/program.ts';

const PAGE = 4096;

/** The drivers of a program, in place of its own: which of them is the first device. */
export type Cast = 'as it says' | 'own table' | 'dmirror';

function driverOf(device: ProgramDevice, cast: Cast): Driver {
  const granule = device.granulePages * PAGE;
  const { faultEntries } = device;
  if (cast === 'dmirror') return dmirror({ chunkBytes: 512 * PAGE });
  if (cast === 'own table') return mirror({ granule, faultEntries, ownTable: true });
  return device.kind === 'nouveau'
    ? nouveau({ vram: device.vramPages * PAGE, granule, faultEntries })
    : mirror({ granule, faultEntries, ownTable: device.ownTable });
}

/** Runs it to the end; the driver's errors are part of what came of an operation. */
export function runProgram(program: Program, cast: Cast, wrap: (driver: Driver) => Driver): string[] {
  const deviceMemory = cast === 'dmirror' ? 2048 * PAGE : PROGRAM_VRAM_PAGES_MAX * PAGE;
  const machine = createMachineSync({ dram: program.dramPages * PAGE, deviceMemory, tablePages: 512 });
  try {
    const devices = program.devices.map((device, i) => machine.addDevice({ ...wrap(driverOf(device, cast)), name: 'ab'[i]! }));
    const spaces = Array.from({ length: PROGRAM_SPACES }, () => machine.createAddressSpace());
    const contexts = new Map<string, Context>();
    const one = (operation: Operation): string => {
      const space = spaces[operation.space]!;
      const key = 'device' in operation ? `${operation.space} ${operation.device}` : '';
      const bytes = (op: { addr: number; bytes: number }): [number, number] => [op.addr, op.bytes];
      switch (operation.verb) {
        case 'map':
          space.mmap({ at: operation.vpn * PAGE, bytes: operation.pages * PAGE, prot: operation.prot, fixed: true });
          return 'mapped';
        case 'unmap':
          space.munmap(rangeOf(operation));
          return 'unmapped';
        case 'protect':
          space.mprotect(rangeOf(operation), operation.prot);
          return 'protected';
        case 'dontneed':
          space.madvise(rangeOf(operation), 'dontneed');
          return 'zeroed';
        case 'read':
          return hash(space.read(...bytes(operation)));
        case 'write':
          space.write(operation.addr, new Uint8Array(operation.bytes).fill(operation.value));
          return 'written';
        case 'attach':
          contexts.set(key, space.attach(devices[operation.device]!));
          return 'attached';
        default:
      }
      const context = contexts.get(key);
      if (!context) return 'not attached';
      switch (operation.verb) {
        case 'detach':
          context.detach();
          contexts.delete(key);
          return 'detached';
        case 'to-device':
        case 'to-host':
          return `${context.migrate(rangeOf(operation), { to: operation.verb === 'to-device' ? 'device' : 'host' })} pages`;
        case 'load':
          return hash(context.read(...bytes(operation)));
        case 'store':
          context.write(operation.addr, new Uint8Array(operation.bytes).fill(operation.value));
          return 'stored';
        case 'job': {
          const accesses = operation.accesses.map(({ write, addr, bytes: length, value }) => ({
            op: write ? ('write' as const) : ('read' as const),
            addr,
            bytes: length,
            value,
          }));
          const { order, cancelled, observed, rounds } = context.submit({ accesses, lanes: operation.lanes });
          return `order ${order.join()}, cancelled ${cancelled.join()}, observed ${observed.join()}, ${rounds} rounds`;
        }
      }
    };
    const told = program.operations.map((operation) => {
      let end: string;
      try {
        end = one(operation);
      } catch (error) {
        if (!isFarfaultError(error)) throw error;
        end = error.message;
      }
      return `${printOperation(operation)}: ${end}`;
    });
    for (const space of spaces) told.push(space.dump());
    // Detached in the end, so that everything has to come back.
    for (const [key, context] of contexts) {
      try {
        context.detach();
      } catch (error) {
        told.push(`${key}: ${(error as Error).message}`);
      }
    }
    told.push(machine.nodes.map((node) => `${node.name} ${node.used}`).join(', '), String(machine.verify()));
    return told;
  } finally {
    machine.close();
  }
}

function rangeOf({ vpn, pages }: { vpn: number; pages: number }): { start: number; end: number } {
  return { start: vpn * PAGE, end: (vpn + pages) * PAGE };
}

function hash(bytes: Uint8Array): string {
  let sum = 0;
  for (const byte of bytes) sum = (Math.imul(sum, 31) + byte) | 0;
  return `${bytes.length} bytes ${sum}`;
}
