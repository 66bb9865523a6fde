/*
 * bench/bench.c - `sfscale bench`: the speeds of this program, each beside its yardstick.
 *
 * A figure is a ratio of two things measured in the same run, in turns, or a time beside the least that it could be:
 * machines are shared and noisy, and a bare number says little.  A figure past its bound is told at the end (exit 3).
 * A further speed is a row more.
 */
#include "bench/base/clock.h"
#include "bench/base/err.h"
#include "bench/base/file.h"
#include "bench/base/rng.h"
#include "bench/base/span.h"
#include "bench/base/stats.h"
#include "bench/commands.h"
#include "bench/made.h"
#include "bench/place.h"
#include "comm/topo/log.h"
#include "comm/topo/preset.h"
#include "kernels/kernels.h"
#include "loader/ava.h"
#include "loader/bare.h"
#include "loader/loader.h"
#include "loader/synth.h"
#include "report/runs.h"

#include <build.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct bench_options {
	const char *out, *only, *net;
	uint64_t crop, threads, repeat;
};

#define AT(field) offsetof(struct bench_options, field)

static const struct opt opts[] = {
	{ "out", OPT_NAME, AT(out), "results/bench", "folder of bench.json, and of the data set that the loader reads", NULL },
	{ "only", OPT_NAME, AT(only), NULL, "figures whose name begins with this word; bench.json is left alone", NULL },
	{ "net", OPT_NAME, AT(net), "r50", "network of the step", NET_PRESET_NAMES },
	{ "crop", OPT_U64, AT(crop), "0", "its input; 0: the preset's", NULL },
	{ "threads", OPT_U64, AT(threads), "0", "compute threads; 0: all", NULL },
	{ "repeat", OPT_U64, AT(repeat), "3", "turns of each measurement; the median counts", NULL },
};

static int bench_main(int argc, char **argv);

const struct command command_bench = { "bench", "", "the speeds of this program beside their yardsticks; exit 3 when one is past its bound",
				       opts, ARRAY_LEN(opts), bench_main, sizeof(struct bench_options) };

struct figure {
	double value;
	char yardstick[256];	/* what it was measured against, with its numbers */
};

struct bench_row {
	const char *name, *unit;
	double bound;		/* NaN: none */
	bool at_least;		/* the bound is a floor, not a ceiling */
	int (*measure)(const struct bench_options *, struct figure *);
};

/* Measurements in turns, so that all see the same machine: for each the median of o->repeat values. */
typedef int measurement(void *context, double *value);

enum { MEASUREMENTS_MAX = 4 };

static int turns(const struct bench_options *o, measurement *const *all, size_t count, void *context, double *medians)
{
	double *values = calloc(o->repeat, MEASUREMENTS_MAX * sizeof(*values));
	int rc = values ? OK : err(NO_MEMORY, "no memory for %" PRIu64 " measurements", o->repeat);

	for (uint64_t i = 0; i < o->repeat; i++)
		for (size_t k = 0; k < count && !rc; k++)
			rc = all[k](context, &values[k * o->repeat + i]);
	for (size_t k = 0; k < count && !rc; k++)
		medians[k] = quantile(values + k * o->repeat, o->repeat, 0.5);
	free(values);
	return rc;
}

/* ---- events ---------------------------------------------------------------------------- */

static double stamp_ns(void)
{
	enum { STAMPS = 1 << 12, LOOPS = 64 };	/* the best of as many loops as span_cost_measure() takes */
	double best = INFINITY;
	uint64_t sum = 0;

	for (int loop = 0; loop < LOOPS; loop++) {
		uint64_t begin = clock_ns();

		for (int i = 0; i < STAMPS; i++)
			sum += clock_ticks();
		best = fmin(best, (double)(clock_ns() - begin) / STAMPS);
	}
	/* The sum is used, or the compiler would drop the loop. */
	return best + (sum == 0);
}

