/*
 * bench/run_folder.c - what a run leaves behind: run.json, and the record of each rank (bench/base/folder.h).
 */
#include "bench/run.h"

#include "bench/base/err.h"
#include "bench/base/folder.h"
#include "bench/base/hash.h"

#include <build.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RING_EVENTS = 1 << 12 };

static cJSON *step_json(const struct run *r)
{
	cJSON *o = cJSON_CreateObject(), *buckets;
	char made_up[EMULATED_BYTES];

	cJSON_AddNumberToObject(o, "parameters", (double)r->net.values);
	cJSON_AddNumberToObject(o, "gradient_bytes", (double)(r->net.values * sizeof(float)));
	cJSON_AddStringToObject(o, "precision", r->kernels->precision);
	cJSON_AddNumberToObject(o, "device_bytes", (double)r->kernels->device_bytes);
	cJSON_AddNumberToObject(o, "macs_per_clip", (double)r->net.conv_macs);
	cJSON_AddNumberToObject(o, "clips_per_rank", (double)(r->o.clips * r->batches) / (double)r->iterations);
	cJSON_AddNumberToObject(o, "iterations_per_epoch", (double)r->iterations / (double)(r->grid.epochs - r->first_epoch));
	cJSON_AddNumberToObject(o, "epochs", (double)(r->grid.epochs - r->first_epoch));
	cJSON_AddNumberToObject(o, "first_epoch", (double)r->first_epoch);
	cJSON_AddItemToObject(o, "resumed", *r->resumed ? cJSON_CreateString(r->resumed) : cJSON_CreateNull());
	cJSON_AddNumberToObject(o, "emulate_ranks", (double)r->o.emulate_ranks);
	cJSON_AddBoolToObject(o, "emulated", run_emulated(&r->o, made_up));
	buckets = cJSON_AddArrayToObject(o, "buckets");
	for (size_t i = 0; i < r->buckets.bucket_count; i++) {
		cJSON *b = cJSON_CreateObject();

		cJSON_AddNumberToObject(b, "tensors", (double)r->buckets.buckets[i].tensors);
		cJSON_AddNumberToObject(b, "bytes", (double)(r->buckets.buckets[i].count * sizeof(float)));
		cJSON_AddItemToArray(buckets, b);
	}
	return o;
}

static cJSON *results_json(const struct run *r)
{
	cJSON *o, *epochs;

	if (r->step.epochs_done == r->first_epoch)
		return cJSON_CreateNull();
	o = cJSON_CreateObject();
	epochs = cJSON_AddArrayToObject(o, "epochs");
	for (size_t i = r->first_epoch; i < r->step.epochs_done; i++) {
		const struct epoch_result *e = &r->step.results[i];
		cJSON *one = cJSON_CreateObject();
		char checksum[17];

		snprintf(checksum, sizeof(checksum), "%016" PRIx64, e->checksum);
		cJSON_AddNumberToObject(one, "loss", e->loss);
		cJSON_AddNumberToObject(one, "lr", e->lr);
		cJSON_AddStringToObject(one, "checksum", checksum);
		cJSON_AddNumberToObject(one, "skipped_clips", (double)e->skipped);
		if (e->validated)
			cJSON_AddItemToObject(one, "mAP", isnan(e->map) ? cJSON_CreateNull() : cJSON_CreateNumber(e->map));
		cJSON_AddItemToArray(epochs, one);
	}
	return o;
}

static cJSON *libraries_json(const struct run *r)
{
	cJSON *o = cJSON_CreateObject();
	char text[PATH_BYTES + 64];

	for (const struct comm_backend *c = r->comm->backend; c; c = c->host)
		if (!c->version(text, sizeof(text)))
			cJSON_AddStringToObject(o, c->name, text);
	if (r->kernels->backend->version && !r->kernels->backend->version(text, sizeof(text)))
		cJSON_AddStringToObject(o, r->kernels->backend->name, text);
	return o;
}

