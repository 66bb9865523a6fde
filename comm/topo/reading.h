/*
 * comm/topo/reading.h - where a reader of the fabric's texts is, for its complaints.
 */
#ifndef SFSCALE_COMM_TOPO_READING_H
#define SFSCALE_COMM_TOPO_READING_H

#include "comm/topo/fabric.h"

struct topo_reading {
	struct topo_fabric *f;
	const char *source;
	struct topo_at at;
	struct topo_span rest, line;
};

bool topo_next_line(struct topo_reading *);
/* FAILED, said with file, line and the line's beginning. */
int topo_complain(const struct topo_reading *, const char *what);

/* groups.c */
int topo_slurm_conf_read(struct topo_reading *);
int topo_slurm_yaml_read(struct topo_reading *);
int topo_slurm_addr_read(struct topo_reading *);

#endif
