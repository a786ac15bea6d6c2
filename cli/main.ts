/** The command: `farfault replay`, `farfault examples`, `farfault grade`, `farfault new-driver`. */
import { unknown } from './arguments.ts';
import { examples } from './examples.ts';
import { explain, UsageError } from './fail.ts';
import { grade } from './grade.ts';
import { EXAMPLES_HELP, GRADE_HELP, HELP, NEW_DRIVER_HELP, REPLAY_HELP } from './help.ts';
import { manifest } from './manifest.ts';
import { newDriver } from './new-driver.ts';
import { print } from './output.ts';
import { replay } from './replay.ts';

interface Command {
  readonly help: string;
  /** Returns the exit code, when it is another than 0. */
  run(words: readonly string[]): Promise<number | void>;
}

const COMMANDS: Readonly<Record<string, Command>> = {
  replay: { help: REPLAY_HELP, run: replay },
  examples: { help: EXAMPLES_HELP, run: examples },
  grade: { help: GRADE_HELP, run: grade },
  'new-driver': { help: NEW_DRIVER_HELP, run: newDriver },
};

async function main(words: readonly string[]): Promise<number | void> {
  const [first, ...rest] = words;
  if (first === undefined || first === '--help' || first === '-h' || first === 'help') return print(HELP);
  if (first === '--version' || first === '-v') return print(manifest().version);
  if (first.startsWith('-')) throw new UsageError(unknown('option', first, ['--help', '--version'], 'farfault'));
  const command = Object.hasOwn(COMMANDS, first) ? COMMANDS[first] : undefined;
  if (!command) throw new UsageError(unknown('command', first, Object.keys(COMMANDS), 'farfault'));
  if (rest.includes('--help') || rest.includes('-h')) return print(command.help);
  return command.run(rest);
}

// `exit` listeners put things back in order: the cursor, half-written files.
const SIGNALS = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;
for (const [signal, code] of Object.entries(SIGNALS)) process.on(signal, () => process.exit(code));

// The reader of a pipe has gone: nobody is left to tell.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: { code?: string }) => {
    if (error.code === 'EPIPE') process.exit(0);
    throw error;
  });
}

main(process.argv.slice(2)).then(
  (code) => process.exit(code ?? 0),
  (error: unknown) => process.exit((error as { code?: unknown } | null)?.code === 'EPIPE' ? 0 : explain(error)),
);
