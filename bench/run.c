/*
 * bench/run.c - `sfscale run`: one measured run, alone or as one rank of a job.
 *
 * One straight page: options, who we are, set up, share the state, step, record, release.
 * Every rank writes its own record; rank 0 writes run.json, before the first step with status
 * "running" and again when all is known, so that a run that was killed says so by itself.
 *
 * A rank that fails writes why into the tail of its record and ends the job: the others may be
 * waiting for it in a collective, and would wait for ever.  run.json then says "running", as
 * after a kill or on a full disk, unless it was rank 0 that failed; readers look at the tails.
 */
#include "bench/base/clock.h"
#include "bench/base/err.h"
#include "bench/base/file.h"
#include "bench/base/folder.h"
#include "bench/base/hash.h"
#include "bench/base/opt.h"
#include "bench/base/span.h"
#include "bench/commands.h"
#include "bench/inject.h"
#include "bench/multigrid.h"
#include "bench/place.h"
#include "bench/plan.h"
#include "bench/step.h"
#include "bench/validate.h"
#include "comm/bucket.h"
#include "comm/clock.h"
#include "comm/comm.h"
#include "comm/lane.h"
#include "kernels/kernels.h"
#include "kernels/schedule.h"
#include "kernels/weights.h"
#include "loader/loader.h"

#include <build.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct run_options {
	const char *out, *init, *resume, *data, *net, *linspace, *multigrid, *kernels, *comm, *policy, *buckets, *eval_frames;
	const char *emulate_kernels, *emulate_loader, *on_corrupt;
	uint64_t crop, frames, clips, emulate_ranks, epochs, iterations, workers, prefetch, seed, threads, nodes, log_period;
	uint64_t checkpoint_period, eval_period, eval_seconds;
	uint64_t bucket_bytes, first_bucket_bytes, emulate_start_ms;
	double hang_s, emulate_storage_ms, lr, lr_clips, warmup_lr, warmup_epochs, momentum, weight_decay, dropout;
	bool overlap, nesterov, bn_broadcast, bind;
	struct opt_names inject;
};

#define AT(field) offsetof(struct run_options, field)

