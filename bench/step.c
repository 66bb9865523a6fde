/*
 * bench/step.c - see step.h.
 *
 * The iteration is that of PySlowFast under DistributedDataParallel: buffers of rank 0 are
 * broadcast in front of every forward pass, gradients travel in buckets while backward still
 * runs, the loss is averaged over ranks after the update.
 *
 * On a device rows enqueue, and the host runs ahead: as far as the row that waits for the loss, which backward, the optimiser
 * and the last all-reduce may outlive.  So the next batch is loaded and copied while they run.  PySlowFast looks at the loss
 * before backward; here one that is no number is found an optimiser step later, when the run ends.
 *
 * Not here: how to validate (validate.h), what a checkpoint holds (checkpoint.h); set-up (run.c).
 */
#include "bench/step.h"

#include "bench/base/err.h"
#include "bench/inject.h"
#include "bench/validate.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

/* The stamp that the innermost span has begun with. */
static uint64_t began(const struct step *s)
{
	return s->lane->open[s->lane->depth - 1].ticks;
}

static int load(struct step *s)
{
	int rc = loader_next(s->loader, &s->batch);

	if (!s->iteration && !s->part)
		s->fed.boundary = began(s) - s->fed.begin;
	s->fed.stall -= began(s);	/* input() adds where the wait ended */
	s->fed.line_stall -= began(s);
	s->input_bytes = s->batch.bytes;
	return rc;
}

/* What the device has done so far, into its lanes; where there is one. */
static int collect(struct step *s)
{
	const struct kernel_backend *b = s->kernels->backend;
	int rc = b->on_device ? b->queue.collect(s->kernels) : OK;

	return rc || !b->on_device ? rc : s->comm->backend->collect_device(s->comm);
}

int step_take_kernels(struct step *s, struct kernels *next)
{
	int rc = s->kernels == next ? OK : kernels_carry(s->kernels, next);

	if (!rc && s->kernels != next)
		rc = collect(s);	/* nothing of it is under way any more */
	next->lanes = s->lanes;
	s->kernels = next;
	comm_lane_grads(s->comm_lane, next->grads);
	return rc;
}

static int input(struct step *s)
{
	const struct clip_batch *b = &s->batch;
	int rc = step_take_kernels(s, s->turns[s->iteration % s->turn_count].kernels);

	if (!s->iteration && !s->part)
		s->fed.first_batch = began(s) - s->fed.begin;
	s->fed.stall += began(s);
	s->fed.line_stall += began(s);
	return rc ? rc : s->kernels->backend->input(s->kernels, &(struct step_input){
		.clips = b->clips, .boxes = b->boxes, .slow = b->slow, .fast = b->fast, .crops = b->crops,
		.rois = b->rois, .labels = b->labels, .part = s->part, .parts = s->passes });
}

/* What the kernels have enqueued comes before what the comm enqueues from now on; and the other way round. */
static int comm_follows(struct step *s)
{
	void *event = NULL;
	int rc = s->kernels->backend->queue.mark(s->kernels, &event);

	return rc ? rc : s->comm->backend->follow_device(s->comm, event);
}

static int kernels_follow(struct step *s)
{
	void *event = NULL;
	int rc = s->comm->backend->mark_device(s->comm, &event);

	return rc ? rc : s->kernels->backend->queue.follow(s->kernels, event);
}

/* Rank 0's becomes everybody's, in the memory of the kernels. */
static int broadcast(struct step *s, void *data, size_t bytes)
{
	struct comm *c = s->comm;
	int rc;

	if (!s->kernels->backend->on_device)
		return c->backend->bcast(c, data, bytes, 0);
	rc = comm_follows(s);
	if (!rc)
		rc = c->backend->bcast_device(c, data, bytes, 0);
	if (!rc)
		comm_lane_watch(s->comm_lane);
	return rc ? rc : kernels_follow(s);
}

/* Running statistics are rank 0's alone: DDP's broadcast_buffers, one call per type. */
static int broadcast_bn(struct step *s)
{
	struct comm *c = s->comm;
	int rc = broadcast(s, s->kernels->bn_state, s->kernels->net->buffer_values * sizeof(float));

	return rc ? rc : c->backend->bcast(c, s->kernels->bn_batches,
					   s->kernels->net->buffer_count * sizeof(int64_t), 0);
}

