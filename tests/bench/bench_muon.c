/*
 * bench_muon: steps of muon against the fma that one core can do, and beside them OpenBLAS'
 * sgemm of the same size on one thread, where it is installed.
 *
 *     bench_muon [--isa NAME] [--rounds N] [--require RATIO]
 *
 * All are measured in every round, in alternation, and the best of each is shown: a machine
 * that does other things makes them slower, never faster.  A step is counted with the
 * multiplications and additions that it needs, of the symmetric products half.
 *
 * --require: exit status 1 when the largest matrix' step is below this part of the peak.
 */
#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "optim/tensor.h"
#include "tests/bench/measure.h"

#define SLICE (512u * 1024u) /* as a lane's */

static const uint64_t sizes[] = { 512, 1024, 2048 };
#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

/* Random numbers from -0.5 to 0.5. */
static float *random_floats(size_t n)
{
	float *out = measure_floats(n);
	uint32_t random = 1;

	for (size_t i = 0; i < n; i++) {
		random = random * 1664525u + 1013904223u;
		out[i] = (float)(random >> 8) / 16777216.0f - 0.5f;
	}
	return out;
}

/* ---- the limit ---------------------------------------------------------- */

#define CHAINS 14 /* of fma, none of which waits for another */
#define CHAIN(r, i) "vfmadd231ps %%" r "14, %%" r "15, %%" r #i "\n\t"
#define ALL_CHAINS(r) \
	CHAIN(r, 0) CHAIN(r, 1) CHAIN(r, 2) CHAIN(r, 3) CHAIN(r, 4) CHAIN(r, 5) CHAIN(r, 6) \
	CHAIN(r, 7) CHAIN(r, 8) CHAIN(r, 9) CHAIN(r, 10) CHAIN(r, 11) CHAIN(r, 12) CHAIN(r, 13)
#define USED \
	"xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
		"xmm11", "xmm12", "xmm13", "xmm14", "xmm15"

/* GFLOP/s of one core that does nothing else; 0 where there is no such instruction. */
static double measure_peak(enum optim_isa isa)
{
	const int repeat = 2000000;
	double began = measure_ns(), floats = isa == OPTIM_ISA_AVX512 ? 16 : 8;

	if (isa == OPTIM_ISA_BASE)
		return 0;
#if defined(__x86_64__)
	__asm__ volatile("vzeroall" ::: USED);
	for (int i = 0; i < repeat; i++) {
		if (isa == OPTIM_ISA_AVX512)
			__asm__ volatile(ALL_CHAINS("zmm") ::: USED);
		else
			__asm__ volatile(ALL_CHAINS("ymm") ::: USED);
	}
	__asm__ volatile("vzeroupper" ::: USED);
#endif
	return 2 * floats * CHAINS * repeat / (measure_ns() - began);
}

/* ---- OpenBLAS ----------------------------------------------------------- */

typedef void sgemm(int order, int transpose_a, int transpose_b, int m, int n, int k, float alpha,
                   const float *a, int lda, const float *b, int ldb, float beta, float *c, int ldc);

struct blas {
	sgemm *multiply; /* NULL: not installed */
	const char *core; /* whose loops it has chosen */
};

static struct blas blas_open(void)
{
	void *library = dlopen("libopenblas.so.0", RTLD_NOW);
	struct blas blas = { NULL, "not installed" };
	void (*set_threads)(int);
	char *(*core)(void);

	if (library == NULL)
		return blas;
	/* POSIX's way: C knows no cast from an object to a function. */
	*(void **)(void *)&blas.multiply = dlsym(library, "cblas_sgemm");
	*(void **)(void *)&set_threads = dlsym(library, "openblas_set_num_threads");
	*(void **)(void *)&core = dlsym(library, "openblas_get_corename");
	if (set_threads != NULL)
		set_threads(1);
	blas.core = core != NULL ? core() : "?";
	return blas;
}

static double measure_sgemm(const struct blas *blas, uint64_t n, const float *a, const float *b, float *c)
{
	int size = (int)n;
	double began = measure_ns(), flops = 2.0 * (double)n * (double)n * (double)n;

	if (blas->multiply == NULL)
		return 0;
	blas->multiply(101, 111, 111, size, size, size, 1, a, size, b, size, 0, c, size);
	return flops / (measure_ns() - began);
}