static cJSON *warnings_json(const struct run *r)
{
	cJSON *list = cJSON_CreateArray();
	size_t threads = r->place.ranks_per_node * r->place.nodes / r->place.hosts *
		run_kernel_threads(r);
	char text[1024];

	if (strcmp(r->o.kernels, "null") && threads > r->place.pus) {
		snprintf(text, sizeof(text), "%zu compute threads share %zu cores of one host: ranks slow each other down",
			 threads, r->place.pus);
		cJSON_AddItemToArray(list, cJSON_CreateString(text));
	}
	if (r->o.one_gpu)
		cJSON_AddItemToArray(list, cJSON_CreateString("all ranks share one GPU (--one-gpu): its times and speeds mean nothing"));
	if (r->changes) {
		snprintf(text, sizeof(text), "goes on from '%.80s' as it was not begun: %s", r->resumed,
			 r->changes);
		cJSON_AddItemToArray(list, cJSON_CreateString(text));
	}
	for (size_t i = 0; i < r->o.inject.count; i++) {
		snprintf(text, sizeof(text), "a delay was put in on purpose: %s", r->o.inject.at[i]);
		cJSON_AddItemToArray(list, cJSON_CreateString(text));
	}
	return list;
}

int run_write_json(const struct run *r, const char *status, const char *reason)
{
	cJSON *o = cJSON_CreateObject(), *cost;
	int rc;

	cJSON_AddNumberToObject(o, "schema", FOLDER_SCHEMA);
	cJSON_AddStringToObject(o, "status", status);
	cJSON_AddItemToObject(o, "reason", reason ? cJSON_CreateString(reason) : cJSON_CreateNull());
	cJSON_AddStringToObject(o, "id", r->id);
	cJSON_AddStringToObject(o, "version", BUILD_VERSION);
	cJSON_AddStringToObject(o, "build", BUILD_FLAGS);
	cJSON_AddStringToObject(o, "command", r->command);
	cJSON_AddStringToObject(o, "started", r->started);
	cJSON_AddItemReferenceToObject(o, "options", r->options);
	cJSON_AddItemToObject(o, "place", place_json(&r->place));
	cJSON_AddItemToObject(o, "libraries", libraries_json(r));
	cJSON_AddItemToObject(o, "step", step_json(r));
	cost = cJSON_AddObjectToObject(o, "event_cost");
	cJSON_AddNumberToObject(cost, "pair_ns", r->event_cost.pair_ns);
	cJSON_AddNumberToObject(cost, "next_ns", r->event_cost.next_ns);
	if (r->backend->on_device) {
		cJSON_AddNumberToObject(cost, "stamp_ns", r->kernels->stamp_ns);
		cJSON_AddNumberToObject(cost, "clock_bound_ns", r->kernels->clock_bound_ns);
	}
	cJSON_AddItemToObject(o, "results", results_json(r));
	cJSON_AddItemToObject(o, "warnings", warnings_json(r));
	rc = json_write(r->run_json, o);
	cJSON_Delete(o);
	return rc;
}

/* Rank 0 claims the folder: of two runs that want the same one, the second is refused. */
static int claim_folder(struct run *r)
{
	char boot[CLOCK_BOOT_BYTES];
	int rc = dir_make(r->o.out), fd;

	if (rc)
		return rc;
	fd = open(r->run_json, O_WRONLY | O_CREAT | O_EXCL, 0644);
	if (fd < 0 && errno == EEXIST)
		return err(FAILED, "'%s' already holds a run; name another --out.  (Started by a launcher as several ranks? Then "
			   "each may believe to be alone.)", r->o.out);
	if (fd < 0)
		return err(FAILED, "cannot create '%s': %s", r->run_json, strerror(errno));
	close(fd);
	r->has_folder = true;
	clock_boot_id(boot);
	snprintf(r->id, sizeof(r->id), "%016" PRIx64,
		 hash_word(hash_word(hash_text(HASH_START, boot), clock_ns(), 8), (uint64_t)getpid(), 8));
	return run_write_json(r, "running", NULL);
}

