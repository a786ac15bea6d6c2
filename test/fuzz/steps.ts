/**
 * The same operations on devices that answer late: what is under way waits in each of its steps, and is looked at there. Before some of them a rival has begun, which holds a lock, is
 * announcing, or moves the very pages: values are the same whatever comes first.
 */
import { isFarfaultError, MiB } from 'farfault';
import { finishLate, type Late, type Pace, slowDevice } from '../gmem/coherence/slow.ts';
import { type Around, BASE, closeMachine, kindOf, runProgram, type Seen, type Slot, type World } from './run.ts';
import { type Operation, UNIVERSE, type Verb, WINDOW, WINDOWS } from './operations.ts';
import { PAGE } from './values.ts';
import { MEETING, type Step, type StepTable } from './step-table.ts';

/** What is under way already when an operation begins. */
export const RIVALS = ['holds the lock', 'announces a move', 'moves the pages'] as const;
export type Rival = (typeof RIVALS)[number];

/** The device without memory, which maps what is where it is. */
const READER = 3;

const PACE: Pace & { readonly late: Late[] } = { slow: false, late: [] };

function slowDrivers(): ReturnType<Around['drivers']> {
  return [
    slowDevice({
      pace: PACE,
      name: 'gpu',
      granuleBytes: 16 * 1024,
      atomics: ['migrate', 'exclusive'],
      memory: [{ name: 'vram', kind: 'private', bytes: 3 * MiB }],
    }),
    slowDevice({ pace: PACE, name: 'apu', atomics: ['native', 'migrate'], memory: [{ name: 'hbm', kind: 'coherent', bytes: 3 * MiB }] }),
    slowDevice({
      pace: PACE,
      name: 'both',
      pageBytes: [4096, 2 * MiB],
      granuleBytes: 2 * MiB,
      atomics: ['exclusive', 'migrate'],
      memory: [
        { name: 'vram', kind: 'private', bytes: 6 * MiB },
        { name: 'hbm', kind: 'coherent', bytes: 2 * MiB },
      ],
    }),
    slowDevice({ pace: PACE, name: 'reader', pageBytes: [4096, 2 * MiB], atomics: ['exclusive', 'migrate'] }),
  ];
}

/** A page beside the universe, which no operation names: the rival's. */
const SPARE = BASE + UNIVERSE + 512;

/** Which step of an operation it is in that waits for this. */
function stepOf(waitsFor: string): Step | undefined {
  if (/flush\)$/.test(waitsFor)) return 'flush';
  if (/(to the device|to the host|zero)\)$/.test(waitsFor)) return 'copy';
  if (waitsFor.startsWith('page lock')) return 'page';
  if (waitsFor.startsWith('the end of the invalidations')) return 'invalidation';
  return / lock \d+$/.test(waitsFor) ? 'lock' : undefined;
}

/** Has the last operation of a program done late, behind its rival; `table` is told of every step. */
function watched(count: number, meeting: Meeting, table: StepTable): Around {
  let left = count;
  return {
    drivers: slowDrivers,
    operation(world, slot, operation, carryOut) {
      if (--left > 0 || !slot) return carryOut();
      const { scheduler } = world.machine.platform;
      const idle = scheduler.idle;
      let errors: unknown;
      const others = new Set<number>();
      begin(world, slot, meeting, (error) => (errors ??= error));
      for (const { id } of scheduler.pending) others.add(id);
      const now = (): string => kindOf(world, slot.space, BASE + operation.page);
      // What the operation has to do with: what it moves itself is what it was before.
      let met = now();
      scheduler.watch = () => {
        const kind = now();
        if (!kind.endsWith('moving')) met = kind;
      };
      PACE.slow = true;
      table.see(met, operation.verb, 'start');
      scheduler.idle = () => {
        if (idle?.()) return true;
        for (const { id, waitsFor } of scheduler.pending) {
          if (others.has(id)) continue;
          const step = stepOf(waitsFor);
          if (!step && waitsFor !== '') throw new Error(`a step waits for ${waitsFor}`);
          if (!step) continue;
          table.see(step === 'flush' || step === 'copy' ? met : now(), operation.verb, step);
        }
        if (PACE.late.length === 0) return false;
        finishLate(PACE, 0);
        return true;
      };
      try {
        carryOut();
      } finally {
        PACE.slow = false;
        scheduler.idle = idle;
        scheduler.watch = undefined;
        while (PACE.late.length > 0) finishLate(PACE, 0);
      }
      if (errors) throw errors as Error;
    },
  };
}

