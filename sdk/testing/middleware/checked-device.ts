/** A driver whose calls are checked: what its contexts share, which is its allocator. Pages that it has handed out and got back are counted here. */
import * as L from '../../../assembly/layout.ts';
import { type Context, type Copies, type Driver, type Ticket } from '../../gmem/index.ts';
import { HUGE_PAGES } from '../../mm/huge-window.ts';
import { CheckedContext } from './checked-context.ts';
import { type Checks, requireNothing } from './checks.ts';
import type { DriverOperation } from './faulty.ts';

export class CheckedDevice {
  readonly checks: Checks;
  readonly contexts: Set<CheckedContext> = new Set<CheckedContext>();
  readonly #byContext = new WeakMap<Context, CheckedContext>();
  readonly #pages: number;
  /** Pages that allocPage has given and freePage has not given back. */
  readonly #used = new Set<number>();
  /** Pages that it has handed out beforehand. */
  readonly #imported = new Set<number>();
  /** The allocator was filled before this saw it: a saved machine was restored. */
  #restored = false;
  #depth = 0;

  constructor(driver: Driver, checks: Checks) {
    this.checks = checks;
    this.#pages = (driver.memory?.[0]?.bytes ?? 0) / L.PAGE_BYTES;
  }

  of(context: Context): CheckedContext {
    return this.#byContext.get(context)!;
  }

  attach<T>(context: Context, attach: () => T): T {
    const at = new CheckedContext(this, context);
    this.#byContext.set(context, at);
    // A context that is restored is one of its space already.
    if (context.space.mirrors.includes(context)) {
      at.restored = true;
      this.#restored = true;
    }
    const mmu = at.run('attach', attach);
    this.contexts.add(at);
    if (typeof mmu !== 'object' || mmu === null) at.report('answers', 'attach', `${String(mmu)} is returned and not an object of families`);
    else at.requireNow('attach', mmu);
    return mmu;
  }

  left(at: CheckedContext): void {
    this.contexts.delete(at);
    if (this.contexts.size > 0 || this.#used.size === 0 || at.context.failure || this.#restored) return;
    this.checks.add(
      'pages once',
      'detach',
      `${this.#used.size} pages are not handed back when the last context leaves: ${printPages(this.#used)}`,
    );
  }

  allocPage(call: () => number | undefined): number | undefined {
    const page = this.#run('phys.allocPage', call);
    if (page === undefined) return undefined;
    if (!this.#isPage(page)) this.checks.add('answers', 'phys.allocPage', `${String(page)} is not a page below ${this.#pages}`);
    else if (this.#used.has(page)) this.checks.add('allocator', 'phys.allocPage', `page ${page} is in use already`);
    else this.#used.add(page);
    return page;
  }

  freePage(page: number, call: () => void): void {
    if (!this.#isPage(page)) this.checks.add('arguments', 'phys.freePage', `${String(page)} is not a page below ${this.#pages}`);
    if (!this.#used.delete(page) && !this.#restored) {
      this.checks.add('pages once', 'phys.freePage', `page ${page} is given back, which was not handed out, or is back already`);
    }
    if (this.#isPage(page)) for (const at of this.contexts) at.freed(page);
    const answer: unknown = this.#run('phys.freePage', call);
    requireNothing(this.checks, 'phys.freePage', answer);
  }

  prepare(copies: Copies, call: (lent: Copies) => Ticket | void): Ticket | void {
    const [any] = this.contexts;
    return any ? any.copy('phys.preparePage', copies, call) : call(copies);
  }

  importPages(count: number, call: () => readonly number[]): readonly number[] {
    const operation = 'peer.importPages';
    if (!Number.isInteger(count) || count < 1) this.checks.add('arguments', operation, `${String(count)} pages are to be imported`);
    const pages = call();
    if (!Array.isArray(pages)) {
      this.checks.add('answers', operation, `${String(pages)} is not a list of pages`);
      return pages;
    }
    if (pages.length > count) this.checks.add('answers', operation, `${pages.length} pages are given, and ${count} were asked for`);
    for (const page of pages as readonly unknown[]) {
      if (!this.#isPage(page)) this.checks.add('answers', operation, `${String(page)} is not a page below ${this.#pages}`);
      else if (this.#imported.has(page)) this.checks.add('allocator', operation, `page ${page} has been handed out already`);
      else this.#imported.add(page);
    }
    return pages;
  }

  freePeerPage(page: number, pages: number, call: () => void): void {
    const operation = 'peer.freePage';
    const whole = pages === 1 || pages === HUGE_PAGES;
    if (!whole || !this.#isPage(page) || !this.#isPage(page + pages - 1))
      this.checks.add('arguments', operation, `${String(pages)} pages from ${String(page)} are not pages below ${this.#pages}`);
    else for (const at of this.contexts) for (let i = 0; i < pages; i++) at.freed(page + i, operation);
    requireNothing(this.checks, operation, call() as unknown);
  }

  victims(spared: (page: number) => boolean, call: () => readonly number[]): readonly number[] {
    const pages = this.#run('phys.victims', call);
    if (!Array.isArray(pages)) {
      this.checks.add('answers', 'phys.victims', `${String(pages)} is not a list of pages`);
      return pages;
    }
    const seen = new Set<unknown>();
    for (const page of pages as readonly number[]) {
      if (!this.#isPage(page)) this.checks.add('answers', 'phys.victims', `${String(page)} is not a page below ${this.#pages}`);
      else if (!this.#used.has(page) && !this.#restored) this.checks.add('allocator', 'phys.victims', `page ${page} is not in use`);
      else if (spared(page)) this.checks.add('allocator', 'phys.victims', `page ${page} is spared`);
      if (seen.has(page)) this.checks.add('allocator', 'phys.victims', `page ${page} is named twice`);
      seen.add(page);
    }
    return pages;
  }

  #isPage(page: unknown): page is number {
    return typeof page === 'number' && Number.isInteger(page) && page >= 0 && page < this.#pages;
  }

  #run<T>(operation: DriverOperation, call: () => T): T {
    if (this.#depth > 0) this.checks.add('one at a time', operation, 'is entered while another operation of the allocator runs');
    this.#depth++;
    try {
      const [any] = this.contexts;
      return any ? any.alone(operation, call) : call();
    } finally {
      this.#depth--;
    }
  }
}

function printPages(pages: ReadonlySet<number>): string {
  const shown = [...pages].slice(0, 8).join(', ');
  return pages.size > 8 ? `${shown}, ...` : shown;
}
