/*
 * kernels/cpu/dnn.c - oneDNN 2.x or 3.x behind one face.
 *
 * The two differ where operators and tensors are described: 2.x fills structs and then makes
 * a primitive descriptor from them; 3.x makes the descriptor in one call, and a tensor's
 * description is a handle that has an owner.  Execution is the same in both.  Version 2.6 is
 * what this file is tested with; the 3.x branches compile and link against 3.13 and were not run.
 *
 * Scratch memory is the caller's (scratchpad mode "user"): one block serves all operators,
 * and nothing is allocated behind the step's back.
 */
#include "kernels/cpu/dnn.h"

#include "bench/base/err.h"
#include "bench/base/hash.h"

#include <stdio.h>
#include <string.h>

#if DNNL_VERSION_MAJOR >= 3
typedef const_dnnl_memory_desc_t md_in;
typedef const_dnnl_primitive_desc_t pd_in;
#define MD(layout) ((layout)->md)
#else
typedef const dnnl_memory_desc_t *md_in;
typedef const_dnnl_primitive_desc_t pd_in;
#define MD(layout) (&(layout)->md)
#endif

const enum dnn_arg dnn_result[OP_PASSES] = { DNN_DST, DNN_SRC, DNN_WEIGHTS };

/* 0, or FAILED with the call's text and oneDNN's status said. */
#define TRY(call) try_dnn((call), #call)

static int try_dnn(dnnl_status_t status, const char *call)
{
	static const char *const words[] = { "success", "out of memory", "invalid arguments", "unimplemented" };

	if (status == dnnl_success)
		return OK;
	return err(status == dnnl_out_of_memory ? NO_MEMORY : FAILED, "oneDNN: %.*s: %s",
		   (int)strcspn(call, "("), call, (size_t)status < ARRAY_LEN(words) ? words[status] : "failed");
}

int dnn_open(struct dnn *dnn)
{
	int rc;

	*dnn = (struct dnn){ 0 };
	rc = TRY(dnnl_engine_create(&dnn->engine, dnnl_cpu, 0));
	if (!rc)
		rc = TRY(dnnl_stream_create(&dnn->stream, dnn->engine, dnnl_stream_default_flags));
	if (rc)
		dnn_close(dnn);
	return rc;
}

void dnn_close(struct dnn *dnn)
{
	if (dnn->stream)
		dnnl_stream_destroy(dnn->stream);
	if (dnn->engine)
		dnnl_engine_destroy(dnn->engine);
	*dnn = (struct dnn){ 0 };
}

void dnn_version(char *text, size_t bytes)
{
	const dnnl_version_t *v = dnnl_version();

	snprintf(text, bytes, "oneDNN %d.%d.%d", v->major, v->minor, v->patch);
}

/* ---- layouts ---- */

static int layout_tag(struct dnn_layout *layout, const size_t dims[5], bool flat, dnnl_format_tag_t tag)
{
	const int rank = flat ? 4 : 5;
	dnnl_dims_t d;
	int rc;

	for (int i = 0; i < rank; i++)
		d[i] = (dnnl_dim_t)dims[flat && i > 1 ? i + 1 : i];
#if DNNL_VERSION_MAJOR >= 3
	rc = TRY(dnnl_memory_desc_create_with_tag(&layout->md, rank, d, dnnl_f32, tag));
#else
	rc = TRY(dnnl_memory_desc_init_by_tag(&layout->md, rank, d, dnnl_f32, tag));
#endif
	layout->set = !rc;
	return rc;
}

int dnn_layout_activation(struct dnn_layout *layout, const size_t dims[5], bool flat, size_t block)
{
	if (flat)
		return layout_tag(layout, dims, true,
				  block == 16 ? dnnl_nChw16c : block == 8 ? dnnl_nChw8c : dnnl_nchw);
	return layout_tag(layout, dims, false, block == 16 ? dnnl_nCdhw16c : block == 8 ? dnnl_nCdhw8c : dnnl_ncdhw);
}

int dnn_layout_weights(struct dnn_layout *layout, const size_t dims[5], bool flat)
{
	return layout_tag(layout, dims, flat, flat ? dnnl_oihw : dnnl_oidhw);
}

static int layout_clone(struct dnn_layout *to, md_in md)
{
	int rc = OK;

#if DNNL_VERSION_MAJOR >= 3
	rc = TRY(dnnl_memory_desc_clone(&to->md, md));
#else
	to->md = *md;
#endif
	to->set = !rc;
	return rc;
}

int dnn_layout_copy(struct dnn_layout *to, const struct dnn_layout *from)
{
	return layout_clone(to, MD(from));
}

