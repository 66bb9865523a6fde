/*
 * bench/made.c - see made.h.
 */
#include "bench/made.h"

#include "bench/base/err.h"
#include "bench/base/file.h"
#include "bench/base/folder.h"
#include "bench/base/record.h"

#include <stdio.h>
#include <stdlib.h>

enum { LANE_TRAIN, LANE_COMM, LANE_GPU, LANE_COPY };	/* bench/base/folder.h */
enum { UNSAID_MAX = 2 * (MADE_BUCKETS_MAX * 2 + 8) };	/* of two iterations */

struct made_rank {
	int64_t at, lane_free;
	int64_t work;			/* until when the device has work, with one: else `at` is */
	int64_t copied, loss;		/* when it has the input, and the loss */
	uint32_t seq[2];
	struct event unsaid[UNSAID_MAX];	/* of the device, still to be said */
	size_t unsaid_count;
};

struct made_state {
	const struct made *plan;
	struct made_rank *ranks;
	uint32_t iter;
};

static int64_t made_delay(const struct made_state *s, int rank, enum span_id id)
{
	return s->plan->delay ? s->plan->delay(s->plan->context, rank, (int)s->iter, id) : 0;
}

static int64_t later(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

/* What the device did before this iteration. */
static void made_say(struct made_state *s, int rank)
{
	struct made_rank *k = &s->ranks[rank];
	size_t kept = 0;

	for (size_t i = 0; i < k->unsaid_count; i++)
		if (k->unsaid[i].iter < s->iter)
			s->plan->sink(s->plan->context, rank, &k->unsaid[i]);
		else
			k->unsaid[kept++] = k->unsaid[i];
	k->unsaid_count = kept;
}

static void made_event(struct made_state *s, int rank, struct event e)
{
	const struct made *m = s->plan;
	struct made_rank *k = &s->ranks[rank];
	int64_t shift = m->shift ? m->shift(m->context, rank) : 0;

	e.t0 += shift;
	e.t1 += shift;
	e.iter = s->iter;
	e.seq = e.kind == KIND_COLLECTIVE ? k->seq[e.lane]++ : 0;
	if (m->device && e.lane != LANE_TRAIN)
		k->unsaid[k->unsaid_count++] = e;
	else
		m->sink(m->context, rank, &e);
}

static void made_put(struct made_state *s, int rank, enum span_id id, int lane, int64_t t0, int64_t t1, uint64_t arg)
{
	made_event(s, rank, (struct event){ .t0 = t0, .t1 = t1, .arg = arg, .name = id, .lane = (uint16_t)lane,
					    .kind = (uint8_t)span_rows[id].kind, .cls = (uint8_t)span_rows[id].cls });
}

/* A phase of the training thread. */
static void made_phase(struct made_state *s, int rank, enum span_id id, int64_t ns, uint64_t arg)
{
	struct made_rank *r = &s->ranks[rank];
	int64_t t0 = r->at;

	r->at += ns + made_delay(s, rank, id);
	made_put(s, rank, id, LANE_TRAIN, t0, r->at, arg);
}

/* The training thread hands a phase to the device, which cannot begin it before. */
static void made_launch(struct made_state *s, int rank, enum span_id id, uint64_t arg)
{
	struct made_rank *k = &s->ranks[rank];
	int64_t t0 = k->at;

	k->at += s->plan->launch + (id == SPAN_FWD ? made_delay(s, rank, (enum span_id)MADE_LAUNCH) : 0);
	k->work = later(k->work, k->at);
	made_event(s, rank, (struct event){ .t0 = t0, .t1 = k->at, .arg = arg, .name = id, .kind = KIND_RANGE, .cls = CLS_LAUNCH });
}

/* A phase of whoever computes. */
static void made_work(struct made_state *s, int rank, enum span_id id, int64_t ns, uint64_t arg)
{
	struct made_rank *k = &s->ranks[rank];
	int64_t t0;

	if (!s->plan->device) {
		made_phase(s, rank, id, ns, arg);
		return;
	}
	made_launch(s, rank, id, arg);
	ns += made_delay(s, rank, id);
	if (id == SPAN_H2D) {	/* beside what the device still computes, which then unpacks */
		k->copied = later(k->copied, k->at) + ns;
		made_put(s, rank, id, LANE_COPY, k->copied - ns, k->copied, arg);
		k->work = later(k->work, k->copied);
		ns = s->plan->launch;
	}
	t0 = k->work;
	k->work += ns;
	made_put(s, rank, id, LANE_GPU, t0, k->work, arg);
}

/* The clock that runs while whoever computes works. */
static int64_t *made_clock(const struct made_state *s, int rank)
{
	return s->plan->device ? &s->ranks[rank].work : &s->ranks[rank].at;
}

static void made_collective(struct made_state *s, enum span_id id, int64_t ns, uint64_t bytes)
{
	bool of_device = s->plan->device && id == SPAN_BCAST_BN, alone = id == SPAN_BCAST_BN && !s->plan->bcast_holds;
	int64_t open = INT64_MIN;		/* of a broadcast: when the root comes */

	ns += made_delay(s, 0, id);		/* a slow network is slow for all */
	for (int r = 0; r < s->plan->ranks; r++) {
		if (of_device)
			made_launch(s, r, id, bytes);
		if (!r || !alone)
			open = later(open, of_device ? s->ranks[r].work : s->ranks[r].at);
	}
	for (int r = 0; r < s->plan->ranks; r++) {
		int64_t *clock = of_device ? &s->ranks[r].work : &s->ranks[r].at, t0 = *clock;

		*clock = later(t0, open) + ns;
		made_put(s, r, id, of_device ? LANE_COMM : LANE_TRAIN, t0, *clock, bytes);
	}
}

/* All buckets, once their ready times (by rank) are known. */
static void made_buckets(struct made_state *s, const int64_t *ready)
{
	const struct made *m = s->plan;
	int64_t ns = m->wire + made_delay(s, 0, SPAN_ALLREDUCE);

	for (int b = 0; b < m->buckets; b++) {
		int64_t open = INT64_MIN;

		for (int r = 0; r < m->ranks; r++) {
			struct made_rank *k = &s->ranks[r];

			k->lane_free = later(k->lane_free, m->no_overlap ? *made_clock(s, r) : ready[b * m->ranks + r]);	/* now: when it comes */
			open = later(open, k->lane_free);
		}
		for (int r = 0; r < m->ranks; r++) {
			made_put(s, r, SPAN_ALLREDUCE, LANE_COMM, s->ranks[r].lane_free, open + ns, 1000 + (uint64_t)b);
			s->ranks[r].lane_free = open + ns;
		}
	}
	for (int r = 0; r < m->ranks; r++) {
		int64_t t0 = s->ranks[r].at, *clock = made_clock(s, r);

		*clock = m->buckets ? later(*clock, s->ranks[r].lane_free) : *clock;
		made_put(s, r, SPAN_DRAIN, LANE_TRAIN, t0, s->ranks[r].at, 0);
	}
}

/* The training thread waits for the device. */
static void made_sync(struct made_state *s, int rank, int64_t until)
{
	struct made_rank *k = &s->ranks[rank];
	int64_t t0 = k->at;

	k->at = later(t0, until) + made_delay(s, rank, SPAN_SYNC);
	made_put(s, rank, SPAN_SYNC, LANE_TRAIN, t0, k->at, 0);
}

static void made_iteration(struct made_state *s, bool first, int64_t *ready)
{
	const struct made *m = s->plan;

	for (int r = 0; r < m->ranks; r++) {
		made_phase(s, r, SPAN_LOAD, first ? m->first_load : m->load, 0);
		made_work(s, r, SPAN_H2D, m->copy, 0);
	}
	made_collective(s, SPAN_BCAST_BN, m->bcast, 64);
	for (int r = 0; r < m->ranks; r++) {
		made_work(s, r, SPAN_FWD, m->fwd, 0);
		s->ranks[r].loss = s->ranks[r].work;
		for (int b = 0; b < m->buckets; b++) {
			made_work(s, r, SPAN_BWD, m->bwd, (uint64_t)b);
			ready[b * m->ranks + r] = *made_clock(s, r);
		}
	}
	made_buckets(s, ready);
	for (int r = 0; r < m->ranks; r++) {
		made_work(s, r, SPAN_OPT, m->opt, 0);
		if (m->device)
			made_sync(s, r, s->ranks[r].loss);
	}
	made_collective(s, SPAN_LOSS_ALLREDUCE, m->loss_wire, 4);
	for (int r = 0; r < m->ranks; r++) {
		made_phase(s, r, SPAN_LOG, m->log, 0);
		made_say(s, r);
	}
}

void made_run(const struct made *m)
{
	struct made_state s = { .plan = m, .ranks = calloc((unsigned)m->ranks, sizeof(*s.ranks)) };
	int64_t *ready = calloc((unsigned)m->ranks * (size_t)MADE_BUCKETS_MAX, sizeof(*ready));

	for (int r = 0; r < m->ranks; r++)
		s.ranks[r].at = 1000000000;
	for (int e = 0; e < m->epochs; e++) {
		for (int r = 0; r < m->ranks; r++) {
			int64_t begin = s.ranks[r].at;

			made_phase(&s, r, SPAN_WORKERS_START, m->boundary, 0);
			made_put(&s, r, SPAN_EPOCH_BEGIN, LANE_TRAIN, begin, s.ranks[r].at, (uint64_t)e);
		}
		for (int i = 0; i < m->iterations; i++, s.iter++)
			made_iteration(&s, !i, ready);
	}
	for (int r = 0; r < m->ranks; r++) {
		if (m->device)
			made_sync(&s, r, s.ranks[r].work);
		made_say(&s, r);
		made_put(&s, r, SPAN_RUN_END, LANE_TRAIN, s.ranks[r].at, s.ranks[r].at, 0);
	}
	free(ready);
	free(s.ranks);
}

/* ---- as a run folder ------------------------------------------------------------------- */

enum { MADE_BLOCK_EVENTS = 512 };

struct made_folder {
	const struct made *plan;
	struct made_file {
		struct record_writer out;
		struct event block[MADE_BLOCK_EVENTS];
		size_t count;
	} *files;		/* owned; by rank */
	size_t events;
	int rc;
};

static int64_t made_folder_delay(const void *context, int rank, int iteration, enum span_id id)
{
	const struct made *plan = ((const struct made_folder *)context)->plan;

	return plan->delay ? plan->delay(plan->context, rank, iteration, id) : 0;
}

static int64_t made_folder_shift(const void *context, int rank)
{
	const struct made *plan = ((const struct made_folder *)context)->plan;

	return plan->shift ? plan->shift(plan->context, rank) : 0;
}

static void made_file_flush(struct made_folder *f, int rank)
{
	struct made_file *file = &f->files[rank];

	if (file->count && !f->rc)
		f->rc = record_write(&file->out, RECORD_EVENTS, file->block, file->count * sizeof(file->block[0]), file->count);
	f->events += file->count;
	file->count = 0;
}

static void made_folder_sink(void *context, int rank, const struct event *e)
{
	struct made_folder *f = context;
	struct made_file *file = &f->files[rank];

	file->block[file->count++] = *e;
	if (file->count == MADE_BLOCK_EVENTS)
		made_file_flush(f, rank);
}

static int made_file_open(struct made_folder *f, const char *dir, int rank, int node)
{
	static const char *const lanes[] = { "train", "comm", "gpu", "copy" };
	cJSON *head = cJSON_CreateObject(), *names = cJSON_AddArrayToObject(head, "names");
	struct made_file *file = &f->files[rank];
	char text[PATH_BYTES];
	int rc;

	cJSON_AddNumberToObject(head, "rank", rank);
	cJSON_AddNumberToObject(head, "world", f->plan->ranks);
	cJSON_AddNumberToObject(head, "node", node);
	snprintf(text, sizeof(text), "boot %d", node);
	cJSON_AddStringToObject(head, "boot_id", text);
	for (int i = 0; i < SPAN_COUNT; i++)
		cJSON_AddItemToArray(names, cJSON_CreateString(span_rows[i].name));
	cJSON_AddItemToObject(head, "classes", cJSON_CreateStringArray(class_names, CLS_COUNT));
	cJSON_AddItemToObject(head, "lanes", cJSON_CreateStringArray(lanes, f->plan->device ? 4 : 2));
	rc = path_make(text, "%s/" FOLDER_RECORD, dir, (size_t)rank);
	rc = rc ? rc : record_writer_open(&file->out, text);
	rc = rc ? rc : record_write_json(&file->out, RECORD_HEAD, head);
	cJSON_Delete(head);
	return rc;
}

static int made_file_close(struct made_folder *f, int rank, int node)
{
	int64_t shift = made_folder_shift(f, rank);
	cJSON *tail = cJSON_Parse("{\"status\":\"ok\",\"dropped\":0}");
	int rc;

	made_file_flush(f, rank);
	for (int i = 0; i < 2 && f->plan->shift && !f->rc; i++) {
		struct sync_point p = { .local_ns = (int64_t)i * 100 * 1000000000 + shift, .ref_ns = (int64_t)i * 100 * 1000000000,
					.bound_ns = node ? 1000 : 0, .rate_bound = 1e-9, .leader = (uint32_t)node,
					.hops = node ? 1 : 0, .exchanges = 10, .round_trip_ns = 2000 };

		f->rc = record_write(&f->files[rank].out, RECORD_SYNC, &p, sizeof(p), 1);
	}
	rc = f->rc ? f->rc : record_write_json(&f->files[rank].out, RECORD_TAIL, tail);
	cJSON_Delete(tail);
	f->rc = record_writer_close(&f->files[rank].out);
	return rc ? rc : f->rc;
}

static int made_run_json(const char *dir, const struct made *plan, int nodes)
{
	cJSON *run = cJSON_Parse("{\"schema\":1,\"status\":\"ok\",\"options\":{\"policy\":\"threads\",\"workers\":2}}");
	cJSON *place = cJSON_AddObjectToObject(run, "place"), *step = cJSON_AddObjectToObject(run, "step");
	char path[PATH_BYTES];
	int rc = path_make(path, "%s/" FOLDER_RUN, dir);

	cJSON_AddNumberToObject(place, "ranks", plan->ranks);
	cJSON_AddNumberToObject(place, "nodes", nodes);
	cJSON_AddStringToObject(place, "text", "made nodes");
	cJSON_AddNumberToObject(step, "clips_per_rank", 1);
	cJSON_AddNumberToObject(step, "iterations_per_epoch", plan->iterations);
	cJSON_AddNumberToObject(step, "epochs", plan->epochs);
	rc = rc ? rc : json_write(path, run);
	cJSON_Delete(run);
	return rc;
}

int made_folder_write(const char *dir, const struct made *plan, int nodes, size_t *events)
{
	struct made_folder f = { .plan = plan, .files = calloc((size_t)plan->ranks, sizeof(*f.files)) };
	struct made job = *plan;
	int per_node = plan->ranks / nodes, rc = dir_make(dir);

	job.delay = made_folder_delay;
	job.shift = made_folder_shift;
	job.sink = made_folder_sink;
	job.context = &f;
	rc = rc ? rc : made_run_json(dir, plan, nodes);
	for (int r = 0; r < plan->ranks && !rc; r++)
		rc = made_file_open(&f, dir, r, r / per_node);
	if (!rc)
		made_run(&job);
	for (int r = 0; r < plan->ranks && !rc; r++)
		rc = made_file_close(&f, r, r / per_node);
	*events = f.events;
	free(f.files);
	return rc;
}
