/*
 * report/records.h - all records of one run, read and taken apart together.
 *
 * Three passes over the ranks: match their collectives; take down what those did who are waited
 * for; account for every rank, its collectives split, and blame its waits.  Records that
 * together fit KEEP_BYTES are read once, longer ones three times, so memory does not grow with
 * the number of ranks but by their collectives.
 */
#ifndef SFSCALE_REPORT_RECORDS_H
#define SFSCALE_REPORT_RECORDS_H

#include "report/runs.h"

/* Windows, sums, stretches and waits of the run.  A record that is missing, damaged or of another run
 * spoils it (run_spoil) and is left out; the one failure is NO_MEMORY, which is said. */
int records_read(struct runs *all, struct run *);

#endif
