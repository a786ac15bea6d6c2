/* JudyL: page number to entry. `judy lookup <warm-up ms> <measured ms> <pages> <look-ups>`, the mapping and the addresses of table.c. */
#include "contender.h"
#include <Judy.h>

static const uint64_t VPN = 5ull * (1 << 27) + 3 * (1 << 18);
enum { RUN_PAGES = 64 };

static Pvoid_t map;
static uint64_t *addresses, *entries;
static uint32_t lookups;

static void lookup(void) {
  for (uint32_t i = 0; i < lookups; i++) {
    Word_t *value;
    JLG(value, map, addresses[i] >> 12);
    entries[i] = value ? *value : 0;
  }
}
static double of_lookups(void) {
  double sum = 0;
  for (uint32_t i = 0; i < lookups; i++) sum += (double)(entries[i] >> 32) * 2 + (double)(entries[i] >> 4 & 1);
  return sum;
}

int main(int argc, char **argv) {
  if (argc < 6 || !IS("lookup")) return unknown(argc < 2 ? "" : argv[1]);
  uint32_t pages = (uint32_t)strtoul(argv[4], 0, 10);
  lookups = (uint32_t)strtoul(argv[5], 0, 10);
  addresses = malloc(lookups * sizeof *addresses);
  entries = calloc(lookups, sizeof *entries);
  for (uint32_t i = 0; i < pages; i++) {
    uint32_t run = i - i % RUN_PAGES;
    Word_t *value;
    JLI(value, map, VPN + i);
    *value = (uint64_t)(((run * 0x9e3779b1u) >> 12) * RUN_PAGES + i % RUN_PAGES) << 32 | 1 | (run / RUN_PAGES % 8 != 7 ? 16 : 0);
  }
  random_seed(1);
  for (uint32_t i = 0; i < lookups; i++) addresses[i] = (VPN + random_below(pages)) << 12;
  return report(&(struct contender){0, lookup, of_lookups}, argv);
}
