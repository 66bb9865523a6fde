/*
 * comm/nccl/nccl.c - gradients over NCCL, in device memory; everything else over the MPI back end underneath.
 *
 * A job of this back end is MPI's, whose table gets three functions more.  MPI carries NCCL's bootstrap too: first each rank
 * tells which library it has opened and on which GPU it is, so that what cannot work is a sentence and no hang; then rank
 * 0's unique id goes round.
 *
 * The communicator is non-blocking: every call returns at once, and is waited for by asking the communicator for its state.
 * What it has enqueued is done when its stream is, which somebody asks for now and then (comm/lane.h).  So a peer that died,
 * or a network that does not answer, is found by NCCL's own word or by the timeout, whichever comes first.  A communicator that
 * failed is aborted and nothing else: its kernels leave, the rank says what NCCL said, and its caller ends the job.
 *
 * NCCL has a stream of its own with the highest priority, so that its few blocks are not queued behind those of backward.
 * A collective's span on that stream begins when the stream has come to it: when this rank's gradients are there, and the
 * collectives before it are done.
 *
 * Several ranks on one GPU are refused by NCCL itself unless they look like ranks of different nodes; how to look so is the
 * recipe below.  What it gives are real rings, over loopback sockets.
 */
#include "comm/nccl/library.h"

#include "bench/base/clock.h"
#include "bench/base/err.h"
#include "comm/backends.h"
#include "kernels/cuda/gradient.h"
#include "kernels/cuda/timeline.h"

#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* As in comm/mpi.c. */
enum { SPINS = 200, PAUSE_NS = 10000 };
/* ncclCommAbort() was seen to hang (NVIDIA/nccl issues 863, 992, 1013).  The launcher ends the job of a process that dies.  One that
 * goes on in a thread of its own is not waited for: MPI_Abort() comes next. */
enum { ABORT_S = 10 };
enum { ENLISTED_MAX = 16, BUS_BYTES = 24 };
enum { SPANS = 4096 };	/* collectives of two iterations, and more */
enum { WATCHED = 256 };	/* when more are under way the last ones are not looked after by themselves */

/* A process has one. */
static struct nccl {
	pthread_mutex_t lock;		/* of all below: the training thread and the lane's both come */
	struct comm_backend backend;	/* MPI's, and what is ours; the job's table */
	struct nccl_library lib;
	ncclComm_t comm;		/* NULL: not there yet, or aborted */
	cudaStream_t stream;
	struct cuda_timeline *timeline;
	struct collective {
		const char *call;
		cudaEvent_t reached, done;	/* by the stream */
	} watched[WATCHED];		/* those under way, in turn: the number n lies at n modulo WATCHED */
	size_t enqueued, finished;	/* counts of them */
	uint64_t since_ns;		/* the first that is not done has been reached since then; 0: it has not */
	cudaEvent_t mark;		/* the latest */
	int device;
	double timeout_s;
	bool bf16;
	struct block {
		char *data;
		size_t bytes;		/* 0: a free place */
		void *half;		/* its gradients in bf16, on their way; owned; NULL: they travel as they are */
		void *handle;		/* NCCL's, of what travels; NULL: it was not asked, or does not enlist */
	} blocks[ENLISTED_MAX];
} nccl = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* ---- the library's answers ------------------------------------------------------------- */

/* Ends the communicator, with the words of whoever knows. */
static int gone(const char *call, ncclResult_t r)
{
	const char *more = nccl.lib.last_error(nccl.comm);
	int rc;

	if (r == ncclInProgress)
		rc = err(RANK_FAILED, "%s: not done after %g s (--nccl-timeout-s): another rank has died, or is not there, or cannot be reached",
			 call, nccl.timeout_s);
	else
		rc = err(r == ncclRemoteError ? RANK_FAILED : FAILED, "%s: %s%s%s", call, nccl.lib.error_string(r), more && *more ? ": " : "",
			 more ? more : "");
	if (nccl.comm) {
		alarm(ABORT_S);
		nccl.lib.abort(nccl.comm);
		alarm(0);
	}
	nccl.comm = NULL;
	return rc;
}

static bool is_late(uint64_t since_ns)
{
	return (double)(clock_ns() - since_ns) > 1e9 * nccl.timeout_s;
}

/* NCCL's word on how it goes. */
static ncclResult_t state(void)
{
	ncclResult_t r;

	return nccl.lib.async_error(nccl.comm, &r) == ncclSuccess ? r : ncclInternalError;
}

