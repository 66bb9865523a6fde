/*
 * comm/nccl/library.h - libnccl, opened by path and never linked: builds are compared by naming them (run --nccl).
 *
 * The functions that we call and no others, with the types that this build's nccl.h gives them; NCCL keeps those within a
 * major version.
 */
#ifndef SFSCALE_COMM_NCCL_LIBRARY_H
#define SFSCALE_COMM_NCCL_LIBRARY_H

#include "bench/base/file.h"

/* Its header declares functions as C++ does. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wstrict-prototypes"
#include <nccl.h>
#pragma GCC diagnostic pop

struct nccl_library {
	int version;		/* NCCL_VERSION_CODE of the file, not of nccl.h */
	char file[PATH_BYTES];	/* that was opened, without links */
	__typeof__(ncclGetVersion) *get_version;
	__typeof__(ncclGetErrorString) *error_string;
	__typeof__(ncclGetLastError) *last_error;
	__typeof__(ncclGetUniqueId) *get_unique_id;
	__typeof__(ncclCommInitRankConfig) *init_rank;
	__typeof__(ncclCommGetAsyncError) *async_error;
	__typeof__(ncclCommFinalize) *finalize;
	__typeof__(ncclCommDestroy) *destroy;
	__typeof__(ncclCommAbort) *abort;
	__typeof__(ncclAllReduce) *all_reduce;
	__typeof__(ncclBroadcast) *broadcast;
	/* Optional, from 2.19 on, which older headers do not declare either. */
	ncclResult_t (*enlist)(ncclComm_t, void *buffer, size_t bytes, void **handle);
	ncclResult_t (*delist)(ncclComm_t, void *handle);
};

/* `name`: a path, or what the loader looks for.  UNSUPPORTED, said: there is none, it is of another major version than
 * nccl.h, or lacks a function.  It stays open until the process ends. */
int nccl_library_open(struct nccl_library *, const char *name);

/* 22809: "2.28.9" */
enum { NCCL_VERSION_BYTES = 24 };
void nccl_version_text(int version, char text[NCCL_VERSION_BYTES]);

#endif
