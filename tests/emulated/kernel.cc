/*
 * tests/emulated/kernel.cc - blocks of threads on this CPU.
 *
 * A fiber takes threads of the block, one after the other, and runs each to its end.  Where one must wait, its fiber is left and
 * the next one goes on taking threads; so a kernel without barriers needs one fiber and no switch, and one with barriers as many
 * fibers as a block has threads.  Who waits names a counter; it goes on when the counter has moved.
 *
 * Blocks run in parallel on the threads of OpenMP, each with fibers of its own.
 */
#include "tests/emulated/runtime.h"

#include <csetjmp>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <vector>

enum { MOST_THREADS = 1024, WARP = 32, STACK_BYTES = 256 << 10 };

struct fiber {
	ucontext_t context;
	jmp_buf at;
	bool begun;
	unsigned thread;
	const unsigned *gate;		/* waits until it differs from `seen`; NULL: between two threads */
	unsigned seen;
};

/* A meeting of threads: the block's barrier or a warp's shuffle. */
struct meeting {
	unsigned arrived, count;	/* count: meetings that are over */
	int line;
};

/* What one thread of the operating system needs to run blocks. */
struct runner {
	struct fiber fibers[MOST_THREADS];
	ucontext_t context;
	jmp_buf at;
	struct fiber *current;
	unsigned threads, taken, finished, begun;	/* begun: fibers in use */
	unsigned order[MOST_THREADS];
	struct meeting barrier, warp[MOST_THREADS / WARP];
	uint64_t slots[2][MOST_THREADS];		/* of the shuffles, by turns: nobody is more than one ahead */
	uint64_t random;
	const std::function<void()> *kernel;
};

__thread struct emulated_place emulated_place;
static __thread struct runner *runner;
static uint64_t seed;

void emulated_order(uint64_t s)
{
	seed = s;
}

static void die(const char *why, int line)
{
	fprintf(stderr, "emulated kernel, block (%u,%u,%u) thread (%u,%u,%u), line %d: %s\n", blockIdx.x, blockIdx.y, blockIdx.z,
		threadIdx.x, threadIdx.y, threadIdx.z, line, why);
	abort();
}

/* ---- order ---- */

/* 0 to count - 1, in an order that the seed chooses. */
template <typename T> static void permute(T *order, size_t count, uint64_t *random)
{
	for (size_t i = 0; i < count; i++) {
		size_t j = seed ? emulated_random(random) % (i + 1) : i;

		order[i] = order[j];
		order[j] = (T)i;
	}
}

/* ---- switching ---- */

/* ucontext makes a stack and enters it, but its switches are system calls: those after the first are longjmp().  The address
 * sanitizer understands only ucontext. */
#ifdef __SANITIZE_ADDRESS__
static void switch_to(struct fiber *f)
{
	swapcontext(&runner->context, &f->context);
}

static void switch_back(struct fiber *f)
{
	swapcontext(&f->context, &runner->context);
}
#else
static void switch_to(struct fiber *f)
{
	if (_setjmp(runner->at))
		return;
	if (f->begun)
		_longjmp(f->at, 1);
	f->begun = true;
	setcontext(&f->context);
}

static void switch_back(struct fiber *f)
{
	if (!_setjmp(f->at))
		_longjmp(runner->at, 1);
}
#endif

static void enter(struct fiber *f)
{
	const uint3 d = blockDim;

	runner->current = f;
	threadIdx = make_uint3(f->thread % d.x, f->thread / d.x % d.y, f->thread / d.x / d.y);
}

static void fiber_main(void)
{
	for (struct fiber *f = runner->current;; switch_back(f))
		while (runner->taken < runner->threads) {
			f->thread = runner->order[runner->taken++];
			enter(f);
			(*runner->kernel)();
			f->gate = NULL;
			runner->finished++;
		}
}

