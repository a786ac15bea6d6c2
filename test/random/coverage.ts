import type { ModelMachine } from '../../sdk/testing/model/machine.ts';
import type { Operation } from '../../sdk/testing/program.ts';
export class Coverage {
  look(_m: ModelMachine, _o: Operation): unknown { return undefined; }
  add(_m: ModelMachine, _o: Operation, _b: unknown): void {}
}
