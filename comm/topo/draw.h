/*
 * comm/topo/draw.h - the ring over hosts, NICs and leaves, and the load of each NIC, as SVG by gnuplot.
 */
#ifndef SFSCALE_COMM_TOPO_DRAW_H
#define SFSCALE_COMM_TOPO_DRAW_H

#include "comm/topo/rules.h"

/* Writes ring.gp and nics.gp into `folder`, and runs gnuplot on them for ring.svg and nics.svg.  Without
 * gnuplot the scripts remain, and a warning says so. */
int topo_draw(const struct topo_judging *, const char *folder);

#endif
