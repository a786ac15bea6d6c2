/** Which operations have met which entries: proof that random programs come everywhere. */
import type { ModelMachine } from '../../sdk/testing/model/machine.ts';
import type { ModelSpace } from '../../sdk/testing/model/space.ts';
import type { Operation } from '../../sdk/testing/program.ts';

/** What a page is before an operation. `other's`: on another device than the one that acts. */
export const ENTRIES = ['unmapped', 'none', 'zero', 'host rw', 'host ro', 'protnone', 'device rw', 'device ro', "other's"] as const;
type Entry = (typeof ENTRIES)[number];

export const ACTS = [
  'cpu read',
  'cpu write',
  'nouveau read',
  'nouveau write',
  'mirror read',
  'mirror write',
  'map',
  'unmap',
  'dontneed',
  'protect none',
  'protect r',
  'protect rw',
  'to device',
  'to host',
  'detach',
  'evict',
] as const;
type Act = (typeof ACTS)[number];

type Cell = `${Act}, ${Entry}`;

/** Cells that no program can reach, and why. */
function isPossible(act: Act, entry: Entry): boolean {
  switch (act) {
    // Nobody acts on a device's behalf, so no device is another one.
    case 'cpu read':
    case 'cpu write':
    case 'map':
    case 'unmap':
    case 'dontneed':
    case 'protect none':
    case 'protect r':
    case 'protect rw':
      return entry !== "other's";
    // No memory, no pages of its own.
    case 'mirror read':
    case 'mirror write':
      return entry !== 'device rw' && entry !== 'device ro';
    // Only pages that there are leave with a device, and only its own to make room.
    case 'detach':
      return entry !== 'unmapped';
    case 'evict':
      return entry === 'device rw' || entry === 'device ro';
    case 'nouveau read':
    case 'nouveau write':
    case 'to device':
    case 'to host':
      return true;
  }
}

/** What an operation is about to meet, and where the pages are that it may evict. */
export interface Sight {
  readonly cells: readonly Cell[];
  readonly evictions: number;
  readonly resident: readonly { readonly space: ModelSpace; readonly vpn: number; readonly entry: Entry }[];
}

export class Coverage {
  readonly #counts = new Map<Cell, number>();

  /** Before the operation. */
  look(model: ModelMachine, operation: Operation): Sight {
    const space = model.spaces[operation.space]!;
    const device = 'device' in operation ? model.devices[operation.device]! : undefined;
    const evictions = model.counters().evictions;
    if (device && !space.contexts.some((context) => context.device === device)) return { cells: [], evictions, resident: [] };
    const cells: Cell[] = [];
    const meets = (act: Act, first: number, end: number): void => {
      for (let vpn = first; vpn < end; vpn++) cells.push(`${act}, ${entryOf(space, vpn, device?.name)}`);
    };
    const touches = (act: Act, addr: number, bytes: number): void =>
      meets(act, Math.floor(addr / 4096), Math.floor((addr + bytes - 1) / 4096) + 1);
    const kind = device && 'vram' in device ? 'nouveau' : 'mirror';
    switch (operation.verb) {
      case 'map':
      case 'unmap':
      case 'dontneed':
        meets(operation.verb, operation.vpn, operation.vpn + operation.pages);
        break;
      case 'protect':
        meets(`protect ${operation.prot}`, operation.vpn, operation.vpn + operation.pages);
        break;
      case 'read':
      case 'write':
        touches(`cpu ${operation.verb}`, operation.addr, operation.bytes);
        break;
      case 'load':
        touches(`${kind} read`, operation.addr, operation.bytes);
        break;
      case 'store':
        touches(`${kind} write`, operation.addr, operation.bytes);
        break;
      case 'job':
        for (const { write, addr, bytes } of operation.accesses) touches(`${kind} ${write ? 'write' : 'read'}`, addr, bytes);
        break;
      case 'to-device':
      case 'to-host':
        if (kind === 'nouveau')
          meets(operation.verb === 'to-device' ? 'to device' : 'to host', operation.vpn, operation.vpn + operation.pages);
        break;
      case 'detach':
        for (const { start, end } of space.vmas.parts(0, 2 ** 36)) meets('detach', start, end);
        break;
      case 'attach':
    }
    const resident = model.spaces.flatMap((each) =>
      [...each.pages.keys()].flatMap((vpn) => {
        const entry = entryOf(each, vpn, device?.name);
        return entry === 'device rw' || entry === 'device ro' ? [{ space: each, vpn, entry }] : [];
      }),
    );
    return { cells, evictions, resident };
  }

  /** After it. */
  add(model: ModelMachine, { cells, evictions, resident }: Sight): void {
    for (const cell of cells) this.#count(cell);
    if (model.counters().evictions === evictions) return;
    for (const { space, vpn, entry } of resident) if (space.pages.get(vpn)?.kind === 'host') this.#count(`evict, ${entry}`);
  }

  #count(cell: Cell): void {
    this.#counts.set(cell, (this.#counts.get(cell) ?? 0) + 1);
  }

  /** Cells that are possible and were not reached. */
  get missing(): Cell[] {
    return ACTS.flatMap((act) =>
      ENTRIES.flatMap((entry) => (isPossible(act, entry) && !this.#counts.has(`${act}, ${entry}`) ? [`${act}, ${entry}` as const] : [])),
    );
  }

  /** Cells that were reached and are not possible. */
  get impossible(): Cell[] {
    return ACTS.flatMap((act) =>
      ENTRIES.flatMap((entry) => (!isPossible(act, entry) && this.#counts.has(`${act}, ${entry}`) ? [`${act}, ${entry}` as const] : [])),
    );
  }

  /** A line for each act, a column for each entry; `-` where there is nothing to reach. */
  table(): string {
    const width = 11;
    const head = ' '.repeat(14) + ENTRIES.map((entry) => entry.padStart(width)).join('');
    const lines = ACTS.map((act) => {
      const cells = ENTRIES.map((entry) =>
        (isPossible(act, entry) ? String(this.#counts.get(`${act}, ${entry}`) ?? 0) : '-').padStart(width),
      );
      return act.padEnd(14) + cells.join('');
    });
    return [head, ...lines].join('\n');
  }
}

/** What a page is, seen from a device if one acts. */
function entryOf(space: ModelSpace, vpn: number, device: string | undefined): Entry {
  const vma = space.vmas.find(vpn);
  if (!vma) return 'unmapped';
  const entry = space.pages.get(vpn);
  if (!entry) return 'none';
  if (entry.kind === 'device') {
    if (device !== undefined && entry.frame.owner!.name !== device) return "other's";
    return entry.write ? 'device rw' : 'device ro';
  }
  if (vma.prot === 'none') return 'protnone';
  if (entry.kind === 'zero') return 'zero';
  return entry.write ? 'host rw' : 'host ro';
}
