/*
 * comm/topo/verdict.h - the verdict as tables: text, JSON and pictures print the same rows.
 */
#ifndef SFSCALE_COMM_TOPO_VERDICT_H
#define SFSCALE_COMM_TOPO_VERDICT_H

#include "bench/base/table.h"
#include "comm/topo/rules.h"

enum verdict_table {
	VERDICT_COMMS,		/* communicators, equal ones in one row */
	VERDICT_HOPS,		/* ring hops between hosts of the main communicator, equal ones in one row */
	VERDICT_NICS,		/* ring channels per NIC and direction */
	VERDICT_FINDINGS,	/* everything but not applicable */
	VERDICT_BOUNDS,
	VERDICT_MENDS,		/* what each change is worth */
	VERDICT_ORDER,		/* hosts in the mending order */
	VERDICT_TABLES
};

struct topo_report {
	struct topo_findings findings;
	struct topo_judging main;	/* of the largest communicator; main.c NULL: none */
	struct table tables[VERDICT_TABLES];
	char summary[1024];
	double measured_gbps;		/* 0: not given */
	size_t faults[3];		/* by severity */
};

void topo_report_make(struct topo_report *, const struct topo_model *, double measured_gbps);
void topo_report_release(struct topo_report *);

/* "run.log:123", or "" */
const char *topo_place(const struct topo_log *, struct topo_at, char *out, size_t room);

/* --measured: a number in GB/s; nccl-tests' table or JSON (the greatest bus bandwidth in it); or the folder of
 * one of our runs (the median of its largest buckets). */
int topo_measured(const char *what, double *gbps);

#endif