/* Waits until NCCL is done on the host with the call that returned `r`: what it enqueues is then enqueued. */
static int finish(const char *call, ncclResult_t r)
{
	const uint64_t start = clock_ns();

	for (uint64_t i = 0;; i++) {
		if (r == ncclSuccess || r == ncclInProgress)
			r = state();
		if (r == ncclSuccess)
			return OK;
		if (r != ncclInProgress)
			return gone(call, r);
		if (is_late(start))
			return gone(call, ncclInProgress);
		if (i < SPINS)
			sched_yield();
		else
			clock_sleep_ns(PAUSE_NS);
	}
}

/* ---- setting up ------------------------------------------------------------------------ */

/* Each rank a node of its own, on one GPU: node names that differ, sockets over loopback and nothing faster, and little of
 * everything, because all kernels of all ranks must be on the GPU at once. */
static const struct { const char *name, *value; } one_gpu[] = {
	{ "NCCL_SOCKET_IFNAME", "lo" },
	{ "NCCL_NET", "Socket" },
	{ "NCCL_IB_DISABLE", "1" },
	{ "NCCL_MNNVL_ENABLE", "0" },
	{ "NCCL_NVLS_ENABLE", "0" },
	{ "NCCL_CUMEM_ENABLE", "0" },
	{ "NCCL_MIN_NCHANNELS", "2" },
	{ "NCCL_MAX_NCHANNELS", "2" },
	{ "NCCL_BUFFSIZE", "1048576" },
	{ "NCCL_NSOCKS_PERTHREAD", "1" },
	{ "NCCL_SOCKET_NTHREADS", "1" },
	{ "NCCL_RAS_ENABLE", "0" },
};

/* NCCL reads its variables when it is used first.  Those that the user has set stay, but for the node's name. */
static int set_environment(struct comm *c, const struct comm_config *config)
{
	char node[48];

	setenv("NCCL_RUNTIME_CONNECT", "0", 0);	/* else rings are made, and logged, by the first collective */
	if (!config->one_device)
		return OK;
	if (c->hosts > 1)
		return err(USAGE, "--one-gpu is for ranks of one host; here are %zu", c->hosts);
	c->device = 0;
	snprintf(node, sizeof(node), "sfscale-%zu", c->rank);
	setenv("NCCL_HOSTID", node, 1);
	for (size_t i = 0; i < ARRAY_LEN(one_gpu); i++)
		setenv(one_gpu[i].name, one_gpu[i].value, 0);
	return OK;
}

/* What a rank has, as all others see it. */
struct member {
	size_t host;
	char bus[BUS_BYTES];	/* of its GPU: what NCCL tells GPUs of a host apart by */
	int version;
	char file[512];
};

static int choose_device(const struct comm *c, struct member *me)
{
	int count = 0, rc = TRY_CUDA(cudaGetDeviceCount(&count));

	if (!rc && !count)
		rc = err(UNSUPPORTED, "no GPU on this host");
	if (rc)
		return rc;
	nccl.device = (int)(c->device % (size_t)count);
	rc = TRY_CUDA(cudaSetDevice(nccl.device));
	return rc ? rc : TRY_CUDA(cudaDeviceGetPCIBusId(me->bus, sizeof(me->bus), nccl.device));
}

/* Each rank speaks of itself. */
static int compare_members(const struct comm *c, const struct member *all, bool one_device)
{
	const struct member *me = &all[c->rank];
	char mine[NCCL_VERSION_BYTES], theirs[NCCL_VERSION_BYTES];

	nccl_version_text(me->version, mine);
	nccl_version_text(all[0].version, theirs);
	if (me->version != all[0].version)
		return err(UNSUPPORTED, "NCCL here is %s ('%s') and on rank 0 %s ('%s'): one job wants one version (--nccl)", mine, me->file,
			   theirs, all[0].file);
	for (size_t i = 0; i < c->rank && !one_device; i++)
		if (all[i].host == me->host && !strcmp(all[i].bus, me->bus))
			return err(USAGE, "GPU '%s' of this host is rank %zu's: NCCL wants one for each rank (--one-gpu, whose times mean "
				   "nothing, does without)", me->bus, i);
	return OK;
}

