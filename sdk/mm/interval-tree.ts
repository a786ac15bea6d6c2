/**
 * Intervals that may overlap, and the question which of them touch `[start, end)`. A treap: a binary tree by (start, id), kept balanced by
 * a priority that is a hash of the id, so that the shape depends on nothing but the contents. Every node knows the greatest end below it,
 * which lets a query pass by whole branches: O(log n + hits), without allocation.
 *
 *                [20, 30) max 90
 *               /               \
 *     [10, 90) max 90      [40, 50) max 60
 *                                  \
 *                              [45, 60) max 60
 */

/** Half-open; `id` tells apart those with one start, and orders them. Must not change while in a tree. */
export interface Interval {
  readonly id: number;
  readonly start: number;
  readonly end: number;
}

interface Node<T> {
  readonly item: T;
  readonly priority: number;
  greatestEnd: number;
  left: Node<T> | undefined;
  right: Node<T> | undefined;
}

export class IntervalTree<T extends Interval> {
  private root: Node<T> | undefined = undefined;
  private count = 0;

  /** How many intervals. */
  get size(): number {
    return this.count;
  }

  /** Adds `item`. Requires: not in the tree. */
  insert(item: T): void {
    const node: Node<T> = { item, priority: priorityOf(item.id), greatestEnd: item.end, left: undefined, right: undefined };
    this.root = insertAt(this.root, node);
    this.count++;
  }

  /** Takes `item` out. False when it was not in. */
  remove(item: T): boolean {
    const before = this.count;
    this.root = this.removeAt(this.root, item);
    return this.count < before;
  }

  /** Appends to `out` the intervals that share a number with `[start, end)`, in the order of start, then id. Returns how many. */
  overlapping(start: number, end: number, out: T[]): number {
    const before = out.length;
    collect(this.root, start, end, out);
    return out.length - before;
  }

  private removeAt(node: Node<T> | undefined, item: T): Node<T> | undefined {
    if (node === undefined) return undefined;
    if (node.item === item) {
      this.count--;
      return joined(node.left, node.right);
    }
    if (isBefore(item, node.item)) node.left = this.removeAt(node.left, item);
    else node.right = this.removeAt(node.right, item);
    refresh(node);
    return node;
  }
}

function collect<T extends Interval>(node: Node<T> | undefined, start: number, end: number, out: T[]): void {
  if (node === undefined || node.greatestEnd <= start) return;
  collect(node.left, start, end, out);
  if (node.item.start >= end) return;
  if (node.item.end > start) out.push(node.item);
  collect(node.right, start, end, out);
}

function insertAt<T extends Interval>(root: Node<T> | undefined, node: Node<T>): Node<T> {
  if (root === undefined) return node;
  if (isBefore(node.item, root.item)) {
    root.left = insertAt(root.left, node);
    if (root.left.priority > root.priority) return turnedRight(root, root.left);
  } else {
    root.right = insertAt(root.right, node);
    if (root.right.priority > root.priority) return turnedLeft(root, root.right);
  }
  refresh(root);
  return root;
}

//      root          left
//     /    \        /    \
//  left     c  =>  a     root
//  /  \                  /  \
// a    b                b    c
function turnedRight<T extends Interval>(root: Node<T>, left: Node<T>): Node<T> {
  root.left = left.right;
  left.right = root;
  refresh(root);
  refresh(left);
  return left;
}

function turnedLeft<T extends Interval>(root: Node<T>, right: Node<T>): Node<T> {
  root.right = right.left;
  right.left = root;
  refresh(root);
  refresh(right);
  return right;
}

// One tree of two, where everything in `left` comes before everything in `right`.
function joined<T extends Interval>(left: Node<T> | undefined, right: Node<T> | undefined): Node<T> | undefined {
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

function refresh<T extends Interval>(node: Node<T>): void {
  let greatest = node.item.end;
  if (node.left !== undefined && node.left.greatestEnd > greatest) greatest = node.left.greatestEnd;
  if (node.right !== undefined && node.right.greatestEnd > greatest) greatest = node.right.greatestEnd;
  node.greatestEnd = greatest;
}

function isBefore(a: Interval, b: Interval): boolean {
  return a.start < b.start || (a.start === b.start && a.id < b.id);
}

// The finalizer of MurmurHash3: ids in sequence come out as if drawn at random.
function priorityOf(id: number): number {
  let h = id | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
