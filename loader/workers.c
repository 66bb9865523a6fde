/*
 * loader/workers.c - see workers.h.
 *
 * `respawn` is what the study had: PyTorch's workers in a process that was itself spawned.
 * They are started one after another; each gets the whole index serialised, path by path,
 * and the next one has to wait until it has been rebuilt on the other side.  `fork` is what
 * most people have.  `persistent` is the study's cure: processes whose stream of batches does not
 * end with the epoch.  All these are dealt batches in turn, as PyTorch deals them, so one that is slow
 * holds the others up; `threads` take the next one when they are free.
 *
 * A child of a training process must not outlive it (PR_SET_PDEATHSIG), must not keep its
 * sockets open, or the death of a rank goes unseen by its peers (all descriptors are closed),
 * and never touches MPI or CUDA.  It writes into the ring and nowhere else: what went wrong
 * is said by the training process.  A fork copies one thread of possibly many, so a child
 * relies on nothing but malloc and its own files.  Children die with the *thread* that made
 * them, so the training thread makes them.
 */
#include "loader/workers.h"

#include "bench/base/clock.h"
#include "bench/base/err.h"
#include "loader/loader.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

const struct loader_policy loader_policies[] = {
	{ "inline", "the training thread makes each batch when it needs it", WORKER_NONE, false, false },
	{ "respawn", "new programs each epoch, one after another, each with a copy of the index", WORKER_SPAWN, false,
	  false },
	{ "fork", "new processes each epoch, sharing the index", WORKER_FORK, false, false },
	{ "persistent", "processes that are kept and work ahead over the end of an epoch", WORKER_FORK, true, false },
	{ "threads", "threads that are kept and work ahead over the end of an epoch", WORKER_THREAD, true, false },
	{ "null", "one batch of nothing, always ready, or after an emulated time", WORKER_NONE, false, true },
	{ 0 }
};

const struct loader_policy *loader_policy_find(const char *name)
{
	for (const struct loader_policy *p = loader_policies; p->name; p++)
		if (!strcmp(p->name, name))
			return p;
	return NULL;
}

/* ---- what a worker does ---------------------------------------------------------------- */

/* The batch that a worker makes next, having made `made` of them; from its end on: none. */
static uint32_t take(struct worker *w, size_t made)
{
	uint32_t b;

	if (!w->next)
		return w->first + (uint32_t)(w->number + made * w->step);
	b = atomic_fetch_add(w->next, 1);
	atomic_store(&w->at, b);
	return b;
}

/* `own`: the memory of the process is the worker's own. */
static int work(struct worker *w, struct batch_maker *maker, bool own)
{
	char name[16];		/* as top and gdb show it */
	size_t per_epoch = batch_plan_per_epoch(&w->ring->control->plan);
	uint32_t b;
	int rc = OK;

	snprintf(name, sizeof(name), "loader-%u", (unsigned)w->number % 10000);
	prctl(PR_SET_NAME, name);
	for (size_t made = 0; !rc && (b = take(w, made)) < w->end; made++) {
		bool last = (b + w->step) / per_epoch > b / per_epoch;
		struct usage usage = { 0 };

		/* Now: a worker that is ahead would only wait. */
		if (own && (made == 1 || last))
			usage_memory(&usage);
		if (!ring_wait_free(w->ring, b))
			break;
		rc = batch_make(maker, w->ring, b, w->number, &usage);
	}
	return rc;
}

static void *thread_main(void *arg)
{
	struct worker *w = arg;

	work(w, &w->maker, false);
	return NULL;
}

/* A process from its index to its last batch. */
static int process_main(struct worker *w)
{
	struct batch_maker maker;
	int rc = batch_maker_init(&maker, &w->ring->control->plan, w->index);

	if (rc)
		return rc;
	rc = work(w, &maker, true);
	batch_maker_release(&maker);
	return rc;
}

static void close_from(int first)
{
	long end = sysconf(_SC_OPEN_MAX);

#ifdef SYS_close_range
	if (!syscall(SYS_close_range, first, ~0u, 0))
		return;
#endif
	for (int fd = first; fd < end; fd++)
		close(fd);
}

/* Keeps the descriptors below `first`. */
static void child_settle(pid_t parent, int first)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(0);		/* it died before we asked */
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	close_from(first);
}

/* ---- starting -------------------------------------------------------------------------- */

