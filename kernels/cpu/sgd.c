/*
 * kernels/cpu/sgd.c - stochastic gradient descent with momentum, PyTorch's way.
 *
 * The momentum buffer starts as zero, which makes the first step's v = d by itself.  The
 * learning rate is outside of the momentum, so it may change without correcting v.
 */
#include "kernels/cpu/ops.h"

CPU_CLONES static void update_some(float *w, float *v, const float *g, size_t count, float lr, float momentum,
				   float weight_decay, bool nesterov)
{
	for (size_t i = 0; i < count; i++) {
		float d = g[i] + weight_decay * w[i];

		v[i] = momentum * v[i] + d;
		w[i] -= lr * (nesterov ? d + momentum * v[i] : v[i]);
	}
}

void sgd_update(float *w, float *v, const float *g, size_t count, const struct sgd_step *s)
{
	const size_t piece = 1 << 14;

#pragma omp parallel for schedule(static) if (count > 2 * piece)
	for (size_t i = 0; i < count; i += piece)
		update_some(w + i, v + i, g + i, i + piece < count ? piece : count - i, s->lr, s->momentum,
			    s->weight_decay, s->nesterov);
}
