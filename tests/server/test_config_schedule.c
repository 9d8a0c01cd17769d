/* Learning-rate schedules in the config: how they are written, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/server/config_support.h"

#define MODEL(schedule) "models:\n- name: m\n  optimizer: {name: adam, lr: 0.1, schedule: " schedule "}\n"

static const struct schedule *schedule(void)
{
	return &config.models[0].optimizer.schedule;
}

static void test_one_stretch_is_a_mapping_or_a_word(void **state)
{
	(void)state;
	accepts(MODEL("{name: cosine, T_max: 40, eta_min: 0.001}"));
	assert_int_equal(schedule()->part_count, 1);
	assert_true(schedule_lr(schedule(), 0.1, 40) == 0.001);
	accepts(MODEL("constantlr"));
	assert_true(schedule_lr(schedule(), 0.3, 0) == 0.3 * (1.0 / 3));
}

static void test_a_list_is_a_sequence(void **state)
{
	(void)state;
	accepts(MODEL("[{name: linear_warmup, start_factor: 0.1, until: 5}, {name: cosine, T_max: 40}]"));
	assert_int_equal(schedule()->part_count, 2);
	assert_int_equal(schedule()->ends[0], 5);
	assert_true(schedule_lr(schedule(), 0.1, 5) == 0.1);
	assert_true(schedule_lr(schedule(), 0.1, 45) == 0);
}

static void test_milestones_are_a_list(void **state)
{
	(void)state;
	accepts(MODEL("{name: multistep, milestones: [5, 20], gamma: 0.5}"));
	assert_true(schedule_lr(schedule(), 1, 20) == 0.25);
}

static void test_printed_schedules_read_back_the_same(void **state)
{
	static const char *const texts[] = {
		MODEL("constant"),
		MODEL("{name: multistep, milestones: [5, 20, 20, 33]}"),
		MODEL("{name: onecycle, max_lr: 0.30000000000000004, total_steps: 100, three_phase: true}"),
		MODEL("[{name: linear_warmup, until: 5}, {name: step, step_size: 7, until: 12}, {name: wsd, "
		      "warmup: 0, stable: 3, decay: 4, shape: 2}]"),
	};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		accepts(texts[i]);
		reads_back_the_same();
	}
}

static void test_bad_schedules_are_refused_with_their_line(void **state)
{
	static const struct {
		const char *text, *what;
	} bad[] = {
		{ MODEL("{T_max: 3}"), "needs a name" },
		{ MODEL("{name: [cosine], T_max: 3}"), "needs a name; allowed: one of constant" },
		{ MODEL("cosin"), "\"cosin\" is not known; the nearest is \"cosine\"; allowed: one of constant, " },
		{ MODEL("triangular2"), "\"triangular2\" is not known; allowed: one of constant, " },
		{ MODEL("{name: linear_warmap}"), "\"linear_warmap\" is not known; the nearest is \"linear_warmup\"" },
		{ MODEL("{name: cosine}"), "cosine needs T_max" },
		{ MODEL("{name: cosine, tmax: 3}"), "no parameter 'tmax'; it has T_max eta_min" },
		{ MODEL("{name: cosine, T_max: many}"), "T_max is not a number" },
		{ MODEL("{name: cosine, T_max: 0}"), "T_max=0 is out of range" },
		{ MODEL("{name: cosine, T_max: [3, 4]}"), "T_max takes 1 value" },
		{ MODEL("{name: multistep, milestones: [9, 5]}"), "ascending" },
		{ MODEL("[{name: constant}, {name: cosine, T_max: 4}]"), "all stretches but the last need until" },
		{ MODEL("[{name: constant, until: 9}, {name: constant, until: 4}, constant]"), "would end at 4" },
		{ MODEL("[{name: constant, until: 0}, constant]"), "until is a whole number" },
		{ MODEL("{name: constant, until: 3}"), "the last stretch is until 3, and nothing comes behind it; add" },
		{ MODEL("[{name: constant, until: 3}, {name: step, step_size: 2, until: 9}]"), "last stretch is until 9" },
		{ MODEL("{name: onecycle, max_lr: 1, total_steps: 9, anneal_strategy: linear}"), "write linear: true" },
		{ MODEL("{name: onecycle, max_lr: 1, total_steps: 9, max_momentum: 0.9}"), "0.95 and 0.85" },
		{ "models:\n- name: m\n  optimizer: {name: adagrad, schedule: {name: onecycle, max_lr: 1, total_steps: 9}}\n",
		  "give cycle_momentum: 0" },
		{ "models:\n- name: m\n  optimizer: {name: rprop, schedule: constant}\n", "only the first step size" },
		{ "models:\n- name: m\n  optimizer: {name: adafactor_paper, lr: 0.5}\n", "lr=0.5 is without effect" },
		{ "models:\n- name: m\n  optimizer: {name: sgd, groups: [{tensors: a, name: rprop, schedule: constant}]}\n",
		  "groups: rprop: a schedule" },
		{ MODEL("[]"), "1 to 4 stretches, not 0" },
		{ "models:\n- name: m\n  optimizer: {name: ftrl, schedule: constant}\n", "divides by lr" },
		{ "models:\n- name: m\n  optimizer: {name: ema, schedule: constant}\n", "does not have" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		refuses(bad[i].text, "c.yaml:3: ", bad[i].what);
}

static void test_too_many_milestones_are_refused(void **state)
{
	(void)state;
	refuses(MODEL("{name: multistep, milestones: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17]}"),
	        "c.yaml:3: ", "17 milestones, allowed are 16");
}

static void test_what_a_stretch_lacks_is_told_by_its_own_line(void **state)
{
	(void)state;
	refuses("models:\n- name: m\n  optimizer:\n    name: adam\n    schedule:\n"
	        "    - {name: linear_warmup, until: 5}\n    - {name: cosine}\n",
	        "c.yaml:7: ", "schedule cosine needs T_max");
	refuses("models:\n- name: m\n  optimizer:\n    name: adam\n    schedule: exponential\n", "c.yaml:5: ", "needs gamma");
	refuses("models:\n- name: m\n  optimizer:\n    name: adam\n    groups:\n    - tensors: a\n      schedule:\n"
	        "      - {name: step, until: 9, step_size: 1}\n      - {name: constant, until: 5}\n      - constant\n",
	        "c.yaml:8: ", "part 2 would end at 5");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_stretch_is_a_mapping_or_a_word),
		cmocka_unit_test(test_a_list_is_a_sequence),
		cmocka_unit_test(test_milestones_are_a_list),
		cmocka_unit_test(test_printed_schedules_read_back_the_same),
		cmocka_unit_test(test_bad_schedules_are_refused_with_their_line),
		cmocka_unit_test(test_what_a_stretch_lacks_is_told_by_its_own_line),
		cmocka_unit_test(test_too_many_milestones_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
