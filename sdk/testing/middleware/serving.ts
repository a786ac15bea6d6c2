/** The step of a fault service that is checked: when it ends, its batch is nobody's any more. */
import { DONE, type Progress, type Run, type Step } from '../../gmem/index.ts';

export class Serving implements Step {
  readonly #step: Step;
  readonly #end: () => void;

  constructor(step: Step, end: () => void) {
    this.#step = step;
    this.#end = end;
  }

  get name(): string {
    return this.#step.name;
  }

  next(run: Run): Progress {
    const progress = this.#step.next(run);
    if (progress === DONE) this.#end();
    return progress;
  }

  abort(run: Run, error: unknown): void {
    try {
      this.#step.abort?.(run, error);
    } finally {
      this.#end();
    }
  }
}
