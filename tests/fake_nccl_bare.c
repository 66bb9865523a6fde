/*
 * tests/fake_nccl_bare.c - a libnccl of which there is only the version, FAKE_NCCL_VERSION.
 */
#include <stdlib.h>

int ncclGetVersion(int *version);

int ncclGetVersion(int *version)
{
	const char *text = getenv("FAKE_NCCL_VERSION");

	*version = text ? atoi(text) : 0;
	return 0;
}
