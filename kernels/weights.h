/*
 * kernels/weights.h - the state of a net in a file, under PySlowFast's names.
 *
 * The 662 tensors of the model: 332 parameters by their names; of each of the 110 batch norms
 * "BN.running_mean", "BN.running_var" (F32) and "BN.num_batches_tracked" (I64, a scalar).  Beside
 * them, where asked for, "momentum.NAME" and "grad.NAME" of each parameter.  All in PySlowFast's
 * plain order whatever the back end keeps inside, so any back end reads what another has written.
 */
#ifndef SFSCALE_KERNELS_WEIGHTS_H
#define SFSCALE_KERNELS_WEIGHTS_H

#include "kernels/kernels.h"
#include "kernels/safetensors.h"

#include <stdbool.h>

/* Parts of the state; a sum of them says which. */
enum { WEIGHTS_MODEL = 1, WEIGHTS_MOMENTUM = 2, WEIGHTS_GRADS = 4 };

/* Whole file: the parts, and strings beside them (epoch, options ...). */
int weights_save(struct kernels *, unsigned parts, const char *path, const struct safetensors_text *texts,
		 size_t text_count);

/* In two steps, for files with more tensors: declare, and put in the same place of the order. */
int weights_add(struct safetensors_writer *, const struct net *, unsigned parts);
int weights_put(struct safetensors_writer *, struct kernels *, unsigned parts);

/* The parts of which a file has any tensor. */
unsigned weights_parts(const struct net *, const struct safetensors *);

/* How much of the parts a file had. */
struct weights_found {
	size_t wanted, taken;	/* tensors */
};

/* The parts, from an open file into a net.  A tensor that is missing or of another type or shape is an error that
 * lists the names, and nothing was loaded; with `partial` it stays as it is, and one warning lists the names.
 * Tensors that are not asked for are passed over.  `found` may be NULL. */
int weights_load(struct kernels *, unsigned parts, const struct safetensors *, bool partial,
		 struct weights_found *found);

#endif
