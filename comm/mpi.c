/*
 * comm/mpi.c - collectives over MPI 3, in host memory.
 *
 * Every collective is started as its non-blocking form and polled.  A blocking MPI call
 * spins: on a machine where the ranks' compute threads fill the cores, a bucket that waits
 * for a late rank would slow down the very computation it waits for.  Polling starts
 * without a pause and backs off to PAUSE_MAX_NS, so a short wait costs no latency and a
 * long one no core.
 *
 * Not here: GPU buffers (Debian's Open MPI cannot take them; comm/nccl/), buckets (comm/bucket.c).
 */
#include "comm/backends.h"

#include "bench/base/clock.h"
#include "bench/base/err.h"

#include <mpi.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { SPINS = 200, PAUSE_MIN_NS = 5000, PAUSE_MAX_NS = 100000 };

static int failed(int code, const char *call)
{
	char text[MPI_MAX_ERROR_STRING] = "";
	int length;

	MPI_Error_string(code, text, &length);
	return err(RANK_FAILED, "%s: %s", call, text);
}

#define TRY_MPI(call) __extension__({ int code_ = (call); code_ ? failed(code_, #call) : OK; })

/* MPI counts in int; larger transfers go in pieces. */
enum { PIECE = 1 << 28 };

static int wait_for(const struct comm *c, MPI_Request *request)
{
	uint64_t pause_ns = PAUSE_MIN_NS;
	int done = 0;

	for (int i = 0;; i++) {
		int rc = TRY_MPI(MPI_Test(request, &done, MPI_STATUS_IGNORE));

		if (rc || done)
			return rc;
		if (c->lost)
			return RANK_FAILED;	/* has been said; MPI may still write into the buffer until the job is aborted, which is next */
		if (i < SPINS) {
			sched_yield();
			continue;
		}
		clock_sleep_ns(pause_ns);
		if (pause_ns < PAUSE_MAX_NS)
			pause_ns *= 2;
	}
}

/* Of each rank, the first rank of its host; those that are their own are the leaders. */
static int find_leaders(struct comm *c, int leader)
{
	int *of = malloc(c->world * sizeof(*of));
	size_t *leaders = malloc(c->world * sizeof(*leaders));
	int rc;

	c->host_leaders = leaders;
	if (!of || !leaders) {
		free(of);
		return err(NO_MEMORY, "no memory for the hosts of %zu ranks", c->world);
	}
	rc = TRY_MPI(MPI_Allgather(&leader, 1, MPI_INT, of, 1, MPI_INT, MPI_COMM_WORLD));
	for (size_t i = 0; !rc && i < c->world; i++) {
		if (of[i] != (int)i)
			continue;
		if (leader == (int)i)
			c->host = c->hosts;
		leaders[c->hosts++] = i;
	}
	free(of);
	return rc;
}

/* Ranks of one host share memory. */
static int find_hosts(struct comm *c)
{
	int rank, size, leader = (int)c->rank, rc;
	MPI_Comm host;

	rc = TRY_MPI(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &host));
	if (rc)
		return rc;
	MPI_Comm_rank(host, &rank);
	MPI_Comm_size(host, &size);
	rc = TRY_MPI(MPI_Bcast(&leader, 1, MPI_INT, 0, host));
	MPI_Comm_free(&host);
	c->local_rank = c->device = (size_t)rank;
	c->local_world = (size_t)size;
	return rc ? rc : find_leaders(c, leader);
}

static void mpi_close(struct comm *c)
{
	int up = 0, down = 0;

	MPI_Initialized(&up);
	MPI_Finalized(&down);
	if (up && !down)
		MPI_Finalize();
	free((void *)(uintptr_t)c->host_leaders);
	free(c);
}

static int mpi_open(struct comm **out, const struct comm_config *config)
{
	struct comm *c = calloc(1, sizeof(*c));
	int level, rank, world, rc;

	(void)config;
	if (!c)
		return err(NO_MEMORY, "no memory for a communicator");
	/* Short pauses must be short: the default slack of 50 us would round them up. */
	prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0);
	rc = TRY_MPI(MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &level));
	if (rc) {
		free(c);
		return rc;
	}
	MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	MPI_Comm_size(MPI_COMM_WORLD, &world);
	c->backend = &comm_mpi;
	c->rank = (size_t)rank;
	c->world = (size_t)world;
	if (world > 1)
		err_rank(rank);
	if (level < MPI_THREAD_SERIALIZED)
		rc = err(UNSUPPORTED, "this MPI cannot be called from more than one thread (MPI_THREAD_SERIALIZED)");
	if (!rc)
		rc = find_hosts(c);
	if (rc) {
		mpi_close(c);
		return rc;
	}
	*out = c;
	return OK;
}

static int mpi_bcast(struct comm *c, void *data, size_t bytes, size_t root)
{
	int rc = OK;

	for (size_t at = 0; at < bytes && !rc; at += PIECE) {
		int n = (int)(bytes - at < PIECE ? bytes - at : PIECE);
		MPI_Request request;

		rc = TRY_MPI(MPI_Ibcast((char *)data + at, n, MPI_BYTE, (int)root, MPI_COMM_WORLD, &request));
		if (!rc)
			rc = wait_for(c, &request);
	}
	return rc;
}

static int mpi_sum(struct comm *c, float *data, size_t count)
{
	int rc = OK;

	for (size_t at = 0; at < count && !rc; at += PIECE) {
		int n = (int)(count - at < PIECE ? count - at : PIECE);
		MPI_Request request;

		rc = TRY_MPI(MPI_Iallreduce(MPI_IN_PLACE, data + at, n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD, &request));
		if (!rc)
			rc = wait_for(c, &request);
	}
	return rc;
}

static int mpi_barrier(struct comm *c)
{
	MPI_Request request;
	int rc = TRY_MPI(MPI_Ibarrier(MPI_COMM_WORLD, &request));

	return rc ? rc : wait_for(c, &request);
}

enum { TAG = 1 };

static int mpi_send(struct comm *c, const void *data, size_t bytes, size_t to)
{
	MPI_Request request;
	int rc = TRY_MPI(MPI_Isend(data, (int)bytes, MPI_BYTE, (int)to, TAG, MPI_COMM_WORLD, &request));

	return rc ? rc : wait_for(c, &request);
}

static int mpi_recv(struct comm *c, void *data, size_t bytes, size_t from)
{
	MPI_Request request;
	int rc = TRY_MPI(MPI_Irecv(data, (int)bytes, MPI_BYTE, (int)from, TAG, MPI_COMM_WORLD, &request));

	return rc ? rc : wait_for(c, &request);
}

static void mpi_abort(struct comm *c, int status)
{
	(void)c;
	MPI_Abort(MPI_COMM_WORLD, status);
}

static int mpi_version(char *text, size_t bytes)
{
	char library[MPI_MAX_LIBRARY_VERSION_STRING] = "";
	int length;

	if (MPI_Get_library_version(library, &length))
		return FAILED;
	library[strcspn(library, ",\n")] = '\0';
	snprintf(text, bytes, "%s", library);
	return OK;
}

const struct comm_backend comm_mpi = {
	.name = "mpi",
	.meaning = "host memory, any MPI 3",
	.on_host = true,
	.open = mpi_open,
	.close = mpi_close,
	.bcast = mpi_bcast,
	.sum = mpi_sum,
	.barrier = mpi_barrier,
	.send = mpi_send,
	.recv = mpi_recv,
	.abort = mpi_abort,
	.version = mpi_version,
};
