/** Before every test file: random tests take the same numbers each time, unless FARFAULT_SEED says otherwise. A failure prints its seed and path. */
import fc from 'fast-check';

const { process } = globalThis as { process?: { env: Record<string, string | undefined> } };

fc.configureGlobal({ seed: Number(process?.env['FARFAULT_SEED'] ?? 20261121) });
