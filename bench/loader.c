/*
 * bench/loader.c - `sfscale loader`: the loader alone, without network and without other ranks.
 *
 * Clips per second against the number of workers, by policy, with a warm and with a cold page cache, beside what the cores
 * could decode if they did nothing else.  A training step may be emulated by sleeping, which takes no core from the
 * workers and is kind to them in that.
 *
 * Warm: all files were read before.  Cold: their pages are dropped from the page cache (posix_fadvise; needs no
 * privilege) before a run of one epoch; what the storage itself caches stays, and the table says how many pages
 * stayed in memory all the same.
 *
 * Two utilisations stand side by side.  DLIO's AU: compute of all steps but the first / (wall time - first step).  Ours: the
 * share of the wall time, boundaries included, in which nobody waited for a batch.
 */
#include "bench/base/clock.h"
#include "bench/base/err.h"
#include "bench/base/file.h"
#include "bench/base/table.h"
#include "bench/commands.h"
#include "bench/place.h"
#include "kernels/net.h"
#include "loader/bare.h"
#include "loader/loader.h"
#include "report/plot.h"

#include <build.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct loader_options {
	const char *data, *out, *policies, *workers, *cache, *pixels;
	uint64_t clips, frames, crop, epochs, iterations, prefetch, seed;
	double compute_ms, storage_ms;
};

#define AT(field) offsetof(struct loader_options, field)

static const struct opt opts[] = {
	{ "data", OPT_NAME, AT(data), NULL, "AVA data set (sfscale data make)", NULL },
	{ "out", OPT_NAME, AT(out), "results/loader", "folder of loader.txt, .csv, .json, .svg, .png", NULL },
	{ "policies", OPT_NAME, AT(policies), "threads,persistent,fork,respawn", "who loads, separated by commas (inline respawn fork "
	  "persistent threads)", NULL },
	{ "workers", OPT_NAME, AT(workers), "0,1,2,4,6,8", "numbers of workers, separated by commas; 0: the training thread loads", NULL },
	{ "cache", OPT_NAME, AT(cache), "both", "state of the page cache", "warm|cold|both" },
	{ "pixels", OPT_NAME, AT(pixels), "fp32", "normalised tensors of both pathways, or crops of bytes, a fifth of that", LOADER_PIXELS },
	{ "clips", OPT_U64, AT(clips), "1", "clips per batch", NULL },
	{ "frames", OPT_U64, AT(frames), "32", "frames of the fast pathway", NULL },
	{ "crop", OPT_U64, AT(crop), "224", "height and width of a clip", NULL },
	{ "epochs", OPT_U64, AT(epochs), "2", "epochs with a warm cache; cold: 1", NULL },
	{ "iterations", OPT_U64, AT(iterations), "0", "batches per epoch at most; 0: the whole data set", NULL },
	{ "prefetch", OPT_U64, AT(prefetch), "2", "batches in flight per worker", NULL },
	{ "seed", OPT_U64, AT(seed), "0", "of sample order and transforms", NULL },
	{ "compute-ms", OPT_F64, AT(compute_ms), "0", "emulated training step: sleep after each batch", NULL },
	{ "emulate-storage-ms", OPT_F64, AT(storage_ms), "0", "each frame's file takes that much longer to come", NULL },
};

static int loader_main(int argc, char **argv);

const struct command command_loader = { "loader", "", "the loader alone: clips/s against workers, policies, warm and cold page cache",
					opts, ARRAY_LEN(opts), loader_main, sizeof(struct loader_options) };

static const struct field fields[] = {
	{ "policy", "", "who loads; decode: a loop that reads and decodes all frames and does nothing else", 0 },
	{ "workers", "1", "workers; of decode: threads, as many as workers would be, at most one per core", 0 },
	{ "cache", "", "warm: all files read before; cold: their pages dropped before", 0 },
	{ "cached_percent", "%", "of the data's pages in memory at the start, from a sample of files", 1 },
	{ "clips_per_s", "clips/s", "clips / time, from the first batch of each epoch to its last", 2 },
	{ "whole_clips_per_s", "clips/s", "clips / time, all epochs with their boundaries, start-up included", 2 },
	{ "decode_percent", "%", "100 x clips_per_s / clips_per_s of decode with as many", 1 },
	{ "first_batch_ms", "ms", "from the first epoch's begin to its first batch", 2 },
	{ "boundary_ms", "ms", "from another epoch's begin to its first batch, mean", 2 },
	{ "stall_ms", "ms", "waiting for a batch, the first of each epoch left out, mean", 3 },
	{ "au_percent", "%", "DLIO's accelerator utilisation: 100 x compute of all steps but the first / (wall - first step)", 1 },
	{ "fed_percent", "%", "ours: 100 x (1 - (stalls + boundaries) / wall)", 1 },
};

