/// <reference path="./host.d.ts" />
/**
 * Makes a core: the only place that compiles, instantiates, or makes a memory. Node and browsers take the same way.
 */
import { instantiate, instantiateSync } from '@assemblyscript/loader';
import { H_PAGES_BUMP, HEADER_BYTES, HEADER_FIELDS_END, PAGE_BYTES } from '../../assembly/layout.ts';
import { fail, FarfaultError } from '../errors.ts';
import { Core, type CoreExports } from './abi.ts';
import { ASSERTS, CORE_HASH, CORE_WASM, SOURCES_HASH } from './core-wasm.ts';
import { type Budget, type MemoryPlan, planMemory, writeHeader } from './memory.ts';

/** A compiled WebAssembly module, as `WebAssembly.compile` returns it. */
export type CompiledModule = object;

/** Names the build: the core that is embedded, and the sources around it. Part of every saved state. */
export const buildHash: string = `${CORE_HASH}-${SOURCES_HASH}`;

let embedded: Promise<WebAssembly.Module> | undefined;
let embeddedSync: WebAssembly.Module | undefined;

function bytesOf(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

/** A core over a fresh, zeroed memory. `module`: an already compiled core, for hosts that forbid compiling bytes or want to share it with workers. */
export async function loadCore(budget: Budget, module?: CompiledModule): Promise<Core> {
  const plan = planMemory(budget);
  const compiled = (module as WebAssembly.Module | undefined) ?? (await (embedded ??= WebAssembly.compile(bytesOf(CORE_WASM))));
  const memory = allocate(plan);
  // Fresh literals: the loader writes into what it is given.
  const { instance } = await instantiate(compiled as never, { env: { memory: memory as never } });
  return build(instance as unknown as { exports: unknown }, memory, plan);
}

/** The same without waiting. Browsers refuse to compile large modules on the main thread; this one is far below their limit. */
export function loadCoreSync(budget: Budget, module?: CompiledModule): Core {
  const plan = planMemory(budget);
  const compiled = (module as WebAssembly.Module | undefined) ?? (embeddedSync ??= new WebAssembly.Module(bytesOf(CORE_WASM)));
  const memory = allocate(plan);
  const { instance } = instantiateSync(compiled as never, { env: { memory: memory as never } });
  return build(instance as unknown as { exports: unknown }, memory, plan);
}

/** Throws unless a value is a module that the host has compiled. It may come from another realm. */
export function requireModule(argument: string, value: unknown): void {
  let is = false;
  try {
    is = value instanceof WebAssembly.Module || Object.prototype.toString.call(value) === '[object WebAssembly.Module]';
  } catch {
    // Nobody can say what it is.
  }
  if (!is) throw fail('EINVAL', argument, value, 'is not a WebAssembly.Module');
}

function build(instance: { exports: unknown }, memory: WebAssembly.Memory, plan: MemoryPlan): Core {
  // Every instance's exports object has a hidden class of its own, which would make each call site slower with each machine. Copied in
  // one order, they all have one.
  const exports = { ...(instance.exports as object) } as CoreExports;
  const core = new Core(exports, memory.buffer, plan, ASSERTS);
  writeHeader(core.u32, plan);
  return core;
}

/** An instance of the core over a memory of its own that may grow: for a replay's byte map. */
export interface GrowingCore {
  readonly exports: CoreExports;
  /** Its memory now; another buffer after `grow`. */
  buffer(): ArrayBuffer;
  /** Adds bytes, rounded up to 64 KiB; false when the host refuses or 4 GiB are reached. */
  grow(bytes: number): boolean;
}

/** Makes one with `bytes` bytes, all zero. */
export async function loadGrowingCore(bytes: number): Promise<GrowingCore> {
  const compiled = await (embedded ??= WebAssembly.compile(bytesOf(CORE_WASM)));
  const memory = new WebAssembly.Memory({ initial: Math.ceil(bytes / 65536), maximum: 65536 });
  const { instance } = await instantiate(compiled as never, { env: { memory: memory as never } });
  return {
    exports: { ...((instance as unknown as { exports: object }).exports as object) } as CoreExports,
    buffer: () => memory.buffer,
    grow(more) {
      try {
        memory.grow(Math.ceil(more / 65536));
        return true;
      } catch {
        return false;
      }
    },
  };
}

/**
 * Empties a used core: cheaper than another memory. Records and table pages are cleared, as far as they were used: frames are zeroed when they are handed out.
 * The end of the header is left alone, where a checked build keeps its texts.
 */
export function resetCore(core: Core): void {
  core.exports.clearTouched(core.plan.pagesAt, core.header(H_PAGES_BUMP) * PAGE_BYTES);
  core.u8.fill(0, 0, HEADER_FIELDS_END);
  core.exports.clearTouched(HEADER_BYTES, core.plan.pagesAt - HEADER_BYTES);
  writeHeader(core.u32, core.plan);
}

function allocate(plan: MemoryPlan): WebAssembly.Memory {
  try {
    return new WebAssembly.Memory({ initial: plan.wasmPages, maximum: plan.wasmPages });
  } catch (error) {
    const bytes = plan.wasmPages * 65536;
    throw new FarfaultError(
      'ENOMEM',
      'machine memory',
      bytes,
      'could not be allocated',
      `machine memory of ${(bytes / 2 ** 20).toFixed(0)} MiB could not be allocated (${(error as Error).message}): ask for less dram or deviceMemory, or close ` +
        'machines that are no longer used (a browser keeps about 100 alive); under a small address-space limit Node needs --disable-wasm-trap-handler',
    );
  }
}
