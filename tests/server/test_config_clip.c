/* Config: limits on the norm of a step's gradient. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/server/config_support.h"

static void test_limits_are_read_and_printed_back(void **state)
{
	(void)state;
	accepts("models:\n"
	        "- {name: a, clip_norm: 1}\n"
	        "- {name: b, mode: sync, clip_tensor_norm: 0.25, clip_norm_type: inf}\n"
	        "- {name: c, clip_norm: 1e-3, clip_norm_type: 1.5}\n"
	        "- {name: d}\n");
	assert_true(config.models[0].clip.norm == 1 && config.models[0].clip.norm_type == 0);
	assert_true(config.models[1].clip.tensor_norm == 0.25 && isinf(config.models[1].clip.norm_type));
	assert_true(config.models[2].clip.norm == 1e-3 && config.models[2].clip.norm_type == 1.5);
	assert_true(config.models[3].clip.norm == 0);
	reads_back_the_same();
}

static void test_what_is_no_limit_is_refused_with_its_line(void **state)
{
	(void)state;
	refuses("models:\n- {name: a,\n   clip_norm: 0}", "c.yaml:3: ", "\"0\" is out of range; allowed: a number above 0");
	refuses("models: [{name: a, clip_norm: -1}]", "c.yaml:1: ", "out of range");
	refuses("models: [{name: a, clip_norm: inf}]", "c.yaml:1: ", "is not a number");
	refuses("models: [{name: a, clip_norm: 1x}]", "c.yaml:1: ", "is not a number");
	refuses("models: [{name: a, clip_norm: \"1\"}]", "c.yaml:1: ", "stands in quotes");
	refuses("models: [{name: a, clip_norm: 1, clip_norm_type: 0.5}]", "c.yaml:1: ",
	        "\"0.5\" is out of range; allowed: a number from 1 on, or inf");
	refuses("models: [{name: a, clip_norm: 1, clip_norm_type: nan}]", "c.yaml:1: ", "is not a number");
	refuses("models: [{name: a, clip_nrom: 1}]", "c.yaml:1: ", "clip_norm");
}

static void test_what_does_not_go_together_is_refused(void **state)
{
	(void)state;
	refuses("models:\n- {name: a, clip_norm: 1, clip_tensor_norm: 2}", "c.yaml:2: ", "a model has one of them");
	refuses("models:\n- {name: a, clip_norm_type: 1}", "c.yaml:2: ", "there is no limit");
	refuses("models:\n- {name: a, mode: async, clip_norm: 1}", "c.yaml:2: ", "the mode is async");
}

static void test_memory_of_one_worker_counts_the_step_that_is_collected(void **state)
{
	char *text = NULL;
	size_t bytes = 0;

	(void)state;
	accepts("models: [{name: a, optimizer: adam, mode: sync, workers: 1, clip_norm: 1}]");
	FILE *out = open_memstream(&text, &bytes);
	assert_non_null(out);
	config_print_memory(&config, out);
	fclose(out);
	assert_non_null(strstr(text, "the step being collected"));
	assert_non_null(strstr(text, "1,000,000 parameters take 16,000,000 bytes"));
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_limits_are_read_and_printed_back),
		cmocka_unit_test(test_what_is_no_limit_is_refused_with_its_line),
		cmocka_unit_test(test_what_does_not_go_together_is_refused),
		cmocka_unit_test(test_memory_of_one_worker_counts_the_step_that_is_collected),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
