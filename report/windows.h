/*
 * report/windows.h - the record of one rank becomes part of its run.
 */
#ifndef SFSCALE_REPORT_WINDOWS_H
#define SFSCALE_REPORT_WINDOWS_H

#include "bench/base/record.h"
#include "report/runs.h"

/* Adds windows, sums and stretches of rank `rank` to the run; events are renumbered in place.
 * `path` is for messages.  A record that is damaged or of another run spoils the run (run_spoil)
 * and still counts as far as it reaches; the one failure is NO_MEMORY, which is said. */
int windows_add(struct runs *all, struct run *, size_t rank, struct record *, const char *path);

#endif
