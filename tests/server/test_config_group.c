/* Parameter groups in the config: how they are written, printed, and refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/server/config_support.h"

#define MODEL(groups) "models:\n- name: m\n  optimizer: {groups: " groups ", name: adamw, lr: 0.5}\n"

static const struct groups *groups(void)
{
	return &config.models[0].groups;
}

static double value(uint32_t group, const char *name)
{
	const struct optim *optim = &groups()->list[group].optim;

	for (uint32_t i = 0; i < optim_hyper_count(optim->rule); i++) {
		if (strcmp(optim_hyper(optim->rule, i)->name, name) == 0)
			return optim->values[i][0];
	}
	fail_msg("no %s", name);
	return 0;
}

static void test_group_has_what_it_names_and_else_the_models(void **state)
{
	(void)state;
	accepts(MODEL("[{tensors: \"*.bias\", weight_decay: 0}, {tensors: 'bn?.running_*', name: average}]"));
	assert_int_equal(groups()->count, 2);
	assert_string_equal(groups()->list[0].tensors, "*.bias");
	assert_true(value(0, "weight_decay") == 0 && value(0, "lr") == 0.5);
	assert_string_equal(optim_rule_name(groups()->list[1].optim.rule), "average");
}

static void test_group_may_be_frozen(void **state)
{
	(void)state;
	accepts(MODEL("[{tensors: a, frozen: true}, {tensors: b, frozen: false, lr: 1}]"));
	assert_true(groups()->list[0].frozen);
	assert_false(groups()->list[1].frozen);
}

static void test_factor_multiplies_the_groups_own_rate(void **state)
{
	(void)state;
	accepts(MODEL("[{tensors: a, lr_factor: 0.25}, {tensors: b, lr_factor: 0.5, lr: 3}]"));
	assert_true(value(0, "lr") == 0.125);
	assert_true(value(1, "lr") == 1.5);
}

static void test_schedule_is_the_models_or_the_groups_own(void **state)
{
	(void)state;
	accepts("models:\n- name: m\n  optimizer: {name: adamw, schedule: {name: cosine, T_max: 9}, groups: [{tensors: a}, "
	        "{tensors: b, schedule: constant}, {tensors: c, name: adam}]}\n");
	assert_int_equal(groups()->list[0].optim.schedule.parts[0].kind, SCHEDULE_COSINE);
	assert_int_equal(groups()->list[1].optim.schedule.parts[0].kind, SCHEDULE_CONSTANT);
	assert_int_equal(groups()->list[2].optim.schedule.part_count, 0);
}

static void test_printed_groups_read_back_the_same(void **state)
{
	static const char *const texts[] = {
		MODEL("[{tensors: '*.bias', weight_decay: 0}, {tensors: \"q\\\"[!a-c]\\\\?\", name: average}]"),
		MODEL("[{tensors: embed.*, lr_factor: 0.30000000000000004}, {tensors: 'f*', frozen: true}]"),
		MODEL("[{tensors: a, schedule: {name: multistep, milestones: [5, 20]}, betas: [0.8, 0.9]}]"),
		"models:\n- name: m\n  optimizer: {name: adam, schedule: {name: cosine, T_max: 9}, groups: [{tensors: a}, "
		"{tensors: b, name: sgd, lr: 3}, {tensors: c, match: torch1}, {tensors: d, name: ftrl}]}\n",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		accepts(texts[i]);
		reads_back_the_same();
	}
}

static void test_all_groups_of_all_models_can_be_printed_and_read_back(void **state)
{
	char *text = calloc(1, 200000), *at = text;

	(void)state;
	assert_non_null(text);
	at += sprintf(at, "models:\n");
	for (uint32_t i = 0; i < LIMIT_MODELS; i++) {
		at += sprintf(at, "- name: m%u\n  optimizer: {name: adam, schedule: {name: cosine, T_max: 9}, groups: [", i);
		for (uint32_t j = 0; j < LIMIT_GROUPS; j++)
			at += sprintf(at, "{tensors: a%u},", j);
		at += sprintf(at, "]}\n");
	}
	accepts(text);
	reads_back_the_same();
	free(text);
}

static void test_bad_groups_are_refused_with_their_line(void **state)
{
	static const struct {
		const char *text, *what;
	} bad[] = {
		{ MODEL("a"), "is a list" },
		{ MODEL("[a]"), "an entry is {tensors: \"*.bias\", ...}" },
		{ MODEL("[{lr: 1}]"), "an entry has no tensors" },
		{ MODEL("[{tensors: [a]}]"), "tensors is one pattern; write an entry for each" },
		{ MODEL("[{tensors: {a: b}}]"), "tensors must be a word" },
		{ MODEL("[{tensors: \"a\\nb\"}]"), "tensors has a control character" },
		{ MODEL("[{tensors: ''}]"), "has not 1 to 255 bytes" },
		{ MODEL("[{tensors: 'a['}]"), "has a '[' without its ']'" },
		{ MODEL("[{tensors: *a}]"), "a pattern such as \"*.bias\" in quotes" },
		{ MODEL("[{tensors: *.bias}]"), "a pattern such as \"*.bias\" needs quotes" },
		{ MODEL("[{tensors: a, tensors: b}]"), "given twice" },
		{ MODEL("[{tensors: a, weight_decy: 0}]"), "the nearest is 'weight_decay'" },
		{ MODEL("[{tensors: a, lr: -1}]"), "lr=-1 is out of range" },
		{ MODEL("[{tensors: a, name: adamx}]"), "no optimizer 'adamx'; the nearest is 'adam" },
		{ MODEL("[{tensors: a, match: torch3}]"), "it may be torch2, torch1 or numpy" },
		{ MODEL("[{tensors: a, name: sgd, nesterov: true}]"), "nesterov" },
		{ MODEL("[{tensors: a, frozen: maybe}]"), "frozen is true or false" },
		{ MODEL("[{tensors: a, frozen: true, lr: 1}]"), "so it has no \"lr\"" },
		{ MODEL("[{tensors: a, lr_factor: x}]"), "lr_factor is not a number" },
		{ MODEL("[{tensors: a, lr_factor: -1}]"), "lr_factor=-1: adamw: lr=-0.5 is out of range" },
		{ MODEL("[{tensors: a, name: ema, lr_factor: 1}]"), "which ema does not have" },
		{ MODEL("[{tensors: a, schedule: cosin}]"), "\"cosin\" is not known; the nearest is \"cosine\"" },
		{ MODEL("[{tensors: a}, {tensors: b}, {tensors: c}, {tensors: d}, {tensors: e}, {tensors: f}, "
		        "{tensors: g}, {tensors: h}, {tensors: i}]"), "more than 8 entries" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		refuses(bad[i].text, "c.yaml:3: ", bad[i].what);
}

static void test_what_answers_each_worker_by_itself_is_refused_in_a_step_of_several(void **state)
{
	static const char *const refused[] = {
		"models: [{name: m, mode: sync, workers: 2, optimizer: easgd}]",
		"models: [{name: m, optimizer: {name: adam, groups: [{tensors: a, name: easgd}]}, workers: 3, mode: sync}]",
	};
	static const char *const accepted[] = {
		"models: [{name: m, mode: async, workers: 2, optimizer: easgd}]",
		"models: [{name: m, mode: sync, workers: 1, optimizer: {name: easgd, alpha: 0.45}}]",
		/* Workers may say async. */
		"models: [{name: m, workers: 2, optimizer: {name: adam, groups: [{tensors: a, name: easgd}]}}]",
	};

	(void)state;
	for (size_t i = 0; i < 2; i++)
		refuses(refused[i], "c.yaml:1: ", "easgd answers each worker by itself: use mode async");
	for (size_t i = 0; i < 3; i++)
		accepts(accepted[i]);
}

