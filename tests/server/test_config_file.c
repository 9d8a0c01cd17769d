/*
 * Config files: what YAML may hold, models, and the line that each mistake is
 * blamed on.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/server/config_support.h"

/* ---------------------------------------------------------------- the file */

static void test_unknown_key_names_line_and_nearest(void **state)
{
	(void)state;
	refuses("lanes: 1\n\nlisen: x\n",
	        "c.yaml:3: ", "unknown key \"lisen\"; the nearest is \"listen\"");
	refuses("limits:\n  memroy: 1GiB\n",
	        "c.yaml:2: ", "nearest is \"memory\", in section limits");
	refuses("memory: 1GiB\n", "c.yaml:1: ", "nearest is \"memory\", in section limits");
	refuses("limits.memory: 1GiB\n", "c.yaml:1: ", "nearest is \"memory\", in section limits");
	refuses("limit: {}\n", "c.yaml:1: ", "nearest is \"limits\"");
	refuses("models:\n- name: m\n  worker: 2\n",
	        "c.yaml:3: ", "nearest is \"workers\", in an entry of models");
	refuses("workers: 2\n", "c.yaml:1: ", "nearest is \"workers\"");
	refuses("limits: {mem: 1GiB}\n", "c.yaml:1: ", "nearest is \"memory\"");
}

static void test_unknown_key_that_is_like_none_is_told_where_all_are(void **state)
{
	(void)state;
	refuses("models:\n- name: m\n  lr: 2\n", "c.yaml:3: ",
	        "unknown key \"lr\"; none is like it: optd.yaml(5) lists all");
	refuses("ckpt: 2\n", "c.yaml:1: ", "unknown key \"ckpt\"; none is like it");
}

static void test_wrong_type_is_refused(void **state)
{
	(void)state;
	refuses("lanes: [1]", "c.yaml:1: ", "lanes: is a list; allowed: a whole number");
	refuses("lanes: {a: 1}", "c.yaml:1: ", "lanes: is a mapping");
	refuses("limits: 5", "c.yaml:1: ", "limits: is a single value; it is a section");
	refuses("limits:\n- 5", "c.yaml:2: ", "limits: is a list");
	refuses("- lanes", "c.yaml:1: ", "is not a configuration");
	refuses("hello", "c.yaml:1: ", "is not a configuration");
	refuses("? [a]\n: 1", "c.yaml:1: ", "a key must be a word");
	refuses("models: {name: m}", "c.yaml:1: ", "models: is a list");
	refuses("models: [m]", "c.yaml:1: ", "an entry begins with");
	refuses("listen: {a: b}", "c.yaml:1: ", "listen: is a mapping");
	refuses("listen: [[a]]", "c.yaml:1: ", "listen: is a list");
}

static void test_key_without_value_is_refused_but_empty_section_is_not(void **state)
{
	(void)state;
	refuses("step_timeout: 5s\nlanes:\nlog: {}\n", "c.yaml:2: ", "lanes: has no value");
	refuses("lanes: ~", "c.yaml:1: ", "has no value");
	refuses("data_dir: \"\"", "c.yaml:1: ", "is empty");
	accepts("limits:\n#  memory: 1GiB\nmodels:\n");
}

static void test_duplicate_key_names_both_lines(void **state)
{
	(void)state;
	refuses("lanes: 1\nlog: {}\nlanes: 2\n",
	        "c.yaml:3: ", "\"lanes\" is given twice; first on line 1");
	refuses("log:\n  level: info\n  level: warn\n", "c.yaml:3: ", "first on line 2");
	refuses("models:\n- name: a\n- name: a\n",
	        "c.yaml:3: ", "\"a\" is given twice; first on line 2");
}

static void test_anchors_aliases_and_tags_are_refused(void **state)
{
	(void)state;
	refuses("a: &a [x,x]\nb: &b [*a,*a]\n", "c.yaml:1: ", "anchors and aliases");
	refuses("lanes: *a\n", "c.yaml:1: ", "anchors and aliases");
	refuses("&a b: 1\n", "c.yaml:1: ", "anchors and aliases");
	refuses("lanes: !!int 1\n", "c.yaml:1: ", "tags");
}

static void test_deep_nesting_is_refused(void **state)
{
	static char deep[200000];

	(void)state;
	memset(deep, '[', sizeof(deep) - 1);
	refuses(deep, "c.yaml:1: ", "nested deeper than 10 levels");
	for (size_t i = 0; i + 2 < sizeof(deep); i += 2)
		memcpy(deep + i, "- ", 2);
	refuses(deep, "c.yaml:1: ", "nested deeper than 10 levels");
}

static void test_second_document_is_refused(void **state)
{
	(void)state;
	refuses("lanes: 1\n---\nlanes: 2\n", "c.yaml:2: ", "a second document begins");
}

static void test_tab_indentation_is_named(void **state)
{
	(void)state;
	refuses("limits:\n\tmemory: 1GiB\n", "c.yaml:2: ", "indented with a tab");
}

