/**
 * Why a page is where it is: what the machine has recorded about it, walked backwards.
 *
 * ```
 *   newest   pages.migrated   a run covers the page                                        what put it there
 *            space.moved      it was at another address before: go on with that one        mremap
 *            space.forked     its space is the child: go on with the parent                fork
 *            fault.cpu        the page, or the huge page that it is in
 *   oldest   space.mapped     the promise: nothing before it was this page's
 * ```
 *
 * Records are kept by `machine.record()`, within a budget; where the promise is not among them any more, the answer says so.
 */
import * as L from '../../assembly/layout.ts';
import type { CopyCause, CpuFaultCause, MigrationCause } from '../events/cause.ts';
import type { EventLog } from '../events/log.ts';
import type { MachineEvent, PageRun } from '../events/record.ts';
import { fail } from '../errors.ts';
import type { AddressSpace } from './address-space.ts';
import { requireArray, requireObject } from './arguments.ts';
import { letterOf } from './dump.ts';
import type { Platform } from './platform.ts';

/** Where a page is now. */
export interface PageState {
  /** As `space.dump` has it. */
  readonly letter: string;
  readonly words: string;
  /** The node that its frame is on; undefined: it has none. */
  readonly node: string | undefined;
}

/** What `space.history` answers. */
export interface PageHistory {
  /** `space.id`. */
  readonly space: number;
  /** First byte of the page. */
  readonly addr: number;
  readonly state: PageState;
  /** The last record that put it there; undefined: it is not among those that are kept. */
  readonly because: MachineEvent | undefined;
  /** The records that concern the page, oldest first: under other addresses and in parents too. */
  readonly events: readonly MachineEvent[];
  /** Records that belong here were dropped, or not made yet: the beginning is missing. */
  readonly truncated: boolean;
}

/** The history of page `vpn`, from what `log` has kept. */
export function historyOf(platform: Platform, space: AddressSpace, vpn: number, log: EventLog): PageHistory {
  const state = stateOf(platform, space, vpn);
  const walk = new Walk(space.id, vpn);
  for (let i = log.length - 1; i >= 0 && !walk.complete; i--) walk.look(log.at(i)!);
  const found = walk.found;
  const because = found.find((event) => places(event, state.letter));
  return {
    space: space.id,
    addr: vpn * L.PAGE_BYTES,
    state,
    because,
    events: [...found].reverse(),
    truncated: !walk.complete && (log.dropped > 0 || log.isLate),
  };
}

/** One page, followed from the newest record to the oldest. */
class Walk {
  /** What concerns it, newest first. */
  readonly found: MachineEvent[] = [];
  /** Its promise has been met. */
  complete = false;
  private space: number;
  private vpn: number;
  /** First page of a new place, whose move is the next to come. */
  private moved = -1;

  constructor(space: number, vpn: number) {
    this.space = space;
    this.vpn = vpn;
  }

  look(event: MachineEvent): void {
    const { space, vpn } = this;
    switch (event.type) {
      case 'space.forked':
        if (event.space !== space && event.child !== space) return;
        this.found.push(event);
        this.space = event.space;
        return;
      case 'space.moved':
        if (event.space !== space) return;
        if (isIn(event.to, event.pages, vpn)) this.vpn = vpn - event.to + event.vpn;
        else if (event.to === this.moved) this.complete = true;
        else if (!isIn(event.vpn, event.pages, vpn)) return;
        this.found.push(event);
        return;
      case 'space.mapped':
        if (!concerns(event, space, vpn)) return;
        this.found.push(event);
        if (event.cause === 'mremap') this.moved = event.vpn;
        else this.complete = true;
        return;
      case 'space.unmapped':
        if (!concerns(event, space, vpn)) return;
        // Of another space, which had the same number.
        if (event.cause === 'exit') this.complete = true;
        else this.found.push(event);
        return;
      default:
        if (concerns(event, space, vpn)) this.found.push(event);
    }
  }
}

function isIn(start: number, pages: number, vpn: number): boolean {
  return vpn >= start && vpn < start + pages;
}