static int start_thread(struct worker *w)
{
	sigset_t all, before;
	int rc = batch_maker_init(&w->maker, &w->ring->control->plan, w->index);

	if (rc)
		return rc;
	/* Signals are for the training thread. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(&w->thread, NULL, thread_main, w);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	w->has_thread = !rc;
	return rc ? err(FAILED, "cannot start loader worker %zu: %s", w->number, strerror(rc)) : OK;
}

static int start_fork(struct worker *w)
{
	pid_t parent = getpid(), pid;

	fflush(NULL);		/* or the child would own a copy of what is buffered */
	pid = fork();
	if (pid < 0)
		return err(FAILED, "cannot fork loader worker %zu: %s", w->number, strerror(errno));
	if (!pid) {
		child_settle(parent, STDERR_FILENO + 1);
		_exit(rc_exit(process_main(w)));
	}
	w->pid = pid;
	return OK;
}

/* What it is doing, by /proc: a word for the letter behind the name. */
static const char *state_of(pid_t pid)
{
	static const char *const words[128] = {
		['T'] = "stopped", ['t'] = "stopped by a debugger", ['D'] = "stuck in the kernel, as on dead storage",
		['S'] = "asleep", ['R'] = "running", ['Z'] = "dead",
	};
	char path[64], *text = NULL, *name_end;
	const char *word = NULL;

	snprintf(path, sizeof(path), "/proc/%ld/stat", (long)pid);
	if (!file_read(path, &text, NULL) && (name_end = strrchr(text, ')')) && name_end[1] && name_end[2] > 0)
		word = words[(size_t)name_end[2]];
	free(text);
	return word ? word : "in an unknown state";
}

static int tell_hung(struct workers *ws, const struct worker *w, const char *what, uint64_t quiet_ns)
{
	char who[64] = "thread";

	ws->hung = true;
	if (w->pid)
		snprintf(who, sizeof(who), "process %ld, %.40s", (long)w->pid, state_of(w->pid));
	return err(FAILED, "loader worker %zu (%s) hangs: for %.1f s it has %s", w->number, who,
		   (double)quiet_ns / NS_PER_S, what);
}

static int send_all(struct workers *ws, const struct worker *w, int fd, const char *data, size_t bytes)
{
	uint64_t quiet_ns = 0, limit_ns = ws->hang_ns + w->ring->control->plan.start_ns;

	while (bytes) {
		ssize_t n = send(fd, data, bytes, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN)
			return OK;	/* it is gone, which workers_check() tells */
		quiet_ns = n < 0 ? quiet_ns + WORKERS_LOOK_NS : 0;
		if (ws->hang_ns && quiet_ns >= limit_ns)
			return tell_hung(ws, w, "taken nothing of its index", quiet_ns);
		if (n > 0) {
			data += n;
			bytes -= (size_t)n;
		}
	}
	shutdown(fd, SHUT_WR);
	return OK;
}

/* Serialises the index, for this worker alone, and sends it. */
static int send_index(struct workers *ws, const struct worker *w, int fd, struct lane *lane)
{
	char *text = NULL;
	size_t bytes;
	FILE *f = open_memstream(&text, &bytes);
	uint64_t begin = clock_ticks();
	int rc;

	if (!f)
		return err(NO_MEMORY, "no memory to serialise the index");
	rc = ava_index_write(w->index, f);
	if (fclose(f) && !rc)
		rc = err(NO_MEMORY, "no memory to serialise the index");
	span_put(lane, SPAN_WORKERS_INDEX, begin, clock_ticks(), lane ? lane->iter : 0, 0, w->number);
	if (!rc)
		rc = send_all(ws, w, fd, text, bytes);
	free(text);
	return rc;
}

enum { CHILD_RING_FD = STDERR_FILENO + 1 };

static int spawn(struct worker *w, int index_fd)
{
	char number[24], step[24], first[24], end[24], parent[24];
	char *argv[] = { "sfscale", "loader-worker", number, step, first, end, parent, NULL };
	posix_spawn_file_actions_t files;
	int rc;

	snprintf(number, sizeof(number), "%zu", w->number);
	snprintf(step, sizeof(step), "%zu", w->step);
	snprintf(first, sizeof(first), "%u", w->first);
	snprintf(end, sizeof(end), "%u", w->end);
	snprintf(parent, sizeof(parent), "%ld", (long)getpid());
	if (posix_spawn_file_actions_init(&files))
		return err(NO_MEMORY, "no memory to start loader worker %zu", w->number);
	/* In this order: the second may take the number of the first one's source. */
	rc = posix_spawn_file_actions_adddup2(&files, index_fd, STDIN_FILENO);
	if (!rc)
		rc = posix_spawn_file_actions_adddup2(&files, w->ring->fd, CHILD_RING_FD);
	if (!rc)
		rc = posix_spawn(&w->pid, "/proc/self/exe", &files, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&files);
	if (!rc)
		return OK;
	w->pid = 0;
	return err(FAILED, "cannot start loader worker %zu: %s", w->number, strerror(rc));
}