static int event_next(const struct bench_options *o, struct figure *f)
{
	struct span_cost cost;
	int rc = span_cost_measure(&cost);

	(void)o;
	f->value = cost.next_ns;
	snprintf(f->yardstick, sizeof(f->yardstick), "a span that begins as another ends, as in the step; one time stamp alone %.1f ns",
		 stamp_ns());
	return rc;
}

static int event_pair(const struct bench_options *o, struct figure *f)
{
	struct span_cost cost;
	int rc = span_cost_measure(&cost);

	(void)o;
	f->value = cost.pair_ns;
	snprintf(f->yardstick, sizeof(f->yardstick), "begin and end; two time stamps alone %.1f ns", 2 * stamp_ns());
	return rc;
}

/* ---- the step -------------------------------------------------------------------------- */

/* One step on inputs of noise. */
static int one_step(struct kernels *k, const struct step_input *in)
{
	static const struct sgd sgd = { .lr = 1e-4, .momentum = 0.9, .nesterov = true };
	const struct kernel_backend *b = k->backend;
	int rc = b->input(k, in);

	if (!rc)
		rc = b->forward(k);
	if (!rc)
		rc = b->loss(k);
	if (!rc)
		rc = b->backward(k, k->net->param_count - 1);
	return rc ? rc : b->update(k, &sgd);
}

static float *noise(size_t count)
{
	float *x = malloc(count * sizeof(*x));
	struct rng r;

	rng_init(&r, 1, count);
	for (size_t i = 0; x && i < count; i++)
		x[i] = (float)(rng_uniform(&r) * 2 - 1);
	return x;
}

struct step_race {
	struct kernels *kernels;
	const struct step_input *in;
};

static int step_s(void *context, double *seconds)
{
	const struct step_race *r = context;
	uint64_t begin = clock_ns();
	int rc = one_step(r->kernels, r->in);

	*seconds = (double)(clock_ns() - begin) / NS_PER_S;
	return rc;
}

static int convolutions_s(void *context, double *seconds)
{
	const struct step_race *r = context;
	uint64_t alone_ns = 0;
	int rc = r->kernels->backend->convolutions_ns(r->kernels, &alone_ns);

	*seconds = (double)alone_ns / NS_PER_S;
	return rc;
}

static int step_over_convolutions(const struct bench_options *o, struct figure *f)
{
	const struct kernel_backend *backend = kernel_backend_find("cpu");
	struct place place;
	struct net net;
	struct kernels *k;
	float rois[5] = { 0 }, labels[NET_CLASSES] = { 1 };
	struct step_input in = { .clips = 1, .boxes = 1, .rois = rois, .labels = labels };
	size_t pixels;
	float *slow, *fast;
	int rc;

	if (!backend || !backend->convolutions_ns)
		return err(UNSUPPORTED, "kernels 'cpu' are not built in");
	rc = place_find(&place, 1, 1, 1, NULL);
	if (!rc)
		rc = net_init(&net, net_preset_find(o->net), 0, o->crop);
	if (rc)
		return rc;
	rois[3] = rois[4] = (float)net.crop;
	pixels = 3 * net.crop * net.crop;
	in.slow = slow = noise(pixels * net.slow_frames);
	in.fast = fast = noise(pixels * net.frames);
	rc = slow && fast ? OK : err(NO_MEMORY, "no memory for a clip");
	if (!rc)
		rc = backend->open(&k, &(struct kernel_config){ .net = &net, .clips_max = 1, .boxes_max = 1,
				   .threads = o->threads ? (unsigned)o->threads : place_threads(&place, 1) });
	if (!rc) {
		static measurement *const race[] = { step_s, convolutions_s };
		struct step_race r = { k, &in };
		double s[ARRAY_LEN(race)];

		rc = one_step(k, &in);	/* warms up */
		if (!rc)
			rc = turns(o, race, ARRAY_LEN(race), &r, s);
		if (!rc) {
			f->value = s[0] / s[1];
			snprintf(f->yardstick, sizeof(f->yardstick), "%s at %zu, 1 clip: step %.3f s, its convolutions alone %.3f s",
				 o->net, net.crop, s[0], s[1]);
		}
		backend->close(k);
	}
	free(slow);
	free(fast);
	net_release(&net);
	return rc;
}