static const struct opt opts[] = {
	{ "out", OPT_NAME, AT(out), NULL, "run folder to make; must not hold a run", NULL },
	{ "data", OPT_NAME, AT(data), NULL, "AVA data set (sfscale data make)", NULL },
	{ "net", OPT_NAME, AT(net), "r50", "preset of the network", NET_PRESET_NAMES },
	{ "crop", OPT_U64, AT(crop), "0", "height and width of the input; 0: the preset's", NULL },
	{ "frames", OPT_U64, AT(frames), "0", "frames of the fast pathway; 0: the preset's", NULL },
	{ "linspace", OPT_NAME, AT(linspace), "new", "which of the fast frames are the slow ones, as PyTorch >= 1.7 rounds (of 32 the last is "
	  "frame 31) or as older ones (frame 30)", "new|old" },
	{ "clips", OPT_U64, AT(clips), "1", "clips per rank and iteration", NULL },
	{ "epochs", OPT_U64, AT(epochs), "3", "epochs", NULL },
	{ "multigrid", OPT_NAME, AT(multigrid), "off", "small clips in large batches first: the long cycle over epochs, with the short one over "
	  "iterations; half as many epochs more, 16 of --epochs or more", "off|long|long+short" },
	{ "iterations", OPT_U64, AT(iterations), "0", "iterations per epoch at most; 0: the whole data set", NULL },
	{ "policy", OPT_NAME, AT(policy), "threads", "who loads", LOADER_POLICIES },
	{ "workers", OPT_U64, AT(workers), "2", "loader workers per rank", NULL },
	{ "prefetch", OPT_U64, AT(prefetch), "2", "batches in flight per worker", NULL },
	{ "kernels", OPT_NAME, AT(kernels), "cpu", "who computes", "cpu|null" },
	{ "threads", OPT_U64, AT(threads), "0", "compute threads per rank; 0: the rank's share of the host", NULL },
	{ "bind", OPT_BOOL, AT(bind), "on", "run each rank, with its workers, near its memory and GPU, unless the launcher has bound it", NULL },
	{ "comm", OPT_NAME, AT(comm), "auto", "who reduces; auto: mpi under a launcher, else null", "auto|mpi|null" },
	{ "overlap", OPT_BOOL, AT(overlap), "on", "reduce buckets while backward still runs", NULL },
	{ "buckets", OPT_NAME, AT(buckets), "rebuilt", "DDP's layout of PyTorch <= 1.5, of >= 1.6, or one size",
	  BUCKET_LAYOUTS },
	{ "bucket-bytes", OPT_BYTES, AT(bucket_bytes), "25M", "a bucket closes at this size", NULL },
	{ "first-bucket-bytes", OPT_BYTES, AT(first_bucket_bytes), "1M", "the first one at this", NULL },
	{ "bn-broadcast", OPT_BOOL, AT(bn_broadcast), "on", "rank 0's running statistics to all ranks in every iteration", NULL },
	{ "lr", OPT_F64, AT(lr), "0.1", "learning rate after warm-up, for lr-clips clips in a step over all ranks", NULL },
	{ "lr-clips", OPT_F64, AT(lr_clips), "64", "the rate grows in proportion to the clips (linear scaling); 0: it does not", NULL },
	{ "warmup-lr", OPT_F64, AT(warmup_lr), "0.000125", "learning rate at the start, likewise", NULL },
	{ "warmup-epochs", OPT_F64, AT(warmup_epochs), "5", "epochs of linear warm-up", NULL },
	{ "momentum", OPT_F64, AT(momentum), "0.9", "of SGD", NULL },
	{ "nesterov", OPT_BOOL, AT(nesterov), "on", "Nesterov's form of it", NULL },
	{ "weight-decay", OPT_F64, AT(weight_decay), "1e-7", "of all but batch norm", NULL },
	{ "dropout", OPT_F64, AT(dropout), "0.5", "in front of the classifier", NULL },
	{ "seed", OPT_U64, AT(seed), "0", "of weights, sample order and transforms", NULL },
	{ "checkpoint-period", OPT_U64, AT(checkpoint_period), "0", "epochs between checkpoints; behind the last one there is one in any "
	  "case; 0: none at all", NULL },
	{ "resume", OPT_NAME, AT(resume), NULL, "go on from a checkpoint: a file, or a run folder, of which the newest", NULL },
	{ "eval-period", OPT_U64, AT(eval_period), "0", "epochs between validations; behind the last one there is one in any case; "
	  "0: none at all", NULL },
	{ "eval-seconds", OPT_U64, AT(eval_seconds), "4", "validation looks at keyframes in seconds that this divides; 1: at all", NULL },
	{ "init", OPT_NAME, AT(init), NULL, "weights to start from (safetensors): those whose name and shape match, the others are drawn", NULL },
	{ "eval-frames", OPT_NAME, AT(eval_frames), "middle", "of each frame the middle, square, as PySlowFast validates while it trains; or the "
	  "whole, as it tests afterwards", "middle|whole" },
	{ "nodes", OPT_U64, AT(nodes), "0", "nodes of the job; more than hosts: emulated; 0: hosts", NULL },
	{ "emulate-ranks", OPT_U64, AT(emulate_ranks), "1", "ranks that each process stands for, one after the other: their batches, "
	  "statistics and weights, not their time", NULL },
	{ "emulate-kernels", OPT_NAME, AT(emulate_kernels), NULL, "kernels null: time in ms per phase, as forward=normal:10,2,"
	  "backward=lognormal:20,0.1 (input forward loss backward update; const:MS, file:PATH)", NULL },
	{ "on-corrupt", OPT_NAME, AT(on_corrupt), "fail", "what a damaged JPEG does: ends the run, or its clip is counted and replaced by the "
	  "next one of the data set", "fail|skip" },
	{ "hang-s", OPT_F64, AT(hang_s), "8", "a worker that reads no frame for so long while its batch is waited for ends the run; "
	  "0: wait for ever", NULL },
	{ "emulate-start-ms", OPT_U64, AT(emulate_start_ms), "0", "time that each worker program takes to start, as an interpreter does; policy "
	  "respawn starts programs, others none", NULL },
	{ "emulate-loader", OPT_NAME, AT(emulate_loader), NULL, "policy null: time per batch, as normal:10,2", NULL },
	{ "emulate-storage-ms", OPT_F64, AT(emulate_storage_ms), "0", "each frame's file takes that much longer to come, as from distant storage", NULL },
	{ "inject", OPT_NAMES, AT(inject), NULL, "a delay of known size, as rank=2,phase=load,ms=30[,iteration=A:B][,prob=p]", NULL },
	{ "log-period", OPT_U64, AT(log_period), "10", "a line every so many iterations, and at the end of an epoch; 0: none", NULL },
};

