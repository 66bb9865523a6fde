/*
 * report/feeding.c - see feeding.h.
 */
#include "report/feeding.h"

#include "bench/base/err.h"
#include "bench/base/file.h"

#include <math.h>

/* Of all points together, and of one at least: a table stays one that can be read. */
enum { QUEUE_ROWS = 240, QUEUE_ROWS_LEAST = 8, QUEUE_ROWS_MOST = 48 };

#define VARIANT { "variant", "", "the options that were swept, without nodes; else the loader policy", 0 }
#define POLICY { "policy", "", "of the loader", 0 }
#define WORKERS { "workers", "1", "loader workers per rank", 0 }
#define NODES { "nodes", "1", "nodes of the launcher; see place: those on one host are emulated", 0 }
#define PLACE { "place", "", "where this row was measured", 0 }

static void who(struct table *t, const struct point *p)
{
	table_text(t, p->variant);
	table_text(t, p->policy);
	if (p->workers < 0)
		table_none(t);
	else
		table_int(t, p->workers);
	table_int(t, (int64_t)p->nodes);
}

static double option(const struct point *p, const char *name)
{
	return json_number(cJSON_GetObjectItemCaseSensitive(p->runs[0]->json, "options"), name, NAN);
}

static int each_point(struct table *t, const struct curve *c, void (*rows)(struct table *, const struct point *, size_t points))
{
	for (size_t i = 0; i < c->count; i++)
		if (c->points[i].run_count)
			rows(t, &c->points[i], c->count);
	return OK;
}

/* ---- what bounds the loader ------------------------------------------------------------ */

static const struct field loader_fields[] = {
	VARIANT,
	POLICY,
	WORKERS,
	NODES,
	{ "iterations", "1", "steady iterations of all ranks and runs that the means are over", 0 },
	{ "stall_ms", "ms", "loader stall per steady iteration, as in table breakdown", 3 },
	{ "stall_percent", "%", "100 x that / mean steady iteration", 1 },
	{ "head_of_line_ms", "ms", "of the stall: a later batch was ready, but not the one that was due", 3 },
	{ "handing_ms", "ms", "of the stall: the batch that was due was there, and the training thread had not got it yet, for want of a "
	  "core", 3 },
	{ "batch_ms", "ms", "time that a maker takes for a batch, mean of all batches: the sum of the four stages", 3 },
	{ "storage_ms", "ms", "opening and reading files", 3 },
	{ "decode_ms", "ms", "from JPEG to pixels", 3 },
	{ "transform_ms", "ms", "scaling, cropping, normalising, both pathways", 3 },
	{ "hand_over_ms", "ms", "the rest: boxes, the order of the epoch, telling the training thread", 3 },
	{ "busy_percent", "%", "100 x time of makers in making batches / (workers x steady time); without workers 100", 1 },
	{ "on_core_percent", "%", "100 x their CPU time / time in making batches: below 100 they wait for storage, or for a core", 1 },
	{ "queue_mean", "1", "batches ready when the training thread asked for one, steady", 2 },
	{ "queue_room", "1", "workers x prefetch: all that can be in flight", 0 },
	{ "bound", "", "nothing: stall below 1 %; hand-over: half of it or more the batch was there; a stage: makers busy 75 % of their time or "
	  "more, and this the greatest; order: half of the stall or more is head of line; unevenness: else", 0 },
	{ "how", "", "how that was decided", 0 },
	PLACE,
};

struct supply {
	int64_t iterations, stall_ns, wall_ns, head_ns, hand_ns;
	double depth, asked;
	size_t batches;
	double batch_ns[STAGE_COUNT];
	struct loader_account account;
};

static struct supply supply_of(const struct point *p)
{
	struct supply s = { 0 };

