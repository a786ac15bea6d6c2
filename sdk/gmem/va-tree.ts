/**
 * Free extents of addresses, in one of two orders: by address, or by length. A treap, as `interval-tree.ts`: balanced by a priority that is a hash of the start, so that its shape depends
 * on nothing but its contents. By address every node knows the longest extent below it, which lets a search for room pass by whole branches.
 *
 * ```
 *   by address                                     by length, then address
 *             [40, 50) longest 30                            [40, 50)
 *            /                   \                          /        \
 *   [10, 12) longest 2    [60, 90) longest 30         [10, 12)     [60, 90)
 * ```
 *
 * A change, and a search that asks for nothing but length, take O(log n); a search with an alignment, a boundary or an upper bound also looks at the extents that are long enough and do not fit.
 */

/** A free extent: `[start, end)`, never empty. Two of one tree do not touch. */
export interface Extent {
  readonly start: number;
  readonly end: number;
}

/** What a piece of an extent has to be like. */
export interface Fit {
  readonly bytes: number;
  /** A power of two: the piece starts at a multiple. */
  readonly align: number;
  /** A power of two, at least `bytes`: the piece lies between two neighbouring multiples. 0: wherever. */
  readonly noCross: number;
  /** The piece starts at or above. */
  readonly from: number;
  /** The piece ends at or below. */
  readonly below: number;
}

interface Node extends Extent {
  start: number;
  end: number;
  priority: number;
  longest: number;
  left: Node | undefined;
  right: Node | undefined;
}

/** The lowest start of a piece of `[start, end)` that fits, or -1. */
export function placeIn(start: number, end: number, { bytes, align, noCross, from, below }: Fit): number {
  let place = alignedUp(Math.max(start, from), align);
  if (noCross > 0 && Math.floor(place / noCross) !== Math.floor((place + bytes - 1) / noCross))
    place = alignedUp(place, Math.max(noCross, align));
  return place + bytes <= Math.min(end, below) ? place : -1;
}

/** The multiple of `unit`, a power of two, at or above an address. */
export function alignedUp(addr: number, unit: number): number {
  return Math.ceil(addr / unit) * unit;
}

/** Extents in one order. */
export class ExtentTree {
  private readonly byLength: boolean;
  private root: Node | undefined = undefined;
  private count = 0;

  constructor(order: 'address' | 'length') {
    this.byLength = order === 'length';
  }

  /** How many extents. */
  get size(): number {
    return this.count;
  }

  /** Bytes of the longest extent; 0 without any. By address only. */
  get longest(): number {
    return this.root?.longest ?? 0;
  }

  /** Adds `[start, end)`. Requires: it shares no address with the others. */
  insert(start: number, end: number): void {
    const node: Node = { start, end, priority: priorityOf(start), longest: end - start, left: undefined, right: undefined };
    this.root = this.insertAt(this.root, node);
    this.count++;
  }

  /** Takes `[start, end)` out. Requires: it is in, exactly. */
  remove(start: number, end: number): void {
    this.root = this.removeAt(this.root, start, end);
    this.count--;
  }

  /** The extent that `addr` is in, or the last below it. By address only. */
  atOrBelow(addr: number): Extent | undefined {
    let found: Node | undefined;
    for (let node = this.root; node !== undefined;) {
      if (node.start <= addr) {
        found = node;
        node = node.right;
      } else node = node.left;
    }
    return found;
  }

  /** The first extent at or above an address. By address only. */
  atOrAbove(addr: number): Extent | undefined {
    let found: Node | undefined;
    for (let node = this.root; node !== undefined;) {
      if (node.start >= addr) {
        found = node;
        node = node.left;
      } else node = node.right;
    }
    return found;
  }

  /** The first extent, in the order of this tree, with a piece that fits. */
  first(fit: Fit): Extent | undefined {
    return this.byLength ? shortest(this.root, fit) : lowest(this.root, fit);
  }

  /** Calls `visit` for every extent in order. */
  each(visit: (start: number, end: number) => void): void {
    walk(this.root, visit);
  }

  private isBefore(aStart: number, aEnd: number, b: Node): boolean {
    if (!this.byLength) return aStart < b.start;
    const difference = aEnd - aStart - (b.end - b.start);
    return difference < 0 || (difference === 0 && aStart < b.start);
  }

  private insertAt(root: Node | undefined, node: Node): Node {
    if (root === undefined) return node;
    if (this.isBefore(node.start, node.end, root)) {
      root.left = this.insertAt(root.left, node);
      if (root.left.priority > root.priority) return turnedRight(root, root.left);
    } else {
      root.right = this.insertAt(root.right, node);
      if (root.right.priority > root.priority) return turnedLeft(root, root.right);
    }
    refresh(root);
    return root;
  }

  private removeAt(node: Node | undefined, start: number, end: number): Node | undefined {
    if (node === undefined) return undefined;
    if (node.start === start) return joined(node.left, node.right);
    if (this.isBefore(start, end, node)) node.left = this.removeAt(node.left, start, end);
    else node.right = this.removeAt(node.right, start, end);
    refresh(node);
    return node;
  }
}

// By address: what lies wholly outside of the bounds, and what is too short, is passed by.
function lowest(node: Node | undefined, fit: Fit): Node | undefined {
  if (node === undefined || node.longest < fit.bytes) return undefined;
  if (node.end > fit.from) {
    const found = lowest(node.left, fit);
    if (found) return found;
    if (node.start >= fit.below) return undefined;
    if (placeIn(node.start, node.end, fit) >= 0) return node;
  }
  return lowest(node.right, fit);
}

// By length: the shortest that is long enough comes first.
function shortest(node: Node | undefined, fit: Fit): Node | undefined {
  if (node === undefined) return undefined;
  if (node.end - node.start >= fit.bytes) {
    const found = shortest(node.left, fit);
    if (found) return found;
    if (placeIn(node.start, node.end, fit) >= 0) return node;
  }
  return shortest(node.right, fit);
}

function walk(node: Node | undefined, visit: (start: number, end: number) => void): void {
  if (node === undefined) return;
  walk(node.left, visit);
  visit(node.start, node.end);
  walk(node.right, visit);
}

function turnedRight(root: Node, left: Node): Node {
  root.left = left.right;
  left.right = root;
  refresh(root);
  refresh(left);
  return left;
}

function turnedLeft(root: Node, right: Node): Node {
  root.right = right.left;
  right.left = root;
  refresh(root);
  refresh(right);
  return right;
}

function joined(left: Node | undefined, right: Node | undefined): Node | undefined {
  if (left === undefined) return right;
  if (right === undefined) return left;
  if (left.priority > right.priority) {
    left.right = joined(left.right, right);
    refresh(left);
    return left;
  }
  right.left = joined(left, right.left);
  refresh(right);
  return right;
}

function refresh(node: Node): void {
  let longest = node.end - node.start;
  if (node.left !== undefined && node.left.longest > longest) longest = node.left.longest;
  if (node.right !== undefined && node.right.longest > longest) longest = node.right.longest;
  node.longest = longest;
}

// The finalizer of MurmurHash3 over both halves of an address.
function priorityOf(start: number): number {
  let h = (start | 0) ^ Math.imul(Math.floor(start / 2 ** 32), 0x9e3779b1);
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
