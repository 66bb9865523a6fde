/*
 * kernels/kernels.c - the list of back ends.
 */
#include "kernels/kernels.h"

#include "bench/base/err.h"
#include "kernels/backends.h"

#include <string.h>

const struct kernel_backend *const kernel_backends[] = {
	&kernel_cpu,
	&kernel_null,
	NULL
};

const struct kernel_backend *kernel_backend_find(const char *name)
{
	for (size_t i = 0; kernel_backends[i]; i++)
		if (!strcmp(kernel_backends[i]->name, name))
			return kernel_backends[i];
	return NULL;
}

int kernel_backend_choose(const char *name, const struct kernel_backend **backend)
{
	char why[256] = "";

	*backend = kernel_backend_find(name);
	if (!*backend)
		return err(UNSUPPORTED, "kernels '%s' are not built in", name);
	if ((*backend)->probe(why, sizeof(why)))
		return err(UNSUPPORTED, "kernels '%s' cannot run here: %s", name, why);
	return OK;
}
