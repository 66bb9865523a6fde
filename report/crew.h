/*
 * report/crew.h - one piece of work for each rank, on all cores, taken in in order.
 */
#ifndef SFSCALE_REPORT_CREW_H
#define SFSCALE_REPORT_CREW_H

#include <stddef.h>

/* work() runs for every index below `count`, several at a time, and leaves its result in `part`
 * (`part_bytes`, zeroed before); take() then gets it, one at a time and in ascending order, whatever the
 * order in which they were done.  Both return an rc; after the first failure no more work is begun,
 * and it is returned.  take() runs for every part whose work() ran, and releases it. */
struct crew {
	int (*work)(void *context, size_t index, void *part);
	int (*take)(void *context, size_t index, void *part, int rc);	/* rc: of work() */
	void *context;
	size_t count, part_bytes;
};
int crew_run(const struct crew *);

#endif