void dnn_layout_release(struct dnn_layout *layout)
{
#if DNNL_VERSION_MAJOR >= 3
	if (layout->set)
		dnnl_memory_desc_destroy(layout->md);
#endif
	*layout = (struct dnn_layout){ 0 };
}

bool dnn_layout_same(const struct dnn_layout *a, const struct dnn_layout *b)
{
	return dnnl_memory_desc_equal(MD(a), MD(b));
}

size_t dnn_layout_bytes(const struct dnn_layout *layout)
{
	return dnnl_memory_desc_get_size(MD(layout));
}

uint64_t dnn_layout_hash(const struct dnn_layout *layout, uint64_t hash)
{
	dnnl_dims_t strides, blocks, indices;
	int rank, block_count;

#if DNNL_VERSION_MAJOR >= 3
	dnnl_dims_t *p_strides, *p_blocks, *p_indices;

	dnnl_memory_desc_query(layout->md, dnnl_query_ndims_s32, &rank);
	dnnl_memory_desc_query(layout->md, dnnl_query_strides, &p_strides);
	dnnl_memory_desc_query(layout->md, dnnl_query_inner_nblks_s32, &block_count);
	dnnl_memory_desc_query(layout->md, dnnl_query_inner_blks, &p_blocks);
	dnnl_memory_desc_query(layout->md, dnnl_query_inner_idxs, &p_indices);
	memcpy(strides, *p_strides, sizeof(strides));
	memcpy(blocks, *p_blocks, sizeof(blocks));
	memcpy(indices, *p_indices, sizeof(indices));
#else
	const dnnl_blocking_desc_t *b = &layout->md.format_desc.blocking;

	rank = layout->md.ndims;
	block_count = b->inner_nblks;
	memcpy(strides, b->strides, sizeof(strides));
	memcpy(blocks, b->inner_blks, sizeof(blocks));
	memcpy(indices, b->inner_idxs, sizeof(indices));
#endif
	for (int i = 0; i < rank; i++)
		hash = hash_word(hash, (uint64_t)strides[i], 8);
	for (int i = 0; i < block_count; i++)
		hash = hash_word(hash_word(hash, (uint64_t)blocks[i], 8), (uint64_t)indices[i], 8);
	return hash;
}

/* ---- primitives ---- */

/* The three argument names of a pass, and how its descriptor is queried for their layouts. */
static const struct { int arg; dnnl_query_t query; } pass_args[OP_PASSES][DNN_ARGS] = {
	[OP_FORWARD] = {
		{ DNNL_ARG_SRC, dnnl_query_src_md },
		{ DNNL_ARG_WEIGHTS, dnnl_query_weights_md },
		{ DNNL_ARG_DST, dnnl_query_dst_md },
	},
	[OP_BACKWARD_DATA] = {
		{ DNNL_ARG_DIFF_SRC, dnnl_query_diff_src_md },
		{ DNNL_ARG_WEIGHTS, dnnl_query_weights_md },
		{ DNNL_ARG_DIFF_DST, dnnl_query_diff_dst_md },
	},
	[OP_BACKWARD_WEIGHTS] = {
		{ DNNL_ARG_SRC, dnnl_query_src_md },
		{ DNNL_ARG_DIFF_WEIGHTS, dnnl_query_diff_weights_md },
		{ DNNL_ARG_DIFF_DST, dnnl_query_diff_dst_md },
	},
};

