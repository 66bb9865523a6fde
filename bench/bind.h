/*
 * bench/bind.h - on which cores the ranks of a host run: near the memory, and the GPU, that they use.
 *
 * A rank gets whole NUMA nodes, never single cores: its loader workers and its communication run beside its
 * compute, and inherit its binding.  Ranks of one NUMA node share it.  So binding never takes a core from
 * anybody that others leave idle, on two cores or on two hundred, and memory comes from where it is first touched.
 * What a launcher has bound already, or a control group allows, is never widened.
 */
#ifndef SFSCALE_BENCH_BIND_H
#define SFSCALE_BENCH_BIND_H

#include <hwloc.h>
#include <stdbool.h>

struct bind_plan {
	size_t ranks;		/* of this host */
	size_t domains;		/* NUMA nodes with cores, or GPUs */
	bool gpus;		/* domains are those of GPUs */
	hwloc_bitmap_t *sets;	/* owned; PUs of each rank */
};

/* `t`: loaded, with PCI devices where `gpus` asks for them; rank r then serves the r-th GPU in the order of bus numbers,
 * and without any GPU it is as without asking.  NO_MEMORY (said). */
int bind_plan_make(struct bind_plan *, hwloc_topology_t t, size_t ranks, bool gpus);
void bind_plan_release(struct bind_plan *);

/* PUs that a rank has for itself when those that share them share evenly; at least 1. */
size_t bind_plan_share(const struct bind_plan *, size_t rank);

/* "2 NUMA nodes: ranks 0-1 on PUs 0-9, ranks 2-3 on PUs 10-19" */
void bind_plan_text(const struct bind_plan *, char *out, size_t room);

#endif
