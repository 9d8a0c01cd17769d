/* Glob: what a pattern matches, that none takes long, and what is no pattern. */
#include <fnmatch.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "proto/glob.h"
#include "proto/status.h"
#include "tests/support/rng_seed.h"

static char why[256];

static bool matches(const char *pattern, const char *text)
{
	struct glob glob;

	if (glob_parse(&glob, pattern, why, sizeof(why)) < 0)
		fail_msg("'%s' %s", pattern, why);
	return glob_match(&glob, text);
}

static void test_letters_match_themselves_and_the_whole_name(void **state)
{
	(void)state;
	assert_true(matches("fc1.bias", "fc1.bias"));
	assert_false(matches("fc1.bias", "fc1.bia"));
	assert_false(matches("fc1.bias", "fc1.bias2"));
	assert_false(matches("bias", "fc1.bias"));
	assert_false(matches("a.b", "axb"));
}

static void test_star_takes_any_characters_and_none(void **state)
{
	(void)state;
	assert_true(matches("*.bias", "block.3.fc.bias"));
	assert_true(matches("*", ""));
	assert_true(matches("bn*mean", "bn1.running_mean"));
	assert_true(matches("a**b*", "ab"));
	assert_false(matches("*.bias", "fc.bias.x"));
}

static void test_question_mark_takes_one_character(void **state)
{
	(void)state;
	assert_true(matches("bn?.running_*", "bn2.running_var"));
	assert_false(matches("bn?.running_*", "bn.running_var"));
	assert_false(matches("bn?.running_*", "bn12.running_var"));
}

static void test_a_character_of_several_bytes_is_one(void **state)
{
	(void)state;
	assert_true(matches("a?b", "a\xc3\xa9"
	                           "b"));
	assert_true(matches("a[!x]b", "a\xf0\x9f\x98\x80"
	                              "b"));
	assert_false(matches("a??b", "a\xc3\xa9"
	                             "b"));
	assert_true(matches("\xc3\xa9*", "\xc3\xa9"));
	assert_false(matches("a?", "a"));
}

static void test_set_takes_one_of_its_characters(void **state)
{
	(void)state;
	assert_true(matches("layer.[0-4].*", "layer.3.w"));
	assert_false(matches("layer.[0-4].*", "layer.5.w"));
	assert_true(matches("[!a-c]", "d"));
	assert_false(matches("[!a-c]", "b"));
	assert_true(matches("[]-]", "-"));
	assert_true(matches("[]-]", "]"));
	assert_true(matches("[*][?][[]", "*?["));
	assert_false(matches("[*]", "x"));
}

/* libc's, which has other bounds, as the second opinion. */
static void test_matching_agrees_with_fnmatch(void **state)
{
	static const char *const items[] = {"a", "b", ".", "*", "?", "[ab]", "[!a]", "[.-b]", "*", "a"};
	static const char letters[] = "ab.c";
	struct rng rng = rng_new(rng_seed());
	uint32_t matched = 0;

	(void)state;
	for (uint32_t round = 0; round < 200000; round++) {
		char pattern[64] = "", text[16] = "";
		for (uint32_t i = 1 + rng_below(&rng, 7); i > 0; i--)
			strcat(pattern, items[rng_below(&rng, 10)]);
		for (uint32_t i = 0, n = rng_below(&rng, 9); i < n; i++)
			text[i] = letters[rng_below(&rng, 4)];
		bool expected = fnmatch(pattern, text, 0) == 0;
		matched += expected;
		if (matches(pattern, text) != expected)
			fail_msg("'%s' and '%s': fnmatch says %d", pattern, text, expected);
	}
	assert_in_range(matched, 20000, 180000);
}

