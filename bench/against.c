/*
 * bench/against.c - see against.h.
 *
 * Norms first, then distances: what a distance is relative to depends on the largest norm of the
 * class.  A distance that is no number is over every tolerance.
 */
#include "bench/against.h"

#include "bench/base/err.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const struct tolerance tolerances[] = {
	{ "loss", "loss", "", true, 1e-5 },
	{ "predictions", "preds", "", true, 1e-4 },
	{ "gradients", "grad.", "", false, 1e-3 },
	{ "momentum", "momentum.", "", false, 1e-3 },
	{ "running mean", "", ".running_mean", false, 1e-5 },
	{ "running variance", "", ".running_var", false, 1e-5 },
	{ "counters", "", ".num_batches_tracked", true, 0 },
	{ "weights", "", "", false, 1e-5 },
};
const size_t tolerance_count = ARRAY_LEN(tolerances);

/* Not the ratio of their roundings, which is 65536 for bf16 and 8192 for TF32: values of a few thousand terms are mostly better
 * than that.  Single gradients are not: under autocast to bf16 PyTorch's own are 0.45 (nano) and 1.2 (tiny) off where they are
 * furthest, and 0.15 and 0.14 in the median, which says more. */
double against_times(const char *precision)
{
	static const struct { const char *precision; double times; } rows[] = { { "bf16", 2000 }, { "tf32", 250 } };

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (!strcmp(precision, rows[i].precision))
			return rows[i].times;
	return 1;
}

static const struct field class_fields[] = {
	{ "class", "", "kind of tensor", 0 },
	{ "tensors", "1", "of the reference", 0 },
	{ "over", "1", "tensors over the tolerance", 0 },
	{ "measure", "", "L2: norm of the difference / norm of the reference; value: largest difference of one value", 0 },
	{ "largest_ppm", "1e-6", "distance of the tensor that is furthest off", 3 },
	{ "tolerance_ppm", "1e-6", "what it may be", 3 },
	{ "median_ppm", "1e-6", "distance of the tensor in the middle", 3 },
	{ "furthest", "", "that tensor", 0 },
};

static const struct field worst_fields[] = {
	{ "tensor", "", "name", 0 },
	{ "class", "", "kind of tensor", 0 },
	{ "distance_ppm", "1e-6", "by the measure of its class", 3 },
	{ "of_tolerance", "1", "distance / tolerance: over 1 is too far", 4 },
	{ "norm", "1", "L2 norm of the reference", 6 },
};

/* A tensor of the reference. */
struct pair {
	const struct safetensor *got, *want;
	const struct tolerance *class;
	double norm, difference, largest;	/* L2 of the reference and of the difference; largest difference of a value */
	double distance;			/* by the measure of the class */
	double most;				/* that it may be */
};

const struct tolerance *tolerance_of(const char *tensor)
{
	const size_t bytes = strlen(tensor);

	for (const struct tolerance *t = tolerances;; t++) {
		size_t prefix = strlen(t->prefix), suffix = strlen(t->suffix);

		if (bytes >= prefix + suffix && !strncmp(tensor, t->prefix, prefix) &&
		    !strcmp(tensor + bytes - suffix, t->suffix))
			return t;	/* the last row fits all */
	}
}

static double value_at(const struct safetensor *t, const void *values, size_t i)
{
	return t->type == SAFETENSORS_F32 ? ((const float *)values)[i] : (double)((const int64_t *)values)[i];
}

static void measure(struct pair *p, const void *got, const void *want)
{
	double norm = 0, difference = 0;

	for (size_t i = 0, count = safetensor_count(p->want); i < count; i++) {
		double w = value_at(p->want, want, i), d = value_at(p->got, got, i) - w;

		norm += w * w;
		difference += d * d;
		if (!(fabs(d) <= p->largest))
			p->largest = isnan(d) ? INFINITY : fabs(d);
	}
	p->norm = sqrt(norm);
	p->difference = sqrt(difference);
}

static bool same_shape(const struct safetensor *a, const struct safetensor *b)
{
	return a->type == b->type && a->rank == b->rank && !memcmp(a->dims, b->dims, sizeof(a->dims));
}

