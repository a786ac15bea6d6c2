import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { format } from 'node:util';
import ts from 'typescript';
import type { Driver } from 'farfault/gmem';
import { gradeDriver, printReport } from 'farfault/testing';
import { afterAll, describe, expect, test, vi } from 'vitest';

// Documentation that does not outlive the code. In README.md and docs/**/*.md
//
//   ```ts                is type-checked, as a module of its own
//   ```ts run            is executed as well; what it logs must equal the ```text output block that follows, if there is one
//   ```ts file=gpu.ts    is kept under that name beside the other blocks of its document, which may import './gpu.ts'
//   ```ts run file=...   both
//   ```ts graded ...     is a driver, and is held to the driver contract
//   ```js ...            the same for JavaScript, its JSDoc types checked
//   anything else        is left alone
//
// and every relative link leads to a file, with its #fragment to a heading.

const root = fileURLToPath(new URL('../../', import.meta.url));
const scratch = join(root, 'build/docs');

interface Block {
  readonly document: string;
  readonly line: number;
  readonly code: string;
  readonly runs: boolean;
  readonly isGraded: boolean;
  readonly output: string | undefined;
  /** Where it was written. */
  readonly path: string;
}

interface Fence {
  readonly info: string;
  readonly line: number;
  readonly body: string;
}

const documents = ['README.md', ...markdownIn('docs')].filter((file) => existsSync(join(root, file)));
rmSync(scratch, { recursive: true, force: true });
const blocks = documents.flatMap(blocksOf);

test('there is a README.md', () => {
  expect(existsSync(join(root, 'README.md')), 'README.md does not exist').toBe(true);
});

test('the types of code blocks are right', () => {
  const config = ts.readConfigFile(join(root, 'tsconfig.node.json'), ts.sys.readFile).config as object;
  const { options } = ts.parseJsonConfigFileContent({ ...config, include: [], files: ['sdk/core/host.d.ts'] }, ts.sys, root);
  // An example may show a value and not use it.
  const lenient = { ...options, noUnusedLocals: false, noUnusedParameters: false, allowJs: true, checkJs: true };
  const program = ts.createProgram([...blocks.map((block) => block.path), join(root, 'sdk/core/host.d.ts')], lenient);
  const problems = blocks.flatMap((block) => {
    const source = program.getSourceFile(block.path);
    if (!source) return [`${block.document}:${block.line}: not compiled`];
    return [...program.getSyntacticDiagnostics(source), ...program.getSemanticDiagnostics(source)].map((problem) => {
      const line = source.getLineAndCharacterOfPosition(problem.start ?? 0).line;
      return `${block.document}:${block.line + 1 + line}: ${ts.flattenDiagnosticMessageText(problem.messageText, '\n')}`;
    });
  });
  expect(problems).toEqual([]);
});

describe('code blocks run', () => {
  afterAll(() => vi.restoreAllMocks());
  for (const block of blocks.filter((one) => one.runs)) {
    test(`${block.document}:${block.line}`, async () => {
      const lines: string[] = [];
      const log = vi.spyOn(console, 'log').mockImplementation((...values: unknown[]) => void lines.push(format(...values)));
      try {
        await import(/* @vite-ignore */ pathToFileURL(block.path).href);
      } finally {
        log.mockRestore();
      }
      if (block.output !== undefined) expect(trimmed(lines.join('\n'))).toBe(trimmed(block.output));
      // Some grade a driver.
    }, 120_000);
  }
  test('those marked as output follow a block that runs', () => {
    const stray = documents.flatMap((document) => {
      const fences = fencesOf(document);
      return fences
        .filter((fence, i) => fence.info === 'text output' && !isRun(fences[i - 1]?.info ?? ''))
        .map((fence) => `${document}:${fence.line}`);
    });
    expect(stray).toEqual([]);
  });
});

describe('drivers hold the contract', () => {
  for (const block of blocks.filter((one) => one.isGraded)) {
    test(`${block.document}:${block.line}`, async () => {
      const { default: driver } = (await import(/* @vite-ignore */ pathToFileURL(block.path).href)) as { default: () => Driver };
      const report = await gradeDriver(driver, { options: { vram: 256 * 1024 } });
      expect(report.failed, printReport(report)).toBe(0);
      expect(report.passed).toBeGreaterThan(100);
    }, 120_000);
  }
});