static void test_a_bad_group_is_told_by_its_own_line(void **state)
{
	(void)state;
	refuses("models:\n- name: m\n  optimizer:\n    name: adam\n    groups:\n    - {tensors: a}\n    - {tensors: b, lrr: 1}\n",
	        "c.yaml:7: ", "nearest is 'lr'");
}

static void test_a_pattern_given_twice_is_refused_with_both_lines(void **state)
{
	(void)state;
	refuses("models:\n- name: m\n  optimizer:\n    name: adam\n    groups:\n    - {tensors: '*.bias', lr: 1}\n"
	        "    - {tensors: b}\n    - {tensors: \"*.bias\", lr: 2}\n",
	        "c.yaml:8: ", "groups: \"*.bias\" is given twice; first on line 6");
	accepts("models:\n- name: m\n  optimizer: {name: adam, groups: [{tensors: a}]}\n- name: n\n"
	        "  optimizer: {name: adam, groups: [{tensors: a}]}\n");
}

static void test_groups_that_no_header_can_tell_are_refused(void **state)
{
	char pattern[LIMIT_PATTERN_BYTES] = "", text[8 * LIMIT_PATTERN_BYTES + 600], *at = text;

	(void)state;
	memset(pattern, 'p', sizeof(pattern) - 1);
	at += sprintf(at, "models:\n- name: m\n  optimizer: {name: adam, groups: [");
	for (uint32_t i = 0; i < LIMIT_GROUPS; i++) {
		pattern[0] = (char)('a' + i);
		at += sprintf(at, "{tensors: %s, name: sgd},", pattern);
	}
	sprintf(at, "]}\n");
	refuses(text, "c.yaml:3: ", "the optimizer and its 8 groups take");
}

