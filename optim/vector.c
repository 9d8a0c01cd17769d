/*
 * Vector: the doors to the loops of the data path that are not an update rule.
 *
 * What came in two bytes an element is made float32 in pieces that stay in the first-level
 * cache, and goes on from there: memory is passed over once.
 */
#include <assert.h>

#include "optim/rule.h"

enum { PIECE = 2048 };

static const struct vector_row *const vectors[OPTIM_ISA_COUNT] = {
	[OPTIM_ISA_BASE] = &optim_vector_base,
	[OPTIM_ISA_AVX2] = RULE_ON_X86(&optim_vector_avx2),
	[OPTIM_ISA_AVX512] = RULE_ON_X86(&optim_vector_avx512),
};

static const struct half_row *const halves[OPTIM_ISA_COUNT] = {
	[OPTIM_ISA_BASE] = &optim_half_base,
	[OPTIM_ISA_AVX2] = RULE_ON_X86(&optim_half_avx2),
	[OPTIM_ISA_AVX512] = RULE_ON_X86(&optim_half_avx512),
};

void optim_scale(enum optim_isa isa, float *out, struct optim_gradient x, size_t n)
{
	assert(optim_isa_usable(isa));
	if (x.type == DTYPE_F32) {
		vectors[isa]->scale(out, x.values, x.factor, n);
		return;
	}
	for (size_t begin = 0; begin < n; begin += PIECE) {
		size_t count = n - begin < PIECE ? n - begin : PIECE;

		halves[isa]->widen[x.type](out + begin, dtype_at(x.values, x.type, begin), count);
		if (x.factor != 1.0f)
			vectors[isa]->scale(out + begin, out + begin, x.factor, count);
	}
}

void optim_fold(enum optim_isa isa, float *out, struct optim_gradient x, size_t n)
{
	float wide[PIECE];

	assert(optim_isa_usable(isa));
	if (x.type == DTYPE_F32) {
		vectors[isa]->fold(out, x.values, x.factor, n);
		return;
	}
	for (size_t begin = 0; begin < n; begin += PIECE) {
		size_t count = n - begin < PIECE ? n - begin : PIECE;

		halves[isa]->widen[x.type](wide, dtype_at(x.values, x.type, begin), count);
		vectors[isa]->fold(out + begin, wide, x.factor, count);
	}
}

size_t optim_finite(enum optim_isa isa, const void *x, enum dtype type, size_t n)
{
	assert(optim_isa_usable(isa));
	if (type == DTYPE_F32)
		return vectors[isa]->finite(x, n);
	return halves[isa]->finite(x, halves[isa]->finite_end[type], n);
}
