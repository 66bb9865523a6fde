/*
 * tests/ranks_loader.c DATA - run under mpirun by test_loader: workers beside a running MPI.
 *
 * Each rank starts workers of every policy after MPI was started, and sums over the ranks
 * between batches.  Together the ranks must see every clip once per epoch.
 */
#include "bench/base/err.h"
#include "comm/comm.h"
#include "loader/ava.h"
#include "loader/loader.h"

#include <string.h>

static int count_clips(struct comm *c, struct loader *ld, size_t epoch)
{
	float seen[AVA_SECONDS] = { 0 };
	struct clip_batch b;
	int rc = loader_epoch_begin(ld, epoch);

	for (size_t i = 0; i < loader_iterations(ld) && !rc; i++) {
		float one = 1;

		rc = loader_next(ld, &b);
		if (!rc)
			rc = c->backend->sum(c, &one, 1);
		if (!rc && one != (float)c->world)
			rc = err(FAILED, "the ranks are out of step");
		for (size_t k = 0; k < b.boxes && !rc; k++)	/* boxes of a clip are neighbours */
			if (!k || b.meta[2 * k] != b.meta[2 * k - 2] || b.meta[2 * k + 1] != b.meta[2 * k - 1])
				seen[b.meta[2 * k] * 100 + b.meta[2 * k + 1] - AVA_SECOND_MIN]++;
	}
	if (!rc)
		rc = c->backend->sum(c, seen, AVA_SECONDS);
	for (size_t i = 0; i < AVA_SECONDS && !rc; i++)
		if (seen[i] != 0 && seen[i] != 1)
			rc = err(FAILED, "clip %zu was seen %g times in epoch %zu", i, (double)seen[i], epoch);
	return rc;
}

int main(int argc, char **argv)
{
	static const char *const policies[] = { "inline", "respawn", "fork", "persistent", "threads" };
	const struct comm_backend *mpi = comm_backend_find("mpi");
	struct comm *c;
	int rc;

	clock_init();
	if (argc > 1 && !strcmp(argv[1], "loader-worker"))
		return rc_exit(loader_worker_main(argc - 2, argv + 2));
	if (argc != 2 || mpi->open(&c, NULL))
		return 2;
	for (size_t p = 0; p < ARRAY_LEN(policies); p++) {
		struct loader_config config = {
			.data = argv[1], .policy = policies[p], .workers = 2, .prefetch = 2, .clips = 3, .frames = 8,
			.alpha = 4, .rate = 2, .crop = 32, .scale_min = 36, .scale_max = 60, .rank = c->rank,
			.world = c->world, .epochs = 2,
		};
		struct loader *ld;

		rc = loader_open(&ld, &config);
		for (size_t e = 0; e < 2 && !rc; e++)
			rc = count_clips(c, ld, e);
		if (rc)
			mpi->abort(c, rc_exit(rc));
		loader_close(ld);
	}
	mpi->close(c);
	return 0;
}
