/*
 * kernels/cuda/dnn.h - cuDNN's graph API in few lines.
 *
 * Everything in that API is a descriptor: created, given attributes, finalized, and from then on read only.  Here such a
 * descriptor is one call with a table of attributes.  What may be refused (an engine that does not know a shape) is a status;
 * what may not is said by TRY_DNN.
 *
 * A dnn is a handle on a stream; or, for cuDNN 9.8 and later, the description of a chip that need not be here: graphs,
 * heuristics and plans then answer for that chip, and nothing can be executed.
 */
#ifndef SFSCALE_KERNELS_CUDA_DNN_H
#define SFSCALE_KERNELS_CUDA_DNN_H

#include "kernels/cuda/sample.h"

#include <cudnn.h>

enum cuda_math { CUDA_MATH_F32, CUDA_MATH_TF32, CUDA_MATH_BF16 };	/* elements are float, float, bf16; sums are float */

struct cuda_dnn {
	cudnnHandle_t handle;			/* NULL: described; owned */
	cudnnBackendDescriptor_t described;	/* NULL: the chip of the handle; owned */
	cudaStream_t stream;			/* borrowed */
	enum cuda_math math;
	char chip[sizeof(((struct cudaDeviceProp *)NULL)->name) + 32];	/* with the driver's version, in CUDA's words */
	float *samples;				/* device; CUDA_SAMPLES and 2, kernels/cuda/sample.h; owned, NULL: described */
	size_t plans;				/* built so far: none may be built while a clock runs */
	char *choices;				/* kernels/cuda/conv.h; owned, or NULL */
};

/* On the current device.  Warns, once, of versions that are known to compute 3-D convolutions wrongly. */
int cuda_dnn_open(struct cuda_dnn **, cudaStream_t, enum cuda_math);
/* `json`: device properties as cuDNN writes them. */
int cuda_dnn_open_described(struct cuda_dnn **, const char *json, enum cuda_math);
void cuda_dnn_close(struct cuda_dnn *);
/* "cuDNN 9.19.0" */
void cuda_dnn_version(char *text, size_t bytes);

/* 0, or an rc with the call, its place and the library's own words said. */
int cuda_dnn_check(cudnnStatus_t, const char *call, const char *file, int line);
#define TRY_DNN(call) cuda_dnn_check((call), #call, __FILE__, __LINE__)

/* What the library said last, one line of it. */
const char *cuda_dnn_last(char *text, size_t bytes);

struct cuda_dnn_attr {
	cudnnBackendAttributeName_t name;
	cudnnBackendAttributeType_t type;
	int64_t count;			/* 0: left out */
	const void *values;
};

/* A finalized descriptor; *out is NULL otherwise. */
cudnnStatus_t cuda_dnn_make(cudnnBackendDescriptor_t *out, cudnnBackendDescriptorType_t, const struct cuda_dnn_attr *,
			    size_t count);
/* NULL is fine, and is what it leaves. */
void cuda_dnn_drop(cudnnBackendDescriptor_t *);

/* The engine configurations that the heuristics list for a graph, best first; each is to be dropped.  *count: room in,
 * found out. */
cudnnStatus_t cuda_dnn_configs(const struct cuda_dnn *, cudnnBackendDescriptor_t graph, cudnnBackendHeurMode_t,
			       cudnnBackendDescriptor_t *configs, size_t *count);
/* The plan of a configuration, which may have to be compiled, and the workspace that it needs. */
cudnnStatus_t cuda_dnn_plan(struct cuda_dnn *, cudnnBackendDescriptor_t config, cudnnBackendDescriptor_t *plan,
			    size_t *workspace_bytes);

#endif