static void test_memory_is_that_of_the_group_with_the_most_state(void **state)
{
	char *text;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	(void)state;
	assert_non_null(out);
	accepts("models:\n- name: m\n  optimizer: {name: sgd, groups: [{tensors: a, name: adam}, {tensors: b, frozen: true}]}\n");
	config_print_memory(&config, out);
	fclose(out);
	assert_non_null(strstr(text, "parameters x 12 bytes: weights and 2 state vectors (sgd and its groups: of all, the "
	                             "most)"));
	assert_non_null(strstr(text, "replies in flight: at most as much again"));
	free(text);
}

static void test_memory_has_a_window_more_for_answers_of_a_workers_own(void **state)
{
	char *text;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	(void)state;
	assert_non_null(out);
	accepts("models:\n- name: m\n  mode: async\n  optimizer: {name: sgd, groups: [{tensors: a, name: easgd}]}\n");
	config_print_memory(&config, out);
	fclose(out);
	assert_non_null(strstr(text, "replies in flight: at most twice as much"));
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_group_has_what_it_names_and_else_the_models),
		cmocka_unit_test(test_group_may_be_frozen),
		cmocka_unit_test(test_factor_multiplies_the_groups_own_rate),
		cmocka_unit_test(test_schedule_is_the_models_or_the_groups_own),
		cmocka_unit_test(test_printed_groups_read_back_the_same),
		cmocka_unit_test(test_all_groups_of_all_models_can_be_printed_and_read_back),
		cmocka_unit_test(test_bad_groups_are_refused_with_their_line),
		cmocka_unit_test(test_what_answers_each_worker_by_itself_is_refused_in_a_step_of_several),
		cmocka_unit_test(test_a_bad_group_is_told_by_its_own_line),
		cmocka_unit_test(test_a_pattern_given_twice_is_refused_with_both_lines),
		cmocka_unit_test(test_groups_that_no_header_can_tell_are_refused),
		cmocka_unit_test(test_memory_is_that_of_the_group_with_the_most_state),
		cmocka_unit_test(test_memory_has_a_window_more_for_answers_of_a_workers_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