static int forward(struct step *s)
{
	return s->kernels->backend->forward(s->kernels);
}

static int loss(struct step *s)
{
	return s->kernels->backend->loss(s->kernels);
}

static int backward(struct step *s)
{
	struct kernels *k = s->kernels;
	void *event = NULL;
	int rc = k->backend->backward(k, s->buckets->buckets[s->bucket].ready);

	/* Gradients leave when they are those of all batches. */
	if (rc || s->part + 1 < s->passes)
		return rc;
	rc = k->backend->on_device ? k->backend->queue.mark(k, &event) : OK;
	return rc ? rc : comm_lane_start(s->comm_lane, s->bucket, s->lane->iter, event);
}

static int drain(struct step *s)
{
	int rc = comm_lane_drain(s->comm_lane);

	return rc || !s->kernels->backend->on_device ? rc : kernels_follow(s);
}

static int update(struct step *s)
{
	return s->kernels->backend->update(s->kernels, &s->sgd);
}

static int sync_with_device(struct step *s)
{
	int rc = kernels_answer(s->kernels);
	float loss = *s->kernels->loss;

	if (!rc)
		rc = collect(s);
	if (!rc && s->comm->lost)
		rc = RANK_FAILED;	/* has been said: whatever the loss is, it is of nothing */
	s->loss = s->part ? s->loss + loss : loss;
	if (!rc && !isfinite(loss))
		rc = err(FAILED, "the loss is no number any more in epoch %" PRIu64 ", iteration %" PRIu64 " (learning rate %g)",
			 s->epoch, s->iteration, s->sgd.lr);
	return rc;
}

static int average_loss(struct step *s)
{
	int rc = s->comm->backend->sum(s->comm, &s->loss, 1);

	s->loss /= (float)(s->comm->world * s->passes);
	return rc;
}

static double fed_ms(const struct step *s, struct clock_tie now, uint64_t ticks)
{
	return 1e-6 * (double)(clock_tie_ns(s->fed.tie, now, s->fed.tie.ticks + ticks) - s->fed.tie.ns);
}

static void say(struct step *s, bool last)
{
	struct clock_tie now = clock_tie_take();

	printf("epoch %" PRIu64 "  iteration %" PRIu64 "/%" PRIu64 "  loss %.4f  lr %.6f  stall %.1f ms\n", s->epoch,
	       s->iteration + 1, s->iterations, s->loss, s->sgd.lr, fed_ms(s, now, s->fed.line_stall));
	if (last)
		printf("epoch %" PRIu64 "  boundary %.1f ms  first batch %.1f ms  stall %.1f ms\n", s->epoch,
		       fed_ms(s, now, s->fed.boundary), fed_ms(s, now, s->fed.first_batch), fed_ms(s, now, s->fed.stall));
	fflush(stdout);
	s->fed.line_stall = 0;
}

static int log_iteration(struct step *s)
{
	bool last = s->iteration + 1 == s->iterations;

	s->loss_sum += s->loss;
	if (last)
		s->results[s->epochs_done++] = (struct epoch_result){
			.loss = s->loss_sum / (double)s->iterations, .lr = s->sgd.lr, .checksum = loader_checksum(s->loader),
			.skipped = loader_skipped(s->loader) };
	if (s->log_period && s->comm->rank == 0 && ((s->iteration + 1) % s->log_period == 0 || last))
		say(s, last);
	if (last)
		s->fed.begin = s->fed.stall = 0;
	return recorder_flush(s->recorder);
}

#define ARG(field) offsetof(struct step, field)

