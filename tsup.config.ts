import { copyFileSync, rmSync } from 'node:fs';
import { defineConfig } from 'tsup';

// Both builds below write to dist at the same time, so neither may clean it.
rmSync('dist', { recursive: true, force: true });

export default defineConfig([
  {
    name: 'package',
    entry: {
      index: 'sdk/index.ts',
      gmem: 'sdk/gmem/index.ts',
      mm: 'sdk/mm/index.ts',
      replay: 'sdk/replay/index.ts',
      testing: 'sdk/testing/index.ts',
      'drivers/dmirror': 'drivers/dmirror/index.ts',
      'drivers/integrated': 'drivers/integrated/index.ts',
      'drivers/kvm': 'drivers/kvm/index.ts',
      'drivers/iommu': 'drivers/iommu/index.ts',
      'drivers/mirror': 'drivers/mirror/index.ts',
      'drivers/nouveau': 'drivers/nouveau/index.ts',
      'drivers/npu': 'drivers/npu/index.ts',
      'drivers/rdma': 'drivers/rdma/index.ts',
    },
    format: ['esm', 'cjs'],
    target: 'es2022',
    // No shims for Node: the same files run in browsers.
    platform: 'neutral',
    // `splitting` stays unset: the ESM entries share chunks (one core, one class each), the CJS entries are whole files.
    dts: { compilerOptions: { ignoreDeprecations: '6.0' } },
    sourcemap: true,
    // The loader is a devDependency: it is bundled. Its licence is in THIRD-PARTY-NOTICES.md.
    noExternal: ['@assemblyscript/loader'],
    onSuccess: async () => copyFileSync('build/core.wasm', 'dist/core.wasm'),
  },
  {
    name: 'command',
    entry: { cli: 'cli/main.ts', lookout: 'cli/lookout-thread.ts' },
    format: ['esm'],
    target: 'node20',
    platform: 'node',
    dts: false,
    // The command uses the package as any other program does, through its published entry points.
    external: [/^farfault(\/|$)/],
    noExternal: ['cli-progress'],
    removeNodeProtocol: false,
    // Bundled CommonJS asks for Node's modules with require, which an ES module does not have.
    banner: { js: "#!/usr/bin/env node\nimport { createRequire } from 'node:module';\nconst require = createRequire(import.meta.url);" },
  },
]);
