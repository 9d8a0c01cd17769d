/* Nearest: which name was meant. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "proto/limits.h"
#include "proto/nearest.h"

static const char *nearest(const char *name, const char *one, const char *two)
{
	struct nearest found = nearest_of(name);
	nearest_try(&found, one);
	nearest_try(&found, two);
	return found.best;
}

static void test_fewest_letters_win_and_the_first_of_equals(void **state)
{
	(void)state;
	assert_string_equal(nearest("adamm", "adagrad", "adam"), "adam");
	assert_string_equal(nearest("layer0", "layer1", "layer2"), "layer1");
}

static void test_a_letter_of_the_other_case_is_nearer_than_any_other(void **state)
{
	(void)state;
	assert_string_equal(nearest("AdamW", "adam", "adamw"), "adamw");
	assert_string_equal(nearest("WEIGHT", "BRIGHT", "weight"), "weight");
	assert_string_equal(nearest("Tokens", "tOKENS", "tokens"), "tokens");
}

static void test_the_name_itself_wins_over_another_case(void **state)
{
	(void)state;
	assert_string_equal(nearest("w", "W", "w"), "w");
}

static void test_nothing_is_near_where_more_than_half_differs(void **state)
{
	(void)state;
	assert_null(nearest("nope", "nanad", "fashion"));
	assert_null(nearest("", "w", "bias"));
	assert_null(nearest("w", "b", "x"));
	assert_string_equal(nearest("abcd", "abxy", "abxyz"), "abxy");
}

static void test_long_names_are_compared_by_their_beginning(void **state)
{
	static char name[5000];

	(void)state;
	memset(name, 'x', sizeof(name) - 1);
	assert_null(nearest(name, "fc1.weight", "x"));
	assert_string_equal(nearest(name, "fc1.weight", name + 4), name + 4);
}

static void test_case_of_any_number_of_letters_is_less_than_one_letter(void **state)
{
	static char name[LIMIT_NAME_BYTES + 1], other[LIMIT_NAME_BYTES + 1], near[LIMIT_NAME_BYTES + 1];

	(void)state;
	memset(name, 'x', LIMIT_NAME_BYTES);
	memset(other, 'X', LIMIT_NAME_BYTES);
	memset(near, 'x', LIMIT_NAME_BYTES);
	near[7] = 'y';
	assert_string_equal(nearest(name, near, other), other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_fewest_letters_win_and_the_first_of_equals),
	        cmocka_unit_test(test_a_letter_of_the_other_case_is_nearer_than_any_other),
	        cmocka_unit_test(test_the_name_itself_wins_over_another_case),
	        cmocka_unit_test(test_nothing_is_near_where_more_than_half_differs),
	        cmocka_unit_test(test_long_names_are_compared_by_their_beginning),
	        cmocka_unit_test(test_case_of_any_number_of_letters_is_less_than_one_letter),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
