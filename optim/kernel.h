/*
 * Kernel: what the files compiled once per instruction set share.
 *
 * The build compiles each *_kernel.c with -DOPTIM_ISA=base, and on x86-64 again
 * with avx2 and avx512 and the matching -m flags; KERNEL(name) is the name with
 * that suffix.  Everything else in such a file is static.
 *
 * How a loop must be written so that gcc and clang vectorise it, and so that the
 * bits never change:
 *   - one plain loop over i, arrays as restrict parameters, scalars in locals;
 *   - all loads of an element before its first store.  The arrays often start at
 *     the same place in a page, and a load that follows a store with the same
 *     low 12 address bits waits for it: adam took three times as long;
 *   - no condition inside that does not depend on i, except on parameters that
 *     are constants after inlining (KERNEL_LOOP, KERNEL_SPLIT);
 *   - an fma exactly where the reference has one, spelled fmaf(), and nowhere
 *     else: the build says -ffp-contract=off;
 *   - sqrtf() needs -fno-math-errno, or it is five times slower.
 */
#ifndef OPTD_OPTIM_KERNEL_H
#define OPTD_OPTIM_KERNEL_H

#include <float.h>
#include <math.h>

#include "optim/rule.h"

#ifndef OPTIM_ISA
#error "compile *_kernel.c with -DOPTIM_ISA=base, avx2 or avx512"
#endif

#define KERNEL_JOIN_(name, isa) name##_##isa
#define KERNEL_JOIN(name, isa) KERNEL_JOIN_(name, isa)
#define KERNEL(name) KERNEL_JOIN(name, OPTIM_ISA)

/* A loop with flags as its last parameters.  Inlined into each call, so that
 * flags given as constants cost nothing. */
#define KERNEL_LOOP static inline __attribute__((always_inline)) void

/* CALL(flags...) with each flag a constant: every combination becomes a loop of
 * its own, and the branch is taken once per call. */
#define KERNEL_SPLIT1(a, CALL) \
	do { \
		if (a) \
			CALL(true); \
		else \
			CALL(false); \
	} while (0)

#define KERNEL_SPLIT2(a, b, CALL) \
	do { \
		if ((a) && (b)) \
			CALL(true, true); \
		else if (a) \
			CALL(true, false); \
		else if (b) \
			CALL(false, true); \
		else \
			CALL(false, false); \
	} while (0)

#define KERNEL_COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Torch's lerp_(x, y, weight) takes one of two forms, whichever is exact at the
 * nearer end:  |weight| < 1/2: fma(weight, y - x, x);  else
 * fma(-(1 - weight), y - x, y).  All in float, the weight rounded first. */
static inline bool kernel_lerp_far(double weight)
{
	return !(fabsf((float)weight) < 0.5f);
}

static inline float kernel_lerp_factor(double weight)
{
	return kernel_lerp_far(weight) ? -(1.0f - (float)weight) : (float)weight;
}

/* How a mean of gradients is formed: PyTorch 1.13 multiplies and adds, 2.x takes
 * lerp.  keep is beta, take 1 - beta, lerp kernel_lerp_factor(1 - beta), whose sign
 * tells the form: of the scalars, since a schedule may move beta. */
enum kernel_mean { MEAN_MUL_ADD, MEAN_LERP_NEAR, MEAN_LERP_FAR };

static inline enum kernel_mean kernel_mean_of(const struct optim *optim, float lerp)
{
	if (optim->match == OPTIM_TORCH1)
		return MEAN_MUL_ADD;
	return signbit(lerp) ? MEAN_LERP_FAR : MEAN_LERP_NEAR;
}

static inline float kernel_mean(enum kernel_mean mean, float m, float g, float keep, float take,
                                float lerp)
{
	if (mean == MEAN_MUL_ADD)
		return fmaf(g, take, m * keep);
	return fmaf(lerp, g - m, mean == MEAN_LERP_FAR ? g : m);
}

/* CALL(mean, flag) with both constant. */
#define KERNEL_SPLIT_MEAN(mean, flag, CALL) \
	do { \
		if ((mean) == MEAN_MUL_ADD && (flag)) \
			CALL(MEAN_MUL_ADD, true); \
		else if ((mean) == MEAN_MUL_ADD) \
			CALL(MEAN_MUL_ADD, false); \
		else if ((mean) == MEAN_LERP_NEAR && (flag)) \
			CALL(MEAN_LERP_NEAR, true); \
		else if ((mean) == MEAN_LERP_NEAR) \
			CALL(MEAN_LERP_NEAR, false); \
		else if (flag) \
			CALL(MEAN_LERP_FAR, true); \
		else \
			CALL(MEAN_LERP_FAR, false); \
	} while (0)

/* The larger one, and NaN if either is, as torch.maximum: fmaxf would drop a NaN.
 * `|` because `||` would keep gcc from vectorising. */
static inline float kernel_max(float a, float b)
{
	return ((a > b) | (a != a)) ? a : b;
}

/* -1, 0 or 1; 0 for NaN, as torch.sign. */
static inline float kernel_signum(float x)
{
	return (x > 0 ? 1.0f : 0.0f) - (x < 0 ? 1.0f : 0.0f);
}

/* How formulas of PyTorch's rules begin. */
#define KERNEL_MAXIMIZE "maximize: g = -g; "
#define KERNEL_DECAY "weight_decay: g = fma(w, weight_decay, g); "
#define KERNEL_DECOUPLED \
	"decoupled_weight_decay: w = w*(1 - lr*weight_decay), else g = fma(w, weight_decay, g); "

/* maximize turns the gradient round before anything else; times -1 is exact. */
static inline float kernel_sign(double maximize)
{
	return maximize != 0 ? -1.0f : 1.0f;
}

#endif
