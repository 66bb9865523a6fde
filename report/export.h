/*
 * report/export.h - chosen iterations and ranks of a run as a trace for people to look at.
 *
 * Every rank is a process, every lane a thread: the spans as recorded, a collective with what of it is wait and wire, and
 * the account of report/decompose as a lane of its own, so that what one sees is what the tables sum.
 * A flow joins the ranks of each collective, in the order in which they came.  Times are those of
 * the common clock, since the run's first epoch began on its earliest rank.
 *
 * Chosen are the spans that carry a chosen iteration, the windows of those iterations, and of an epoch's first one
 * the boundary before it.  What a device that runs behind its host does late lies under a later window.
 */
#ifndef SFSCALE_REPORT_EXPORT_H
#define SFSCALE_REPORT_EXPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct export_choice {
	const char *iterations;	/* "A:B", both included; NULL: the first 10 */
	const char *ranks;	/* "0,3,8-11"; NULL: all */
};

struct export_sum {
	size_t ranks, iterations, slices, flows;
	size_t left_out;	/* spans that lie across too many others */
	char flaw[512];		/* of the run; "": none */
};

/* `file` appears when it is whole.  USAGE (said) for iterations and ranks that the run has not; FAILED for a folder that holds no
 * run, and for a chosen rank without a record that can be used. */
int export_perfetto(const char *dir, const char *file, const struct export_choice *, struct export_sum *);

#endif
