/** All broken drivers. */
import { ADDRESSES } from './addresses.ts';
import type { Broken } from './case.ts';
import { COUPLED } from './coupled.ts';
import { FAULTS } from './faults.ts';
import { HARVEST } from './harvest.ts';
import { LATE } from './late.ts';
import { MEMORY } from './memory.ts';
import { TRANSLATION } from './translation.ts';

export type { Broken } from './case.ts';
export const BROKEN: readonly Broken[] = [...TRANSLATION, ...MEMORY, ...FAULTS, ...HARVEST, ...LATE, ...ADDRESSES, ...COUPLED];