static int run_main(int argc, char **argv);

const struct command command_run = { "run", "", "one measured run of the training step; alone, or under mpirun or srun",
				     opts, ARRAY_LEN(opts), run_main, sizeof(struct run_options) };

enum { RING_EVENTS = 1 << 12, FIXED_LANES = 2, LANE_TRAIN = 0, LANE_COMM = 1 };

/* All that a rank owns; zero is closed. */
struct run {
	struct run_options o;
	char started[CLOCK_UTC_BYTES];
	struct place place;
	struct comm *comm;
	struct comm_clock *clock;
	struct multigrid grid;
	struct stage {			/* a phase of it */
		const struct multigrid_phase *phase;
		struct net nets[MULTIGRID_TURNS_MAX];
		struct kernels *kernels[MULTIGRID_TURNS_MAX];
	} stages[2], *stage;		/* this one, and the next while the state moves */
	struct net net;			/* of full size */
	struct bucket_plan buckets;
	struct kernels *kernels;	/* borrowed: of the stage, those of its last turn */
	size_t iterations, batches;	/* of all epochs, for each rank */
	struct loader *loader;
	struct validation *validation;	/* NULL: there is none */
	struct comm_lane *comm_lane;
	struct recorder *recorder;
	struct lane **worker_lanes;	/* owned; borrowed by the loader */
	struct injections injections;
	struct schedule schedule;
	struct span_cost event_cost;
	struct step step;
	cJSON *identity;		/* owned; options and ranks: what checkpoints say of the run */
	char resumed[PATH_BYTES];	/* the checkpoint's file; empty: the run begins at its beginning */
	uint64_t first_epoch;
	char *changes;			/* owned; what is not as in the run that wrote it; NULL: nothing */
	char run_json[PATH_BYTES];
	char id[17];		/* of this run, in run.json and in every record */
	bool has_folder;	/* run.json is ours */
	char *command;		/* owned */
};

static char *command_text(int argc, char **argv)
{
	char *text = NULL;
	size_t bytes;
	FILE *f = open_memstream(&text, &bytes);

	fprintf(f, "sfscale run");
	for (int i = 0; i < argc; i++)
		fprintf(f, " %s", argv[i]);
	fclose(f);
	return text;
}

/* ---- set-up ---------------------------------------------------------------------------- */

/* What a number may be; `most` is included. */
static const struct limit {
	const char *name;
	enum opt_type type;
	size_t offset;
	double least, most;
} limits[] = {
	{ "clips", OPT_U64, AT(clips), 1, 4096 },
	{ "emulate-ranks", OPT_U64, AT(emulate_ranks), 1, 4096 },
	{ "epochs", OPT_U64, AT(epochs), 1, 1e6 },
	{ "workers", OPT_U64, AT(workers), 0, 1024 },
	{ "prefetch", OPT_U64, AT(prefetch), 1, 1024 },
	{ "threads", OPT_U64, AT(threads), 0, 1024 },
	{ "bucket-bytes", OPT_BYTES, AT(bucket_bytes), 1, 1e12 },
	{ "first-bucket-bytes", OPT_BYTES, AT(first_bucket_bytes), 1, 1e12 },
	{ "emulate-storage-ms", OPT_F64, AT(emulate_storage_ms), 0, 1e6 },
	{ "lr", OPT_F64, AT(lr), 0, INFINITY },
	{ "lr-clips", OPT_F64, AT(lr_clips), 0, INFINITY },
	{ "warmup-lr", OPT_F64, AT(warmup_lr), 0, INFINITY },
	{ "warmup-epochs", OPT_F64, AT(warmup_epochs), 0, INFINITY },
	{ "momentum", OPT_F64, AT(momentum), 0, 1 },
	{ "weight-decay", OPT_F64, AT(weight_decay), 0, INFINITY },
	{ "dropout", OPT_F64, AT(dropout), 0, 0.99 },
	{ "hang-s", OPT_F64, AT(hang_s), 0, 1e6 },
	{ "emulate-start-ms", OPT_U64, AT(emulate_start_ms), 0, 1e7 },
	{ "eval-seconds", OPT_U64, AT(eval_seconds), 1, AVA_SECONDS },
};

