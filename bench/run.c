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
#include "bench/run.h"

#include "bench/base/err.h"
#include "bench/commands.h"
#include "bench/profile.h"
#include "comm/bucket.h"
#include "comm/clock.h"
#include "comm/lane.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AT(field) offsetof(struct run_options, field)

static const struct opt opts[] = {
	{ "out", OPT_NAME, AT(out), NULL, "run folder to make; must not hold a run", NULL },
	{ "data", OPT_NAME, AT(data), NULL, "AVA data set (sfscale data make)", NULL },
	{ "net", OPT_NAME, AT(net), "r50", "preset of the network", NET_PRESET_NAMES },
	{ "crop", OPT_U64, AT(crop), "0", "height and width of the input; 0: the preset's", NULL },
	{ "frames", OPT_U64, AT(frames), "0", "frames of the fast pathway; 0: the preset's", NULL },
	{ "linspace", OPT_NAME, AT(linspace), "new", "which of the fast frames are the slow ones, as PyTorch >= 1.7 rounds (of 32 the last is "
	  "frame 31) or as older ones (frame 30)", "new|old" },
	{ "pixels", OPT_NAME, AT(pixels), "fp32", "what the loader hands over: normalised tensors of both pathways, or crops of bytes, a fifth of that, "
	  "which the kernels finish to the same bits", LOADER_PIXELS },
	{ "clips", OPT_U64, AT(clips), "1", "clips per rank and iteration", NULL },
	{ "epochs", OPT_U64, AT(epochs), "3", "epochs", NULL },
	{ "multigrid", OPT_NAME, AT(multigrid), "off", "small clips in large batches first: the long cycle over epochs, with the short one over "
	  "iterations; half as many epochs more, 16 of --epochs or more", "off|long|long+short" },
	{ "iterations", OPT_U64, AT(iterations), "0", "iterations per epoch at most; 0: the whole data set", NULL },
	{ "policy", OPT_NAME, AT(policy), "threads", "who loads", LOADER_POLICIES },
	{ "workers", OPT_U64, AT(workers), "2", "loader workers per rank", NULL },
	{ "prefetch", OPT_U64, AT(prefetch), "2", "batches in flight per worker", NULL },
	{ "kernels", OPT_NAME, AT(kernels), "cpu", "who computes", "cpu|cuda|null" },
	{ "precision", OPT_NAME, AT(precision), "auto", "in which convolutions compute; auto: fp32 on a CPU, bf16 with CUDA", KERNEL_PRECISIONS },
	{ "tuning", OPT_NAME, AT(tuning), NULL, "file of what was measured to choose implementations (kernels 'cuda'): read where it is there, and "
	  "written", NULL },
	{ "graph", OPT_BOOL, AT(graph), "on", "kernels 'cuda': what is the same in every step is captured as CUDA graphs, and launched as those", NULL },
	{ "profile", OPT_NAME, AT(profile), "none", "behind the run: what each operator takes alone, beside its roofline (rank 0; ops.csv in the "
	  "run's folder)", "none|ops" },
	{ "threads", OPT_U64, AT(threads), "0", "compute threads per rank; 0: the rank's share of the host", NULL },
	{ "bind", OPT_BOOL, AT(bind), "on", "run each rank, with its workers, near its memory and GPU, unless the launcher has bound it", NULL },
	{ "comm", OPT_NAME, AT(comm), "auto", "who reduces; auto: under a launcher nccl for gradients on GPUs and mpi for others, else null",
	  "auto|mpi|nccl|null" },
	{ "nccl", OPT_NAME, AT(nccl), "libnccl.so.2", "comm nccl: the library, by its path, or as the loader finds it", NULL },
	{ "gradients", OPT_NAME, AT(gradients), "fp32", "comm nccl: as what gradients travel and are summed; the optimiser's are fp32 in any case",
	  "fp32|bf16" },
	{ "nccl-timeout-s", OPT_F64, AT(nccl_timeout_s), "600", "comm nccl: what it has not done after so long has failed, and ends the run", NULL },
	{ "one-gpu", OPT_BOOL, AT(one_gpu), "off", "comm nccl: all ranks share one GPU, each a node of its own for NCCL, over loopback "
	  "sockets: real rings, and times that mean nothing", NULL },
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
	{ "nodes", OPT_U64, AT(nodes), "0", "nodes of the job; more than hosts: emulated; 0: hosts, or with --one-gpu ranks", NULL },
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
	{ "nccl-timeout-s", OPT_F64, AT(nccl_timeout_s), 1, 1e6 },
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
	if (o->one_gpu && strcmp(o->kernels, "cuda"))
		return err(USAGE, "run: --one-gpu wants --kernels cuda");
	if (o->init && o->resume)
		return err(USAGE, "run: --init begins a run and --resume goes on with one: name one of them");
	if (o->eval_period && !o->data)
		return err(USAGE, "run: --eval-period wants --data");
	return check_limits(o);
}

/* ---- the run --------------------------------------------------------------------------- */

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

