/*
 * stencil: heat spreading over a plate, cell by cell.
 *
 *   host    fills the plate from a seeded generator
 *   device  sweep(): next = weighted sum of a cell and its four neighbours
 *   host    reads the rim and a coarse sample between sweeps, reheats one edge
 *
 * A cell is 256 bytes and a row is 64 cells, so four 4 KiB pages:
 *
 *     plate[0], plate[1]    row 0 | page 0 | page 1 | page 2 | page 3 |
 *                           row 1 | page 4 | page 5 | page 6 | page 7 |   ... 64 rows
 */
#include <stdio.h>

#include "workload.h"

enum { ROWS = 64, COLUMNS = 64, SWEEPS = 5, TAPS = 5, SAMPLE_STRIDE = 4 };

struct cell {
	double heat;
	double retention;	/* the part of its heat that stays on the plate */
	double source;		/* added on every sweep */
	double unused[29];	/* the rest of a multi-physics cell: 256 bytes in all */
};

/* One term of the stencil: a neighbour, in cells, and its weight. */
struct tap {
	int64_t offset;
	double weight;
};

static _Alignas(4096) struct cell plate[2][ROWS * COLUMNS];
static struct tap taps[TAPS] = {
	{ 0, 0.5 }, { -1, 0.125 }, { 1, 0.125 }, { -COLUMNS, 0.125 }, { COLUMNS, 0.125 },
};

/* Uniform in [0, 1). */
static double random_unit(void)
{
	return (double)(int64_t)(random64() >> 11) / 9007199254740992.0;
}

/* What one tap adds to the cell it is laid on. */
OFFLOAD double term(const struct tap *tap, const struct cell *here)
{
	return tap->weight * here[tap->offset].heat;
}

/* One sweep over the inner cells; the rim belongs to the host. */
OFFLOAD void sweep(const struct cell *now, struct cell *next)
{
	for (int row = 1; row < ROWS - 1; row++) {
		for (int column = 1; column < COLUMNS - 1; column++) {
			const struct cell *here = &now[row * COLUMNS + column];
			double heat = 0;

			for (int t = 0; t < TAPS; t++)
				heat += term(&taps[t], here);
			next[row * COLUMNS + column].heat = heat * here->retention + here->source;
		}
	}
}

/* In [0, 1) too, but most often near the middle. */
static double random_bell(void)
{
	double sum = 0;

	for (int i = 0; i < 10; i++)
		sum += random_unit();
	return sum / 10;
}

HOST void fill(void)
{
	for (int i = 0; i < ROWS * COLUMNS; i++) {
		double retention = 0.9 + random_bell() / 10;
		double source = random64() % 64 == 0 ? 1.0 : 0.0;

		for (int side = 0; side < 2; side++) {
			plate[side][i].retention = retention;
			plate[side][i].source = source;
		}
	}
}

/* Sets the top rim of a plate; what the next sweep reads from row 0. */
HOST void reheat(struct cell *now)
{
	for (int column = 0; column < COLUMNS; column++)
		now[column].heat = 100 * random_unit();
}

/* Mean heat of every SAMPLE_STRIDE-th cell: the residual a solver would look at. */
HOST double sample(const struct cell *now)
{
	double sum = 0;
	int cells = 0;

	for (int row = 0; row < ROWS; row += SAMPLE_STRIDE)
		for (int column = 0; column < COLUMNS; column += SAMPLE_STRIDE, cells++)
			sum += now[row * COLUMNS + column].heat;
	return sum / cells;
}

int main(void)
{
	double mean = 0;

	fill();
	for (int i = 0; i < SWEEPS; i++) {
		reheat(plate[i % 2]);
		sweep(plate[i % 2], plate[(i + 1) % 2]);
		mean = sample(plate[(i + 1) % 2]);
	}
	printf("stencil %.9f\n", mean);
	return 0;
}
