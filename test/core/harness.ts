import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import * as L from '../../assembly/layout.ts';
import { type CoreExports } from '../../sdk/core/abi.ts';

/**
 * The bare core for tests of the lowest floor: a memory with a header written by hand, no SDK. Both flavours are tried, since the
 * checked one has its assertions on and the other is what ships. CORE_BUILD names another folder with a core.wasm and a
 * core.debug.wasm.
 */

export const flavours = ['core.wasm', 'core.debug.wasm'] as const;
export type Flavour = (typeof flavours)[number];

const modules = new Map<Flavour, WebAssembly.Module>();

function moduleOf(flavour: Flavour): WebAssembly.Module {
  let module = modules.get(flavour);
  if (!module) {
    const folder = process.env['CORE_BUILD'] ?? resolve(import.meta.dirname, '../../build');
    module = new WebAssembly.Module(readFileSync(resolve(folder, flavour)));
    modules.set(flavour, module);
  }
  return module;
}

/** What a bare core is to have room for. */
export interface Room {
  readonly tables?: number;
  readonly tablePages?: number;
  /** Frame records. */
  readonly frames?: number;
  /** Bytes for the test's own use, at `scratch`. */
  readonly scratchBytes?: number;
}

/** A core in a memory of its own. Addresses are byte addresses; `u32[address >>> 2]` is the word there. */
export interface Bare {
  readonly core: CoreExports;
  readonly u32: Uint32Array;
  readonly u16: Uint16Array;
  readonly areas: number;
  readonly scratch: number;
  readonly nodes: number;
  readonly frames: number;
  /** A header field. */
  header(field: number): number;
}

const aligned = (address: number, to: number): number => Math.ceil(address / to) * to;

/** Instantiates the core over a fresh memory: header, nodes, table descriptors, frame records, live counts, table pages, areas, scratch. */
export function bareCore(flavour: Flavour, room: Room = {}): Bare {
  const { tables = 4, tablePages = 64, frames = 0, scratchBytes = 1 << 16 } = room;
  let end = L.HEADER_BYTES;
  const region = (bytes: number, alignment = 64): number => {
    const start = aligned(end, alignment);
    end = start + bytes;
    return start;
  };
  const nodes = region(L.NODES_MAX * L.NODE_BYTES);
  const descriptors = region(tables * L.TABLE_BYTES);
  const records = region(frames * L.FRAME_BYTES);
  const charges = region(tables * L.NODES_MAX * 4);
  const live = region(tablePages * 2);
  const pages = region(tablePages * L.PAGE_BYTES, L.PAGE_BYTES);
  const areas = region(L.AREAS_LENGTH, L.PAGE_BYTES);
  const scratch = region(scratchBytes, L.PAGE_BYTES);

  const size = Math.ceil(end / 65536);
  const memory = new WebAssembly.Memory({ initial: size, maximum: size });
  const u32 = new Uint32Array(memory.buffer);
  const u16 = new Uint16Array(memory.buffer);
  const abort = (_message: number, _file: number, line: number, column: number): never => {
    throw new Error(`the core's assertion at ${line}:${column} failed`);
  };
  const instance = new WebAssembly.Instance(moduleOf(flavour), { env: { memory, abort } });

  const header: readonly (readonly [number, number])[] = [
    [L.H_MAGIC, L.MAGIC],
    [L.H_ABI, L.ABI_VERSION],
    [L.H_NODES, nodes],
    [L.H_TABLES, descriptors],
    [L.H_TABLES_MAX, tables],
    [L.H_FRAMES, records],
    [L.H_FRAMES_MAX, frames],
    [L.H_CHARGES, charges],
    [L.H_LIVE, live],
    [L.H_PAGES, pages],
    [L.H_PAGES_MAX, tablePages],
    [L.H_AREAS, areas],
  ];
  for (const [field, value] of header) u32[field >>> 2] = value;
  return {
    core: instance.exports as unknown as CoreExports,
    u32,
    u16,
    areas,
    scratch,
    nodes,
    frames: records,
    header: (field) => u32[field >>> 2]!,
  };
}
