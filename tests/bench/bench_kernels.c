/*
 * bench_kernels: the update rules against a copy-like loop with the same
 * streams, at a size that lives in memory (64 Mi parameters) and one that lives
 * in the cache (64 Ki).
 *
 *     bench_kernels [--isa NAME] [--rounds N] [--require RATIO]
 *
 * The copy-like loop reads g and rewrites each array that the rule rewrites; it
 * is the faster of two, written with 16 and 64 byte vectors.  Both run in the
 * same arrays, in alternation; a ratio is formed within a round, because the
 * machine drifts.  Shown are medians and the range of the ratios.
 * --require: exit status 1 when adam in memory is below this ratio.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "optim/optim.h"

#define ARRAYS_MAX 4 /* w and three slots, of which amsgrad has the third */
#define ROUNDS_MAX 101
#define HUGE_PAGE ((size_t)2 << 20)

struct contest {
	const char *label, *rule, *hyper; /* hyper: a flag or number to set, or NULL */
	double value;
};

static const struct contest contests[] = {
	{ "sgd", "sgd", NULL, 0 },
	{ "sgd momentum=0.9", "sgd", "momentum", 0.9 },
	{ "momentum", "momentum", NULL, 0 },
	{ "adagrad", "adagrad", NULL, 0 },
	{ "rmsprop", "rmsprop", NULL, 0 },
	{ "rmsprop centered", "rmsprop", "centered", 1 },
	{ "adam", "adam", NULL, 0 },
	{ "adam weight_decay", "adam", "weight_decay", 0.01 },
	{ "adam amsgrad", "adam", "amsgrad", 1 },
};
#define CONTESTS (sizeof(contests) / sizeof(contests[0]))

struct arena {
	float *arrays[ARRAYS_MAX]; /* rewritten: w, then slots */
	float *g;
	size_t n;
};

static double now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* Warm memory in huge pages; never given back. */
static float *map_floats(size_t n)
{
	size_t bytes = n * sizeof(float) + HUGE_PAGE;
	char *start = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (start == MAP_FAILED) {
		fprintf(stderr, "bench_kernels: no memory for %zu bytes\n", bytes);
		exit(1);
	}
	madvise(start, bytes, MADV_HUGEPAGE);
	start += HUGE_PAGE - (size_t)start % HUGE_PAGE;
	memset(start, 0, n * sizeof(float));
	return (float *)(void *)start;
}

static void arena_fill(struct arena *arena)
{
	uint32_t random = 1;

	for (size_t i = 0; i < arena->n; i++) {
		random = random * 1664525u + 1013904223u;
		arena->g[i] = (float)(random >> 8) / 16777216.0f - 0.5f;
		arena->arrays[0][i] = 1.0f - arena->g[i];
	}
}

/* arrays[j][i] ^= g[i] & mask, mask being 0, which the compiler does not know:
 * the streams of a rule, and nothing changes.  One function for each number of
 * arrays and vector size. */
#define COPY_LOOP(name, type, count, attributes) \
	attributes static void name(const struct arena *arena, uint32_t mask) \
	{ \
		const size_t lanes = sizeof(type) / sizeof(float); \
		const type *g = (const type *)(const void *)arena->g; \
		type *a[ARRAYS_MAX]; \
\
		for (size_t j = 0; j < ARRAYS_MAX; j++) \
			a[j] = (type *)(void *)arena->arrays[j]; \
		for (size_t i = 0; i < arena->n / lanes; i++) { \
			type x = g[i] & mask; \
\
			a[0][i] ^= x; \
			if ((count) > 1) \
				a[1][i] ^= x; \
			if ((count) > 2) \
				a[2][i] ^= x; \
			if ((count) > 3) \
				a[3][i] ^= x; \
		} \
	}

typedef uint32_t narrow __attribute__((vector_size(16), may_alias));
typedef uint32_t wide __attribute__((vector_size(64), may_alias));

#if defined(__x86_64__)
#define WIDE __attribute__((target("avx512f")))
#else
#define WIDE
#endif

COPY_LOOP(narrow_1, narrow, 1, )
COPY_LOOP(narrow_2, narrow, 2, )
COPY_LOOP(narrow_3, narrow, 3, )
COPY_LOOP(narrow_4, narrow, 4, )
COPY_LOOP(wide_1, wide, 1, WIDE)
COPY_LOOP(wide_2, wide, 2, WIDE)
COPY_LOOP(wide_3, wide, 3, WIDE)
COPY_LOOP(wide_4, wide, 4, WIDE)

typedef void copy_loop(const struct arena *arena, uint32_t mask);
static copy_loop *const narrow_loops[] = { narrow_1, narrow_2, narrow_3, narrow_4 };
static copy_loop *const wide_loops[] = { wide_1, wide_2, wide_3, wide_4 };

static double time_loop(const struct arena *arena, copy_loop *loop, uint32_t repeat)
{
	volatile uint32_t zero = 0;
	double began = now_ns();

	for (uint32_t i = 0; i < repeat; i++)
		loop(arena, zero);
	return (now_ns() - began) / repeat / (double)arena->n;
}