static void test_broken_yaml_names_its_line(void **state)
{
	(void)state;
	refuses("lanes: 1\nlisten: [a\n", "c.yaml:3: ", "not YAML: ");
	refuses("lanes: 1\nlog: \"x\n", "c.yaml:3: ", "not YAML: ");
	refuses("lanes: 1\n}\n", "c.yaml:2: ", "not YAML: ");
}

static void test_bad_utf8_and_control_characters_are_refused(void **state)
{
	(void)state;
	refuses("lanes: 1\ndata_dir: \xff\n", "c.yaml:2: ", "not UTF-8");
	refuses("lanes: 1\ndata_dir: a\x01"
	        "b\n",
	        "c.yaml:2: ", "not UTF-8");
	refuses("data_dir: \"a\\0b\"\n", "c.yaml:1: ", "control character");
	refuses("data_dir: \"a\\nb\"\n", "c.yaml:1: ", "control character");
	refuses("models: [{name: \"a\\x1bb\"}]\n", "c.yaml:1: ", "control character");
}

static void test_file_larger_than_limit_is_refused(void **state)
{
	char *text = malloc(LIMIT_CONFIG_BYTES + 2);

	(void)state;
	assert_non_null(text);
	memset(text, '\n', LIMIT_CONFIG_BYTES + 1);
	text[LIMIT_CONFIG_BYTES] = '\0';
	accepts(text);
	text[LIMIT_CONFIG_BYTES] = '\n';
	text[LIMIT_CONFIG_BYTES + 1] = '\0';
	refuses(text, "c.yaml:", "larger than 1048576 bytes");
	free(text);
}

static void test_too_many_values_are_refused(void **state)
{
	char *text = calloc(1, 200001);

	(void)state;
	assert_non_null(text);
	memcpy(text, "listen: [", 9);
	for (size_t i = 9; i + 2 < 200000; i += 2)
		memcpy(text + i, "a,", 2);
	refuses(text, "c.yaml:1: ", "more than 65536 values");
	free(text);
}

/* ---------------------------------------------------------------- models */

static void test_model_with_optimizer_is_read(void **state)
{
	const struct config_model *model = &config.models[0];

	(void)state;
	accepts("models:\n- name: fashion\n  optimizer: {lr: 1e-3, betas: [0.8, 0.99], name: adam, amsgrad: true,"
	        " match: torch1}\n  mode: sync\n  workers: 2\n  reduce: mean\n  step_timeout: 5s\n");
	assert_int_equal(config.model_count, 1);
	assert_string_equal(model->name, "fashion");
	assert_true(model->optimizer_given);
	assert_string_equal(optim_rule_name(model->optimizer.rule), "adam");
	assert_int_equal(model->optimizer.match, OPTIM_TORCH1);
	assert_int_equal(optim_slot_count(&model->optimizer), 3);
	assert_int_equal(model->mode, MSG_SYNC);
	assert_int_equal(model->workers, 2);
	assert_int_equal(model->reduce, MSG_MEAN);
	assert_int_equal(model->step_timeout_ms, 5000);
}

static void test_model_leaves_to_the_worker_what_is_not_given(void **state)
{
	(void)state;
	accepts("models: [{name: m}]");
	assert_false(config.models[0].optimizer_given);
	assert_int_equal(config.models[0].mode, MSG_MODE_UNSET);
	assert_int_equal(config.models[0].reduce, MSG_REDUCE_UNSET);
	assert_int_equal(config.models[0].workers, 0);
	assert_int_equal(config.models[0].step_timeout_ms, 0);
}

static void test_optimizer_may_be_a_name(void **state)
{
	struct optim defaults;

	(void)state;
	accepts("models: [{name: m, optimizer: sgd}]");
	assert_int_equal(optim_init(&defaults, optim_find("sgd"), OPTIM_TORCH2, why, sizeof(why)),
	                 0);
	assert_int_equal(optim_compare(&config.models[0].optimizer, &defaults, why, sizeof(why)),
	                 0);
}

/* Given an entry with this optimizer on line 3. */
static void refuses_optimizer(const char *optimizer, const char *what)
{
	char text[256];

	snprintf(text, sizeof(text), "models:\n- name: m\n  optimizer: %s\n", optimizer);
	refuses(text, "c.yaml:3: ", what);
}

