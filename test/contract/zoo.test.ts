/** The contract's worth: good drivers keep it, and each broken one is caught by the case whose name says what is wrong with it. */
import { describe, expect, test } from 'vitest';
import { CONTRACT, gradeDriver, printReport } from 'farfault/testing';
import { BROKEN } from './zoo/broken/index.ts';
import { GOOD_COUPLED } from './zoo/coupled.ts';
import { GOOD } from './zoo/good.ts';

describe('a good driver keeps the contract', () => {
  for (const [name, { factory, expectations }] of [...GOOD, ...GOOD_COUPLED]) {
    test(name, { timeout: 120_000 }, async () => {
      const report = await gradeDriver(factory, expectations);
      expect(report.failed, printReport(report)).toBe(0);
    });
  }
});

describe('a broken driver does not', () => {
  test('each has a name of its own, and a case that there is', () => {
    expect(BROKEN.length).toBeGreaterThanOrEqual(30);
    expect(new Set(BROKEN.map(({ name }) => name)).size).toBe(BROKEN.length);
    const names = CONTRACT.map(({ name }) => name);
    expect(BROKEN.filter(({ by }) => !names.includes(by))).toEqual([]);
  });

  for (const { name, by, says, driver } of BROKEN) {
    test(`${name}: ${by}`, async () => {
      const report = await gradeDriver(driver.factory, { ...driver.expectations, cases: by });
      const seen = report.cases.find((each) => each.name === by);
      expect(seen?.verdict).toBe('failed');
      if (says !== undefined) expect(seen!.reason).toContain(says);
    });
  }
});