/* All ranks go on, or none does: the one that does not ends the job while the others wait in the barrier. */
static int meet(struct comm *c, const struct member *me, bool one_device)
{
	struct member *all = calloc(c->world, sizeof(*all));
	int rc = all ? OK : err(NO_MEMORY, "no memory for what %zu ranks have", c->world);

	for (size_t i = 0; i < c->world && !rc; i++) {
		if (i == c->rank)
			all[i] = *me;
		rc = c->backend->bcast(c, &all[i], sizeof(all[i]), i);
	}
	if (!rc)
		rc = compare_members(c, all, one_device);
	free(all);
	return rc ? rc : c->backend->barrier(c);
}

static int make_communicator(struct comm *c)
{
	ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
	ncclResult_t r = ncclSuccess;
	ncclUniqueId id;
	int rc;

	if (c->rank == 0)
		r = nccl.lib.get_unique_id(&id);
	if (r != ncclSuccess)
		return gone("ncclGetUniqueId", r);
	rc = c->backend->bcast(c, &id, sizeof(id), 0);
	config.blocking = 0;
	if (!rc) {
		r = nccl.lib.init_rank(&nccl.comm, (int)c->world, id, (int)c->rank, &config);
		rc = finish("ncclCommInitRankConfig", r);
	}
	return rc;
}

static int make_stream(void)
{
	int least, greatest;
	int rc = TRY_CUDA(cudaDeviceGetStreamPriorityRange(&least, &greatest));

	if (!rc)
		rc = TRY_CUDA(cudaStreamCreateWithPriority(&nccl.stream, cudaStreamNonBlocking, greatest));
	if (!rc)
		rc = TRY_CUDA(cudaEventCreateWithFlags(&nccl.mark, cudaEventDisableTiming));
	for (size_t i = 0; i < WATCHED && !rc; i++) {
		rc = TRY_CUDA(cudaEventCreateWithFlags(&nccl.watched[i].reached, cudaEventDisableTiming));
		if (!rc)
			rc = TRY_CUDA(cudaEventCreateWithFlags(&nccl.watched[i].done, cudaEventDisableTiming));
	}
	return rc ? rc : cuda_timeline_open(&nccl.timeline, SPANS);
}

static int set_up(struct comm *c, const struct comm_config *config)
{
	struct member me = { .host = c->host };
	int rc = set_environment(c, config);

	if (!rc)
		rc = nccl_library_open(&nccl.lib, config->library);
	me.version = nccl.lib.version;
	snprintf(me.file, sizeof(me.file), "%.*s", (int)sizeof(me.file) - 1, nccl.lib.file);
	if (!rc)
		rc = choose_device(c, &me);
	if (!rc)
		rc = meet(c, &me, config->one_device);
	if (!rc)
		rc = make_communicator(c);
	return rc ? rc : make_stream();
}

/* ---- the table ------------------------------------------------------------------------- */

/* A call of the table, until leave().  The current device is the calling thread's own: the lane's was never set. */
static int enter(void)
{
	pthread_mutex_lock(&nccl.lock);
	if (!nccl.comm)
		return RANK_FAILED;	/* has been said */
	return TRY_CUDA(cudaSetDevice(nccl.device));
}

static int leave(int rc)
{
	pthread_mutex_unlock(&nccl.lock);
	return rc;
}

static bool is_done(cudaEvent_t event)
{
	return cuda_asked(cudaEventQuery(event)) == cudaSuccess;
}

static struct collective *collective_at(size_t number)
{
	return &nccl.watched[number % WATCHED];
}

/* What goes before and behind a collective on the stream. */
static int collective_begin(struct comm *c, enum span_id id, const char *call, size_t bytes)
{
	struct collective *w = collective_at(nccl.enqueued);
	int rc = enter();

	if (!rc && nccl.enqueued - nccl.finished < WATCHED) {
		w->call = call;
		rc = TRY_CUDA(cudaEventRecord(w->reached, nccl.stream));
	}
	return rc ? rc : cuda_timeline_begin(nccl.timeline, c->device_lane, id, bytes, nccl.stream);
}

static int collective_end(const char *call, ncclResult_t r)
{
	int rc = finish(call, r);

	if (!rc)
		rc = cuda_timeline_end(nccl.timeline, nccl.stream);
	if (!rc && nccl.enqueued - nccl.finished < WATCHED)
		rc = TRY_CUDA(cudaEventRecord(collective_at(nccl.enqueued++)->done, nccl.stream));
	return leave(rc);
}

