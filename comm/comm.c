/*
 * comm/comm.c - the list of back ends, what can be done with any, and what the environment says of the job.
 */
#include "comm/comm.h"

#include "bench/base/err.h"
#include "bench/base/library.h"
#include "comm/backends.h"

#include <stdlib.h>
#include <string.h>

const struct comm_backend *const comm_backends[] = {
	&comm_mpi,
	&comm_null,
	NULL
};

const struct comm_backend *comm_backend_find(const char *name)
{
	for (size_t i = 0; comm_backends[i]; i++)
		if (!strcmp(comm_backends[i]->name, name))
			return comm_backends[i];
	return NULL;
}

int comm_backend_choose(const char *name, const struct comm_backend **backend)
{
	char why[LIBRARY_WHY_BYTES] = "";

	*backend = comm_backend_find(name);
	if (!*backend)
		*backend = library_table("comm", name, why);
	return *backend ? OK : err(UNSUPPORTED, "comm '%s' cannot run here: %s", name, why);
}

int comm_mean(struct comm *c, float *data, size_t count)
{
	float share = 1.0f / (float)c->world;

	if (c->world > 1)
		for (size_t i = 0; i < count; i++)
			data[i] *= share;
	return c->backend->sum(c, data, count);
}

struct comm_launch comm_launch_detect(void)
{
	/* srun sets SLURM_NTASKS for a batch script as well; only a task of a step has a SLURM_PROCID with
	 * a step of its own, which SLURM_STEP_NUM_TASKS tells. */
	static const char *const sizes[] = { "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS" };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		const char *value = getenv(sizes[i]);

		if (value)
			return (struct comm_launch){ true, strtoul(value, NULL, 10), sizes[i] };
	}
	return (struct comm_launch){ false, 1, "" };
}
