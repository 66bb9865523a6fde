/*
 * tests/fake_nccl.c - a libnccl for ranks of one host whose device memory is the heap's (tests/emulated/): what comm/nccl calls,
 * as non-blocking as the real one, over a file in the folder FAKE_NCCL_DIR that is unlinked when all have it open.
 *
 * A collective is enqueued when the communicator has been asked twice whether it is.  It begins when its stream gets there, is
 * done by a thread that sleeps first, so that who does not wait for it computes with what was there before, and holds up the
 * stream until that is through.  It proves what comm/nccl does with NCCL's answers, and nothing about NCCL.
 *
 * FAKE_NCCL_VERSION=30100    is what ncclGetVersion() says
 * FAKE_NCCL_FAIL=1:3         the third collective of rank 1 ends with ncclRemoteError
 * FAKE_NCCL_STOP=1:3         and that one never comes to it
 */
#include <fcntl.h>
#include <nccl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/emulated/emulated.h"

enum { RANKS_MAX = 8, PIECE_BYTES = 1 << 14 };

static struct shared {
	atomic_int arrived, round;
	_Alignas(16) char pieces[RANKS_MAX][PIECE_BYTES];
} none;

/* What a stream is given; `job` is NULL until it gets there. */
struct collective {
	struct ncclComm *comm;
	char *data;
	size_t bytes;
	int root;		/* -1: mean of floats; -2: sum of bf16 */
	struct job *job;
};

struct job {
	struct collective what;
	atomic_bool over;
};

/* Never freed: streams and graphs may still speak of it. */
struct ncclComm {
	struct ncclComm *next;
	struct shared *shared;
	int rank, world, enlisted, collectives;
	char path[NCCL_UNIQUE_ID_BYTES];
	pthread_t thread;
	bool running;		/* there is a thread to join */
	atomic_bool aborted;
	atomic_bool busy;	/* with a collective */
	atomic_int state;	/* ncclResult_t */
	void (*work)(struct ncclComm *);	/* what the thread does */
	struct collective next_one;	/* not enqueued yet, on: */
	cudaStream_t stream;	/* NULL: nothing */
	int asked;
};
static struct ncclComm *all;

static bool meet(struct ncclComm *c)
{
	int round = c->shared->round;

	if (atomic_fetch_add(&c->shared->arrived, 1) + 1 == c->world) {
		c->shared->arrived = 0;
		c->shared->round++;
	}
	while (c->shared->round == round && !c->aborted)
		usleep(50);
	return !c->aborted;
}

static void *run(void *arg)
{
	struct ncclComm *c = arg;

	usleep(2000);
	c->work(c);
	return NULL;
}

static ncclResult_t start(struct ncclComm *c, void (*work)(struct ncclComm *))
{
	if (c->state == ncclInProgress)
		return ncclInvalidUsage;
	if (c->running)
		pthread_join(c->thread, NULL);
	c->state = ncclInProgress;
	c->work = work;
	c->running = !pthread_create(&c->thread, NULL, run, c);
	return c->running ? ncclInProgress : ncclSystemError;
}

static ncclResult_t end(struct ncclComm *c)
{
	if (c->running)
		pthread_join(c->thread, NULL);
	c->running = false;
	return ncclSuccess;
}

ncclResult_t ncclGetVersion(int *version)
{
	const char *text = getenv("FAKE_NCCL_VERSION");

	*version = text ? atoi(text) : NCCL_VERSION_CODE;
	return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t r)
{
	return r == ncclRemoteError ? "remote error" : r == ncclInvalidUsage ? "invalid usage" : "another error";
}

const char *ncclGetLastError(ncclComm_t c)
{
	return c && c->state == ncclRemoteError ? "the cable was pulled" : "";
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
	const char *dir = getenv("FAKE_NCCL_DIR");
	int fd;

	snprintf(id->internal, sizeof(id->internal), "%s/%d", dir ? dir : "/tmp", (int)getpid());
	fd = open(id->internal, O_RDWR | O_CREAT | O_EXCL, 0600);
	if (fd < 0 || ftruncate(fd, sizeof(none)))
		return ncclSystemError;
	close(fd);
	return ncclSuccess;
}

