/*
 * loader/loader.c - see loader.h.
 *
 * The training thread's side: it draws the order of each epoch as well, and what a worker
 * delivers is compared with it, so that a worker in a wrong epoch, or two that make the same
 * batch, end the run instead of spoiling it.
 *
 * One slot more than workers * prefetch: the batch in the hands of the caller does not count as
 * in flight, as in PyTorch.
 */
#include "loader/loader.h"

#include "bench/base/err.h"
#include "bench/base/hash.h"
#include "loader/batch.h"
#include "loader/null.h"
#include "loader/workers.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct loader {
	struct loader_config config;
	const struct loader_policy *policy;
	struct ava_index index;
	struct batch_plan plan;
	struct ring ring;
	struct batch_maker maker;	/* makes the batches of `inline`, knows the order for the others */
	struct workers workers;
	struct dist emulate;		/* of `null` */
	size_t next;			/* batch, over all epochs */
	size_t epoch;			/* of the latest begin; SIZE_MAX: none */
	uint64_t checksum;
	size_t skipped;			/* clips in this epoch */
	size_t told;			/* of all that were skipped, how many were named */
	bool failed;
	struct lane *lane;
	struct lane *const *worker_lanes;
};

static const enum span_id stage_spans[STAGE_COUNT] = {
	[STAGE_STORAGE] = SPAN_BATCH_READ,
	[STAGE_DECODE] = SPAN_BATCH_DECODE,
	[STAGE_TRANSFORM] = SPAN_BATCH_TRANSFORM,
	[STAGE_HAND_OVER] = SPAN_BATCH_HAND_OVER,
};

/* ---- what cannot work ------------------------------------------------------------------ */

static int check_config(const struct loader_config *c, const struct loader_policy *policy)
{
	if (!policy)
		return err(USAGE, "unknown loader policy '%s'", c->policy);
	if (policy->kind != WORKER_NONE && !c->prefetch)
		return err(USAGE, "loader policy '%s' needs to prefetch at least 1 batch", policy->name);
	if (policy->kind != WORKER_NONE && (c->workers > 1024 || c->prefetch > 1024))
		return err(USAGE, "%zu workers that prefetch %zu batches each are too many", c->workers, c->prefetch);
	if (!c->clips || !c->epochs)
		return err(USAGE, "%zu epochs of batches of %zu clips: there is nothing to load", c->epochs, c->clips);
	if (!c->frames || c->frames > CLIP_FRAMES_MAX || !c->rate)
		return err(USAGE, "%zu frames per clip, one of every %zu: not in 1..%d, or no step", c->frames, c->rate,
			   CLIP_FRAMES_MAX);
	if (!c->alpha || c->frames % c->alpha)
		return err(USAGE, "%zu frames per clip are no multiple of alpha, %zu", c->frames, c->alpha);
	if (!c->crop || c->scale_min < c->crop || c->scale_max < c->scale_min)
		return err(USAGE, "a crop of %zu does not fit into frames scaled to %zu..%zu", c->crop, c->scale_min,
			   c->scale_max);
	if (!c->world || c->rank >= c->world || c->ranks > c->world - c->rank)
		return err(USAGE, "there is no rank %zu of %zu", c->ranks > 1 ? c->rank + c->ranks - 1 : c->rank, c->world);
	for (size_t i = 0; i < c->turn_count; i++)
		if (!c->turns[i].batches || c->turns[i].crop > c->crop || c->turns[i].scale_min < c->turns[i].crop ||
		    c->turns[i].scale_min > c->scale_max)
			return err(USAGE, "a turn of %zu batches with a crop of %zu does not fit", c->turns[i].batches,
				   c->turns[i].crop);
	if (policy->null && !c->iterations_max)
		return err(USAGE, "loader policy 'null' has no data set, so it needs the number of iterations per epoch");
	return OK;
}

/* How many batches an epoch has; all ranks get the same. */
static int plan_epoch(const struct loader_config *c, struct batch_plan *p)
{
	size_t share = (p->examples + c->world - 1) / c->world;

	if (p->examples < c->world)
		return err(USAGE, "%zu ranks are more than the data set has clips (%zu)", c->world, p->examples);
	p->iterations = share / c->clips;
	if (!p->iterations)
		return err(USAGE, "the data set has %zu clips: %zu for each of %zu ranks, too few for a batch of %zu",
			   p->examples, share, c->world, c->clips);
	if (c->iterations_max && p->iterations > c->iterations_max)
		p->iterations = c->iterations_max;
	p->iterations -= p->iterations % batch_plan_round(p);
	if (!p->iterations)
		return err(USAGE, "an epoch has %zu batches for each of %zu ranks: less than one round of %zu", share / c->clips,
			   c->world, batch_plan_round(p));
	if (batch_plan_per_epoch(p) > UINT32_MAX / 2 / c->epochs)
		return err(USAGE, "%zu epochs of %zu batches are too many", c->epochs, batch_plan_per_epoch(p));
	return OK;
}

