/**
 * `traced(driver, trace)`: everything is let through and written down, one record a call.
 *
 * ```ts
 * const trace = new DriverTrace();
 * const context = space.attach(machine.addDevice(traced(mirror({ ownTable: true }), trace)));
 * context.write(range.start, Uint8Array.of(7));
 * console.log(trace.text());
 *   //  1 space 1 attach
 *   //  2 space 1 walk.translate 0x10 write -> nothing
 *   //  3 space 1 pmap.enter 0x10+1 host:512 rw
 * ```
 */
import {
  type Context,
  type Copies,
  type Driver,
  fail,
  type FaultBatch,
  isTicket,
  type Mappings,
  type Marks,
  type PeerBatch,
  type PeerItem,
  type Ranges,
  type Ticket,
  type Translation,
} from '../../gmem/index.ts';
import type { DriverOperation } from './faulty.ts';
import { type NamesOf, requireCount, requireObject, requireOptions } from '../../mm/arguments.ts';
import { wrapDriver, withOperations } from './wrap.ts';

/** Records that a trace keeps unless it is told otherwise. */
export const TRACE_RECORDS_MAX = 10_000;

/** Pieces of a list that `text` shows; the record has all of them. */
const SHOWN_PIECES_MAX = 8;

/** A copy of what a call was given, by what it is. */
export type TracedArgument =
  | { readonly kind: 'ranges'; readonly ranges: readonly (readonly [vpn: number, pages: number])[] }
  | { readonly kind: 'mappings'; readonly mappings: readonly TracedMapping[] }
  | { readonly kind: 'copies'; readonly runs: readonly TracedCopy[] }
  | {
      readonly kind: 'batch';
      readonly records: readonly { readonly vpn: number; readonly write: boolean; readonly lane: number }[];
      readonly overflow: number;
    }
  | { readonly kind: 'items'; readonly items: readonly TracedItem[] }
  | { readonly kind: 'page'; readonly vpn: number }
  | { readonly kind: 'value'; readonly text: string };

/** A run of translations. */
export interface TracedMapping {
  readonly vpn: number;
  readonly pages: number;
  readonly memory: number;
  readonly page: number;
  readonly write: boolean;
}

/** A run of copies; without `from`: the target is cleared. */
export interface TracedCopy {
  readonly pages: number;
  readonly from: { readonly memory: number; readonly page: number } | undefined;
  readonly to: { readonly memory: number; readonly page: number };
}

/** One item of a batch that the device brings or takes by itself. */
export interface TracedItem {
  readonly vpn: number;
  readonly pages: number;
  readonly bytes: PeerItem['bytes'];
  readonly write: boolean;
  /** The item itself: its `code` says how it has ended, once it has. */
  readonly item: PeerItem;
}

/** How a call ended. `running`: it has not returned. A ticket is the ticket itself: its state now says whether the work is finished. */
export type TracedAnswer =
  | { readonly kind: 'running' }
  | { readonly kind: 'value'; readonly text: string }
  | { readonly kind: 'ticket'; readonly ticket: Ticket }
  | { readonly kind: 'thrown'; readonly message: string };

/** One call. */
export interface TracedCall {
  /** Counts the calls of a trace, from 1. */
  readonly order: number;
  readonly operation: DriverOperation;
  readonly device: string;
  /** The address space; undefined for `phys`, which is one for all of them. */
  readonly space: number | undefined;
  readonly arguments: readonly TracedArgument[];
  readonly answer: TracedAnswer;
}

/** What was called, in the order of the calls. It keeps the last `max` of them. */
export class DriverTrace {
  readonly max: number;
  readonly #calls: TracedCall[] = [];
  #total = 0;

  /** `max`: records that are kept. Errors: EINVAL when that is not a positive integer. */
  constructor(options: { readonly max?: number } = {}) {
    requireOptions('trace', options, { max: true } satisfies NamesOf<typeof options>);
    const { max = TRACE_RECORDS_MAX } = options;
    if (!Number.isSafeInteger(max) || max < 1) throw fail('EINVAL', 'trace.max', max, 'is not a positive count of records');
    this.max = max;
  }

  /** The calls that are kept, oldest first. */
  get calls(): readonly TracedCall[] {
    return this.#calls;
  }

  /** Calls that were made, kept or not. */
  get total(): number {
    return this.#total;
  }

