/*
 * kernels/net.h - SlowFast as rows.
 *
 * One list of parameters and one list of fused operators describe the network; forward,
 * backward, memory planning, work counts, weight files, buckets and tests read them, and
 * nothing else knows a layer.  Formulas and numbers: PySlowFast's SLOWFAST_32x2_R50_SHORT.
 *
 * Tensors are (N,C,T,H,W).  MAC = one multiply and one add.
 */
#ifndef SFSCALE_KERNELS_NET_H
#define SFSCALE_KERNELS_NET_H

#include "bench/base/table.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct net_preset {
	const char *name;
	size_t width;		/* channels of the slow stem: 64 for R50 */
	size_t frames;		/* of the fast pathway; a multiple of 4 from 8 to 1024 */
	size_t crop;		/* height and width of the input; a multiple of 16 from 64 to 4096 */
	const char *meaning;
};
extern const struct net_preset net_presets[];	/* ends with a NULL name */
#define NET_PRESET_NAMES "r50|r50-16|medium|small|tiny|nano"	/* the choices of an option, in this order */
const struct net_preset *net_preset_find(const char *name);	/* NULL: unknown */

enum { NET_INPUTS = 2, NET_ALPHA = 4, NET_BETA_INV = 8, NET_CLASSES = 80, NET_ROI_OUT = 7, NET_ROI_STRIDE = 16 };

/* What the network reads of an 8-bit pixel, alike for all three channels: (value / 255 - mean) / deviation.  Whoever
 * computes it does so in these two steps, and gets the same bits. */
#define NET_MEAN 0.45f
#define NET_DEVIATION 0.225f
#define NET_PIXEL_SCALE (1 / (255 * NET_DEVIATION))
#define NET_PIXEL_OFFSET (NET_MEAN / NET_DEVIATION)
static inline float net_pixel(int value)
{
	float scaled = (float)value * NET_PIXEL_SCALE;	/* a statement of its own: no compiler fuses it with the next */

	return scaled - NET_PIXEL_OFFSET;
}

/* Which of a clip's frames a pathway that shows `shown` of them has in its i-th place: linspace(0, frames - 1, shown),
 * truncated; so the slow one does not show every alpha-th, and the fast one shows all.  PyTorch before 1.7 multiplied i with a
 * step in single precision, which may end below the last frame (of 32: 30.999998, so 30, not 31). */
static inline size_t net_shown_frame(size_t frames, size_t shown, bool old_linspace, size_t i)
{
	if (shown < 2)
		return 0;
	return old_linspace ? (size_t)((float)i * ((float)(frames - 1) / (float)(shown - 1))) : i * (frames - 1) / (shown - 1);
}

enum param_group { PARAM_CONV, PARAM_BN, PARAM_FC };

/* A trainable tensor; the index is PySlowFast's registration order. */
struct net_param {
	char name[48];		/* "s4.pathway1_res5.branch2.b_bn.weight" */
	size_t dims[5];		/* (Cout,Cin,kT,kH,kW), (C) or (out,in) */
	size_t rank;		/* of the tensor: 5, 1 or 2 */
	size_t count;
	enum param_group group;
	bool decays;		/* weight decay applies: all but batch norm */
	size_t ready;		/* place in the order in which backward finishes gradients, from 0 */
};

/* A batch-norm layer's running state; the index counts batch norms in registration order. */
struct net_buffer {
	char name[48];		/* without the suffix: "s1.pathway0_stem.bn" */
	size_t channels;
};

/* A tensor between operators. `c` channels starting at `c0` of a concatenation when `of` >= 0:
 * the producer writes in place, so no concatenation ever copies. */
struct net_tensor {
	char name[48];
	size_t c, t, h, w;	/* per clip; behind OP_ROI_HEAD per box: (C,1,1,1) */
	int of;			/* index of the concatenated tensor this one is a slice of; -1: none */
	size_t c0;
};

enum net_op_kind { OP_CONV, OP_BN, OP_MAXPOOL, OP_ROI_HEAD, OP_FC };
/* Of an operator.  One whose backward is a whole has it under OP_BACKWARD_DATA. */
enum op_pass { OP_FORWARD, OP_BACKWARD_DATA, OP_BACKWARD_WEIGHTS, OP_PASSES };

/* A fused operator, in execution order; net_param.ready is exactly the reverse of this order.  A tensor is written
 * once and may be read by several operators: their gradients add up. */
struct net_op {
	enum net_op_kind kind;
	char name[48];		/* of the module: "s2.pathway0_res0.branch2.a"; BN: with "_bn" or ".bn" */
	const char *stage;	/* "s1" ... "s5", "s1_fuse" ..., "head" */
	int in, out;		/* tensors; OP_ROI_HEAD: in = slow, in2 = fast */
	int in2;		/* OP_BN with add: the other summand, as large as `out`; else -1 */
	bool relu;		/* OP_BN: y = relu(bn(x) + in2); without add relu(bn(x)) or bn(x) */
	size_t kernel[3], stride[3], pad[3], dilation[3];	/* OP_CONV, OP_MAXPOOL: (T,H,W) */
	int weight, bias;	/* parameters: conv weight; BN weight and bias; fc weight and bias; -1 */
	int buffer;		/* OP_BN: running state; else -1 */
	uint64_t macs;		/* forward, per clip; OP_FC: per box */
};

struct net {
	const struct net_preset *preset;
	size_t frames, slow_frames, crop;
	size_t height, width;	/* of the input: crop by crop, or a whole frame */
	struct net_param *params;	/* owned */
	size_t param_count;
	struct net_buffer *buffers;	/* owned */
	size_t buffer_count;
	struct net_tensor *tensors;	/* owned; the first NET_INPUTS: slow input, fast input */
	size_t tensor_count;
	struct net_op *ops;		/* owned */
	size_t op_count;
	size_t values;			/* sum of all parameters' counts */
	size_t buffer_values;		/* running mean and variance together */
	uint64_t conv_macs;		/* all convolutions, forward, one clip */
};

/* `frames` and `crop` replace the preset's when not 0.  USAGE (said) when they do not fit. */
int net_init(struct net *, const struct net_preset *, size_t frames, size_t crop);
/* The same network for whole frames, whatever their size from 64 up: its state fits, its activations do not. */
int net_init_whole(struct net *, const struct net *, size_t height, size_t width);
void net_release(struct net *);

/* MACs of backward's convolutions, one clip, until the gradient with this ready index exists: as much as forward
 * for the weights, and once more for the inputs, except those of the network. */
uint64_t net_backward_macs(const struct net *, size_t ready);

#endif
