/*
 * loader/stage.c - see stage.h.
 */
#include "loader/stage.h"

#include <math.h>
#include <stdio.h>

const char *const loader_stage_names[STAGE_COUNT] = {
	[STAGE_STORAGE] = "storage",
	[STAGE_DECODE] = "decode",
	[STAGE_TRANSFORM] = "transform",
	[STAGE_HAND_OVER] = "hand-over",
};

static const double stall_least_percent = 1, busy_least_percent = 75, half_percent = 50;

static double percent(double part, double whole)
{
	return whole > 0 ? 100 * part / whole : 0;
}

struct loader_verdict loader_judge(const struct loader_account *a)
{
	struct loader_verdict v = { .bound = BOUND_UNEVEN, .name = "unevenness" };
	double made = 0;

	for (enum loader_stage s = 0; s < STAGE_COUNT; s++) {
		made += a->stages[s];
		v.stage = a->stages[s] > a->stages[v.stage] ? s : v.stage;
	}
	v.stall_percent = percent(a->stall, a->wall);
	v.busy_percent = percent(made, a->capacity);
	v.stage_percent = percent(a->stages[v.stage], made);
	v.on_core_percent = made > 0 ? percent(a->cpu, made) : NAN;
	if (v.stall_percent < stall_least_percent) {
		v.bound = BOUND_NOTHING;
		v.name = "nothing";
	} else if (percent(a->handing, a->stall) >= half_percent) {
		v.bound = BOUND_HANDING;
		v.name = loader_stage_names[STAGE_HAND_OVER];
	} else if (v.busy_percent >= busy_least_percent) {
		v.bound = BOUND_STAGE;
		v.name = loader_stage_names[v.stage];
	} else if (percent(a->head_of_line, a->stall) >= half_percent) {
		v.bound = BOUND_ORDER;
		v.name = "order";
	}
	return v;
}

const char *loader_verdict_text(const struct loader_verdict *v, char out[256])
{
	char core[64] = "";

	if (!isnan(v->on_core_percent))
		snprintf(core, sizeof(core), ", on a core %.0f %% of that time", v->on_core_percent);
	switch (v->bound) {
	case BOUND_NOTHING:
		snprintf(out, 256, "the stall is %.1f %% of the time; makers were busy %.0f %% of theirs", v->stall_percent,
			 v->busy_percent);
		break;
	case BOUND_HANDING:
		snprintf(out, 256, "most of the stall the batch was there already: the training thread waits for a core, not for "
			 "makers, who were busy %.0f %% of their time", v->busy_percent);
		break;
	case BOUND_STAGE:
		snprintf(out, 256, "makers were busy %.0f %% of their time%s, and %s is %.0f %% of it", v->busy_percent, core,
			 loader_stage_names[v->stage], v->stage_percent);
		break;
	case BOUND_ORDER:
		snprintf(out, 256, "makers were busy only %.0f %% of their time; most of the stall a later batch was ready, but "
			 "not the one that was due", v->busy_percent);
		break;
	case BOUND_UNEVEN:
		snprintf(out, 256, "makers were busy only %.0f %% of their time, and no batch was ready: batches take unevenly "
			 "long, or too few are in flight", v->busy_percent);
		break;
	}
	return out;
}
