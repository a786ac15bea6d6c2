/* What the workloads of this folder share. */
#ifndef WORKLOAD_H
#define WORKLOAD_H

#include <stdint.h>

/*
 * OFFLOAD marks what one would run on an accelerator. Its section keeps these
 * functions next to each other, so that they are one range of addresses; they
 * call nothing outside it. HOST keeps a function a function, so that the work of
 * the host does not end up inside something else.
 */
#define OFFLOAD __attribute__((noinline, noclone, section(".offload")))
#define HOST __attribute__((noinline, noclone))

static uint64_t seed = 0x9e3779b97f4a7c15;

/* xorshift64 (Marsaglia): the same numbers on every run. */
HOST static uint64_t random64(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

#endif
