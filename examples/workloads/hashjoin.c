/*
 * hashjoin: select sum(r.value * s.value) from r join s on r.key = s.key.
 *
 *   host    generates r and s, and partitions s by bucket
 *   device  build(): links every tuple of r into its bucket
 *   host    reads how many it linked
 *   device  probe(): one partition of s against the buckets, writes matches
 *   host    aggregate(): adds up the matches of that partition     (and so on)
 *
 *     buckets[hash(key)] -> entry -> entry -> NULL
 *                             |
 *                           tuple of r
 *
 * Partition p holds the tuples of s whose bucket lies in the p-th part of the
 * table, so that one probe stays within a part of it.
 */
#include <stdio.h>

#include "workload.h"

enum { R_TUPLES = 4096, S_TUPLES = 10240, KEYS = 4096, PARTITIONS = 8, DICE = 2 };
enum { BUCKET_BITS = 11, BUCKETS = 1 << BUCKET_BITS, MATCHES_MAX = 2 * S_TUPLES };

struct tuple {
	uint64_t key, value;
	uint64_t unused[6];	/* the columns that the query does not read: 64 bytes in all */
};

struct entry {
	struct entry *next;
	const struct tuple *tuple;
	uint64_t unused[6];	/* pads the entry to one cache line */
};

struct match {
	const struct tuple *r, *s;
};

/* What host and device tell each other. */
struct join {
	const struct tuple *first, *end;	/* the input of this run */
	uint64_t multiplier, shift;		/* Fibonacci hashing */
	struct entry **buckets, *entries;
	struct match *matches;
	uint64_t matches_max;
	uint64_t built, probed, compared, matched;
};

static _Alignas(4096) struct tuple r[R_TUPLES], s[S_TUPLES], parts[S_TUPLES];
static _Alignas(4096) struct entry *buckets[BUCKETS], entries[R_TUPLES];
static _Alignas(4096) struct match matches[MATCHES_MAX];
static struct tuple *part_end[PARTITIONS];	/* one past the last tuple of each */
static struct join join = {
	.multiplier = 0x9e3779b97f4a7c15, .shift = 64 - BUCKET_BITS,
	.buckets = buckets, .entries = entries, .matches = matches, .matches_max = MATCHES_MAX,
};

OFFLOAD struct entry **bucket(const struct join *j, const struct tuple *t)
{
	return &j->buckets[t->key * j->multiplier >> j->shift];
}

OFFLOAD void build(struct join *j)
{
	for (const struct tuple *t = j->first; t < j->end; t++) {
		struct entry *entry = &j->entries[j->built++];
		struct entry **head = bucket(j, t);

		entry->tuple = t;
		entry->next = *head;
		*head = entry;
	}
}

/* Writes one match; counts on, without writing, when matches is full. */
OFFLOAD void emit(struct join *j, const struct tuple *of_r, const struct tuple *of_s)
{
	uint64_t index = j->matched++;

	if (index >= j->matches_max)
		return;
	j->matches[index].r = of_r;
	j->matches[index].s = of_s;
}

/* Joins the input with r; the matches go to j->matches[j->matched] and on. */
OFFLOAD void probe(struct join *j)
{
	for (const struct tuple *t = j->first; t < j->end; t++) {
		uint64_t key = t->key;

		j->probed++;
		for (const struct entry *e = *bucket(j, t); e; e = e->next) {
			const struct tuple *candidate = e->tuple;

			j->compared++;
			if (candidate->key == key)
				emit(j, candidate, t);
		}
	}
}

/* The sum of DICE dice of so many sides: some keys and values are more frequent. */
HOST uint64_t throw_dice(uint64_t sides)
{
	uint64_t sum = 0;

	for (int i = 0; i < DICE; i++)
		sum += random64() % sides;
	return sum;
}

HOST void generate(struct tuple *tuples, int count)
{
	for (int i = 0; i < count; i++) {
		tuples[i].key = throw_dice(KEYS / DICE);
		tuples[i].value = throw_dice(100);
	}
}

HOST int partition_of(const struct tuple *t)
{
	return (t->key * join.multiplier >> join.shift) / (BUCKETS / PARTITIONS);
}

/* Copies s to parts, partition after partition. */
HOST void partition(void)
{
	int tuples_in[PARTITIONS] = { 0 };
	struct tuple *first = parts;

	for (int i = 0; i < S_TUPLES; i++)
		tuples_in[partition_of(&s[i])]++;
	for (int p = 0; p < PARTITIONS; first += tuples_in[p++])
		part_end[p] = first;
	for (int i = 0; i < S_TUPLES; i++) {
		struct tuple *out = part_end[partition_of(&s[i])]++;

		out->key = s[i].key;
		out->value = s[i].value;
	}
}

HOST uint64_t aggregate(const struct match *first, const struct match *end)
{
	uint64_t sum = 0;

	for (const struct match *m = first; m < end; m++)
		sum += m->r->value * m->s->value;
	return sum;
}

int main(void)
{
	uint64_t sum = 0;

	generate(r, R_TUPLES);
	generate(s, S_TUPLES);
	partition();
	join.first = r;
	join.end = r + R_TUPLES;
	build(&join);
	if (join.built != R_TUPLES)
		return 1;
	for (int p = 0; p < PARTITIONS; p++) {
		uint64_t matched = join.matched;

		join.first = p ? part_end[p - 1] : parts;
		join.end = part_end[p];
		probe(&join);
		if (join.matched > MATCHES_MAX)
			return 1;
		sum += aggregate(matches + matched, matches + join.matched);
	}
	printf("hashjoin sum %lu matches %lu compared %lu\n", sum, join.matched, join.compared);
	return 0;
}