static int read_pair(const struct safetensors *got, const struct safetensors *want, struct pair *p)
{
	char got_text[SAFETENSOR_TEXT_BYTES], want_text[SAFETENSOR_TEXT_BYTES];
	void *a, *b;
	int rc;

	p->got = safetensors_find(got, p->want->name);
	p->class = tolerance_of(p->want->name);
	if (!p->got)
		return err(FAILED, "'%s' has a tensor '%s', which '%s' has not", want->path, p->want->name, got->path);
	if (!same_shape(p->got, p->want))
		return err(FAILED, "tensor '%s' is %s in '%s' and %s in '%s'", p->want->name, safetensor_text(p->got, got_text), got->path,
			   safetensor_text(p->want, want_text), want->path);
	a = malloc(safetensor_bytes(p->got) + 1);
	b = malloc(safetensor_bytes(p->got) + 1);
	rc = a && b ? OK : err(NO_MEMORY, "no memory to compare '%s'", p->want->name);
	if (!rc)
		rc = safetensors_read(got, p->got, a);
	if (!rc)
		rc = safetensors_read(want, p->want, b);
	if (!rc)
		measure(p, a, b);
	free(a);
	free(b);
	return rc;
}

static void judge(struct pair *pairs, size_t count, double times)
{
	for (size_t i = 0; i < count; i++) {
		struct pair *p = &pairs[i];
		double norm = p->norm;

		p->most = times * p->class->most;
		for (size_t j = 0; j < count; j++)
			if (pairs[j].class == p->class && isfinite(pairs[j].norm))
				norm = fmax(norm, AGAINST_NORM_SHARE * pairs[j].norm);
		p->distance = p->class->each ? p->largest : p->difference > 0 ? p->difference / norm : 0;
		if (!isfinite(p->norm) || !isfinite(p->difference))
			p->distance = INFINITY;
	}
}

static bool over(const struct pair *p)
{
	return !(p->distance <= p->most);
}

/* Of what has no tolerance, everything is the whole of it. */
static double share(const struct pair *p)
{
	return p->most > 0 ? p->distance / p->most : p->distance > 0 ? INFINITY : 0;
}

static int furthest_first(const void *a, const void *b)
{
	double s = share(a), t = share(b);

	return s != t ? (s < t ? 1 : -1) : strcmp(((const struct pair *)a)->want->name, ((const struct pair *)b)->want->name);
}

/* They are in order, furthest first. */
static double middle(const struct pair *pairs, size_t count, const struct tolerance *class, size_t tensors)
{
	size_t seen = 0;

	for (size_t i = 0; i < count; i++)
		if (pairs[i].class == class && seen++ == tensors / 2)
			return pairs[i].distance;
	return NAN;
}

static void classes_fill(struct table *t, const struct pair *pairs, size_t count)
{
	for (size_t c = 0; c < tolerance_count; c++) {
		const struct pair *furthest = NULL;
		size_t tensors = 0, too_far = 0;

		for (size_t i = 0; i < count; i++)
			if (pairs[i].class == &tolerances[c]) {
				furthest = furthest ? furthest : &pairs[i];
				tensors++;
				too_far += over(&pairs[i]);
			}
		if (!furthest)
			continue;
		table_text(t, tolerances[c].name);
		table_int(t, (int64_t)tensors);
		table_int(t, (int64_t)too_far);
		table_text(t, tolerances[c].each ? "value" : "L2");
		table_real(t, 1e6 * furthest->distance);
		table_real(t, 1e6 * furthest->most);
		table_real(t, 1e6 * middle(pairs, count, &tolerances[c], tensors));
		table_text(t, furthest->want->name);
	}
}

static void worst_fill(struct table *t, const struct pair *pairs, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		table_text(t, pairs[i].want->name);
		table_text(t, pairs[i].class->name);
		table_real(t, 1e6 * pairs[i].distance);
		table_real(t, share(&pairs[i]));
		table_real(t, pairs[i].norm);
	}
}

int against(const struct safetensors *got, const struct safetensors *want, double times, size_t worst_count,
	    struct table *classes, struct table *worst)
{
	struct pair *pairs = calloc(want->count + 1, sizeof(*pairs));
	int rc = pairs ? OK : err(NO_MEMORY, "no memory for %zu tensors", want->count);

	table_init(classes, "classes", "by kind of tensor", class_fields, ARRAY_LEN(class_fields));
	table_init(worst, "worst", "closest to their tolerance, or over it", worst_fields, ARRAY_LEN(worst_fields));
	if (!rc && !want->count)
		rc = err(FAILED, "'%s' has no tensors to compare with", want->path);
	for (size_t i = 0; !rc && i < want->count; i++) {
		pairs[i].want = &want->tensors[i];
		rc = read_pair(got, want, &pairs[i]);
	}
	if (!rc) {
		judge(pairs, want->count, times);
		qsort(pairs, want->count, sizeof(*pairs), furthest_first);
		classes_fill(classes, pairs, want->count);
		worst_fill(worst, pairs, worst_count < want->count ? worst_count : want->count);
		if (over(&pairs[0]))
			rc = BELOW;
	}
	free(pairs);
	return rc;
}
