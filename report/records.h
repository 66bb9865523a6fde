/*
 * report/records.h - all records of one run, read and taken apart together.
 *
 * Three passes over the ranks: match their collectives; account for every rank, its collectives split, and
 * take down what those did who are waited for; blame the waits of every rank.  What fits KEEP_BYTES is kept
 * for the next pass, events first and then accounts, which are a quarter of that; the records of other ranks are read again.  So
 * memory grows without bound only by the ranks' collectives, 16 bytes each.
 */
#ifndef SFSCALE_REPORT_RECORDS_H
#define SFSCALE_REPORT_RECORDS_H

#include "report/runs.h"

/* Windows, sums, stretches and waits of the run.  A record that is missing, damaged or of another run
 * spoils it (run_spoil) and is left out; the one failure is NO_MEMORY, which is said. */
int records_read(struct runs *all, struct run *);

#endif