/* The descriptor of a pass with these three layouts, or a status (unimplemented is an answer, not an error). */
static dnnl_status_t conv_desc(dnnl_primitive_desc_t *pd, struct dnn *dnn, const struct dnn_conv *c, enum op_pass pass,
			       const struct dnn_layout at[DNN_ARGS], dnnl_primitive_attr_t attr, pd_in hint)
{
	dnnl_dims_t stride, dilate, left, right;
	const dnnl_alg_kind_t alg = dnnl_convolution_direct;
	md_in src = MD(&at[DNN_SRC]), weights = MD(&at[DNN_WEIGHTS]), dst = MD(&at[DNN_DST]);

	for (int i = c->flat, k = 0; i < 3; i++, k++) {
		size_t reach = (c->out[i] - 1) * c->stride[i] + c->dilation[i] * (c->kernel[i] - 1) + 1;

		stride[k] = (dnnl_dim_t)c->stride[i];
		dilate[k] = (dnnl_dim_t)c->dilation[i] - 1;
		left[k] = (dnnl_dim_t)c->pad[i];
		right[k] = (dnnl_dim_t)reach - (dnnl_dim_t)c->in[i] - left[k];
	}
#if DNNL_VERSION_MAJOR >= 3
	if (pass == OP_FORWARD)
		return dnnl_convolution_forward_primitive_desc_create(pd, dnn->engine, dnnl_forward_training, alg, src,
			weights, NULL, dst, stride, dilate, left, right, attr);
	if (pass == OP_BACKWARD_DATA)
		return dnnl_convolution_backward_data_primitive_desc_create(pd, dnn->engine, alg, src, weights, dst,
			stride, dilate, left, right, hint, attr);
	return dnnl_convolution_backward_weights_primitive_desc_create(pd, dnn->engine, alg, src, weights, NULL, dst,
		stride, dilate, left, right, hint, attr);
#else
	dnnl_convolution_desc_t desc;
	dnnl_status_t status;

	if (pass == OP_FORWARD)
		status = dnnl_dilated_convolution_forward_desc_init(&desc, dnnl_forward_training, alg, src, weights,
			NULL, dst, stride, dilate, left, right);
	else if (pass == OP_BACKWARD_DATA)
		status = dnnl_dilated_convolution_backward_data_desc_init(&desc, alg, src, weights, dst, stride, dilate,
			left, right);
	else
		status = dnnl_dilated_convolution_backward_weights_desc_init(&desc, alg, src, weights, NULL, dst,
			stride, dilate, left, right);
	return status != dnnl_success ? status : dnnl_primitive_desc_create(pd, &desc, attr, dnn->engine, hint);
#endif
}

static const char *impl_name(pd_in pd)
{
	const char *name = NULL;

	return dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &name) == dnnl_success && name ? name : "?";
}

/* The primitive of a descriptor, with its layouts noted. */
static int prim_init(struct dnn_prim *prim, pd_in pd, const int args[DNN_ARGS], const dnnl_query_t queries[DNN_ARGS])
{
	int rc;

	snprintf(prim->impl, sizeof(prim->impl), "%s", impl_name(pd));
	rc = TRY(dnnl_primitive_create(&prim->primitive, pd));
	for (int i = 0; !rc && i < DNN_ARGS; i++) {
		prim->arg[i].arg = args[i];
		if (args[i])
			rc = layout_clone(&prim->layout[i], dnnl_primitive_desc_query_md(pd, queries[i], 0));
	}
	if (!rc)
		rc = layout_clone(&prim->scratch, dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0));
	if (!rc)
		prim->scratch_bytes = dnn_layout_bytes(&prim->scratch);
	return rc;
}

static int attr_init(dnnl_primitive_attr_t *attr)
{
	int rc = TRY(dnnl_primitive_attr_create(attr));

	return rc ? rc : TRY(dnnl_primitive_attr_set_scratchpad_mode(*attr, dnnl_scratchpad_mode_user));
}

int dnn_conv_make(struct dnn *dnn, struct dnn_prim *prim, const struct dnn_conv *c, enum op_pass pass,
		  const struct dnn_layout wish[DNN_ARGS])
{
	const size_t dims[DNN_ARGS][5] = {
		[DNN_SRC] = { c->n, c->cin, c->in[0], c->in[1], c->in[2] },
		[DNN_WEIGHTS] = { c->cout, c->cin, c->kernel[0], c->kernel[1], c->kernel[2] },
		[DNN_DST] = { c->n, c->cout, c->out[0], c->out[1], c->out[2] },
	};
	struct dnn_layout any[DNN_ARGS] = { 0 }, asked[DNN_ARGS];
	dnnl_primitive_desc_t hint = NULL, chosen = NULL, granted = NULL;
	dnnl_primitive_attr_t attr = NULL;
	int args[DNN_ARGS];
	dnnl_query_t queries[DNN_ARGS];
	int rc = attr_init(&attr);

	*prim = (struct dnn_prim){ 0 };
	for (int i = 0; !rc && i < DNN_ARGS; i++) {
		rc = layout_tag(&any[i], dims[i], c->flat, dnnl_format_tag_any);
		asked[i] = wish[i].set ? wish[i] : any[i];
		args[i] = pass_args[pass][i].arg;
		queries[i] = pass_args[pass][i].query;
	}
	if (!rc && pass != OP_FORWARD)
		rc = TRY(conv_desc(&hint, dnn, c, OP_FORWARD, any, attr, NULL));
	if (!rc && conv_desc(&chosen, dnn, c, pass, any, attr, hint) != dnnl_success)
		rc = err(UNSUPPORTED, "oneDNN has no convolution %zu to %zu channels, kernel %zux%zux%zu", c->cin,
			 c->cout, c->kernel[0], c->kernel[1], c->kernel[2]);
	if (!rc && conv_desc(&granted, dnn, c, pass, asked, attr, hint) == dnnl_success &&
	    !strcmp(impl_name(granted), impl_name(chosen))) {
		dnnl_primitive_desc_t given_up = chosen;

		chosen = granted;
		granted = given_up;
	}
	if (!rc)
		rc = prim_init(prim, chosen, args, queries);
	for (int i = 0; i < DNN_ARGS; i++)
		dnn_layout_release(&any[i]);
	if (hint)
		dnnl_primitive_desc_destroy(hint);
	if (chosen)
		dnnl_primitive_desc_destroy(chosen);
	if (granted)
		dnnl_primitive_desc_destroy(granted);
	if (attr)
		dnnl_primitive_attr_destroy(attr);
	if (rc)
		dnn_prim_release(prim);
	return rc;
}

