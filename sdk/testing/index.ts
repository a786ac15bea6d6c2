/** What tests of drivers and of the machine itself are made of. */
export {
  type Operation,
  parseProgram,
  printOperation,
  printProgram,
  type Program,
  PROGRAM_DRAM_PAGES_MAX,
  PROGRAM_PAGES,
  PROGRAM_SPACES,
  PROGRAM_VRAM_PAGES_MAX,
  type ProgramAccess,
  type ProgramDevice,
  type ProgramProt,
  randomProgram,
  shrinkProgram,
} from './program.ts';
export { DRIVER_OPERATIONS, type DriverFault, type DriverOperation, faultsOf, faulty, FaultPlan, PlannedFault } from './middleware.ts';
export { lackeyAccesses, type OffloadRange, type TraceAccess } from './model/lackey.ts';
export { ModelMachine } from './model/machine.ts';
export { modelReplay, type ModelReplayOptions, type ModelReport } from './model/replay.ts';
export { exploreAll, type Exploration, exploreSeeded, type Finding, printFinding, type Race, replaySchedule } from './simulator.ts';
export {
  type AnyFactory,
  Bench,
  type CaseGroup,
  type CaseReport,
  CONTRACT,
  type ContractCase,
  ContractFailure,
  driverContract,
  type Expectations,
  gradeDriver,
  type GradeReport,
  GROUPS,
  printFailure,
  printReport,
  type Profile,
  type Runner,
  type Verdict,
} from './contract/index.ts';
