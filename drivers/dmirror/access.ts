/**
 * READ and WRITE: page by page through the mirror's table; where an entry is missing, the rest of the range is faulted in, and that is one round.
 *
 * Models: `dmirror_read`, `dmirror_write`.
 */
import { AGAIN, type Progress, type Run } from '../../sdk/gmem/index.ts';
import { Operation } from './command.ts';
import { EBUSY } from './errno.ts';
import { FaultRange } from './fault.ts';
import type { Mirror } from './mirror.ts';
import type { Command } from './request.ts';

/** Rounds of one command: each follows an entry that somebody took away again. */
const ROUNDS_MAX = 1000;

export class ReadWrite extends Operation {
  private readonly write: boolean;
  private readonly fault: FaultRange;
  /** Reading: a bounce buffer, so that a failure leaves the caller's as it was. */
  private readonly bounce: Uint8Array;
  private done = 0;
  private faulted = false;

  constructor(mirror: Mirror, command: Command) {
    super(mirror, command);
    this.write = command.op === 'WRITE';
    this.fault = new FaultRange(mirror, this.write);
    this.bounce = this.write ? this.bytes : new Uint8Array(this.bytes.length);
  }

  protected turn(run: Run): Progress {
    if (this.faulted) {
      this.faulted = false;
      if (this.fault.ret !== 0) return this.fail(this.fault.ret);
      this.faults++;
      return AGAIN;
    }
    const { lock } = this.mirror.context;
    if (!lock.tryAcquire(run)) return run.waitFor(lock);
    this.done = this.write ? this.mirror.write(this.vpn, this.bounce, this.done) : this.mirror.read(this.vpn, this.bounce, this.done);
    lock.release(run);
    if (this.done === this.pages) {
      if (!this.write) this.bytes.set(this.bounce);
      return this.succeed(this.pages);
    }
    if (this.faults >= ROUNDS_MAX) return this.fail(EBUSY);
    this.faulted = true;
    return run.call(this.fault.of(this.vpn + this.done, this.pages - this.done));
  }
}
