/** What all commands are: a step with a reply. */
import type { CommandStep, Progress, Run } from '../../sdk/gmem/index.ts';
import { DONE } from '../../sdk/gmem/index.ts';
import type { Mirror } from './mirror.ts';
import type { Command, DmirrorReply } from './request.ts';

/** A command under way. Turns of a mirror that has been closed meanwhile throw EBADF. */
export abstract class Operation implements CommandStep {
  readonly name: string;
  /** Where it stands; the reply once it is DONE. */
  result: DmirrorReply = { ret: 0, cpages: 0, faults: 0 };
  protected readonly mirror: Mirror;
  protected readonly vpn: number;
  protected readonly pages: number;
  /** The caller's buffer: filled at the end, of a success. */
  protected readonly bytes: Uint8Array;
  protected faults = 0;

  constructor(mirror: Mirror, command: Command) {
    this.name = command.op;
    this.mirror = mirror;
    this.vpn = command.vpn;
    this.pages = command.pages;
    this.bytes = command.bytes;
  }

  next(run: Run): Progress {
    this.mirror.context.requireWorking(this.name);
    return this.turn(run);
  }

  /** One turn of the command. */
  protected abstract turn(run: Run): Progress;

  abort(run: Run): void {
    const { lock, hmm } = this.mirror.context;
    if (run.holds(lock)) lock.release(run);
    if (run.holds(hmm.mmapLock)) hmm.mmapLock.release(run);
  }

  protected fail(ret: number): typeof DONE {
    this.result = { ret, cpages: 0, faults: 0 };
    return DONE;
  }

  protected succeed(cpages: number): typeof DONE {
    this.result = { ret: 0, cpages, faults: this.faults };
    return DONE;
  }
}

/** A command that is refused before it begins, or needs no more than a moment. */
export class Immediate implements CommandStep {
  readonly name: string;
  readonly result: DmirrorReply;

  constructor(name: string, ret: number) {
    this.name = name;
    this.result = { ret, cpages: 0, faults: 0 };
  }

  next(): Progress {
    return DONE;
  }
}