static void test_pattern_of_any_length_is_matched_to_its_end(void **state)
{
	char pattern[LIMIT_PATTERN_BYTES], text[LIMIT_PATTERN_BYTES + 1];

	(void)state;
	for (uint32_t n = 1; n < LIMIT_PATTERN_BYTES; n++) {
		memset(pattern, 'a', n);
		memset(text, 'a', n + 1);
		pattern[n] = text[n] = text[n + 1] = '\0';
		pattern[n / 2] = '?';
		assert_true(matches(pattern, text));
		text[n - 1] = n - 1 == n / 2 ? 'a' : 'b';
		assert_true(matches(pattern, text) == (n - 1 == n / 2));
		text[n] = 'a';
		assert_false(matches(pattern, text));
	}
}

/* What comes back to each star would take 10^60 steps for it. */
static void test_pattern_made_to_be_slow_ends(void **state)
{
	char pattern[LIMIT_PATTERN_BYTES] = "", text[LIMIT_NAME_BYTES];
	struct glob glob;

	(void)state;
	for (uint32_t i = 0; i + 2 < LIMIT_PATTERN_BYTES - 1; i += 2)
		memcpy(pattern + i, "*a", 2);
	memset(text, 'a', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	strcat(pattern, "b");
	assert_int_equal(glob_parse(&glob, pattern, why, sizeof(why)), OPTD_OK);
	for (uint32_t i = 0; i < 10000; i++)
		assert_false(glob_match(&glob, text));
}

static void test_what_is_no_pattern_is_refused_with_a_reason(void **state)
{
	char longest[LIMIT_PATTERN_BYTES + 1];
	struct glob glob;
	static const char *const bad[] = {"", "[", "a[b", "[!", "[]", "[z-a]", "[\xc3\xa9]", "[a-\xc3\xa9]"};
	static const char *const whys[] = {"1 to 255 bytes", "without its ']'", "without its ']'",
	                                   "without its ']'", "without its ']'", "ASCII characters that ascend",
	                                   "ASCII characters", "ASCII characters"};

	(void)state;
	for (uint32_t i = 0; i < 8; i++) {
		assert_int_equal(glob_parse(&glob, bad[i], why, sizeof(why)), OPTD_INVALID);
		if (!strstr(why, whys[i]))
			fail_msg("'%s': %s", bad[i], why);
	}
	memset(longest, 'a', sizeof(longest));
	longest[LIMIT_PATTERN_BYTES] = '\0';
	assert_int_equal(glob_parse(&glob, longest, why, sizeof(why)), OPTD_INVALID);
	longest[LIMIT_PATTERN_BYTES - 1] = '\0';
	assert_int_equal(glob_parse(&glob, longest, why, sizeof(why)), OPTD_OK);
}

static void test_distance_is_letters_to_change_and_stars_are_free(void **state)
{
	(void)state;
	assert_int_equal(glob_distance("*.bias", "fc1.bias"), 0);
	assert_int_equal(glob_distance("*.biass", "fc1.bias"), 1);
	assert_int_equal(glob_distance("*.weigth", "fc1.weight"), 2);
	assert_int_equal(glob_distance("bn?.mean", "bn.mean"), 1);
	assert_int_equal(glob_distance("fc[12].x", "fc3.x"), 0);
	assert_int_equal(glob_distance("abc", ""), 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_letters_match_themselves_and_the_whole_name),
	        cmocka_unit_test(test_star_takes_any_characters_and_none),
	        cmocka_unit_test(test_question_mark_takes_one_character),
	        cmocka_unit_test(test_a_character_of_several_bytes_is_one),
	        cmocka_unit_test(test_set_takes_one_of_its_characters),
	        cmocka_unit_test(test_matching_agrees_with_fnmatch),
	        cmocka_unit_test(test_pattern_of_any_length_is_matched_to_its_end),
	        cmocka_unit_test(test_pattern_made_to_be_slow_ends),
	        cmocka_unit_test(test_what_is_no_pattern_is_refused_with_a_reason),
	        cmocka_unit_test(test_distance_is_letters_to_change_and_stars_are_free),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
