/**
 * MIGRATE_TO_DEV and MIGRATE_TO_SYS: batch by batch, each within one VMA, which must be readable. The driver's part of a migration is to hand out targets when the pages have been collected, and to take the
 * new translations into its table.
 *
 * ```
 *   to the device   a huge page for a huge word, or, where there is none, 512 small ones; a page that gets none stays
 *                   afterwards the whole range is read back from the table alone: ENOENT when any entry is missing, whatever did move
 *   home            the same with host memory; a small page that gets none ends the command with ENOMEM after that batch
 * ```
 *
 * Models: `dmirror_migrate_to_device`, `dmirror_migrate_to_system`.
 */
import {
  type HmmPlan,
  method,
  type Install,
  type Migration,
  MIGRATE_COMPOUND,
  MIGRATE_MOVE,
  MIGRATE_VALID,
  MIGRATE_WRITE,
  type Progress,
  type Run,
  SELECT_COHERENT,
  SELECT_COMPOUND,
  SELECT_PRIVATE,
  SELECT_SYSTEM,
} from '../../sdk/gmem/index.ts';
import { HUGE_ORDER, NO_FRAME } from './chunks.ts';
import { Operation } from './command.ts';
import { EINVAL, ENOENT, ENOMEM, errno } from './errno.ts';
import { FLAG_FAIL_ALLOC } from './request.ts';
import { TAG_READ, TAG_WRITE } from './table.ts';

/** Pages of one migration: a page-table page's. From the current address on, aligned or not. */
const MIGRATE_PAGES = 512;
const HUGE_PAGES = 512;
/** Bits of a VMA's rights. */
const VMA_READ = 1;

const LOCK = 0;
const NEXT = 1;
const MOVED = 2;
const READ_BACK = 3;

/** What both have in common: the way through the range, batch by batch, under the mmap lock. */
abstract class MoveRange extends Operation {
  protected migration: Migration | undefined;
  private phase = LOCK;
  private at = this.vpn;

  protected turn(run: Run): Progress {
    const { mmapLock } = this.mirror.hmm;
    switch (this.phase) {
      case LOCK:
        if (!mmapLock.tryAcquireShared(run)) return run.waitFor(mmapLock);
        this.phase = NEXT;
      // falls through
      case NEXT:
        return this.batch(run);
      case MOVED: {
        const ret = this.moved();
        if (ret !== 0) return this.refuse(run, ret);
        this.phase = NEXT;
        return this.batch(run);
      }
      default:
        return this.end(run);
    }
  }

  /** Of the migration of each batch. */
  protected abstract readonly plan: HmmPlan;
  /** A batch has moved as far as it went: 0, or why the command ends here. */
  protected abstract moved(): number;
  /** The last turn; the mmap lock has been given back. */
  protected abstract end(run: Run): Progress;

  private batch(run: Run): Progress {
    const last = this.vpn + this.pages;
    if (this.at >= last) {
      this.mirror.hmm.mmapLock.release(run);
      this.phase = READ_BACK;
      return this.end(run);
    }
    const vma = this.mirror.context.space.vmas.find(this.at);
    if (!vma || !(vma.prot & VMA_READ)) return this.refuse(run, EINVAL);
    const vpn = this.at;
    this.at = Math.min(last, vpn + MIGRATE_PAGES, vma.end);
    try {
      this.migration = this.mirror.hmm.migrate(vpn, this.at - vpn, this.plan, this.migration);
    } catch (error) {
      return this.refuse(run, errno(error));
    }
    this.phase = MOVED;
    return run.call(this.migration);
  }

  private refuse(run: Run, ret: number): Progress {
    this.mirror.hmm.mmapLock.release(run);
    return this.fail(ret);
  }
}

/** Host pages, holes and pages of zeros go to the device. */
export class MigrateToDevice extends MoveRange {
  protected readonly plan: HmmPlan = {
    select: SELECT_SYSTEM | SELECT_COMPOUND,
    allocate: method<MigrateToDevice, 'allocate'>(this, 'allocate'),
    install: method<MigrateToDevice, 'install'>(this, 'install'),
  };
  private bounce = new Uint8Array(this.bytes.length);

