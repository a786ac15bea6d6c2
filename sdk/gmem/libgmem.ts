/** The names of libgmem, GMEM's user library, on top of `hmadvise` and streams: nodes by number, without a stream at once. */
import { fail } from '../errors.ts';
import type { AddressSpace } from '../mm/address-space.ts';
import { ADDRESS_LIMIT, requireCount, requireObject } from '../mm/arguments.ts';
import type { HintResult } from '../mm/hint.ts';
import { Device } from './device.ts';
import { Stream } from './stream.ts';

/** The number of a device's first memory among the nodes of its machine, above that of the host. Errors: EOPNOTSUPP for a device without memory. Models: `gmemGetNumaId`. */
export function gmemGetNumaId(device: Device): number {
  if (!(device instanceof Device)) throw fail('EINVAL', 'gmemGetNumaId.device', device, 'is not a device of a machine');
  if (!device.memory) throw fail('EOPNOTSUPP', 'gmemGetNumaId.device', device.name, 'has no memory of its own');
  return device.memory.node.index;
}

/** Brings bytes to the node with this number: at once, or in its turn on a stream. Errors: EINVAL, and as for `hmadvise`. Models: `gmemPrefetch`. */
export function gmemPrefetch(space: AddressSpace, addr: number, bytes: number, hnid: number): HintResult;
export function gmemPrefetch(space: AddressSpace, addr: number, bytes: number, hnid: number, stream: Stream): Promise<HintResult>;
export function gmemPrefetch(
  space: AddressSpace,
  addr: number,
  bytes: number,
  hnid: number,
  stream?: Stream,
): HintResult | Promise<HintResult> {
  requireSpace('gmemPrefetch', space, addr, bytes, stream);
  const device = space.placeOf(hnid);
  if (device === undefined) throw fail('EINVAL', 'gmemPrefetch.hnid', hnid, 'is not the number of a node that pages can be in');
  const range = { start: addr, end: addr + bytes };
  if (!stream) return space.hmadvise(range, 'prefetch', { device });
  if (device !== 'host' && device.owner !== stream.context.device.owner)
    throw fail('EINVAL', 'gmemPrefetch.hnid', hnid, `is not of ${stream.context.name}, whose stream it is`);
  return stream.prefetchAsync(range, device === 'host' ? 'host' : 'device');
}

/** Gives the pages up that lie in a range: at once, or in its turn on a stream. Errors: EINVAL. Models: `gmemFreeEager`. */
export function gmemFreeEager(space: AddressSpace, addr: number, bytes: number): HintResult;
export function gmemFreeEager(space: AddressSpace, addr: number, bytes: number, stream: Stream): Promise<HintResult>;
export function gmemFreeEager(space: AddressSpace, addr: number, bytes: number, stream?: Stream): HintResult | Promise<HintResult> {
  requireSpace('gmemFreeEager', space, addr, bytes, stream);
  const range = { start: addr, end: addr + bytes };
  return stream ? stream.dontneedAsync(range) : space.hmadvise(range, 'dontneed');
}

function requireSpace(verb: string, space: AddressSpace, addr: number, bytes: number, stream: Stream | undefined): void {
  requireObject(`${verb}.space`, space, 'an address space');
  if (typeof space.hmadvise !== 'function') throw fail('EINVAL', `${verb}.space`, space, 'is not an address space');
  if (!Number.isSafeInteger(addr) || addr < 0 || addr >= ADDRESS_LIMIT)
    throw fail('EINVAL', `${verb}.addr`, addr, 'is not a byte address below 2^48');
  requireCount(`${verb}.bytes`, bytes, 1, ADDRESS_LIMIT);
  if (stream === undefined) return;
  if (!(stream instanceof Stream)) throw fail('EINVAL', `${verb}.stream`, stream, 'is not a stream (see context.stream)');
  if (stream.context.space !== space) throw fail('EINVAL', `${verb}.stream`, stream.context.name, 'is of another address space');
}
