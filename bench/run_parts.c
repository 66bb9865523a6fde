/*
 * bench/run_parts.c - what the step works with, opened as the options say.
 *
 * A run has phases (one, unless multigrid gives it more), and a phase its loader and a network for
 * each shape of its batches: a *stage*.  One stage is open at a time; while the state moves from one to
 * the next there are two.  A run that goes on from a checkpoint, or starts from weights of a file, gets them
 * on rank 0, from where step_share_state() brings them to all.
 */
#include "bench/run.h"

#include "bench/base/err.h"
#include "bench/base/file.h"
#include "kernels/weights.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool run_emulated(const struct run_options *o, char text[EMULATED_BYTES])
{
	bool compute = !strcmp(o->kernels, "null"), loader = !strcmp(o->policy, "null"), storage = !loader && o->emulate_storage_ms > 0;
	const char *parts = compute && loader ? "compute and loader" : compute && storage ? "compute and storage" :
			    compute ? "compute" : loader ? "loader" : storage ? "storage" : "";
	const char *gpus = "";
	char ranks[48] = "", start[48] = "";

	if (o->emulate_ranks > 1)
		snprintf(ranks, sizeof(ranks), "%s%" PRIu64 " ranks per process", *parts ? ", " : "", o->emulate_ranks);
	if (o->emulate_start_ms && !strcmp(o->policy, "respawn"))	/* others start no programs */
		snprintf(start, sizeof(start), "%sstart of workers", *parts || *ranks ? ", " : "");
	if (o->one_gpu)
		gpus = *parts || *ranks || *start ? ", GPUs" : "GPUs";
	snprintf(text, EMULATED_BYTES, "%s%s%s%s", parts, ranks, start, gpus);
	return *text;
}

static bool old_linspace(const struct run_options *o)
{
	return !strcmp(o->linspace, "old");
}

/* For one phase; the jitter of smaller crops begins lower and ends where that of the full one does. */
static int open_loader(struct run *r, const struct multigrid_phase *p)
{
	const struct run_options *o = &r->o;
	struct loader_config config = {
		.data = o->data, .policy = o->policy, .workers = o->workers, .prefetch = o->prefetch, .clips = o->clips,
		.frames = p->frames, .alpha = NET_ALPHA, .rate = LOADER_RATE, .old_linspace = old_linspace(o),
		.crops = loader_crops(o->pixels), .scale_max = loader_scaled(r->net.crop, LOADER_SCALE_MAX),
		.seed = o->seed, .rank = r->comm->rank * o->emulate_ranks, .world = r->comm->world * o->emulate_ranks,
		.ranks = o->emulate_ranks, .epochs = r->grid.epochs, .turn_count = p->turn_count,
		.storage_ns = (uint64_t)(1e6 * o->emulate_storage_ms), .emulate = o->emulate_loader,
		.skip_damaged = !strcmp(o->on_corrupt, "skip"), .hang_ns = (uint64_t)(o->hang_s * (double)NS_PER_S),
		.start_ns = o->emulate_start_ms * 1000000 };

	for (size_t i = 0; i < p->turn_count; i++) {
		size_t crop = p->turns[i].crop;

		config.crop = crop > config.crop ? crop : config.crop;
		config.turns[i] = (struct loader_turn){ crop, loader_scaled(crop, LOADER_SCALE_MIN), p->turns[i].times };
	}
	config.scale_min = loader_scaled(config.crop, LOADER_SCALE_MIN);
	config.iterations_max = multigrid_batches(p, o->iterations);
	return loader_open(&r->loader, &config);
}

unsigned run_kernel_threads(const struct run *r)
{
	return r->o.threads ? (unsigned)r->o.threads : place_threads(&r->place, r->comm->local_world);
}

/* Iterations of a phase's epochs. */
static size_t iterations_of(const struct run *r, const struct multigrid_phase *p)
{
	size_t batches = loader_batches(r->loader), most = multigrid_batches(p, r->o.iterations);

	return multigrid_iterations(p, most && (batches > most || !strcmp(r->o.policy, "null")) ? most : batches);
}