const struct step_row step_rows[] = {
	{ SPAN_LOAD, load, ARG(iteration), PASS_EACH, ARG(once), "wait for a batch of the loader" },
	{ SPAN_H2D, input, ARG(input_bytes), PASS_EACH, ARG(once), "bring it into the network's layout and memory" },
	{ SPAN_BCAST_BN, broadcast_bn, ARG(bn_bytes), PASS_FIRST, ARG(bn_broadcasts), "rank 0's batch-norm statistics to all" },
	{ SPAN_FWD, forward, ARG(iteration), PASS_EACH, ARG(once), "forward, to the class probabilities" },
	{ SPAN_LOSS, loss, ARG(iteration), PASS_EACH, ARG(once), "binary cross entropy" },
	{ SPAN_BWD, backward, ARG(bucket), PASS_EACH, ARG(bucket_count), "backward until a bucket is complete, which then leaves" },
	{ SPAN_DRAIN, drain, ARG(iteration), PASS_LAST, ARG(once), "wait until the last bucket is summed" },
	{ SPAN_OPT, update, ARG(iteration), PASS_LAST, ARG(once), "SGD" },
	{ SPAN_SYNC, sync_with_device, ARG(iteration), PASS_EACH, ARG(once), "wait for the loss, where a device computes it" },
	{ SPAN_LOSS_ALLREDUCE, average_loss, ARG(loss_bytes), PASS_LAST, ARG(once), "the loss, averaged over ranks" },
	{ SPAN_LOG, log_iteration, ARG(iteration), PASS_LAST, ARG(once), "account, and what recording costs" },
};
const size_t step_row_count = ARRAY_LEN(step_rows);

int step_share_state(struct step *s)
{
	struct comm *c = s->comm;
	struct kernels *k = s->kernels;
	uint64_t hash = k->layout_hash;
	int rc = c->backend->bcast(c, &hash, sizeof(hash), 0);

	if (!rc && hash != k->layout_hash)
		rc = err(UNSUPPORTED, "this rank lays its tensors out in another way than rank 0 (another CPU or library version): "
			 "their gradients cannot be summed");
	if (!rc)
		rc = broadcast(s, k->weights, k->net->values * sizeof(float));
	if (!rc && s->first_epoch)	/* else it is zero everywhere */
		rc = broadcast(s, k->momentum, k->net->values * sizeof(float));
	return rc ? rc : broadcast_bn(s);
}

int step_sync_clocks(struct step *s)
{
	struct sync_point point;
	int rc;

	span_begin(s->lane, SPAN_CLOCK_SYNC, s->epoch);
	rc = comm_clock_sync(s->clock, &point);
	if (!rc)
		rc = recorder_sync(s->recorder, &point);
	span_end(s->lane);
	return rc;
}

static int run_row(struct step *s, const struct step_row *row)
{
	uint64_t times = *(const uint64_t *)((const char *)s + row->times);
	int rc = OK;

	for (s->bucket = 0; s->bucket < times && !rc; s->bucket++) {
		span_next(s->lane, row->span, *(const uint64_t *)((const char *)s + row->arg));
		if (s->bucket == 0 && (s->part == 0 || row->pass == PASS_LAST))
			injections_apply(s->injections, row->span, s->lane->iter);
		rc = row->run(s);
	}
	return rc;
}

static int run_rows(struct step *s)
{
	int rc = OK;

	s->passes = s->turns[s->iteration % s->turn_count].passes;
	for (s->part = 0; s->part < s->passes && !rc; s->part++) {
		for (size_t i = 0; i < step_row_count && !rc; i++) {
			enum step_pass pass = step_rows[i].pass;

			if (pass == PASS_EACH || (pass == PASS_FIRST && s->part == 0) ||
			    (pass == PASS_LAST && s->part + 1 == s->passes))
				rc = run_row(s, &step_rows[i]);
		}
	}
	return rc;
}

/* Every `period` epochs, and behind the last. */
static bool is_due(const struct step *s, uint64_t period)
{
	return period && ((s->epoch + 1) % period == 0 || s->epoch + 1 == s->epochs);
}

/* A boundary begins with the first span behind an epoch's last iteration. */
static void span_behind(struct step *s, enum span_id id, uint64_t arg)
{
	span_next(s->lane, id, arg);
	if (!s->fed.begin)
		s->fed.begin = began(s);
}

/* The epoch's last gradients were summed, or the run has failed: on a device nobody has waited for them yet. */
static int sums_settle(struct step *s)
{
	return s->kernels->backend->on_device ? comm_lane_settle(s->comm_lane) : OK;
}