static void joined(struct ncclComm *c)
{
	if (meet(c) && c->rank == 0)
		unlink(c->path);
	c->state = ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *comm, int world, ncclUniqueId id, int rank, ncclConfig_t *config)
{
	int fd = open(id.internal, O_RDWR);
	struct ncclComm *c = calloc(1, sizeof(*c));

	if (fd < 0 || !c || world > RANKS_MAX || config->magic != 0xcafebeef || config->blocking != 0)
		return ncclInvalidArgument;
	c->next = all;
	all = c;
	c->rank = rank;
	c->world = world;
	c->shared = mmap(NULL, sizeof(none), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	memcpy(c->path, id.internal, sizeof(c->path));
	*comm = c;
	return start(c, joined);
}

static bool run_collective(void *arguments);

ncclResult_t ncclCommGetAsyncError(ncclComm_t c, ncclResult_t *state)
{
	if (c->stream && c->asked++) {
		const cudaStream_t stream = c->stream;

		c->stream = NULL;
		atomic_compare_exchange_strong(&c->state, &(int){ ncclInProgress }, ncclSuccess);
		((const struct emulated_stream *)(const void *)stream)->enqueue(stream, run_collective, &c->next_one, sizeof(c->next_one));
	}
	*state = (ncclResult_t)c->state;
	return ncclSuccess;
}

static void finalized(struct ncclComm *c)
{
	while (c->busy && !c->aborted)
		usleep(50);
	meet(c);
	c->state = ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t c)
{
	if (c->enlisted) {
		fprintf(stderr, "fake: %d buffers are still registered\n", c->enlisted);
		return ncclInvalidUsage;
	}
	return start(c, finalized);
}

ncclResult_t ncclCommDestroy(ncclComm_t c)
{
	return c->state == ncclSuccess ? end(c) : ncclInvalidUsage;
}

ncclResult_t ncclCommAbort(ncclComm_t c)
{
	c->aborted = true;
	return end(c);
}

static float from_bf16(uint16_t bits)
{
	const uint32_t wide = (uint32_t)bits << 16;
	float v;

	memcpy(&v, &wide, sizeof(v));
	return v;
}

/* To nearest even. */
static uint16_t to_bf16(float v)
{
	uint32_t wide;

	memcpy(&wide, &v, sizeof(wide));
	return (uint16_t)((wide + 0x7fff + (wide >> 16 & 1)) >> 16);
}

/* In the order of ranks, so that all have the same bits. */
static void combine(const struct collective *w, char *to, size_t bytes)
{
	const struct ncclComm *c = w->comm;
	float *means = (float *)(void *)to;
	uint16_t *sums = (uint16_t *)(void *)to;

	if (w->root >= 0) {
		memcpy(to, c->shared->pieces[w->root], bytes);
		return;
	}
	memset(to, 0, bytes);
	for (int r = 0; r < c->world; r++) {
		const void *piece = c->shared->pieces[r];

		for (size_t i = 0; w->root == -1 && i < bytes / sizeof(*means); i++)
			means[i] += ((const float *)piece)[i] * (1.0f / (float)c->world);
		for (size_t i = 0; w->root == -2 && i < bytes / sizeof(*sums); i++)
			sums[i] = to_bf16(from_bf16(sums[i]) + from_bf16(((const uint16_t *)piece)[i]));
	}
}

static bool is_named(const struct ncclComm *c, const char *variable)
{
	const char *text = getenv(variable);
	int rank, nth;

	return text && sscanf(text, "%d:%d", &rank, &nth) == 2 && rank == c->rank && nth == c->collectives;
}

static void collective(const struct collective *w)
{
	struct ncclComm *c = w->comm;

	c->collectives++;
	while (is_named(c, "FAKE_NCCL_STOP") && !c->aborted)
		usleep(1000);
	if (is_named(c, "FAKE_NCCL_FAIL")) {
		c->state = ncclRemoteError;
		return;
	}
	for (size_t at = 0; at < w->bytes; at += PIECE_BYTES) {
		size_t n = w->bytes - at < PIECE_BYTES ? w->bytes - at : PIECE_BYTES;

		memcpy(c->shared->pieces[c->rank], w->data + at, n);
		if (!meet(c))
			return;
		combine(w, w->data + at, n);
		if (!meet(c))
			return;
	}
}

static void *run_job(void *arg)
{
	struct job *j = arg;
	struct ncclComm *c = j->what.comm;

	usleep(2000);
	collective(&j->what);
	c->busy = false;
	j->over = true;
	return NULL;
}

/* The item of a stream.  One communicator does one thing at a time, on however many streams. */
static bool run_collective(void *arguments)
{
	struct collective *w = arguments;
	struct ncclComm *c = w->comm;
	pthread_t thread;
	bool over;

	if (!w->job) {
		if (c->aborted || c->state == ncclRemoteError)
			return true;
		if (atomic_exchange(&c->busy, true))
			return false;
		w->job = calloc(1, sizeof(*w->job));
		if (!w->job)
			abort();
		w->job->what = *w;
		if (pthread_create(&thread, NULL, run_job, w->job))
			abort();
		pthread_detach(thread);
	}
	over = w->job->over;
	if (over) {
		free(w->job);
		w->job = NULL;
	}
	return over;
}

/* Callers must ask before they go on, as they must of the real one. */
static ncclResult_t enqueue(struct ncclComm *c, void *data, size_t bytes, int root, cudaStream_t stream)
{
	if (c->state != ncclSuccess)
		return c->state == ncclInProgress ? ncclInvalidUsage : (ncclResult_t)c->state;
	c->next_one = (struct collective){ .comm = c, .data = data, .bytes = bytes, .root = root };
	c->stream = stream;
	c->asked = 0;
	c->state = ncclInProgress;
	return ncclInProgress;
}

ncclResult_t ncclAllReduce(const void *from, void *to, size_t count, ncclDataType_t type, ncclRedOp_t op, ncclComm_t c,
			   cudaStream_t stream)
{
	if (from == to && type == ncclFloat && op == ncclAvg && stream)
		return enqueue(c, to, count * sizeof(float), -1, stream);
	if (from == to && type == ncclBfloat16 && op == ncclSum && stream)
		return enqueue(c, to, count * sizeof(uint16_t), -2, stream);
	return ncclInvalidArgument;
}

ncclResult_t ncclBroadcast(const void *from, void *to, size_t count, ncclDataType_t type, int root, ncclComm_t c,
			   cudaStream_t stream)
{
	if (from != to || type != ncclChar || !stream)
		return ncclInvalidArgument;
	return enqueue(c, to, count, root, stream);
}

ncclResult_t ncclCommRegister(const ncclComm_t c, void *data, size_t bytes, void **handle)
{
	if (!data || !bytes)
		return ncclInvalidArgument;
	*handle = data;
	c->enlisted++;
	return ncclSuccess;
}

ncclResult_t ncclCommDeregister(const ncclComm_t c, void *handle)
{
	if (!handle)
		return ncclInvalidArgument;
	c->enlisted--;
	return ncclSuccess;
}