/** Begins the rival and leaves it where it is to be. */
function begin(world: World, { space, contexts }: Slot, { state, rival, device }: Meeting, failed: (error: unknown) => void): void {
  const ended = (error: unknown): void => void (isFarfaultError(error) || failed(error));
  if (rival === 'holds the lock') {
    const range = { start: SPARE * PAGE, end: (SPARE + 1) * PAGE };
    space.mmap({ at: range.start, bytes: PAGE, fixed: true });
    contexts[READER]!.write(range.start, Uint8Array.of(1));
    PACE.slow = true;
    space.mprotectAsync(range, 'r').catch(ended);
    return;
  }
  const first = BASE + WINDOWS[0];
  const range = { start: first * PAGE, end: (first + STATES[state]!.pages) * PAGE };
  // Away from where it is.
  const to = /private|coherent/.test(state) ? 'host' : 'device';
  PACE.slow = true;
  contexts[device === READER ? OWNER : device]!.migrateAsync(range, { to }).catch(ended);
  if (rival === 'announces a move') return;
  while (PACE.late.length > 0 && stepOf(world.machine.pending.at(-1)?.waitsFor ?? '') !== 'copy') finishLate(PACE, 0);
}

const at = (verb: Verb, more: Partial<Operation> = {}): Operation => ({
  verb,
  space: 0,
  device: 2,
  page: WINDOWS[0],
  pages: WINDOW,
  half: 0,
  choice: 0,
  value: 6,
  ...more,
});

/** The first pages of a window: more need not be of one kind, since others hold them then. */
const FEW = 4;
const few = { pages: FEW };
const each = (verb: Verb): Operation[] => Array.from({ length: FEW }, (_, i) => at(verb, { page: WINDOWS[0] + i, pages: 1 }));

/** A program that brings a window, or its first pages, into a state. */
interface State {
  readonly pages: number;
  readonly program: readonly Operation[];
  /** Who reads it first, so that a device has entries of it that can be taken away. */
  readonly reader?: number;
}

const small = (program: readonly Operation[], reader?: number, choice = 0): State => ({
  pages: FEW,
  program: [at('mmap', { choice }), ...program],
  ...(reader === undefined ? {} : { reader }),
});
const large = (program: readonly Operation[], reader?: number, choice = 0): State => ({
  pages: WINDOW,
  program: [at('mmap', { choice }), at('hugepage'), ...program],
  ...(reader === undefined ? {} : { reader }),
});
const OWNER = 2;
const share = at('fork share');
const written = each('write');
const FILE_PRIVATE = 2;
const FILE_SHARED = 3;
const HUGETLB = 10;

/** One at least for each kind of entry. */
export const STATES: Readonly<Record<string, State>> = {
  none: small([]),
  zero: small(each('read'), READER),
  host: small(written, READER),
  'host ro': small([...written, share], READER),
  file: small(written, READER, FILE_SHARED),
  'file ro': small(each('read'), READER, FILE_SHARED),
  'file, private': small(each('read'), READER, FILE_PRIVATE),
  private: small([...written, at('to device', few)], OWNER),
  'private ro': small([...written, at('to device', few), share], OWNER),
  coherent: small([...written, at('to device', { ...few, choice: 1 })], READER),
  'coherent ro': small([...written, at('to device', { ...few, choice: 1 }), share], READER),
  protnone: small([...written, at('mprotect', few)]),
  exclusive: small([at('exclusive', { pages: 1 })]),
  'cpu reads': small([at('exclusive', { pages: 1, half: 1 })]),
  'huge zero': large([at('read')], READER),
  'huge host': large([at('write')], READER),
  'huge host ro': large([at('write'), share], READER),
  'huge private': large([at('write'), at('to device')], OWNER),
  'huge private ro': large([at('write'), at('to device'), share], OWNER),
  'huge coherent': large([at('write'), at('to device', { choice: 1 })], READER),
  'huge coherent ro': large([at('write'), at('to device', { choice: 1 }), share], READER),
  'huge protnone': large([at('write'), at('mprotect')]),
  hugetlb: large([at('write')], READER, HUGETLB),
  'hugetlb ro': large([at('write'), share], READER, HUGETLB),
};

