/*
 * tests/made_folder.h - the made job (tests/made.h) as a run folder, as `run` would leave it.
 *
 * Ranks lie on nodes in blocks.  Where the plan shifts clocks, every record has sync points that say by how much.
 */
#ifndef SFSCALE_TESTS_MADE_FOLDER_H
#define SFSCALE_TESTS_MADE_FOLDER_H

#include "bench/base/err.h"
#include "bench/base/file.h"
#include "bench/base/folder.h"
#include "bench/base/record.h"
#include "tests/made.h"

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
	static const char *const lanes[] = { "train", "comm" };
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
	cJSON_AddItemToObject(head, "lanes", cJSON_CreateStringArray(lanes, ARRAY_LEN(lanes)));
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

/* The plan's sink and context for it are not used.  `nodes` divides the ranks; `events` receives how many there are. */
static int made_folder_write(const char *dir, const struct made *plan, int nodes, size_t *events)
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

#endif
