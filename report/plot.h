/*
 * report/plot.h - figures, drawn by gnuplot from the tables.
 *
 * Each figure is one script with its data inside (NAME.gp), which anybody can run again, and
 * what gnuplot made of it: NAME.svg and NAME.png.
 */
#ifndef SFSCALE_REPORT_PLOT_H
#define SFSCALE_REPORT_PLOT_H

#include "report/figures.h"

struct plot {
	const char *name;	/* of its files */
	const char *title;	/* the question that it answers */
	const char *place;	/* a line below: of what, measured where */
	size_t width;		/* pixels */
	/* The body of the script; returns NULL, or why there is nothing to draw. */
	const char *(*draw)(FILE *script, const void *context);
	const void *context;	/* borrowed */
};

enum { PLOT_WHY_BYTES = 256 };

/* One script and its pictures, in `dir`.  FAILED (said) when that cannot be written, UNSUPPORTED (silent) when gnuplot
 * cannot be started; whenever a picture is not there `*made` is false and `why` says why not. */
int plot_make(const char *dir, const struct plot *, bool *made, char why[PLOT_WHY_BYTES]);

/* Writes scripts and pictures into `dir`; made[i] says whether both pictures of figure i are
 * there.  A picture that could not be made is a warning (row of all->warnings); FAILED only
 * when `dir` cannot be written. */
int plots_make(const char *dir, const struct tables *, const char *place, struct runs *all, bool made[FIGURE_COUNT]);

#endif
