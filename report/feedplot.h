/*
 * report/feedplot.h - figures of the loader: queues over time, and what workers cost and bring.
 */
#ifndef SFSCALE_REPORT_FEEDPLOT_H
#define SFSCALE_REPORT_FEEDPLOT_H

#include "report/tables.h"

#include <stdio.h>

/* As report/figures.h asks of a figure. */
const char *queue_draw(FILE *script, const struct tables *);	/* a line per variant, on its fewest nodes */
const char *study_draw(FILE *script, const struct tables *);	/* workers against stall (left) and ten iterations (right) */

#endif