static int nccl_bcast_device(struct comm *c, void *data, size_t bytes, size_t root)
{
	const char *call = "ncclBroadcast";
	int rc = collective_begin(c, SPAN_BCAST_BN, call, bytes);

	return rc ? leave(rc) : collective_end(call, nccl.lib.broadcast(data, data, bytes, ncclChar, (int)root, nccl.comm, nccl.stream));
}

static struct block *block_of(const void *data)
{
	struct block *b = nccl.blocks;

	while (b < nccl.blocks + ENLISTED_MAX && !(b->data <= (const char *)data && (const char *)data < b->data + b->bytes))
		b++;
	return b < nccl.blocks + ENLISTED_MAX ? b : NULL;
}

/* Of floats, NCCL's average multiplies by 1 / world before it sums, as comm_mean() does. */
static int mean_as_is(float *data, size_t count)
{
	const char *call = "ncclAllReduce";

	return collective_end(call, nccl.lib.all_reduce(data, data, count, ncclFloat, ncclAvg, nccl.comm, nccl.stream));
}

/* The share is taken in float, so that a gradient is rounded once before it is summed. */
static int mean_in_bf16(const struct comm *c, float *data, size_t count)
{
	const char *call = "ncclAllReduce";
	const struct block *b = block_of(data);
	char *half = b ? (char *)b->half + ((char *)data - b->data) / 2 : NULL;
	int rc = b ? cuda_shorten(data, count, 1.0f / (float)c->world, half, nccl.stream) :
		     err(FAILED, "gradients in bf16 lie in no block that was enlisted");

	if (!rc)
		rc = finish(call, nccl.lib.all_reduce(half, half, count, ncclBfloat16, ncclSum, nccl.comm, nccl.stream));
	if (!rc)
		rc = cuda_lengthen(half, count, data, nccl.stream);
	return rc ? leave(rc) : collective_end(call, ncclSuccess);
}

static int nccl_mean_device(struct comm *c, float *data, size_t count)
{
	int rc = collective_begin(c, SPAN_ALLREDUCE, "ncclAllReduce", count * (nccl.bf16 ? sizeof(*data) / 2 : sizeof(*data)));

	if (rc)
		return leave(rc);
	return nccl.bf16 ? mean_in_bf16(c, data, count) : mean_as_is(data, count);
}

static int nccl_follow_device(struct comm *c, void *event)
{
	int rc = enter();

	(void)c;
	return leave(rc ? rc : TRY_CUDA(cudaStreamWaitEvent(nccl.stream, event, 0)));
}

static int nccl_mark_device(struct comm *c, void **event)
{
	int rc = enter();

	(void)c;
	*event = nccl.mark;
	return leave(rc ? rc : TRY_CUDA(cudaEventRecord(nccl.mark, nccl.stream)));
}

/* Backward may take its time; what NCCL may is counted for each collective from when the stream has come to it. */
static int look(bool *done)
{
	const struct collective *w = collective_at(nccl.finished);
	const ncclResult_t r = state();
	cudaError_t e;

	if (r != ncclSuccess && r != ncclInProgress)
		return gone(w->call ? w->call : "NCCL", r);
	while (nccl.finished < nccl.enqueued && is_done(collective_at(nccl.finished)->done)) {
		nccl.finished++;
		nccl.since_ns = 0;
	}
	w = collective_at(nccl.finished);
	e = cuda_asked(cudaStreamQuery(nccl.stream));
	*done = e == cudaSuccess;
	if (e && e != cudaErrorNotReady)
		return cuda_check(e, w->call ? w->call : "NCCL", __FILE__, __LINE__);
	if (nccl.finished == nccl.enqueued || !is_done(w->reached))
		nccl.since_ns = 0;
	else if (!nccl.since_ns)
		nccl.since_ns = clock_ns();
	else if (is_late(nccl.since_ns))
		return gone(w->call, ncclInProgress);
	return OK;
}

static int nccl_poll_device(struct comm *c, bool *done)
{
	int rc = enter();

	(void)c;
	*done = false;
	return leave(rc ? rc : look(done));
}

static int nccl_collect_device(struct comm *c)
{
	int rc = enter();

	(void)c;
	return leave(rc ? rc : cuda_timeline_collect(nccl.timeline));
}

