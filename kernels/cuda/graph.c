/*
 * kernels/cuda/graph.c - see graph.h.
 *
 * Captured in the thread-local mode: other threads (a comm lane's, NCCL's own) go on with calls that a capture of all threads
 * would forbid.
 */
#include "kernels/cuda/graph.h"

/* A capture that was begun is ended in any case, or the stream stays useless. */
static int record(cudaGraph_t *graph, cudaStream_t stream, int (*enqueue)(void *context), void *context)
{
	int rc = TRY_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal)), ended;

	*graph = NULL;
	if (rc)
		return rc;
	rc = enqueue(context);
	ended = TRY_CUDA(cudaStreamEndCapture(stream, graph));
	return rc ? rc : ended;
}

static int capture(struct cuda_graph *g, cudaStream_t stream, int (*enqueue)(void *context), void *context)
{
	cudaGraph_t graph;
	int rc = record(&graph, stream, enqueue, context);

	if (!rc)
		rc = TRY_CUDA(cudaGraphInstantiateWithFlags(&g->exec, graph, 0));
	if (!rc)
		rc = TRY_CUDA(cudaGraphUpload(g->exec, stream));
	if (graph)
		cudaGraphDestroy(graph);
	if (rc)
		cuda_graph_drop(g);
	return rc;
}

int cuda_graph_run(struct cuda_graph *g, cudaStream_t stream, int (*enqueue)(void *context), void *context)
{
	int rc;

	if (g->exec)
		return TRY_CUDA(cudaGraphLaunch(g->exec, stream));
	rc = enqueue(context);
	if (rc || g->refused)
		return rc;
	if (capture(g, stream, enqueue, context)) {
		cudaGetLastError();	/* no error of what comes next */
		g->refused = true;
		warn("a part of the step cannot be captured: its operators are launched one by one, as with --graph off");
	}
	return OK;
}

void cuda_graph_drop(struct cuda_graph *g)
{
	if (g->exec)
		cudaGraphExecDestroy(g->exec);
	*g = (struct cuda_graph){ NULL, false };
}
