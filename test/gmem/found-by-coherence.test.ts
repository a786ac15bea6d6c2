/** What `npm run coherence` has found. */
import { afterEach, expect, test } from 'vitest';
import type { Machine } from 'farfault';
import mirror from 'farfault/drivers/mirror';
import { exploreAll, printFinding } from 'farfault/testing';
import { expectClean, PAGE, smallMachine } from '../machine/probe.ts';

let machine: Machine;

afterEach(() => machine.close());

test('a device that writes while the right goes is told so, whatever comes first', () => {
  machine = smallMachine({ tablePages: 128 });
  const outcomes = new Set<string>();
  const { complete, finding } = exploreAll(() => {
    machine.reset();
    const space = machine.createAddressSpace();
    const context = space.attach(machine.addDevice(mirror()));
    const range = space.mmap({ bytes: PAGE });
    const write = context.writeStep(range.start, Uint8Array.of(1));
    return {
      steps: [write, space.protectStep(range, 'none')],
      check() {
        outcomes.add(write.outcome);
        expectClean(machine);
      },
    };
  });
  expect(finding && printFinding(finding)).toBe(undefined);
  expect(complete).toBe(true);
  expect([...outcomes].sort()).toEqual(['done', 'permission']);
});
