import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

interface Measured {
  readonly name: string;
  readonly lines: number;
  readonly statements: number;
}

const script = new URL('../../scripts/loc.mjs', import.meta.url).href;
const { measure, report, print } = (await import(script)) as {
  measure(text: string): Omit<Measured, 'name'>;
  report(): readonly Measured[];
  print(rows: readonly Measured[]): string;
};

test('lines with code and statements are counted, and nothing else', () => {
  const text = `/** A comment. */
import { x } from 'y';

// Another one.
export function f(a: number): number {
  const b = a; /* here */

  return b + x;
}
`;
  expect(measure(text)).toEqual({ lines: 4, statements: 3 });
});

test('every driver is in the report, and the simplest ones are short', () => {
  const rows = report();
  expect(rows.map(({ name }) => name).sort()).toEqual(readdirSync(new URL('../../drivers/', import.meta.url)).sort());
  const of = (name: string): Measured => rows.find((row) => row.name === name)!;
  // What GMEM promises of a driver on it: tens of lines, not thousands.
  expect(of('integrated').lines).toBeLessThan(70);
  for (const { lines } of rows) expect(lines).toBeLessThan(1000);
  expect(print(rows)).toContain('nouveau');
});

test('the NPU calls the framework in few statements, and implements its operations in few', async () => {
  const counted = (await import(new URL('../../scripts/count-driver.mjs', import.meta.url).href)) as {
    countDriver(folder: string): { readonly framework: number; readonly operations: number };
  };
  const { framework, operations } = counted.countDriver(fileURLToPath(new URL('../../drivers/npu', import.meta.url)));
  expect(framework).toBeGreaterThan(0);
  expect(framework).toBeLessThanOrEqual(30);
  expect(operations).toBeLessThanOrEqual(150);
});