static void test_bad_optimizers_are_refused(void **state)
{
	(void)state;
	refuses_optimizer("adm", "no optimizer 'adm'; the nearest is 'adam'");
	refuses_optimizer("levenberg", "no optimizer 'levenberg'; optctl rules lists all");
	refuses_optimizer("{name: adam, learning_rate: 1}",
	                  "adam has no hyper-parameter 'learning_rate'; it is called 'lr'; it has lr betas ");
	refuses_optimizer("{lr: 1}", "has no name");
	refuses_optimizer("[adam]", "must be a name");
	refuses_optimizer("~", "must be a name");
	refuses_optimizer("{name: [adam]}", "the name must be a word");
	refuses_optimizer("{name: adam, match: torch3}", "match is not known");
	refuses_optimizer("{name: adam, match: [torch2]}", "match is not known");
	refuses_optimizer("{name: adam, lrr: 1}", "nearest is 'lr'");
	refuses_optimizer("{name: adam, lr: -1}", "lr=-1 is out of range");
	refuses_optimizer("{name: adam, betas: [0.9]}", "betas takes 2 values, given 1");
	refuses_optimizer("{name: adam, betas: [0.9, 0.9, 0.9]}", "betas takes 2 values, given 3");
	refuses_optimizer("{name: adam, betas: 0.9}", "betas takes 2 values, given 1");
	refuses_optimizer("{name: adam, betas: [0.9, [1]]}", "is not a list of two numbers");
	refuses_optimizer("{name: muon, adjust_lr_fn: match_rms_adamw}", "0 is PyTorch's \"original\", 1 its");
	refuses_optimizer("{name: adafactor, eps: [null, 0.001]}", "write [1.1920929e-7, 0.001]");
	refuses_optimizer("{name: adam, lr: {a: b}}", "is not a number");
	refuses_optimizer("{name: sgd, nesterov: true}", "nesterov");
	refuses_optimizer("{name: adam, lr: 1, lr: 1}", "\"lr\" is given twice");
}

static void test_hyper_parameters_are_read_strictly(void **state)
{
	static const char *const bad[] = { "1e-3x",   "0x1p-3", "nan", "inf", "1e999",
		                           "\"0.1\"", "1,5",    ".5",  "5.",  "1e",
		                           "true",    "--1",    "",    "1 2" };
	char text[128];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(text, sizeof(text),
		         "models:\n- name: m\n  optimizer:\n    name: adam\n    lr: %s\n", bad[i]);
		refuses(text, "c.yaml:5: ", "is not a number, such as 0.001 or 1e-3");
	}
	refuses_optimizer("{name: adam, amsgrad: 2}", "is not true or false");
	refuses_optimizer("{name: adam, amsgrad: yes}", "is not true or false");
	accepts("models: [{name: m, optimizer: {name: adam, lr: +1.5E-3, eps: 1e-10}}]");
}

static void test_model_needs_a_name_within_limits(void **state)
{
	char text[LIMIT_NAME_BYTES + 64] = "models: [{name: ";
	size_t start = strlen(text);

	(void)state;
	refuses("models:\n- workers: 2\n", "c.yaml:2: ", "this entry has no name");
	/* The library takes as much: 511 bytes. */
	memset(text + start, 'n', LIMIT_NAME_BYTES - 1);
	strcpy(text + start + LIMIT_NAME_BYTES - 1, "}]");
	accepts(text);
	memset(text + start, 'n', LIMIT_NAME_BYTES);
	strcpy(text + start + LIMIT_NAME_BYTES, "}]");
	refuses(text, "c.yaml:1: ", "is too long; allowed: text of 1 to 511 bytes");
}

static void test_models_stay_within_limits(void **state)
{
	char text[4096] = "models:\n";

	(void)state;
	for (uint32_t i = 0; i <= LIMIT_MODELS; i++)
		snprintf(text + strlen(text), 32, "- name: m%u\n", i);
	refuses(text, "c.yaml:66: ", "more than 64 entries");
	refuses("limits: {models: 1}\nmodels:\n- name: a\n- name: b\n",
	        "c.yaml:4: ", "limits.models allows 1");
	refuses("limits: {workers: 3}\nmodels:\n- name: a\n  workers: 4\n",
	        "c.yaml:3: ", "limits.workers allows 3");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unknown_key_names_line_and_nearest),
		cmocka_unit_test(test_unknown_key_that_is_like_none_is_told_where_all_are),
		cmocka_unit_test(test_wrong_type_is_refused),
		cmocka_unit_test(test_key_without_value_is_refused_but_empty_section_is_not),
		cmocka_unit_test(test_duplicate_key_names_both_lines),
		cmocka_unit_test(test_anchors_aliases_and_tags_are_refused),
		cmocka_unit_test(test_deep_nesting_is_refused),
		cmocka_unit_test(test_second_document_is_refused),
		cmocka_unit_test(test_tab_indentation_is_named),
		cmocka_unit_test(test_broken_yaml_names_its_line),
		cmocka_unit_test(test_bad_utf8_and_control_characters_are_refused),
		cmocka_unit_test(test_file_larger_than_limit_is_refused),
		cmocka_unit_test(test_too_many_values_are_refused),
		cmocka_unit_test(test_model_with_optimizer_is_read),
		cmocka_unit_test(test_model_leaves_to_the_worker_what_is_not_given),
		cmocka_unit_test(test_optimizer_may_be_a_name),
		cmocka_unit_test(test_bad_optimizers_are_refused),
		cmocka_unit_test(test_hyper_parameters_are_read_strictly),
		cmocka_unit_test(test_model_needs_a_name_within_limits),
		cmocka_unit_test(test_models_stay_within_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