  protected moved(): number {
    return 0;
  }

  protected end(run: Run): Progress {
    const { lock } = this.mirror.context;
    if (!lock.tryAcquire(run)) return run.waitFor(lock);
    const done = this.mirror.read(this.vpn, this.bounce);
    lock.release(run);
    if (done < this.pages) return this.fail(ENOENT);
    this.bytes.set(this.bounce);
    return this.succeed(this.pages);
  }

  /** @internal */
  allocate(migration: Migration): void {
    const { source, pages } = migration;
    for (let i = 0; i < pages; i++) {
      const bits = source[i * 2 + 1]!;
      if (!(bits & MIGRATE_MOVE)) continue;
      const huge = (bits & MIGRATE_COMPOUND) !== 0;
      const frame = this.take(huge ? HUGE_ORDER : 0);
      if (frame !== NO_FRAME) migration.aim(i, frame);
      else if (huge) {
        for (let page = 0; page < HUGE_PAGES; page++) {
          const small = this.take(0);
          if (small === NO_FRAME) break;
          migration.aim(i + page, small);
        }
      }
    }
  }

  private take(order: 0 | typeof HUGE_ORDER): number {
    if (this.mirror.failsNow(FLAG_FAIL_ALLOC)) return NO_FRAME;
    return this.mirror.chunks.take(this.mirror.context, order);
  }

  /** The device may write what the source entry allowed; a page that came of a hole it may read, whatever the VMA says: a write comes back through a fault. */
  install(...[, vpn, frames]: Parameters<Install>): void {
    const { source } = this.migration!;
    const { table } = this.mirror;
    let bits = 0;
    let left = 0;
    for (let i = 0; i < frames.length; i++) {
      if (left === 0) {
        bits = source[i * 2 + 1]!;
        left = bits & MIGRATE_COMPOUND ? HUGE_PAGES : 1;
      }
      left--;
      if (frames[i]! >= 0) table.set(vpn + i, frames[i]!, bits & MIGRATE_WRITE ? TAG_WRITE : TAG_READ);
    }
  }
}

/** What is on this device comes home. */
export class MigrateToSystem extends MoveRange {
  private cpages = 0;
  private starved = false;
  protected readonly plan: HmmPlan = {
    select: SELECT_COMPOUND | (this.mirror.chunks.kind === 'coherent' ? SELECT_COHERENT : SELECT_PRIVATE),
    allocate: method<MigrateToSystem, 'allocate'>(this, 'allocate'),
  };

  protected moved(): number {
    const { source, pages } = this.migration!;
    for (let i = 0; i < pages; i++)
      if ((source[i * 2 + 1]! & (MIGRATE_VALID | MIGRATE_MOVE)) === (MIGRATE_VALID | MIGRATE_MOVE)) this.cpages++;
    return this.starved ? ENOMEM : 0;
  }

  protected end(): Progress {
    return this.succeed(this.cpages);
  }

  /** @internal */
  allocate(migration: Migration): void {
    const { source, pages } = migration;
    for (let i = 0; i < pages && !this.starved; i++) {
      const bits = source[i * 2 + 1]!;
      if (!(bits & MIGRATE_MOVE) || !(bits & MIGRATE_VALID)) continue;
      const huge = (bits & MIGRATE_COMPOUND) !== 0;
      const frame = this.take(huge ? HUGE_ORDER : 0);
      if (frame !== NO_FRAME) migration.aim(i, frame);
      else if (!huge) this.starved = true;
      else {
        for (let page = 0; page < HUGE_PAGES; page++) {
          const small = this.take(0);
          if (small === NO_FRAME) {
            this.starved = true;
            break;
          }
          migration.aim(i + page, small);
        }
      }
    }
  }

  private take(order: 0 | typeof HUGE_ORDER): number {
    if (this.mirror.failsNow(FLAG_FAIL_ALLOC)) return NO_FRAME;
    return this.mirror.hmm.hostFrame(order);
  }
}
