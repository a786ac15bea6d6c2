/**
 * Writes THIRD-PARTY-NOTICES.md: the licence of every package that the build put into dist, as the marks in the bundles name them.
 * Run it after a build when a bundled package was added or raised: `npm run notices`. A test compares.
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = fileURLToPath(new URL('../', import.meta.url));

/** Packages without a licence file of their own: where the text of their project is. */
const ELSEWHERE = { '@assemblyscript/loader': 'assemblyscript' };

/** The text of THIRD-PARTY-NOTICES.md as the present dist asks for it. */
export function notices() {
  const packages = bundledFolders().map((folder) => ({ folder, ...JSON.parse(readFileSync(join(root, folder, 'package.json'), 'utf8')) }));
  packages.sort((a, b) => (a.name < b.name ? -1 : 1));
  const parts = packages.map(({ folder, name, version, license }) => {
    const home = ELSEWHERE[name] ? `node_modules/${ELSEWHERE[name]}` : folder;
    const texts = readdirSync(join(root, home)).filter((file) => /^(licen[cs]e|notice)/i.test(file));
    if (texts.length === 0) throw new Error(`${name} has no licence text in ${home}`);
    const bodies = texts.sort().map((file) => fenced(readFileSync(join(root, home, file), 'utf8')));
    return `## ${name} ${version}\n\nLicence: ${license}\n\n${bodies.join('\n\n')}\n`;
  });
  return `# Third-party notices

The files in \`dist\` contain code of these packages. The compiled core contains parts of AssemblyScript's standard library, under the
licence given for @assemblyscript/loader.

${parts.join('\n')}`;
}

/** Folders of the packages whose code is in the bundles: esbuild marks each module with its path. */
function bundledFolders() {
  const folders = new Set();
  for (const file of readdirSync(join(root, 'dist'), { recursive: true, encoding: 'utf8' })) {
    if (!/\.c?js$/.test(file)) continue;
    for (const [, path] of readFileSync(join(root, 'dist', file), 'utf8').matchAll(/^\s*\/\/ (node_modules\/\S+)$/gm)) {
      const folder = /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1];
      if (folder && existsSync(join(root, folder, 'package.json'))) folders.add(folder);
    }
  }
  return [...folders];
}

function fenced(text) {
  const trimmed = text
    .split(/\r?\n/)
    .map((line) => line.trimEnd())
    .join('\n')
    .replace(/^\n+|\n+$/g, '');
  return `\`\`\`text\n${trimmed}\n\`\`\``;
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  writeFileSync(join(root, 'THIRD-PARTY-NOTICES.md'), notices());
}