/* ---- the page cache -------------------------------------------------------------------- */

/* Calls `what` for every `step`-th file. */
static void each_file(const glob_t *files, size_t step, void (*what)(int fd, void *), void *context)
{
	for (size_t i = 0; i < files->gl_pathc; i += step) {
		int fd = open(files->gl_pathv[i], O_RDONLY | O_CLOEXEC);

		if (fd < 0)
			continue;
		what(fd, context);
		close(fd);
	}
}

static void drop(int fd, void *context)
{
	(void)context;
	fdatasync(fd);		/* what is still to be written cannot be dropped */
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
}

static void warm(int fd, void *context)
{
	char buffer[1 << 16];

	(void)context;
	while (read(fd, buffer, sizeof(buffer)) > 0)
		;
}

struct pages {
	size_t all, here;
};

static void count_pages(int fd, void *context)
{
	struct pages *p = context;
	size_t page = (size_t)sysconf(_SC_PAGE_SIZE), n;
	struct stat st;
	unsigned char *there;
	void *at;

	if (fstat(fd, &st) || !st.st_size)
		return;
	n = ((size_t)st.st_size + page - 1) / page;
	there = malloc(n);
	at = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (there && at != MAP_FAILED && !mincore(at, (size_t)st.st_size, there)) {
		p->all += n;
		for (size_t i = 0; i < n; i++)
			p->here += there[i] & 1;
	}
	if (at != MAP_FAILED)
		munmap(at, (size_t)st.st_size);
	free(there);
}

/* Returns the share of pages in memory, in percent. */
static double prepare_cache(const glob_t *files, bool cold)
{
	enum { SAMPLE = 256 };
	struct pages p = { 0 };

	each_file(files, 1, cold ? drop : warm, NULL);
	each_file(files, files->gl_pathc / SAMPLE + 1, count_pages, &p);
	return p.all ? 100 * (double)p.here / (double)p.all : NAN;
}

/* ---- one run --------------------------------------------------------------------------- */

/* ns, but for the counts. */
struct pass {
	uint64_t wall, start_up, boundaries, stall, steady, first_step, compute;
	size_t batches, epochs;
};

static int run_epoch(struct loader *ld, const struct loader_options *o, size_t epoch, struct pass *p)
{
	uint64_t compute_ns = (uint64_t)(1e6 * o->compute_ms), begin = clock_ns(), first = 0, now = begin;
	struct clip_batch batch;
	int rc = loader_epoch_begin(ld, epoch);

	for (size_t i = 0; i < loader_iterations(ld) && !rc; i++) {
		uint64_t asked = clock_ns(), got;

		rc = loader_next(ld, &batch);
		got = clock_ns();
		if (i)
			p->stall += got - asked;
		else
			first = got;
		if (compute_ns)
			clock_sleep_ns(compute_ns);
		now = clock_ns();
		p->compute += now - got;
		if (!i && !epoch)
			p->first_step = now - begin;
	}
	*(epoch ? &p->boundaries : &p->start_up) += first - begin;
	p->steady += now - first;
	p->wall += now - begin;
	p->batches += loader_iterations(ld);
	p->epochs++;
	return rc;
}

static int run_pass(const struct loader_options *o, const char *policy, size_t workers, size_t epochs, struct pass *p)
{
	struct loader *ld;
	int rc = loader_open(&ld, &(struct loader_config){
		.data = o->data, .policy = policy, .workers = workers, .prefetch = o->prefetch, .clips = o->clips,
		.frames = o->frames, .alpha = NET_ALPHA, .rate = LOADER_RATE, .crop = o->crop, .crops = loader_crops(o->pixels),
		.scale_min = loader_scaled(o->crop, LOADER_SCALE_MIN), .scale_max = loader_scaled(o->crop, LOADER_SCALE_MAX),
		.seed = o->seed, .world = 1, .epochs = epochs, .iterations_max = o->iterations,
		.storage_ns = (uint64_t)(1e6 * o->storage_ms) });

	*p = (struct pass){ 0 };
	if (rc)
		return rc;
	for (size_t e = 0; e < epochs && !rc; e++)
		rc = run_epoch(ld, o, e, p);
	loader_close(ld);
	return rc;
}