static int check_limits(const struct run_options *o)
{
	for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
		const struct limit *l = &limits[i];
		const void *at = (const char *)o + l->offset;
		double value = l->type == OPT_F64 ? *(const double *)at : (double)*(const uint64_t *)at;

		if (!(value >= l->least && value <= l->most))
			return err(USAGE, "run: --%s is %g to %g", l->name, l->least, l->most);
	}
	return OK;
}

/* Rules between options, and those that need no machine. */
int run_options_check(const void *values)
{
	const struct run_options *o = values;

	if (!o->out)
		return err(USAGE, "run: --out DIR is needed");
	if (!o->data && strcmp(o->policy, "null"))
		return err(USAGE, "run: --data DIR is needed ('sfscale data make' makes one)");
	if (o->emulate_kernels && strcmp(o->kernels, "null"))
		return err(USAGE, "run: --emulate-kernels wants --kernels null");
	if (strcmp(o->multigrid, "off") && o->emulate_ranks > 1)
		return err(USAGE, "run: --multigrid wants --emulate-ranks 1");
	if (strcmp(o->multigrid, "off") && o->eval_period && o->eval_period < 2 * o->epochs)
		return err(USAGE, "run: --multigrid validates behind its last epoch alone: --eval-period %" PRIu64 " says so", 2 * o->epochs);
	if (o->emulate_loader && strcmp(o->policy, "null"))
		return err(USAGE, "run: --emulate-loader wants --policy null");
	if (o->init && o->resume)
		return err(USAGE, "run: --init begins a run and --resume goes on with one: name one of them");
	if (o->eval_period && !o->data)
		return err(USAGE, "run: --eval-period wants --data");
	return check_limits(o);
}

/* Opens the job, and finds out whether it is the one that the launcher started. */
static int join(struct run *r)
{
	struct comm_launch launch = comm_launch_detect();
	const char *name = strcmp(r->o.comm, "auto") ? r->o.comm : launch.launched ? "mpi" : "null";
	int rc = comm_backend_find(name)->open(&r->comm);

	if (rc)
		return rc;
	if (r->comm->world > 1)
		err_rank((int)r->comm->rank);
	if (launch.world > 1 && r->comm->world == 1)
		return err(FAILED, "%s says that %zu ranks were started, but here is a job of 1: %zu copies would each train "
			   "alone (--comm %s; the launcher's MPI and this program's MPI may differ)",
			   launch.source, launch.world, launch.world, name);
	return OK;
}

enum { EMULATED_BYTES = 128 };

/* What was not measured but made up, for `text`; false: nothing. */
static bool emulated(const struct run_options *o, char text[EMULATED_BYTES])
{
	bool compute = !strcmp(o->kernels, "null"), loader = !strcmp(o->policy, "null"), storage = !loader && o->emulate_storage_ms > 0;
	const char *parts = compute && loader ? "compute and loader" : compute && storage ? "compute and storage" :
			    compute ? "compute" : loader ? "loader" : storage ? "storage" : "";
	char ranks[48] = "", start[48] = "";

	if (o->emulate_ranks > 1)
		snprintf(ranks, sizeof(ranks), "%s%" PRIu64 " ranks per process", *parts ? ", " : "", o->emulate_ranks);
	if (o->emulate_start_ms && !strcmp(o->policy, "respawn"))	/* others start no programs */
		snprintf(start, sizeof(start), "%sstart of workers", *parts || *ranks ? ", " : "");
	snprintf(text, EMULATED_BYTES, "%s%s%s", parts, ranks, start);
	return *text;
}

