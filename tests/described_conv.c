/*
 * tests/described_conv.c - what the real cuDNN, without a GPU, plans for a chip that a file describes (tests/chips/).
 *
 *   described_conv CHIP.json NET CLIPS fp32|tf32|bf16
 *
 * Opens every distinct convolution of the net twice: with what the heuristics list, and from the text of what was chosen.
 * Prints a line for each pass, then what there was of all; exit status 1 when one has no engine, or the text names another.
 * Proves that plans exist for the chip; what they compute, nobody here can see.
 */
#include "kernels/cuda/conv.h"

#include "bench/base/file.h"
#include "kernels/net.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const maths[] = { "fp32", "tf32", "bf16" };
static const char *const passes[] = { "forward", "backward-data", "backward-weights" };

static struct cuda_conv_shape shape_of(const struct net *net, const struct net_op *op, size_t clips, enum cuda_math math)
{
	const struct net_tensor *x = &net->tensors[op->in], *y = &net->tensors[op->out];
	struct cuda_conv_shape s;

	memset(&s, 0, sizeof(s));	/* compared as bytes */
	s.n = clips;
	s.cin = op->in < NET_INPUTS ? cuda_conv_channels(math, x->c) : x->c;
	s.cout = y->c;
	memcpy(s.in, (const size_t[]){ x->t, x->h, x->w }, sizeof(s.in));
	memcpy(s.out, (const size_t[]){ y->t, y->h, y->w }, sizeof(s.out));
	memcpy(s.kernel, op->kernel, sizeof(s.kernel));
	memcpy(s.stride, op->stride, sizeof(s.stride));
	memcpy(s.pad, op->pad, sizeof(s.pad));
	memcpy(s.dilation, op->dilation, sizeof(s.dilation));
	return s;
}

struct found {
	size_t convolutions, candidates;
	size_t workspace_bytes;		/* the largest */
};

static int look(struct cuda_dnn *dnn, const struct net_op *op, const struct cuda_conv_shape *shape, struct found *found)
{
	const unsigned which = op->in < NET_INPUTS ? 1u << OP_FORWARD | 1u << OP_BACKWARD_WEIGHTS : 7u;
	char before[OP_PASSES][64], after[64];
	struct cuda_conv *conv;
	size_t candidates, bytes;
	int rc = cuda_conv_open(&conv, dnn, shape, which, true);

	if (rc)
		return rc;
	bytes = cuda_conv_workspace_bytes(conv);
	found->workspace_bytes = bytes > found->workspace_bytes ? bytes : found->workspace_bytes;
	found->convolutions++;
	for (size_t p = 0; p < OP_PASSES; p++) {
		cuda_conv_describe(conv, (enum op_pass)p, before[p], sizeof(before[p]), &candidates);
		found->candidates += candidates;
		if (candidates)
			printf("%s %s: %s, %zu candidates\n", op->name, passes[p], before[p], candidates);
	}
	rc = cuda_conv_tune(conv, NULL, NULL, NULL, NULL);
	cuda_conv_close(conv);
	if (!rc)
		rc = cuda_conv_open(&conv, dnn, shape, which, true);
	if (rc)
		return rc;
	for (size_t p = 0; p < OP_PASSES && !rc; p++) {
		cuda_conv_describe(conv, (enum op_pass)p, after, sizeof(after), &candidates);
		if (strcmp(before[p], after) || candidates > 1)
			rc = err(FAILED, "'%s' %s: chosen was %s, and the text leads to %s", op->name, passes[p], before[p], after);
	}
	cuda_conv_close(conv);
	return rc;
}

static int look_at_all(const struct net *net, struct cuda_dnn *dnn, size_t clips)
{
	struct cuda_conv_shape *seen = calloc(net->op_count, sizeof(*seen));
	struct found found = { 0 };
	int rc = seen ? OK : NO_MEMORY;

	for (size_t i = 0; i < net->op_count && !rc; i++) {
		bool known = net->ops[i].kind != OP_CONV;

		if (known)
			continue;
		seen[i] = shape_of(net, &net->ops[i], clips, dnn->math);
		for (size_t j = 0; j < i && !known; j++)
			known = !memcmp(&seen[j], &seen[i], sizeof(*seen));
		if (!known)
			rc = look(dnn, &net->ops[i], &seen[i], &found);
	}
	printf("convolutions %zu, candidates %zu, plans %zu, workspace %zu bytes\n", found.convolutions, found.candidates,
	       dnn->plans, found.workspace_bytes);
	free(seen);
	return rc;
}

int main(int argc, char **argv)
{
	struct cuda_dnn *dnn = NULL;
	struct net net;
	char *chip;
	size_t math = 0;
	int rc;

	while (argc == 5 && math < ARRAY_LEN(maths) && strcmp(maths[math], argv[4]))
		math++;
	if (argc != 5 || math == ARRAY_LEN(maths) || !net_preset_find(argv[2]))
		return rc_exit(err(USAGE, "described_conv CHIP.json NET CLIPS fp32|tf32|bf16"));
	rc = file_read(argv[1], &chip, NULL);
	if (rc)
		return rc_exit(rc);
	rc = net_init(&net, net_preset_find(argv[2]), 0, 0);
	if (!rc)
		rc = cuda_dnn_open_described(&dnn, chip, (enum cuda_math)math);
	if (!rc)
		rc = look_at_all(&net, dnn, strtoul(argv[3], NULL, 10));
	cuda_dnn_close(dnn);
	net_release(&net);
	free(chip);
	return rc ? 1 : 0;
}
