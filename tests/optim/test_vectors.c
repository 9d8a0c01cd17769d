/*
 * The recorded runs of tests/vectors: every case of a rule that is built is
 * replayed and gives the recorded numbers, and none is left out by mistake.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/optim/vectors_replay.h"
#include "tests/support/vectors_compare.h"

#define FOLDER "tests/vectors"

static int open_set(void **state)
{
	char why[512];

	*state = vectors_open(FOLDER, why, sizeof(why));
	if (*state == NULL)
		print_error("%s (run from the top of the tree)\n", why);
	return *state == NULL ? -1 : 0;
}

static int close_set(void **state)
{
	vectors_close(*state);
	return 0;
}

/* Replays the cases of one manifest rule; returns how many passed. */
static uint32_t replay_rule(const struct vectors *set, const char *rule)
{
	uint32_t passed = 0;

	for (uint32_t i = 0; i < vectors_count(set); i++) {
		struct vectors_case row = vectors_case(set, i);
		char why[512];

		if (strcmp(row.rule, rule) != 0 || vectors_skip_reason(&row) != NULL)
			continue;
		if (vectors_run_case(set, &row, vectors_isas(NULL), why, sizeof(why)) < 0)
			fail_msg("%s: %s", row.name, why);
		passed++;
	}
	return passed;
}

/* The numbers are those of the column "run" in tests/vectors/README.md. */
static void test_rules_pass_all_their_cases(void **state)
{
	static const struct {
		const char *rule;
		uint32_t cases;
	} expected[] = {
		{ "sgd", 19 },         { "adagrad", 9 },       { "rmsprop", 17 },
		{ "adam", 23 },        { "adam_t2", 31 },      { "rmsprop_t2", 17 },
		{ "seed_sgd", 5 },     { "seed_momentum", 5 }, { "seed_adam", 5 },
		{ "seed_adagrad", 5 }, { "seed_rmsprop", 5 },  { "nadam", 4 },
		{ "nadam_t2", 22 },    { "asgd", 5 },          { "adamw", 9 },
		{ "adamw_t2", 17 },    { "radam", 5 },         { "radam_t2", 20 },
		{ "adamax", 5 },       { "adamax_t2", 15 },    { "adadelta", 5 },
		{ "rprop", 7 },        { "lion", 3 },          { "yogi", 3 },
		{ "ftrl", 4 },         { "fedavgm", 3 },       { "fedadagrad", 3 },
		{ "fedadam", 3 },      { "fedyogi", 3 },       { "diloco", 3 },
		{ "easgd", 3 },        { "ema", 3 },           { "swa", 3 },
		{ "lamb", 4 },         { "lars", 3 },          { "adafactor", 3 },
		{ "adafactor_paper", 2 }, { "muon", 4 },       { "clip_grad_norm", 5 }, { "clip_grad_value", 1 },
	};

	for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++)
		assert_int_equal(replay_rule(*state, expected[i].rule), expected[i].cases);
}

static void test_set_is_the_recorded_one(void **state)
{
	assert_int_equal(vectors_count(*state), 369);
}

/* 41 in float64, 8 by rows, 9 of policies over a rule. */
static void test_no_case_is_left_out_by_mistake(void **state)
{
	uint32_t run = 0;

	for (uint32_t i = 0; i < vectors_count(*state); i++) {
		struct vectors_case row = vectors_case(*state, i);

		run += vectors_skip_reason(&row) == NULL;
	}
	assert_int_equal(run, 369 - 41 - 8 - 9);
}

static void test_cases_of_built_rules_are_exact(void **state)
{
	for (uint32_t i = 0; i < vectors_count(*state); i++) {
		struct vectors_case row = vectors_case(*state, i);

		if (vectors_skip_reason(&row) == NULL && strcmp(row.kind, "ref") != 0 &&
		    strcmp(row.rule, "clip_grad_norm") != 0)
			assert_true(row.bitexact);
	}
}

/* A replay that compared nothing would pass too. */
static void test_replay_notices_a_wrong_setting(void **state)
{
	for (uint32_t i = 0; i < vectors_count(*state); i++) {
		struct vectors_case row = vectors_case(*state, i);
		char why[512] = "";

		if (strcmp(row.name, "adam_default.f32.1000") != 0)
			continue;
		row.hyper = "lr=0.0010000001;beta1=0.9;beta2=0.999";
		assert_int_equal(vectors_run_case(*state, &row, vectors_isas("base"), why,
		                                  sizeof(why)),
		                 -1);
		assert_non_null(strstr(why, "ULP"));
		return;
	}
	fail_msg("no adam_default.f32.1000");
}

static void test_distance_counts_representable_values(void **state)
{
	float one_up, nan_value;
	uint32_t bits = 0x3f800001, nan_bits = 0x7fc00001;

	(void)state;
	memcpy(&one_up, &bits, sizeof(bits));
	memcpy(&nan_value, &nan_bits, sizeof(nan_bits));
	assert_int_equal(vectors_ulp(1.0f, one_up), 1);
	assert_int_equal(vectors_ulp(1e-45f, -1e-45f), 2);
	assert_int_equal(vectors_ulp(0.0f, -0.0f), 0);
	assert_int_equal(vectors_ulp(nan_value, -nan_value), 0);
	assert_int_equal(vectors_ulp(nan_value, 1.0f), UINT32_MAX);
	assert_true(vectors_sulp(1.0f, one_up, 4.0f) == 0.25);
	assert_true(vectors_sulp(nan_value, 1.0f, 1.0f) > 1e30);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rules_pass_all_their_cases),
		cmocka_unit_test(test_set_is_the_recorded_one),
		cmocka_unit_test(test_no_case_is_left_out_by_mistake),
		cmocka_unit_test(test_cases_of_built_rules_are_exact),
		cmocka_unit_test(test_replay_notices_a_wrong_setting),
		cmocka_unit_test(test_distance_counts_representable_values),
	};

	return cmocka_run_group_tests(tests, open_set, close_set);
}