/** Whether a record is about a page. */
function concerns(event: MachineEvent, space: number, vpn: number): boolean {
  switch (event.type) {
    case 'pages.migrated':
    case 'frames.evicted':
      return event.runs.some((run) => run.space === space && isIn(run.vpn, run.pages, vpn));
    case 'fault.cpu':
      return event.space === space && isIn(event.vpn - (event.vpn % event.pages), event.pages, vpn);
    case 'fault.device':
    case 'fault.cancelled':
    case 'fault.fatal':
    case 'page.inserted':
    case 'page.exclusive':
    case 'page.revoked':
    case 'page.replicated':
    case 'replica.dropped':
      return event.space === space && event.vpn === vpn;
    case 'pages.mapped':
    case 'page.copied':
    case 'page.split':
    case 'page.collapsed':
    case 'pages.pinned':
    case 'pages.unpinned':
    case 'range.advised':
    case 'range.invalidated':
    case 'space.mapped':
    case 'space.unmapped':
    case 'space.moved':
    case 'space.protected':
      return event.space === space && isIn(event.vpn, event.pages, vpn);
    default:
      return false;
  }
}

/** Whether a record that concerns a page can have put it where the letter says. */
function places(event: MachineEvent, letter: string): boolean {
  switch (letter) {
    case '-':
      return event.type === 'space.unmapped' || event.type === 'space.moved';
    case '.':
      return (
        event.type === 'space.unmapped' || event.type === 'space.mapped' || event.type === 'space.moved' || event.type === 'space.forked'
      );
    case 'm':
      return event.type === 'range.invalidated';
    case 'x':
    case 'a':
      return event.type === 'page.exclusive';
    case 'r':
      return event.type === 'page.replicated';
    case '*':
      return event.type === 'page.inserted';
    default:
  }
  switch (event.type) {
    case 'pages.migrated':
    case 'page.copied':
    case 'page.collapsed':
    case 'page.inserted':
      return true;
    case 'fault.cpu':
      // These bring back a right, or send for somebody else.
      return event.cause !== 'reuse' && event.cause !== 'home' && event.cause !== 'exclusive' && event.cause !== 'upgrade';
    default:
      return false;
  }
}

const WORDS: Readonly<Record<string, string>> = {
  '-': 'not mapped',
  '.': 'mapped, nothing there yet',
  z: 'the page of zeros',
  h: 'on the host, read-only',
  r: 'on the host, read-only, and devices have copies of it',
  H: 'on the host, writable',
  f: 'on the host, of a file, shared memory or a driver, read-only',
  F: 'on the host, of a file, shared memory or a driver, writable',
  c: 'on coherent memory, read-only',
  C: 'on coherent memory, writable',
  n: 'there, but no rights',
  m: 'on its way',
  x: 'exclusive to a device',
  a: 'a device’s for its atomics; the CPU may read',
  s: 'swapped out',
  '*': 'special: no memory of the machine',
  '!': 'lost',
};

function stateOf(platform: Platform, space: AddressSpace, vpn: number): PageState {
  const { core, nodes } = platform;
  const letter = letterOf(platform, space, vpn);
  const high = core.entry(space.table, vpn);
  const kind = high & L.ENTRY_KIND;
  const hasFrame =
    kind === L.KIND_PRESENT ||
    kind === L.KIND_DEVICE_PRIVATE ||
    kind === L.KIND_EXCLUSIVE ||
    kind === L.KIND_MIGRATION ||
    kind === L.KIND_SWAP ||
    kind === L.KIND_PROTNONE;
  const words = WORDS[letter] ?? (letter === letter.toUpperCase() ? 'on a device, writable' : 'on a device, read-only');
  return { letter, words, node: hasFrame && !(high & L.ENTRY_ZERO) ? nodes.of(core.entryLow).name : undefined };
}

// ------------------------------------------------------------------------------------------------------------------- as text

/** A history for people: a sentence, and a line for each record. No newline at its end. */
export function printHistory(history: PageHistory): string {
  requireObject('printHistory.history', history, 'what space.history answers');
  const { space, addr, state, because, events, truncated } = history;
  requireObject('printHistory.history.state', state, 'the state of a page');
  requireArray('printHistory.history.events', events);
  const where = state.node === undefined ? state.words : `${state.words} (${state.node})`;
  const lines = [`page ${hex(addr)} of space ${space}: ${state.letter}, ${where}`];
  lines.push(because ? `because ${sentence(because)} (#${because.tick})` : 'because of something that is not among the records');
  lines.push(truncated ? 'records, the oldest of which are missing:' : 'records from the beginning:');
  for (const event of events) lines.push(`  ${printEvent(event)}`);
  return lines.join('\n');
}

