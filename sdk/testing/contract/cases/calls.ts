/** Calls: what happens around the driver's operations when one of them refuses, throws, is late, or never ends. */
import { isFarfaultError } from '../../../errors.ts';
import type { Context } from '../../../gmem/index.ts';
import type { AddressRange, AddressSpace } from '../../../mm/address-space.ts';
import { DRIVER_OPERATIONS, type DriverFault, type DriverOperation, FaultPlan, faultsOf, PlannedFault } from '../../middleware/index.ts';
import { type Bench, PAGE } from '../bench.ts';
import { type ContractCase, ContractFailure, type Profile } from '../case.ts';
import { cpuStamps, stamps } from './common.ts';

const PAGES = 12;
/** Which calls of an operation go wrong, one after the other. */
const CALLS = [1, 2, 4];

/** Operations of this driver in which something can go wrong in this way. */
function operationsWith({ mmu, ownTable }: Profile, fault: DriverFault): DriverOperation[] {
  return DRIVER_OPERATIONS.filter((operation) => {
    if (operation === 'attach' || !faultsOf(operation).includes(fault)) return false;
    const [family, name] = operation.split('.') as [keyof typeof mmu, string | undefined];
    // Of the ready-made table and cache the core is called, and not the driver.
    if (family === 'pmap' && !ownTable) return false;
    if (family === 'tlb' && !mmu.walk) return false;
    const has = mmu[family] as Record<string, unknown> | undefined;
    return has !== undefined && (name === undefined || has[name] !== undefined);
  });
}

function needsOperation(fault: DriverFault): (profile: Profile) => string | undefined {
  return (profile) => (operationsWith(profile, fault).length > 0 ? undefined : `none of its operations can go wrong so (${fault})`);
}

/** A world for one call that goes wrong: the device that fails in one space, one of the same kind that does not in another. */
interface Arranged {
  readonly bench: Bench;
  readonly plan: FaultPlan;
  readonly space: AddressSpace;
  readonly context: Context;
  readonly range: AddressRange;
  /** The good one's. */
  readonly apart: AddressRange;
}

async function arrange(outer: Bench): Promise<Arranged> {
  const bench = await outer.another();
  try {
    const plan = new FaultPlan();
    const space = bench.addSpace();
    const context = bench.attach(space, bench.addFaulty(plan));
    const range = bench.mmap(PAGES, { space });
    const apart = bench.mmap(PAGES);
    await cpuStamps(bench, range, 0, PAGES, 1, space);
    await bench.cpuWrite(apart, 0, PAGES, 0x33);
    await bench.deviceWrite(apart, 0, PAGES / 2, 0x34);
    return { bench, plan, space, context, range, apart };
  } catch (error) {
    bench.close();
    throw error;
  }
}

/** Verbs that between them call every operation. The device writes pages 0 to 3; no other byte changes. Each verb's error goes to `failed`. */
async function program(
  { bench, plan, space, context, range }: Arranged,
  failed: (verb: string, error: unknown) => void,
  finish: boolean,
): Promise<void> {
  const verbs: [string, () => Promise<unknown>][] = [];
  const { memory } = context.device;
  if (memory) verbs.push(['migrate', () => context.migrateAsync(range, { to: 'device' })]);
  if (bench.runsAccesses) {
    verbs.push(['read', () => context.readAsync(range.start, PAGES * PAGE)]);
    verbs.push(['write', () => context.writeAsync(range.start, stamps(0, 4, 2))]);
    verbs.push([
      'submit',
      () =>
        context.submitAsync({
          accesses: Array.from({ length: PAGES }, (_, i) => ({ op: 'read' as const, addr: range.start + i * PAGE, bytes: 8 })),
          lanes: 4,
        }),
    ]);
  }
  verbs.push(['fault', () => context.faultAsync(range.start + 5 * PAGE, 'write')]);
  verbs.push(['mprotect', () => space.mprotectAsync({ start: range.start + 6 * PAGE, end: range.start + 8 * PAGE }, 'r')]);
  verbs.push(['mprotect', () => space.mprotectAsync({ start: range.start + 6 * PAGE, end: range.start + 8 * PAGE }, 'rw')]);
  if (!bench.profile.mmu.walk || bench.profile.mmu.walk.harvest) verbs.push(['harvest', () => context.harvestAsync(range)]);
  verbs.push(['CPU read', () => space.readAsync(range.start + 4 * PAGE, 4 * PAGE)]);
  if (memory) {
    verbs.push(['migrate', () => context.migrateAsync(range, { to: 'device' })]);
    verbs.push(['migrate', () => context.migrateAsync(range, { to: 'host' })]);
  }
  if (bench.profile.mmu.command) verbs.push(['command', () => commanded(context)]);
  for (const [verb, act] of verbs) {
    bench.mark();
    try {
      await ending(bench, plan, act(), finish);
    } catch (error) {
      if (error instanceof ContractFailure) throw error;
      failed(verb, error);
    }
  }
}

