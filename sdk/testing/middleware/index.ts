/** Drivers around drivers: each has the type of the driver that it wraps, and they go around each other in any order. */
export {
  DRIVER_FAULTS,
  DRIVER_OPERATIONS,
  type DriverFault,
  type DriverOperation,
  faultsOf,
  faulty,
  FaultPlan,
  type PlannedCall,
  PlannedFault,
  type SeededFaults,
} from './faulty.ts';
export {
  DriverTrace,
  TRACE_RECORDS_MAX,
  type TracedAnswer,
  type TracedArgument,
  type TracedCall,
  type TracedCopy,
  type TracedItem,
  traced,
  type TracedMapping,
} from './traced.ts';
export { checked } from './checked.ts';
export { BrokenRule, CALLING_RULES, type CallingRule, type CheckOptions, Checks, type Violation } from './checks.ts';
export { decoupled } from './decoupled.ts';
export { type Layer, wrapDriver, wrapFactory } from './wrap.ts';