static int open_stage(struct run *r, struct stage *s, const struct multigrid_phase *p)
{
	const struct run_options *o = &r->o;
	const size_t parts = o->emulate_ranks * multigrid_times_max(&r->grid);
	const size_t boxes = loader_boxes_max(r->loader), others = r->validation ? validation_boxes_max(r->validation) : 0;
	int rc = OK;

	*s = (struct stage){ .phase = p };
	for (size_t i = 0; i < p->turn_count && !rc; i++) {
		rc = net_init(&s->nets[i], net_preset_find(o->net), p->frames, p->turns[i].crop);
		if (!rc)
			rc = r->backend->open(&s->kernels[i], &(struct kernel_config){
				.net = &s->nets[i], .clips_max = o->clips, .boxes_max = boxes > others ? boxes : others,
				.grad_offset = r->buckets.grad_offset,
				.threads = run_kernel_threads(r),
				.seed = o->seed, .dropout_seed = o->seed + 1 + r->comm->rank * parts, .dropout = o->dropout,
				.old_linspace = old_linspace(o), .in_parts = parts > 1, .graph = o->graph, .emulate = o->emulate_kernels,
				.precision = kernel_precision(o->precision), .tuning = r->tuning, .device = r->comm->device });
		if (!rc && r->comm->backend->enlist_device)
			rc = r->comm->backend->enlist_device(r->comm, s->kernels[i]->grads, r->net.values * sizeof(float));
	}
	return rc;
}

static void close_loader(struct run *r)
{
	if (r->pinned)
		r->backend->unpin(r->pinned);
	r->pinned = NULL;
	loader_close(r->loader);
	r->loader = NULL;
}

/* So that batches are fetched by the device alone; without it they are copied by the host first. */
static void pin_batches(struct run *r)
{
	size_t bytes;
	void *at = loader_memory(r->loader, &bytes);

	if (!r->backend->pin)
		return;
	if (r->backend->pin(at, bytes))
		warn("the loader's batches, %.3f GiB, cannot be pinned: each is copied once more on its way to the device",
		     (double)bytes / (1 << 30));
	else
		r->pinned = at;
}

static void close_stage(struct run *r, struct stage *s)
{
	for (size_t i = 0; i < MULTIGRID_TURNS_MAX; i++) {
		struct kernels *k = s->kernels[i];

		if (k && r->comm->backend->delist_device)
			r->comm->backend->delist_device(r->comm, k->grads);
		if (k)
			k->backend->close(k);
		net_release(&s->nets[i]);
	}
	*s = (struct stage){ .phase = NULL };
}

static int open_validation(struct run *r)
{
	const struct run_options *o = &r->o;

	if (!o->eval_period)
		return OK;
	return validation_open(&r->validation, &(struct validation_config){
		.data = o->data, .out = o->out, .every = (unsigned)o->eval_seconds, .clips = o->clips,
		.crops = loader_crops(o->pixels), .threads = o->workers ? o->workers : 1,
		.kernel_threads = run_kernel_threads(r), .device = r->comm->device, .rank = r->comm->rank, .world = r->comm->world,
		.geometry = { .rule = strcmp(o->eval_frames, "whole") ? CLIP_VAL : CLIP_TEST, .frames = r->net.frames,
			      .alpha = NET_ALPHA, .rate = LOADER_RATE, .old_linspace = old_linspace(o),
			      .crop = r->net.crop } });
}

/* Rank 0 measures what the file does not know, and writes down what is known then. */
static int open_tuned(struct run *r)
{
	const char *path = r->o.tuning, *tuning;
	int rc = path && !access(path, F_OK) ? file_read(path, &r->tuning, NULL) : OK;

	if (!rc)
		rc = open_stage(r, r->stage, &r->grid.phases[0]);
	if (rc || !path)
		return rc;
	tuning = r->backend->tuning(r->stage->kernels[0]);
	return file_write(path, tuning, strlen(tuning));
}

/* The others choose as rank 0 has chosen: ranks of different speed wait for the slowest. */
static int share_tuning(struct run *r)
{
	const char *tuning = r->comm->rank ? NULL : r->backend->tuning(r->stage->kernels[0]);
	uint64_t bytes = tuning ? strlen(tuning) + 1 : 0;
	int rc = r->comm->backend->bcast(r->comm, &bytes, sizeof(bytes), 0);

	if (rc)
		return rc;
	free(r->tuning);
	r->tuning = malloc(bytes);
	if (!r->tuning)
		return err(NO_MEMORY, "no memory for the tuning of rank 0");
	if (tuning)
		memcpy(r->tuning, tuning, bytes);
	rc = r->comm->backend->bcast(r->comm, r->tuning, bytes, 0);
	return rc || r->comm->rank == 0 ? rc : open_stage(r, r->stage, &r->grid.phases[0]);
}