/* What travels is registered with NCCL, where it can be. */
static int enlist(struct block *b)
{
	void *travels;
	int rc = nccl.bf16 ? TRY_CUDA(cudaMalloc(&b->half, b->bytes / 2)) : OK;

	travels = b->half ? b->half : b->data;
	if (rc || !nccl.lib.enlist || !nccl.lib.delist)
		return rc;
	return finish("ncclCommRegister", nccl.lib.enlist(nccl.comm, travels, b->half ? b->bytes / 2 : b->bytes, &b->handle));
}

/* Blocks beyond ENLISTED_MAX are summed like any memory, through NCCL's own buffers. */
static int nccl_enlist_device(struct comm *c, void *data, size_t bytes)
{
	struct block *b = nccl.blocks;
	int rc = enter();

	(void)c;
	while (b < nccl.blocks + ENLISTED_MAX && b->bytes)
		b++;
	if (rc || b == nccl.blocks + ENLISTED_MAX)
		return leave(rc);
	*b = (struct block){ .data = data, .bytes = bytes };
	return leave(enlist(b));
}

static void nccl_delist_device(struct comm *c, void *data)
{
	int rc = enter();
	struct block *b = block_of(data);

	(void)c;
	if (b && b->handle && !rc)
		finish("ncclCommDeregister", nccl.lib.delist(nccl.comm, b->handle));
	if (b) {
		cudaFree(b->half);
		*b = (struct block){ .data = NULL };
	}
	leave(rc);
}

static void nccl_close(struct comm *c)
{
	if (nccl.comm && !finish("ncclCommFinalize", nccl.lib.finalize(nccl.comm)))
		nccl.lib.destroy(nccl.comm);
	if (nccl.stream)
		cudaStreamSynchronize(nccl.stream);
	cuda_timeline_close(nccl.timeline);
	if (nccl.mark)
		cudaEventDestroy(nccl.mark);
	for (size_t i = 0; i < WATCHED; i++) {
		if (nccl.watched[i].reached)
			cudaEventDestroy(nccl.watched[i].reached);
		if (nccl.watched[i].done)
			cudaEventDestroy(nccl.watched[i].done);
	}
	if (nccl.stream)
		cudaStreamDestroy(nccl.stream);
	nccl = (struct nccl){ .lock = PTHREAD_MUTEX_INITIALIZER };
	comm_mpi.close(c);
}

static int nccl_version(char *text, size_t bytes)
{
	char version[NCCL_VERSION_BYTES];

	nccl_version_text(nccl.lib.version, version);
	snprintf(text, bytes, "%s, %s", version, nccl.lib.file);
	return OK;
}

static int nccl_open(struct comm **out, const struct comm_config *config);

__attribute__((visibility("default"))) extern const struct comm_backend sfscale_comm_nccl;
/* Until it is open; then the rest is MPI's. */
const struct comm_backend sfscale_comm_nccl = {
	.name = "nccl",
	.meaning = "device memory, libnccl by path",
	.on_device = true,
	.takes_bf16 = true,
	.open = nccl_open,
	.close = nccl_close,
	.version = nccl_version,
	.bcast_device = nccl_bcast_device,
	.mean_device = nccl_mean_device,
	.follow_device = nccl_follow_device,
	.mark_device = nccl_mark_device,
	.poll_device = nccl_poll_device,
	.collect_device = nccl_collect_device,
	.enlist_device = nccl_enlist_device,
	.delist_device = nccl_delist_device,
};

static int nccl_open(struct comm **out, const struct comm_config *config)
{
	struct comm *c;
	int rc = comm_mpi.open(&c, config);

	if (rc)
		return rc;
	nccl.timeout_s = config->timeout_s;
	nccl.bf16 = config->bf16;
	rc = set_up(c, config);
	if (rc) {
		/* The others are in a collective with us, or will be. */
		if (c->world > 1)
			comm_mpi.abort(c, rc_exit(rc));
		nccl_close(c);
		return rc;
	}
	nccl.backend = sfscale_comm_nccl;
	nccl.backend.bcast = comm_mpi.bcast;
	nccl.backend.sum = comm_mpi.sum;
	nccl.backend.barrier = comm_mpi.barrier;
	nccl.backend.send = comm_mpi.send;
	nccl.backend.recv = comm_mpi.recv;
	nccl.backend.abort = comm_mpi.abort;
	nccl.backend.host = &comm_mpi;
	c->backend = &nccl.backend;
	*out = c;
	return OK;
}
