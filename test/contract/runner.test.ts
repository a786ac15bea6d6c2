/** The contract in a test runner: a case that does not apply is a skipped test, as far as the runner can skip one. */
import { describe, expect, test } from 'vitest';
import mirror from 'farfault/drivers/mirror';
import { type AnyFactory, CONTRACT, driverContract, gradeDriver } from 'farfault/testing';

type Body = (this: unknown, ...given: unknown[]) => Promise<void>;

/** A case that applies to every device, and one that a mirror has no memory for. */
const APPLIES = 'the device reads what the CPU wrote';
const NEEDS_MEMORY = CONTRACT.find(({ group }) => group === 'memory')!.name;
const cases = [APPLIES, NEEDS_MEMORY];

/** The tests that are registered, by name. */
function registered(): ReadonlyMap<string, Body> {
  const tests = new Map<string, Body>();
  driverContract(mirror as AnyFactory, { cases }, { describe: (_, body) => body(), it: (name, body) => void tests.set(name, body) });
  return tests;
}

/** What stops a test that skips itself. */
class Skipped extends Error {}
const skipper = { skip: (reason: string) => void expect.unreachable(reason) };
const throwing = {
  skip: (reason: string) => {
    throw new Skipped(reason);
  },
};

test('the cases of this test are what they are said to be', async () => {
  const report = await gradeDriver(mirror as AnyFactory, { cases });
  expect(report.cases.slice(1).map(({ name, verdict }) => [name, verdict])).toEqual([
    [APPLIES, 'passed'],
    [NEEDS_MEMORY, 'not applicable'],
  ]);
});

describe.each<[string, unknown, readonly unknown[]]>([
  ['in what a test is given, as with Vitest and node:test', undefined, [throwing]],
  ['in what a test is called on, as with Mocha', throwing, []],
])('skip is %s', (_, self, given) => {
  test('a case that does not apply is skipped, with the reason', async () => {
    const { reason } = (await gradeDriver(mirror as AnyFactory, { cases })).cases[2]!;
    await expect(
      registered()
        .get(NEEDS_MEMORY)!
        .call(self, ...given),
    ).rejects.toEqual(new Skipped(reason));
  });

  test('a case that applies is not', async () => {
    const tests = registered();
    const instead = given.length > 0 ? [undefined, skipper] : [skipper];
    await tests.get(APPLIES)!.call(...(instead as [unknown]));
  });
});

test('a runner in which a test cannot skip itself counts it as passed, and is not asked to wait for a callback', async () => {
  const tests = registered();
  for (const body of tests.values()) {
    expect(body.length).toBe(0);
    await body.call({}, () => undefined);
  }
});

describe('registered with Vitest, a test with fixtures included', () => {
  const extended = test.extend<{ page: number }>({ page: 4096 });
  driverContract(mirror as AnyFactory, { cases }, { describe, it: (name, body) => extended(name, body) });
});