/* Who reduces, and whether gradients lie where that can. */
static int choose_comm(struct run *r, bool launched, const struct comm_backend **comm)
{
	const char *name = r->o.comm;
	int rc = kernel_backend_load(r->o.kernels, &r->backend);

	if (rc)
		return rc;
	if (!strcmp(name, "auto"))
		name = !launched ? "null" : r->backend->on_device ? "nccl" : "mpi";
	rc = comm_backend_choose(name, comm);
	if (!rc && !(r->backend->on_device ? (*comm)->on_device : (*comm)->on_host))
		rc = err(USAGE, "run: kernels '%s' keep their gradients in %s memory, where comm '%s' does not sum (--comm auto finds one "
			 "that does)", r->o.kernels, r->backend->on_device ? "device" : "host", name);
	if (!rc && !strcmp(r->o.gradients, "bf16") && !(*comm)->takes_bf16)
		rc = err(USAGE, "run: comm '%s' sums gradients as they are (--gradients)", name);
	return rc;
}

/* Opens the job, and finds out whether it is the one that the launcher started. */
static int join(struct run *r)
{
	struct comm_launch launch = comm_launch_detect();
	const struct comm_backend *comm;
	int rc = choose_comm(r, launch.launched, &comm);

	if (!rc)
		rc = comm->open(&r->comm, &(struct comm_config){ .library = r->o.nccl, .timeout_s = r->o.nccl_timeout_s,
								 .one_device = r->o.one_gpu, .bf16 = !strcmp(r->o.gradients, "bf16") });
	if (rc)
		return rc;
	if (launch.world > 1 && r->comm->world == 1)
		return err(FAILED, "%s says that %zu ranks were started, but here is a job of 1: %zu copies would each train "
			   "alone (--comm %s; the launcher's MPI and this program's MPI may differ)",
			   launch.source, launch.world, launch.world, comm->name);
	return OK;
}

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
		.lanes = r->backend->on_device ? (struct kernel_lanes){ recorder_lane(r->recorder, LANE_COMPUTE),
									recorder_lane(r->recorder, LANE_COPY) } : (struct kernel_lanes){ NULL },
		.change = run_change_stage, .context = r, .results = calloc(r->grid.epochs, sizeof(struct epoch_result)) };
	run_use_stage(r);
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
		rc = run_set_up(r);
	/* A rank that could not be set up leaves at once, and the job with it, before anything is written. */
	if (!rc)
		rc = r->comm->backend->barrier(r->comm);
	if (!rc)
		rc = run_share_folder(r);
	if (!rc && r->o.log_period && r->comm->rank == 0)
		printf("placed on %s; %s\n", r->place.text, r->place.bound_text);
	if (!rc)
		rc = run_open_record(r);
	if (!rc)
		rc = comm_lane_open(&r->comm_lane, r->comm, &r->buckets, r->stage->kernels[0]->grads, r->backend->on_device,
				    r->o.overlap, recorder_lane(r->recorder, LANE_COMM));
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
	if (r->kernels && r->backend->on_device)
		cJSON_AddNumberToObject(tail, "device_bound_ns", r->kernels->clock_bound_ns);
	closed = recorder_close(r->recorder, tail);
	r->recorder = NULL;
	cJSON_Delete(tail);
	/* A rank that failed before does not know where the others are. */
	if (!rc)
		rc = agree(r, closed);
	if (r->has_folder && r->comm->rank == 0) {
		char *reason = rc ? strdup(err_last()) : NULL;
		int written = run_write_json(r, rc ? "failed" : "ok", reason);

		free(reason);
		rc = rc ? rc : written;
		if (!rc && r->o.log_period)
			printf("%s: ok ('sfscale report %s' says where the time went)\n", r->o.out, r->o.out);
	}
	return rc;
}

/* Behind everything else: it destroys what the step works on. */
static int profile(struct run *r)
{
	struct table ops, ceilings;
	const struct table *tables[] = { &ceilings, &ops };
	int rc;

	if (!strcmp(r->o.profile, "none") || r->comm->rank)
		return OK;
	rc = profile_ops(r->kernels, r->step.batch.clips, &ops, &ceilings);
	for (size_t i = 0; i < ARRAY_LEN(tables) && !rc; i++)
		rc = table_write_csv(tables[i], r->o.out);
	if (!rc)
		tables_print(tables, ARRAY_LEN(tables), TABLE_TEXT);
	table_release(&ops);
	table_release(&ceilings);
	return rc;
}

static void release(struct run *r)
{
	comm_lane_close(r->comm_lane);
	comm_clock_close(r->clock);
	run_parts_release(r);
	free(r->worker_lanes);
	free(r->step.results);
	free(r->command);
	cJSON_Delete(r->options);
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
	r->options = opt_json(opts, ARRAY_LEN(opts), &r->o);
	clock_utc_text(r->started);
	rc = join(r);
	if (!rc)
		rc = measure(r);
	if (r->comm)
		rc = conclude(r, rc);
	if (!rc)
		rc = profile(r);
	/* The others may be inside a collective with us. */
	if (rc && r->comm && r->comm->world > 1)
		r->comm->backend->abort(r->comm, rc_exit(rc));
	release(r);
	free(r);
	return rc;
}