static void pass_row(struct table *t, const struct loader_options *o, const char *policy, size_t workers, bool cold, double cached,
		     double decode, const struct pass *p)
{
	double clips = (double)(p->batches * o->clips), steady_clips = (double)((p->batches - p->epochs) * o->clips);
	double rate = steady_clips * NS_PER_S / (double)p->steady;

	table_text(t, policy);
	table_int(t, (int64_t)workers);
	table_text(t, cold ? "cold" : "warm");
	table_real(t, cached);
	table_real(t, p->batches > p->epochs ? rate : NAN);
	table_real(t, clips * NS_PER_S / (double)p->wall);
	table_real(t, p->batches > p->epochs ? 100 * rate / decode : NAN);
	table_real(t, 1e-6 * (double)p->start_up);
	table_real(t, p->epochs > 1 ? 1e-6 * (double)p->boundaries / (double)(p->epochs - 1) : NAN);
	table_real(t, p->batches > p->epochs ? 1e-6 * (double)p->stall / (double)(p->batches - p->epochs) : NAN);
	table_real(t, o->compute_ms > 0 && p->batches > 1
		   ? 100 * (double)p->compute * (double)(p->batches - 1) / (double)p->batches / (double)(p->wall - p->first_step) : NAN);
	table_real(t, 100 * (1 - (double)(p->stall + p->start_up + p->boundaries) / (double)p->wall));
}

static void decode_row(struct table *t, size_t threads, double clips_per_s)
{
	table_text(t, "decode");
	table_int(t, (int64_t)threads);
	table_text(t, "warm");
	table_real(t, 100);
	table_real(t, clips_per_s);
	for (size_t i = 5; i < ARRAY_LEN(fields); i++)
		table_none(t);
}

/* ---- all of them ----------------------------------------------------------------------- */

enum { LIST_MAX = 32 };

/* The words of a list with commas, in `copy`; 0: none, or too many. */
static size_t split(char *copy, char *words[LIST_MAX])
{
	size_t n = 0;

	for (char *at = strtok(copy, ","); at; at = strtok(NULL, ","))
		if (n == LIST_MAX)
			return 0;
		else
			words[n++] = at;
	return n;
}

struct plan {
	char policy_text[256], worker_text[256];
	char *policies[LIST_MAX];
	size_t policy_count, workers[LIST_MAX], worker_count;
	size_t decoders[LIST_MAX];	/* bare ones beside as many workers: at most one per core */
	double decode[LIST_MAX];	/* what they do, in clips per second */
};

static int plan_make(struct plan *p, const struct loader_options *o, size_t cores)
{
	char *words[LIST_MAX];

	*p = (struct plan){ 0 };
	snprintf(p->policy_text, sizeof(p->policy_text), "%s", o->policies);
	snprintf(p->worker_text, sizeof(p->worker_text), "%s", o->workers);
	p->policy_count = split(p->policy_text, p->policies);
	p->worker_count = split(p->worker_text, words);
	if (!p->policy_count || !p->worker_count)
		return err(USAGE, "loader: --policies and --workers are lists of 1 to %d words", LIST_MAX);
	for (size_t i = 0; i < p->worker_count; i++) {
		char *end;
		unsigned long n = strtoul(words[i], &end, 10);

		if (*end || n > 1024)
			return err(USAGE, "loader: --workers '%s' is no number up to 1024", words[i]);
		p->workers[i] = n;
		p->decoders[i] = n < 1 ? 1 : n < cores ? n : cores;
	}
	return OK;
}

