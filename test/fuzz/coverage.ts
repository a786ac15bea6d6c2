/**
 * What random programs have reached: entry kind × verb. Every cell that can be must be; those that cannot have a reason.
 */
import { VERBS, type Verb } from './operations.ts';

/** Kinds of home entries, as a program meets them. */
export const ENTRIES = [
  'none',
  'zero',
  'host',
  'host ro',
  'file',
  'file ro',
  'private',
  'private ro',
  'coherent',
  'coherent ro',
  'protnone',
  'exclusive',
  'cpu reads',
  'huge zero',
  'huge host',
  'huge host ro',
  'huge private',
  'huge private ro',
  'huge coherent',
  'huge coherent ro',
  'huge protnone',
  'hugetlb',
  'hugetlb ro',
] as const;

/** Verbs that do not meet an entry: what they act on is a file, a pin or a device. */
export const ENTRYLESS: readonly Verb[] = ['file write', 'file read', 'truncate', 'sync', 'unpin', 'pin write', 'plug', 'unplug'];

/** Cells that no program reaches, and why. */
export const IMPOSSIBLE: ReadonlyMap<string, string> = new Map();

/** Cells that a program must reach. */
export function legalCells(): string[] {
  const verbs = VERBS.filter((verb) => !ENTRYLESS.includes(verb));
  return ENTRIES.flatMap((entry) => verbs.map((verb) => `${entry} | ${verb}`)).filter((cell) => !IMPOSSIBLE.has(cell));
}

/** What a run has seen: entry kind × verb, and a hash of every result and value. */
export class Seen {
  readonly cells: Map<string, number> = new Map();
  hash = 0x811c9dc5;
  operations = 0;

  see(kind: string, verb: Verb): void {
    const cell = `${kind} | ${verb}`;
    this.cells.set(cell, (this.cells.get(cell) ?? 0) + 1);
  }

  fold(value: number): void {
    let hash = this.hash;
    for (let i = 0; i < 4; i++) hash = Math.imul(hash ^ ((value >>> (i * 8)) & 255), 0x01000193);
    this.hash = hash >>> 0;
  }

  /** A line for each entry: how often each verb met it, in the order of VERBS. */
  table(): string {
    const verbs = VERBS.filter((verb) => !ENTRYLESS.includes(verb));
    const rows = ENTRIES.map(
      (entry) => `${entry.padEnd(17)}${verbs.map((verb) => String(this.cells.get(`${entry} | ${verb}`) ?? 0).padStart(7)).join('')}`,
    );
    return [`${''.padEnd(17)}${verbs.map((verb) => verb.slice(0, 6).padStart(7)).join('')}`, ...rows].join('\n');
  }

  note(text: string): void {
    for (let i = 0; i < text.length; i++) this.fold(text.charCodeAt(i));
  }
}
