/*
 * The page table of the core, written in C as one would write it: four levels of nine bits, 64-bit entries, tables addressed by 32-bit offsets into one arena, as Wasm's memory
 * addresses them, and a count of entries for each table, so that an empty one can go.
 *
 *   inner entry   TABLE | offset of the next table              leaf entry   frame << 32 | PRESENT | WRITE
 *   block         frame << 32 | PRESENT | WRITE at level 1: 512 pages
 */
#ifndef RADIX_H
#define RADIX_H
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

typedef uint64_t entry_t;

enum { LEVELS = 4, BITS = 9, SLOTS = 1 << BITS, TABLE_BYTES = SLOTS * sizeof(entry_t) };
#define PRESENT 1ull
#define WRITE 16ull
#define TABLE 2ull
#define FRAME_SHIFT 32
#define ONE_FRAME (1ull << FRAME_SHIFT)

/* At a fixed address, as Wasm's memory is at one that the compiled code holds in a register. */
#define BASE 0x200000000000ull
static const uint64_t ARENA_MAX = 1ull << 32;

static uint32_t root, top, spare, *counts;

static inline entry_t *at(uint32_t offset) { return (entry_t *)(BASE + offset); }
static inline uint32_t slot_of(uint64_t vpn, int level) { return (uint32_t)(vpn >> (BITS * level)) & (SLOTS - 1); }
static inline uint32_t table_of(entry_t entry) { return (uint32_t)entry & ~(uint32_t)(TABLE_BYTES - 1); }
static inline uint32_t *count_of(uint32_t table) { return counts + table / TABLE_BYTES; }

static uint32_t table_new(void) {
  uint32_t table = spare;
  if (table) {
    spare = (uint32_t)*at(table);
  } else {
    table = top;
    top += TABLE_BYTES;
    if (!top) {
      fprintf(stderr, "the arena of 4 GiB is full\n");
      exit(1);
    }
  }
  memset(at(table), 0, TABLE_BYTES);
  *count_of(table) = 0;
  return table;
}

static inline void table_free(uint32_t table) {
  *at(table) = spare;
  spare = table;
}

static void radix_init(void) {
  if (mmap((void *)BASE, ARENA_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED) {
    perror("mmap");
    exit(1);
  }
  /* As V8 has it: pages of 4 KiB. */
  madvise((void *)BASE, ARENA_MAX, MADV_NOHUGEPAGE);
  counts = calloc(ARENA_MAX / TABLE_BYTES, sizeof *counts);
  top = TABLE_BYTES;
  root = table_new();
}

/* The entry of a page, its frame in it; 0: none. */
static inline entry_t radix_walk(uint64_t vpn) {
  entry_t entry = at(root)[slot_of(vpn, 3)];
  entry = at(table_of(entry))[slot_of(vpn, 2)];
  entry = at(table_of(entry))[slot_of(vpn, 1)];
  if (!(entry & TABLE)) return entry ? entry + (entry_t)slot_of(vpn, 0) * ONE_FRAME : 0;
  return at(table_of(entry))[slot_of(vpn, 0)];
}

/* The table of this level on the way to a page, made where it is not there. */
static inline uint32_t table_for(uint64_t vpn, int level) {
  uint32_t table = root;
  for (int l = LEVELS - 1; l > level; l--) {
    entry_t *entry = at(table) + slot_of(vpn, l);
    if (!(*entry & TABLE)) {
      uint32_t next = table_new();
      *entry = TABLE | next;
      ++*count_of(table);
      table = next;
    } else {
      table = table_of(*entry);
    }
  }
  return table;
}

/* The table of the lowest level, if it is there; 0: it is not. */
static inline uint32_t leaf_for(uint64_t vpn) {
  entry_t entry = at(root)[slot_of(vpn, 3)];
  if (entry) entry = at(table_of(entry))[slot_of(vpn, 2)];
  if (entry) entry = at(table_of(entry))[slot_of(vpn, 1)];
  return entry & TABLE ? table_of(entry) : 0;
}

static inline void radix_map(uint64_t vpn, uint32_t frame, entry_t bits) {
  uint32_t table = table_for(vpn, 0);
  entry_t *entry = at(table) + slot_of(vpn, 0);
  *count_of(table) += !*entry;
  *entry = (entry_t)frame << FRAME_SHIFT | bits;
}

static void radix_map_block(uint64_t vpn, uint32_t frame, entry_t bits) {
  uint32_t table = table_for(vpn, 1);
  entry_t *entry = at(table) + slot_of(vpn, 1);
  *count_of(table) += !*entry;
  *entry = (entry_t)frame << FRAME_SHIFT | bits;
}

/* Takes an empty table out of the one above, and so on up. */
static inline void radix_prune(uint64_t vpn, uint32_t leaf) {
  uint32_t path[LEVELS] = {leaf};
  uint32_t table = root;
  for (int l = LEVELS - 1; l > 0; l--) {
    path[l] = table;
    table = table_of(at(table)[slot_of(vpn, l)]);
  }
  for (int l = 0; l < LEVELS - 1 && !*count_of(path[l]); l++) {
    table_free(path[l]);
    at(path[l + 1])[slot_of(vpn, l + 1)] = 0;
    --*count_of(path[l + 1]);
  }
}

static inline entry_t radix_unmap(uint64_t vpn) {
  uint32_t leaf = leaf_for(vpn);
  if (!leaf) return 0;
  entry_t *entry = at(leaf) + slot_of(vpn, 0), old = *entry;
  if (!old) return 0;
  *entry = 0;
  if (!--*count_of(leaf)) radix_prune(vpn, leaf);
  return old;
}

static void radix_map_range(uint64_t vpn, uint64_t pages, uint32_t frame, entry_t bits) {
  while (pages) {
    uint32_t table = table_for(vpn, 0), n = SLOTS - slot_of(vpn, 0), had = 0;
    if (n > pages) n = (uint32_t)pages;
    entry_t *entry = at(table) + slot_of(vpn, 0), value = (entry_t)frame << FRAME_SHIFT | bits;
    if (*count_of(table))
      for (uint32_t i = 0; i < n; i++) had += entry[i] != 0;
    for (uint32_t i = 0; i < n; i++) entry[i] = value + i * ONE_FRAME;
    *count_of(table) += n - had;
    vpn += n;
    frame += n;
    pages -= n;
  }
}

static void radix_unmap_range(uint64_t vpn, uint64_t pages) {
  while (pages) {
    uint32_t leaf = leaf_for(vpn), n = SLOTS - slot_of(vpn, 0), had = 0;
    if (n > pages) n = (uint32_t)pages;
    if (leaf) {
      entry_t *entry = at(leaf) + slot_of(vpn, 0);
      if (n == SLOTS) {
        had = *count_of(leaf);
      } else {
        for (uint32_t i = 0; i < n; i++) had += entry[i] != 0;
        memset(entry, 0, n * sizeof *entry);
      }
      if (!(*count_of(leaf) -= had)) radix_prune(vpn, leaf);
    }
    vpn += n;
    pages -= n;
  }
}

static void radix_protect_range(uint64_t vpn, uint64_t pages, entry_t clear, entry_t set) {
  while (pages) {
    uint32_t leaf = leaf_for(vpn), n = SLOTS - slot_of(vpn, 0);
    if (n > pages) n = (uint32_t)pages;
    if (leaf) {
      entry_t *entry = at(leaf) + slot_of(vpn, 0);
      for (uint32_t i = 0; i < n; i++) entry[i] = entry[i] ? (entry[i] & ~clear) | set : 0;
    }
    vpn += n;
    pages -= n;
  }
}

#endif
