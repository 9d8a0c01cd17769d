/*
 * The helpers of the data path: scale, fold, and the search for NaN and Inf.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "optim/optim.h"

#define SEED 31
#define ROOM 3000

static uint32_t next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*state >> 33);
}

/* Any bits, NaN and denormals included. */
static void fill(float *x, size_t n, uint64_t *random)
{
	for (size_t i = 0; i < n; i++) {
		uint32_t bits = next_random(random) << 1;

		memcpy(&x[i], &bits, sizeof(bits));
	}
}

static void fill_finite(float *x, size_t n, uint64_t *random)
{
	for (size_t i = 0; i < n; i++)
		x[i] = (float)next_random(random) * 1e-9f - 1.0f;
}

static struct optim_gradient of(const float *x, float factor)
{
	return (struct optim_gradient){ x, factor, DTYPE_F32 };
}

static bool same(float a, float b)
{
	return memcmp(&a, &b, sizeof(a)) == 0 || (isnan(a) && isnan(b));
}

static void test_scale_by_one_copies_bits(void **state)
{
	static float x[ROOM], out[ROOM];
	uint64_t random = SEED;

	(void)state;
	fill(x, ROOM, &random);
	for (int isa = 0; isa < OPTIM_ISA_COUNT; isa++) {
		if (!optim_isa_usable((enum optim_isa)isa))
			continue;
		memset(out, 0, sizeof(out));
		optim_scale((enum optim_isa)isa, out, of(x, 1.0f), ROOM);
		assert_memory_equal(out, x, sizeof(x));
	}
}

static void test_scale_multiplies_each_element(void **state)
{
	static float x[ROOM], out[ROOM];
	uint64_t random = SEED;

	(void)state;
	fill(x, ROOM, &random);
	for (int isa = 0; isa < OPTIM_ISA_COUNT; isa++) {
		if (!optim_isa_usable((enum optim_isa)isa))
			continue;
		optim_scale((enum optim_isa)isa, out + 1, of(x, 1.0f / 3), 997);
		for (size_t i = 0; i < 997; i++)
			assert_true(same(out[1 + i], 1.0f / 3 * x[i]));
		assert_true(out[0] == 0 && out[998] == 0);
	}
}

static void test_scale_in_place_is_allowed(void **state)
{
	static float x[ROOM], want[ROOM];
	uint64_t random = SEED;

	(void)state;
	for (int isa = 0; isa < OPTIM_ISA_COUNT; isa++) {
		if (!optim_isa_usable((enum optim_isa)isa))
			continue;
		fill_finite(x, ROOM, &random);
		for (size_t i = 0; i < ROOM; i++)
			want[i] = 0.7f * x[i];
		optim_scale((enum optim_isa)isa, x, of(x, 0.7f), ROOM);
		assert_memory_equal(x, want, sizeof(x));
	}
}

static void test_fold_rounds_the_product_and_then_the_sum(void **state)
{
	static float x[ROOM], start[ROOM], out[ROOM + 1];
	uint64_t random = SEED;
	size_t fused = 0;

	(void)state;
	fill_finite(x, ROOM, &random);
	fill_finite(start, ROOM, &random);
	for (int isa = 0; isa < OPTIM_ISA_COUNT; isa++) {
		if (!optim_isa_usable((enum optim_isa)isa))
			continue;
		memcpy(out + 1, start, sizeof(start));
		optim_fold((enum optim_isa)isa, out + 1, of(x, 1.0f / 3), ROOM);
		for (size_t i = 0; i < ROOM; i++) {
			volatile float product = 1.0f / 3 * x[i];

			assert_true(out[1 + i] == start[i] + product);
			fused += out[1 + i] != fmaf(1.0f / 3, x[i], start[i]);
		}
	}
	/* The data would show an fma. */
	assert_true(fused > 100);
}

static void test_finite_finds_the_first_bad_element(void **state)
{
	static const float bad[] = { NAN, INFINITY, -INFINITY, -NAN };
	static float x[ROOM];
	uint64_t random = SEED;

	(void)state;
	fill_finite(x, ROOM, &random);
	for (int isa = 0; isa < OPTIM_ISA_COUNT; isa++) {
		if (!optim_isa_usable((enum optim_isa)isa))
			continue;
		for (int round = 0; round < 300; round++) {
			size_t n = 1 + next_random(&random) % ROOM,
			       first = next_random(&random) % n;
			size_t second = first + next_random(&random) % (n - first);
			float a = x[first], b = x[second];

			x[second] = bad[round / 4 % 4];
			x[first] = bad[round % 4];
			assert_int_equal(optim_finite((enum optim_isa)isa, x, DTYPE_F32, n), first);
			assert_int_equal(optim_finite((enum optim_isa)isa, x, DTYPE_F32, first), first);
			x[second] = b;
			x[first] = a;
		}
	}
}

static void test_finite_takes_every_finite_number(void **state)
{
	static float x[ROOM];
	const uint32_t edges[] = {
		0, 0x80000000, 1, 0x80000001, 0x007fffff, 0x7f7fffff, 0xff7fffff
	};

	(void)state;
	for (size_t i = 0; i < ROOM; i++)
		memcpy(&x[i], &edges[i % 7], sizeof(x[i]));
	for (int isa = 0; isa < OPTIM_ISA_COUNT; isa++) {
		if (!optim_isa_usable((enum optim_isa)isa))
			continue;
		for (size_t n = 0; n <= 70; n++)
			assert_int_equal(optim_finite((enum optim_isa)isa, x + 1, DTYPE_F32, n), n);
		assert_int_equal(optim_finite((enum optim_isa)isa, x, DTYPE_F32, ROOM), ROOM);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_scale_by_one_copies_bits),
		cmocka_unit_test(test_scale_multiplies_each_element),
		cmocka_unit_test(test_scale_in_place_is_allowed),
		cmocka_unit_test(test_fold_rounds_the_product_and_then_the_sum),
		cmocka_unit_test(test_finite_finds_the_first_bad_element),
		cmocka_unit_test(test_finite_takes_every_finite_number),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
