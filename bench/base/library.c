/*
 * bench/base/library.c - see library.h.
 *
 * The object calls back into the program (err() and its like), which therefore exports its symbols; its own are hidden,
 * but for the tables of its back ends.  It stays open until the process ends: CUDA registers handlers for that moment.
 */
#include "bench/base/library.h"

#include "bench/base/err.h"
#include "bench/base/file.h"

#include <dlfcn.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Only a file that is there is tried, so that the reason is that of the one which should have worked. */
static void *open_library(char why[LIBRARY_WHY_BYTES])
{
	static const char *const below[] = { "", "../lib/" };
	char program[PATH_BYTES] = "", path[PATH_BYTES + 64];
	ssize_t n = readlink("/proc/self/exe", program, sizeof(program) - 1);
	const char *folder = n > 0 ? dirname(program) : ".", *name = LIBRARY_CUDA;
	void *library;

	for (size_t i = 0; i < ARRAY_LEN(below) && name != path; i++) {
		snprintf(path, sizeof(path), "%s/%s" LIBRARY_CUDA, folder, below[i]);
		if (!access(path, F_OK))
			name = path;
	}
	library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
	if (!library)
		snprintf(why, LIBRARY_WHY_BYTES, "%s", dlerror());
	return library;
}

const void *library_table(const char *kind, const char *name, char why[LIBRARY_WHY_BYTES])
{
	static void *library;
	const void *table;
	char symbol[64];

	if (!library)
		library = open_library(why);
	snprintf(symbol, sizeof(symbol), "sfscale_%s_%s", kind, name);
	table = library ? dlsym(library, symbol) : NULL;
	if (library && !table)
		snprintf(why, LIBRARY_WHY_BYTES, "'" LIBRARY_CUDA "' has no '%s': it is of another version", symbol);
	return table;
}