static size_t scaled(size_t crop, size_t side)
{
	return crop * side / LOADER_CROP;
}

/* For one phase; the jitter of smaller crops begins lower and ends where that of the full one does. */
static int open_loader(struct run *r, const struct multigrid_phase *p)
{
	const struct run_options *o = &r->o;
	struct loader_config config = {
		.data = o->data, .policy = o->policy, .workers = o->workers, .prefetch = o->prefetch, .clips = o->clips,
		.frames = p->frames, .alpha = NET_ALPHA, .rate = LOADER_RATE, .old_linspace = !strcmp(o->linspace, "old"),
		.scale_max = scaled(r->net.crop, LOADER_SCALE_MAX),
		.seed = o->seed, .rank = r->comm->rank * o->emulate_ranks, .world = r->comm->world * o->emulate_ranks,
		.ranks = o->emulate_ranks, .epochs = r->grid.epochs, .turn_count = p->turn_count,
		.storage_ns = (uint64_t)(1e6 * o->emulate_storage_ms), .emulate = o->emulate_loader,
		.skip_damaged = !strcmp(o->on_corrupt, "skip"), .hang_ns = (uint64_t)(o->hang_s * (double)NS_PER_S),
		.start_ns = o->emulate_start_ms * 1000000 };

	for (size_t i = 0; i < p->turn_count; i++) {
		size_t crop = p->turns[i].crop;

		config.crop = crop > config.crop ? crop : config.crop;
		config.turns[i] = (struct loader_turn){ crop, scaled(crop, LOADER_SCALE_MIN), p->turns[i].times };
	}
	config.scale_min = scaled(config.crop, LOADER_SCALE_MIN);
	config.iterations_max = multigrid_batches(p, o->iterations);
	return loader_open(&r->loader, &config);
}

static unsigned kernel_threads(const struct run *r)
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
	const struct kernel_backend *backend = kernel_backend_find(o->kernels);
	const size_t parts = o->emulate_ranks * multigrid_times_max(&r->grid);
	const size_t boxes = loader_boxes_max(r->loader), others = r->validation ? validation_boxes_max(r->validation) : 0;
	int rc = OK;

	*s = (struct stage){ .phase = p };
	for (size_t i = 0; i < p->turn_count && !rc; i++) {
		rc = net_init(&s->nets[i], net_preset_find(o->net), p->frames, p->turns[i].crop);
		if (!rc)
			rc = backend->open(&s->kernels[i], &(struct kernel_config){
				.net = &s->nets[i], .clips_max = o->clips, .boxes_max = boxes > others ? boxes : others,
				.grad_offset = r->buckets.grad_offset,
				.threads = kernel_threads(r),
				.seed = o->seed, .dropout_seed = o->seed + 1 + r->comm->rank * parts, .dropout = o->dropout,
				.in_parts = parts > 1, .emulate = o->emulate_kernels });
	}
	return rc;
}

static void close_stage(struct stage *s)
{
	for (size_t i = 0; i < MULTIGRID_TURNS_MAX; i++) {
		if (s->kernels[i])
			s->kernels[i]->backend->close(s->kernels[i]);
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
		.threads = o->workers ? o->workers : 1, .kernel_threads = kernel_threads(r), .rank = r->comm->rank,
		.world = r->comm->world,
		.geometry = { .rule = strcmp(o->eval_frames, "whole") ? CLIP_VAL : CLIP_TEST, .frames = r->net.frames,
			      .alpha = NET_ALPHA, .rate = LOADER_RATE, .old_linspace = !strcmp(o->linspace, "old"),
			      .crop = r->net.crop } });
}

static int open_kernels(struct run *r)
{
	const struct run_options *o = &r->o;
	const struct kernel_backend *backend;
	int rc = kernel_backend_choose(o->kernels, &backend);

	if (rc)
		return rc;
	if (o->emulate_ranks * multigrid_times_max(&r->grid) > 1 && !backend->takes_parts)
		return err(UNSUPPORTED, "kernels '%s' cannot take a step in parts (--emulate-ranks, --multigrid)", o->kernels);
	if (r->validation && !backend->evaluate)
		return err(UNSUPPORTED, "kernels '%s' cannot evaluate (--eval-period)", o->kernels);
	r->stage = &r->stages[0];
	rc = open_stage(r, r->stage, &r->grid.phases[0]);
	r->kernels = r->stage->kernels[r->stage->phase->turn_count - 1];
	return rc;
}

