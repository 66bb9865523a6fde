/*
 * kernels/kernels.h - back ends that execute the network's operators.
 *
 * A back end is opened once for a net, a batch size and a layout of the gradients: it
 * chooses implementations, plans memory, and allocates.  After that a step allocates
 * nothing.  Back ends know nothing of ranks, files or options.
 *
 * A step is  input  forward  loss  backward...backward  update, in this order.  Those that compute on a device (on_device)
 * enqueue: a call returns at once, and its answer is awaited by kernels_answer().  A step in parts runs
 * all but the update once per part, each on a batch of its own: what as many ranks would do to one copy of the
 * weights.  Gradients are those of the mean over the parts, running statistics those of part 0, as if the other
 * ranks' were overwritten by its own.
 */
#ifndef SFSCALE_KERNELS_KERNELS_H
#define SFSCALE_KERNELS_KERNELS_H

#include "kernels/net.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What one step works on; all borrowed until kernels_answer(). */
struct step_input {
	size_t clips;		/* N <= config.clips_max */
	size_t boxes;		/* R <= config.boxes_max */
	const float *slow;	/* (N,3,T/alpha,H,W) */
	const float *fast;	/* (N,3,T,H,W) */
	const uint8_t *crops;	/* (N,T,H,W,3), channels in the order of the other two, which are NULL then (else this one is): the
				 * back end makes both of it, by net_pixel() and net_shown_frame() */
	const float *rois;	/* (R,5): clip in the batch, x1, y1, x2, y2 in pixels of the crop */
	const float *labels;	/* (R,80): 0 or 1 */
	size_t part, parts;	/* of the step, in order from 0; parts 0 or 1: the whole step */
};

struct sgd {
	double lr, momentum, weight_decay;
	bool nesterov;
};

struct kernel_config {
	const struct net *net;		/* borrowed for the life of the instance */
	size_t clips_max, boxes_max;
	const size_t *grad_offset;	/* per parameter: where its gradient starts in the flat buffer, in floats;
					 * a permutation of the parameters without gaps; NULL: registration order */
	unsigned threads;
	uint64_t seed;			/* initial weights (same on all ranks) */
	uint64_t dropout_seed;		/* differs between ranks; part k of a step draws as dropout_seed + k */
	double dropout;			/* 0.5 as published; 0: off */
	bool old_linspace;		/* which frames of crops the slow pathway shows: net_shown_frame() */
	bool in_parts;			/* steps may have several parts: one more copy of the gradients */
	bool graph;			/* of a device: what is the same in every step is captured, and then launched at once */
	const char *precision;		/* in which convolutions compute, "fp32", "tf32" or "bf16"; NULL: as the back end likes best */
	const char *tuning;		/* of another instance; NULL: what is to be measured is measured */
	size_t device;			/* of this host, for back ends that have several: taken modulo their number */
	const char *emulate;		/* back end "null": distributions of phase times; else NULL */
};

/* Tensors of the state, by index of the parameter, or STATE_MEAN and STATE_VAR of the batch norm. */
enum state_kind { STATE_WEIGHT, STATE_GRAD, STATE_MOMENTUM, STATE_MEAN, STATE_VAR };

/* Where a device's own time is written down (bench/base/span.h); NULL: nowhere.  The caller's, who sets `iter`. */
struct kernel_lanes {
	struct lane *compute, *copy;
};

/* An open instance; back ends embed it as their first member. */
struct kernels {
	const struct kernel_backend *backend;
	const struct net *net;
	const char *precision;	/* in which its convolutions compute; static */
	size_t element_bytes;	/* of an activation's value */
	size_t device_bytes;	/* of device memory that it holds; 0: host memory alone */
	float *grads;		/* flat, net->values floats, ordered by grad_offset; owned by the back end */
	float *weights;		/* flat, same order */
	float *momentum;	/* flat, same order; zero at the start */
	float *bn_state;	/* flat, net->buffer_values floats: running mean, then variance, of each batch norm */
	int64_t *bn_batches;	/* net->buffer_count counters; the first one chooses the dropout masks, so that who restores
				 * the state goes on with the same ones */
	const float *preds;	/* (R,80) sigmoid outputs of the last forward(), once they are answered */
	const float *loss;	/* of the last loss(): mean binary cross entropy over R*80; likewise */
	struct kernel_lanes lanes;	/* set by the caller, with on_device; none at first */
	double stamp_ns;	/* with on_device: what a stamp in those lanes takes of its stream; a span has two */
	double clock_bound_ns;	/* how wrong the device's clock was on the host's, at most, in what was collected so far */
	/* Elements of `weights` and `grads` may be permuted inside a tensor.  Ranks may exchange the flat buffers
	 * only where this is equal: it covers back end, version and every permutation. */
	uint64_t layout_hash;
};

