/**
 * An object graph as data, and back: what a saved machine is made of, beside the memory of its core.
 *
 * ```
 *   value                                as JSON
 *   number, string, boolean, null        itself
 *   undefined, NaN, -0, infinities       ['u'] ['n', 'NaN']
 *   bigint                               ['b', '123']
 *   object                               ['r', number of the object]
 *   of the surroundings (core, driver)   ['x', name]
 *   function made by `method`            ['m', number of its object, name]
 *
 *   object                               as JSON
 *   plain                                ['o', key, value, key, value ...]
 *   array, Map, Set                      ['a', value ...]  ['M', key, value ...]  ['S', value ...]
 *   of a class                           ['c', name of the class, key, value ...]
 *   error                                ['e', name, message], one of this library ['f', message, code, argument, value, rule]
 *   typed array                          ['t', type, number of its bytes, first byte, length], over the core's memory: ['v', type, first byte, length]
 *   bytes                                ['B', first byte in the blob, length]
 * ```
 *
 * Objects are numbered in the order in which a walk from the roots meets them, breadth first: two machines in one state give the same text.
 */
import { type ErrorCode, fail, FarfaultError, isFarfaultError, printed } from '../errors.ts';
import { boundMethod, method, type StateClass } from '../step/method.ts';

/** What a graph is written and read with. */
export interface Surroundings {
  /** Objects that are not written, by name: they are there before the graph is read. */
  readonly externals: ReadonlyMap<string, object>;
  /** Classes by name. */
  readonly classes: ReadonlyMap<string, StateClass>;
  /** Fields that are not written, by class name, with what they are when the graph has been read. */
  readonly without: Readonly<Record<string, Readonly<Record<string, () => unknown>>>>;
  /** The buffer under the core's memory. */
  readonly memory: ArrayBufferLike;
}

/** A graph, written. */
export interface WrittenGraph {
  /** One entry for each object; the first is the root. */
  readonly objects: readonly Written[];
  readonly blob: Uint8Array;
}

type Written = readonly [string, ...unknown[]];

const VIEWS = {
  u8: Uint8Array,
  i8: Int8Array,
  u8c: Uint8ClampedArray,
  u16: Uint16Array,
  i16: Int16Array,
  u32: Uint32Array,
  i32: Int32Array,
  f32: Float32Array,
  f64: Float64Array,
  u64: BigUint64Array,
  i64: BigInt64Array,
} as const;
type View = InstanceType<(typeof VIEWS)[keyof typeof VIEWS]>;

/** Writes everything that can be reached from `root`. Throws EOPNOTSUPP, with the path to it, for what is no state: a function, an instance of an unknown class. */
export function writeGraph(root: object, around: Surroundings): WrittenGraph {
  return new Writer(around).write(root);
}

/** The root of a graph that `writeGraph` has written, with all that hangs on it. Throws EINVAL when it is not one. */
export function readGraph(graph: WrittenGraph, around: Surroundings): object {
  return new Reader(graph, around).read();
}

/** How an object was first met: for messages. */
interface Origin {
  readonly parent: object | undefined;
  readonly key: string;
}

/** The part of a buffer that views show. */
interface Extent {
  number: number;
  start: number;
  end: number;
}

class Writer {
  private readonly around: Surroundings;
  private readonly names: Map<object, string>;
  private readonly external: Map<object, string>;
  private readonly numbers = new Map<object, number>();
  private readonly origins = new Map<object, Origin>();
  private readonly queue: object[] = [];
  private readonly extents = new Map<ArrayBufferLike, Extent>();

  constructor(around: Surroundings) {
    this.around = around;
    this.names = new Map([...around.classes].map(([name, each]) => [each.prototype as object, name]));
    this.external = new Map([...around.externals].map(([name, object]) => [object, name]));
  }

  write(root: object): WrittenGraph {
    const objects: unknown[] = [];
    this.meet(root, undefined, 'root');
    // The queue grows while it is walked.
    for (let i = 0; i < this.queue.length; i++) objects[i] = this.object(this.queue[i]!);
    let length = 0;
    const pieces: Uint8Array[] = [];
    for (const [buffer, extent] of this.extents) {
      const bytes = new Uint8Array(buffer, extent.start, extent.end - extent.start);
      objects[extent.number] = ['B', length, bytes.length];
      pieces.push(bytes);
      length += bytes.length;
    }
    // Views are written last: only now it is known where the bytes of their buffer begin.
    for (let i = 0; i < this.queue.length; i++) {
      const view = this.queue[i]!;
      if (objects[i] !== undefined) continue;
      const { buffer, byteOffset, length: items } = view as View;
      const extent = this.extents.get(buffer)!;
      objects[i] = ['t', viewType(view)!, extent.number, byteOffset - extent.start, items];
    }
    const blob = new Uint8Array(length);
    let at = 0;
    for (const piece of pieces) {
      blob.set(piece, at);
      at += piece.length;
    }
    return { objects: objects as Written[], blob };
  }