/* What the step works with from now on. */
static void use_stage(struct run *r)
{
	const struct multigrid_phase *p = r->stage->phase;

	r->step.turn_count = p->turn_count;
	for (size_t i = 0; i < p->turn_count; i++)
		r->step.turns[i] = (struct step_turn){ r->stage->kernels[i], r->o.emulate_ranks * p->turns[i].times };
	r->step.loader = r->loader;
	r->step.iterations = iterations_of(r, p);
}

/* In front of an epoch: its phase, if that is another. */
static int change_stage(void *context, uint64_t epoch)
{
	struct run *r = context;
	const struct multigrid_phase *p = multigrid_at(&r->grid, epoch);
	struct stage *next = &r->stages[r->stage == &r->stages[0]];
	int rc;

	if (p == r->stage->phase)
		return OK;
	loader_close(r->loader);
	r->loader = NULL;
	rc = open_loader(r, p);
	if (!rc)
		loader_lanes(r->loader, recorder_lane(r->recorder, LANE_TRAIN), r->worker_lanes);
	if (!rc)
		rc = open_stage(r, next, p);
	if (!rc)
		rc = kernels_carry(r->step.kernels, next->kernels[0]);
	if (rc)
		return rc;
	close_stage(r->stage);
	r->stage = next;
	r->kernels = next->kernels[p->turn_count - 1];
	r->step.kernels = next->kernels[0];
	use_stage(r);
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

/* Everything but files.  The loader comes before the kernels: its worker processes should not
 * inherit the memory of the network. */
static int set_up(struct run *r)
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
		rc = place_find(&r->place, r->comm->world, o->nodes, r->comm->hosts, emulated(o, made_up) ? made_up : NULL);
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
	r->identity = opt_json(opts, ARRAY_LEN(opts), o);
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

/* ---- the folder ------------------------------------------------------------------------ */

static cJSON *step_json(const struct run *r)
{
	cJSON *o = cJSON_CreateObject(), *buckets;
	char made_up[EMULATED_BYTES];

	cJSON_AddNumberToObject(o, "parameters", (double)r->net.values);
	cJSON_AddNumberToObject(o, "gradient_bytes", (double)(r->net.values * sizeof(float)));
	cJSON_AddNumberToObject(o, "macs_per_clip", (double)r->net.conv_macs);
	cJSON_AddNumberToObject(o, "clips_per_rank", (double)(r->o.clips * r->batches) / (double)r->iterations);
	cJSON_AddNumberToObject(o, "iterations_per_epoch", (double)r->iterations / (double)(r->grid.epochs - r->first_epoch));
	cJSON_AddNumberToObject(o, "epochs", (double)(r->grid.epochs - r->first_epoch));
	cJSON_AddNumberToObject(o, "first_epoch", (double)r->first_epoch);
	cJSON_AddItemToObject(o, "resumed", *r->resumed ? cJSON_CreateString(r->resumed) : cJSON_CreateNull());
	cJSON_AddNumberToObject(o, "emulate_ranks", (double)r->o.emulate_ranks);
	cJSON_AddBoolToObject(o, "emulated", emulated(&r->o, made_up));
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
	char text[256];

	if (r->comm->backend->version && !r->comm->backend->version(text, sizeof(text)))
		cJSON_AddStringToObject(o, r->comm->backend->name, text);
	if (r->kernels->backend->version && !r->kernels->backend->version(text, sizeof(text)))
		cJSON_AddStringToObject(o, r->kernels->backend->name, text);
	return o;
}

static cJSON *warnings_json(const struct run *r)
{
	cJSON *list = cJSON_CreateArray();
	size_t threads = r->place.ranks_per_node * r->place.nodes / r->place.hosts *
		(r->o.threads ? r->o.threads : place_threads(&r->place, r->comm->local_world));
	char text[1024];

	if (strcmp(r->o.kernels, "null") && threads > r->place.pus) {
		snprintf(text, sizeof(text), "%zu compute threads share %zu cores of one host: ranks slow each other down",
			 threads, r->place.pus);
		cJSON_AddItemToArray(list, cJSON_CreateString(text));
	}
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

static int write_run_json(const struct run *r, const char *status, const char *reason)
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
	cJSON_AddItemToObject(o, "options", opt_json(opts, ARRAY_LEN(opts), &r->o));
	cJSON_AddItemToObject(o, "place", place_json(&r->place));
	cJSON_AddItemToObject(o, "libraries", libraries_json(r));
	cJSON_AddItemToObject(o, "step", step_json(r));
	cost = cJSON_AddObjectToObject(o, "event_cost");
	cJSON_AddNumberToObject(cost, "pair_ns", r->event_cost.pair_ns);
	cJSON_AddNumberToObject(cost, "next_ns", r->event_cost.next_ns);
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
	return write_run_json(r, "running", NULL);
}

/* All ranks go on when rank 0 has the folder, or none does. */
static int share_folder(struct run *r)
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
	return o;
}

