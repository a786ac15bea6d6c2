/** The driver contract. */
export { Bench } from './bench.ts';
export { type AnyFactory, type CaseGroup, type ContractCase, ContractFailure, type Expectations, GROUPS, type Profile } from './case.ts';
export { CONTRACT } from './cases/index.ts';
export {
  ATTACH,
  type CaseReport,
  driverContract,
  gradeDriver,
  type GradeReport,
  printFailure,
  printReport,
  type Runner,
  type Verdict,
} from './grade.ts';