/** A command of one control interface; others have a language of their own, and refuse it. */
async function commanded(context: Context): Promise<void> {
  try {
    await context.commandAsync({ op: 'FLAGS', addr: 0, pages: 2 });
  } catch (error) {
    if (!isFarfaultError(error) || error.code !== 'EINVAL') throw error;
  }
}

/** Waits for a verb; `finish`: late tickets come to their end. */
function ending<T>(bench: Bench, plan: FaultPlan, operation: Promise<T>, finish: boolean): Promise<T> {
  return finish ? bench.waitLate(operation, plan) : bench.wait(operation);
}

/** What the program's pages hold must be what was written; `lost`: reading may fail, too. */
async function check({ bench, plan, space, range, apart }: Arranged, lost: boolean): Promise<void> {
  for (let page = 0; page < PAGES; page++) {
    let bytes: Uint8Array;
    try {
      bytes = await ending(bench, plan, space.readAsync(range.start + page * PAGE, PAGE), true);
    } catch (error) {
      if (lost && (isFarfaultError(error) || error instanceof PlannedFault)) continue;
      throw error;
    }
    const one = stamps(page, 1, 1);
    const two = stamps(page, 1, 2);
    const at = bytes.findIndex((byte, i) => byte !== one[i] && !(page < 4 && byte === two[i]));
    bench.require(at < 0, `the CPU reads ${bytes[at]} at byte ${at} of page ${page}, which nobody wrote there`);
  }
  // The other device, in its own space, has not noticed.
  await bench.deviceSees(apart, 0, PAGES);
  await bench.deviceWrite(apart, 2, 4, 0x35);
  await bench.cpuSees(apart, 0, PAGES);
}

/** Ends the world of one call: the device leaves, the space ends, and nothing of it is left. */
async function finish(arranged: Arranged): Promise<void> {
  const { bench, plan, space, context } = arranged;
  bench.mark();
  try {
    await ending(bench, plan, context.detachAsync(), true);
  } catch (error) {
    if (!isFarfaultError(error) && !(error instanceof PlannedFault)) throw error;
  }
  await ending(bench, plan, space.munmapAsync(arranged.range), true);
  bench.forget(space, arranged.range);
  for (let turns = 0; plan.unfinished > 0 && turns < 100; turns++) {
    plan.finish();
    if (plan.unfinished > 0) await bench.turns(1);
  }
  await bench.end();
}