  private meet(object: object, parent: object | undefined, key: string): number {
    let number = this.numbers.get(object);
    if (number === undefined) {
      number = this.queue.length;
      this.numbers.set(object, number);
      this.origins.set(object, { parent, key });
      this.queue.push(object);
    }
    return number;
  }

  private value(value: unknown, parent: object, key: string): unknown {
    switch (typeof value) {
      case 'string':
      case 'boolean':
        return value;
      case 'number':
        return Number.isFinite(value) && !Object.is(value, -0) ? value : ['n', Object.is(value, -0) ? '-0' : String(value)];
      case 'undefined':
        return ['u'];
      case 'bigint':
        return ['b', value.toString()];
      case 'object': {
        if (value === null) return null;
        const name = this.external.get(value);
        return name === undefined ? ['r', this.meet(value, parent, key)] : ['x', name];
      }
      case 'function': {
        const bound = boundMethod(value);
        if (bound) return ['m', this.meet(bound.object, parent, key), bound.name];
        const name = this.external.get(value);
        if (name !== undefined) return ['x', name];
        throw this.refuse(parent, key, 'is a function, which is no state: give `method(object, name)`');
      }
      default:
        throw this.refuse(parent, key, 'is a symbol, which is no state');
    }
  }

  /** What is written of an object; undefined for a view, which is written at the end. */
  private object(object: object): Written | undefined {
    if (Array.isArray(object)) return ['a', ...object.map((each, i) => this.value(each, object, `[${i}]`))];
    if (object instanceof Map) {
      const items: unknown[] = [];
      for (const [key, value] of object) items.push(this.value(key, object, '(key)'), this.value(value, object, `[${printedKey(key)}]`));
      return ['M', ...items];
    }
    if (object instanceof Set) return ['S', ...[...object].map((each) => this.value(each, object, '(item)'))];
    if (ArrayBuffer.isView(object)) return this.view(object as View);
    if (isBuffer(object)) return ['B'];
    if (isFarfaultError(object)) {
      // What it was about may be anything; a message has said it.
      const value = typeof object.value === 'object' || typeof object.value === 'function' ? printed(object.value) : object.value;
      return ['f', object.message, object.code, object.argument, this.value(value, object, '.value'), object.rule];
    }
    if (object instanceof Error) return ['e', object.name, object.message];
    const prototype = Object.getPrototypeOf(object) as object | null;
    if (prototype === Object.prototype || prototype === null) return ['o', ...this.fields(object, {})];
    const name = this.names.get(prototype);
    if (name === undefined) {
      const { parent, key } = this.origins.get(object)!;
      const className = (prototype.constructor as { name?: string } | undefined)?.name ?? 'a class without a name';
      throw this.refuse(parent, key, `is of class ${className}, which the driver does not name in its \`classes\``);
    }
    return ['c', name, ...this.fields(object, this.around.without[name] ?? {})];
  }

  private fields(object: object, without: Readonly<Record<string, unknown>>): unknown[] {
    const items: unknown[] = [];
    for (const key of Object.keys(object)) {
      if (!Object.hasOwn(without, key)) items.push(key, this.value((object as Record<string, unknown>)[key], object, `.${key}`));
    }
    return items;
  }

  private view(view: View): Written | undefined {
    const type = viewType(view);
    if (!type) {
      const { parent, key } = this.origins.get(view)!;
      throw this.refuse(parent, key, 'is a DataView, which is no state');
    }
    const { buffer, byteOffset, byteLength } = view;
    if (buffer === this.around.memory) return ['v', type, byteOffset, view.length];
    // Views of 8-byte items must begin at a multiple of 8 again.
    const start = byteOffset - (byteOffset % 8);
    const extent = this.extents.get(buffer);
    if (extent) {
      extent.start = Math.min(extent.start, start);
      extent.end = Math.max(extent.end, byteOffset + byteLength);
    } else {
      this.extents.set(buffer, { number: this.meet(buffer, view, '.buffer'), start, end: byteOffset + byteLength });
    }
    return undefined;
  }

  private refuse(parent: object | undefined, key: string, rule: string): FarfaultError {
    let path = key;
    for (let object = parent; object;) {
      const origin: Origin = this.origins.get(object)!;
      if (!origin.parent) break;
      path = origin.key + path;
      object = origin.parent;
    }
    return fail('EOPNOTSUPP', 'save', path.replace(/^\./, ''), rule);
  }
}

class Reader {
  private readonly graph: WrittenGraph;
  private readonly around: Surroundings;
  private readonly made: (object | undefined)[];

  constructor(graph: WrittenGraph, around: Surroundings) {
    this.graph = graph;
    this.around = around;
    this.made = new Array<object | undefined>(graph.objects.length);
  }

