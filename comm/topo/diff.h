/*
 * comm/topo/diff.h - what two runs chose differently, the largest communicator of each.
 *
 * Rings are compared from rank 0 on, so a rotation is no difference; NICs by name.
 */
#ifndef SFSCALE_COMM_TOPO_DIFF_H
#define SFSCALE_COMM_TOPO_DIFF_H

#include "bench/base/table.h"
#include "comm/topo/model.h"

/* Fills a table of aspects; returns how many differ. */
size_t topo_diff(struct table *, const struct topo_model *a, const struct topo_model *b);

#endif
