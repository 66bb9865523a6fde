/*
 * report/plot.h - figures, drawn by gnuplot from the tables.
 *
 * Each figure is one script with its data inside (NAME.gp), which anybody can run again, and
 * what gnuplot made of it: NAME.svg and NAME.png.
 */
#ifndef SFSCALE_REPORT_PLOT_H
#define SFSCALE_REPORT_PLOT_H

#include "report/figures.h"

/* Writes scripts and pictures into `dir`; made[i] says whether both pictures of figure i are
 * there.  A picture that could not be made is a warning (row of all->warnings); FAILED only
 * when `dir` cannot be written. */
int plots_make(const char *dir, const struct tables *, const char *place, struct runs *all, bool made[FIGURE_COUNT]);

#endif
