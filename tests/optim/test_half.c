/*
 * Gradients of two bytes an element: what each of them is as a float32, and that the helpers
 * and updates which take them do what they do with the float32.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "optim/optim.h"
#include "tests/support/half.h"

#define SEED 77
#define ALL 65536
#define ROOM 5000

static const enum dtype TYPES[] = { DTYPE_BF16, DTYPE_F16 };

static bool is_value(float x, enum dtype type, uint16_t bits)
{
	float want = half_value(type, bits);

	if (isnan(want))
		return isnan(x) && (signbit(x) != 0) == (signbit(want) != 0);
	return memcmp(&x, &want, sizeof(x)) == 0;
}

static uint32_t next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*state >> 33);
}

/* Any finite bits. */
static void fill_finite(uint16_t *x, enum dtype type, size_t n, uint64_t *random)
{
	for (size_t i = 0; i < n; i++) {
		do
			x[i] = (uint16_t)next_random(random);
		while (!isfinite(half_value(type, x[i])));
	}
}

static void test_each_of_all_values_becomes_the_float32_it_is(void **state)
{
	static uint16_t x[ALL];
	static float out[ALL], base[ALL];

	(void)state;
	for (size_t i = 0; i < ALL; i++)
		x[i] = (uint16_t)i;
	for (int t = 0; t < 2; t++) {
		optim_scale(OPTIM_ISA_BASE, base, (struct optim_gradient){ x, 1.0f, TYPES[t] }, ALL);
		for (size_t i = 0; i < ALL; i++) {
			if (!is_value(base[i], TYPES[t], x[i]))
				fail_msg("type %d: %04zx is %a", TYPES[t], i, (double)base[i]);
		}
		for (int isa = 1; isa < OPTIM_ISA_COUNT; isa++) {
			if (!optim_isa_usable((enum optim_isa)isa))
				continue;
			memset(out, 0, sizeof(out));
			optim_scale((enum optim_isa)isa, out, (struct optim_gradient){ x, 1.0f, TYPES[t] }, ALL);
			/* NaN as well. */
			assert_memory_equal(out, base, sizeof(out));
		}
	}
}

/* What is left over behind the last full vector goes another way. */
static void test_values_are_the_same_wherever_they_stand(void **state)
{
	static uint16_t x[ALL];
	float out[24];

	(void)state;
	for (size_t i = 0; i < ALL; i++)
		x[i] = (uint16_t)(i * 40503u);
	for (int t = 0; t < 2; t++) {
		for (int isa = 0; isa < OPTIM_ISA_COUNT; isa++) {
			if (!optim_isa_usable((enum optim_isa)isa))
				continue;
			for (size_t begin = 0, n = 0; begin + n <= ALL; begin += n, n = (n + 1) % 24) {
				struct optim_gradient g = { x + begin, 1.0f, TYPES[t] };

				optim_scale((enum optim_isa)isa, out, g, n);
				for (size_t i = 0; i < n; i++)
					assert_true(is_value(out[i], TYPES[t], x[begin + i]));
			}
		}
	}
}

static void test_scale_and_fold_do_as_with_the_float32(void **state)
{
	static uint16_t x[ROOM + 1];
	static float wide[ROOM], want[ROOM], out[ROOM + 1];
	uint64_t random = SEED;

	(void)state;
	for (int round = 0; round < 40; round++) {
		enum dtype type = TYPES[round % 2];
		size_t n = round < 4 ? ROOM : next_random(&random) % ROOM;
		float factor = round % 5 == 0 ? 1.0f : (float)next_random(&random) * 1e-9f;

		fill_finite(x + 1, type, n, &random);
		half_values(type, x + 1, wide, n);
		for (int isa = 0; isa < OPTIM_ISA_COUNT; isa++) {
			if (!optim_isa_usable((enum optim_isa)isa))
				continue;
			out[n] = 5;
			optim_scale((enum optim_isa)isa, out, (struct optim_gradient){ x + 1, factor, type }, n);
			for (size_t i = 0; i < n; i++)
				want[i] = factor * wide[i];
			assert_memory_equal(out, want, n * sizeof(float));
			optim_fold((enum optim_isa)isa, out, (struct optim_gradient){ x + 1, 0.3f, type }, n);
			for (size_t i = 0; i < n; i++) {
				volatile float product = 0.3f * wide[i];

				want[i] = want[i] + product;
			}
			assert_memory_equal(out, want, n * sizeof(float));
			assert_true(out[n] == 5);
		}
	}
}

static void test_finite_finds_the_first_bad_element(void **state)
{
	static uint16_t x[ROOM];
	uint64_t random = SEED;

	(void)state;
	for (int t = 0; t < 2; t++) {
		uint16_t infinite = TYPES[t] == DTYPE_BF16 ? 0x7f80 : 0x7c00;
		const uint16_t bad[] = { infinite, (uint16_t)(infinite | 0x8000), (uint16_t)(infinite | 1), 0xffff };

		fill_finite(x, TYPES[t], ROOM, &random);
		for (int isa = 0; isa < OPTIM_ISA_COUNT; isa++) {
			if (!optim_isa_usable((enum optim_isa)isa))
				continue;
			assert_int_equal(optim_finite((enum optim_isa)isa, x, TYPES[t], ROOM), ROOM);
			for (int round = 0; round < 200; round++) {
				size_t n = 1 + next_random(&random) % ROOM, first = next_random(&random) % n;
				uint16_t kept = x[first];

				x[first] = bad[round % 4];
				assert_int_equal(optim_finite((enum optim_isa)isa, x, TYPES[t], n), first);
				assert_int_equal(optim_finite((enum optim_isa)isa, x, TYPES[t], first), first);
				x[first] = kept;
			}
		}
	}
}

