/*
 * report/waterfall.h - the figure of table loss: from what should be to what is, part by part.
 */
#ifndef SFSCALE_REPORT_WATERFALL_H
#define SFSCALE_REPORT_WATERFALL_H

#include "report/tables.h"

#include <stdio.h>

/* As in struct figure (report/figures.h). */
const char *waterfall_draw(FILE *, const struct tables *);
size_t waterfall_width(const struct tables *);

#endif