  read(): object {
    const { objects } = this.graph;
    // Shells first, bytes before their views; then what is in them, when everything that can be named is there.
    for (let i = 0; i < objects.length; i++) if (objects[i]![0] !== 't') this.made[i] = this.shell(objects[i]!);
    for (let i = 0; i < objects.length; i++) if (objects[i]![0] === 't') this.made[i] = this.view(objects[i]!);
    for (let i = 0; i < objects.length; i++) this.fill(objects[i]!, this.made[i]!);
    return this.numbered(0);
  }

  private shell(written: Written): object {
    switch (written[0]) {
      case 'o':
        return {};
      case 'a':
        return [];
      case 'M':
        return new Map();
      case 'S':
        return new Set();
      case 'c': {
        const of = this.around.classes.get(written[1] as string);
        if (!of) throw fail('EINVAL', 'image class', written[1], 'is of no driver that was given');
        return Object.create(of.prototype as object) as object;
      }
      case 'e':
        return errorOf(written[1] as string, written[2] as string);
      case 'f': {
        const [, message, code, argument, value, rule] = written as unknown as [string, string, ErrorCode, string, unknown, string];
        return new FarfaultError(code, argument, this.value(value), rule, message);
      }
      case 'B': {
        const [, start, length] = written as unknown as [string, number, number];
        // Not `blob.slice`: where the image is a Buffer of Node, that would be a view of the whole file.
        return new Uint8Array(this.graph.blob.subarray(start, start + length)).buffer;
      }
      case 'v': {
        const [, type, start, length] = written as unknown as [string, keyof typeof VIEWS, number, number];
        return new VIEWS[type](this.around.memory as ArrayBuffer, start, length);
      }
      default:
        throw fail('EINVAL', 'image object', written[0], 'is of no kind that is known');
    }
  }

  private view(written: Written): object {
    const [, type, bytes, start, length] = written as unknown as [string, keyof typeof VIEWS, number, number, number];
    return new VIEWS[type](this.numbered(bytes) as ArrayBuffer, start, length);
  }

  private fill(written: Written, object: object): void {
    switch (written[0]) {
      case 'a':
        for (let i = 1; i < written.length; i++) (object as unknown[]).push(this.value(written[i]));
        return;
      case 'M':
        for (let i = 1; i < written.length; i += 2)
          (object as Map<unknown, unknown>).set(this.value(written[i]), this.value(written[i + 1]));
        return;
      case 'S':
        for (let i = 1; i < written.length; i++) (object as Set<unknown>).add(this.value(written[i]));
        return;
      case 'o':
        return this.fillFields(written, 1, object);
      case 'c': {
        this.fillFields(written, 2, object);
        const fresh = this.around.without[written[1] as string] ?? {};
        for (const [key, make] of Object.entries(fresh)) (object as Record<string, unknown>)[key] = make();
        return;
      }
    }
  }

  private fillFields(written: Written, from: number, object: object): void {
    for (let i = from; i < written.length; i += 2) {
      // Not by assignment: a key may be the name of a setter of some prototype.
      Object.defineProperty(object, written[i] as string, {
        value: this.value(written[i + 1]),
        writable: true,
        enumerable: true,
        configurable: true,
      });
    }
  }

  private value(written: unknown): unknown {
    if (!Array.isArray(written)) return written;
    const [tag, first, second] = written as [string, unknown, unknown];
    switch (tag) {
      case 'u':
        return undefined;
      case 'n':
        return Number(first);
      case 'b':
        return BigInt(first as string);
      case 'r':
        return this.numbered(first as number);
      case 'm':
        return method(this.numbered(first as number) as Record<string, () => void>, second as string);
      case 'x': {
        const external = this.around.externals.get(first as string);
        if (!external) throw fail('EINVAL', 'image', first, 'is not among what was given to restore it');
        return external;
      }
      default:
        throw fail('EINVAL', 'image value', tag, 'is of no kind that is known');
    }
  }

  private numbered(number: number): object {
    const object = this.made[number];
    if (!object) throw fail('EINVAL', 'image object', number, 'is not there');
    return object;
  }
}

function errorOf(name: string, message: string): Error {
  const error = new Error(message);
  if (name !== 'Error') Object.defineProperty(error, 'name', { value: name, writable: true, configurable: true });
  return error;
}

function viewType(view: object): keyof typeof VIEWS | undefined {
  for (const [type, of] of Object.entries(VIEWS)) if (view instanceof of) return type as keyof typeof VIEWS;
  return undefined;
}

function isBuffer(object: object): boolean {
  const tag = Object.prototype.toString.call(object);
  return tag === '[object ArrayBuffer]' || tag === '[object SharedArrayBuffer]';
}

function printedKey(key: unknown): string {
  return typeof key === 'object' || typeof key === 'function' ? 'object' : String(key);
}