/* Rank 0 writes what is everybody's. */
static int save(struct step *s)
{
	int rc;

	if (!is_due(s, s->checkpoints.period))
		return OK;
	span_behind(s, SPAN_CKPT, s->epoch);
	rc = sums_settle(s);
	return rc || s->comm->rank ? rc : checkpoint_write(&s->checkpoints, s->epoch + 1, s->kernels);
}

/* Like a forward pass, it begins with rank 0's statistics where those are everybody's.  What it does is the boundary's as a
 * whole: no lane of the device tells of its parts. */
static int validate(struct step *s)
{
	struct epoch_result *e = &s->results[s->epochs_done - 1];
	const struct kernel_lanes lanes = s->kernels->lanes;
	int rc = OK;

	if (!s->validation || !is_due(s, s->validation_period))
		return OK;
	span_behind(s, SPAN_EVAL, validation_clips(s->validation));
	rc = sums_settle(s);
	if (!rc && s->bn_broadcasts) {
		span_begin(s->lane, SPAN_BCAST_BN, s->bn_bytes);
		rc = broadcast_bn(s);
		span_end(s->lane);
	}
	s->kernels->lanes = (struct kernel_lanes){ NULL };
	if (!rc)
		rc = validation_run(s->validation, s->kernels, s->comm, s->lane, &e->map);
	s->kernels->lanes = lanes;
	e->validated = !rc;
	if (!rc && s->log_period && s->comm->rank == 0) {
		printf("epoch %" PRIu64 "  mAP %.4f\n", s->epoch, e->map);
		fflush(stdout);
	}
	return rc;
}

/* The device comes to its end as the host has; nothing of it lies behind the end of the run. */
static int settle(struct step *s)
{
	int rc;

	span_next(s->lane, SPAN_SYNC, s->iteration);
	rc = sums_settle(s);
	if (!rc)
		rc = s->kernels->backend->queue.settle(s->kernels);
	return rc ? rc : collect(s);
}

/* What begins from now on belongs to this iteration. */
static void number_lanes(struct step *s, uint32_t iter)
{
	struct lane *const lanes[] = { s->lane, s->lanes.compute, s->lanes.copy, s->comm->device_lane };

	for (size_t i = 0; i < ARRAY_LEN(lanes); i++)
		if (lanes[i])
			lanes[i]->iter = iter;
}

int step_run(struct step *s)
{
	int rc = OK;

	s->bn_bytes = s->kernels->net->buffer_values * sizeof(float) + s->kernels->net->buffer_count * sizeof(int64_t);
	s->loss_bytes = sizeof(s->loss);
	s->once = 1;
	s->bucket_count = s->buckets->bucket_count;
	number_lanes(s, 0);
	s->fed = (struct step_fed){ .tie = clock_tie_take() };
	span_begin(s->lane, SPAN_EPOCH_BEGIN, s->first_epoch);
	s->fed.begin = began(s);
	for (s->epoch = s->first_epoch; s->epoch < s->epochs && !rc; s->epoch++) {
		s->loss_sum = 0;
		if (s->epoch > s->first_epoch) {
			span_behind(s, SPAN_EPOCH_BEGIN, s->epoch);
			rc = step_sync_clocks(s);
		}
		if (!rc && s->change)
			rc = s->change(s->context, s->epoch);
		if (!rc)
			rc = loader_epoch_begin(s->loader, s->epoch);
		for (s->iteration = 0; s->iteration < s->iterations && !rc; s->iteration++) {
			s->sgd.lr = schedule_lr(s->schedule, s->clips,
						(double)s->epoch + (double)s->iteration / (double)s->iterations);
			rc = run_rows(s);
			number_lanes(s, s->lane->iter + 1);
		}
		if (!rc)
			rc = save(s);	/* first, so that it is safe whatever comes of the validation */
		if (!rc)
			rc = validate(s);
	}
	if (!rc && s->kernels->backend->on_device)
		rc = settle(s);
	if (!rc)
		span_next(s->lane, SPAN_RUN_END, 0);
	span_end(s->lane);
	return rc;
}