/* ---- the loader ------------------------------------------------------------------------ */

/* As AVA's frames are, but for the short side, which is 256 here as in the copies that people train on. */
enum { FRAME_WIDTH = 340, FRAME_HEIGHT = 256, VIDEOS = 2, SECONDS = 24, FRAMES = 32 };

static int data_set(const struct bench_options *o, char path[PATH_BYTES])
{
	struct synth_counts counts[SYNTH_SPLITS];
	int rc = path_make(path, "%s/data", o->out);

	if (rc || dir_exists(path))
		return rc;
	return synth_make(path, &(struct synth_config){ .videos = { VIDEOS, 1 }, .seconds = SECONDS, .width = FRAME_WIDTH,
							.height = FRAME_HEIGHT, .quality = 90, .threads = 2 }, counts);
}

/* The data set, all of its frames, and in which form they are to come. */
struct loader_race {
	char data[PATH_BYTES];
	glob_t frames;
	bool crops;
};

/* Frames per second that come out of the loader, from the start of its workers to the end of the last epoch: what they
 * make before the first request is not free; the index and the ring's memory, which are once per run, are not counted.
 * Epochs enough that the end, where one of two workers has nothing left to do, is less than a hundredth. */
static int loader_rate(const struct loader_race *r, const char *policy, size_t workers, double *frames_per_s)
{
	enum { EPOCHS = 8 };
	struct loader *l;
	struct clip_batch batch;
	uint64_t begin;
	size_t frames = 0;
	int rc = loader_open(&l, &(struct loader_config){ .data = r->data, .crops = r->crops, .policy = policy, .workers = workers,
			     .prefetch = 2, .clips = 1, .frames = FRAMES, .alpha = NET_ALPHA, .rate = LOADER_RATE,
			     .crop = LOADER_CROP, .scale_min = LOADER_SCALE_MIN, .scale_max = LOADER_SCALE_MAX, .world = 1,
			     .epochs = EPOCHS });

	if (rc)
		return rc;
	begin = clock_ns();
	for (size_t e = 0; e < EPOCHS && !rc; e++) {
		rc = loader_epoch_begin(l, e);
		for (size_t i = 0; i < loader_iterations(l) && !rc; i++) {
			rc = loader_next(l, &batch);
			frames += FRAMES;
		}
	}
	*frames_per_s = (double)frames * NS_PER_S / (double)(clock_ns() - begin);
	loader_close(l);
	return rc;
}

static int one_decoder_rate(void *context, double *frames_per_s)
{
	const struct loader_race *r = context;

	return bare_decode_rate(&r->frames, 1, frames_per_s);
}

static int two_decoders_rate(void *context, double *frames_per_s)
{
	const struct loader_race *r = context;

	return bare_decode_rate(&r->frames, 2, frames_per_s);
}

static int inline_rate(void *context, double *frames_per_s)
{
	return loader_rate(context, "inline", 0, frames_per_s);
}

static int one_worker_rate(void *context, double *frames_per_s)
{
	return loader_rate(context, "threads", 1, frames_per_s);
}

static int two_workers_rate(void *context, double *frames_per_s)
{
	return loader_rate(context, "threads", 2, frames_per_s);
}

static int loader_race(const struct bench_options *o, bool crops, measurement *const *all, size_t count, double *rates)
{
	struct loader_race r = { .crops = crops };
	int rc = data_set(o, r.data);

	if (!rc)
		rc = bare_find(r.data, &r.frames);
	if (!rc)
		rc = turns(o, all, count, &r, rates);
	globfree(&r.frames);
	return rc;
}