	for (size_t i = 0; i < p->run_count; i++) {
		const struct run *r = p->runs[i];
		const struct feed *f = &r->feed;
		size_t iteration = 0;

		s.iterations += r->sums[WINDOW_STEADY].windows;
		s.stall_ns += r->sums[WINDOW_STEADY].parts_ns[CLS_LOADER];
		s.wall_ns += r->sums[WINDOW_STEADY].wall_ns;
		for (size_t w = 0; w < r->windows; w++) {
			if (r->kinds[w] == WINDOW_STEADY && iteration < f->iteration_count) {
				s.head_ns += f->iterations[iteration].head_ns;
				s.hand_ns += f->iterations[iteration].hand_ns;
				s.depth += (double)f->iterations[iteration].depth;
				s.asked += f->iterations[iteration].asked;
			}
			iteration += r->kinds[w] != WINDOW_BOUNDARY;
		}
		s.batches += f->batches;
		s.account.cpu += f->cpu_ns;
		s.account.capacity += (double)f->steady_ns * (double)(p->workers > 0 ? p->workers : 0);
		for (int stage = 0; stage < STAGE_COUNT; stage++) {
			s.batch_ns[stage] += f->batch_ns[stage];
			s.account.stages[stage] += f->stages_ns[stage];
		}
	}
	s.account.wall = (double)s.wall_ns;
	s.account.stall = (double)s.stall_ns;
	s.account.head_of_line = (double)s.head_ns;
	s.account.handing = s.asked ? (double)s.hand_ns : 0;
	if (!s.asked) {		/* no queue: the training thread is the maker, and never idle */
		s.account.capacity = 0;
		for (int stage = 0; stage < STAGE_COUNT; stage++)
			s.account.capacity += s.account.stages[stage];
	}
	if (s.account.cpu <= 0)
		s.account.cpu = NAN;
	return s;
}

bool point_loader(const struct point *p, struct loader_verdict *v)
{
	struct supply s = supply_of(p);

	*v = loader_judge(&s.account);
	return s.batches && s.iterations;
}

static double each_ms(double ns, double n)
{
	return n > 0 ? 1e-6 * ns / n : NAN;
}

static void loader_row(struct table *t, const struct point *p, size_t points)
{
	struct supply s = supply_of(p);
	struct loader_verdict v = loader_judge(&s.account);
	double batch_ns = 0;
	char how[256];

	(void)points;
	if (!s.iterations)
		return;
	for (int stage = 0; stage < STAGE_COUNT; stage++)
		batch_ns += s.batch_ns[stage];
	who(t, p);
	table_int(t, s.iterations);
	table_real(t, each_ms((double)s.stall_ns, (double)s.iterations));
	table_real(t, v.stall_percent);
	table_real(t, s.asked ? each_ms((double)s.head_ns, (double)s.iterations) : NAN);
	table_real(t, s.asked ? each_ms((double)s.hand_ns, (double)s.iterations) : NAN);
	table_real(t, each_ms(batch_ns, (double)s.batches));
	for (int stage = 0; stage < STAGE_COUNT; stage++)
		table_real(t, each_ms(s.batch_ns[stage], (double)s.batches));
	table_real(t, s.batches ? v.busy_percent : NAN);
	table_real(t, v.on_core_percent);
	table_real(t, s.asked ? s.depth / s.asked : NAN);
	table_real(t, s.asked ? (double)p->workers * option(p, "prefetch") : NAN);
	if (s.batches) {
		table_text(t, v.name);
		table_text(t, loader_verdict_text(&v, how));
	} else {
		table_none(t);
		table_none(t);
	}
	table_text(t, p->place);
}

static int loader_make(struct table *t, const struct curve *c, const struct runs *all)
{
	(void)all;
	return each_point(t, c, loader_row);
}

/* ---- epochs ---------------------------------------------------------------------------- */

static const struct field epoch_fields[] = {
	VARIANT,
	POLICY,
	WORKERS,
	NODES,
	{ "epoch", "1", "from 0", 0 },
	{ "runs", "1", "runs that the means are over", 0 },
	{ "iterations", "1", "of one rank", 0 },
	{ "wall_ms", "ms", "from the epoch's begin to the next one's, slowest rank", 1 },
	{ "boundary_ms", "ms", "from its begin to the first batch request, slowest rank: workers, index, sampler", 2 },
	{ "first_batch_ms", "ms", "time to first batch: from its begin until that is there, slowest rank", 2 },
	{ "stall_ms", "ms", "waiting for batches, the first included, mean over ranks", 2 },
	{ "stall_each_ms", "ms", "stall_ms / iterations", 3 },
	{ "lost_percent", "%", "100 x (boundary_ms + stall_ms) / wall_ms: nothing to do for want of batches", 1 },
	PLACE,
};

