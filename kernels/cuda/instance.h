/*
 * kernels/cuda/instance.h - the CUDA back end's open instance, for the files that are the back end.
 *
 * cuda.c opens and closes it and moves state in and out; batch.c brings a batch in; step.c executes; measure.c says what was
 * chosen and what it takes.
 */
#ifndef SFSCALE_KERNELS_CUDA_INSTANCE_H
#define SFSCALE_KERNELS_CUDA_INSTANCE_H

#include "kernels/cuda/conv.h"
#include "kernels/cuda/gradient.h"
#include "kernels/cuda/graph.h"
#include "kernels/cuda/memory.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/timeline.h"
#include "kernels/kernels.h"
#include "kernels/plan.h"

enum { CUDA_SLOW, CUDA_FAST };

/* An operator, ready to run. */
struct cuda_node {
	const struct net_op *op;
	struct cuda_conv *conv;		/* owned */
	struct cuda_norm norm;
	struct cuda_pool pool;
};

/* The head's memory; (R,...) of boxes_max, on the device but for those that are pinned. */
struct cuda_head {
	size_t feature_count;		/* per box */
	float *rois, *labels;		/* (R,5), (R,80) */
	float *features, *dfeatures;	/* (R,F), behind dropout */
	float *drop, *drop_pinned;	/* (R,F): 0 or 1/(1-p) */
	float *logits, *dlogits, *preds, *preds_pinned;	/* (R,80) */
	float *loss, *loss_pinned;	/* (1) */
	struct cuda_roi roi[2];		/* by pathway */
};

struct cuda {
	struct kernels base;
	struct kernel_config config;
	struct kernel_plan plan;
	enum cuda_math math;
	enum cuda_element element;
	size_t channels[NET_INPUTS];	/* of the inputs as stored */
	cudaStream_t stream;		/* owned, as all below */
	cudaStream_t copies_in;		/* on which batches come */
	cudaEvent_t arrived, unpacked;	/* the batch is in `raw`; it has been read there */
	cudaEvent_t answered;		/* preds and loss are on the host */
	cudaEvent_t *marks;		/* mark_count of them, for others, in turn */
	size_t mark_count, marked;
	struct cuda_timeline *timeline;
	size_t backwards;		/* calls since the loss: buckets */
	struct cuda_dnn *dnn;
	struct cuda_memory memory;	/* of all but the workspace */
	struct cuda_memory scratch;	/* its device_bytes are the workspace's */
	void *workspace;		/* of one convolution at a time, as large as the one that needs most; borrowed */
	struct cuda_node *nodes;		/* one per operator */
	char *arena;
	struct cuda_raw {		/* a batch as it comes */
		float *inputs;		/* (N,3,T,H,W) of the slow pathway, then of the fast one; or crops of bytes */
		float *rois, *labels;
	} raw;
	uint32_t *shown;		/* (T of the slow input) frames of crops that it shows */
	void *copies;			/* weights as convolutions read them */
	size_t *copy_offset;		/* per parameter: its elements in `copies`; SIZE_MAX: has none */
	struct cuda_run *runs;		/* on the device, one per parameter */
	size_t longest_run;
	bool copies_stale;
	float *hyper;			/* lr, momentum, weight decay */
	float *hyper_pinned[2];		/* in turn: the host may be an update ahead of the device */
	size_t updates;
	float *bn_mean, *bn_inv_std;	/* of the batch, all channels */
	float *partial;			/* of one batch norm */
	float *plain;			/* host: one parameter */
	struct cuda_head head;
	size_t trunk_ops;		/* operators before the head: what does not depend on the boxes */
	struct cuda_graph forward[2];	/* of the trunk; in the first part of a step, and in others */
	struct cuda_piece {		/* of its backward, from an operator on down */
		struct cuda_graph graph;
		size_t until;
	} *backward;			/* by that operator, and one more */
	size_t prepared_clips;		/* 0: nodes are not bound */
	float *sum;			/* flat; gradients of the parts before this one; NULL: steps have one part */
	size_t part, parts, boxes;	/* of the latest batch */
	size_t backward_left;		/* operators [0, left) have not run backward yet */
};

static inline struct cuda *cuda_of(struct kernels *k)
{
	return (struct cuda *)k;
}

/* Everything enqueued is done. */
static inline int cuda_wait(struct cuda *c)
{
	return TRY_CUDA(cudaStreamSynchronize(c->stream));
}

static inline int cuda_to_device(struct cuda *c, void *to, const void *from, size_t bytes)
{
	return TRY_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, c->stream));
}

static inline int cuda_to_host(struct cuda *c, void *to, const void *from, size_t bytes)
{
	return TRY_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, c->stream));
}

/* ---- step.c ---- */

/* Channels of a tensor with memory of its own, as stored: inputs are padded. */
size_t cuda_stored_channels(const struct cuda *, int tensor);
/* Elements of one clip of it; for kernel_plan_init(). */
size_t cuda_clip_values(const void *cuda, int tensor);
/* A tensor, or with `pieces` = grads its gradient, with the clips for which nodes are being prepared. */
struct cuda_act cuda_act_of(const struct cuda *, const struct piece *pieces, int tensor);
/* Where convolutions read a parameter. */
void *cuda_copy_at(const struct cuda *, int param);
/* Makes and binds all nodes for this number of clips; what it chose is closed by cuda_unprepare(). */
int cuda_prepare(struct cuda *, size_t clips);
void cuda_unprepare(struct cuda *);
/* One operator, or one pass of a convolution's backward; they enqueue. */
int cuda_node_forward(struct cuda *, const struct cuda_node *, bool training);
int cuda_node_backward(struct cuda *, const struct cuda_node *);
int cuda_node_backward_data(struct cuda *, const struct cuda_node *);
int cuda_node_backward_weights(struct cuda *, const struct cuda_node *);
/* Into the copies that convolutions read, where they were set since. */
int cuda_take_weights(struct cuda *);
/* Slots of the table. */
int cuda_forward(struct kernels *);
int cuda_evaluate(struct kernels *);
int cuda_loss(struct kernels *);
int cuda_backward(struct kernels *, size_t ready);
int cuda_update(struct kernels *, const struct sgd *);
int cuda_answer(struct kernels *);
int cuda_settle(struct kernels *);
int cuda_mark(struct kernels *, void **event);
int cuda_follow(struct kernels *, void *event);
int cuda_collect(struct kernels *);

/* ---- batch.c ---- */

/* Of one clip, both inputs. */
size_t cuda_raw_clip_floats(const struct cuda *);
/* The streams, events and memory that batches come by. */
int cuda_batch_open(struct cuda *);
void cuda_batch_close(struct cuda *);
/* Slots of the table. */
int cuda_input(struct kernels *, const struct step_input *);
int cuda_pin(void *at, size_t bytes);
void cuda_unpin(void *at);

/* ---- measure.c; slots of the table ---- */

int cuda_describe(struct kernels *, struct table *);
int cuda_time_op(struct kernels *, size_t op, enum op_pass, size_t times, uint64_t *ns);
int cuda_ceilings(struct kernels *, double *flop_per_s, double *bytes_per_s);

#endif