/* Of the tests' own conversion, which other tests make gradients with. */
static void test_all_values_come_back_through_float32(void **state)
{
	(void)state;
	for (int t = 0; t < 2; t++) {
		for (uint32_t bits = 0; bits < ALL; bits++) {
			if (isfinite(half_value(TYPES[t], (uint16_t)bits)))
				assert_int_equal(half_narrow(TYPES[t], half_value(TYPES[t], (uint16_t)bits)), bits);
		}
	}
}

static void test_finite_tells_all_values_apart(void **state)
{
	(void)state;
	for (int t = 0; t < 2; t++) {
		for (uint32_t bits = 0; bits < ALL; bits++) {
			uint16_t x = (uint16_t)bits;
			size_t want = isfinite(half_value(TYPES[t], x)) ? 1 : 0;

			for (int isa = 0; isa < OPTIM_ISA_COUNT; isa++) {
				if (optim_isa_usable((enum optim_isa)isa))
					assert_int_equal(optim_finite((enum optim_isa)isa, &x, TYPES[t], 1), want);
			}
		}
	}
}

/* Three updates from gradients as given. */
static void three_steps(const struct optim *optim, enum optim_isa isa, struct optim_gradient g, size_t n,
                        float a[1 + OPTIM_SLOTS_MAX][ROOM])
{
	struct optim_scalars scalars;
	struct optim_carry carry;
	float *slots[OPTIM_SLOTS_MAX];

	for (size_t i = 0; i < n; i++)
		a[0][i] = (float)i * 0.001f - 1.0f;
	for (uint32_t s = 0; s < OPTIM_SLOTS_MAX; s++) {
		slots[s] = a[1 + s];
		for (size_t i = 0; i < n; i++)
			a[1 + s][i] = s < optim_slot_count(optim) ? optim_slot_initial(optim, s) : 0;
	}
	optim_carry_initial(optim, &carry);
	for (uint64_t t = 1; t <= 3; t++) {
		optim_scalars(optim, t, &carry, &scalars);
		optim_step_from(optim, isa, &scalars, a[0], slots, g, n);
	}
}

static void test_updates_from_halves_are_those_from_the_float32(void **state)
{
	static float wide[ROOM], a[1 + OPTIM_SLOTS_MAX][ROOM], b[1 + OPTIM_SLOTS_MAX][ROOM];
	static uint16_t x[ROOM];
	uint64_t random = SEED;
	char why[200];

	(void)state;
	for (uint32_t r = 0; r < optim_rule_count(); r++) {
		const struct optim_rule *rule = optim_rule(r);
		enum dtype type = TYPES[r % 2];
		size_t n = r % 3 == 0 ? ROOM : 1 + next_random(&random) % ROOM;
		float factor = r % 5 < 2 ? 1.0f : 0.37f;
		const double limit = 0.25;
		struct optim optim;

		if (optim_rule_class(rule) != OPTIM_ELEMENTWISE)
			continue;
		assert_int_equal(optim_init(&optim, rule, OPTIM_TORCH2, why, sizeof(why)), 0);
		if (r % 4 == 0)
			optim_set(&optim, "clip_value", &limit, 1, why, sizeof(why));
		for (size_t i = 0; i < n; i++)
			x[i] = (uint16_t)((next_random(&random) & 0x83ff) | (type == DTYPE_BF16 ? 0x3f00 : 0x3800));
		half_values(type, x, wide, n);
		three_steps(&optim, OPTIM_ISA_BASE, (struct optim_gradient){ wide, factor, DTYPE_F32 }, n, b);
		for (int isa = 0; isa < OPTIM_ISA_COUNT; isa++) {
			if (!optim_isa_usable((enum optim_isa)isa))
				continue;
			three_steps(&optim, (enum optim_isa)isa, (struct optim_gradient){ x, factor, type }, n, a);
			for (int v = 0; v < 1 + OPTIM_SLOTS_MAX; v++)
				assert_memory_equal(a[v], b[v], n * sizeof(float));
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_of_all_values_becomes_the_float32_it_is),
		cmocka_unit_test(test_values_are_the_same_wherever_they_stand),
		cmocka_unit_test(test_scale_and_fold_do_as_with_the_float32),
		cmocka_unit_test(test_finite_finds_the_first_bad_element),
		cmocka_unit_test(test_all_values_come_back_through_float32),
		cmocka_unit_test(test_finite_tells_all_values_apart),
		cmocka_unit_test(test_updates_from_halves_are_those_from_the_float32),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