int run_share_folder(struct run *r)
{
	int rc = path_make(r->run_json, "%s/%s", r->o.out, FOLDER_RUN);
	int32_t verdict;

	if (!rc && r->comm->rank == 0)
		rc = claim_folder(r);
	verdict = rc;
	if (r->comm->backend->bcast(r->comm, &verdict, sizeof(verdict), 0) ||
	    r->comm->backend->bcast(r->comm, r->id, sizeof(r->id), 0))
		return RANK_FAILED;
	if (!verdict)
		r->has_folder = true;
	return rc ? rc : verdict;
}

static cJSON *record_head(const struct run *r)
{
	cJSON *o = cJSON_CreateObject();
	char host[256] = "", boot[CLOCK_BOOT_BYTES];

	gethostname(host, sizeof(host) - 1);
	cJSON_AddStringToObject(o, "run", r->id);
	cJSON_AddNumberToObject(o, "rank", (double)r->comm->rank);
	cJSON_AddNumberToObject(o, "world", (double)r->comm->world);
	cJSON_AddNumberToObject(o, "node", (double)(r->comm->rank / r->place.ranks_per_node));
	cJSON_AddNumberToObject(o, "local_rank", (double)r->comm->local_rank);
	cJSON_AddStringToObject(o, "host", host);
	clock_boot_id(boot);
	cJSON_AddStringToObject(o, "boot_id", boot);
	cJSON_AddNumberToObject(o, "pid", (double)getpid());
	cJSON_AddStringToObject(o, "pus", r->place.bound_to);
	if (r->backend->on_device)
		cJSON_AddNumberToObject(o, "device_bound_ns", r->kernels->clock_bound_ns);
	cJSON_AddItemToObject(o, "libraries", libraries_json(r));	/* ranks may find other files than rank 0 */
	return o;
}

static int open_recorder(struct run *r)
{
	static const char *const fixed[] = { [LANE_TRAIN] = "train", [LANE_COMM] = "comm", [LANE_COMPUTE] = "gpu", [LANE_COPY] = "copy" };
	const size_t fixed_count = run_fixed_lanes(r), lanes = fixed_count + r->o.workers;
	size_t events = RING_EVENTS;
	char (*names)[32] = calloc(lanes, sizeof(*names)), path[PATH_BYTES];
	const char **list = calloc(lanes, sizeof(*list));
	cJSON *head;
	int rc;

	if (!names || !list) {
		free(names);
		free(list);
		return err(NO_MEMORY, "no memory for %zu lanes", lanes);
	}
	for (size_t i = 0; i < lanes; i++) {
		if (i < fixed_count)
			snprintf(names[i], sizeof(names[i]), "%s", fixed[i]);
		else
			snprintf(names[i], sizeof(names[i]), "worker %zu", i - fixed_count);
		list[i] = names[i];
	}
	/* A ring is emptied once per iteration. */
	while (events < 2 * r->o.emulate_ranks * multigrid_times_max(&r->grid) * (step_row_count + r->buckets.bucket_count))
		events *= 2;
	head = record_head(r);
	rc = path_make(path, "%s/" FOLDER_RECORD, r->o.out, r->comm->rank);
	if (!rc)
		rc = recorder_open(&r->recorder, path, head, list, lanes, events);
	cJSON_Delete(head);
	free(names);
	free(list);
	return rc;
}

static int give_lanes_to_loader(struct run *r)
{
	r->worker_lanes = calloc(r->o.workers + 1, sizeof(*r->worker_lanes));
	if (!r->worker_lanes)
		return err(NO_MEMORY, "no memory for %" PRIu64 " lanes", r->o.workers);
	for (size_t i = 0; i < r->o.workers; i++)
		r->worker_lanes[i] = recorder_lane(r->recorder, run_fixed_lanes(r) + i);
	loader_lanes(r->loader, recorder_lane(r->recorder, LANE_TRAIN), r->worker_lanes);
	return OK;
}

int run_open_record(struct run *r)
{
	int rc = open_recorder(r);

	if (!rc)
		recorder_lane(r->recorder, LANE_TRAIN)->launches = r->backend->on_device;
	return rc ? rc : give_lanes_to_loader(r);
}