static int open_recorder(struct run *r)
{
	size_t lanes = FIXED_LANES + r->o.workers, events = RING_EVENTS;
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
		if (i < FIXED_LANES)
			snprintf(names[i], sizeof(names[i]), "%s", i == LANE_TRAIN ? "train" : "comm");
		else
			snprintf(names[i], sizeof(names[i]), "worker %zu", i - FIXED_LANES);
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
		r->worker_lanes[i] = recorder_lane(r->recorder, FIXED_LANES + i);
	loader_lanes(r->loader, recorder_lane(r->recorder, LANE_TRAIN), r->worker_lanes);
	return OK;
}

/* ---- the run --------------------------------------------------------------------------- */

static int plan_step(struct run *r)
{
	r->step = (struct step){
		.kernels = r->kernels, .comm = r->comm, .comm_lane = r->comm_lane, .clock = r->clock,
		.buckets = &r->buckets, .recorder = r->recorder, .lane = recorder_lane(r->recorder, LANE_TRAIN),
		.schedule = &r->schedule, .clips = r->o.clips * r->o.emulate_ranks * r->comm->world,
		.sgd = { .momentum = r->o.momentum, .weight_decay = r->o.weight_decay, .nesterov = r->o.nesterov },
		.bn_broadcasts = r->o.bn_broadcast, .first_epoch = r->first_epoch, .epochs_done = r->first_epoch,
		.epochs = r->grid.epochs, .injections = &r->injections,
		.validation = r->validation, .validation_period = r->o.eval_period,
		.checkpoints = { r->o.out, r->o.checkpoint_period, r->identity }, .log_period = r->o.log_period,
		.change = change_stage, .context = r, .results = calloc(r->grid.epochs, sizeof(struct epoch_result)) };
	use_stage(r);
	return r->step.results ? OK : err(NO_MEMORY, "no memory for the results of %zu epochs", r->grid.epochs);
}

/* The order of samples over all ranks, the sum of the processes' checksums; and how many of them were replaced. */
static int combine_checksums(struct run *r)
{
	struct comm *c = r->comm;
	int rc = OK;

	for (size_t e = r->first_epoch; !rc && e < r->step.epochs_done; e++) {
		struct epoch_result *mine = &r->step.results[e];
		uint64_t all[2] = { 0 };

		for (size_t rank = 0; !rc && rank < c->world; rank++) {
			uint64_t one[2] = { mine->checksum, mine->skipped };

			rc = c->backend->bcast(c, one, sizeof(one), rank);
			all[0] += one[0];
			all[1] += one[1];
		}
		if (!rc) {
			mine->checksum = all[0];
			mine->skipped = all[1];
		}
	}
	return rc;
}

