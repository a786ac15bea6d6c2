/** What the author of a driver expects of it in particular. */
import type { ContractCase } from '../case.ts';

export const OWN: readonly ContractCase[] = [
  {
    name: "the author's own scenario",
    group: 'own scenario',
    rule: 'What the author expects of this device in particular holds: `expectations.exercise` ends without an error.',
    needs: (_profile, { exercise }) => (exercise ? undefined : 'the expectations have no `exercise`'),
    run: (bench) => bench.expectations.exercise!(bench),
  },
];