/* A row for each number of decoders, with a warm cache. */
static int measure_decoding(struct table *t, const struct loader_options *o, struct plan *plan, const glob_t *files)
{
	int rc = OK;

	prepare_cache(files, false);
	for (size_t i = 0; i < plan->worker_count && !rc; i++) {
		size_t same = 0;

		while (plan->decoders[same] != plan->decoders[i])
			same++;
		if (same == i) {
			rc = bare_decode_rate(files, plan->decoders[i], &plan->decode[i]);
			plan->decode[i] /= (double)o->frames;
			if (!rc)
				decode_row(t, plan->decoders[i], plan->decode[i]);
		}
		plan->decode[i] = plan->decode[same];
	}
	return rc;
}

/* Prints each row when it is there: a long measurement shows that it lives. */
static int measure(struct table *t, const struct loader_options *o, struct plan *plan, const glob_t *files)
{
	int rc = measure_decoding(t, o, plan, files);

	for (int cold = 0; cold < 2 && !rc; cold++)
		for (size_t k = 0; k < plan->policy_count; k++)
			for (size_t i = 0; i < plan->worker_count && !rc; i++) {
				size_t workers = plan->workers[i];
				double cached;
				struct pass p;

				/* Without workers there is one policy. */
				if ((!workers && k) || !strcmp(o->cache, cold ? "warm" : "cold"))
					continue;
				cached = prepare_cache(files, cold);
				rc = run_pass(o, workers ? plan->policies[k] : "inline", workers, cold ? 1 : o->epochs, &p);
				if (rc)
					break;
				pass_row(t, o, workers ? plan->policies[k] : "inline", workers, cold, cached, plan->decode[i], &p);
				printf("%-10s %zu workers, %s: %.1f clips/s\n", workers ? plan->policies[k] : "inline", workers,
				       cold ? "cold" : "warm", (double)(p.batches * o->clips) * NS_PER_S / (double)p.wall);
				fflush(stdout);
			}
	return rc;
}

/* ---- what comes out -------------------------------------------------------------------- */

static const char *draw(FILE *f, const void *context)
{
	const struct table *t = context;
	static const char *const colours[] = { "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000" };
	char names[16][48];
	size_t lines = 0;
	double limit = 0, inline_rate[2] = { NAN, NAN }, low = INFINITY, high = 0;

	for (size_t r = 0; r < table_rows(t); r++) {
		const char *policy = table_cell(t, r, 0)->text, *cache = table_cell(t, r, 2)->text;
		char name[48];
		size_t i = 0;

		snprintf(name, sizeof(name), "%s, %s", policy, cache);
		low = fmin(low, (double)table_cell(t, r, 1)->whole);
		high = fmax(high, (double)table_cell(t, r, 1)->whole);
		if (!strcmp(policy, "decode"))
			limit = fmax(limit, table_cell(t, r, 4)->real);
		if (!strcmp(policy, "inline") && table_cell(t, r, 4)->kind == CELL_REAL)
			inline_rate[!strcmp(cache, "cold")] = table_cell(t, r, 4)->real;
		while (i < lines && strcmp(names[i], name))
			i++;
		if (i == lines && lines < ARRAY_LEN(names) && strcmp(policy, "inline") && strcmp(policy, "decode"))
			memcpy(names[lines++], name, sizeof(name));
	}
	for (size_t i = 0; i < lines; i++) {
		bool cold = strstr(names[i], ", cold") != NULL;

		fprintf(f, "$l%zu << EOD\n", i);
		if (!isnan(inline_rate[cold]))
			fprintf(f, "0 %.6g\n", inline_rate[cold]);
		for (size_t r = 0; r < table_rows(t); r++) {
			char name[48];

			snprintf(name, sizeof(name), "%s, %s", table_cell(t, r, 0)->text, table_cell(t, r, 2)->text);
			if (!strcmp(name, names[i]) && table_cell(t, r, 4)->kind == CELL_REAL)
				fprintf(f, "%lld %.6g\n", (long long)table_cell(t, r, 1)->whole, table_cell(t, r, 4)->real);
		}
		fprintf(f, "EOD\n");
	}
	fprintf(f, "set xlabel 'workers'\nset ylabel 'clips/s, first batches left out'\nset yrange [0:*]\nset xtics 1\n"
		   "set xrange [%g:%g]\nset key outside right center reverse Left\n"
		   "plot %.6g with lines lw 2 dt 2 lc rgb '#666666' title 'decoding alone, at most'", low - 0.4, high + 0.4, limit);
	for (size_t i = 0; i < lines; i++) {
		bool cold = strstr(names[i], ", cold") != NULL;

		fprintf(f, ", \\\n  $l%zu using 1:2 with linespoints lw 2 dt %d pt %d ps 1.2 lc rgb '%s' title ", i, cold ? 2 : 1, cold ? 6 : 7,
			colours[i % ARRAY_LEN(colours)]);
		figure_quoted(f, names[i]);
	}
	fprintf(f, "\n");
	return NULL;
}

