/**
 * The words of a command line, sorted into options and the rest. Values stay the text that was typed: `--json 007` is a file called 007.
 *
 * On Node's own `parseArgs`: it tells the words apart; what may follow which option is decided here, since it knows no lists and no optional values.
 */
import { parseArgs } from 'node:util';
import { UsageError } from './fail.ts';

/** An option that a command knows. */
export interface OptionDescription {
  /** Without the dashes. */
  readonly name: string;
  /** `none`: a flag. `one`: a value. `optional`: a value, or none. `many`: one value or more, and the option may be repeated. */
  readonly takes: 'none' | 'one' | 'optional' | 'many';
  /** How help shows the value. */
  readonly value?: string;
  /** What it means, and what holds without it; lines. */
  readonly help: readonly string[];
  /** Which further words belong to an option that takes many. */
  readonly further?: RegExp;
}

/** A command line, taken apart. */
export interface Arguments {
  readonly positionals: readonly string[];
  /** Values by option name; an option without one has an empty list, an option not given has none. */
  readonly options: ReadonlyMap<string, readonly string[]>;
}

/** Takes `words` apart by the options of `command`. Throws UsageError for an unknown option, a missing value, or a value given twice. */
export function parseArguments(words: readonly string[], known: readonly OptionDescription[], command: string): Arguments {
  const positionals: string[] = [];
  const options = new Map<string, string[]>();
  const types = Object.fromEntries(known.map(({ name }) => [name, { type: 'boolean' as const }]));
  const { tokens } = parseArgs({ args: [...words], options: types, strict: false, allowPositionals: true, tokens: true });
  /** The value of an `optional` that was written as a word of its own, and may have been meant for a positional. */
  let borrowed: { readonly name: string; readonly word: string } | undefined;
  let at = 0;
  /** The next word, if it is no option: it stands right behind the one before. */
  const following = (): string | undefined => {
    const token = tokens[at];
    return token?.kind === 'positional' && token.index === tokens[at - 1]!.index + 1 ? token.value : undefined;
  };
  /** The next word as a value that has to be there: no option begins with a digit, so -1 is a value, and refused as what it is. Takes it. */
  const value = (): string | undefined => {
    const index = tokens[at - 1]!.index + 1;
    const word = following() ?? (/^-[0-9.]/.test(words[index] ?? '') ? words[index] : undefined);
    // -4K is two tokens, an option a letter.
    if (word !== undefined) while (tokens[at]?.index === index) at++;
    return word;
  };
  while (at < tokens.length) {
    const token = tokens[at++]!;
    if (token.kind === 'option-terminator') continue;
    if (token.kind === 'positional') {
      positionals.push(token.value);
      continue;
    }
    const { rawName, value: inline } = token;
    const option = known.find(({ name }) => rawName === `--${name}`);
    const names = known.map(({ name }) => `--${name}`);
    if (!option) throw new UsageError(unknown('option', rawName, names, command));
    if (options.has(option.name) && option.takes !== 'many') throw new UsageError(`${rawName} is given twice`);
    const values = options.get(option.name) ?? [];
    options.set(option.name, values);
    if (inline !== undefined) {
      if (option.takes === 'none') throw new UsageError(`${rawName} takes no value`);
      if (inline === '') throw new UsageError(`${rawName} needs a value: ${rawName} ${option.value}`);
      values.push(inline);
    } else if (option.takes === 'optional') {
      const word = following();
      if (word !== undefined && word !== '-') {
        at++;
        values.push(word);
        borrowed = { name: option.name, word };
      }
    } else if (option.takes !== 'none') {
      const word = value();
      if (word === undefined) throw new UsageError(`${rawName} needs a value: ${rawName} ${option.value}`);
      values.push(word);
    }
    while (option.takes === 'many' && option.further?.test(following() ?? '') === true) {
      values.push(following()!);
      at++;
    }
  }
  // `replay --json x.trace`: the only word that can be the trace is the trace.
  if (borrowed && positionals.length === 0) {
    options.set(borrowed.name, []);
    positionals.push(borrowed.word);
  }
  return { positionals, options };
}

/** "unknown option --vrma: did you mean --vram?" */
export function unknown(what: string, given: string, known: readonly string[], command: string): string {
  const near = nearest(given, known);
  return `unknown ${what} ${given}: ${near === undefined ? `${command} --help lists what there is` : `did you mean ${near}?`}`;
}

/** The name that was probably meant; undefined when none is like it. */
export function nearest(given: string, known: readonly string[]): string | undefined {
  const near = known.map((name) => ({ name, edits: distance(given, name) })).sort((a, b) => a.edits - b.edits)[0];
  return near && near.edits <= Math.max(2, given.length / 3) ? near.name : undefined;
}

/** Insertions, deletions and replacements that turn one word into the other. */
function distance(from: string, to: string): number {
  let above = Array.from({ length: to.length + 1 }, (_, i) => i);
  for (let i = 1; i <= from.length; i++) {
    const line = [i];
    for (let j = 1; j <= to.length; j++) {
      line.push(Math.min(above[j]! + 1, line[j - 1]! + 1, above[j - 1]! + (from[i - 1] === to[j - 1] ? 0 : 1)));
    }
    above = line;
  }
  return above[to.length]!;
}
