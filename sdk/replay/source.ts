/** What a trace is read from. */
import { fail } from '../errors.ts';
import type { ByteSource } from './gzip.ts';

/** Throws unless it gives chunks of bytes. */
export function requireSource(argument: string, source: ByteSource): void {
  const given = source as Partial<AsyncIterable<Uint8Array> & Iterable<Uint8Array>> | null | undefined;
  const gives = typeof source === 'object' && (given?.[Symbol.asyncIterator] ?? given?.[Symbol.iterator]);
  if (typeof gives !== 'function') throw fail('EINVAL', argument, source, 'is not an iterable of Uint8Array');
}
