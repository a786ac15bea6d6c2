/** What a broken driver is: a good one, one change, and the case that must see it. */
import type { Specimen } from '../good.ts';

export interface Broken {
  /** What it does wrong, as a name. */
  readonly name: string;
  /** The same in one sentence. */
  readonly how: string;
  /** The name of a case that catches it. */
  readonly by: string;
  /** What the case must say: for what only the watch over the calling rules can see. */
  readonly says?: string;
  readonly driver: Specimen;
}