static int over_decode(const struct bench_options *o, bool crops, struct figure *f)
{
	static measurement *const race[] = { one_decoder_rate, inline_rate };
	double rate[ARRAY_LEN(race)];
	int rc = loader_race(o, crops, race, ARRAY_LEN(race), rate);

	if (rc)
		return rc;
	f->value = rate[1] / rate[0];
	snprintf(f->yardstick, sizeof(f->yardstick), "frames of %dx%d to crop %d, one core: %.0f frames/s, bare decoding of whole "
		 "frames %.0f", FRAME_WIDTH, FRAME_HEIGHT, LOADER_CROP, rate[1], rate[0]);
	return OK;
}

/* Cores share memory and clock, so two of them do not do twice the work of one: what two bare decoders gain is the most
 * that two workers could. */
static int gain_over_decode(const struct bench_options *o, bool crops, struct figure *f)
{
	static measurement *const race[] = { one_decoder_rate, two_decoders_rate, one_worker_rate, two_workers_rate };
	double rate[ARRAY_LEN(race)];
	int rc = loader_race(o, crops, race, ARRAY_LEN(race), rate);

	if (rc)
		return rc;
	f->value = rate[3] / rate[2] / (rate[1] / rate[0]);
	snprintf(f->yardstick, sizeof(f->yardstick), "policy threads: 2 workers %.0f frames/s, 1 worker %.0f: x %.2f; 2 bare decoders "
		 "%.0f, 1 %.0f: x %.2f", rate[3], rate[2], rate[3] / rate[2], rate[1], rate[0], rate[1] / rate[0]);
	return OK;
}

static int loader_over_decode(const struct bench_options *o, struct figure *f)
{
	return over_decode(o, false, f);
}

static int loader_gain_over_decode(const struct bench_options *o, struct figure *f)
{
	return gain_over_decode(o, false, f);
}

static int loader_uint8_over_decode(const struct bench_options *o, struct figure *f)
{
	return over_decode(o, true, f);
}

static int loader_uint8_gain_over_decode(const struct bench_options *o, struct figure *f)
{
	return gain_over_decode(o, true, f);
}

/* ---- the index ------------------------------------------------------------------------- */

/* Lists of the size of AVA's: as many videos and frames, names as long, a box and a half in each second. */
static int write_lists(const char *dir)
{
	enum { AVA_VIDEOS = 235, AVA_FRAMES_EACH = AVA_FPS * AVA_LENGTH_S };
	static const char *const names[] = { AVA_TRAIN_FRAMES, AVA_TRAIN_TRUTH, AVA_TRAIN_PREDICTED };
	FILE *files[ARRAY_LEN(names)] = { 0 };
	char path[ARRAY_LEN(names)][PATH_BYTES], folder[PATH_BYTES];
	int rc = path_make(folder, "%s/frame_lists", dir);

	if (!rc)
		rc = dir_make(folder);
	if (!rc)
		rc = path_make(folder, "%s/" AVA_PREDICTED, dir);
	if (!rc)
		rc = dir_make(folder);
	for (size_t i = 0; i < ARRAY_LEN(names) && !rc; i++) {
		rc = path_make(path[i], "%s/%s", dir, names[i]);
		files[i] = rc ? NULL : file_begin(path[i]);
		rc = rc || files[i] ? rc : FAILED;
	}
	if (!rc)
		fprintf(files[0], "%s\n", AVA_FRAMES_HEADER);
	for (unsigned v = 0; v < AVA_VIDEOS && !rc; v++) {
		char name[12];

		snprintf(name, sizeof(name), "film-%06u", v * 4051 % 1000000);
		for (size_t i = 0; i < AVA_FRAMES_EACH; i++)
			fprintf(files[0], "%s %u %zu " AVA_FRAME_PATH " \"\"\n", name, v, i, name, name, i + 1);
		for (unsigned s = AVA_SECOND_MIN; s <= AVA_SECOND_MAX; s++) {
			fprintf(files[1], "%s,%04u,0.077,0.151,0.283,0.811,80,1\n", name, s);
			if (s % 2)
				fprintf(files[2], "%s,%04u,0.226,0.032,0.366,0.497,12,0.95\n", name, s);
		}
	}
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		rc = files[i] ? file_end(files[i], path[i], rc) : rc;
	return rc;
}