test.each(documents)('links of %s lead somewhere', (document) => {
  const text = withoutFences(readFileSync(join(root, document), 'utf8'));
  const problems: string[] = [];
  for (const match of text.matchAll(/\]\(([^)\s]+)(?:\s+"[^"]*")?\)|^\[[^\]]+\]:\s+(\S+)/gm)) {
    const link = match[1] ?? match[2] ?? '';
    if (/^[a-z][a-z+.-]*:/i.test(link)) continue;
    const [path, fragment] = link.split('#') as [string, string | undefined];
    const target = path === '' ? join(root, document) : resolve(root, dirname(document), decodeURIComponent(path));
    if (!existsSync(target)) problems.push(`${link}: ${relative(root, target)} does not exist`);
    else if (fragment && target.endsWith('.md') && !anchorsOf(target).includes(fragment))
      problems.push(`${link}: no heading '${fragment}'`);
  }
  expect(problems).toEqual([]);
});

// -------------------------------------------------------------------------------------------------------------------- markdown

function markdownIn(folder: string): string[] {
  if (!existsSync(join(root, folder))) return [];
  return readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory()) return markdownIn(path);
    return entry.name.endsWith('.md') ? [path] : [];
  });
}

function fencesOf(document: string): Fence[] {
  const lines = readFileSync(join(root, document), 'utf8').split('\n');
  const fences: Fence[] = [];
  for (let i = 0; i < lines.length; i++) {
    const open = /^(\s*)(```+)\s*([^`]*)$/.exec(lines[i] ?? '');
    if (!open) continue;
    const start = i;
    while (++i < lines.length && !(lines[i] ?? '').trim().startsWith(open[2] ?? '```'));
    const body = lines.slice(start + 1, i).map((line) => (line.startsWith(open[1] ?? '') ? line.slice((open[1] ?? '').length) : line));
    fences.push({ info: (open[3] ?? '').trim(), line: start + 1, body: body.join('\n') });
  }
  return fences;
}

function isRun(info: string): boolean {
  const [language, ...words] = info.split(/\s+/);
  return isCode(language) && words.includes('run');
}

function isCode(language: string | undefined): language is 'ts' | 'js' {
  return language === 'ts' || language === 'js';
}

function blocksOf(document: string): Block[] {
  const fences = fencesOf(document);
  const folder = join(scratch, document.replace(/\.md$/, '').replace(/[^\w-]+/g, '-'));
  return fences.flatMap((fence, i) => {
    const [language, ...words] = fence.info.split(/\s+/);
    if (!isCode(language)) return [];
    const name = words.find((word) => word.startsWith('file='))?.slice('file='.length) ?? `line-${fence.line}.${language}`;
    const path = join(folder, name);
    mkdirSync(dirname(path), { recursive: true });
    // The last line makes it a module, so that names of two blocks do not meet, and await is allowed.
    writeFileSync(path, `${fence.body}\nexport {};\n`);
    const next = fences[i + 1];
    const output = next?.info === 'text output' ? next.body : undefined;
    return [
      { document, line: fence.line, code: fence.body, runs: words.includes('run'), isGraded: words.includes('graded'), output, path },
    ];
  });
}

function withoutFences(text: string): string {
  return text.replace(/^(\s*)(```+)[^\n]*\n[\s\S]*?^\s*\2[^\n]*$/gm, '').replace(/`[^`\n]*`/g, '');
}

/** Headings as links name them. */
function anchorsOf(file: string): string[] {
  const headings = withoutFenceBodies(readFileSync(file, 'utf8')).matchAll(/^#+\s+(.*)$/gm);
  return [...headings].map((match) =>
    (match[1] ?? '')
      .trim()
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, '')
      .replace(/\s/g, '-'),
  );
}

function withoutFenceBodies(text: string): string {
  return text.replace(/^(\s*)(```+)[^\n]*\n[\s\S]*?^\s*\2[^\n]*$/gm, '');
}

function trimmed(text: string): string {
  return text
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n')
    .trim();
}