/* ns per parameter of the faster copy-like loop. */
static double time_copy(const struct arena *arena, uint32_t arrays, uint32_t repeat)
{
	double best = time_loop(arena, narrow_loops[arrays - 1], repeat);

	if (optim_isa_usable(OPTIM_ISA_AVX512)) {
		double other = time_loop(arena, wide_loops[arrays - 1], repeat);

		if (other < best)
			best = other;
	}
	return best;
}

static struct optim contest_optim(const struct contest *contest)
{
	struct optim optim;
	char why[256] = "";

	if (optim_init(&optim, optim_find(contest->rule), OPTIM_TORCH2, why, sizeof(why)) < 0 ||
	    (contest->hyper != NULL &&
	     optim_set(&optim, contest->hyper, &contest->value, 1, why, sizeof(why)) < 0)) {
		fprintf(stderr, "bench_kernels: %s\n", why);
		exit(1);
	}
	return optim;
}

static double time_rule(const struct arena *arena, const struct optim *optim, enum optim_isa isa,
                        uint32_t repeat)
{
	struct optim_scalars scalars;
	struct optim_carry carry;
	double began;

	optim_carry_initial(optim, &carry);
	optim_scalars(optim, 1000, &carry, &scalars);
	began = now_ns();
	for (uint32_t i = 0; i < repeat; i++)
		optim_step(optim, isa, &scalars, arena->arrays[0], arena->arrays + 1, arena->g,
		           arena->n);
	return (now_ns() - began) / repeat / (double)arena->n;
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *values, uint32_t count)
{
	qsort(values, count, sizeof(*values), by_size);
	return values[count / 2];
}

/* Prints a line; returns the median ratio. */
static double measure(const struct arena *arena, const struct contest *contest, enum optim_isa isa,
                      uint32_t rounds, uint32_t repeat)
{
	struct optim optim = contest_optim(contest);
	uint32_t arrays = 1 + optim_slot_count(&optim);
	double rule[ROUNDS_MAX] = { 0 }, copy[ROUNDS_MAX] = { 0 }, ratio[ROUNDS_MAX] = { 0 },
	       middle;
	double bytes = 4.0 * (1 + 2 * arrays);

	time_rule(arena, &optim, isa, 1);
	time_copy(arena, arrays, 1);
	for (uint32_t i = 0; i < rounds; i++) {
		copy[i] = time_copy(arena, arrays, repeat);
		rule[i] = time_rule(arena, &optim, isa, repeat);
		ratio[i] = copy[i] / rule[i];
	}
	middle = median(ratio, rounds);
	printf("%-20s %8.3f %8.1f %12.3f %8.1f %8.2f   %.2f to %.2f\n", contest->label,
	       median(rule, rounds), bytes / median(rule, rounds), median(copy, rounds),
	       bytes / median(copy, rounds), middle, ratio[0], ratio[rounds - 1]);
	return middle;
}

/* All contests at one size; the ratio of adam. */
static double measure_size(size_t n, enum optim_isa isa, uint32_t rounds, uint32_t repeat)
{
	struct arena arena = { .g = map_floats(n), .n = n };
	double adam = 0;

	for (uint32_t i = 0; i < ARRAYS_MAX; i++)
		arena.arrays[i] = map_floats(n);
	arena_fill(&arena);
	printf("\n%zu parameters, %s, %u rounds\n", n, optim_isa_name(isa), (unsigned)rounds);
	printf("%-20s %8s %8s %12s %8s %8s   %s\n", "", "ns/param", "GB/s", "copy-like ns", "GB/s",
	       "ratio", "range");
	for (size_t i = 0; i < CONTESTS; i++) {
		double ratio = measure(&arena, &contests[i], isa, rounds, repeat);

		if (strcmp(contests[i].label, "adam") == 0)
			adam = ratio;
	}
	return adam;
}

int main(int argc, char **argv)
{
	enum optim_isa isa = optim_isa_best();
	uint32_t rounds = 11;
	double required = 0, adam;

	for (int i = 1; i < argc; i += 2) {
		const char *value = i + 1 < argc ? argv[i + 1] : "";

		if (strcmp(argv[i], "--isa") == 0 && optim_isa_find(value) >= 0 &&
		    optim_isa_usable((enum optim_isa)optim_isa_find(value))) {
			isa = (enum optim_isa)optim_isa_find(value);
		} else if (strcmp(argv[i], "--rounds") == 0 && atoi(value) >= 1 &&
		           atoi(value) <= ROUNDS_MAX) {
			rounds = (uint32_t)atoi(value);
		} else if (strcmp(argv[i], "--require") == 0 && atof(value) > 0) {
			required = atof(value);
		} else {
			fprintf(stderr,
			        "usage: bench_kernels [--isa NAME] [--rounds 1..%d] [--require RATIO]\n",
			        ROUNDS_MAX);
			return 2;
		}
	}
	measure_size((size_t)64 << 10, isa, rounds, 200);
	adam = measure_size((size_t)64 << 20, isa, rounds, 1);
	if (adam < required) {
		printf("\nadam in memory: ratio %.2f is below the required %.2f\n", adam, required);
		return 1;
	}
	return 0;
}
