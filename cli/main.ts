/** The command: `farfault replay`, `farfault examples`. */
import { readFileSync } from 'node:fs';
import { unknown } from './arguments.ts';
import { examples } from './examples.ts';
import { explain, UsageError } from './fail.ts';
import { EXAMPLES_HELP, HELP, REPLAY_HELP } from './help.ts';
import { print } from './output.ts';
import { replay } from './replay.ts';

interface Command {
  readonly help: string;
  run(words: readonly string[]): Promise<void>;
}

const COMMANDS: Readonly<Record<string, Command>> = {
  replay: { help: REPLAY_HELP, run: replay },
  examples: { help: EXAMPLES_HELP, run: examples },
};

async function main(words: readonly string[]): Promise<void> {
  const [first, ...rest] = words;
  if (first === undefined || first === '--help' || first === '-h' || first === 'help') return print(HELP);
  if (first === '--version' || first === '-v') return print(version());
  if (first.startsWith('-')) throw new UsageError(unknown('option', first, ['--help', '--version'], 'farfault'));
  const command = Object.hasOwn(COMMANDS, first) ? COMMANDS[first] : undefined;
  if (!command) throw new UsageError(unknown('command', first, Object.keys(COMMANDS), 'farfault'));
  if (rest.includes('--help') || rest.includes('-h')) return print(command.help);
  return command.run(rest);
}

function version(): string {
  const manifest = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string };
  return manifest.version;
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
  () => process.exit(0),
  (error: unknown) => process.exit((error as { code?: unknown } | null)?.code === 'EPIPE' ? 0 : explain(error)),
);