static int write_json(const struct loader_options *o, const struct table *t, const struct place *place)
{
	cJSON *doc = cJSON_CreateObject();
	char path[PATH_BYTES];
	int rc = path_make(path, "%s/loader.json", o->out);

	cJSON_AddStringToObject(doc, "version", BUILD_VERSION);
	cJSON_AddItemToObject(doc, "place", place_json(place));
	cJSON_AddItemToObject(doc, "options", opt_json(opts, ARRAY_LEN(opts), o));
	cJSON_AddItemToObject(doc, "fields", table_fields_json(t));
	cJSON_AddItemToObject(doc, "rows", table_json(t));
	if (!rc)
		rc = json_write(path, doc);
	cJSON_Delete(doc);
	return rc;
}

static int write_text(const struct loader_options *o, const struct table *t)
{
	char path[PATH_BYTES];
	FILE *f;

	if (path_make(path, "%s/loader.txt", o->out) || !(f = file_begin(path)))
		return FAILED;
	table_print_text(t, f);
	return file_end(f, path, OK);
}

static int check(const struct loader_options *o)
{
	if (!o->data)
		return err(USAGE, "loader: --data DIR is needed ('sfscale data make' makes one)");
	if (!o->epochs || !o->frames || !o->prefetch)
		return err(USAGE, "loader: --epochs, --frames and --prefetch are at least 1");
	if (!(o->compute_ms >= 0 && o->compute_ms <= 1e6) || !(o->storage_ms >= 0 && o->storage_ms <= 1e6))
		return err(USAGE, "loader: --compute-ms and --emulate-storage-ms are 0 to 1e+06");
	return OK;
}

static int loader_main(int argc, char **argv)
{
	struct loader_options o;
	struct plan plan;
	struct place place;
	struct table t;
	glob_t files = { 0 };
	const char **operands = calloc((size_t)argc + 1, sizeof(*operands));
	char title[512], why[PLOT_WHY_BYTES] = "";
	bool made = false;
	size_t operand_count;
	int rc = operands ? opt_parse(&command_loader, &o, argc, argv, operands, &operand_count)
			  : err(NO_MEMORY, "no memory for %d words", argc);

	free(operands);
	if (!rc)
		rc = check(&o);
	if (!rc)
		rc = place_find(&place, 1, 1, 1, o.storage_ms > 0 ? o.compute_ms > 0 ? "compute and storage" : "storage" :
				o.compute_ms > 0 ? "compute" : NULL);
	if (!rc)
		rc = plan_make(&plan, &o, place.pus_bound);
	if (!rc)
		rc = bare_find(o.data, &files);
	if (!rc)
		rc = dir_make(o.out);
	if (rc) {
		globfree(&files);
		return rc;
	}
	snprintf(title, sizeof(title), "The loader alone, %s (%s)", o.pixels, place.text);
	table_init(&t, "loader", title, fields, ARRAY_LEN(fields));
	rc = measure(&t, &o, &plan, &files);
	if (!rc) {
		table_print_text(&t, stdout);
		rc = write_text(&o, &t);
	}
	if (!rc)
		rc = table_write_csv(&t, o.out);
	if (!rc)
		rc = write_json(&o, &t, &place);
	if (!rc)
		rc = plot_make(o.out, &(struct plot){ .name = "loader", .title = "How many clips does the loader make, with how many "
			       "workers?", .place = place.text, .width = FIGURE_WIDTH, .draw = draw, .context = &t }, &made, why);
	if ((!rc || rc == UNSUPPORTED) && !made)
		rc = err(UNSUPPORTED, "no picture in '%s': %s", o.out, why);
	table_release(&t);
	globfree(&files);
	return rc;
}
