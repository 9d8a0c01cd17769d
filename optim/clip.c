/* Clipping's small arithmetic; its loops are in norm_kernel.c. */
#include "optim/clip.h"

#include <assert.h>
#include <math.h>

#include "optim/rule.h"

static const struct norm_row *const norms[OPTIM_ISA_COUNT] = {
	[OPTIM_ISA_BASE] = &optim_norm_base,
	[OPTIM_ISA_AVX2] = RULE_ON_X86(&optim_norm_avx2),
	[OPTIM_ISA_AVX512] = RULE_ON_X86(&optim_norm_avx512),
};

void clip_value(enum optim_isa isa, float *out, const float *x, float limit, size_t n)
{
	assert(optim_isa_usable(isa));
	norms[isa]->clamp(out, x, limit, n);
}

double clip_part(enum optim_isa isa, const float *x, size_t n, double p)
{
	assert(optim_isa_usable(isa) && p >= 1);
	return isinf(p) ? (double)norms[isa]->largest(x, n) : norms[isa]->power_sum(x, n, p);
}

double clip_join(double first, double second, double p)
{
	if (!isinf(p))
		return first + second;
	return first > second || isnan(first) ? first : second;
}

double clip_norm(double parts, double p)
{
	if (isinf(p) || p == 1)
		return parts;
	return p == 2 ? sqrt(parts) : pow(parts, 1 / p);
}

float clip_factor(double norm, double max_norm)
{
	/* PyTorch's 1e-6, which keeps a norm of 0 from dividing. */
	double factor = max_norm / (norm + 1e-6);

	return factor > 1 ? 1.0f : (float)factor;
}