/* ---- open ------------------------------------------------------------------------------ */

static int open_parts(struct loader *ld)
{
	const struct loader_config *c = &ld->config;
	struct batch_plan *p = &ld->plan;
	int rc = ld->policy->null ? loader_null_index(&ld->index, c->clips * c->world * c->iterations_max)
				  : ava_index_read(&ld->index, c->data);

	if (rc)
		return rc;
	*p = (struct batch_plan){
		.geometry = { .frames = c->frames, .alpha = c->alpha, .rate = c->rate, .old_linspace = c->old_linspace, .crop = c->crop,
			      .scale_min = c->scale_min, .scale_max = c->scale_max },
		.clips = c->clips, .boxes_max = c->clips * ava_index_boxes_max(&ld->index), .examples = ld->index.example_count,
		.rank = c->rank, .world = c->world, .ranks = c->ranks ? c->ranks : 1, .seed = c->seed,
		.crops = c->crops, .storage_ns = c->storage_ns,
		.turn_count = c->turn_count,
		.slots = ld->policy->kind == WORKER_NONE ? 1 : c->workers * c->prefetch + 1,
		.skip_damaged = c->skip_damaged, .start_ns = c->start_ns,
	};
	memcpy(p->turns, c->turns, sizeof(p->turns));
	rc = plan_epoch(c, p);
	if (!rc)
		rc = ring_open(&ld->ring, p, ld->policy->kind == WORKER_FORK || ld->policy->kind == WORKER_SPAWN);
	if (!rc)
		rc = batch_maker_init(&ld->maker, p, &ld->index);
	if (rc || !ld->policy->null)
		return rc;
	loader_null_fill(&ld->maker, &ld->ring);
	return c->emulate ? dist_init(&ld->emulate, c->emulate) : OK;
}

int loader_open(struct loader **out, const struct loader_config *config)
{
	/* As PyTorch's num_workers. */
	const struct loader_policy *policy = loader_policy_find(config->policy),
				   *used = policy && !config->workers && policy->kind != WORKER_NONE ?
					   loader_policy_find("inline") : policy;
	int rc = check_config(config, used);
	struct loader *ld;

	if (rc)
		return rc;
	ld = calloc(1, sizeof(*ld));
	if (!ld)
		return err(NO_MEMORY, "no memory for a loader");
	*ld = (struct loader){ .config = *config, .policy = used, .ring.fd = -1, .epoch = SIZE_MAX };
	rc = open_parts(ld);
	if (rc)
		loader_close(ld);
	else
		*out = ld;
	return rc;
}

size_t loader_iterations(const struct loader *ld)
{
	return ld->plan.iterations;
}

size_t loader_batches(const struct loader *ld)
{
	return (ld->plan.examples + ld->plan.world - 1) / ld->plan.world / ld->plan.clips;
}

size_t loader_boxes_max(const struct loader *ld)
{
	return ld->plan.boxes_max;
}

void loader_lanes(struct loader *ld, struct lane *lane, struct lane *const *worker_lanes)
{
	ld->lane = lane;
	ld->worker_lanes = worker_lanes;
}

/* ---- epochs and batches ---------------------------------------------------------------- */

void *loader_memory(const struct loader *ld, size_t *bytes)
{
	*bytes = ld->ring.bytes;
	return ld->ring.base;
}

int loader_epoch_begin(struct loader *ld, size_t epoch)
{
	const struct loader_config *c = &ld->config;
	size_t first = epoch * batch_plan_per_epoch(&ld->plan);
	int rc = OK;

	if (ld->epoch == SIZE_MAX)
		ld->next = first;
	/* In turn, and each to its end: what was made ahead would be in the way. */
	assert(epoch < c->epochs && first == ld->next);
	ring_release(&ld->ring, (uint32_t)first);
	if (ld->workers.count && !ld->policy->whole_run) {
		span_begin(ld->lane, SPAN_WORKERS_STOP, c->workers);
		workers_stop(&ld->workers);
		span_end(ld->lane);
	}
	span_begin(ld->lane, SPAN_SAMPLER, ld->plan.examples);
	batch_maker_epoch(&ld->maker, epoch);
	span_end(ld->lane);
	if (ld->policy->kind != WORKER_NONE && !ld->workers.count) {
		size_t end = (ld->policy->whole_run ? c->epochs : epoch + 1) * batch_plan_per_epoch(&ld->plan);

		span_begin(ld->lane, SPAN_WORKERS_START, c->workers);
		rc = workers_start(&ld->workers, ld->policy->kind, c->workers, (uint32_t)first, (uint32_t)end,
				   &ld->ring, &ld->index, c->hang_ns, ld->lane);
		span_end(ld->lane);
	}
	ld->epoch = epoch;
	ld->checksum = 0;
	ld->skipped = 0;
	ld->failed = rc != OK;
	return rc;
}

