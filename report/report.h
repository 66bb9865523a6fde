/*
 * report/report.h - records in, answers out.
 *
 * Reads sweep folders (ledger.jsonl and the run folders that it names) and single run folders,
 * and writes tables (text, CSV, JSON), plots (SVG and PNG), a page and summary.json.  It knows
 * of a run only what its folder says.
 */
#ifndef SFSCALE_REPORT_REPORT_H
#define SFSCALE_REPORT_REPORT_H

#include <stddef.h>
#include <stdio.h>

/* Writes the report of all `dirs` into the folder `out` and its tables as text to `text` (may
 * be NULL).  Damaged or missing records are named in the report and left out of what they
 * would spoil; FAILED only when nothing could be read, or `out` cannot be written. */
int report_make(const char *const *dirs, size_t dir_count, const char *out, FILE *text);

/* One table of that report as text, and no file.  USAGE (said) when there is no such table. */
int report_table(const char *const *dirs, size_t dir_count, const char *name, FILE *text);

#endif
