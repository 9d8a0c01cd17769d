/* nonfinite and loss_scale in the config: how they are written, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/server/config_support.h"

#define MODEL(settings) "models:\n- name: m\n  " settings "\n"

static const struct msg_loss_scale *scale(void)
{
	return &config.models[0].loss_scale;
}

static void test_policies_are_words(void **state)
{
	(void)state;
	accepts(MODEL("mode: sync"));
	assert_int_equal(config.models[0].nonfinite, MSG_NONFINITE_UNSET);
	accepts(MODEL("nonfinite: skip_step"));
	assert_int_equal(config.models[0].nonfinite, MSG_SKIP_STEP);
	accepts(MODEL("nonfinite: reject"));
	assert_int_equal(config.models[0].nonfinite, MSG_REJECT);
	accepts(MODEL("nonfinite: zero"));
	assert_int_equal(config.models[0].nonfinite, MSG_ZERO);
	refuses(MODEL("nonfinite: skip"), "c.yaml:3: ", "one of skip_step, reject, zero");
}

static void test_loss_scale_has_pytorchs_defaults(void **state)
{
	(void)state;
	accepts(MODEL("loss_scale: {}"));
	assert_true(scale()->given && scale()->init_scale == 65536 && scale()->growth_factor == 2);
	assert_true(scale()->backoff_factor == 0.5);
	assert_int_equal(scale()->growth_interval, 2000);
	accepts(MODEL("loss_scale: {init_scale: 1024, backoff_factor: 0.25, growth_interval: 7, growth_factor: 1.5}"));
	assert_true(scale()->init_scale == 1024 && scale()->growth_factor == 1.5);
	assert_true(scale()->backoff_factor == 0.25);
	assert_int_equal(scale()->growth_interval, 7);
}

static void test_loss_scales_that_are_none_are_refused(void **state)
{
	(void)state;
	refuses(MODEL("loss_scale: 65536"), "c.yaml:3: ", "must be {init_scale: 65536");
	refuses(MODEL("loss_scale: dynamic"), "c.yaml:3: ", "must be {init_scale: 65536");
	refuses(MODEL("loss_scale: [1]"), "c.yaml:3: ", "must be {init_scale: 65536");
	refuses(MODEL("loss_scale: {scale: 3}"), "c.yaml:3: ", "\"scale\" is not known; it has init_scale");
	refuses(MODEL("loss_scale: {init_scale: x}"), "c.yaml:3: ", "init_scale is not a number above 0");
	refuses(MODEL("loss_scale: {init_scale: 0}"), "c.yaml:3: ", "init_scale is not a number above 0");
	refuses(MODEL("loss_scale: {init_scale: 1e39}"), "c.yaml:3: ", "init_scale is 1e+39");
	refuses(MODEL("loss_scale: {growth_factor: 0.5}"), "c.yaml:3: ", "growth_factor is 0.5; it must be more than 1");
	refuses(MODEL("loss_scale: {backoff_factor: 2}"), "c.yaml:3: ", "backoff_factor is 2");
	refuses(MODEL("loss_scale: {growth_interval: 1.5}"), "c.yaml:3: ", "growth_interval must be a whole number");
	refuses(MODEL("loss_scale: {growth_interval: 2147483648}"), "c.yaml:3: ", "growth_interval must be a whole");
	refuses(MODEL("loss_scale: {growth_interval: -1}"), "c.yaml:3: ", "growth_interval must be a whole number");
	refuses(MODEL("loss_scale: {init_scale: 1, init_scale: 2}"), "c.yaml:3: ", "init_scale");
}

static void test_what_does_not_go_together_is_refused(void **state)
{
	(void)state;
	refuses(MODEL("mode: async\n  nonfinite: skip_step"), "c.yaml:2: ", "model m: nonfinite: skip_step is for mode sync");
	refuses(MODEL("mode: async\n  loss_scale: {}"), "c.yaml:2: ", "loss_scale is for mode sync");
	refuses(MODEL("nonfinite: zero\n  loss_scale: {}"), "c.yaml:2: ", "loss_scale needs nonfinite: skip_step");
	accepts(MODEL("mode: async\n  nonfinite: zero"));
	accepts(MODEL("mode: sync\n  nonfinite: skip_step\n  loss_scale: {}"));
}

static void test_printed_settings_read_back_the_same(void **state)
{
	static const char *const texts[] = {
		MODEL("nonfinite: zero"),
		MODEL("loss_scale: {}"),
		MODEL("loss_scale: {init_scale: 0.30000000000000004, growth_factor: 1.0000001, growth_interval: 2147483647}"),
	};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		accepts(texts[i]);
		reads_back_the_same();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_policies_are_words),
		cmocka_unit_test(test_loss_scale_has_pytorchs_defaults),
		cmocka_unit_test(test_loss_scales_that_are_none_are_refused),
		cmocka_unit_test(test_what_does_not_go_together_is_refused),
		cmocka_unit_test(test_printed_settings_read_back_the_same),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
