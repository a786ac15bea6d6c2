/**
 * EXCLUSIVE and CHECK_EXCLUSIVE: pages that are the device's alone, for its atomics, until the CPU touches them.
 *
 * Page by page: the page is made writable and this space's own, its entry exclusive, and the translation is installed while the page lock is held. No owner is named, so the mirror's
 * own notifier fires, too, and takes the old entry away first.
 *
 * Models: `dmirror_exclusive`, `dmirror_atomic_map`, `dmirror_check_atomic`.
 */
import { method, DONE, type MakeExclusive, type Progress, type Run } from '../../sdk/gmem/index.ts';
import { Operation } from './command.ts';
import { EBUSY, EFAULT, EIO, ENOENT, ENOMEM, EOPNOTSUPP, EPERM } from './errno.ts';
import { TAG_ATOMIC } from './table.ts';

const LOCK = 0;
const PAGE = 1;
const READ_BACK = 2;

const NOBODY = { owner: 0 };

export class MakeRangeExclusive extends Operation {
  private readonly bounce = new Uint8Array(this.bytes.length);
  private readonly installed = method<MakeRangeExclusive, 'install'>(this, 'install');
  private exclusive: MakeExclusive | undefined;
  private done = 0;
  private phase = LOCK;

  protected turn(run: Run): Progress {
    const { lock, hmm } = this.mirror.context;
    switch (this.phase) {
      case LOCK:
        if (!hmm.mmapLock.tryAcquireShared(run)) return run.waitFor(hmm.mmapLock);
        this.phase = PAGE;
      // falls through
      case PAGE: {
        if (this.exclusive) {
          const ret = this.ret(this.exclusive);
          if (ret !== 0) {
            hmm.mmapLock.release(run);
            return this.fail(ret);
          }
          this.done++;
        }
        if (this.done < this.pages) {
          const vpn = this.vpn + this.done;
          this.exclusive = hmm.makeExclusive(vpn, NOBODY, this.installed, this.exclusive);
          return run.call(this.exclusive);
        }
        hmm.mmapLock.release(run);
        this.phase = READ_BACK;
      }
      // falls through
      default: {
        if (!lock.tryAcquire(run)) return run.waitFor(lock);
        const done = this.mirror.read(this.vpn, this.bounce);
        lock.release(run);
        if (done < this.pages) return this.fail(ENOENT);
        this.bytes.set(this.bounce);
        return this.succeed(this.pages);
      }
    }
  }

  /** @internal The page is the device's alone. */
  install(frame: number): void {
    this.mirror.table.set(this.vpn + this.done, frame, TAG_ATOMIC);
  }

  private ret({ outcome }: MakeExclusive): number {
    switch (outcome) {
      case 'done':
        return 0;
      case 'no mapping':
      case 'permission':
        return EFAULT;
      case 'not supported':
        return EOPNOTSUPP;
      case 'no memory':
        return ENOMEM;
      case 'bus error':
        return EIO;
      case 'busy':
        return EBUSY;
    }
  }
}

export class CheckExclusive extends Operation {
  protected turn(): Progress {
    if (this.mirror.table.hasTag(this.vpn, this.pages, TAG_ATOMIC)) return this.fail(EPERM);
    this.result = { ret: 0, cpages: 0, faults: 0 };
    return DONE;
  }
}
