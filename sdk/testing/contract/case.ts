/**
 * What the contract is made of: cases, each one rule that every driver keeps, what they are run on, and how they say no.
 */
import type { AttachMode, Driver, GmMmu } from '../../gmem/index.ts';
import type { MachineOptions } from '../../machine.ts';
import type { Bench } from './bench.ts';

/** What the cases of one group are about, in the order of the report. */
export const GROUPS = [
  'attach',
  'mirroring',
  'invalidation',
  'faults',
  'isolation',
  'memory',
  'migration',
  'coupled',
  'links',
  'huge pages',
  'harvest',
  'addresses',
  'process',
  'calls',
  'leaving',
  'saving',
  'own scenario',
] as const;
/** What a case is about. */
export type CaseGroup = (typeof GROUPS)[number];

/** One rule, and what shows whether a driver keeps it. */
export interface ContractCase {
  /** Says what holds for a good driver; unique. */
  readonly name: string;
  readonly group: CaseGroup;
  /** The rule in one sentence: what a driver author reads when the case fails. */
  readonly rule: string;
  /** Why the case does not apply to this driver, or to what its author says of it; undefined when it does. Default: it applies to all. */
  needs?(profile: Profile, expectations: Expectations): string | undefined;
  /** Throws when the driver breaks the rule. What every case ends with (no violation, a machine in order, nothing leaked) is the bench's affair. */
  run(bench: Bench): void | Promise<void>;
}

/** A driver as it shows itself when it is made and attached. */
export interface Profile {
  readonly driver: Driver;
  /** What its `attach` returned. */
  readonly mmu: GmMmu;
  /** How it is attached when nobody says. */
  readonly mode: AttachMode;
  /** It writes a table of its own: `pmap` is not the ready-made one. */
  readonly ownTable: boolean;
  /** Bytes of its memories together; 0 without. */
  readonly memoryBytes: number;
  /** Pages of its first memory; 0 without. */
  readonly memoryPages: number;
  /** Pages that one fault moves or maps. */
  readonly granulePages: number;
}

/** What the author of a driver says about it. */
export interface Expectations {
  /** Options that each case makes the driver with. Small memories make short tests. */
  readonly options?: object;
  /** Sizes of the machine; default: as large as the cases need. */
  readonly machine?: MachineOptions;
  /** Lets the work that the device has begun go on; called while a ticket is open. Default: timers and promises run. */
  readonly settle?: (driver: Driver) => void | Promise<void>;
  /** Cases that do not apply to this device, by name, with the reason: they are reported, not hidden. */
  readonly notApplicable?: Readonly<Record<string, string>>;
  /**
   * What this device in particular must do, its commands for instance: run as the case "the author's own scenario" on a world of its own, with all that every case ends with. It throws when the device does not.
   * The bench has the verbs (`deviceWrite`, `cpuSees`, `migrate`) and what they work on (`machine`, `space`, `context`); what is mapped otherwise than by `bench.mmap` it unmaps itself.
   */
  readonly exercise?: (bench: Bench) => void | Promise<void>;
  /** Seed of what is random. Default 1. */
  readonly seed?: number;
  /** Only the cases with these names. */
  readonly cases?: string | readonly string[];
}

/** A driver that does not keep a rule. The message says what was seen. */
export class ContractFailure extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'ContractFailure';
  }
}

/** The factory of any driver. */
export type AnyFactory = (options?: never) => Driver;
