/**
 * Races: after a random beginning, two or three operations at once, while flushes and copies of the devices end late and in any order. Whatever happens, what the operations said and what is there
 * in the end is what they would have left one after the other, in some order; nothing is broken meanwhile, nothing is left.
 */
import { isFarfaultError, type Machine } from 'farfault';
import { access, pinAccess } from '../../sdk/testing/oracle/oracle.ts';
import { generator, type Op, printOps } from './oracle-program.ts';
import { makeMachine, addressOf, endsOthers, Said, SPACES, VERBS, wordOf, World } from './race-world.ts';

export interface Race {
  /** Of 2 MiB pages, too; else of small pages only. */
  readonly wide: boolean;
  readonly before: readonly Op[];
  readonly atOnce: readonly Op[];
  /** Decides in which order late work ends. */
  readonly order: number;
}

/** Slots that are used, of small pages: the last four are for mappings that move. */
const SMALL = { first: 16, pages: 8, more: 4 } as const;
/** Slots of the first window and a page of the second. */
const WIDE = { first: 0, pages: 9, more: 0 } as const;
const TURNS_MAX = 500;

// ---------------------------------------------------------------------------------------------------------------- making

/** The race of a seed. */
export function raceOf(seed: number, wide: boolean): Race {
  const pick = generator(seed);
  const { first, pages } = wide ? WIDE : SMALL;
  let value = 0;
  const slot = (): number => first + pick(pages);
  const range = (): [number, number] => {
    const from = pick(pages);
    return [first + from, wide && pick(4) === 0 ? pages - from : 1 + pick(Math.min(4, pages - from))];
  };
  const op = (verb: string, ...args: number[]): Op => ({ verb, args });
  const any = (spaces: number): Op => {
    const space = pick(spaces);
    const device = pick(2);
    switch (pick(25)) {
      case 0:
      case 1:
        return op('read', space, slot());
      case 2:
      case 3:
      case 4:
        return op('write', space, slot(), ++value);
      case 5:
        return op('load', space, device, slot());
      case 6:
      case 7:
        return op('store', space, device, slot(), ++value);
      case 8:
        return op('atomic', space, device, slot(), 1000 * ++value);
      case 9:
      case 10:
        return op('to device', space, device, ...(wide && pick(2) === 0 ? [0, 8] : range()));
      case 11:
        return op('to host', space, device, ...range());
      case 12:
        return op('unmap', space, ...range());
      case 13:
      case 14:
        return op('protect', space, ...range(), pick(4));
      case 15:
        return op('dontneed', space, ...range());
      case 16:
        return wide ? op('collapse', space) : op('sync');
      case 17: {
        if (wide) return op('collapse', space);
        const slots = 1 + pick(3);
        const from = pick(pages - slots);
        const to = pick(pages - slots);
        return op('remap', space, first + from, slots, first + (Math.abs(to - from) < slots ? pages + pick(2) : to), pick(3) === 0 ? 1 : 0);
      }
      case 18:
      case 19:
        return op('fork', space, 1 + pick(SPACES - 1), pick(2));
      case 20:
        return op('pin', space, pick(2), slot(), pick(2));
      case 21:
        return wide || pick(2) === 0 ? op('pin write', pick(2), ++value) : op('truncate', pick(6));
      case 22:
        return op('exclusive', space, device, slot(), pick(2));
      case 23:
        return pick(3) === 0 ? op('close', 1 + pick(SPACES - 1)) : op('detach', space, device);
      default:
        return op('attach', space, device);
    }
  };
  const map = (from: number, slots: number): Op => op(pick(6) < 4 ? 'map' : 'map file', 0, from, slots, pick(3) === 0 ? 1 : 0);
  const mapped = wide ? [op('map', 0, 0, 16, 0), op('hugepage', 0, 0, 16)] : [map(first, 5), map(first + 5, 3)];
  const before = [...mapped, op('attach', 0, 0), op('attach', 0, 1), ...Array.from({ length: 10 }, () => any(2))];
  return { wide, before, atOnce: Array.from({ length: 2 + pick(2) }, () => any(3)), order: pick(2 ** 30) };
}

// --------------------------------------------------------------------------------------------------------------- running

let machine: Machine | undefined;