static struct runner *runner_new(void)
{
	struct runner *r = new struct runner();
	char *stacks = (char *)mmap(NULL, (size_t)MOST_THREADS * STACK_BYTES, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (stacks == MAP_FAILED) {
		perror("emulated kernel: cannot make stacks");
		abort();
	}
	for (unsigned i = 0; i < MOST_THREADS; i++) {
		struct fiber *f = &r->fibers[i];

		getcontext(&f->context);
		f->context.uc_stack.ss_sp = stacks + (size_t)i * STACK_BYTES;
		f->context.uc_stack.ss_size = STACK_BYTES;
		makecontext(&f->context, fiber_main, 0);
	}
	return r;
}

/* ---- meeting ---- */

/* True for the last of `wanted`; the others wait. */
static void meet(struct meeting *m, unsigned wanted, int line)
{
	struct fiber *f = runner->current;

	if (m->arrived && m->line != line)
		die("others of the block wait in another line", line);
	m->line = line;
	if (++m->arrived == wanted) {
		m->arrived = 0;
		m->count++;
		return;
	}
	f->gate = &m->count;
	f->seen = m->count;
	switch_back(f);
	f->gate = NULL;
}

void emulated_barrier(int line)
{
	meet(&runner->barrier, runner->threads, line);
}

unsigned emulated_lane(void)
{
	return runner->current->thread % WARP;
}

void emulated_shuffle(int line, unsigned mask, const void *mine, unsigned from, void *theirs, size_t bytes)
{
	const unsigned thread = runner->current->thread, first = thread - thread % WARP;
	struct meeting *m = &runner->warp[thread / WARP];
	uint64_t *slots = runner->slots[m->count % 2] + first;

	if (from >= WARP || !(mask >> from & 1) || !(mask >> (thread % WARP) & 1) ||
	    (runner->threads - first < WARP && mask >> (runner->threads - first)))
		die("a shuffle with lanes that do not take part", line);
	memcpy(&slots[thread % WARP], mine, bytes);
	meet(m, (unsigned)__builtin_popcount(mask), line);
	memcpy(theirs, &slots[from], bytes);
}

/* ---- blocks ---- */

static void run_block(dim3 blocks, dim3 threads, uint64_t block, const std::function<void()> &kernel)
{
	static __thread unsigned turn[MOST_THREADS];
	struct runner *r = runner ? runner : (runner = runner_new());

	blockIdx = make_uint3((unsigned)(block % blocks.x), (unsigned)(block / blocks.x % blocks.y),
			      (unsigned)(block / blocks.x / blocks.y));
	blockDim = threads;
	gridDim = blocks;
	r->threads = threads.x * threads.y * threads.z;
	r->taken = r->finished = r->begun = 0;
	r->barrier = {};
	memset(r->warp, 0, sizeof(r->warp));
	r->random = seed + block;
	r->kernel = &kernel;
	permute(r->order, r->threads, &r->random);
	while (r->finished < r->threads) {
		bool moved = false;

		permute(turn, r->begun, &r->random);
		for (unsigned i = 0, waiting = r->begun; i < waiting; i++) {
			struct fiber *f = &r->fibers[turn[i]];

			if (!f->gate || *f->gate == f->seen)
				continue;
			enter(f);
			switch_to(f);
			moved = true;
		}
		for (; r->taken < r->threads; moved = true) {
			r->current = &r->fibers[r->begun++];
			switch_to(r->current);
		}
		if (!moved)
			die("a barrier that not all threads of the block reach", r->barrier.line);
	}
}

static void run_blocks(dim3 blocks, dim3 threads, const std::function<void()> &kernel)
{
	const uint64_t count = (uint64_t)blocks.x * blocks.y * blocks.z;
	std::vector<uint64_t> order(count);
	uint64_t random = seed;

	permute(order.data(), count, &random);
#pragma omp parallel for schedule(dynamic) if (count > 1)
	for (uint64_t i = 0; i < count; i++)
		run_block(blocks, threads, order[i], kernel);
}

cudaError_t emulated_launch(dim3 blocks, dim3 threads, cudaStream_t stream, const std::function<void()> &kernel)
{
	const uint64_t count = (uint64_t)blocks.x * blocks.y * blocks.z;
	cudaError_t failure = (cudaError_t)emulated_failure("launch");

	emulated_stir();
	if (!failure && (!count || blocks.x > 0x7fffffff || blocks.y > 65535 || blocks.z > 65535 ||
			 !threads.x || !threads.y || !threads.z || threads.x > 1024 || threads.y > 1024 || threads.z > 64 ||
			 threads.x * threads.y * threads.z > MOST_THREADS))
		failure = cudaErrorInvalidConfiguration;
	if (failure)
		return emulated_result(failure);
	return emulated_push(stream, [blocks, threads, kernel] { return run_blocks(blocks, threads, kernel), true; });
}
