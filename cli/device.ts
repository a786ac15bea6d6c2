/** The device of a replay: a built-in one by name, or a module whose default export was made with `defineDriver`. */
import { existsSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { isFarfaultError } from 'farfault';
import mirror from 'farfault/drivers/mirror';
import nouveau from 'farfault/drivers/nouveau';
import { type Driver, type DriverFactory, isDriverFactory } from 'farfault/gmem';
import { unknown } from './arguments.ts';
import { oneLine, UsageError } from './fail.ts';

/** What a driver is made with. A module gets the same two names. */
export interface DeviceOptions {
  /** Bytes of its own memory; undefined: its default. */
  readonly vram: number | undefined;
  /** Bytes that one fault moves or maps. */
  readonly granule: number;
}

/** Names without a file. */
export const BUILT_IN: readonly string[] = ['nouveau', 'mirror'];

/** The driver that `--device` names. Throws UsageError when there is none, or when it refuses the options. */
export async function makeDriver(device: string, { vram, granule }: DeviceOptions): Promise<Driver> {
  if (device === 'mirror' && vram !== undefined) throw new UsageError('--vram means nothing to mirror, which has no memory of its own');
  const factory = await findFactory(device);
  try {
    return factory({ granule, ...(vram === undefined ? {} : { vram }) });
  } catch (error) {
    if (isFarfaultError(error)) throw new UsageError(`--device ${device}: ${oneLine(error)}`, { cause: error });
    throw new UsageError(`--device ${device}: its driver could not be made: ${oneLine(error)}`, { cause: error });
  }
}

async function findFactory(device: string): Promise<DriverFactory<object>> {
  if (device === 'nouveau') return nouveau;
  if (device === 'mirror') return mirror;
  if (!/^(?:\.{0,2}[\\/]|[a-zA-Z]:[\\/])|\.[cm]?[jt]s$/.test(device)) {
    throw new UsageError(
      `${unknown('device', device, BUILT_IN, 'farfault replay')} (${BUILT_IN.join(', ')}, or a path such as ./my-device.js)`,
    );
  }
  const path = resolve(device);
  if (!existsSync(path)) throw new UsageError(`--device ${device} does not exist`);
  if (statSync(path).isDirectory()) throw new UsageError(`--device ${device} is a directory: name the module in it`);
  let module: { readonly default?: unknown };
  try {
    module = (await import(pathToFileURL(path).href)) as { readonly default?: unknown };
  } catch (error) {
    throw new UsageError(`--device ${device} cannot be loaded: ${oneLine(error)}`, { cause: error });
  }
  if (module.default === undefined)
    throw new UsageError(`--device ${device} has no default export: a driver module exports defineDriver(...) by default`);
  if (!isDriverFactory(module.default))
    throw new UsageError(`--device ${device} exports by default something that was not made with defineDriver`);
  return module.default;
}