/** Runs the program once for each call of each operation that can go wrong in this way. */
async function each(
  outer: Bench,
  fault: DriverFault,
  run: (arranged: Arranged, operation: DriverOperation, call: number) => Promise<void>,
): Promise<void> {
  for (const operation of operationsWith(outer.profile, fault)) {
    for (const call of CALLS) {
      const arranged = await arrange(outer);
      const { bench, plan } = arranged;
      try {
        plan.fail(operation, call, fault);
        await run(arranged, operation, call);
        const { happened } = plan;
        await finish(arranged);
        if (!happened && !plan.happened) break;
      } catch (error) {
        outer.before = bench.before;
        const message = error instanceof Error ? error.message : String(error);
        throw new ContractFailure(`call ${call} of ${operation} (${fault}): ${message}`);
      } finally {
        bench.close();
      }
    }
  }
}

export const CALLING: readonly ContractCase[] = [
  {
    name: 'a call that throws costs its context and nothing else',
    group: 'calls',
    rule: 'Whichever operation throws at whichever call: the machine stays in order, other address spaces go on, and nothing has leaked when the device has left.',
    needs: needsOperation('throw'),
    run: (bench) =>
      each(bench, 'throw', async (arranged) => {
        arranged.bench.excuse('failure', 'stray');
        await program(arranged, requireKnown, false);
        await check(arranged, true);
      }),
  },
  {
    name: 'a call that fails half way costs its context and nothing else',
    group: 'calls',
    rule: 'An operation that has done half of its work and throws leaves the machine in order; what it has not taken away is used by nobody.',
    needs: needsOperation('partial'),
    run: (bench) =>
      each(bench, 'partial', async (arranged) => {
        arranged.bench.excuse('failure', 'stray');
        await program(arranged, requireKnown, false);
        await check(arranged, true);
      }),
  },
  {
    name: 'a refusal is an answer',
    group: 'calls',
    rule: 'No page, no victim, no translation, a copy that failed, a batch of which nothing is served: each may happen at any call; no byte is lost, and the verb can be called again.',
    needs: needsOperation('refuse'),
    run: (bench) =>
      each(bench, 'refuse', async (arranged, operation) => {
        await program(arranged, (verb, error) => requireUnhurt(operation, verb, error), false);
        arranged.bench.require(arranged.context.failure === undefined, `the context has failed after a refusal of ${operation}`);
        await check(arranged, false);
      }),
  },
  {
    name: 'a ticket that comes late is waited for',
    group: 'calls',
    rule: 'An operation that returns a ticket ends when the ticket does: nothing is freed, copied or used before, and the result is the same.',
    needs: needsOperation('late'),
    run: (bench) =>
      each(bench, 'late', async (arranged) => {
        await program(
          arranged,
          (verb, error) => {
            throw new ContractFailure(`${verb} fails: ${said(error)}`);
          },
          true,
        );
        await check(arranged, false);
      }),
  },
  {
    name: 'a ticket that fails late does no harm',
    group: 'calls',
    rule: 'A copy whose ticket fails has not happened: the pages are where they were. A flush whose ticket fails costs the context.',
    needs: needsOperation('late failure'),
    run: (bench) =>
      each(bench, 'late failure', async (arranged, operation) => {
        // What brings pages, and not what takes them away.
        const copies = operation.startsWith('copy.') || operation === 'peer.map' || operation === 'phys.preparePage';
        if (!copies) arranged.bench.excuse('failure', 'stray');
        await program(
          arranged,
          (verb, error) => {
            if (copies) requireUnhurt(operation, verb, error);
            else requireKnown(verb, error);
          },
          true,
        );
        await check(arranged, !copies);
      }),
  },
  {
    name: 'a ticket that never ends is named',
    group: 'calls',
    rule: 'While a ticket is open the machine says which operation waits for it; everything else goes on, and when it ends at last, so does the operation.',
    needs: needsOperation('late'),
    async run(outer) {
      for (const operation of operationsWith(outer.profile, 'late')) {
        if (operation === 'command' || operation === 'fault.service') continue;
        const arranged = await arrange(outer);
        const { bench, plan, space, context, range } = arranged;
        try {
          // Something that calls it.
          const acts: (() => Promise<unknown>)[] = [];
          if (context.device.memory) {
            acts.push(() => context.migrateAsync(range, { to: 'device' }));
            acts.push(() => context.migrateAsync(range, { to: 'host' }));
          }
          acts.push(() => context.faultAsync(range.start, 'write'));
          acts.push(() => space.munmapAsync({ start: range.start + 8 * PAGE, end: range.start + 10 * PAGE }));
          plan.fail(operation, 1, 'late');
          for (const act of acts) {
            bench.mark();
            const running = act();
            running.catch(() => undefined);
            await bench.turns(2);
            if (plan.unfinished === 0) {
              await bench.wait(running);
              continue;
            }
            if (bench.machine.pending.length === 0) {
              // A flush of what is only widened is waited for by nobody.
              plan.finish();
              await ending(bench, plan, running, true);
              plan.fail(operation, 1, 'late');
              continue;
            }
            const waits = bench.machine.pending.map(({ waitsFor }) => waitsFor).join('; ');
            bench.require(
              waits.includes(`late ${operation}`),
              `${operation} is not finished, and the machine says that it waits for: ${waits || 'nothing'}`,
            );
            await bench.deviceSees(arranged.apart, 0, PAGES);
            plan.finish();
            await ending(bench, plan, running, true);
            break;
          }
          await finish(arranged);
        } catch (error) {
          outer.before = bench.before;
          throw new ContractFailure(`${operation}: ${said(error)}`);
        } finally {
          bench.close();
        }
      }
    },
  },
  {
    name: 'the same seed gives the same calls',
    group: 'calls',
    rule: 'A driver is deterministic: it takes nothing from the clock, from Math.random or from what other machines do.',
    async run(bench) {
      const first = await story(bench);
      const second = await story(bench);
      const at = first.findIndex((line, i) => line !== second[i]);
      bench.require(at < 0 && first.length === second.length, `line ${at} is "${first[at]}" the first time and "${second[at]}" the second`);
    },
  },
];