static int measure(struct run *r)
{
	/* A first look at the clocks, so that their rates are known when the steps begin. */
	int rc = comm_clock_open(&r->clock, r->comm, NULL);

	if (!rc)
		rc = set_up(r);
	/* A rank that could not be set up leaves at once, and the job with it, before anything is written. */
	if (!rc)
		rc = r->comm->backend->barrier(r->comm);
	if (!rc)
		rc = share_folder(r);
	if (!rc && r->o.log_period && r->comm->rank == 0)
		printf("placed on %s; %s\n", r->place.text, r->place.bound_text);
	if (!rc)
		rc = open_recorder(r);
	if (!rc)
		rc = give_lanes_to_loader(r);
	if (!rc)
		rc = comm_lane_open(&r->comm_lane, r->comm, &r->buckets, r->stage->kernels[0]->grads, r->o.overlap,
				    recorder_lane(r->recorder, LANE_COMM));
	if (!rc)
		rc = plan_step(r);
	if (!rc)
		rc = step_share_state(&r->step);
	if (!rc)
		rc = step_sync_clocks(&r->step);
	/* Everybody is ready: the first epoch does not pay for the set-up of the slowest. */
	if (!rc)
		rc = r->comm->backend->barrier(r->comm);
	if (!rc)
		rc = step_run(&r->step);
	if (!rc)
		rc = step_sync_clocks(&r->step);
	return rc ? rc : combine_checksums(r);
}

/* All ranks have closed their records whole, or the run has failed. */
static int agree(struct run *r, int rc)
{
	float failed = rc != OK;
	int told = r->comm->backend->sum(r->comm, &failed, 1);

	if (!rc && !told && failed > 0)
		rc = err(RANK_FAILED, "another rank could not write its record to the end");
	return rc ? rc : told;
}

/* Writes down how it ended; returns the first failure. */
static int conclude(struct run *r, int rc)
{
	cJSON *tail = cJSON_CreateObject();
	int closed;

	/* Its thread writes into the recorder's lanes until it is gone. */
	comm_lane_close(r->comm_lane);
	r->comm_lane = NULL;
	cJSON_AddStringToObject(tail, "status", rc ? "failed" : "ok");
	if (rc)
		cJSON_AddStringToObject(tail, "reason", err_last());
	closed = recorder_close(r->recorder, tail);
	r->recorder = NULL;
	cJSON_Delete(tail);
	/* A rank that failed before does not know where the others are. */
	if (!rc)
		rc = agree(r, closed);
	if (r->has_folder && r->comm->rank == 0) {
		char *reason = rc ? strdup(err_last()) : NULL;
		int written = write_run_json(r, rc ? "failed" : "ok", reason);

		free(reason);
		rc = rc ? rc : written;
		if (!rc && r->o.log_period)
			printf("%s: ok ('sfscale report %s' says where the time went)\n", r->o.out, r->o.out);
	}
	return rc;
}

static void release(struct run *r)
{
	comm_lane_close(r->comm_lane);
	comm_clock_close(r->clock);
	loader_close(r->loader);
	validation_close(r->validation);
	close_stage(&r->stages[0]);
	close_stage(&r->stages[1]);
	bucket_plan_release(&r->buckets);
	net_release(&r->net);
	free(r->worker_lanes);
	injections_release(&r->injections);
	free(r->step.results);
	free(r->command);
	free(r->changes);
	cJSON_Delete(r->identity);
	if (r->comm)
		r->comm->backend->close(r->comm);
}

static int run_main(int argc, char **argv)
{
	const char **operands = calloc((size_t)argc + 1, sizeof(*operands));
	size_t operand_count;
	struct run *r = calloc(1, sizeof(*r));
	int rc;

	if (!r || !operands)
		return err(NO_MEMORY, "no memory");
	rc = opt_parse(&command_run, &r->o, argc, argv, operands, &operand_count);
	free(operands);
	if (!rc)
		rc = run_options_check(&r->o);
	if (rc) {
		free(r);
		return rc;
	}
	r->command = command_text(argc, argv);
	clock_utc_text(r->started);
	rc = join(r);
	if (!rc)
		rc = measure(r);
	if (r->comm)
		rc = conclude(r, rc);
	/* The others may be inside a collective with us. */
	if (rc && r->comm && r->comm->world > 1)
		r->comm->backend->abort(r->comm, rc_exit(rc));
	release(r);
	free(r);
	return rc;
}
