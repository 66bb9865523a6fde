/*
 * report/figures.h - the figures, as a list.
 *
 * A new figure is a row in figures[] and the function that draws it from the tables.
 */
#ifndef SFSCALE_REPORT_FIGURES_H
#define SFSCALE_REPORT_FIGURES_H

#include "report/tables.h"

#include <stdio.h>

enum { FIGURE_COUNT = 10, FIGURE_WIDTH = 1080, FIGURE_HEIGHT = 480 };	/* pixels */

struct figure {
	const char *name;	/* of its files */
	const char *title;	/* the question that it answers */
	/* Required: the body of the script; returns NULL, or why there is nothing to draw ("": that is no news). */
	const char *(*draw)(FILE *script, const struct tables *);
	/* Optional: pixels that it needs, for a figure that grows with its table; NULL: FIGURE_WIDTH. */
	size_t (*width)(const struct tables *);
};
extern const struct figure figures[FIGURE_COUNT];

/* For those who draw.  `text` as a gnuplot string. */
void figure_quoted(FILE *, const char *text);
/* "respawn, workers=4" under the axis at x, a line for each option; returns their number. */
int figure_variant(FILE *, const char *variant, double x);
/* Lines of a figure, told apart in both. */
const char *figure_colour(size_t line);
int figure_shape(size_t line);
/* Black on light colours, white on dark ones. */
const char *figure_ink(const char *colour);

#endif
