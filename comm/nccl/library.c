/*
 * comm/nccl/library.c - see library.h.
 *
 * The version is asked for first: a library of another major version may lack functions for that reason, or have others
 * under the same name.
 */
#include "comm/nccl/library.h"

#include "bench/base/err.h"

#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define AT(member) offsetof(struct nccl_library, member)

static const struct function {
	const char *name;
	size_t at;
	bool optional;
} functions[] = {
	{ "ncclGetVersion", AT(get_version), false },
	{ "ncclGetErrorString", AT(error_string), false },
	{ "ncclGetLastError", AT(last_error), false },
	{ "ncclGetUniqueId", AT(get_unique_id), false },
	{ "ncclCommInitRankConfig", AT(init_rank), false },
	{ "ncclCommGetAsyncError", AT(async_error), false },
	{ "ncclCommFinalize", AT(finalize), false },
	{ "ncclCommDestroy", AT(destroy), false },
	{ "ncclCommAbort", AT(abort), false },
	{ "ncclAllReduce", AT(all_reduce), false },
	{ "ncclBroadcast", AT(broadcast), false },
	{ "ncclCommRegister", AT(enlist), true },
	{ "ncclCommDeregister", AT(delist), true },
};

/* Versions up to 2.8 have two digits less. */
static int major(int version)
{
	return version < 10000 ? version / 1000 : version / 10000;
}

void nccl_version_text(int version, char text[NCCL_VERSION_BYTES])
{
	int below = version - major(version) * (version < 10000 ? 1000 : 10000);

	snprintf(text, NCCL_VERSION_BYTES, "%d.%d.%d", major(version), below / 100, below % 100);
}

static int find_file(struct nccl_library *l)
{
	char file[PATH_BYTES];
	Dl_info info;

	if (!dladdr((const void *)(uintptr_t)l->get_version, &info) || !realpath(info.dli_fname, file))
		return err(FAILED, "cannot tell from which file NCCL comes");
	memcpy(l->file, file, sizeof(file));
	return OK;
}

static int check_version(struct nccl_library *l)
{
	char theirs[NCCL_VERSION_BYTES], ours[NCCL_VERSION_BYTES];

	if (l->get_version(&l->version) != ncclSuccess)
		return err(UNSUPPORTED, "'%s' does not tell its version", l->file);
	nccl_version_text(l->version, theirs);
	nccl_version_text(NCCL_VERSION_CODE, ours);
	if (major(l->version) != NCCL_MAJOR)
		return err(UNSUPPORTED, "'%s' is NCCL %s; this program was built for %s and takes other versions %d", l->file, theirs, ours,
			   NCCL_MAJOR);
	return OK;
}

int nccl_library_open(struct nccl_library *l, const char *name)
{
	void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL), *address;
	const char *missing = NULL;
	int rc;

	*l = (struct nccl_library){ 0 };
	if (!library)
		return err(UNSUPPORTED, "cannot open NCCL (--nccl): %s", dlerror());
	for (size_t i = ARRAY_LEN(functions); i-- > 0;) {
		const struct function *f = &functions[i];

		address = dlsym(library, f->name);
		memcpy((char *)l + f->at, &address, sizeof(address));
		if (!address && !f->optional)
			missing = f->name;
	}
	if (!l->get_version)
		return err(UNSUPPORTED, "'%s' is no NCCL: it has no '%s'", name, missing);
	rc = find_file(l);
	if (!rc)
		rc = check_version(l);
	return rc || !missing ? rc : err(UNSUPPORTED, "'%s' lacks '%s': NCCL 2.14 or later is wanted", l->file, missing);
}