static int open_kernels(struct run *r)
{
	const struct run_options *o = &r->o;
	int rc = kernel_backend_choose(o->kernels, &r->backend);

	if (rc)
		return rc;
	if (o->emulate_ranks * multigrid_times_max(&r->grid) > 1 && !r->backend->takes_parts)
		return err(UNSUPPORTED, "kernels '%s' cannot take a step in parts (--emulate-ranks, --multigrid)", o->kernels);
	if (r->validation && !r->backend->evaluate)
		return err(UNSUPPORTED, "kernels '%s' cannot evaluate (--eval-period)", o->kernels);
	if (strcmp(o->profile, "none") && !r->backend->time_op)
		return err(UNSUPPORTED, "kernels '%s' cannot time their operators (--profile)", o->kernels);
	if (o->tuning && !r->backend->tuning)
		return err(UNSUPPORTED, "kernels '%s' have no implementations to choose from (--tuning)", o->kernels);
	r->stage = &r->stages[0];
	if (!r->backend->tuning)
		rc = open_stage(r, r->stage, &r->grid.phases[0]);
	else if (r->comm->rank == 0)
		rc = open_tuned(r);
	if (!rc && r->backend->tuning && r->comm->world > 1)
		rc = share_tuning(r);
	if (rc)
		return rc;
	r->kernels = r->stage->kernels[r->stage->phase->turn_count - 1];
	pin_batches(r);
	return OK;
}

void run_use_stage(struct run *r)
{
	const struct multigrid_phase *p = r->stage->phase;

	r->step.turn_count = p->turn_count;
	for (size_t i = 0; i < p->turn_count; i++)
		r->step.turns[i] = (struct step_turn){ r->stage->kernels[i], r->o.emulate_ranks * p->turns[i].times };
	r->step.loader = r->loader;
	r->step.iterations = iterations_of(r, p);
}

int run_change_stage(void *context, uint64_t epoch)
{
	struct run *r = context;
	const struct multigrid_phase *p = multigrid_at(&r->grid, epoch);
	struct stage *next = &r->stages[r->stage == &r->stages[0]];
	int rc;

	if (p == r->stage->phase)
		return OK;
	close_loader(r);
	rc = open_loader(r, p);
	if (!rc)
		pin_batches(r);
	if (!rc)
		loader_lanes(r->loader, recorder_lane(r->recorder, LANE_TRAIN), r->worker_lanes);
	if (!rc)
		rc = open_stage(r, next, p);
	if (!rc)
		rc = step_take_kernels(&r->step, next->kernels[0]);
	if (rc)
		return rc;
	close_stage(r, r->stage);
	r->stage = next;
	r->kernels = next->kernels[p->turn_count - 1];
	run_use_stage(r);
	return OK;
}

/* Which phases there are, and that all of them fit. */
static int plan_phases(struct run *r)
{
	const struct run_options *o = &r->o;
	int rc = OK;

	multigrid_none(&r->grid, o->epochs, r->net.frames, r->net.crop);
	if (strcmp(o->multigrid, "off"))
		rc = multigrid_plan(&r->grid, &r->schedule, o->epochs, r->net.frames, r->net.crop, strcmp(o->multigrid, "long"));
	for (size_t i = 0; i < r->grid.phase_count && !rc; i++) {
		const struct multigrid_phase *p = &r->grid.phases[i];

		for (size_t k = 0; k < p->turn_count && !rc; k++) {
			struct net net;

			rc = net_init(&net, net_preset_find(o->net), p->frames, p->turns[k].crop);
			net_release(&net);
		}
	}
	return rc;
}

/* Every epoch that is to come has an iteration. */
static int count_iterations(struct run *r)
{
	for (size_t e = r->first_epoch; e < r->grid.epochs; e++) {
		const struct multigrid_phase *p = multigrid_at(&r->grid, e);
		size_t n = iterations_of(r, p);

		if (!n)
			return err(USAGE, "--multigrid %s: %zu batches for each rank are less than epoch %zu's least, %zu",
				   r->o.multigrid, loader_batches(r->loader), e, multigrid_batches(p, 1));
		r->iterations += n;
		r->batches += multigrid_batches(p, n);
	}
	return OK;
}