const MIGRATED: Readonly<Record<MigrationCause, string>> = {
  fault: 'a device faulted on it, or on a page of its granule',
  home: 'the CPU touched it, or a page of its granule',
  evict: 'a device ran out of frames',
  user: 'the program asked for it',
  detach: 'the device left',
  pin: 'it was pinned for long',
  fork: 'its space was to be forked',
  unplug: 'the memory was taken out',
  'swap out': 'host memory was full',
  'swap in': 'it was touched, or a page with it',
};

const FAULTED: Readonly<Record<CpuFaultCause, string>> = {
  zero: 'read a hole',
  demand: 'wrote to a hole',
  cow: 'wrote to the page of zeros',
  reuse: 'wrote to it',
  home: 'touched it',
  copy: 'wrote to a page that others have too',
  share: 'touched a page of a file or of shared memory',
  huge: 'touched a hole where a huge page appears',
  exclusive: 'took it back',
  upgrade: 'wrote to a page that devices had copies of',
  swap: 'touched it',
};

const COPIED: Readonly<Record<CopyCause, string>> = {
  write: 'somebody wrote to a page that others have too',
  unshare: 'somebody pinned a page that others have too',
  fork: 'the parent’s page was pinned when it was forked',
};

/** Why a page is somewhere, by the record that put it there. */
function sentence(event: MachineEvent): string {
  switch (event.type) {
    case 'pages.migrated':
      return `${MIGRATED[event.cause]}: ${event.from} -> ${event.to}`;
    case 'fault.cpu':
      return `${event.forDevice ? 'a device' : 'the CPU'} ${FAULTED[event.cause]}`;
    case 'page.copied':
      return COPIED[event.cause];
    case 'page.collapsed':
      return 'the program asked for a huge page';
    case 'page.inserted':
      return 'a driver put it there';
    case 'page.replicated':
      return event.isKept ? 'it came home, and the device kept its copy' : 'a device reads a copy of it';
    case 'page.exclusive':
      return 'a device does atomics in it';
    case 'range.invalidated':
      return `of a change under way: ${event.cause}`;
    case 'space.unmapped':
      return `${event.cause} took it away`;
    case 'space.moved':
      return 'mremap moved it away';
    case 'space.mapped':
      return 'nobody has touched it since it was mapped';
    case 'space.forked':
      return 'nobody has touched it since the fork';
    default:
      return `of ${event.type}`;
  }
}

/** One record in one line: its tick, its type, and what its fields say. */
export function printEvent(event: MachineEvent): string {
  requireObject('printEvent.event', event, 'an event');
  if (typeof event.type !== 'string' || !/^[a-z]+\.[a-z]+$/.test(event.type))
    throw fail('EINVAL', 'printEvent.event.type', event.type, 'is not the type of an event');
  const { type, tick, ...fields } = event;
  const parts: string[] = [];
  for (const [name, value] of Object.entries(fields) as [string, unknown][]) {
    const text = printed(name, value);
    if (text !== undefined) parts.push(text);
  }
  return `#${tick} ${type}  ${parts.join(', ')}`;
}

/** What a record of two nodes, or of bytes, says twice; counts that are worth a word only when there is something to count. */
const IMPLIED: ReadonlySet<string> = new Set(['way', 'bytes']);
const COUNTS: ReadonlySet<string> = new Set(['cleared', 'refused', 'coalesced', 'deferred', 'overflow', 'cancelled']);

function printed(name: string, value: unknown): string | undefined {
  if (value === undefined || value === '' || IMPLIED.has(name) || (value === 0 && COUNTS.has(name))) return undefined;
  if (typeof value === 'boolean') return value ? name : undefined;
  if (name === 'runs') {
    const runs = value as readonly PageRun[];
    return runs.length === 0 ? undefined : `now ${runs.map((run) => `${run.space}:${address(run.vpn)}+${run.pages}`).join(' ')}`;
  }
  if (Array.isArray(value)) return `${name} ${value.length}`;
  if (typeof value !== 'number') return `${name} ${String(value)}`;
  if (name === 'space') return value < 0 ? 'by frame' : `space ${value}`;
  // Page numbers are shown as the addresses that people know.
  if (name === 'vpn') return `at ${address(value)}`;
  if (name === 'to') return `to ${address(value)}`;
  if (name === 'wanted') return value < 0 ? undefined : `for ${address(value)}`;
  return `${name} ${value}`;
}

function address(vpn: number): string {
  return hex(vpn * L.PAGE_BYTES);
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}
