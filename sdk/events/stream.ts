/** The event stream of a machine. Free when nobody listens: a record is built only for a listener, counters are plain numbers. */
import type { CpuFaultCause, Evictor, MigrationCause, Way } from './cause.ts';
import {
  addBatch,
  addCpuFault,
  addEvicted,
  addReplicated,
  addTraffic,
  type CountedTraffic,
  type Counters,
  type EvictionFates,
  newCounters,
  trafficIn,
} from './counters.ts';
import type { EventLog } from './log.ts';
import type { MachineEvent } from './record.ts';

/** Listens to a machine's events. */
export type Listener = (event: MachineEvent) => void;

type Untimed<E> = E extends MachineEvent ? Omit<E, 'tick'> : never;

/** A machine's event stream. */
export class Events {
  readonly counters: Counters = newCounters();
  private readonly report: (error: unknown) => void;
  private listeners: Listener[] = [];
  /** The records kept for `space.history`, while the machine records. */
  private kept: EventLog | undefined = undefined;
  private tick = 0;
  /** Where the last pages that moved were counted: the next ones mostly go the same way. */
  private lastTraffic: CountedTraffic | undefined = undefined;
  /** And those before them: what goes to and fro. */
  private otherTraffic: CountedTraffic | undefined = undefined;
  /** @internal Told when listeners are called, and when they have been: they look on, and run no verb meanwhile. */
  gate: { beginCall(callee: string): string; endCall(outer: string): void } | undefined = undefined;

  /** `report` gets what listeners throw: they look on, and may not break off what they see. */
  constructor(report: (error: unknown) => void) {
    this.report = report;
  }

  /** Calls `listener` for every event from now on; the returned function ends that. */
  on(listener: Listener): () => void {
    this.listeners.push(listener);
    return () => {
      this.listeners = this.listeners.filter((each) => each !== listener);
    };
  }

  /** True when somebody listens, or records are kept: build a record only then. */
  get heard(): boolean {
    return this.listeners.length > 0 || this.kept !== undefined;
  }

  /** The records that are kept; undefined: none are. */
  get log(): EventLog | undefined {
    return this.kept;
  }

  /** Keeps records from now on, or no more. */
  keep(log: EventLog | undefined): void {
    this.kept = log;
  }

  emit(event: Untimed<MachineEvent>): void {
    const timed = { ...event, tick: this.tick++ } as MachineEvent;
    this.kept?.add(timed);
    if (this.listeners.length === 0) return;
    const outer = this.gate?.beginCall('an event listener');
    for (const listener of this.listeners) {
      try {
        listener(timed);
      } catch (error) {
        this.report(error);
      }
    }
    if (outer !== undefined) this.gate?.endCall(outer);
  }

  /** Adds a CPU fault. */
  countCpuFault(cause: CpuFaultCause): void {
    addCpuFault(this.counters, cause);
  }

  /** Adds pages that were copied from one node to another. */
  countMigrated(from: string, to: string, pages: number, bytes: number, way: Way, cause: MigrationCause, clean = 0): void {
    this.counters.clean += clean;
    if (pages > 0) addTraffic(this.trafficOf(from, to, way, cause), pages, bytes);
  }

  /** Where such pages are counted, before they are: whoever counts them one by one keeps it. */
  trafficOf(from: string, to: string, way: Way, cause: MigrationCause): CountedTraffic {
    let last = this.lastTraffic;
    if (last && (last.way !== way || last.cause !== cause)) {
      this.lastTraffic = this.otherTraffic;
      this.otherTraffic = last;
      last = this.lastTraffic;
    }
    if (!last || last.from !== from || last.to !== to || last.way !== way || last.cause !== cause) {
      last = trafficIn(this.counters, from, to, way, cause);
      this.lastTraffic = last;
    }
    return last;
  }

  /** Adds a copy that a device got. */
  countReplicated(isKept: boolean): void {
    addReplicated(this.counters, isKept);
  }

  /** Adds one choice of victims, and what became of them. */
  countEvicted(pages: number, fates: EvictionFates, by: Evictor): void {
    addEvicted(this.counters, pages, fates, by);
  }

  countBatch(records: number): void {
    addBatch(this.counters, records);
  }
}
