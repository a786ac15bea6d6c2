/** Between which nodes a migration moved pages, where that has to be asked of every page. */
import * as L from '../../assembly/layout.ts';
import type { Way } from '../events/cause.ts';
import type { MigrationWords } from './migration-words.ts';
import type { Platform } from './platform.ts';

/** What went from one node to another. */
export interface Moved {
  readonly from: string;
  readonly to: string;
  readonly way: Way;
  copied: number;
  cleared: number;
  /** Where it is now, the first frame of each word; empty when nobody listens. */
  readonly frames: number[];
}

/** What moved, by way: one item for each pair of nodes, in the order of the pages. */
export function routesOf(platform: Platform, words: MigrationWords): readonly Moved[] {
  const { nodes, host } = platform;
  const isHeard = platform.events.heard;
  const routes: Moved[] = [];
  for (let i = 0; i < words.count; i++) {
    if (!words.moves(i)) continue;
    const isCopied = (words.bits(i) & L.MIGRATE_VALID) !== 0;
    const { name: to, owner } = nodes.of(words.targetFrame(i));
    const source = isCopied ? nodes.of(words.frame(i)) : host;
    const from = source.name;
    let route = routeOf(routes, from, to);
    if (!route) routes.push((route = { from, to, way: wayOf(source.owner, owner), copied: 0, cleared: 0, frames: [] }));
    if (isHeard) route.frames.push(words.targetFrame(i));
    if (isCopied) route.copied += words.span(i);
    else route.cleared += words.span(i);
  }
  return routes;
}

/** That of two nodes. A function of its own: a closure would be made for every page. */
function routeOf(routes: readonly Moved[], from: string, to: string): Moved | undefined {
  for (const route of routes) if (route.from === from && route.to === to) return route;
  return undefined;
}

/** Which way is between two owners: devices by their numbers, 0 is the host. */
function wayOf(from: number, to: number): Way {
  if (to === 0) return 'toHost';
  return from === 0 || from === to ? 'toDevice' : 'peer';
}
