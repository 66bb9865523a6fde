/*
 * bench/place.h - where a run takes place, and the one line that says so above every table.
 */
#ifndef SFSCALE_BENCH_PLACE_H
#define SFSCALE_BENCH_PLACE_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct place {
	size_t ranks, nodes, ranks_per_node;
	size_t hosts;			/* groups of ranks that share memory */
	size_t cores, pus;		/* of this host */
	size_t pus_bound;		/* that this process is bound to */
	size_t pus_share;		/* that this rank has for itself */
	uint64_t memory_bytes;		/* of this host */
	char cpu[128];			/* model; "unknown" */
	char text[256];
	const char *bound_by;		/* "nobody", "launcher", "sfscale" */
	char bound_to[128];		/* PUs of this rank, as a list */
	char bound_text[512];		/* one line: all ranks of this host, or why not */
};

/* `nodes` 0: as many as hosts.  `emulated` (NULL: nothing) names what was not computed but taken
 * from a distribution, such as "compute".  USAGE when ranks do not divide evenly over nodes. */
int place_find(struct place *, size_t ranks, size_t nodes, size_t hosts, const char *emulated);

/* Binds this process, with all that it will start, near its memory or, with `gpus`, near its GPU (bench/bind.h), unless
 * `on` is false, the launcher has done so, or there is nothing to choose.  Call before threads are started that should
 * inherit it. */
int place_bind(struct place *, size_t local_rank, size_t local_ranks, bool on, bool gpus);

/* The block "place" of run.json; owned by the caller. */
cJSON *place_json(const struct place *);

/* Compute threads for one rank: what the launcher bound it to, else its share of what it was bound to, else of the host. */
unsigned place_threads(const struct place *, size_t local_ranks);

#endif
