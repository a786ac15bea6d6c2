/** The translations of one context: those that the framework enters, compared with the CPU's table, and those that the driver answers, compared with what it was given. */
import * as L from '../../../assembly/layout.ts';
import { type Access, DeviceTable, type Mappings, type Translation } from '../../gmem/index.ts';
import { PROT_READ, PROT_WRITE } from '../../mm/vma.ts';
import type { CheckedContext } from './checked-context.ts';
import type { ShadowTable } from './shadow.ts';

export class CheckedTranslations {
  readonly #at: CheckedContext;
  readonly #shadow: ShadowTable;

  constructor(at: CheckedContext, shadow: ShadowTable) {
    this.#at = at;
    this.#shadow = shadow;
  }

  /** What is entered is what the CPU's table says, under a lock that keeps it so. */
  requireMapped(mappings: Mappings): void {
    const { context } = this.#at;
    const { space, lock } = context;
    const { core, pageLocks } = context['platform'];
    if (context.isInvalidating) this.#at.report('quiet', 'pmap.enter', `an invalidation of space ${space.id} is running`);
    const low = core.entryLow;
    const held = lock.holder !== undefined || space.mmapLock.readers > 0 || space.mmapLock.writer !== undefined;
    // What the CPU has got is entered in the very turn in which it got it.
    const following = context.mode === 'replicate';
    if (mappings.count === 0) this.#at.report('arguments', 'pmap.enter', 'there are no mappings');
    mappings.eachFrame((start, pages, frame, write) => {
      if (typeof write !== 'boolean' || !(pages >= 1))
        this.#at.report('arguments', 'pmap.enter', `${pages} pages from ${start} have the right ${String(write)}`);
      for (let i = 0; i < pages; i++) {
        const vpn = start + i;
        const vma = space.vmas.find(vpn);
        const rights = vma ? vma.prot : 0;
        if (!(rights & PROT_READ)) this.#at.report('as mapped', 'pmap.enter', `page ${vpn} is entered, and may not be read`);
        else if (write && !(rights & PROT_WRITE))
          this.#at.report('as mapped', 'pmap.enter', `page ${vpn} is entered writable, and may not be written`);
        const kind = core.entry(space.table, vpn) & L.ENTRY_KIND;
        const there = kind === L.KIND_PRESENT || kind === L.KIND_DEVICE_PRIVATE || kind === L.KIND_EXCLUSIVE;
        // Until a migration is over, the entry is that of the migration, and what the page moves from is locked.
        const moving = kind === L.KIND_MIGRATION && pageLocks.locked(core.entryLow);
        if (!moving && (!there || core.entryLow !== frame + i)) {
          this.#at.report(
            'as mapped',
            'pmap.enter',
            `page ${vpn} is entered with frame ${frame + i}, and has ${there ? `frame ${core.entryLow}` : 'none'}`,
          );
        }
        if (!held && !following && !moving && !pageLocks.locked(frame + i))
          this.#at.report('locked', 'pmap.enter', `page ${vpn} is entered, and no lock is held`);
      }
    });
    core.entryLow = low;
  }

  /** What is answered is of a page that there is, and what was entered last. */
  requireAnswer(vpn: number, access: Access, answer: Translation): void {
    const operation = 'walk.translate';
    if (typeof answer !== 'object' || answer === null || typeof answer.write !== 'boolean') {
      this.#at.report('answers', operation, `the answer for page ${vpn} is not a translation`);
      return;
    }
    if (answer.vpn !== vpn) this.#at.report('translations', operation, `page ${vpn} is asked for, and ${String(answer.vpn)} is answered`);
    if (access === 'write' && !answer.write)
      this.#at.report('translations', operation, `page ${vpn} may not be written, and is answered to a write`);
    let frame: number;
    try {
      frame = this.#at.context.frameOf(answer);
    } catch {
      this.#at.report(
        'translations',
        operation,
        `page ${vpn} is at page ${String(answer.page)} of memory ${String(answer.memory)}, which there is not`,
      );
      return;
    }
    // Until a flush is over the device may use what it knew; until a batch is, what it had or what it gets.
    if (this.#at.batches.arePending) return;
    if (this.#shadow.isFlushing || this.#at.context.flushing || this.#at.context.failure) return;
    if (this.#at.entersItself || this.#at.restored || this.#at.context['dialect']) this.#requireTruth(vpn, frame);
    else if (this.#at.context.pmap instanceof DeviceTable) this.#requireInTable(this.#at.context.pmap, vpn, frame, answer.write);
    else this.#requireEntered(vpn, frame, answer.write);
  }

  /** The same where the table is the ready-made one, whose entries nobody sees come and go: it says now what it has. */
  #requireInTable(table: DeviceTable, vpn: number, frame: number, write: boolean): void {
    const operation = 'walk.translate';
    const entered = table.walk(vpn, 'read');
    if (!entered) {
      this.#at.report('translations', operation, `translates page ${vpn}, which its table does not have`);
      return;
    }
    const now = this.#at.context.frameOf(entered);
    if (now !== frame) this.#at.report('translations', operation, `translates page ${vpn} to frame ${frame}, and its table has ${now}`);
    else if (write && !entered.write)
      this.#at.report('translations', operation, `page ${vpn} may be written, and its table has it without that right`);
  }

  #requireEntered(vpn: number, frame: number, write: boolean): void {
    const operation = 'walk.translate';
    const entered = this.#shadow.find(vpn);
    if (!entered) {
      const rule = this.#shadow.wasReleased(vpn) ? 'translates page %d after its release' : 'translates page %d, which was never entered';
      this.#at.report('translations', operation, rule.replace('%d', String(vpn)));
    } else if (entered.frame !== frame) {
      this.#at.report('translations', operation, `translates page ${vpn} to frame ${frame}, and ${entered.frame} was entered last`);
    } else if (write && !entered.write)
      this.#at.report('translations', operation, `page ${vpn} may be written, and was entered without that right`);
  }

  /** What is translated is where the CPU's table says. */
  #requireTruth(vpn: number, frame: number): void {
    const { space } = this.#at.context;
    const { core } = this.#at.context['platform'];
    if (this.#at.context.isInvalidating) return;
    const low = core.entryLow;
    const kind = core.entry(space.table, vpn) & L.ENTRY_KIND;
    const there = kind === L.KIND_PRESENT || kind === L.KIND_DEVICE_PRIVATE || kind === L.KIND_EXCLUSIVE;
    const now = core.entryLow;
    core.entryLow = low;
    if (there && now !== frame)
      this.#at.report('translations', 'walk.translate', `translates page ${vpn} to frame ${frame}, and the page has ${now}`);
    if (kind === L.KIND_NONE) this.#at.report('translations', 'walk.translate', `translates page ${vpn}, which is not there`);
  }
}
