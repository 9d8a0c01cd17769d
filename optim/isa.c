/*
 * Isa: which instruction sets the loops were built for, and which of them this
 * machine can run.  The build's flags for each stand in the Makefile and must
 * not ask for more than what is tested for here.
 */
#include <string.h>

#include "optim/optim.h"

static const char *const names[OPTIM_ISA_COUNT] = {
	[OPTIM_ISA_BASE] = "base",
	[OPTIM_ISA_AVX2] = "avx2",
	[OPTIM_ISA_AVX512] = "avx512",
};

#if defined(__x86_64__)
/* clang 14 cannot ask for it, so its builds do without.  (CPUID itself is not for here: in a
 * virtual machine it takes microseconds.) */
static bool has_f16c(void)
{
#if defined(__clang__)
	return true;
#else
	return __builtin_cpu_supports("f16c");
#endif
}

static bool has_avx2(void)
{
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
}

/* These ask the operating system too: registers it does not save are no use. */
static bool has_avx512(void)
{
	return has_avx2() && __builtin_cpu_supports("avx512f") &&
	       __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
	       __builtin_cpu_supports("avx512bw");
}
#else
static bool has_avx2(void)
{
	return false;
}

static bool has_avx512(void)
{
	return false;
}
#endif

bool optim_isa_usable(enum optim_isa isa)
{
	switch (isa) {
	case OPTIM_ISA_BASE:
		return true;
	case OPTIM_ISA_AVX2:
		return has_avx2();
	case OPTIM_ISA_AVX512:
		return has_avx512();
	case OPTIM_ISA_COUNT:
		break;
	}
	return false;
}

enum optim_isa optim_isa_best(void)
{
	if (has_avx512())
		return OPTIM_ISA_AVX512;
	return has_avx2() ? OPTIM_ISA_AVX2 : OPTIM_ISA_BASE;
}

const char *optim_isa_name(enum optim_isa isa)
{
	return (unsigned)isa < OPTIM_ISA_COUNT ? names[isa] : "?";
}

int optim_isa_find(const char *name)
{
	for (int i = 0; i < OPTIM_ISA_COUNT; i++) {
		if (strcmp(names[i], name) == 0)
			return i;
	}
	return -1;
}
