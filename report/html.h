/*
 * report/html.h - the page: sentences, figures, tables, and what every column means.
 *
 * One file without scripts and without anything from outside but the figures beside it; it
 * follows the reader's light or dark mode and can be printed.
 */
#ifndef SFSCALE_REPORT_HTML_H
#define SFSCALE_REPORT_HTML_H

#include "report/plot.h"

/* `summary` as report/summary.h says; `warnings` may be empty. */
void html_print(FILE *, const cJSON *summary, const struct tables *, const struct table *warnings);

#endif
