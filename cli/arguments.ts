/**
 * The words of a command line, sorted into options and the rest. Values stay the text that was typed: `--json 007` is a file called 007.
 *
 * Written out, because parsers from packages turn `007` into 7, drop the word `-`, or take no list behind one option.
 */
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
  /** The value of an `optional` that was written as a word of its own, and may have been meant for a positional. */
  let borrowed: { readonly name: string; readonly word: string } | undefined;
  for (let i = 0; i < words.length; i++) {
    const word = words[i]!;
    if (word === '--') {
      positionals.push(...words.slice(i + 1));
      break;
    }
    if (!word.startsWith('-') || word === '-') {
      positionals.push(word);
      continue;
    }
    const equals = word.indexOf('=');
    const written = equals < 0 ? word : word.slice(0, equals);
    const inline = equals < 0 ? undefined : word.slice(equals + 1);
    const option = known.find(({ name }) => written === `--${name}`);
    if (!option)
      throw new UsageError(
        unknown(
          'option',
          written,
          known.map(({ name }) => `--${name}`),
          command,
        ),
      );
    const given = options.get(option.name);
    if (given && option.takes !== 'many') throw new UsageError(`${written} is given twice`);
    const values = given ?? [];
    options.set(option.name, values);

    const next = words[i + 1];
    const follows = next !== undefined && (next === '-' || !next.startsWith('-'));
    if (inline !== undefined) {
      if (option.takes === 'none') throw new UsageError(`${written} takes no value`);
      if (inline === '') throw new UsageError(`${written} needs a value: ${written} ${option.value}`);
      values.push(inline);
    } else if (option.takes === 'optional') {
      if (follows && next !== '-') {
        values.push(next);
        borrowed = { name: option.name, word: next };
        i++;
      }
    } else if (option.takes !== 'none') {
      if (!follows) throw new UsageError(`${written} needs a value: ${written} ${option.value}`);
      values.push(next);
      i++;
    }
    if (option.takes === 'many') {
      while (i + 1 < words.length && option.further?.test(words[i + 1]!)) values.push(words[++i]!);
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
  const near = known.map((name) => ({ name, edits: distance(given, name) })).sort((a, b) => a.edits - b.edits)[0];
  const hint = near && near.edits <= Math.max(2, given.length / 3) ? `did you mean ${near.name}?` : `${command} --help lists what there is`;
  return `unknown ${what} ${given}: ${hint}`;
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