function said(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** A CPU access whose page cannot come home just now is a bus error; it can be tried again. All other verbs succeed. */
function requireUnhurt(operation: DriverOperation, verb: string, error: unknown): void {
  if (operation === 'copy.toHost' && verb === 'CPU read' && isFarfaultError(error)) return;
  throw new ContractFailure(`${verb} fails: ${said(error)}`);
}

function requireKnown(verb: string, error: unknown): void {
  if (isFarfaultError(error) || error instanceof PlannedFault) return;
  throw new ContractFailure(
    `${verb} throws ${error instanceof Error ? `${error.name}: ${error.message}` : String(error)}, which is no FarfaultError`,
  );
}

/** What a random program does in a fresh world, line by line. */
async function story(outer: Bench): Promise<string[]> {
  const bench = await outer.another();
  try {
    const lines: string[] = [];
    const pages = 32;
    const range = bench.mmap(pages);
    for (let i = 0; i < 24; i++) {
      const from = bench.random(pages);
      const count = 1 + bench.random(Math.min(8, pages - from));
      switch (bench.random(5)) {
        case 0:
          await bench.cpuWrite(range, from, count, i + 1);
          break;
        case 1:
          await bench.deviceWrite(range, from, count, i + 101);
          break;
        case 2:
          await bench.deviceSees(range, from, count);
          break;
        case 3:
          if (bench.profile.memoryPages > 0)
            await bench.migrate(
              { start: range.start + from * PAGE, end: range.start + (from + count) * PAGE },
              i % 2 === 0 ? 'device' : 'host',
            );
          break;
        default:
          await bench.cpuSees(range, from, count);
      }
      const places = Array.from({ length: pages }, (_, page) => bench.context.residency(range.start / PAGE + page) ?? '-').join(' ');
      lines.push(`${i}: ${bench.state()} ${places}`);
    }
    lines.push(bench.watched.calls());
    return lines;
  } finally {
    bench.close();
  }
}