static size_t resident_bytes(void)
{
	size_t whole = 0, resident = 0;
	char *text;

	if (file_read("/proc/self/statm", &text, NULL))
		return 0;
	if (sscanf(text, "%zu %zu", &whole, &resident) != 2)
		resident = 0;
	free(text);
	return resident * (size_t)sysconf(_SC_PAGESIZE);
}

static double core_s(void)
{
	struct timespec t;

	return clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t) ? NAN : (double)t.tv_sec + (double)t.tv_nsec / NS_PER_S;
}

static int index_s(const struct bench_options *o, struct figure *f)
{
	char dir[PATH_BYTES];
	double best = INFINITY, on_core = INFINITY;
	size_t bytes = 0, frames = 0, runs = 0;
	int rc = path_make(dir, "%s/lists", o->out), removed;

	if (!rc)
		rc = write_lists(dir);
	for (uint64_t i = 0; i < o->repeat && !rc; i++) {
		size_t before = resident_bytes();
		uint64_t begin = clock_ns();
		double core = core_s();
		struct ava_index ix;

		rc = ava_index_read(&ix, dir);
		if (rc)
			break;
		best = fmin(best, (double)(clock_ns() - begin) / NS_PER_S);
		on_core = fmin(on_core, core_s() - core);
		bytes = i ? bytes : resident_bytes() - before;
		frames = ix.frame_count;
		runs = ix.run_count;
		ava_index_release(&ix);
	}
	f->value = best;
	snprintf(f->yardstick, sizeof(f->yardstick), "lists as large as AVA's: %zu frames, %.2f s on a core; in memory %zu runs, %.0f MB",
		 frames, on_core, runs, (double)bytes / 1e6);
	removed = dir_remove(dir);
	return rc ? rc : removed;
}

/* ---- logs ------------------------------------------------------------------------------ */

/* What NCCL would log for 128 ranks on 32 hosts with as many communicators as make 16 MB, read from memory into
 * communicators and rings, beside a loop over the same bytes that only finds the ends of lines.  One thread. */
static int topo_log_speed(const struct bench_options *o, struct figure *f)
{
	enum { HOSTS = 32, COMMUNICATORS = 170 };
	enum { READINGS_MIN = 10 };	/* the first ones wait for pages that the machine has to find */
	uint32_t order[HOSTS];
	char *text = NULL;
	size_t bytes = 0, lines = 0;
	double best = 0, ends = 0;
	FILE *out = open_memstream(&text, &bytes);

	if (!out)
		return err(NO_MEMORY, "no memory for a log");
	for (uint32_t i = 0; i < HOSTS; i++)
		order[i] = i;
	for (int i = 0; i < COMMUNICATORS; i++)
		topo_preset_log(topo_preset_find("abci-v"), order, HOSTS, false, out);
	fclose(out);
	for (uint64_t i = 0; i < o->repeat || i < READINGS_MIN; i++) {
		struct topo_log log = { 0 };
		uint64_t begin = clock_ns(), parsed;

		topo_log_parse(&log, "plan", text, bytes);
		topo_log_finish(&log);
		parsed = clock_ns();
		lines = 0;
		for (const char *p = text; (p = memchr(p, '\n', (size_t)(text + bytes - p))); p++)
			lines++;
		ends = fmax(ends, (double)bytes * 1e3 / (double)(clock_ns() - parsed));
		best = fmax(best, (double)bytes * 1e3 / (double)(parsed - begin));
		topo_log_release(&log);
	}
	f->value = best;
	snprintf(f->yardstick, sizeof(f->yardstick),
		 "a log of %d ranks, %.1f MB, %zu lines, one core; finding the ends of its lines alone %.0f MB/s",
		 4 * HOSTS, (double)bytes / 1e6, lines, ends);
	free(text);
	return OK;
}