static int start_spawn(struct workers *ws, struct worker *w, struct lane *lane)
{
	static const struct timeval look = { .tv_usec = WORKERS_LOOK_NS / 1000 };
	_Atomic uint32_t *up = &w->ring->control->up;
	uint64_t quiet_ns = 0, limit_ns = ws->hang_ns + w->ring->control->plan.start_ns;
	int pair[2], rc;
	uint32_t seen;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return err(FAILED, "cannot make a socket for loader worker %zu: %s", w->number, strerror(errno));
	setsockopt(pair[0], SOL_SOCKET, SO_SNDTIMEO, &look, sizeof(look));
	rc = spawn(w, pair[1]);
	close(pair[1]);
	if (!rc)
		rc = send_index(ws, w, pair[0], lane);
	close(pair[0]);
	while (!rc && (seen = atomic_load(up)) <= w->number) {
		ring_futex_wait(up, seen, WORKERS_LOOK_NS);
		if (atomic_load(up) <= w->number)
			rc = workers_check(ws);
		quiet_ns += WORKERS_LOOK_NS;
		if (!rc && ws->hang_ns && quiet_ns >= limit_ns && atomic_load(up) <= w->number)
			rc = tell_hung(ws, w, "not come up", quiet_ns);
	}
	if (!rc)
		span_put(lane, SPAN_WORKERS_INDEX, atomic_load(&w->ring->control->rebuild_ticks), clock_ticks(),
			 lane ? lane->iter : 0, 0, w->number);
	return rc;
}

int workers_start(struct workers *ws, enum worker_kind kind, size_t count, uint32_t first, uint32_t end,
		  const struct ring *ring, const struct ava_index *index, uint64_t hang_ns, struct lane *lane)
{
	int rc = OK;

	*ws = (struct workers){ .kind = kind, .hang_ns = hang_ns, .next = first, .expected = UINT32_MAX,
				.all = calloc(count, sizeof(*ws->all)) };
	if (!ws->all)
		return err(NO_MEMORY, "no memory for %zu loader workers", count);
	atomic_store(&ring->control->up, 0);
	atomic_store(&ring->control->stop, 0);
	for (size_t k = 0; k < count && !rc; k++) {
		struct worker *w = &ws->all[ws->count++];

		*w = (struct worker){ .number = k, .step = count, .first = first, .end = end, .ring = ring, .index = index,
				      .next = kind == WORKER_THREAD ? &ws->next : NULL, .at = UINT32_MAX };
		rc = kind == WORKER_THREAD ? start_thread(w) : kind == WORKER_FORK ? start_fork(w) : start_spawn(ws, w, lane);
	}
	return rc;
}

/* ---- ending ---------------------------------------------------------------------------- */

/* The batch that worker `w` still owes; its `end` when it has made them all, or gave up and said why in
 * the slot of a batch. */
static uint32_t owed(const struct worker *w)
{
	uint32_t released = atomic_load(&w->ring->control->released), b = w->first + (uint32_t)w->number;

	while (b < w->end && b < released)
		b += (uint32_t)w->step;
	while (b < w->end && ring_is_ready(w->ring, b)) {
		if (ring_batch(w->ring, b).slot->failed)
			return w->end;
		b += (uint32_t)w->step;
	}
	return b < w->end ? b : w->end;
}

