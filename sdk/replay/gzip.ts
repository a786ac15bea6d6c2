/**
 * Bytes of a trace as they come from a file, a pipe or a fetch, and the text in them: plain, or gzip, told apart by the first two bytes.
 *
 * The host decompresses (`DecompressionStream`: Node 18 and later, every browser). Hosts differ in one thing: Node also reads several gzip
 * members one after the other, Chromium calls them garbage.
 */
import { fail, FarfaultError } from '../errors.ts';

/** Chunks of bytes, of any lengths. A chunk is borrowed until the next one is asked for. */
export type ByteSource = AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

/** The parts of a web stream that are used here. */
interface ByteTransform {
  readonly readable: {
    getReader(): { read(): Promise<{ done: boolean; value?: Uint8Array | undefined }>; cancel(reason?: unknown): Promise<void> };
  };
  readonly writable: {
    getWriter(): { write(chunk: Uint8Array): Promise<void>; close(): Promise<void>; abort(reason?: unknown): Promise<void> };
  };
}

type Host = typeof globalThis & { DecompressionStream?: new (format: 'gzip') => ByteTransform };

const NOTHING = new Uint8Array(0);

/** The text of `source`, decompressed when it is gzip. Throws EILSEQ for gzip that is cut off or damaged; `name` is what errors call the source. */
export async function* plainBytes(source: ByteSource, name: string): AsyncGenerator<Uint8Array, void, undefined> {
  const chunks = iterate(source);
  try {
    let head: Uint8Array = NOTHING;
    while (head.length < 2) {
      const next = await chunks.next();
      if (next.done) break;
      head = joined(head, next.value);
    }
    if (head.length >= 2 && head[0] === 0x1f && head[1] === 0x8b) {
      yield* gunzip(head, chunks, name);
    } else {
      if (head.length > 0) yield head;
      yield* chunks;
    }
  } finally {
    await chunks.return();
  }
}

/** One array behind the other, copied. */
export function joined(first: Uint8Array, second: Uint8Array): Uint8Array {
  const both = new Uint8Array(first.length + second.length);
  both.set(first);
  both.set(second, first.length);
  return both;
}

async function* iterate(source: ByteSource): AsyncGenerator<Uint8Array, void, undefined> {
  for await (const chunk of source) {
    if (!(ArrayBuffer.isView(chunk) && chunk instanceof Uint8Array))
      throw fail('EINVAL', 'chunk of the source', chunk, 'is not a Uint8Array');
    if (chunk.length > 0) yield chunk;
  }
}

async function* gunzip(head: Uint8Array, rest: AsyncGenerator<Uint8Array>, name: string): AsyncGenerator<Uint8Array, void, undefined> {
  const Decompression = (globalThis as Host).DecompressionStream;
  if (!Decompression)
    throw new FarfaultError('EOPNOTSUPP', name, 'gzip', 'needs DecompressionStream', `${name} is gzip, which this host cannot decompress`);
  const transform = new Decompression('gzip');
  const writer = transform.writable.getWriter();
  const reader = transform.readable.getReader();

  // Bytes go in on one side while text comes out on the other. An error of the source is kept apart from one of the decompression.
  let sourceError: { readonly error: unknown } | undefined;
  const feed = async (): Promise<void> => {
    let chunk: Uint8Array | undefined = head;
    while (chunk) {
      // Refused when the reader below has failed or been cancelled: it tells.
      await writer.write(chunk);
      try {
        const next = await rest.next();
        chunk = next.done ? undefined : next.value;
      } catch (error) {
        sourceError = { error };
        throw error;
      }
    }
    await writer.close();
  };
  const fed = feed().catch((error: unknown) => writer.abort(error).catch(() => undefined));

  try {
    while (true) {
      const { done, value } = await reader.read();
      if (done) break;
      if (value && value.length > 0) yield value;
    }
  } catch (error) {
    if (sourceError) throw sourceError.error;
    throw damaged(name, error);
  } finally {
    await reader.cancel().catch(() => undefined);
    await fed;
  }
}

/** Node: "unexpected end of file", "incorrect data check" ...; Chromium: "Compressed input was truncated", "Junk found after end of compressed data". */
function damaged(name: string, error: unknown): FarfaultError {
  const text = (error as Error).message;
  let rule = 'is damaged gzip: its contents do not match their checksum';
  if (/end of file|truncated/i.test(text)) rule = 'is gzip that was cut off: its end is missing';
  else if (/incorrect header|unknown compression|junk|trailing/i.test(text)) rule = 'is gzip with something else behind its end';
  return new FarfaultError('EILSEQ', name, text, rule, `${name} ${rule}`);
}
