import { rows as assurance } from './assurance.ts';
import { rows as contexts } from './contexts.ts';
import { rows as evict } from './evict.ts';
import { rows as hints } from './hints.ts';
import { rows as links } from './links.ts';
import { rows as planner } from './planner.ts';
import { rows as replicas } from './replicas.ts';
import type { Row } from './row.ts';
import { rows as va } from './va.ts';

/** All rows, by the file that they are in. */
export const areas: Readonly<Record<string, readonly Row[]>> = { assurance, contexts, evict, hints, links, planner, replicas, va };

export const rows: readonly Row[] = Object.values(areas).flat();
