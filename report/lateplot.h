/*
 * report/lateplot.h - figures of waits: stacks of causes, from tables waits and late.
 */
#ifndef SFSCALE_REPORT_LATEPLOT_H
#define SFSCALE_REPORT_LATEPLOT_H

#include "report/tables.h"

#include <stdio.h>

/* As report/figures.h asks of a figure. */
const char *waits_draw(FILE *script, const struct tables *);	/* one bar per point */
size_t waits_width(const struct tables *);
const char *late_draw(FILE *script, const struct tables *);	/* one bar per rank, of the point with the most wait */

#endif