/* Rank 0's part: the state, and how far it has come. */
static int read_checkpoint(struct run *r)
{
	struct checkpoint c = { 0 };
	int rc = checkpoint_find(r->resumed, r->o.resume);

	if (!rc)
		rc = checkpoint_read(&c, r->resumed, r->kernels);
	if (!rc && c.epochs >= r->grid.epochs)
		rc = err(USAGE, "run: '%s' has finished %zu epochs; --epochs %" PRIu64 " leaves none to do", r->resumed, c.epochs,
			 r->o.epochs);
	r->first_epoch = c.epochs;
	if (!rc)
		r->changes = checkpoint_changes(&c, r->identity);
	if (r->changes)
		warn("'%s' goes on as it was not begun: %s", r->resumed, r->changes);
	checkpoint_release(&c);
	return rc;
}

/* All ranks learn where to begin; the state reaches them with step_share_state(). */
static int resume(struct run *r)
{
	int rc = r->o.resume && r->comm->rank == 0 ? read_checkpoint(r) : OK;

	return rc || !r->o.resume ? rc : r->comm->backend->bcast(r->comm, &r->first_epoch, sizeof(r->first_epoch), 0);
}

/* What a file has of the model; the rest stays drawn, as the head does under weights of another task. */
static int load_initial(struct run *r)
{
	struct safetensors f;
	struct weights_found found;
	int rc = safetensors_open(&f, r->o.init);

	if (!rc)
		rc = weights_load(r->kernels, WEIGHTS_MODEL, &f, true, &found);
	if (!rc && !found.taken)
		rc = err(FAILED, "'%s' has nothing of net '%s'", r->o.init, r->o.net);
	safetensors_close(&f);
	return rc;
}

/* The loader comes before the kernels: its worker processes should not inherit the memory of the network. */
int run_set_up(struct run *r)
{
	const struct run_options *o = &r->o;
	char made_up[EMULATED_BYTES];
	int rc = net_init(&r->net, net_preset_find(o->net), o->frames, o->crop);

	r->schedule = schedule_ava;
	r->schedule.base_lr = o->lr;
	r->schedule.base_clips = o->lr_clips;
	r->schedule.warmup_start_lr = o->warmup_lr;
	r->schedule.warmup_epochs = o->warmup_epochs;
	if (!rc)
		rc = plan_phases(r);
	if (!rc)
		rc = place_find(&r->place, r->comm->world, !o->nodes && o->one_gpu ? r->comm->world : o->nodes, r->comm->hosts,
				run_emulated(o, made_up) ? made_up : NULL);
	if (!rc)
		rc = place_bind(&r->place, r->comm->local_rank, r->comm->local_world, o->bind, !strcmp(o->kernels, "cuda"));
	if (!rc)
		rc = injections_init(&r->injections, &o->inject, r->comm->rank, r->comm->world, o->seed);
	if (!rc)
		rc = plan_buckets(&r->buckets, &r->net, o->buckets, o->first_bucket_bytes, o->bucket_bytes);
	if (!rc)
		rc = open_loader(r, &r->grid.phases[0]);
	if (!rc)
		rc = open_validation(r);
	if (!rc)
		rc = open_kernels(r);
	r->identity = cJSON_Duplicate(r->options, true);
	cJSON_AddNumberToObject(r->identity, "ranks", (double)(r->comm->world * o->emulate_ranks));
	if (!rc)
		rc = resume(r);
	if (!rc)
		rc = count_iterations(r);
	if (!rc && o->init && r->comm->rank == 0)	/* whose state becomes everybody's */
		rc = load_initial(r);
	if (!rc && r->comm->rank == 0)	/* the others would only get in the way of the one that is written down */
		rc = span_cost_measure(&r->event_cost);
	return rc;
}

void run_parts_release(struct run *r)
{
	validation_close(r->validation);
	close_stage(r, &r->stages[0]);
	close_stage(r, &r->stages[1]);
	close_loader(r);	/* whose memory the kernels may have been reading */
	bucket_plan_release(&r->buckets);
	net_release(&r->net);
	injections_release(&r->injections);
	free(r->changes);
	free(r->tuning);
	cJSON_Delete(r->identity);
}