/** One operation that meets an entry: in which state, with which rival. */
export interface Meeting {
  readonly state: string;
  readonly rival: Rival;
  readonly verb: Verb;
  readonly device: number;
  readonly choice: number;
  readonly pages: number;
}

const BY_DEVICE: readonly Verb[] = ['device read', 'device write', 'atomic', 'exclusive', 'to device', 'to host'];
const MANY_WAYS: readonly Verb[] = ['pin', 'mprotect', 'mremap'];

/** Every state, verb and rival, in the ways that make a difference. */
export function* meetings(): Generator<Meeting> {
  for (const [state, { pages: all }] of Object.entries(STATES))
    for (const rival of RIVALS)
      for (const verb of MEETING) {
        if (!makesSense(state, rival, verb)) continue;
        for (const device of BY_DEVICE.includes(verb) ? [0, 1, 2, READER] : [2])
          for (const choice of verb === 'to device' ? (device === 2 ? [0, 1] : [0]) : MANY_WAYS.includes(verb) ? [0, 1, 2, 3, 4, 6] : [4])
            for (const pages of verb === 'collapse' ? [WINDOW] : verb === 'pin' ? [1, FEW] : new Set([1, all])) {
              if (verb === 'to device' && device === READER) continue;
              if (rival === 'announces a move' && device !== READER) continue;
              yield { state, rival, verb, device, choice, pages };
            }
      }
}

/** Only what can move is moved by a rival; who announces has the lock that all but devices wait for. */
function makesSense(state: string, rival: Rival, verb: Verb): boolean {
  if (rival === 'announces a move') return verb === 'device read' || verb === 'device write';
  return rival === 'holds the lock' || /^(huge )?(host|private|coherent)( ro)?$|^cpu reads$|^zero$|^none$/.test(state);
}

/** The program of a meeting: the last of its operations is watched. */
export function programOf({ state, rival, verb, device, choice, pages }: Meeting): Operation[] {
  const { program, reader } = STATES[state]!;
  return [
    // An empty space, so that the other one is not the last.
    ...(verb === 'close' ? [at('fork home')] : []),
    ...program,
    // Who has it still has no need to wait.
    ...(reader === undefined || rival === 'announces a move' ? [] : each('device read').map((read) => ({ ...read, device: reader }))),
    at(verb, { device, choice, pages }),
  ];
}

/** Runs meetings, and tells the table of every step. */
export function meet(list: Iterable<Meeting>, table: StepTable, seen: Seen): void {
  for (const meeting of list) {
    const program = programOf(meeting);
    try {
      runProgram(program, seen, watched(program.length, meeting, table));
    } catch (error) {
      closeMachine();
      throw new Error(`${JSON.stringify(meeting)}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
    }
  }
}

/** Of what has been reached by which meeting: as few meetings as reach all of it, or nearly. */
export function fewest(reached: readonly (readonly [Meeting, readonly string[]])[]): Meeting[] {
  const left = new Set(reached.flatMap(([, cells]) => cells));
  const chosen: Meeting[] = [];
  // Those that reach most come first; of the others only what still adds something.
  for (let most = Math.max(...reached.map(([, cells]) => cells.length)); most > 0; most--)
    for (const [meeting, cells] of reached) {
      if (cells.filter((cell) => left.has(cell)).length < most) continue;
      for (const cell of cells) left.delete(cell);
      chosen.push(meeting);
    }
  return chosen;
}
