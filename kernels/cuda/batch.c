/*
 * kernels/cuda/batch.c - a batch on its way from the host's memory to where the step reads it.
 *
 * Two legs.  On a stream of its own the batch is copied as it is, from pinned memory without the host: so that may happen
 * while the step before is still at its backward.  On the stream of the step it is unpacked into the inputs' layout and the
 * places of boxes and labels, which that backward still reads.
 */
#include "kernels/cuda/instance.h"

#include <assert.h>

size_t cuda_raw_clip_floats(const struct cuda *c)
{
	size_t floats = 0;

	for (int i = 0; i < NET_INPUTS; i++) {
		const struct net_tensor *t = &c->base.net->tensors[i];

		floats += t->c * t->t * t->h * t->w;
	}
	return floats;
}

int cuda_batch_open(struct cuda *c)
{
	const size_t boxes = c->config.boxes_max, clips = c->config.clips_max;
	const char *what = "a batch as it comes";
	struct cuda_raw *raw = &c->raw;
	int least, greatest;
	int rc = TRY_CUDA(cudaDeviceGetStreamPriorityRange(&least, &greatest));

	if (!rc)	/* its stamps are kernels, which should not wait for a place beside backward's */
		rc = TRY_CUDA(cudaStreamCreateWithPriority(&c->copies_in, cudaStreamNonBlocking, greatest));
	if (!rc)
		rc = TRY_CUDA(cudaEventCreateWithFlags(&c->arrived, cudaEventDisableTiming));
	if (!rc)
		rc = TRY_CUDA(cudaEventCreateWithFlags(&c->unpacked, cudaEventDisableTiming));
	raw->inputs = cuda_memory_device(&c->memory, clips * cuda_raw_clip_floats(c) * sizeof(float), what, &rc);
	raw->rois = cuda_memory_device(&c->memory, boxes * 5 * sizeof(float), what, &rc);
	raw->labels = cuda_memory_device(&c->memory, boxes * NET_CLASSES * sizeof(float), what, &rc);
	return rc;
}

void cuda_batch_close(struct cuda *c)
{
	if (c->copies_in) {
		cudaStreamSynchronize(c->copies_in);
		cudaStreamDestroy(c->copies_in);
	}
	if (c->arrived)
		cudaEventDestroy(c->arrived);
	if (c->unpacked)
		cudaEventDestroy(c->unpacked);
}

/* ---- the first leg ---- */

/* Floats of an input as it comes. */
static size_t plain_floats(const struct cuda *c, int tensor)
{
	const struct net_tensor *t = &c->base.net->tensors[tensor];

	return c->prepared_clips * t->c * t->t * t->h * t->w;
}

static int fetch_pieces(struct cuda *c, const struct step_input *in)
{
	const size_t slow = plain_floats(c, CUDA_SLOW), fast = plain_floats(c, CUDA_FAST);
	const struct {
		void *to;
		const void *from;
		size_t bytes;
	} pieces[] = {
		{ c->raw.inputs, in->crops, fast },
		{ c->raw.inputs, in->slow, slow * sizeof(float) },
		{ c->raw.inputs + slow, in->fast, fast * sizeof(float) },
		{ c->raw.rois, in->rois, in->boxes * 5 * sizeof(float) },
		{ c->raw.labels, in->labels, in->boxes * NET_CLASSES * sizeof(float) },
	};
	size_t bytes = 0;
	int rc;

	for (size_t i = 0; i < ARRAY_LEN(pieces); i++)
		bytes += pieces[i].from ? pieces[i].bytes : 0;
	rc = cuda_timeline_begin(c->timeline, c->base.lanes.copy, SPAN_H2D, bytes, c->copies_in);
	for (size_t i = 0; i < ARRAY_LEN(pieces) && !rc; i++)
		if (pieces[i].from)
			rc = TRY_CUDA(cudaMemcpyAsync(pieces[i].to, pieces[i].from, pieces[i].bytes, cudaMemcpyHostToDevice, c->copies_in));
	return rc ? rc : cuda_timeline_end(c->timeline, c->copies_in);
}

static int fetch(struct cuda *c, const struct step_input *in)
{
	int rc = TRY_CUDA(cudaStreamWaitEvent(c->copies_in, c->unpacked, 0));

	if (!rc)
		rc = fetch_pieces(c, in);
	if (!rc)
		rc = TRY_CUDA(cudaEventRecord(c->arrived, c->copies_in));
	return rc ? rc : TRY_CUDA(cudaStreamWaitEvent(c->stream, c->arrived, 0));
}

/* ---- the second ---- */

static int unpack_input(struct cuda *c, int tensor, bool crops)
{
	const struct net_tensor *t = &c->base.net->tensors[crops ? CUDA_FAST : tensor];	/* whose frames lie in `raw` */
	const struct cuda_act x = cuda_act_of(c, c->plan.values, tensor);
	const float *raw = c->raw.inputs + (crops || tensor == CUDA_SLOW ? 0 : plain_floats(c, CUDA_SLOW));

	if (!crops)
		return cuda_input_plain(raw, x.n, t->t, t->h, t->w, c->element, x.pitch, x.at, c->stream);
	return cuda_input_crops((const uint8_t *)raw, x.n, t->t, t->h, t->w, tensor == CUDA_SLOW ? c->shown : NULL, x.dims[0],
				NET_PIXEL_SCALE, NET_PIXEL_OFFSET, c->element, x.pitch, x.at, c->stream);
}

static int within_device(struct cuda *c, void *to, const void *from, size_t bytes)
{
	return TRY_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, c->stream));
}

static int unpack(struct cuda *c, const struct step_input *in)
{
	int rc = cuda_timeline_begin(c->timeline, c->base.lanes.compute, SPAN_H2D, 0, c->stream);

	for (int i = 0; i < NET_INPUTS && !rc; i++)
		rc = unpack_input(c, i, in->crops);
	if (!rc)
		rc = within_device(c, c->head.rois, c->raw.rois, in->boxes * 5 * sizeof(float));
	if (!rc)
		rc = within_device(c, c->head.labels, c->raw.labels, in->boxes * NET_CLASSES * sizeof(float));
	if (!rc)
		rc = cuda_timeline_end(c->timeline, c->stream);
	return rc ? rc : TRY_CUDA(cudaEventRecord(c->unpacked, c->stream));
}

/* ---- slots of the table ---- */

int cuda_input(struct kernels *k, const struct step_input *in)
{
	struct cuda *c = cuda_of(k);
	int rc = kernels_check_input(in, &c->config);

	assert(in->parts <= 1 || (c->sum && in->part < in->parts));
	c->part = in->part;
	c->parts = in->parts;
	if (!rc && in->clips != c->prepared_clips)
		rc = cuda_prepare(c, in->clips);
	if (!rc)
		rc = cuda_take_weights(c);
	c->boxes = c->head.roi[CUDA_SLOW].box_count = c->head.roi[CUDA_FAST].box_count = in->boxes;
	c->backward_left = k->net->op_count;
	if (!rc)
		rc = fetch(c, in);
	return rc ? rc : unpack(c, in);
}

int cuda_pin(void *at, size_t bytes)
{
	cudaError_t e = cudaHostRegister(at, bytes, cudaHostRegisterDefault);

	if (e == cudaSuccess)
		return OK;
	cudaGetLastError();	/* no error of what comes next */
	return UNSUPPORTED;
}

void cuda_unpin(void *at)
{
	cudaHostUnregister(at);
}
