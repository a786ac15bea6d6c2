/**
 * The home table in the hands of a device that walks it: what `deviceTable` is in share mode. There is nothing to enter and nothing to release: what the CPU has, the device has. Only what the device has
 * cached has to be forgotten, which is what its `tlb` is for.
 *
 * A walk would find what is about to go as long as it is there: while a change is announced and not yet made, the device does not translate (see `DeviceMirror.mustWait`).
 *
 * Models: GM_MMU_MODE_SHARE, a device behind an IOMMU that walks the process's table (SVA).
 */
import type { Core } from '../core/abi.ts';
import type { Locator } from '../core/batch.ts';
import { fail } from '../errors.ts';
import { DeviceTable } from './device-table.ts';

/** The home table, walked by a device. */
export class SharedTable extends DeviceTable {
  /** `home`: descriptor of the home table. */
  constructor(core: Core, home: number, locator: Locator) {
    super(core, home, [], locator);
  }

  override enter(): void {}

  override release(): void {}

  override protect(): void {}

  /** Throws EOPNOTSUPP: the marks in it are the CPU's as well. */
  override harvest(): void {
    throw fail('EOPNOTSUPP', 'harvest', 'share', 'is a mode in which the marks are those of the CPU as well');
  }

  override destroy(): void {}
}
