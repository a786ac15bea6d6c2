/** Every call of a driver, in every verb, goes wrong once in every way that its type has. */
import { afterAll, describe, test } from 'vitest';
import { type Machine, MiB } from 'farfault';
import { type DriverFault, type DriverOperation, faultsOf } from 'farfault/testing';
import { smallMachine } from '../machine/probe.ts';
import { again, call, expectBytes } from './anomaly.ts';
import { type Verb, VERBS } from './verbs.ts';
import { World } from './world.ts';

const machines: { small?: Machine; large?: Machine } = {};
const machineFor = (huge: boolean): Machine =>
  huge
    ? (machines.large ??= smallMachine({ dram: 16 * MiB, deviceMemory: 8 * MiB, tablePages: 1024 }))
    : (machines.small ??= smallMachine());
afterAll(() => Object.values(machines).forEach((machine) => machine?.close()));

/** Of one operation in one verb this many calls are tried, the first ones and the last. */
const CALLS_MAX = 4;

/** A call of one of the world's drivers, and how it goes wrong. */
interface Anomaly {
  readonly plan: number;
  readonly operation: DriverOperation;
  readonly call: number;
  readonly fault: DriverFault;
}

/** What the verb calls when nothing goes wrong. */
function anomaliesOf({ huge = false, arrange }: Verb): Anomaly[] {
  const world = new World(machineFor(huge));
  const arranged = arrange(world);
  for (const plan of world.plans) plan.count();
  call(arranged);
  return world.plans.flatMap((plan, i) =>
    [...plan.calls].flatMap(([operation, calls]) => {
      const numbers = Array.from({ length: calls }, (_, n) => n + 1);
      const tried = calls <= CALLS_MAX ? numbers : [...numbers.slice(0, CALLS_MAX - 1), calls];
      return tried.flatMap((number) => faultsOf(operation).map((fault): Anomaly => ({ plan: i, operation, call: number, fault })));
    }),
  );
}

function meet({ huge = false, arrange }: Verb, anomaly: Anomaly): void {
  const world = new World(machineFor(huge));
  const arranged = arrange(world);
  const plan = world.plans[anomaly.plan]!;
  plan.fail(anomaly.operation, anomaly.call, anomaly.fault);
  const codes = ['EBUSY', 'EAGAIN', 'EIO', 'ENODEV', 'ETIME'];
  // Only where the driver's own error is the answer: its command, and its refusal to be attached.
  const raw = anomaly.operation === 'command' || anomaly.operation === 'attach' ? ['planned'] : [];
  const end = call(arranged, [...codes, ...raw]);
  // What a device has not finished holds the verb up, and it goes on by itself.
  plan.finish();
  world.expectSound([...codes, ...(arranged.codes ?? [])]);
  // A device whose driver has thrown is out of the game; a translation that a flush has left behind is found when it is used.
  const devices = world.contexts.map(({ name }) => name);
  const [others, own] = [
    arranged.views.filter(({ name }) => !devices.includes(name)),
    arranged.views.filter(({ name }) => devices.includes(name)),
  ];
  expectBytes(others, end.failed ? 'either' : 'after');
  expectBytes(own, 'either', ['ENODEV', 'EBADF', 'EIO']);
  expectBytes(others, again(world, arranged, end) ? 'after' : 'either');
  arranged.end?.();
  world.expectSound([...codes, ...(arranged.codes ?? [])]);
  world.expectNoLeak();
}

describe('a driver that fails once', () => {
  test.each(VERBS)('in $name', (verb) => {
    for (const anomaly of anomaliesOf(verb)) {
      try {
        meet(verb, anomaly);
      } catch (error) {
        const { operation, call: number, fault } = anomaly;
        throw new Error(`${fault} in call ${number} of ${operation}: ${error instanceof Error ? error.message : String(error)}`, {
          cause: error,
        });
      }
    }
  });
});
