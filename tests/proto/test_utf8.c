/* UTF-8: what passes, and where what does not pass is cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/utf8.h"

static void test_characters_of_every_length_pass(void **state)
{
	static const char *const good[] = {"plain", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80",
	                                   "\xed\x9f\xbf", "\xee\x80\x80", "\xef\xbf\xbf",
	                                   "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"};

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_true(utf8_valid(good[i], strlen(good[i])));
	assert_true(utf8_valid(NULL, 0));
}

static void test_overlong_surrogate_and_too_high_forms_do_not(void **state)
{
	static const char *const bad[] = {"\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xe0\x9f\xbf",
	                                  "\xed\xa0\x80", "\xed\xbf\xbf", "\xf0\x8f\xbf\xbf",
	                                  "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "\xc3(",
	                                  "\xe2\x82(", "\xf0\x90\x80("};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(utf8_prefix(bad[i], strlen(bad[i])), 0);
}

static void test_a_character_cut_short_does_not(void **state)
{
	(void)state;
	assert_int_equal(utf8_prefix("a\xf0\x90\x80\x80", 5), 5);
	for (size_t size = 1; size < 5; size++)
		assert_int_equal(utf8_prefix("a\xf0\x90\x80\x80", size), 1);
}

static void test_nul_ends_the_good_part(void **state)
{
	(void)state;
	assert_int_equal(utf8_prefix("ab\0cd", 5), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_characters_of_every_length_pass),
	        cmocka_unit_test(test_overlong_surrogate_and_too_high_forms_do_not),
	        cmocka_unit_test(test_a_character_cut_short_does_not),
	        cmocka_unit_test(test_nul_ends_the_good_part),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
