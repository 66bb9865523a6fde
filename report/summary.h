/*
 * report/summary.h - what the tables say in words, and what must be known to trust them.
 *
 *   { "schema": 1, "version": of this program, "place": text,
 *     "headlines": [ a sentence per variant on its speed, one on its loss, one per step to more nodes whose
 *                    cause grows with scale: computed from the same points as the tables ],
 *     "rules": [ how things were counted ],
 *     "identity": { "windows_checked", "windows_unequal": numbers, "parts_equal_wall": bool },
 *     "iterations": { "total", "steady", "first_of_epoch": per rank, over the runs that count },
 *     "overhead": { "pair_ns", "next_ns": worst run, "events", "share_percent" },
 *     "measured": { "versions", "builds", "cpus": [ texts ], "libraries", "options": as far as all runs agree },
 *     "figures": [ { "name", "title", "made": bool } ],
 *     "tables": { name: { "title", "fields": [...], "rows": [...] } } }
 */
#ifndef SFSCALE_REPORT_SUMMARY_H
#define SFSCALE_REPORT_SUMMARY_H

#include "report/plot.h"

enum { SUMMARY_SCHEMA = 1 };

/* "1, 2, 4 emulated nodes, one host, 2 cores", from the places of all runs; owned by the caller. */
char *summary_place(const struct runs *);

/* Owned by the caller. */
cJSON *summary_make(const struct runs *, const struct curve *, const struct tables *, const char *place,
		    const bool figures_made[FIGURE_COUNT]);

#endif
