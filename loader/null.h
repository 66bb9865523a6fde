/*
 * loader/null.h - the policy `null`: batches of grey frames, at once or after an emulated time.
 */
#ifndef SFSCALE_LOADER_NULL_H
#define SFSCALE_LOADER_NULL_H

#include "bench/base/dist.h"
#include "loader/batch.h"

/* An index of `examples` examples without files. */
int loader_null_index(struct ava_index *, size_t examples);

/* Everything of a batch that never changes. */
void loader_null_fill(const struct batch_maker *, const struct ring *);

/* Batch `b`: what changes, its examples; after the time drawn for it. */
void loader_null_make(struct batch_maker *, const struct ring *, uint32_t b, const struct dist *emulate);

#endif