static void epoch_row(struct table *t, const struct point *p, size_t epoch)
{
	double wall = 0, boundary = 0, first = 0, stall = 0;
	size_t runs = 0, iterations = 0;

	for (size_t i = 0; i < p->run_count; i++) {
		const struct feed *f = &p->runs[i]->feed;
		const struct feed_epoch *e;

		if (epoch >= f->epoch_count)
			continue;
		e = &f->epochs[epoch];
		runs++;
		iterations = e->iterations > iterations ? e->iterations : iterations;
		wall += 1e-6 * (double)e->wall_ns;
		boundary += 1e-6 * (double)e->boundary_ns;
		first += 1e-6 * (double)e->first_ns;
		stall += 1e-6 * (double)e->stall_ns / (double)f->ranks;
	}
	who(t, p);
	table_int(t, (int64_t)epoch);
	table_int(t, (int64_t)runs);
	table_int(t, (int64_t)iterations);
	table_real(t, wall / (double)runs);
	table_real(t, boundary / (double)runs);
	table_real(t, first / (double)runs);
	table_real(t, stall / (double)runs);
	table_real(t, stall / (double)runs / (double)iterations);
	table_real(t, 100 * (boundary + stall) / wall);
	table_text(t, p->place);
}

static size_t epochs_of(const struct point *p)
{
	size_t most = 0;

	for (size_t i = 0; i < p->run_count; i++)
		most = p->runs[i]->feed.epoch_count > most ? p->runs[i]->feed.epoch_count : most;
	return most;
}

static void epoch_rows(struct table *t, const struct point *p, size_t points)
{
	(void)points;
	for (size_t e = 0; e < epochs_of(p); e++)
		epoch_row(t, p, e);
}

static int epochs_make(struct table *t, const struct curve *c, const struct runs *all)
{
	(void)all;
	return each_point(t, c, epoch_rows);
}

/* ---- the queue over time --------------------------------------------------------------- */

static const struct field queue_fields[] = {
	VARIANT,
	POLICY,
	WORKERS,
	NODES,
	{ "from", "1", "first iteration of this row, counted over all epochs", 0 },
	{ "to", "1", "iteration behind its last", 0 },
	{ "epoch", "1", "that `from` belongs to", 0 },
	{ "depth_mean", "1", "batches ready when the training thread asked for one, mean over iterations, ranks and runs", 2 },
	{ "depth_least", "1", "the least of them", 0 },
	{ "stall_ms", "ms", "loader stall per iteration", 3 },
	{ "head_of_line_ms", "ms", "of that, head of line", 3 },
	PLACE,
};

static void queue_row(struct table *t, const struct point *p, size_t from, size_t to)
{
	double depth = 0, asked = 0, stall_ns = 0, head_ns = 0, n = 0;
	size_t epoch = 0, seen = 0;
	uint32_t least = UINT32_MAX;

	for (size_t i = 0; i < p->run_count; i++) {
		const struct feed *f = &p->runs[i]->feed;

		for (size_t k = from; k < to && k < f->iteration_count; k++) {
			const struct feed_iteration *it = &f->iterations[k];

			depth += (double)it->depth;
			asked += it->asked;
			least = it->asked && it->depth_least < least ? it->depth_least : least;
			stall_ns += (double)it->stall_ns;
			head_ns += (double)it->head_ns;
			n += (double)f->ranks;
		}
	}
	while (epoch + 1 < p->runs[0]->feed.epoch_count && seen + p->runs[0]->feed.epochs[epoch].iterations <= from)
		seen += p->runs[0]->feed.epochs[epoch++].iterations;
	if (!asked)
		return;
	who(t, p);
	table_int(t, (int64_t)from);
	table_int(t, (int64_t)to);
	table_int(t, (int64_t)epoch);
	table_real(t, depth / asked);
	table_int(t, least);
	table_real(t, each_ms(stall_ns, n));
	table_real(t, each_ms(head_ns, n));
	table_text(t, p->place);
}

