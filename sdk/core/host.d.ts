// What the SDK asks of its host, Node or a browser, beyond the language itself. The SDK is compiled without the DOM and without Node's
// types, so that nothing else slips in. A file that uses one of these starts with `/// <reference path="./host.d.ts" />`: the bundler's
// type step sees only what is imported. None of these names may appear in a public type: a user may have neither library.

declare namespace WebAssembly {
  class Module {
    constructor(bytes: ArrayBufferView | ArrayBuffer);
  }
  class Instance {
    constructor(module: Module, imports?: Record<string, Record<string, unknown>>);
    readonly exports: Record<string, unknown>;
  }
  class Memory {
    constructor(descriptor: { initial: number; maximum?: number; shared?: boolean });
    readonly buffer: ArrayBuffer;
    grow(pages: number): number;
  }
  class RuntimeError extends Error {}
  class LinkError extends Error {}
  class CompileError extends Error {}
  function compile(bytes: ArrayBufferView | ArrayBuffer): Promise<Module>;
}

declare class TextDecoder {
  constructor(label?: string, options?: { fatal?: boolean; ignoreBOM?: boolean });
  decode(bytes?: ArrayBufferView | ArrayBuffer, options?: { stream?: boolean }): string;
}

declare class TextEncoder {
  encode(text?: string): Uint8Array<ArrayBuffer>;
  encodeInto(text: string, target: Uint8Array): { read: number; written: number };
}

declare function atob(text: string): string;
declare function btoa(text: string): string;
/** Timers, which Node and browsers have. */
declare function setTimeout(callback: () => void, milliseconds: number): unknown;

/** A clock, for what measures how long a call takes. */
declare const performance: { now(): number };