/* ---- the report ------------------------------------------------------------------------ */

/* A made job, whose records lie in a folder. */
struct made_records {
	char dir[PATH_BYTES];
	uint64_t events, segments;
};

/* Every phase takes up to 0.3 ms longer, by chance: nearly every rank then waits in nearly every collective. */
static int64_t made_noise(const void *context, int rank, int iteration, enum span_id id)
{
	struct rng r;

	(void)context;
	if (span_rows[id].kind == KIND_COLLECTIVE)
		return 0;
	rng_init(&r, (uint64_t)rank << 32 | (uint64_t)iteration, id);
	return rng_below(&r, 300000);
}

static int made_records_make(struct made_records *m, const char *out, int iterations)
{
	enum { MS = 1000000, RANKS = 32, NODES = 8 };
	struct made job = { .ranks = RANKS, .epochs = iterations / 100, .iterations = 100, .buckets = 2, .load = MS, .first_load = 9 * MS,
			    .copy = MS, .bcast = MS / 10, .fwd = 30 * MS, .bwd = 30 * MS, .wire = 8 * MS, .opt = 5 * MS, .loss_wire = MS / 5,
			    .log = MS / 2, .boundary = 20 * MS, .delay = made_noise };
	size_t events;
	int rc = path_make(m->dir, "%s/made-%d", out, iterations);

	return rc ? rc : made_folder_write(m->dir, &job, NODES, &events);
}

/* From files to blame, in CPU time of all threads. */
static int analysis_s(struct made_records *m, double *seconds)
{
	const char *dir = m->dir;
	struct timespec begin, end;
	struct runs all;
	int rc;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &begin);
	rc = runs_read(&all, &dir, 1);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
	*seconds = (double)(end.tv_sec - begin.tv_sec) + 1e-9 * (double)(end.tv_nsec - begin.tv_nsec);
	m->events = all.count ? all.at[0].events : 0;
	m->segments = all.count ? all.at[0].segments : 0;
	runs_release(&all);
	return rc;
}

static int once_s(void *context, double *seconds)
{
	return analysis_s(context, seconds);
}

static int twice_s(void *context, double *seconds)
{
	return analysis_s((struct made_records *)context + 1, seconds);
}

/* Per second and core, for the CPU time of all threads is what is counted. */
static int analysis_speed(const struct bench_options *o, struct figure *f)
{
	static measurement *const race[] = { once_s, twice_s };
	struct made_records m[2];
	double s[ARRAY_LEN(race)];
	int rc = made_records_make(&m[0], o->out, 1000);

	rc = rc ? rc : made_records_make(&m[1], o->out, 2000);
	rc = rc ? rc : turns(o, race, ARRAY_LEN(race), m, s);
	if (!rc) {
		f->value = (double)m[1].segments / s[1];
		snprintf(f->yardstick, sizeof(f->yardstick),
			 "records of 32 ranks x 2,000 iterations to blame, %.0f ns an event; twice the events take %.2f times as long",
			 1e9 * s[1] / (double)m[1].events, s[1] / s[0] * (double)m[0].events * 2 / (double)m[1].events);
	}
	dir_remove(m[0].dir);
	dir_remove(m[1].dir);
	return rc;
}

/* ---- the table ------------------------------------------------------------------------- */

static const struct bench_row rows[] = {
	{ "event_next_ns", "ns", 25, false, event_next },
	{ "event_pair_ns", "ns", NAN, false, event_pair },
	{ "step_over_convolutions", "1", 1.3, false, step_over_convolutions },
	{ "loader_over_decode", "1", 0.85, true, loader_over_decode },
	{ "loader_gain_over_decode", "1", 0.95, true, loader_gain_over_decode },
	{ "loader_uint8_over_decode", "1", 0.95, true, loader_uint8_over_decode },
	{ "loader_uint8_gain_over_decode", "1", 0.95, true, loader_uint8_gain_over_decode },
	{ "index_s", "s", 3, false, index_s },
	{ "analysis_segments_per_s", "1/s", 5e6, true, analysis_speed },
	{ "topo_log_mb_per_s", "MB/s", 200, true, topo_log_speed },
};

