/*
 * kernels/kernels.h - back ends that execute the network's operators.
 *
 * A back end is opened once for a net, a batch size and a layout of the gradients: it
 * chooses implementations, plans memory, and allocates.  After that a step allocates
 * nothing.  Back ends know nothing of ranks, files or options.
 *
 * A step is  input  forward  loss  backward...backward  update, in this order.  A step in parts runs
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

/* What one step works on; all borrowed for the call of input() only. */
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
	const char *emulate;		/* back end "null": distributions of phase times; else NULL */
};

/* Tensors of the state, by index of the parameter, or STATE_MEAN and STATE_VAR of the batch norm. */
enum state_kind { STATE_WEIGHT, STATE_GRAD, STATE_MOMENTUM, STATE_MEAN, STATE_VAR };

/* An open instance; back ends embed it as their first member. */
struct kernels {
	const struct kernel_backend *backend;
	const struct net *net;
	float *grads;		/* flat, net->values floats, ordered by grad_offset; owned by the back end */
	float *weights;		/* flat, same order */
	float *momentum;	/* flat, same order; zero at the start */
	float *bn_state;	/* flat, net->buffer_values floats: running mean, then variance, of each batch norm */
	int64_t *bn_batches;	/* net->buffer_count counters; the first one chooses the dropout masks, so that who restores
				 * the state goes on with the same ones */
	const float *preds;	/* (R,80) sigmoid outputs of the last forward() */
	/* Elements of `weights` and `grads` may be permuted inside a tensor.  Ranks may exchange the flat buffers
	 * only where this is equal: it covers back end, version and every permutation. */
	uint64_t layout_hash;
};

struct kernel_backend {
	const char *name;
	bool takes_parts;	/* steps in parts; else config.in_parts is refused by the caller */
	/* OK: usable on this machine.  Else `why` says why not. */
	int (*probe)(char *why, size_t why_bytes);
	int (*open)(struct kernels **, const struct kernel_config *);
	void (*close)(struct kernels *);
	/* Takes the batch in: into the layout and place the first operators read. */
	int (*input)(struct kernels *, const struct step_input *);
	int (*forward)(struct kernels *);			/* training mode: batch statistics, running ones updated */
	int (*loss)(struct kernels *, float *loss);		/* mean binary cross entropy over R*80 */
	/* Runs backward until the gradients of all parameters with net_param.ready <= `ready` exist;
	 * calls come with growing `ready`, the last with param_count - 1.  Overwrites gradients; of a step in
	 * parts they are complete in its last part only. */
	int (*backward)(struct kernels *, size_t ready);
	int (*update)(struct kernels *, const struct sgd *);	/* from grads, as they are now */
	/* One tensor of the state in PySlowFast's plain order, out or in; not while a step runs. */
	int (*get)(struct kernels *, enum state_kind, size_t index, float *plain);
	int (*set)(struct kernels *, enum state_kind, size_t index, const float *plain);
	/* Optional: forward for evaluation: running statistics, which stay as they are, and no dropout.  preds and
	 * loss() follow; backward does not. */
	int (*evaluate)(struct kernels *);
	/* Optional: one line per operator: implementation chosen, layout.  Owned by the caller. */
	int (*describe)(struct kernels *, struct table *);
	/* Optional: what the convolutions of one step take alone (forward, and both gradients), timed now, each in the
	 * layouts that the library likes best and without what lies between them: what a step is measured against. */
	int (*convolutions_ns)(struct kernels *, uint64_t *ns);
	/* Optional: of the library that computes, one line. */
	int (*version)(char *text, size_t bytes);
};

/* The reference first; ends with NULL. */
extern const struct kernel_backend *const kernel_backends[];
const struct kernel_backend *kernel_backend_find(const char *name);	/* NULL: unknown */
/* The same, ready to be opened; UNSUPPORTED, said, where it is not built in or not usable on this machine. */
int kernel_backend_choose(const char *name, const struct kernel_backend **);

/* Weights, momentum and running statistics of one instance into another, of the same network in another shape. */
int kernels_carry(struct kernels *from, struct kernels *to);

#endif
