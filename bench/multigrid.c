/*
 * bench/multigrid.c - see multigrid.h.
 *
 * Epochs between two steps are shared out in proportion to the multiples of the batch, so each shape
 * gets about as many iterations.  A shape that is left with no epoch by rounding is left out.
 */
#include "bench/multigrid.h"

#include "bench/base/err.h"
#include "kernels/net.h"

#include <assert.h>
#include <math.h>

/* Epochs in all, of one at full size; the learning rate follows the batch. */
static const double epoch_factor = 1.5;

void multigrid_none(struct multigrid *m, size_t epochs, size_t frames, size_t crop)
{
	*m = (struct multigrid){ .phases = { { .frames = frames, .turns = { { crop, 1 } }, .turn_count = 1 } },
				 .phase_count = 1, .epochs = epochs };
}

/* The rule gives a crop of 158 for 224; crops are whole strides of the detection head, so 160.  The multiple is that
 * of the rule. */
static void add_turn(struct multigrid_phase *p, double side, size_t frames, size_t crop)
{
	double full = (double)(frames * crop * crop);

	p->turns[p->turn_count].crop = (size_t)rint(side / NET_ROI_STRIDE) * NET_ROI_STRIDE;
	p->turns[p->turn_count++].times = (size_t)rint(full / ((double)p->frames * side * side));
}

static void find_shapes(struct multigrid_phase shapes[MULTIGRID_SHAPES], size_t frames, size_t crop, bool short_cycle)
{
	static const struct { double frames, side; } factors[MULTIGRID_SHAPES] = {
		{ 0.25, M_SQRT1_2 }, { 0.5, M_SQRT1_2 }, { 0.5, 1 }, { 1, 1 },
	};

	for (size_t i = 0; i < MULTIGRID_SHAPES; i++) {
		shapes[i] = (struct multigrid_phase){ .frames = (size_t)rint((double)frames * factors[i].frames) };
		if (short_cycle) {
			add_turn(&shapes[i], (double)crop * 0.5, frames, crop);
			add_turn(&shapes[i], (double)crop * M_SQRT1_2, frames, crop);
		}
		add_turn(&shapes[i], rint((double)crop * factors[i].side), frames, crop);
	}
}

static size_t long_times(const struct multigrid_phase *p)
{
	return p->turns[p->turn_count - 1].times;
}

/* Base batches of a round of turns. */
static size_t round_of(const struct multigrid_phase *p)
{
	size_t sum = 0;

	for (size_t i = 0; i < p->turn_count; i++)
		sum += p->turns[i].times;
	return sum;
}

/* Of an iteration. */
static double mean_times(const struct multigrid_phase *p)
{
	return (double)round_of(p) / (double)p->turn_count;
}

/* A phase from where the plan ends up to epoch `to`. */
static void add_phase(struct multigrid *m, struct schedule *s, struct multigrid_phase shape, double factor, double to)
{
	if ((size_t)rint(to) == m->epochs)
		return;
	shape.epoch = m->epochs;
	s->steps[s->step_count++] = (struct schedule_step){ (double)m->epochs, factor };
	m->phases[m->phase_count++] = shape;
	m->epochs = (size_t)rint(to);
}

int multigrid_plan(struct multigrid *m, struct schedule *s, size_t epochs, size_t frames, size_t crop, bool short_cycle)
{
	const struct schedule plain = *s;
	const size_t intervals = plain.step_count - 1;
	const double last = plain.steps[intervals].epoch;
	struct multigrid_phase shapes[MULTIGRID_SHAPES], full;
	double sum = 0, fine, stretch, end = 0;

	if (!(last < (double)epochs) || !intervals)
		return err(USAGE, "multigrid: %zu epochs leave none behind the last step of the learning rate, at %g", epochs, last);
	if (intervals * MULTIGRID_SHAPES + 2 > SCHEDULE_STEPS_MAX)
		return err(USAGE, "multigrid: %zu steps of the learning rate are too many", plain.step_count);
	find_shapes(shapes, frames, crop, short_cycle);
	full = shapes[MULTIGRID_SHAPES - 1];
	for (size_t i = 0; i < MULTIGRID_SHAPES; i++)
		sum += mean_times(&shapes[i]);
	/* Each shape has the same iterations, an interval's epochs / sum; fine-tuning is to save as many as the rest. */
	fine = ((double)epochs - last) * MULTIGRID_SHAPES / sum * mean_times(&full);
	stretch = (double)epochs * epoch_factor / (last + fine);

	*m = (struct multigrid){ .epochs = 0 };
	s->step_count = 0;
	for (size_t k = 0; k < intervals; k++)
		for (size_t i = 0; i < MULTIGRID_SHAPES; i++) {
			end += (plain.steps[k + 1].epoch - plain.steps[k].epoch) * mean_times(&shapes[i]) / sum * stretch;
			add_phase(m, s, shapes[i], plain.steps[k].factor * (double)long_times(&shapes[i]), end);
		}
	end = rint(end + fine * stretch);
	add_phase(m, s, full, plain.steps[intervals - 1].factor, floor(((double)m->epochs + end) / 2));
	add_phase(m, s, full, plain.steps[intervals].factor, end);
	return OK;
}

size_t multigrid_times_max(const struct multigrid *m)
{
	size_t most = 0;

	for (size_t i = 0; i < m->phase_count; i++)
		for (size_t k = 0; k < m->phases[i].turn_count; k++)
			most = m->phases[i].turns[k].times > most ? m->phases[i].turns[k].times : most;
	return most;
}

size_t multigrid_batches(const struct multigrid_phase *p, size_t iterations)
{
	return (iterations + p->turn_count - 1) / p->turn_count * round_of(p);
}

size_t multigrid_iterations(const struct multigrid_phase *p, size_t batches)
{
	return batches / round_of(p) * p->turn_count;
}

const struct multigrid_phase *multigrid_at(const struct multigrid *m, size_t epoch)
{
	size_t i = 0;

	assert(m->phase_count);
	while (i + 1 < m->phase_count && m->phases[i + 1].epoch <= epoch)
		i++;
	return &m->phases[i];
}
