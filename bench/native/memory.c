/* Bytes: `memory <row> <warm-up ms> <measured ms> <pages> <times> [chosen]`. */
#define _GNU_SOURCE
#include "contender.h"
#include <sys/mman.h>

enum { PAGE_BYTES = 4096, PAGE_WORDS = PAGE_BYTES / 4 };

static uint32_t pages, chosen, *sources, *targets, *words, total;
static int times;

static char *page(uint32_t i) { return (char *)words + (size_t)i * PAGE_BYTES; }

static void copy_pages(void) {
  for (int t = 0; t < times; t++) {
    for (uint32_t i = 0; i < chosen; i++) memcpy(page(targets[i]), page(sources[i]), PAGE_BYTES);
    FENCE;
  }
}
static void copy_there_and_back(void) {
  for (uint32_t i = 0; i < pages; i++) memcpy(page(pages + i), page(i), PAGE_BYTES);
  FENCE;
  for (uint32_t i = 0; i < pages; i++) memcpy(page(i), page(pages + i), PAGE_BYTES);
  FENCE;
}
/* Copies each page there, and reads a word of it. */
static void copy_and_read(void) {
  total = 0;
  for (uint32_t i = 0; i < pages; i++) {
    memcpy(page(pages + i), page(i), PAGE_BYTES);
    FENCE;
    total += words[(size_t)(pages + i) * PAGE_WORDS + i % PAGE_WORDS];
  }
}

static double hash_of(uint32_t from, uint32_t count) {
  uint32_t value = 0;
  for (size_t i = (size_t)from * PAGE_WORDS; i < (size_t)(from + count) * PAGE_WORDS; i++) value = value * 31 + words[i];
  return (int32_t)value;
}
static double of_all(void) { return hash_of(0, 2 * pages); }
static double of_half(void) { return hash_of(0, pages); }
static double of_total(void) { return (int32_t)total; }

/* A loop that waits for memory and for the processor, to be compared with itself. */
static uint32_t sum;
static void chase(void) {
  sum = 0;
  for (uint32_t i = 0; i < 1 << 16; i++) sum += words[words[i] & 0xffff];
}
static double of_sum(void) { return sum; }

int main(int argc, char **argv) {
  if (argc < 6) return unknown("of so few arguments");
  pages = (uint32_t)strtoul(argv[4], 0, 10);
  times = atoi(argv[5]);
  chosen = argc > 6 ? (uint32_t)strtoul(argv[6], 0, 10) : pages;
  size_t bytes = (size_t)2 * pages * PAGE_BYTES;
  words = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (words == MAP_FAILED) return perror("mmap"), 1;
  madvise(words, bytes, MADV_NOHUGEPAGE);
  int both = IS("copy.pages") || IS("calibration");
  for (size_t i = 0; i < bytes / 4 / (both ? 1 : 2); i++) words[i] = (uint32_t)i * 0x9e3779b1u;
  memset((char *)words + bytes / (both ? 1 : 2), 1, both ? 0 : bytes / 2);
  sources = malloc(pages * sizeof *sources);
  targets = malloc(pages * sizeof *targets);
  shuffled(sources, pages, 1);
  shuffled(targets, pages, 2);
  for (uint32_t i = 0; i < pages; i++) targets[i] += pages;
  if (IS("copy.pages")) return report(&(struct contender){0, copy_pages, of_all}, argv);
  if (IS("copy.range")) return report(&(struct contender){0, copy_there_and_back, of_half}, argv);
  if (IS("copy.read")) return report(&(struct contender){0, copy_and_read, of_total}, argv);
  if (IS("calibration")) return report(&(struct contender){0, chase, of_sum}, argv);
  return unknown(argv[1]);
}
