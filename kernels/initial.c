/*
 * kernels/initial.c - PySlowFast's rules of initialisation, fvcore's "msra fill" for convolutions.
 *
 * Each parameter has a stream of its own, so they may be filled in any order and by any
 * number of threads.  The last batch norm of every residual branch starts at zero: each
 * block then starts as its shortcut.
 */
#include "kernels/initial.h"

#include "bench/base/rng.h"

#include <math.h>
#include <string.h>

static bool ends_with(const char *text, const char *end)
{
	size_t n = strlen(text), m = strlen(end);

	return n >= m && !strcmp(text + n - m, end);
}

static double deviation(const struct net_param *p)
{
	if (p->group == PARAM_CONV)	/* sqrt(2 / fan_out), fan_out = Cout kT kH kW */
		return sqrt(2.0 / (double)(p->dims[0] * p->dims[2] * p->dims[3] * p->dims[4]));
	return p->group == PARAM_FC && p->rank == 2 ? 0.01 : 0;
}

void initial_weights(const struct net *net, size_t index, uint64_t seed, float *plain)
{
	const struct net_param *p = &net->params[index];
	const double std = deviation(p);
	const bool scale = p->group == PARAM_BN && ends_with(p->name, ".weight");
	const float constant = scale && !ends_with(p->name, "branch2.c_bn.weight") ? 1 : 0;
	struct rng rng;

	rng_init(&rng, seed, index);
	for (size_t i = 0; i < p->count; i++)
		plain[i] = std > 0 ? (float)(std * rng_normal(&rng)) : constant;
}
