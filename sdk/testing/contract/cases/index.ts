/** All cases, in the order of the report. */
import type { ContractCase } from '../case.ts';
import { GROUPS } from '../case.ts';
import { ADDRESSES } from './addresses.ts';
import { CALLING } from './calls.ts';
import { COUPLED } from './coupled.ts';
import { HARVEST } from './harvest.ts';
import { HUGE } from './huge.ts';
import { LEAVING } from './leave.ts';
import { LINKS } from './links.ts';
import { MEMORY } from './memory.ts';
import { FAULTS } from './faults.ts';
import { INVALIDATION } from './invalidation.ts';
import { ISOLATION } from './isolation.ts';
import { MIGRATION } from './migration.ts';
import { MIRRORING } from './mirror.ts';
import { PROCESS } from './process.ts';
import { OWN } from './own.ts';
import { SAVING } from './saving.ts';
import { TABLES } from './tables.ts';

const CASES: readonly ContractCase[] = [
  ...MIRRORING,
  ...INVALIDATION,
  ...FAULTS,
  ...ISOLATION,
  ...PROCESS,
  ...MEMORY,
  ...MIGRATION,
  ...COUPLED,
  ...LINKS,
  ...HUGE,
  ...HARVEST,
  ...ADDRESSES,
  ...CALLING,
  ...LEAVING,
  ...SAVING,
  ...TABLES,
  ...OWN,
];

/** The contract. */
export const CONTRACT: readonly ContractCase[] = [...CASES].sort((a, b) => GROUPS.indexOf(a.group) - GROUPS.indexOf(b.group));
