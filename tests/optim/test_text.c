/*
 * Settings as text, and what differs between two of them.
 */
#include <float.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "optim/optim.h"

static struct optim make(const char *rule, enum optim_match match)
{
	struct optim optim;
	char why[256];

	assert_int_equal(optim_init(&optim, optim_find(rule), match, why, sizeof(why)), 0);
	return optim;
}

/* The value that stands behind " lr=" in the text. */
static double lr_read_back(const struct optim *optim)
{
	char text[512];
	const char *lr;

	optim_text(optim, text, sizeof(text));
	lr = strstr(text, " lr=");
	assert_non_null(lr);
	return strtod(lr + 4, NULL);
}

static void test_numbers_in_text_read_back_the_same(void **state)
{
	static const double edges[] = { 0,   DBL_MIN, DBL_TRUE_MIN, FLT_MAX,
		                        0.1, 1.0 / 3, 1e-3,         123456789.123 };
	struct optim optim = make("sgd", OPTIM_TORCH2);
	char why[256];

	(void)state;
	for (size_t i = 0; i < sizeof(edges) / sizeof(edges[0]); i++) {
		assert_int_equal(optim_set(&optim, "lr", &edges[i], 1, why, sizeof(why)), 0);
		assert_true(lr_read_back(&optim) == edges[i]);
	}
}

static void test_random_numbers_in_text_read_back_the_same(void **state)
{
	struct optim optim = make("sgd", OPTIM_TORCH2);
	uint64_t random = 20261122;
	char why[256];

	(void)state;
	print_message("seed %llu\n", (unsigned long long)random);
	for (int i = 0; i < 1000; i++) {
		double lr;

		random = random * 6364136223846793005u + 1442695040888963407u;
		lr = (double)(random >> 11) / 9007199254740992.0 * (i % 7 == 0 ? 1e-12 : 1);
		assert_int_equal(optim_set(&optim, "lr", &lr, 1, why, sizeof(why)), 0);
		assert_true(lr_read_back(&optim) == lr);
	}
}

static void test_text_has_the_fewest_digits(void **state)
{
	struct optim optim = make("momentum", OPTIM_TORCH2);
	double lr = 0.3, mu = 0.1 + 0.2;
	char text[256], why[256];

	(void)state;
	assert_int_equal(optim_set(&optim, "lr", &lr, 1, why, sizeof(why)), 0);
	assert_int_equal(optim_set(&optim, "momentum", &mu, 1, why, sizeof(why)), 0);
	optim_text(&optim, text, sizeof(text));
	assert_string_equal(text, "momentum lr=0.3 momentum=0.30000000000000004");
}

static void test_text_is_cut_to_its_room(void **state)
{
	struct optim optim = make("adam", OPTIM_TORCH2);
	char whole[512], text[512];

	(void)state;
	optim_text(&optim, whole, sizeof(whole));
	for (size_t room = 1; room <= strlen(whole) + 1; room++) {
		memset(text, '#', sizeof(text));
		optim_text(&optim, text, room);
		assert_int_equal(strlen(text), room - 1);
		assert_memory_equal(text, whole, room - 1);
		assert_int_equal(text[room], '#');
	}
}

static void test_equal_settings_compare_equal(void **state)
{
	struct optim a = make("adam", OPTIM_TORCH2), b = a;
	char why[256];

	(void)state;
	assert_int_equal(optim_compare(&a, &b, why, sizeof(why)), 0);
}

static void test_compare_names_the_first_difference_with_both_values(void **state)
{
	struct optim adam = make("adam", OPTIM_TORCH2), other = adam;
	struct optim sgd = make("sgd", OPTIM_TORCH2), numpy = make("adam", OPTIM_NUMPY);
	double betas[2] = { 0.9, 0.99 };
	char why[256];

	(void)state;
	assert_int_equal(optim_set(&other, "betas", betas, 2, why, sizeof(why)), 0);
	assert_int_equal(optim_compare(&adam, &other, why, sizeof(why)), -1);
	assert_string_equal(why, "betas: here [0.9,0.999], the model has [0.9,0.99]");
	assert_int_equal(optim_compare(&adam, &sgd, why, sizeof(why)), -1);
	assert_string_equal(why, "optimizer: here adam, the model has sgd");
	assert_int_equal(optim_compare(&numpy, &adam, why, sizeof(why)), -1);
	assert_string_equal(why, "match: here numpy, the model has torch2");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_numbers_in_text_read_back_the_same),
		cmocka_unit_test(test_random_numbers_in_text_read_back_the_same),
		cmocka_unit_test(test_text_has_the_fewest_digits),
		cmocka_unit_test(test_text_is_cut_to_its_room),
		cmocka_unit_test(test_equal_settings_compare_equal),
		cmocka_unit_test(test_compare_names_the_first_difference_with_both_values),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
