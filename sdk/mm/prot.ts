/** Rights of a mapping as programs write them. */
import { fail } from '../errors.ts';
import { PROT_EXEC as EXEC, PROT_READ as READ, PROT_WRITE as WRITE } from './vma.ts';

/** Any of the letters r, w and x in this order, or 'none'. */
export type Prot = 'none' | 'r' | 'w' | 'x' | 'rw' | 'rx' | 'wx' | 'rwx';

const BITS: Readonly<Record<Prot, number>> = {
  none: 0,
  r: READ,
  w: READ | WRITE,
  x: EXEC,
  rw: READ | WRITE,
  rx: READ | EXEC,
  wx: READ | WRITE | EXEC,
  rwx: READ | WRITE | EXEC,
};

const WORDS: readonly Prot[] = ['none', 'r', 'rw', 'rw', 'x', 'rx', 'rwx', 'rwx'];

/** Bits as a word. */
export function protWord(bits: number): Prot {
  return WORDS[bits & (READ | WRITE | EXEC)]!;
}

/** The bits of a right; the right to write includes the right to read, as on the machines modelled. */
export function protBits(argument: string, prot: Prot): number {
  const bits = typeof prot === 'string' && Object.hasOwn(BITS, prot) ? BITS[prot] : undefined;
  if (bits === undefined) throw fail('EINVAL', argument, prot, `is not one of ${Object.keys(BITS).join(', ')}`);
  return bits;
}
