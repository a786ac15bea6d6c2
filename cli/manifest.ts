/** The package that this command is of. */
import { readFileSync } from 'node:fs';

export interface Manifest {
  readonly version: string;
  readonly devDependencies: Readonly<Record<string, string>>;
}

/** Its package.json, from dist/cli.js. */
export function manifest(): Manifest {
  return JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as Manifest;
}
