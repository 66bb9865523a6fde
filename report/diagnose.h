/*
 * report/diagnose.h - what stands out, in words, worst first.
 *
 * A finding is a cost in per cent of the time of the point where it is worst, the sentence that says so,
 * the command that shows it, and what to try.  What costs less than DIAGNOSE_PERCENT is none, so
 * that "nothing stands out" is an answer.
 */
#ifndef SFSCALE_REPORT_DIAGNOSE_H
#define SFSCALE_REPORT_DIAGNOSE_H

#include "report/curve.h"

#include <stdio.h>

#define DIAGNOSE_PERCENT 2.0

struct finding {
	const char *name;	/* of its rule */
	double cost_percent;	/* of the time of its point; of a finding of severity error: 100 */
	bool error;		/* something is broken, not slow */
	char *what, *evidence, *advice;	/* owned */
};

struct findings {
	struct finding *at;	/* owned; worst first */
	size_t count;
};

/* `dirs` as on the command line, for the commands that show the evidence. */
int findings_make(struct findings *, const struct curve *, const struct runs *, const char *dirs);
void findings_release(struct findings *);
bool findings_error(const struct findings *);

void findings_print(const struct findings *, FILE *);
/* An array of objects; owned by the caller. */
cJSON *findings_json(const struct findings *);

#endif
