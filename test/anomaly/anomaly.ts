/** What must hold after a verb has met an anomaly. */
import { expect } from 'vitest';
import { isFarfaultError } from 'farfault';
import { PlannedFault } from 'farfault/testing';
import type { Arranged, View, World } from './world.ts';

/** How a call ended: with the code of an error, or not. */
export type End = { readonly failed: true; readonly code: string; readonly error: unknown } | { readonly failed: false };

/** Calls, and lets only documented errors through. */
export function call(arranged: Arranged, allowed: readonly string[] = []): End {
  try {
    arranged.act();
    return { failed: false };
  } catch (error) {
    if (error instanceof PlannedFault && allowed.includes('planned')) return { failed: true, code: 'planned', error };
    if (!isFarfaultError(error)) throw error;
    const codes = ['ENOMEM', ...(arranged.codes ?? []), ...allowed];
    if (!codes.includes(error.code)) throw new Error(`${error.code} is no error of this verb: ${error.message}`, { cause: error });
    return { failed: true, code: error.code, error };
  }
}

/** Every view has, page by page, what it had before or what it is to have; `after`: the latter. `excuses`: errors that may stand for bytes. */
export function expectBytes(views: readonly View[], when: 'after' | 'either', excuses: readonly string[] = []): void {
  for (const view of views) {
    if (view.there && !view.there()) continue;
    view.after.forEach((after, page) => {
      const now = view.read(page);
      if (typeof now === 'string' && excuses.includes(now)) return;
      const allowed = when === 'after' ? [after].flat() : [view.before[page], after].flat();
      if (allowed.includes(undefined) || allowed.includes(now)) return;
      expect.fail(`${view.name} reads ${now} on page ${page}: ${allowed.join(' or ')} is right`);
    });
  }
}

function isDone({ views }: Arranged): boolean {
  return views.every(
    (view) =>
      (view.there && !view.there()) ||
      view.after.every((after, page) => after === undefined || [after].flat().includes(view.read(page) as number)),
  );
}

/** The verb can be called again, and then succeeds; a context that has failed may refuse. Returns whether everything is as after a success. */
export function again(world: World, arranged: Arranged, first: End): boolean {
  if (arranged.once && (!first.failed || (first.code === 'EBUSY' && isDone(arranged)))) return true;
  const failed = world.contexts.some(({ failure }) => failure !== undefined);
  const end = call(arranged, failed ? ['ENODEV'] : ['EBADF', 'EINVAL']);
  if (!end.failed) return true;
  // What a failed driver will not do, it says; what the first call has done by itself in the end is not done twice.
  if (failed && end.code === 'ENODEV') return false;
  throw new Error(`the second call fails too: ${String(end.error)}`, { cause: end.error });
}
