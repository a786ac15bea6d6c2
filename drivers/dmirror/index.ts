/**
 * dmirror: the test driver of Linux HMM as a reference device. It does nothing by itself: a program gives it commands, and looks at what came of them.
 *
 *   request.ts     the command language: what `context.command` takes and gives
 *   table.ts       the mirror's page table: page -> frame and tag
 *   chunks.ts      device memory, plugged in chunk by chunk
 *   mirror.ts      the device in one address space
 *   fault.ts       faulting a range in
 *   access.ts      READ, WRITE                     snapshot.ts    SNAPSHOT
 *   migrate.ts     MIGRATE_TO_DEV, MIGRATE_TO_SYS  exclusive.ts   EXCLUSIVE, CHECK_EXCLUSIVE
 *   release.ts     RELEASE
 *   command.ts     what all commands are
 *   errno.ts       error numbers
 *
 * Open it with `space.attach(device)`, close it with `context.detach()`; a device may be open in several address spaces.
 *
 * Models: lib/test_hmm.c.
 */
import {
  type CommandStep,
  type Context,
  defineDriver,
  type Driver,
  type DriverFactory,
  fail,
  type GmMmu,
  MiB,
  type Translation,
} from '../../sdk/gmem/index.ts';
import { ReadWrite } from './access.ts';
import { Chunks } from './chunks.ts';
import { Immediate } from './command.ts';
import { CheckExclusive, MakeRangeExclusive } from './exclusive.ts';
import { FaultRange } from './fault.ts';
import { MigrateToDevice, MigrateToSystem } from './migrate.ts';
import { Mirror } from './mirror.ts';
import { Release } from './release.ts';
import { parse } from './request.ts';
import { Snapshot, Watch } from './snapshot.ts';
import { MirrorTable } from './table.ts';

export type { DmirrorOp, DmirrorReply, DmirrorRequest } from './request.ts';

/** Options of the dmirror driver. */
export interface DmirrorOptions {
  /** Names the device and its nodes. Default `dmirror0`. */
  readonly name?: string;
  /** Whether the CPU can reach its memory. Default `private`. */
  readonly kind?: 'private' | 'coherent';
  /** Bytes of a chunk, a multiple of 2 MiB. Default 16 MiB (Linux: 256 MiB). */
  readonly chunkBytes?: number;
}

/** The step of a command. */
function commandOf(mirror: Mirror, request: unknown): CommandStep {
  const command = parse(request);
  if (typeof command === 'number') return new Immediate('command', command);
  switch (command.op) {
    case 'READ':
    case 'WRITE':
      return new ReadWrite(mirror, command);
    case 'MIGRATE_TO_DEV':
      return new MigrateToDevice(mirror, command);
    case 'MIGRATE_TO_SYS':
      return new MigrateToSystem(mirror, command);
    case 'SNAPSHOT':
      return new Snapshot(mirror, command);
    case 'EXCLUSIVE':
      return new MakeRangeExclusive(mirror, command);
    case 'CHECK_EXCLUSIVE':
      return new CheckExclusive(mirror, command);
    case 'RELEASE':
      return new Release(mirror, command);
    case 'FLAGS':
      mirror.flags = command.pages;
      return new Immediate('FLAGS', 0);
  }
}

/** A device with the command interface of Linux's HMM test driver. */
const dmirror: DriverFactory<DmirrorOptions> = defineDriver(
  ({ name = 'dmirror0', kind = 'private', chunkBytes = 16 * MiB }: DmirrorOptions): Driver => {
    if (typeof name !== 'string') throw fail('EINVAL', 'dmirror.name', name, 'is not text');
    if (kind !== 'private' && kind !== 'coherent') throw fail('EINVAL', 'dmirror.kind', kind, "is not one of: 'private', 'coherent'");
    if (!Number.isSafeInteger(chunkBytes) || chunkBytes <= 0 || chunkBytes % (2 * MiB) !== 0)
      throw fail('EINVAL', `${name}.chunkBytes`, chunkBytes, 'is not a positive multiple of 2 MiB');
    let chunks = new Chunks(kind, chunkBytes);
    return {
      name,
      memory: [chunks.first],
      classes: [
        CheckExclusive,
        Chunks,
        FaultRange,
        Immediate,
        MakeRangeExclusive,
        MigrateToDevice,
        MigrateToSystem,
        Mirror,
        MirrorTable,
        ReadWrite,
        Release,
        Snapshot,
        Watch,
      ],
      save: () => chunks,
      restore: (saved) => {
        chunks = saved as Chunks;
      },
      attach(context: Context, saved?: unknown): GmMmu {
        const mirror = (saved as Mirror | undefined) ?? new Mirror(context, chunks);
        return {
          save: () => mirror,
          pmap: mirror.table,
          walk: {
            translate(vpn, access): Translation | undefined {
              const frame = mirror.table.find(vpn, access);
              if (frame < 0) return undefined;
              return { vpn, memory: context.memoryOf(frame), page: context.pageOf(frame), write: access === 'write' };
            },
          },
          command: (request) => commandOf(mirror, request),
        };
      },
    };
  },
  { name: true, kind: true, chunkBytes: true },
);

export default dmirror;
