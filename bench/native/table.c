/* Page tables: the rows of bench/table.bench.ts in C. `table <row> <warm-up ms> <measured ms> <pages> <look-ups> [times]`. */
#define _GNU_SOURCE
#include "contender.h"
#include "radix.h"

/* As in table.bench.ts: the same mapping, the same addresses. */
static const uint64_t VPN = 5ull * (1 << 27) + 3 * (1 << 18);
enum { RUN_PAGES = 64 };

static uint64_t pages, *addresses, *entries;
static uint32_t lookups, extents, *order;
static uint64_t last;
static int times = 1;

static void map_all(void) {
  for (uint32_t run = 0; run < pages; run += RUN_PAGES)
    radix_map_range(VPN + run, RUN_PAGES, ((run * 0x9e3779b1u) >> 12) * RUN_PAGES, PRESENT | (run / RUN_PAGES % 8 != 7 ? WRITE : 0));
}

static double meaning(entry_t entry) { return (double)(entry >> FRAME_SHIFT) * 2 + ((entry & WRITE) != 0); }
static double meanings(uint64_t n) {
  double sum = 0;
  for (uint64_t i = 0; i < n; i++) sum += meaning(entries[i]);
  return sum;
}
static double of_lookups(void) { return meanings(lookups); }
static double of_pages(void) { return meanings(pages); }
static double of_last(void) { return (double)(last >> FRAME_SHIFT); }
/* What the table says in the end, by reading all of it. */
static double of_table(void) {
  double sum = 0;
  for (uint64_t i = 0; i < pages; i++) sum += meaning(radix_walk(VPN + i));
  return sum;
}

static void lookup_simple(void) {
  for (uint32_t i = 0; i < lookups; i++) entries[i] = radix_walk(addresses[i] >> 12);
}

/* The slots of 64 leaves first, then the leaves: the loads of one pass do not wait for those of another. */
static void lookup_two_pass(void) {
  static entry_t *slots[64], none;
  for (uint32_t from = 0; from < lookups; from += 64) {
    uint32_t n = lookups - from < 64 ? lookups - from : 64;
    for (uint32_t i = 0; i < n; i++) {
      uint64_t vpn = addresses[from + i] >> 12;
      uint32_t leaf = leaf_for(vpn);
      slots[i] = leaf ? at(leaf) + slot_of(vpn, 0) : &none;
      __builtin_prefetch(slots[i]);
    }
    for (uint32_t i = 0; i < n; i++) entries[from + i] = *slots[i];
  }
}

/* Each address waits for the entry before it: bit 3 is never set, which only we know. */
static void lookup_dependent(void) {
  entry_t entry = 0;
  for (uint32_t i = 0; i < lookups; i++) entry = radix_walk((addresses[i] >> 12) + (entry >> 3 & 1));
  last = entry;
}

static void single_map(void) {
  for (uint32_t i = 0; i < lookups; i++) radix_map(VPN + order[i], order[i], PRESENT | WRITE);
}
static void single_unmap(void) {
  for (uint32_t i = 0; i < lookups; i++) radix_unmap(VPN + order[i]);
}
static void single_map_all(void) { radix_map_range(VPN, pages, 0, PRESENT | WRITE); }
static void single_hole(void) {
  single_map_all();
  single_unmap();
}

static void range_map(void) {
  for (int i = 0; i < times; i++) {
    radix_map_range(VPN, pages, 1, PRESENT | WRITE);
    FENCE;
    radix_unmap_range(VPN, pages);
    FENCE;
  }
}
static double of_mapped(void) {
  radix_map_range(VPN, pages, 1, PRESENT | WRITE);
  return of_table();
}
static void range_protect(void) {
  for (int i = 0; i < times; i++) {
    radix_protect_range(VPN, pages, i & 1 ? 0 : WRITE, i & 1 ? WRITE : 0);
    FENCE;
  }
}

/* Each entry of the range as an HMM word: the frame, and what may be done in the top bits. */
static void snapshot_hmm(void) {
  for (int i = 0; i < times; i++) {
    for (uint64_t done = 0; done < pages; done += SLOTS) {
      uint32_t leaf = leaf_for(VPN + done);
      entry_t *entry = at(leaf);
      for (uint32_t s = 0; s < SLOTS && done + s < pages; s++)
        entries[done + s] = (entry[s] & PRESENT) << 63 | (entry[s] & WRITE) << 58 | entry[s] >> FRAME_SHIFT;
    }
    FENCE;
  }
}
static double of_hmm(void) {
  double sum = 0;
  for (uint64_t i = 0; i < pages; i++) sum += (double)(uint32_t)entries[i] * 4 + (double)(entries[i] >> 62);
  return sum;
}
static void snapshot_native(void) {
  for (int i = 0; i < times; i++) {
    for (uint64_t done = 0; done < pages; done += SLOTS) {
      uint64_t n = pages - done < SLOTS ? pages - done : SLOTS;
      memcpy(entries + done, at(leaf_for(VPN + done)), n * sizeof *entries);
    }
    FENCE;
  }
}
/* As many bytes, from one place to another. */
static void copy_entries(void) { memcpy(entries + pages, entries, pages * sizeof *entries); }
static double nothing(void) { return 0; }

