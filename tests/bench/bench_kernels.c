/*
 * bench_kernels: the update rules against a copy-like loop with the same
 * streams, at a size that lives in memory (64 Mi parameters) and one that lives
 * in the cache (64 Ki).
 *
 *     bench_kernels [--isa NAME] [--rounds N] [--threads N] [--all] [--tsv]
 *                   [--only LABEL] [--require RATIO]
 *
 * The copy-like loop reads g and rewrites each array that the rule rewrites; it
 * is the faster of two, written with 16 and 64 byte vectors.  Both run in the
 * same arrays, in alternation; a ratio is formed within a round, because the
 * machine drifts.  Shown are medians and the range of the ratios.  With several
 * threads each has an equal part of the arrays.
 *
 * --all: every elementwise rule, not only those of the data path's benchmark.
 * --only: one of them, by what its line begins with.
 * --tsv: "size threads label ns copy_ns ratio", for programs.
 * --require: exit status 1 when a rule in memory (without --all: adam) is below
 * this ratio.
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "optim/optim.h"
#include "tests/bench/measure.h"

#define ARRAYS_MAX 4 /* w and three slots, of which amsgrad has the third */
#define ROUNDS_MAX 101
#define THREADS_MAX 16

struct contest {
	const char *label, *rule, *hyper; /* hyper: a flag or number to set, or NULL */
	double value;
	enum dtype type; /* of the gradient; the copy-like loop's is float32 */
};

static const struct contest contests[] = {
	{ "sgd", "sgd", NULL, 0, DTYPE_F32 },
	{ "sgd bf16", "sgd", NULL, 0, DTYPE_BF16 },
	{ "sgd momentum=0.9", "sgd", "momentum", 0.9, DTYPE_F32 },
	{ "momentum", "momentum", NULL, 0, DTYPE_F32 },
	{ "adagrad", "adagrad", NULL, 0, DTYPE_F32 },
	{ "rmsprop", "rmsprop", NULL, 0, DTYPE_F32 },
	{ "rmsprop centered", "rmsprop", "centered", 1, DTYPE_F32 },
	{ "adam", "adam", NULL, 0, DTYPE_F32 },
	{ "adam bf16", "adam", NULL, 0, DTYPE_BF16 },
	{ "adam f16", "adam", NULL, 0, DTYPE_F16 },
	{ "adam weight_decay", "adam", "weight_decay", 0.01, DTYPE_F32 },
	{ "adam amsgrad", "adam", "amsgrad", 1, DTYPE_F32 },
};
#define CONTESTS (sizeof(contests) / sizeof(contests[0]))

struct wishes {
	enum optim_isa isa;
	uint32_t rounds, threads;
	bool all, tsv;
	const char *only; /* a label, or NULL */
	double required;
};

struct arena {
	float *arrays[ARRAYS_MAX]; /* rewritten: w, then slots */
	float *g;
	uint16_t *half; /* the same as bf16, which as f16 are numbers, too */
	size_t n;
};