/* ---- a step ------------------------------------------------------------- */

struct arrays {
	float *w, *momentum, *g, *scratch;
};

static struct optim muon(void)
{
	struct optim optim;
	char why[256];

	if (optim_init(&optim, optim_find("muon"), OPTIM_TORCH2, why, sizeof(why)) < 0) {
		fprintf(stderr, "bench_muon: %s\n", why);
		exit(1);
	}
	return optim;
}

/* ns of one, in slices as a lane does it; *longest is the longest slice. */
static double measure_step(enum optim_isa isa, uint64_t n, const struct arrays *arrays, double *longest)
{
	struct optim optim = muon();
	float *slots[] = { arrays->momentum };
	struct optim_scalars scalars;
	struct optim_carry carry;
	struct tensor_update update = { .optim = &optim, .isa = isa, .scalars = &scalars,
		                        .shape = { 1, n, n, true }, .w = arrays->w, .slots = slots,
		                        .g = { arrays->g, 1.0f, DTYPE_F32 },
		                        .scratch = arrays->scratch };
	double began = measure_ns(), last = began, now;
	bool done;

	optim_carry_initial(&optim, &carry);
	optim_scalars(&optim, 1, &carry, &scalars);
	tensor_begin(&update);
	*longest = 0;
	do {
		done = tensor_run(&update, SLICE);
		now = measure_ns();
		*longest = now - last > *longest ? now - last : *longest;
		last = now;
	} while (!done);
	return now - began;
}

/* Prints a line; returns the part of the peak. */
static double measure(enum optim_isa isa, const struct blas *blas, uint64_t n, uint32_t rounds)
{
	struct optim optim = muon();
	struct tensor_shape shape = { 1, n, n, true };
	struct arrays arrays = { random_floats(n * n), random_floats(n * n), random_floats(n * n),
		                 random_floats(tensor_scratch(&optim, &shape)) };
	double peak = 0, step = 1e18, slice = 1e18, multiply = 0;
	/* Five iterations: half of X X^T and of A A, and B X. */
	double flops = 5 * 4.0 * (double)n * (double)n * (double)n;

	for (uint32_t i = 0; i < rounds; i++) {
		double longest, ns = measure_step(isa, n, &arrays, &longest), other = measure_peak(isa);

		step = ns < step ? ns : step;
		slice = longest < slice ? longest : slice;
		peak = other > peak ? other : peak;
		other = measure_sgemm(blas, n, arrays.g, arrays.w, arrays.scratch);
		multiply = other > multiply ? other : multiply;
	}
	printf("%4llu x %-4llu %12.3f %10.3f %9.1f %9.1f %6.2f %9.1f\n", (unsigned long long)n,
	       (unsigned long long)n, step / 1e6, slice / 1e6, flops / step, peak,
	       peak > 0 ? flops / step / peak : 0, multiply);
	return peak > 0 ? flops / step / peak : 1;
}

int main(int argc, char **argv)
{
	enum optim_isa isa = optim_isa_best();
	struct blas blas = blas_open();
	uint32_t rounds = 5;
	double required = 0, reached = 0;

	for (int i = 1; i < argc; i += 2) {
		const char *value = i + 1 < argc ? argv[i + 1] : "";
		int found = optim_isa_find(value);

		if (strcmp(argv[i], "--isa") == 0 && found >= 0 && optim_isa_usable((enum optim_isa)found))
			isa = (enum optim_isa)found;
		else if (strcmp(argv[i], "--rounds") == 0 && atoi(value) > 0)
			rounds = (uint32_t)atoi(value);
		else if (strcmp(argv[i], "--require") == 0)
			required = atof(value);
		else {
			fprintf(stderr, "usage: bench_muon [--isa NAME] [--rounds N] [--require RATIO]\n");
			return 2;
		}
	}
	printf("muon, %s, one thread; OpenBLAS: %s\n", optim_isa_name(isa), blas.core);
	printf("%-11s %12s %10s %9s %9s %6s %9s\n", "matrix", "ms a step", "slice ms", "GFLOP/s", "peak",
	       "ratio", "sgemm");
	for (size_t i = 0; i < SIZES; i++)
		reached = measure(isa, &blas, sizes[i], rounds);
	if (reached < required) {
		printf("\nmuon: %.2f of the peak is below the required %.2f\n", reached, required);
		return 1;
	}
	return 0;
}