/* Runs of pages with consecutive frames and one right: four words each. */
static void snapshot_extents(void) {
  uint32_t *output = (uint32_t *)entries;
  for (int t = 0; t < times; t++) {
    uint32_t n = 0;
    entry_t next = 0;
    for (uint64_t done = 0; done < pages;) {
      entry_t above = at(table_of(at(table_of(at(root)[slot_of(VPN + done, 3)]))[slot_of(VPN + done, 2)]))[slot_of(VPN + done, 1)];
      if (!(above & TABLE)) {
        if (above && above == next) {
          output[4 * n - 2] += SLOTS;
        } else if (above) {
          output[4 * n] = (uint32_t)done;
          output[4 * n + 1] = (uint32_t)above;
          output[4 * n + 2] = SLOTS;
          output[4 * n + 3] = (uint32_t)(above >> FRAME_SHIFT);
          n++;
        }
        next = above + SLOTS * ONE_FRAME;
        done += SLOTS;
        continue;
      }
      entry_t *entry = at(table_of(above));
      for (uint32_t s = 0; s < SLOTS && done < pages; s++, done++) {
        if (entry[s] && entry[s] == next) {
          output[4 * n - 2]++;
        } else if (entry[s]) {
          output[4 * n] = (uint32_t)done;
          output[4 * n + 1] = (uint32_t)entry[s];
          output[4 * n + 2] = 1;
          output[4 * n + 3] = (uint32_t)(entry[s] >> FRAME_SHIFT);
          n++;
        }
        next = entry[s] + ONE_FRAME;
      }
    }
    extents = n;
    FENCE;
  }
}
static double of_extents(void) {
  const uint32_t *output = (const uint32_t *)entries;
  double sum = extents;
  for (uint32_t i = 0; i < extents; i++) sum += output[4 * i] + 3.0 * output[4 * i + 2] + 5.0 * output[4 * i + 3];
  return sum;
}

int main(int argc, char **argv) {
  if (argc < 6) return unknown("of so few arguments");
  pages = strtoull(argv[4], 0, 10);
  lookups = (uint32_t)strtoul(argv[5], 0, 10);
  radix_init();
  uint64_t room = lookups > 2 * pages ? lookups : 2 * pages;
  addresses = malloc(lookups * sizeof *addresses);
  entries = malloc((room + 64) * sizeof *entries);
  memset(entries, 0, room * sizeof *entries);

  if (!strncmp(argv[1], "lookup.", 7) || !strncmp(argv[1], "walk.", 5)) {
    map_all();
    random_seed(1);
    int sequential = IS("lookup.sequential");
    for (uint32_t i = 0; i < lookups; i++) addresses[i] = (VPN + (sequential ? i % pages : random_below((uint32_t)pages))) << 12;
    if (IS("lookup.simple") || sequential) return report(&(struct contender){0, lookup_simple, of_lookups}, argv);
    if (IS("lookup.two-pass")) return report(&(struct contender){0, lookup_two_pass, of_lookups}, argv);
    if (IS("walk.dependent")) return report(&(struct contender){0, lookup_dependent, of_last}, argv);
  }
  if (IS("map.single") || IS("unmap.single")) {
    order = malloc(pages * sizeof *order);
    shuffled(order, (uint32_t)pages, 3);
    /* The tables stay: one page of each stays mapped. */
    for (uint64_t i = 0; i < pages; i++) if (order[i] % SLOTS == 0) order[i]++;
    if (lookups > pages) lookups = (uint32_t)pages;
    return report(IS("map.single") ? &(struct contender){single_hole, single_map, of_table} : &(struct contender){single_map_all, single_unmap, of_table}, argv);
  }
  if (argc > 6) times = atoi(argv[6]);
  if (IS("map.range")) return report(&(struct contender){0, range_map, of_mapped}, argv);
  if (IS("protect.range")) {
    radix_map_range(VPN, pages, 1, PRESENT | WRITE);
    return report(&(struct contender){0, range_protect, of_table}, argv);
  }
  if (IS("snapshot.hmm") || IS("snapshot.native")) {
    map_all();
    return report(IS("snapshot.hmm") ? &(struct contender){0, snapshot_hmm, of_hmm} : &(struct contender){0, snapshot_native, of_pages}, argv);
  }
  if (IS("snapshot.memcpy")) return report(&(struct contender){0, copy_entries, nothing}, argv);
  if (IS("extents.contiguous")) radix_map_range(VPN, pages, 1, PRESENT | WRITE);
  else if (IS("extents.huge")) for (uint64_t i = 0; i < pages; i += SLOTS) radix_map_block(VPN + i, (uint32_t)(i + SLOTS) * 2, PRESENT | WRITE);
  else if (IS("extents.random")) for (uint64_t i = 0; i < pages; i++) radix_map(VPN + i, (uint32_t)(i * 0x9e3779b1u) >> 12, PRESENT | WRITE);
  else return unknown(argv[1]);
  return report(&(struct contender){0, snapshot_extents, of_extents}, argv);
}