int dnn_reorder_make(struct dnn *dnn, struct dnn_prim *prim, const struct dnn_layout *from, const struct dnn_layout *to)
{
	static const int args[DNN_ARGS] = { [DNN_SRC] = DNNL_ARG_FROM, [DNN_DST] = DNNL_ARG_TO };
	static const dnnl_query_t queries[DNN_ARGS] = { [DNN_SRC] = dnnl_query_src_md, [DNN_DST] = dnnl_query_dst_md };
	dnnl_primitive_attr_t attr = NULL;
	dnnl_primitive_desc_t pd = NULL;
	int rc = attr_init(&attr);

	*prim = (struct dnn_prim){ 0 };
	if (!rc)
		rc = TRY(dnnl_reorder_primitive_desc_create(&pd, MD(from), dnn->engine, MD(to), dnn->engine, attr));
	if (!rc)
		rc = prim_init(prim, pd, args, queries);
	if (pd)
		dnnl_primitive_desc_destroy(pd);
	if (attr)
		dnnl_primitive_attr_destroy(attr);
	if (rc)
		dnn_prim_release(prim);
	return rc;
}

int dnn_bind(struct dnn *dnn, struct dnn_prim *prim, void *const at[DNN_ARGS], void *scratch)
{
	int n = 0;
	int rc = OK;

	for (int i = 0; !rc && i < DNN_ARGS; i++) {
		if (!prim->layout[i].set)
			continue;
		rc = TRY(dnnl_memory_create(&prim->memory[n], MD(&prim->layout[i]), dnn->engine, at[i]));
		prim->arg[n].arg = prim->arg[i].arg;
		prim->arg[n].memory = prim->memory[n];
		n++;
	}
	if (!rc && prim->scratch_bytes) {
		rc = TRY(dnnl_memory_create(&prim->memory[n], MD(&prim->scratch), dnn->engine, scratch));
		prim->arg[n] = (dnnl_exec_arg_t){ DNNL_ARG_SCRATCHPAD, prim->memory[n] };
		n++;
	}
	prim->arg_count = n;
	return rc;
}

int dnn_run(struct dnn *dnn, const struct dnn_prim *prim)
{
	return TRY(dnnl_primitive_execute(prim->primitive, dnn->stream, prim->arg_count, prim->arg));
}

void dnn_prim_release(struct dnn_prim *prim)
{
	for (size_t i = 0; i < ARRAY_LEN(prim->memory); i++)
		if (prim->memory[i])
			dnnl_memory_destroy(prim->memory[i]);
	for (size_t i = 0; i < ARRAY_LEN(prim->layout); i++)
		dnn_layout_release(&prim->layout[i]);
	dnn_layout_release(&prim->scratch);
	if (prim->primitive)
		dnnl_primitive_destroy(prim->primitive);
	*prim = (struct dnn_prim){ 0 };
}

int dnn_block(struct dnn *dnn, size_t *block)
{
	static const struct dnn_conv usual = { 1, 64, 64, { 4, 8, 8 }, { 4, 8, 8 }, { 1, 3, 3 }, { 1, 1, 1 },
					       { 0, 1, 1 }, { 1, 1, 1 }, false };
	static const struct dnn_layout no_wish[DNN_ARGS];
	static const size_t dims[5] = { 1, 64, 4, 8, 8 };
	struct dnn_layout sixteen = { 0 };
	struct dnn_prim prim;
	int rc = dnn_conv_make(dnn, &prim, &usual, OP_FORWARD, no_wish);

	if (rc)
		return rc;
	rc = dnn_layout_activation(&sixteen, dims, false, 16);
	if (!rc)
		*block = dnn_layout_same(&prim.layout[DNN_DST], &sixteen) ? 16 : 8;
	dnn_layout_release(&sixteen);
	dnn_prim_release(&prim);
	return rc;
}
