/*
 * bfs: breadth-first search over a graph linked with pointers.
 *
 *   host    builds the graph: nodes and edges cut from malloc'ed slabs
 *   device  search(): a few levels, each from one frontier to the next
 *   host    walks the frontier that came back and measures how wide it is
 *
 *     frontier -> node --next_in_frontier--> node -> ...
 *                  |
 *                edges -> edge -> edge -> NULL      (edge.to points at a node)
 *
 * The graph is like a road network: nodes in a ring, edges to nodes at most REACH
 * away. A search starts from ROOTS nodes at once, so the frontier has about the
 * same width on every level, and LEVELS_PER_RUN of them are work worth offloading.
 */
#include <stdio.h>
#include <stdlib.h>

#include "workload.h"

enum { NODES = 4096, EDGES = 8192, REACH = 32, ROOTS = 8, SEARCHES = 5, LEVELS_PER_RUN = 8 };
enum { ROAD_DICE = 6, SLAB_BYTES = 64 * 1024 };

struct edge {
	struct edge *next;
	struct node *to;
	uint64_t length;
	uint64_t unused[13];	/* what else a road has: 128 bytes in all */
};

struct node {
	struct edge *edges;
	struct node *next_in_frontier;
	uint64_t search;	/* the last search that reached this node */
	uint64_t level;		/* and at which level */
	uint64_t unused[28];	/* what else a place has: 256 bytes in all */
};

/* What host and device tell each other. */
struct work {
	struct node *frontier;
	struct node *found;	/* the frontier after it */
	uint64_t search, level;
	uint64_t nodes_found, edges_scanned, length;
};

static struct work work;
static struct node *nodes[NODES];
static char *slab;
static size_t slab_bytes_left;

/* Cuts bytes from the current slab. Nothing is freed before the program ends. */
HOST void *cut(size_t bytes)
{
	if (slab_bytes_left < bytes) {
		slab = malloc(SLAB_BYTES);
		if (!slab)
			abort();
		slab_bytes_left = SLAB_BYTES;
	}
	slab_bytes_left -= bytes;
	return slab + slab_bytes_left;
}

/* Puts a node that this search has not seen yet in the next frontier. */
OFFLOAD void reach(struct work *w, struct node *to, uint64_t length)
{
	to->search = w->search;
	to->level = w->level;
	to->next_in_frontier = w->found;
	w->found = to;
	w->nodes_found++;
	w->length += length;
}

/* Scans the edges of one node. */
OFFLOAD void scan(struct work *w, const struct node *from)
{
	for (const struct edge *edge = from->edges; edge; edge = edge->next) {
		struct node *to = edge->to;

		w->edges_scanned++;
		if (to->search != w->search)
			reach(w, to, edge->length);
	}
}

/* Goes down LEVELS_PER_RUN levels, or fewer when nothing new is left to find. */
OFFLOAD void search(struct work *w)
{
	for (int i = 0; i < LEVELS_PER_RUN && w->found; i++) {
		w->frontier = w->found;
		w->found = NULL;
		w->level++;
		for (const struct node *from = w->frontier; from; from = from->next_in_frontier)
			scan(w, from);
	}
}

/* The sum of ROAD_DICE eight-sided dice: most roads are of middling length. */
HOST uint64_t random_length(void)
{
	uint64_t length = 0;

	for (int i = 0; i < ROAD_DICE; i++)
		length += 1 + random64() % 8;
	return length;
}

HOST void link_nodes(struct node *from, struct node *to)
{
	struct edge *edge = cut(sizeof *edge);

	edge->to = to;
	edge->length = random_length();
	edge->next = from->edges;
	from->edges = edge;
}

HOST void build(void)
{
	for (int i = 0; i < NODES; i++) {
		nodes[i] = cut(sizeof *nodes[i]);
		nodes[i]->edges = NULL;
		nodes[i]->search = 0;
	}
	for (int i = 0; i < EDGES; i++) {
		int away = (int)(random64() % (2 * REACH)) - REACH;

		link_nodes(nodes[i % NODES], nodes[(i + away + NODES) % NODES]);
	}
}

/* Puts the roots of a search, all of level 0, in the frontier. */
HOST void start(uint64_t search)
{
	work.search = search;
	work.level = 0;
	for (int i = 0; i < ROOTS; i++) {
		struct node *root = nodes[(i * NODES + random64() % NODES) / ROOTS];

		root->search = search;
		root->level = 0;
		root->next_in_frontier = work.found;
		work.found = root;
	}
}

HOST uint64_t width_of(const struct node *frontier)
{
	uint64_t width = 0;

	for (const struct node *n = frontier; n; n = n->next_in_frontier)
		width++;
	return width;
}

int main(void)
{
	uint64_t widest = 0;

	build();
	for (uint64_t i = 1; i <= SEARCHES; i++) {
		for (start(i); work.found; ) {
			search(&work);
			uint64_t width = width_of(work.found);
			if (width > widest)
				widest = width;
		}
	}
	printf("bfs nodes %lu edges %lu length %lu widest %lu level %lu\n", work.nodes_found,
	       work.edges_scanned, work.length, widest, work.level);
	return 0;
}
