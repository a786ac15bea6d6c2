/** All cases, in the order of the report. */
import type { ContractCase } from '../case.ts';
import { GROUPS } from '../case.ts';
import { MIRRORING } from './mirror.ts';

const CASES: readonly ContractCase[] = [...MIRRORING];

/** The contract. */
export const CONTRACT: readonly ContractCase[] = [...CASES].sort((a, b) => GROUPS.indexOf(a.group) - GROUPS.indexOf(b.group));