export function closeRaceMachine(): void {
  machine?.close();
  machine = undefined;
}

/** Runs a race. Returns what is wrong, or nothing. */
export async function runRace(race: Race): Promise<string | undefined> {
  let wrong: string | undefined;
  try {
    wrong = await new Running((machine ??= makeMachine()), race).run();
  } catch (error) {
    wrong = error instanceof Error ? `${error.stack}` : String(error);
  }
  // Whatever state it is in, nobody should build on it.
  if (wrong !== undefined) closeRaceMachine();
  return wrong;
}

const turn = (): Promise<void> => new Promise((resolve) => setTimeout(resolve));
const soon = async (): Promise<void> => {
  for (let i = 0; i < 8; i++) await Promise.resolve();
};

class Running {
  readonly #race: Race;
  readonly #world: World;
  readonly #pick: (bound: number) => number;
  /** What of the beginning was possible. */
  readonly #before: Op[] = [];
  readonly #ran: Op[] = [];
  readonly #ends: string[] = [];
  #running = 0;

  constructor(machine: Machine, race: Race) {
    this.#race = race;
    this.#world = new World(machine, race.wide);
    this.#pick = generator(race.order);
  }

  async run(): Promise<string | undefined> {
    for (const op of this.#race.before) {
      const act = VERBS[op.verb]!.real(this.#world, op.args);
      if (!act) continue;
      this.#before.push(op);
      await act().catch((error: unknown) => codeOf(error));
    }
    const wrong = await this.#atOnce();
    return wrong ?? this.#compare() ?? this.#end();
  }

  /** Begins the operations, and ends late work until all have ended. */
  async #atOnce(): Promise<string | undefined> {
    const world = this.#world;
    world.isSlow = true;
    for (const op of this.#race.atOnce) {
      const act = VERBS[op.verb]!.real(world, op.args);
      if (act) this.#begin(op, act);
      if (world.late.length > 0 && this.#pick(3) === 0) world.finish(this.#pick(world.late.length));
      if (this.#pick(2) === 0) await soon();
    }
    for (let i = 0; this.#running > 0 || world.late.length > 0; i++) {
      if (i > TURNS_MAX)
        return `does not end: ${world.machine.pending.map(({ steps, waitsFor }) => `${steps.join(' > ')} waits for ${waitsFor}`).join('; ')}`;
      await (world.late.length > 0 ? soon() : turn());
      const broken = world.machine.verify();
      if (broken) return `meanwhile ${broken}`;
      if (world.late.length > 0) world.finish(this.#pick(world.late.length));
    }
    await soon();
    world.isSlow = false;
    const { pending, strayErrors } = world.machine;
    if (pending.length > 0 || strayErrors.length > 0)
      return `${pending.length} operations are left, stray errors: ${strayErrors.map(String).join(', ')}`;
    return world.machine.verify();
  }

  #begin(op: Op, act: () => Promise<unknown>): void {
    const i = this.#ran.push(op) - 1;
    this.#running++;
    void act()
      .then(
        (said) => (this.#ends[i] = said === undefined ? 'ok' : `ok ${String(said)}`),
        (error: unknown) => (this.#ends[i] = codeOf(error)),
      )
      .finally(() => this.#running--);
  }

  /** Looks for an order in which the oracle says the same. */
  #compare(): string | undefined {
    const real = this.#seen();
    const wanted = new Set<string>();
    for (const order of orders(this.#ran.length)) {
      const said = this.#said(order);
      if (said === real) return undefined;
      wanted.add(said);
    }
    return `no order gives\n  ${real}\nbut\n  ${[...wanted].join('\n  ')}`;
  }

  #shown(ends: readonly string[]): string {
    return ends.map((end, i) => (VERBS[this.#ran[i]!.verb]!.isLoose ? '~' : end)).join(', ');
  }

  get #slots(): number[] {
    const { first, pages, more } = this.#race.wide ? WIDE : SMALL;
    return Array.from({ length: pages + more }, (_, i) => first + i);
  }

  #seen(): string {
    const words: string[] = [];
    for (const pin of this.#world.pins) words.push(pin && pin !== 'under way' && pin.isWritable ? String(wordOf(pin.read(0, 4))) : '-');
    for (let space = 0; space < SPACES; space++) {
      const there = this.#world.spaces[space];
      for (const slot of there ? this.#slots : []) {
        try {
          words.push(String(wordOf(there!.read(addressOf(slot), 4))));
        } catch (error) {
          words.push(codeOf(error));
        }
      }
      words.push('/');
    }
    return `${this.#shown(this.#ends)}: ${words.join(' ')}`;
  }

  #said(order: readonly number[]): string {
    const said = new Said();
    for (const { verb, args } of this.#before) VERBS[verb]!.said(said, args);
    const ends: string[] = [];
    for (const i of order) ends[i] = this.#isCutOff(i) ? this.#ends[i]! : VERBS[this.#ran[i]!.verb]!.said(said, this.#ran[i]!.args);
    const words: string[] = [];
    for (const i of [0, 1]) {
      const pin = said.pins[i];
      words.push(pin !== undefined && said.world.pins[pin]!.write ? pinAccess(said.world, pin, 0, 0, undefined).slice(3) : '-');
    }
    for (let space = 0; space < SPACES; space++) {
      const there = said.world.spaces[space];
      for (const slot of there ? this.#slots : []) words.push(access(there!, slot, 0, undefined).replace('ok ', ''));
      words.push('/');
    }
    return `${this.#shown(ends)}: ${words.join(' ')}`;
  }

  /** Whether an operation has ended because its space, or device, did: it has done nothing then. */
  #isCutOff(i: number): boolean {
    const { verb, args } = this.#ran[i]!;
    if (endsOthers({ verb, args })) return false;
    const end = this.#ends[i]!;
    const isClosed = this.#ran.some((other) => other.verb === 'close' && other.args[0] === args[0]);
    return (end === 'EBADF' && this.#ran.some(endsOthers)) || (isClosed && (end === 'EFAULT' || end === 'EINVAL'));
  }

  /** Takes everything down: nothing is left. */
  #end(): string | undefined {
    const { pins, spaces, file, machine } = this.#world;
    for (const pin of pins) if (pin && pin !== 'under way') pin.unpin();
    for (const space of spaces) space?.close();
    file.close();
    for (const { name, used } of machine.nodes) if (used > 0) return `${used} pages are left on ${name}`;
    return machine.verify();
  }
}

function codeOf(error: unknown): string {
  if (isFarfaultError(error)) return error.code;
  const { code } = error as { readonly code?: unknown };
  if (typeof code === 'string') return code;
  throw error;
}

/** Every order of so many things. */
function orders(n: number): number[][] {
  if (n === 0) return [[]];
  return orders(n - 1).flatMap((rest) => Array.from({ length: n }, (_, i) => [...rest.slice(0, i), n - 1, ...rest.slice(i)]));
}

// ------------------------------------------------------------------------------------------------------------- shrinking

/** The same race with less in it, still wrong in the same way. */
export async function shrinkRace(race: Race, wrong: string): Promise<Race> {
  let small = race;
  for (const part of ['atOnce', 'before'] as const) {
    for (let i = small[part].length - 1; i >= 0; i--) {
      for (const order of [small.order, 1, 2, 3, 4]) {
        const less = { ...small, [part]: small[part].filter((_, k) => k !== i), order };
        if (kindOf(await runRace(less)) !== kindOf(wrong)) continue;
        small = less;
        break;
      }
    }
  }
  return small;
}

/** What goes wrong, without numbers. */
function kindOf(wrong: string | undefined): string | undefined {
  return wrong?.replace(/\d+/g, '').slice(0, 16);
}

export function printRace({ wide, before, atOnce, order }: Race): string {
  return `${wide ? 'wide' : 'small'} ${order}: ${printOps(before)} || ${printOps(atOnce)}`;
}

/** Races of consecutive seeds, small and wide ones. Throws for the first that is wrong: as it was found, and shrunk. */
export async function races(seed: number, count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    const race = raceOf(seed + i, i % 5 === 4);
    const wrong = await runRace(race);
    if (wrong === undefined) continue;
    const small = await shrinkRace(race, wrong);
    const said = (await runRace(small)) ?? wrong;
    throw new Error(`race ${seed + i} (${race.wide ? 'wide' : 'small'}) is wrong: ${said}\n${printRace(small)}\nas found: ${wrong}`);
  }
}
