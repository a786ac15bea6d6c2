/**
 * What somebody who runs a device chooses for it, beside its driver: `machine.addDevice(driver, policy)`. The choices themselves are pure and live in this folder; the steps of
 * `sdk/gmem` act on them.
 */
import { fail } from '../errors.ts';

/** Choices for one device; all of them have defaults. */
export type DevicePolicy = Readonly<Partial<Record<never, unknown>>>;

/** Names of the choices. */
const CHOICES: readonly string[] = [];

/** Throws EINVAL for a choice that does not exist. */
export function checkPolicy(device: string, policy: DevicePolicy): void {
  for (const name of Object.keys(policy)) {
    if (!CHOICES.includes(name)) throw fail('EINVAL', `${device} policy`, name, 'is no choice that a device has');
  }
}
