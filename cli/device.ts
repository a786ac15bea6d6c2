/** Drivers that a command line names: a shipped one by name, or a module whose default export was made with `defineDriver`. */
import { existsSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { isFarfaultError } from 'farfault';
import mirror from 'farfault/drivers/mirror';
import nouveau from 'farfault/drivers/nouveau';
import npu from 'farfault/drivers/npu';
import { type Driver, type DriverFactory, isDriverFactory } from 'farfault/gmem';
import type { Expectations } from 'farfault/testing';
import { unknown } from './arguments.ts';
import { oneLine, UsageError } from './fail.ts';

/** What a driver is made with. A module gets the same two names, those of them that there are. */
export interface DeviceOptions {
  /** Bytes of its own memory; undefined: its default. */
  readonly vram: number | undefined;
  /** Bytes that one fault moves or maps; undefined: its default, and for a shipped driver GRANULE_BYTES. */
  readonly granule: number | undefined;
  /** A policy chooses which of its pages go: a driver that can leaves them to it. */
  readonly policy?: boolean;
}

/** What a fault of a shipped driver moves or maps when nobody says, npu's too, whose own default is 2 MiB: they can be compared then. */
const GRANULE_BYTES = 4096;

/** Those of a replay, named by `--device`. */
const REPLAYED: DriverSource = {
  prefix: '--device ',
  command: 'farfault replay',
  builtIn: { nouveau: { factory: nouveau }, mirror: { factory: mirror }, npu: { factory: npu } },
};

/** Their names. */
export const REPLAYED_DRIVERS: readonly string[] = Object.keys(REPLAYED.builtIn);

/** The driver that `--device` names. Throws UsageError when there is none, or when it refuses the options. */
export async function makeDriver(device: string, { vram, granule, policy = false }: DeviceOptions): Promise<Driver> {
  if (device === 'mirror' && vram !== undefined) throw new UsageError('--vram means nothing to mirror, which has no memory of its own');
  const { factory } = await findDriver(device, REPLAYED);
  const isShipped = Object.hasOwn(REPLAYED.builtIn, device);
  const granuleBytes = granule ?? (isShipped ? GRANULE_BYTES : undefined);
  try {
    return factory({
      ...(granuleBytes === undefined ? {} : { granule: granuleBytes }),
      ...(vram === undefined ? {} : { vram }),
      ...(policy && device === 'nouveau' ? { allocator: 'core' } : {}),
    });
  } catch (error) {
    if (isFarfaultError(error)) throw new UsageError(`--device ${device}: ${oneLine(error)}`, { cause: error });
    throw new UsageError(`--device ${device}: its driver could not be made: ${oneLine(error)}`, { cause: error });
  }
}

/** What a driver module exports. */
export interface DriverModule {
  /** By default. */
  readonly factory: DriverFactory<object>;
  /** As `expectations`: what its author says about it when it is graded. */
  readonly expectations?: Expectations | undefined;
}

/** Where a command takes drivers from. */
export interface DriverSource {
  /** What stands before the driver in a sentence: the option that names it, or nothing. */
  readonly prefix: string;
  /** Whose `--help` says more. */
  readonly command: string;
  /** Those without a file, by name. */
  readonly builtIn: Readonly<Record<string, DriverModule>>;
}

/** The driver with this name, or in the module at this path. Throws UsageError when there is none. */
export async function findDriver(driver: string, { prefix, command, builtIn }: DriverSource): Promise<DriverModule> {
  if (Object.hasOwn(builtIn, driver)) return builtIn[driver]!;
  const shown = `${prefix}${driver}`;
  const names = Object.keys(builtIn);
  if (!/^(?:\.{0,2}[\\/]|[a-zA-Z]:[\\/])|\.[cm]?[jt]s$/.test(driver)) {
    const what = prefix === '' ? 'driver' : 'device';
    throw new UsageError(`${unknown(what, driver, names, command)} (${names.join(', ')}, or a path such as ./my-${what}.js)`);
  }
  const path = resolve(driver);
  if (!existsSync(path)) throw new UsageError(`${shown} does not exist`);
  if (statSync(path).isDirectory()) throw new UsageError(`${shown} is a directory: name the module in it`);
  let module: { readonly default?: unknown; readonly expectations?: unknown };
  try {
    module = (await import(pathToFileURL(path).href)) as typeof module;
  } catch (error) {
    if ((error as { code?: unknown } | null)?.code === 'ERR_UNKNOWN_FILE_EXTENSION' && /ts$/.test(path))
      throw new UsageError(`${shown} is TypeScript, which Node ${process.versions.node} does not load: compile it to JavaScript`, {
        cause: error,
      });
    throw new UsageError(`${shown} cannot be loaded: ${oneLine(error)}`, { cause: error });
  }
  const { default: factory, expectations } = module;
  if (factory === undefined) throw new UsageError(`${shown} has no default export: a driver module exports defineDriver(...) by default`);
  if (!isDriverFactory(factory)) throw new UsageError(`${shown} exports by default something that was not made with defineDriver`);
  if (expectations !== undefined && (typeof expectations !== 'object' || expectations === null || Array.isArray(expectations)))
    throw new UsageError(`${shown} exports expectations that are not an object`);
  return { factory, expectations: expectations as Expectations | undefined };
}