  /** Calls that are kept no more. */
  get dropped(): number {
    return this.#total - this.#calls.length;
  }

  /** Forgets all calls, and counts from 1 again. */
  clear(): this {
    this.#calls.length = 0;
    this.#total = 0;
    return this;
  }

  /** One line a call, the last `last` of them. The same calls give the same text. */
  text(last: number = Infinity): string {
    if (last !== Infinity) requireCount('trace.last', last, 0, Number.MAX_SAFE_INTEGER);
    const shown = this.#calls.slice(Math.max(0, this.#calls.length - last));
    const before = this.#total - shown.length;
    const lines = shown.map(printCall);
    if (before > 0) lines.unshift(`... ${before} calls before these`);
    return lines.join('\n');
  }

  /** @internal Writes a call down and makes it. */
  around<T>(
    operation: DriverOperation,
    { device, space }: { readonly device: string; readonly space: number | undefined },
    given: readonly TracedArgument[],
    call: () => T,
    printed: (answer: T) => string = () => '',
  ): T {
    const record: { -readonly [field in keyof TracedCall]: TracedCall[field] } = {
      order: ++this.#total,
      operation,
      device,
      space,
      arguments: given,
      answer: { kind: 'running' },
    };
    this.#calls.push(record);
    if (this.#calls.length > this.max) this.#calls.shift();
    try {
      const answer = call();
      record.answer = isTicket(answer) ? { kind: 'ticket', ticket: answer } : { kind: 'value', text: printed(answer) };
      return answer;
    } catch (error) {
      record.answer = { kind: 'thrown', message: error instanceof Error ? error.message : String(error) };
      throw error;
    }
  }
}

/** The driver, each of whose calls is written down in `trace`. Calls of the ready-made table and TLB are the core's own and are not in it. */
export function traced<D extends Driver>(driver: D, trace: DriverTrace): D {
  requireObject('driver', driver, 'a driver (an object made by a defineDriver factory)');
  if (!(trace instanceof DriverTrace)) throw fail('EINVAL', 'traced.trace', trace, 'is not a DriverTrace');
  const { name: device } = driver;
  const of = ({ space }: Context): { readonly device: string; readonly space: number } => ({ device, space: space.id });
  const shared = { device, space: undefined };
  return wrapDriver(driver, {
    attach: (context, attach) => trace.around('attach', of(context), [], attach, (mmu) => Object.keys(mmu ?? {}).join(' ')),
    pmap: (pmap, context) =>
      withOperations(pmap, {
        create: () => trace.around('pmap.create', of(context), [], () => pmap.create!()),
        enter: (mappings) => trace.around('pmap.enter', of(context), [mappingsOf(mappings)], () => pmap.enter(mappings)),
        release: (ranges) => trace.around('pmap.release', of(context), [rangesOf(ranges)], () => pmap.release(ranges)),
        protect: (ranges, write) =>
          trace.around('pmap.protect', of(context), [rangesOf(ranges), value(write ? 'rw' : 'r')], () => pmap.protect!(ranges, write)),
        destroy: () => trace.around('pmap.destroy', of(context), [], () => pmap.destroy!()),
      }),
    tlb: (tlb, context) =>
      withOperations(tlb, {
        invalidate: (ranges) => trace.around('tlb.invalidate', of(context), [rangesOf(ranges)], () => tlb.invalidate(ranges)),
        invalidateCoalesced: (ranges) =>
          trace.around('tlb.invalidateCoalesced', of(context), [rangesOf(ranges)], () => tlb.invalidateCoalesced!(ranges)),
      }),
    walk: (walk, context) =>
      withOperations(walk, {
        translate: (vpn, access) =>
          trace.around(
            'walk.translate',
            of(context),
            [{ kind: 'page', vpn }, value(access)],
            () => walk.translate(vpn, access),
            printTranslation,
          ),
        harvest(ranges, marks) {
          const before = marks.count;
          trace.around(
            'walk.harvest',
            of(context),
            [rangesOf(ranges)],
            () => walk.harvest!(ranges, marks),
            () => printMarks(marks, before),
          );
        },
      }),
    copy: (copy, context) =>
      withOperations(copy, {
        toDevice: (copies) => trace.around('copy.toDevice', of(context), [copiesOf(copies)], () => copy.toDevice!(copies)),
        toHost: (copies) => trace.around('copy.toHost', of(context), [copiesOf(copies)], () => copy.toHost!(copies)),
        peer: (copies) => trace.around('copy.peer', of(context), [copiesOf(copies)], () => copy.peer!(copies)),
        zero: (copies) => trace.around('copy.zero', of(context), [copiesOf(copies, true)], () => copy.zero!(copies)),
      }),
    phys: (phys) =>
      withOperations(phys, {
        allocPage: () => trace.around('phys.allocPage', shared, [], () => phys.allocPage(), printValue),
        freePage: (page) => trace.around('phys.freePage', shared, [value(printValue(page))], () => phys.freePage(page)),
        preparePage: (copies) => trace.around('phys.preparePage', shared, [copiesOf(copies)], () => phys.preparePage!(copies)),
        victims: (spared) =>
          trace.around(
            'phys.victims',
            shared,
            [],
            () => phys.victims!(spared),
            (pages) => `[${printSome([...(pages ?? [])], String)}]`,
          ),
      }),
    peer: (peer, context) =>
      withOperations(peer, {
        map: (batch) => trace.around('peer.map', of(context), [itemsOf(batch)], () => peer.map(batch)),
        unmap: (batch) => trace.around('peer.unmap', of(context), [itemsOf(batch)], () => peer.unmap(batch)),
        importPages: (count) =>
          trace.around(
            'peer.importPages',
            of(context),
            [value(printValue(count))],
            () => peer.importPages!(count),
            (pages) => `[${printSome([...(pages ?? [])], String)}]`,
          ),
        freePage: (page, pages) =>
          trace.around('peer.freePage', of(context), [value(`${page}+${pages}`)], () => peer.freePage!(page, pages)),
      }),
    fault: (fault, context) =>
      withOperations(fault, {
        service: (batch) => trace.around('fault.service', of(context), [batchOf(batch)], () => fault.service(batch), printStep),
      }),
    peerVa: (peerVa, context) =>
      withOperations(peerVa, {
        allocFixed: (start, bytes, prot) =>
          trace.around(
            'peerVa.allocFixed',
            of(context),
            [value(printAddresses(start, bytes)), value(prot)],
            () => peerVa.allocFixed(start, bytes, prot),
            printValue,
          ),
        free: (start, bytes) =>
          trace.around('peerVa.free', of(context), [value(printAddresses(start, bytes))], () => peerVa.free(start, bytes)),
      }),
    command: (command, context) => (request) =>
      trace.around('command', of(context), [value(printValue(request))], () => command(request), printStep),
    detach: (detach, context) => () => (detach ? trace.around('detach', of(context), [], detach) : undefined),
  });
}

// ---------------------------------------------------------------------------------------------------------------- copies of arguments

function rangesOf(ranges: Ranges): TracedArgument {
  const kept: [number, number][] = [];
  ranges.each((vpn, pages) => kept.push([vpn, pages]));
  return { kind: 'ranges', ranges: kept };
}

function mappingsOf(list: Mappings): TracedArgument {
  const mappings: TracedMapping[] = [];
  list.each((vpn, pages, page, memory, write) => mappings.push({ vpn, pages, memory, page, write }));
  return { kind: 'mappings', mappings };
}

/** `clears`: there are no sources, whatever the list says. */
function copiesOf(copies: Copies, clears = false): TracedArgument {
  const runs: TracedCopy[] = [];
  copies.each((pages, fromMemory, fromPage, memory, page) => {
    runs.push({ pages, from: clears || fromPage < 0 ? undefined : { memory: fromMemory, page: fromPage }, to: { memory, page } });
  });
  return { kind: 'copies', runs };
}

function batchOf({ records, overflow }: FaultBatch): TracedArgument {
  return { kind: 'batch', records: records.map(({ vpn, write, lane }) => ({ vpn, write, lane })), overflow };
}

function itemsOf(batch: PeerBatch): TracedArgument {
  const items: TracedItem[] = [];
  batch.each((item) => {
    const { vpn, pages, bytes, write } = item;
    items.push({ vpn, pages, bytes, write, item });
  });
  return { kind: 'items', items };
}

function value(text: string): TracedArgument {
  return { kind: 'value', text };
}

// ------------------------------------------------------------------------------------------------------------------------- printing

function printCall({ order, operation, space, arguments: given, answer }: TracedCall): string {
  const isOpen = answer.kind === 'running' || (answer.kind === 'ticket' && answer.ticket.state === 'pending');
  const printed = given.map((each) => printArgument(each, isOpen));
  const words = [String(order).padStart(5), space === undefined ? 'device ' : `space ${space}`, operation, ...printed];
  const end = printAnswer(answer);
  return (end === '' ? words : [...words, '->', end]).filter((word) => word !== '').join(' ');
}

/** `isOpen`: how its items end is not known yet. */
function printArgument(given: TracedArgument, isOpen: boolean): string {
  switch (given.kind) {
    case 'ranges':
      return printSome(given.ranges, ([vpn, pages]) => printPages(vpn, pages));
    case 'mappings':
      return printSome(
        given.mappings,
        ({ vpn, pages, memory, page, write }) => `${printPages(vpn, pages)} ${printPlace(memory, page)} ${write ? 'rw' : 'r'}`,
      );
    case 'copies':
      return printSome(given.runs, ({ pages, from, to }) => {
        return `${pages}p ${from ? printPlace(from.memory, from.page) : 'zeros'} to ${printPlace(to.memory, to.page)}`;
      });
    case 'batch':
      return `${printSome(given.records, ({ vpn, write, lane }) => `${printPage(vpn)} ${write ? 'w' : 'r'} lane ${lane}`)}${given.overflow > 0 ? `, ${given.overflow} more without room` : ''}`;
    case 'items':
      return printSome(
        given.items,
        ({ vpn, pages, bytes, write, item }) => `${printPages(vpn, pages)} ${bytes}${write ? ' rw' : ''}${isOpen ? '' : `: ${item.code}`}`,
      );
    case 'page':
      return printPage(given.vpn);
    case 'value':
      return given.text;
  }
}

function printAnswer(answer: TracedAnswer): string {
  switch (answer.kind) {
    case 'running':
      return '(running)';
    case 'value':
      return answer.text;
    case 'ticket':
      return `${answer.ticket.label}, ${answer.ticket.state}${answer.ticket.reason ? `: ${answer.ticket.reason}` : ''}`;
    case 'thrown':
      return `throws "${answer.message}"`;
  }
}

function printSome<T>(items: readonly T[], print: (item: T) => string): string {
  const shown = items.slice(0, SHOWN_PIECES_MAX).map(print).join(', ');
  return items.length > SHOWN_PIECES_MAX ? `${shown}, and ${items.length - SHOWN_PIECES_MAX} more` : shown;
}

function printPage(vpn: unknown): string {
  return typeof vpn === 'number' ? `0x${vpn.toString(16)}` : String(vpn);
}

function printPages(vpn: number, pages: number): string {
  return `${printPage(vpn)}+${pages}`;
}

function printAddresses(start: number, bytes: number): string {
  return `${printPage(start)}+${bytes} bytes`;
}

function printPlace(memory: number, page: number): string {
  return memory === -1 ? `host:${page}` : `memory ${memory}:${page}`;
}

function printTranslation(answer: Translation | undefined): string {
  if (answer === undefined) return 'nothing';
  if (typeof answer !== 'object' || answer === null) return printValue(answer);
  const { vpn, memory, page, write } = answer;
  return `${printPage(vpn)} ${printPlace(memory, page)} ${write ? 'rw' : 'r'}`;
}

/** The marks that a call added. */
function printMarks(marks: Marks, before: number): string {
  const added: string[] = [];
  let at = 0;
  marks.each((vpn, dirty) => {
    if (at++ >= before) added.push(`${printPage(vpn)}${dirty ? ' dirty' : ''}`);
  });
  return added.length === 0 ? 'no marks' : printSome(added, String);
}

function printStep(step: { readonly name?: unknown } | undefined): string {
  return typeof step === 'object' && step !== null ? `step "${String(step.name)}"` : printValue(step);
}

function printValue(given: unknown): string {
  if (given === undefined) return 'nothing';
  if (typeof given !== 'object' || given === null) return String(given);
  const seen = new WeakSet();
  // Bytes by their number: a request may have a megabyte.
  return JSON.stringify(given, (_key, field: unknown) => {
    if (ArrayBuffer.isView(field)) return `${field.byteLength} bytes`;
    if (typeof field === 'bigint') return String(field);
    if (typeof field === 'function') return 'function';
    if (typeof field !== 'object' || field === null) return field;
    if (seen.has(field)) return '(again)';
    seen.add(field);
    return field;
  });
}