static bool past_bound(const struct bench_row *row, double value)
{
	return !isnan(row->bound) && (row->at_least ? value < row->bound : value > row->bound);
}

static cJSON *row_json(const struct bench_row *row, const struct figure *f)
{
	cJSON *o = cJSON_CreateObject();

	cJSON_AddStringToObject(o, "name", row->name);
	cJSON_AddNumberToObject(o, "value", f->value);
	cJSON_AddStringToObject(o, "unit", row->unit);
	cJSON_AddStringToObject(o, "yardstick", f->yardstick);
	cJSON_AddItemToObject(o, "bound", isnan(row->bound) ? cJSON_CreateNull() : cJSON_CreateNumber(row->bound));
	cJSON_AddStringToObject(o, "bound_is", row->at_least ? "floor" : "ceiling");
	return o;
}

static bool is_wanted(const struct bench_options *o, const struct bench_row *row)
{
	return !o->only || !strncmp(row->name, o->only, strlen(o->only));
}

/* Prints each figure when it is there; with all of them the document is written as far as it is known. */
static int measure_all(const struct bench_options *o, const char *path, const struct place *place, size_t *missed)
{
	cJSON *doc = cJSON_CreateObject(), *figures;
	int rc = OK;

	cJSON_AddStringToObject(doc, "version", BUILD_VERSION);
	cJSON_AddStringToObject(doc, "build", BUILD_FLAGS);
	cJSON_AddItemToObject(doc, "place", place_json(place));
	figures = cJSON_AddArrayToObject(doc, "figures");
	for (size_t i = 0; i < ARRAY_LEN(rows) && !rc; i++) {
		const struct bench_row *row = &rows[i];
		struct figure f = { 0 };
		char bound[48] = "";

		if (!is_wanted(o, row))
			continue;
		rc = row->measure(o, &f);
		if (rc)
			break;
		if (!isnan(row->bound))
			snprintf(bound, sizeof(bound), "at %s %g; ", row->at_least ? "least" : "most", row->bound);
		printf("%-29s %8.3f %-4s %s%s\n", row->name, f.value, row->unit, bound, f.yardstick);
		fflush(stdout);
		cJSON_AddItemToArray(figures, row_json(row, &f));
		*missed += past_bound(row, f.value);
		if (!o->only)
			rc = json_write(path, doc);
	}
	cJSON_Delete(doc);
	return rc;
}

static int find_wanted(const struct bench_options *o)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (is_wanted(o, &rows[i]))
			return OK;
	return err(USAGE, "bench: no figure's name begins with '%s'", o->only);
}

static int bench_main(int argc, char **argv)
{
	struct bench_options o;
	struct place place;
	const char **operands = calloc((size_t)argc + 1, sizeof(*operands));
	char path[PATH_BYTES];
	size_t operand_count, missed = 0;
	int rc = operands ? opt_parse(&command_bench, &o, argc, argv, operands, &operand_count)
			  : err(NO_MEMORY, "no memory for %d words", argc);

	free(operands);
	if (!rc && !o.repeat)
		rc = err(USAGE, "bench: --repeat is at least 1");
	if (!rc)
		rc = find_wanted(&o);
	if (!rc)
		rc = place_find(&place, 1, 1, 1, NULL);
	if (!rc)
		rc = dir_make(o.out);
	if (!rc)
		rc = path_make(path, "%s/bench.json", o.out);
	if (rc)
		return rc;
	rc = measure_all(&o, path, &place, &missed);
	if (!rc && missed)
		rc = err(BELOW, "%zu figure%s past the bound", missed, missed == 1 ? " is" : "s are");
	return rc;
}
