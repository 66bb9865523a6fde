/*
 * report/feeding.h - tables of how training threads were fed: what bounds the loader, stalls and first batches by
 * epoch, the queue over time, what workers took of the machine.
 *
 * The feeds of a point are pooled over its runs that count.
 */
#ifndef SFSCALE_REPORT_FEEDING_H
#define SFSCALE_REPORT_FEEDING_H

#include "report/waiting.h"

extern const struct table_maker table_loader, table_epochs, table_queue, table_workers;

/* What bounds the loader of a point.  False: no maker said what it did. */
bool point_loader(const struct point *, struct loader_verdict *);

#endif
