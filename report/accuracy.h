/*
 * report/accuracy.h - what runs have learned, over the ranks that they trained with: table and figure.
 *
 * More ranks make larger steps and fewer of them.  Ranks that a process stood for (--emulate-ranks) count: their steps
 * are those of real ones, only their time is not.
 */
#ifndef SFSCALE_REPORT_ACCURACY_H
#define SFSCALE_REPORT_ACCURACY_H

#include "report/tables.h"
#include "report/waiting.h"

extern const struct table_maker table_accuracy;

/* Of the latest validation of the run; NaN: there is none, or no ground truth. */
double run_map(const struct run *);

/* As report/figures.h asks of a figure. */
const char *accuracy_draw(FILE *script, const struct tables *);

#endif