static void queue_rows(struct table *t, const struct point *p, size_t points)
{
	size_t iterations = p->runs[0]->feed.iteration_count, rows = QUEUE_ROWS / points;

	rows = rows < QUEUE_ROWS_LEAST ? QUEUE_ROWS_LEAST : rows > QUEUE_ROWS_MOST ? QUEUE_ROWS_MOST : rows;
	rows = rows > iterations ? iterations : rows;
	for (size_t i = 0; i < rows; i++)
		queue_row(t, p, i * iterations / rows, (i + 1) * iterations / rows);
}

static int queue_make(struct table *t, const struct curve *c, const struct runs *all)
{
	(void)all;
	return each_point(t, c, queue_rows);
}

/* ---- workers --------------------------------------------------------------------------- */

static const struct field workers_fields[] = {
	VARIANT,
	POLICY,
	WORKERS,
	NODES,
	{ "epoch", "1", "from 0", 0 },
	{ "makers", "1", "workers of all ranks and runs that made a batch in it", 0 },
	{ "cpu_ms", "ms", "time on a core in this epoch, mean over workers; a new worker's start is in it", 2 },
	{ "cpu_most_ms", "ms", "of the one with the most", 2 },
	{ "uss_mib", "MiB", "unique set size with its last batch of the epoch, mean over workers; none for threads, whose memory is the "
	  "training process's", 2 },
	{ "uss_most_mib", "MiB", "of the one with the most", 2 },
	{ "pss_mib", "MiB", "proportional set size likewise: its share of what it maps with others, such as batches in flight, is in it", 2 },
	{ "growth_kib", "KiB", "growth of the USS per batch since its first batch, or since the epoch before where workers are kept: "
	  "what copy-on-write takes shows here", 2 },
	PLACE,
};

static void workers_row(struct table *t, const struct point *p, size_t epoch)
{
	struct feed_epoch sum = { 0 };
	double mib = 1.0 / (1 << 20);

	for (size_t i = 0; i < p->run_count; i++)
		if (epoch < p->runs[i]->feed.epoch_count)
			feed_epoch_add(&sum, &p->runs[i]->feed.epochs[epoch]);
	if (!sum.workers)
		return;
	who(t, p);
	table_int(t, (int64_t)epoch);
	table_int(t, (int64_t)sum.workers);
	table_real(t, each_ms((double)sum.cpu_ns, (double)sum.workers));
	table_real(t, 1e-6 * (double)sum.cpu_most_ns);
	table_real(t, sum.weighed ? mib * (double)sum.uss_bytes / (double)sum.weighed : NAN);
	table_real(t, sum.weighed ? mib * (double)sum.uss_most_bytes : NAN);
	table_real(t, sum.weighed ? mib * (double)sum.pss_bytes / (double)sum.weighed : NAN);
	table_real(t, sum.grown ? sum.growth_bytes / (double)sum.grown / 1024 : NAN);
	table_text(t, p->place);
}

static void workers_rows(struct table *t, const struct point *p, size_t points)
{
	(void)points;
	for (size_t e = 0; e < epochs_of(p); e++)
		workers_row(t, p, e);
}

static int workers_make(struct table *t, const struct curve *c, const struct runs *all)
{
	(void)all;
	return each_point(t, c, workers_rows);
}

#define FIELDS(a) a, ARRAY_LEN(a)

const struct table_maker table_loader = {
	"loader", "Loader: does it keep up, and what bounds it?", FIELDS(loader_fields), loader_make,
};
const struct table_maker table_epochs = {
	"epochs", "Epochs: time to first batch, and stalls", FIELDS(epoch_fields), epochs_make,
};
const struct table_maker table_queue = {
	"queue", "Queue: batches ready over time", FIELDS(queue_fields), queue_make,
};
const struct table_maker table_workers = {
	"workers", "Workers: what they take of the machine", FIELDS(workers_fields), workers_make,
};
