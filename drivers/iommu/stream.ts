/** What a driver of the device behind it does: buffers of a process are pinned and mapped, and unpinned when nobody reaches them any more. */
import { type Context, fail } from '../../sdk/gmem/index.ts';
import type { AddressRange, AddressSpace, Pin } from '../../sdk/mm/index.ts';
import type { IommuRequest, IommuResult } from './index.ts';

const PAGE = 4096;
const READ_BYTES_MAX = 2 ** 31 - 1;

/** A stream of DMA mappings of one process, for one device. */
export class DmaStream {
  private readonly context: Context;
  private readonly space: AddressSpace;
  /** What is pinned for it. */
  private readonly held: Set<Pin> = new Set();

  /** `context`: the device, in any space. `space`: whose buffers they are. */
  constructor(context: Context, space: AddressSpace) {
    if (typeof context?.command !== 'function') throw fail('EINVAL', 'DmaStream.context', context, 'is not a context of an iommu');
    if (typeof space?.pin !== 'function') throw fail('EINVAL', 'DmaStream.space', space, 'is not an address space');
    this.context = context;
    this.space = space;
  }

  /** The device reaches a range from now on, to read or to write; returns its first I/O address. Errors: ENOMEM, and those of `space.pin`. Models: `dma_map_single`. */
  map(range: AddressRange, options: { readonly write?: boolean } = {}): number {
    if (typeof options !== 'object' || options === null) throw fail('EINVAL', 'DmaStream.map options', options, 'are not an object');
    for (const name in options) if (name !== 'write') throw fail('EINVAL', 'DmaStream.map option', name, 'is not one of: write');
    const write = options.write ?? false;
    if (typeof write !== 'boolean') throw fail('EINVAL', 'DmaStream.map.write', write, 'is not true or false');
    const pages = this.space.pin(range, { write, longTerm: true });
    try {
      const { iova } = this.run({ op: 'map', pages, write });
      this.held.add(pages);
      return iova!;
    } catch (error) {
      pages.unpin();
      throw error;
    }
  }

  /** The device is not to reach it any more; whether it still can, until the next flush, is a matter of the mode. Errors: EINVAL for an address that is not mapped. Models: `dma_unmap_single`. */
  unmap(iova: number): void {
    this.run({ op: 'unmap', iova });
  }

  /** Reads bytes as the device would. Errors: EFAULT where nothing is mapped for it. */
  read(iova: number, bytes: number): Uint8Array {
    if (!Number.isSafeInteger(bytes) || bytes < 0 || bytes > READ_BYTES_MAX)
      throw fail('EINVAL', 'DmaStream.read.bytes', bytes, 'is not a length between 0 and 2^31 - 1');
    const into = new Uint8Array(bytes);
    this.each('read', iova, bytes, (pin, offset, at, length) => into.set(pin.read(offset, length), at));
    return into;
  }

  /** Writes bytes as the device would. Errors: EFAULT where nothing is mapped for it, or only to read; what was written before stays written. */
  write(iova: number, bytes: Uint8Array): void {
    if (!(ArrayBuffer.isView(bytes) && bytes instanceof Uint8Array))
      throw fail('EINVAL', 'DmaStream.write.bytes', bytes, 'is not a Uint8Array');
    this.each('write', iova, bytes.length, (pin, offset, at, length) => pin.write(offset, bytes.subarray(at, at + length)));
  }

  /** Nothing that was unmapped is reached any more. */
  flush(): void {
    this.run({ op: 'flush' });
  }

  /** Time goes by. */
  tick(ticks = 1): void {
    this.run({ op: 'tick', ticks });
  }

  /** Where it stands. */
  get state(): IommuResult {
    return this.run({ op: 'counts' });
  }

  /** The device leaves, and reaches nothing any more: everything is unpinned. Errors: those of `context.detach`. */
  close(): void {
    this.context.detach();
    for (const pages of this.held) pages.unpin();
    this.held.clear();
  }

  private each(
    verb: 'read' | 'write',
    iova: number,
    bytes: number,
    visit: (pin: Pin, offset: number, at: number, length: number) => void,
  ): void {
    if (!Number.isSafeInteger(iova) || iova < 0) throw fail('EINVAL', `DmaStream.${verb}.iova`, iova, 'is not an address');
    for (let at = 0; at < bytes;) {
      const addr = iova + at;
      const offset = addr % PAGE;
      const { target } = this.run({ op: 'translate', iova: addr, write: verb === 'write', count: Math.ceil((offset + bytes - at) / PAGE) });
      if (!target) throw fail('EFAULT', `DmaStream.${verb}.iova`, addr, 'is not mapped for the device');
      const length = Math.min(bytes - at, target.count * PAGE - offset);
      visit(target.pages as Pin, target.page * PAGE + offset, at, length);
      at += length;
    }
  }

  private run(request: IommuRequest): IommuResult {
    const result = this.context.command(request) as IommuResult;
    for (const pages of result.done as readonly Pin[]) if (this.held.delete(pages)) pages.unpin();
    return result;
  }
}
