/*
 * What every native contender has in common: its arguments, the clock, random numbers, and the line of JSON that it ends with.
 *
 *   <program> <row> <warm-up ms> <measured ms> [numbers]   ->   {"ms":0.123,"checksum":456}
 *
 * A run is repeated for the time that was asked for; `ms` is the median. The checksum says what the work came to: the contender in JavaScript has to come to the same.
 */
#ifndef CONTENDER_H
#define CONTENDER_H
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

/* The same numbers as bench/random.ts. */
static uint32_t random_state = 1;
static void random_seed(uint32_t seed) { random_state = seed | 1; }
static uint32_t random_below(uint32_t limit) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 17;
  random_state ^= random_state << 5;
  return (uint32_t)((double)random_state / 4294967296.0 * limit);
}

static void shuffled(uint32_t *order, uint32_t count, uint32_t seed) {
  random_seed(seed);
  for (uint32_t i = 0; i < count; i++) order[i] = i;
  for (uint32_t i = count - 1; i > 0; i--) {
    uint32_t j = random_below(i + 1), swapped = order[i];
    order[i] = order[j];
    order[j] = swapped;
  }
}

struct contender {
  /* Puts everything to where the work starts, untimed; may be null. */
  void (*reset)(void);
  void (*run)(void);
  /* A whole number below 2^53. */
  double (*checksum)(void);
};

static int by_size(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

#define RUNS_MAX 100000

static double median_ms(const struct contender *c, double ms) {
  static double took[RUNS_MAX];
  int runs = 0;
  double began = now_ms();
  do {
    if (c->reset) c->reset();
    double start = now_ms();
    c->run();
    took[runs++] = now_ms() - start;
  } while (now_ms() - began < ms && runs < RUNS_MAX);
  qsort(took, runs, sizeof *took, by_size);
  return took[runs / 2];
}

static int report(const struct contender *c, char **argv) {
  median_ms(c, atof(argv[2]));
  double ms = median_ms(c, atof(argv[3]));
  printf("{\"ms\":%.9g,\"checksum\":%.17g}\n", ms, c->checksum());
  return 0;
}

static int unknown(const char *row) {
  fprintf(stderr, "no row %s here\n", row);
  return 2;
}

#define IS(row) (!strcmp(argv[1], row))
/* Keeps the compiler from dropping, moving or joining runs. */
#define FENCE __asm__ volatile("" ::: "memory")

#endif
