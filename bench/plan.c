/*
 * bench/plan.c - see plan.h.
 *
 * kernels/ knows tensors and the order of backward, comm/ knows sizes and limits; here they meet.
 */
#include "bench/plan.h"

#include "bench/base/err.h"

#include <stdlib.h>
#include <string.h>

int plan_buckets(struct bucket_plan *plan, const struct net *net, const char *layout, uint64_t first_bytes,
		 uint64_t limit_bytes)
{
	enum bucket_layout which = !strcmp(layout, "static") ? BUCKET_STATIC
				   : !strcmp(layout, "rebuilt") ? BUCKET_REBUILT : BUCKET_SIZE;
	struct bucket_tensor *tensors = calloc(net->param_count, sizeof(*tensors));
	int rc;

	if (!tensors)
		return err(NO_MEMORY, "no memory for the buckets of %zu tensors", net->param_count);
	for (size_t i = 0; i < net->param_count; i++)
		tensors[i] = (struct bucket_tensor){ net->params[i].count, net->params[i].ready };
	rc = bucket_plan_init(plan, tensors, net->param_count, which, first_bytes, limit_bytes);
	free(tensors);
	return rc;
}