/* Until batch `b` lies in its slot. */
static int obtain(struct loader *ld, uint32_t b)
{
	int rc = OK;

	if (ld->policy->null)
		loader_null_make(&ld->maker, &ld->ring, b, &ld->emulate);
	else if (ld->policy->kind == WORKER_NONE)
		batch_make(&ld->maker, &ld->ring, b, 0, &(struct usage){ 0 });
	if (ld->policy->kind == WORKER_NONE)
		return OK;		/* if not, its slot says so */
	if (ld->lane) {
		uint64_t now = clock_ticks();

		span_put(ld->lane, SPAN_QUEUE_DEPTH, now, now, ld->lane->iter, 0, ring_depth(&ld->ring, b));
	}
	workers_expect(&ld->workers, b);
	while (!rc && !ring_wait_ready(&ld->ring, b, WORKERS_LOOK_NS))
		rc = workers_check(&ld->workers);
	return rc;
}

/* The first few are named, all are counted. */
static void tell_skipped(struct loader *ld, const struct ring_slot *s)
{
	enum { NAMED = 5 };

	ld->skipped += s->skipped;
	if (ld->told < NAMED)
		warn("%s; its clip is skipped%s", s->why, ld->told + s->skipped >= NAMED ? "; further ones are only counted" : "");
	ld->told += s->skipped;
}

/* Who made a batch, and what its time went to; without workers it was the training thread. */
static void tell(const struct loader *ld, uint32_t b, const struct ring_slot *s)
{
	bool alone = ld->policy->kind == WORKER_NONE;
	struct lane *lane = alone ? ld->lane : ld->worker_lanes ? ld->worker_lanes[s->worker] : NULL;
	uint32_t iter = b / (uint32_t)ld->plan.ranks;
	uint64_t at = s->t0_ticks;

	span_put(lane, SPAN_MAKE_BATCH, s->t0_ticks, s->t1_ticks, iter, 0, b);
	for (int stage = 0; stage < STAGE_COUNT; stage++) {
		span_put(lane, stage_spans[stage], at, at + s->stage_ticks[stage], iter, 0, b);
		at += s->stage_ticks[stage];
	}
	if (alone)
		return;
	span_put(lane, SPAN_WORKER_CPU, at, at, iter, 0, s->usage.cpu_ns);
	if (s->usage.pss_bytes) {
		span_put(lane, SPAN_WORKER_USS, at, at, iter, 0, s->usage.uss_bytes);
		span_put(lane, SPAN_WORKER_PSS, at, at, iter, 0, s->usage.pss_bytes);
	}
}

/* Is it the batch that was due? */
static int accept(struct loader *ld, uint32_t b, const struct ring_batch *r)
{
	struct batch_place at = batch_plan_place(&ld->plan, b);
	size_t others = 0;

	if (r->slot->failed)
		return err(FAILED, "%s", r->slot->why);
	for (size_t i = 0; i < ld->plan.clips; i++) {
		uint32_t due = batch_maker_example(&ld->maker, at, i);
		uint64_t hash = hash_word(HASH_START, at.rank, sizeof(at.rank));

		others += r->examples[i] != due;
		if (others > r->slot->skipped)
			return err(FAILED, "loader worker %u delivered clip %u where clip %u of epoch %zu was due",
				   r->slot->worker, r->examples[i], due, ld->epoch);
		hash = hash_word(hash, at.iteration * ld->plan.clips + i, sizeof(at.iteration));
		ld->checksum += hash_word(hash, r->examples[i], sizeof(due));
	}
	if (r->slot->skipped)
		tell_skipped(ld, r->slot);
	if (!ld->policy->null)
		tell(ld, b, r->slot);
	return OK;
}

int loader_next(struct loader *ld, struct clip_batch *out)
{
	uint32_t b = (uint32_t)ld->next;
	struct ring_batch r;
	int rc;

	assert(ld->epoch != SIZE_MAX && b < (ld->epoch + 1) * batch_plan_per_epoch(&ld->plan));
	if (ld->failed)
		return FAILED;
	ring_release(&ld->ring, b);
	rc = obtain(ld, b);
	r = ring_batch(&ld->ring, b);
	if (!rc)
		rc = accept(ld, b, &r);
	ld->failed = rc != OK;
	if (rc)
		return rc;
	ld->next++;
	*out = (struct clip_batch){
		.clips = ld->plan.clips, .boxes = r.slot->boxes, .slow = r.slow, .fast = r.fast, .crops = r.crops, .rois = r.rois,
		.labels = r.labels, .meta = r.meta, .bytes = ld->plan.clips * r.clip_bytes,
	};
	return OK;
}

uint64_t loader_checksum(const struct loader *ld)
{
	return ld->checksum;
}

size_t loader_skipped(const struct loader *ld)
{
	return ld->skipped;
}

void loader_close(struct loader *ld)
{
	if (!ld || !workers_stop(&ld->workers))
		return;
	batch_maker_release(&ld->maker);
	dist_release(&ld->emulate);
	ring_close(&ld->ring);
	ava_index_release(&ld->index);
	free(ld);
}