struct kernel_backend {
	const char *name;
	bool on_device;		/* the flat float buffers of struct kernels are in device memory; preds and bn_batches never */
	bool takes_parts;	/* steps in parts; else config.in_parts is refused by the caller */
	/* OK: usable on this machine.  Else `why` says why not. */
	int (*probe)(char *why, size_t why_bytes);
	int (*open)(struct kernels **, const struct kernel_config *);
	void (*close)(struct kernels *);
	/* Takes the batch in: into the layout and place the first operators read. */
	int (*input)(struct kernels *, const struct step_input *);
	int (*forward)(struct kernels *);			/* training mode: batch statistics, running ones updated */
	int (*loss)(struct kernels *);
	/* Runs backward until the gradients of all parameters with net_param.ready <= `ready` exist;
	 * calls come with growing `ready`, the last with param_count - 1.  Overwrites gradients; of a step in
	 * parts they are complete in its last part only. */
	int (*backward)(struct kernels *, size_t ready);
	int (*update)(struct kernels *, const struct sgd *);	/* from grads, as they are now */
	/* Required with on_device, where calls enqueue; else NULL, and calls return when all is done. */
	struct kernel_queue {
		int (*answer)(struct kernels *);	/* waits for what loss() or evaluate(), the later one, has yet to give */
		int (*settle)(struct kernels *);	/* waits until everything is done */
		/* Order among streams.  An event stands for all that is enqueued so far; borrowed until as many more were asked for as
		 * the net has parameters. */
		int (*mark)(struct kernels *, void **event);
		int (*follow)(struct kernels *, void *event);	/* what is enqueued from now on comes behind it; NULL: behind nothing */
		int (*collect)(struct kernels *);	/* writes what the device has done meanwhile into the lanes */
	} queue;
	/* One tensor of the state in PySlowFast's plain order, out or in; not while a step runs. */
	int (*get)(struct kernels *, enum state_kind, size_t index, float *plain);
	int (*set)(struct kernels *, enum state_kind, size_t index, const float *plain);
	/* Optional: forward for evaluation: running statistics, which stay as they are, and no dropout.  preds, once
	 * answered, and loss() follow; backward does not. */
	int (*evaluate)(struct kernels *);
	/* Optional: one row per operator: its name, what runs each of enum op_pass, more.  Owned by the caller. */
	int (*describe)(struct kernels *, struct table *);
	/* Optional: what was measured to choose implementations, as config.tuning takes it: for other ranks, which are to choose
	 * alike, and for other runs.  Lines of text; borrowed while the instance is open. */
	const char *(*tuning)(struct kernels *);
	/* Optional: what one pass of operator `op` takes that runs `times` times in a row, on what the last step has left; tensors
	 * and running statistics are undefined from then on.  0: it has no such pass. */
	int (*time_op)(struct kernels *, size_t op, enum op_pass, size_t times, uint64_t *ns);
	/* Optional: what a large matrix product and a large copy (bytes read and written) reach here, now. */
	int (*ceilings)(struct kernels *, double *flop_per_s, double *bytes_per_s);
	/* Optional: what the convolutions of one step take alone (forward, and both gradients), timed now, each in the
	 * layouts that the library likes best and without what lies between them: what a step is measured against. */
	int (*convolutions_ns)(struct kernels *, uint64_t *ns);
	/* Optional: host memory from which input() will be given batches again and again, so that a device can fetch them by itself;
	 * until it is freed.  UNSUPPORTED, not said: then batches are copied twice. */
	int (*pin)(void *at, size_t bytes);
	void (*unpin)(void *at);
	/* Optional: of the library that computes, one line. */
	int (*version)(char *text, size_t bytes);
};

/* Those that are built in, the reference first; ends with NULL. */
extern const struct kernel_backend *const kernel_backends[];
const struct kernel_backend *kernel_backend_find(const char *name);	/* NULL: unknown */
/* The same, or that of the shared object (bench/base/library.h: "cuda"); UNSUPPORTED, said, where there is none. */
int kernel_backend_load(const char *name, const struct kernel_backend **);
/* That, ready to be opened; UNSUPPORTED, said, where it is not usable on this machine. */
int kernel_backend_choose(const char *name, const struct kernel_backend **);
#define KERNEL_PRECISIONS "auto|fp32|tf32|bf16"	/* as a row of options wants its choices */
/* kernel_config.precision for the value of an option, in which "auto" leaves it to the back end. */
const char *kernel_precision(const char *option);

/* Returns when preds and loss of the last step or evaluation are there, and its input is the caller's again. */
int kernels_answer(struct kernels *);

/* What every back end asks of a batch.  FAILED, said, when it is larger than the instance or a box belongs to no clip. */
int kernels_check_input(const struct step_input *, const struct kernel_config *);

/* Weights, momentum and running statistics of one instance into another, of the same network in another shape. */
int kernels_carry(struct kernels *from, struct kernels *to);

#endif
