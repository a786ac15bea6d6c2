/** One row of the feature list of GMEM, docs/gmem.md: what it is called here, the tests that hold it, and the small break that they notice. */
export interface Row {
  /** As in the feature list: 'B5'. */
  readonly id: string;
  /** What the feature is, in the words of the list. */
  readonly title: string;
  /** What it is here: names of functions and files, in Markdown. */
  readonly here: string;
  /** 'file > title', or 'file > title of the group > title'. The first one is the one that the canary must make fail. */
  readonly tests: readonly string[];
  /** Required but for a row that a model cannot honour. */
  readonly canary?: Canary;
  /** Why a model cannot honour it, in Markdown: a row of docs/deviations.md. */
  readonly deviation?: string;
}

/** A break of one place in the sources. `npm run canaries` makes it on load, and touches no file. */
export interface Canary {
  /** A file of sdk, drivers or assembly; for a row about a script or a document, of scripts or docs. */
  readonly file: string;
  /** Text that is there exactly once. */
  readonly find: string;
  readonly replace: string;
}
