/**
 * Type-checks the three parts of the repository: the SDK and drivers (no DOM, no Node), everything that runs in Node, and the core.
 * The SDK is also held to isolatedDeclarations, so that every public type is written down. assembly/layout.ts is not: it is shared
 * with the AssemblyScript compiler, where its constants must have no annotation.
 */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { buildIfStale } from './build-if-stale.mjs';

const root = fileURLToPath(new URL('../', import.meta.url));
const host = { getCanonicalFileName: (name) => name, getCurrentDirectory: () => root, getNewLine: () => '\n' };

buildIfStale('core');

const isIsolation = (diagnostic) => diagnostic.code >= 9005 && diagnostic.code <= 9039;
const inCore = (diagnostic) => diagnostic.file?.fileName.startsWith(join(root, 'assembly/'));

/** `<u32>(a < b)` is 0 or 1 to asc, and a mistake to tsc. */
const BOOL_TO_NUMBER = 2352;

let problems = 0;
problems += check('tsconfig.json', { isolatedDeclarations: true, declaration: true }, (d) => !(isIsolation(d) && inCore(d)));
problems += check('tsconfig.node.json');
problems += check('assembly/tsconfig.json', {}, (d) => d.code !== BOOL_TO_NUMBER);
process.exitCode = problems > 0 ? 1 : 0;

function check(config, extra = {}, wanted = () => true) {
  const { options, fileNames, errors } = ts.getParsedCommandLineOfConfigFile(join(root, config), extra, {
    ...ts.sys,
    onUnRecoverableConfigFileDiagnostic: (diagnostic) => errors.push(diagnostic),
  });
  const program = ts.createProgram(fileNames, options);
  // noEmit leaves the declaration diagnostics out of getPreEmitDiagnostics: they are asked for by name.
  const declarations = options.isolatedDeclarations ? program.getDeclarationDiagnostics() : [];
  const all = ts.sortAndDeduplicateDiagnostics([...errors, ...ts.getPreEmitDiagnostics(program), ...declarations]).filter(wanted);
  const format = process.stdout.isTTY ? ts.formatDiagnosticsWithColorAndContext : ts.formatDiagnostics;
  process.stdout.write(format(all, host));
  console.log(`${config}: ${fileNames.length} files, ${all.length === 0 ? 'no problems' : `${all.length} problems`}`);
  return all.length;
}