static int tell(const struct worker *w, int status)
{
	uint32_t b = owed(w);
	struct batch_place at = batch_plan_place(&w->ring->control->plan, b);
	char how[96];

	if (b == w->end)
		return OK;
	if (WIFSIGNALED(status))
		snprintf(how, sizeof(how), "was killed by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
	else
		snprintf(how, sizeof(how), "ended with exit status %d", WEXITSTATUS(status));
	return err(FAILED, "loader worker %zu (process %ld) %s before batch %zu of epoch %zu", w->number, (long)w->pid,
		   how, at.iteration, at.epoch);
}

void workers_expect(struct workers *ws, uint32_t b)
{
	ws->expected = b;
	ws->quiet_ns = 0;
}

/* Whose batch `b` is; NULL: a thread is about to take it. */
static const struct worker *maker_of(const struct workers *ws, uint32_t b)
{
	if (ws->kind != WORKER_THREAD)
		return &ws->all[(b - ws->all->first) % ws->count];
	for (size_t k = 0; k < ws->count; k++)
		if (atomic_load(&ws->all[k].at) == b)
			return &ws->all[k];
	return NULL;
}

/* Looks are counted, not time: while we are stopped ourselves nobody hangs. */
static int check_progress(struct workers *ws)
{
	const struct worker *w = maker_of(ws, ws->expected);
	uint32_t beat;

	if (!w)
		return OK;
	beat = atomic_load_explicit(&ring_batch(w->ring, ws->expected).slot->beat, memory_order_relaxed);
	ws->quiet_ns = beat == ws->beat ? ws->quiet_ns + WORKERS_LOOK_NS : 0;
	ws->beat = beat;
	return ws->hang_ns && ws->quiet_ns >= ws->hang_ns ? tell_hung(ws, w, "read no frame of the batch that is due", ws->quiet_ns)
							  : OK;
}

int workers_check(struct workers *ws)
{
	int rc = OK;

	for (size_t k = 0; k < ws->count && !rc && ws->kind != WORKER_THREAD; k++) {
		struct worker *w = &ws->all[k];
		int status = 0;		/* stays when somebody else has buried it */
		pid_t got = w->pid ? waitpid(w->pid, &status, WNOHANG) : 0;

		if (!got || (got < 0 && errno == EINTR))
			continue;
		rc = tell(w, status);
		w->pid = 0;
	}
	return !rc && ws->expected != UINT32_MAX ? check_progress(ws) : rc;
}

/* Waits for the end of a process that was killed or is about to leave; helps when it does not. */
static void bury(const struct workers *ws, pid_t pid)
{
	enum { NAP_NS = 100000 };
	uint64_t waited_ns = 0, killed_ns = 2 * (uint64_t)NS_PER_S;
	bool killed = ws->hung;
	pid_t got;

	while (!(got = waitpid(pid, NULL, WNOHANG)) || (got < 0 && errno == EINTR)) {
		if (ws->hang_ns && waited_ns >= (killed ? killed_ns : ws->hang_ns)) {
			if (killed)
				return;		/* not even that: it is stuck in the kernel, and dies when that lets it */
			kill(pid, SIGKILL);
			killed = true;
			waited_ns = 0;
		}
		clock_sleep_ns(NAP_NS);
		waited_ns += NAP_NS;
	}
}

/* False: it hangs. */
static bool join(const struct workers *ws, struct worker *w)
{
	struct timespec until;

	if (!ws->hung)
		return !pthread_join(w->thread, NULL);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec++;
	return !pthread_timedjoin_np(w->thread, NULL, &until);
}

bool workers_stop(struct workers *ws)
{
	bool gone = true;

	if (ws->kind == WORKER_THREAD && ws->count)
		ring_stop(ws->all[0].ring);
	for (size_t k = 0; k < ws->count; k++)
		if (ws->all[k].pid && owed(&ws->all[k]) < ws->all[k].end)
			kill(ws->all[k].pid, SIGKILL);
	for (size_t k = 0; k < ws->count; k++) {
		struct worker *w = &ws->all[k];

		if (w->pid)
			bury(ws, w->pid);
		if (w->has_thread && !join(ws, w))
			gone = false;
		else
			batch_maker_release(&w->maker);
	}
	if (!gone)
		return false;
	free(ws->all);
	*ws = (struct workers){ 0 };
	return true;
}

/* ---- the program that `respawn` starts ------------------------------------------------- */

/* On a core, as an interpreter that reads its modules. */
static void pretend_to_start(uint64_t ns)
{
	uint64_t begin = clock_ns();

	while (clock_ns() - begin < ns)
		;
}

int loader_worker_main(int argc, char **argv)
{
	struct ava_index index;
	struct worker w = { .index = &index };
	struct ring ring;
	long parent;
	int rc;

	if (argc != 5 || sscanf(argv[0], "%zu", &w.number) != 1 || sscanf(argv[1], "%zu", &w.step) != 1 ||
	    sscanf(argv[2], "%u", &w.first) != 1 || sscanf(argv[3], "%u", &w.end) != 1 ||
	    sscanf(argv[4], "%ld", &parent) != 1 || !w.step)
		return err(USAGE, "'loader-worker' is started by the loader, not by people");
	child_settle((pid_t)parent, CHILD_RING_FD + 1);
	rc = ring_attach(&ring, CHILD_RING_FD);
	if (rc)
		return rc;
	w.ring = &ring;
	pretend_to_start(ring.control->plan.start_ns);
	atomic_store(&ring.control->rebuild_ticks, clock_ticks());
	rc = ava_index_rebuild(&index, stdin);
	if (!rc) {
		atomic_fetch_add(&ring.control->up, 1);
		ring_futex_wake(&ring.control->up);
		rc = process_main(&w);
		ava_index_release(&index);
	}
	ring_close(&ring);
	return rc;
}
