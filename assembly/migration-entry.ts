import {
  ENTRY_ACCESSED,
  ENTRY_ANON_EXCLUSIVE,
  ENTRY_DEVICE,
  ENTRY_DIRTY,
  ENTRY_EXEC,
  ENTRY_KIND,
  ENTRY_NO_ACCESS,
  ENTRY_ORDER,
  ENTRY_WRITE,
  KIND_DEVICE_PRIVATE,
  KIND_MIGRATION,
  KIND_PRESENT,
  KIND_PROTNONE,
  KIND_SWAP,
  NODE_IS_PRIVATE,
  NODE_IS_TIER,
  NODE_KIND,
} from './layout';

/**
 * A migration entry: what stands for a page while a migration has it. Whoever meets one waits for the lock of its frame; what the page allowed is remembered in it, and comes back with it.
 *
 * ```
 *   present | device-private | swap | protnone     ->     migration     ->     the kind that entries of the frame's node have
 *   frame, rights, marks                                  the same             the new frame, or the old one
 * ```
 *
 * Models: `make_writable_migration_entry`, `make_readable_migration_entry`, `remove_migration_pte`.
 */

/** Bits of an entry that outlive a migration. A promise to a device that the CPU only reads does not: its translation is gone. */
const REMEMBERED: u32 =
  ENTRY_WRITE | ENTRY_EXEC | ENTRY_ANON_EXCLUSIVE | ENTRY_DIRTY | ENTRY_ACCESSED | ENTRY_DEVICE | ENTRY_NO_ACCESS | ENTRY_ORDER;

/** A migration entry that remembers what the entry it replaces allowed. */
export function migrationOf(entry: u64): u64 {
  const high = <u32>(entry >> 32),
    denied = (high & ENTRY_KIND) == KIND_PROTNONE ? ENTRY_NO_ACCESS : 0;
  return ((<u64>((high & REMEMBERED) | denied | KIND_MIGRATION)) << 32) | (<u32>entry);
}

/** The entry that a migration entry becomes, whose high word is given, when its page is on frame `to` now. */
export function restored(migration: u32, to: u32, kind: u32): u64 {
  let high = (migration & ~ENTRY_KIND) | kind;
  // What it is marked with from now on is what happens to it when it is back.
  if (kind == KIND_SWAP) high &= ~(ENTRY_DIRTY | ENTRY_ACCESSED);
  // A page without rights is protnone where it is present, and says so by a bit where it is not.
  if (high & ENTRY_NO_ACCESS && kind == KIND_PRESENT) high ^= ENTRY_NO_ACCESS | KIND_PRESENT | KIND_PROTNONE;
  return ((<u64>high) << 32) | to;
}

/** Kind that an entry for a frame of this node has. */
export function kindOn(node: u32): u32 {
  const kind = load<u32>(node, NODE_KIND);
  return kind == NODE_IS_PRIVATE ? KIND_DEVICE_PRIVATE : kind == NODE_IS_TIER ? KIND_SWAP : KIND_PRESENT;
}