static void arena_fill(struct arena *arena)
{
	uint32_t random = 1;

	for (size_t i = 0; i < arena->n; i++) {
		random = random * 1664525u + 1013904223u;
		arena->g[i] = (float)(random >> 8) / 16777216.0f - 0.5f;
		arena->arrays[0][i] = 1.0f - arena->g[i];
		memcpy(&arena->half[i], (const char *)&arena->g[i] + 2, sizeof(arena->half[i]));
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

/* A loop or a rule over a part of the arrays, again and again. */
struct work {
	struct arena part;
	copy_loop *loop; /* NULL: the rule */
	const struct optim *optim;
	enum optim_isa isa;
	const struct optim_scalars *scalars;
	uint32_t repeat;
	enum dtype type;
};

static void *work_do(void *argument)
{
	const struct work *work = argument;
	const bool whole = work->type == DTYPE_F32;
	const struct optim_gradient g = { whole ? (const void *)work->part.g : work->part.half, 1.0f, work->type };
	volatile uint32_t zero = 0;

	for (uint32_t i = 0; i < work->repeat; i++) {
		if (work->loop != NULL)
			work->loop(&work->part, zero);
		else
			optim_step_from(work->optim, work->isa, work->scalars, work->part.arrays[0],
			                work->part.arrays + 1, g, work->part.n);
	}
	return NULL;
}

static struct arena arena_part(const struct arena *arena, uint32_t index, uint32_t count)
{
	struct arena part = { .n = arena->n / count };

	part.g = arena->g + index * part.n;
	part.half = arena->half + index * part.n;
	for (uint32_t i = 0; i < ARRAYS_MAX; i++)
		part.arrays[i] = arena->arrays[i] + index * part.n;
	return part;
}

/* ns per parameter, all threads together. */
static double time_work(const struct arena *arena, const struct work *like, uint32_t threads)
{
	struct work works[THREADS_MAX] = { 0 };
	pthread_t ids[THREADS_MAX];
	double began = measure_ns();

	for (uint32_t i = 0; i < threads; i++) {
		works[i] = *like;
		works[i].part = arena_part(arena, i, threads);
		if (i > 0 && pthread_create(&ids[i], NULL, work_do, &works[i]) != 0) {
			fprintf(stderr, "bench_kernels: no thread\n");
			exit(1);
		}
	}
	work_do(&works[0]);
	for (uint32_t i = 1; i < threads; i++)
		pthread_join(ids[i], NULL);
	return (measure_ns() - began) / like->repeat / (double)arena->n;
}

/* ns per parameter of the faster copy-like loop. */
static double time_copy(const struct arena *arena, uint32_t arrays, uint32_t threads, uint32_t repeat)
{
	struct work work = { .loop = narrow_loops[arrays - 1], .repeat = repeat };
	double best = time_work(arena, &work, threads), other;

	if (!optim_isa_usable(OPTIM_ISA_AVX512))
		return best;
	work.loop = wide_loops[arrays - 1];
	other = time_work(arena, &work, threads);
	return other < best ? other : best;
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

static double time_rule(const struct arena *arena, const struct optim *optim, enum dtype type,
                        const struct wishes *wishes, uint32_t repeat)
{
	struct optim_scalars scalars;
	struct optim_carry carry;
	struct work work = { .optim = optim, .isa = wishes->isa, .scalars = &scalars, .repeat = repeat, .type = type };

	optim_carry_initial(optim, &carry);
	optim_scalars(optim, 1000, &carry, &scalars);
	return time_work(arena, &work, wishes->threads);
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
static double measure(const struct arena *arena, const struct contest *contest,
                      const struct wishes *wishes, uint32_t repeat)
{
	struct optim optim = contest_optim(contest);
	uint32_t arrays = 1 + optim_slot_count(&optim), rounds = wishes->rounds;
	double rule[ROUNDS_MAX] = { 0 }, copy[ROUNDS_MAX] = { 0 }, ratio[ROUNDS_MAX] = { 0 };
	double bytes = dtype_bytes(contest->type) + 8.0 * arrays, copied = 4.0 + 8.0 * arrays, middle, rule_ns, copy_ns;

	time_rule(arena, &optim, contest->type, wishes, 1);
	time_copy(arena, arrays, wishes->threads, 1);
	for (uint32_t i = 0; i < rounds; i++) {
		copy[i] = time_copy(arena, arrays, wishes->threads, repeat);
		rule[i] = time_rule(arena, &optim, contest->type, wishes, repeat);
		ratio[i] = copy[i] / rule[i];
	}
	middle = median(ratio, rounds);
	rule_ns = median(rule, rounds);
	copy_ns = median(copy, rounds);
	if (wishes->tsv)
		printf("%zu\t%u\t%s\t%.4f\t%.4f\t%.3f\n", arena->n, wishes->threads, contest->label, rule_ns,
		       copy_ns, middle);
	else
		printf("%-20s %8.3f %8.1f %12.3f %8.1f %8.2f   %.2f to %.2f\n", contest->label, rule_ns,
		       bytes / rule_ns, copy_ns, copied / copy_ns, middle, ratio[0], ratio[rounds - 1]);
	return middle;
}

static bool wanted(const struct wishes *wishes, const char *label)
{
	return wishes->only == NULL || strcmp(wishes->only, label) == 0;
}

static void arena_open(struct arena *arena, size_t n)
{
	arena->n = n;
	arena->g = measure_floats(n);
	arena->half = (uint16_t *)(void *)measure_floats(n / 2);
	for (uint32_t i = 0; i < ARRAYS_MAX; i++)
		arena->arrays[i] = measure_floats(n);
	arena_fill(arena);
}

/* The rules that the contests leave out, with their defaults; the lowest ratio. */
static double measure_rest(const struct arena *arena, const struct wishes *wishes, uint32_t repeat)
{
	double lowest = 1e9;

	for (uint32_t i = 0; i < optim_rule_count(); i++) {
		const char *name = optim_rule_name(optim_rule(i));
		struct contest contest = { name, name, NULL, 0, DTYPE_F32 };
		bool there = optim_rule_class(optim_rule(i)) != OPTIM_ELEMENTWISE;
		double ratio;

		for (size_t j = 0; j < CONTESTS; j++)
			there = there || strcmp(contests[j].rule, name) == 0;
		if (there || !wanted(wishes, name))
			continue;
		ratio = measure(arena, &contest, wishes, repeat);
		lowest = ratio < lowest ? ratio : lowest;
	}
	return lowest;
}

/* All contests at one size; adam's ratio, or with --all the lowest. */
static double measure_size(size_t n, const struct wishes *wishes, uint32_t repeat)
{
	struct arena arena;
	double judged = 1e9, rest;

	arena_open(&arena, n);
	if (!wishes->tsv) {
		printf("\n%zu parameters, %s, %u thread%s, %u rounds\n", n, optim_isa_name(wishes->isa),
		       wishes->threads, wishes->threads == 1 ? "" : "s", wishes->rounds);
		printf("%-20s %8s %8s %12s %8s %8s   %s\n", "", "ns/param", "GB/s", "copy-like ns", "GB/s",
		       "ratio", "range");
	}
	for (size_t i = 0; i < CONTESTS; i++) {
		double ratio;

		if (!wanted(wishes, contests[i].label))
			continue;
		ratio = measure(&arena, &contests[i], wishes, repeat);

		if ((wishes->all || strcmp(contests[i].label, "adam") == 0) && ratio < judged)
			judged = ratio;
	}
	if (!wishes->all)
		return judged;
	rest = measure_rest(&arena, wishes, repeat);
	return rest < judged ? rest : judged;
}

static int usage(void)
{
	fprintf(stderr,
	        "usage: bench_kernels [--isa NAME] [--rounds 1..%d] [--threads 1..%d] [--all] [--tsv]"
	        " [--only LABEL] [--require RATIO]\n",
	        ROUNDS_MAX, THREADS_MAX);
	return 2;
}

/* An option with a value; false for one that it does not know or take. */
static bool wish(struct wishes *wishes, const char *name, const char *value)
{
	int isa = optim_isa_find(value), number = atoi(value);

	if (strcmp(name, "--isa") == 0 && isa >= 0 && optim_isa_usable((enum optim_isa)isa))
		wishes->isa = (enum optim_isa)isa;
	else if (strcmp(name, "--rounds") == 0 && number >= 1 && number <= ROUNDS_MAX)
		wishes->rounds = (uint32_t)number;
	else if (strcmp(name, "--threads") == 0 && number >= 1 && number <= THREADS_MAX)
		wishes->threads = (uint32_t)number;
	else if (strcmp(name, "--only") == 0)
		wishes->only = value;
	else if (strcmp(name, "--require") == 0 && atof(value) > 0)
		wishes->required = atof(value);
	else
		return false;
	return true;
}

int main(int argc, char **argv)
{
	struct wishes wishes = { optim_isa_best(), 11, 1, false, false, NULL, 0 };
	double judged;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--all") == 0)
			wishes.all = true;
		else if (strcmp(argv[i], "--tsv") == 0)
			wishes.tsv = true;
		else if (i + 1 < argc && wish(&wishes, argv[i], argv[i + 1]))
			i++;
		else
			return usage();
	}
	measure_size((size_t)64 << 10, &wishes, 400);
	judged = measure_size((size_t)64 << 20, &wishes, 1);
	if (judged < wishes.required) {
		printf("\n%s in memory: ratio %.2f is below the required %.2f\n",
		       wishes.all ? "a rule" : "adam", judged, wishes.required);
		return 1;
	}
	return 0;
}
