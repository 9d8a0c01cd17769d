/* Settings: config, worker and model must agree, and say both values when not. */
#include <string.h>

#include "server/core/settings.h"
#include "tests/support/core_world.h"

static struct msg_text text_of(const char *s)
{
	return (struct msg_text){s, (uint32_t)strlen(s)};
}

static const struct engine_options OPTIONS = {.workers = 8, .step_timeout_ms = 30000};

static struct msg_open open_of(const char *optimizer, const char *hyper, double value)
{
	struct msg_open open = {.optimizer = text_of(optimizer)};
	if (hyper != NULL) {
		open.hyper_count = 1;
		open.hypers[0] = (struct msg_hyper){.name = text_of(hyper), .values = {value}, .count = 1};
	}
	return open;
}

static void assert_make(const struct engine_preset *preset, const struct msg_open *open, int status,
                        const char *words)
{
	struct model_settings settings;
	struct core_answer said = {.text = ""};
	int rc = settings_make(&OPTIONS, preset, open, &settings, said.text, sizeof(said.text));
	if (rc != status)
		fail_msg("%s, expected %s: %s", status_name(rc), status_name(status), said.text);
	core_assert_text(&said, words);
}

static void assert_compare(const struct msg_open *open, int status, const char *words)
{
	struct msg_open made = open_of("adam", "lr", 0.5);
	struct model_settings has;
	struct core_answer said = {.text = ""};
	made.mode = MSG_SYNC;
	made.workers = 4;
	assert_int_equal(settings_make(&OPTIONS, NULL, &made, &has, said.text, sizeof(said.text)), 0);
	int rc = settings_compare(open, &has, said.text, sizeof(said.text));
	if (rc != status)
		fail_msg("%s, expected %s: %s", status_name(rc), status_name(status), said.text);
	core_assert_text(&said, words);
}

static void test_defaults_fill_what_nobody_gave(void **state)
{
	(void)state;
	struct msg_open open = {.model = text_of("m")};
	struct model_settings settings;
	char why[256];
	assert_int_equal(settings_make(&OPTIONS, NULL, &open, &settings, why, sizeof(why)), 0);
	assert_string_equal(optim_rule_name(settings.optim.rule), "sgd");
	assert_int_equal(settings.mode, MSG_SYNC);
	assert_int_equal(settings.reduce, MSG_MEAN);
	assert_int_equal(settings.workers, 1);
	assert_int_equal(settings.step_timeout_ms, 30000);
}

static void test_unknown_optimizer_names_the_nearest(void **state)
{
	(void)state;
	struct msg_open open = open_of("adma", NULL, 0);
	assert_make(NULL, &open, OPTD_HYPER, "'adma'|'adam'");
}

static void test_optimizer_that_answers_each_worker_by_itself_takes_no_step_of_several(void **state)
{
	(void)state;
	struct msg_open open = open_of("easgd", NULL, 0);
	assert_make(NULL, &open, OPTD_OK, "");
	open.workers = 2;
	assert_make(NULL, &open, OPTD_HYPER, "easgd answers each worker by itself: use mode async|2 workers");
	open.mode = MSG_ASYNC;
	assert_make(NULL, &open, OPTD_OK, "");
	/* Nor the norm of a step. */
	open.mode = MSG_SYNC;
	open.workers = 1;
	open.clip.norm = 1;
	assert_make(NULL, &open, OPTD_HYPER, "easgd answers each worker by itself|no clip_norm");
	/* Of a group, too. */
	struct msg_group group = {.tensors = text_of("*.x"), .optimizer = text_of("easgd")};
	open = open_of("adam", NULL, 0);
	open.workers = 2;
	open.groups = &group;
	open.group_count = 1;
	assert_make(NULL, &open, OPTD_HYPER, "easgd answers each worker by itself: use mode async");
	group.optimizer = (struct msg_text){NULL, 0};
	group.frozen = true;
	assert_make(NULL, &open, OPTD_OK, "");
	/* Nor the step of a tensor that is updated as a whole. */
	open = open_of("lars", NULL, 0);
	group = (struct msg_group){.tensors = text_of("*.x"), .optimizer = text_of("easgd")};
	open.groups = &group;
	open.group_count = 1;
	assert_make(NULL, &open, OPTD_HYPER, "easgd answers each worker by itself|whole");
	open.mode = MSG_ASYNC;
	assert_make(NULL, &open, OPTD_OK, "");
}

static void test_unknown_hyper_parameter_names_the_nearest(void **state)
{
	(void)state;
	struct msg_open open = open_of("adam", "lrr", 1);
	assert_make(NULL, &open, OPTD_HYPER, "'lrr'|'lr'");
}

static void test_hyper_parameter_out_of_range_names_value_and_range(void **state)
{
	(void)state;
	struct msg_open open = open_of("sgd", "momentum", -0.5);
	assert_make(NULL, &open, OPTD_HYPER, "momentum=-0.5|allowed is [0");
}

static void test_unknown_match_names_the_choices(void **state)
{
	(void)state;
	struct msg_open open = open_of("adam", NULL, 0);
	open.match = text_of("torch3");
	assert_make(NULL, &open, OPTD_HYPER, "'torch3'|torch2, torch1 or numpy");
}

static void test_text_that_is_far_too_long_is_refused_not_cut(void **state)
{
	(void)state;
	char long_text[500];
	memset(long_text, 'x', sizeof(long_text));
	struct msg_open open = {.optimizer = {long_text, sizeof(long_text)}};
	assert_make(NULL, &open, OPTD_HYPER, "no optimizer");
	open = open_of("adam", "lr", 1);
	open.hypers[0].name = (struct msg_text){long_text, sizeof(long_text)};
	assert_make(NULL, &open, OPTD_HYPER, "no hyper-parameter");
	open = open_of("adam", NULL, 0);
	open.match = (struct msg_text){long_text, sizeof(long_text)};
	assert_make(NULL, &open, OPTD_HYPER, "match is 'xxx");
	assert_compare(&open, OPTD_CONFLICT, "match|xxx|torch2");
}

static void test_more_workers_than_the_limit_are_refused_with_both_numbers(void **state)
{
	(void)state;
	struct msg_open open = open_of("sgd", NULL, 0);
	open.workers = 9;
	assert_make(NULL, &open, OPTD_TOO_LARGE, "workers is 9|8");
}

static void test_config_decides_and_the_worker_may_repeat_it(void **state)
{
	(void)state;
	struct engine_preset preset = {.model = "m", .optim_given = true};
	struct msg_open open = open_of("adam", "lr", 0.5);
	char why[256];
	struct model_settings settings;
	optim_init(&preset.settings.optim, optim_find("adam"), OPTIM_TORCH2, why, sizeof(why));
	optim_set(&preset.settings.optim, "lr", (double[]){0.5}, 1, why, sizeof(why));
	preset.settings.mode = MSG_ASYNC;
	preset.settings.workers = 3;
	assert_int_equal(settings_make(&OPTIONS, &preset, &open, &settings, why, sizeof(why)), 0);
	assert_int_equal(settings.mode, MSG_ASYNC);
	assert_int_equal(settings.workers, 3);
	open.hypers[0].values[0] = 0.25;
	assert_make(&preset, &open, OPTD_CONFLICT, "lr|0.25|0.5");
	open = open_of("sgd", NULL, 0);
	assert_make(&preset, &open, OPTD_CONFLICT, "optimizer|sgd|adam");
	open = open_of("", NULL, 0);
	open.mode = MSG_SYNC;
	assert_make(&preset, &open, OPTD_CONFLICT, "mode|sync|async");
}

static void schedule_of(struct msg_open *open, const char *name, const char *param, double value)
{
	open->schedule_count = 1;
	open->schedule[0] = (struct msg_schedule_part){.name = text_of(name), .param_count = 1};
	open->schedule[0].params[0] =
	        (struct msg_schedule_param){.name = text_of(param), .values = {value}, .count = 1};
}

static void test_schedule_of_the_worker_is_the_models(void **state)
{
	(void)state;
	struct msg_open open = open_of("sgd", "lr", 0.5);
	struct model_settings settings;
	char why[256];
	schedule_of(&open, "cosine", "T_max", 40);
	assert_int_equal(settings_make(&OPTIONS, NULL, &open, &settings, why, sizeof(why)), 0);
	assert_true(schedule_lr(&settings.optim.schedule, 0.5, 20) == 0.25);
	open.schedule[0].params[0].values[0] = 41;
	assert_int_equal(settings_compare(&open, &settings, why, sizeof(why)), OPTD_CONFLICT);
	assert_non_null(strstr(why, "T_max=41"));
	assert_non_null(strstr(why, "T_max=40"));
	open.schedule_count = 0;
	assert_int_equal(settings_compare(&open, &settings, why, sizeof(why)), 0);
}

static void test_schedule_that_is_not_one_is_refused(void **state)
{
	(void)state;
	struct msg_open open = open_of("sgd", NULL, 0);
	schedule_of(&open, "cosin", "T_max", 40);
	assert_make(NULL, &open, OPTD_HYPER, "no schedule 'cosin'; the nearest is 'cosine'; there are constant, ");
	schedule_of(&open, "triangular2", "T_max", 40);
	assert_make(NULL, &open, OPTD_HYPER, "no schedule 'triangular2'; there are constant, ");
	schedule_of(&open, "cosine", "T_max", -1);
	assert_make(NULL, &open, OPTD_HYPER, "T_max=-1");
	schedule_of(&open, "cosine", "eta_min", 0);
	assert_make(NULL, &open, OPTD_HYPER, "cosine needs T_max");
}

static void test_worker_that_names_nothing_agrees_with_everything(void **state)
{
	(void)state;
	struct msg_open open = {.model = text_of("m")};
	assert_compare(&open, OPTD_OK, "");
}

static void test_every_setting_that_differs_gives_both_values(void **state)
{
	(void)state;
	struct msg_open open = {.mode = MSG_ASYNC};
	assert_compare(&open, OPTD_CONFLICT, "mode|async|sync");
	open = (struct msg_open){.reduce = MSG_SUM};
	assert_compare(&open, OPTD_CONFLICT, "reduce|sum|mean");
	open = (struct msg_open){.workers = 2};
	assert_compare(&open, OPTD_CONFLICT, "workers|2|4");
	open = (struct msg_open){.step_timeout_ms = 7};
	assert_compare(&open, OPTD_CONFLICT, "step_timeout|7|30000");
	open = open_of("sgd", NULL, 0);
	assert_compare(&open, OPTD_CONFLICT, "optimizer|sgd|adam");
	open = open_of("adam", "lr", 0.25);
	assert_compare(&open, OPTD_CONFLICT, "lr|0.25|0.5");
	open = open_of("", "lr", 0.25);
	assert_compare(&open, OPTD_CONFLICT, "lr|0.25|0.5");
}

static void test_match_that_differs_is_a_conflict_also_without_an_optimizer(void **state)
{
	(void)state;
	struct msg_open open = open_of("adam", NULL, 0);
	open.match = text_of("torch1");
	assert_compare(&open, OPTD_CONFLICT, "match|torch1|torch2");
	open.optimizer = text_of("");
	assert_compare(&open, OPTD_CONFLICT, "match|torch1|torch2");
}

static void test_hyper_parameter_of_another_rule_is_refused(void **state)
{
	(void)state;
	struct msg_open open = open_of("", "momentum", 0.5);
	assert_compare(&open, OPTD_HYPER, "'momentum'");
}

static struct msg_open onecycle_of(const char *optimizer)
{
	struct msg_open open = open_of(optimizer, NULL, 0);
	open.schedule_count = 1;
	open.schedule[0] = (struct msg_schedule_part){
	        .name = text_of("onecycle"),
	        .param_count = 2,
	        .params = {{text_of("max_lr"), {0.1}, 1}, {text_of("total_steps"), {4}, 1}}};
	return open;
}

static struct model_settings made(const struct msg_open *open)
{
	struct model_settings settings;
	struct core_answer said = {.text = ""};
	if (settings_make(&OPTIONS, NULL, open, &settings, said.text, sizeof(said.text)) < 0)
		fail_msg("%s", said.text);
	return settings;
}

static void assert_agrees(const struct msg_open *open, const struct model_settings *has, int status, const char *words)
{
	struct core_answer said = {.text = ""};
	assert_int_equal(settings_compare(open, has, said.text, sizeof(said.text)), status);
	core_assert_text(&said, words);
}

static void test_momentum_of_0_under_onecycle_may_be_said_again(void **state)
{
	(void)state;
	struct msg_open open = onecycle_of("sgd");
	struct model_settings has = made(&open);
	assert_true(has.optim.values[1][0] == 0.95);
	assert_agrees(&open, &has, OPTD_OK, "");
	open.hypers[open.hyper_count++] = (struct msg_hyper){text_of("momentum"), {0}, 1};
	assert_agrees(&open, &has, OPTD_OK, "");
	open.hypers[0].values[0] = 0.95;
	assert_agrees(&open, &has, OPTD_OK, "");
	open.hypers[0].values[0] = 0.5;
	assert_agrees(&open, &has, OPTD_CONFLICT, "momentum|0.5|0.95");
}

/* From a checkpoint of before, which has no state for it. */
static void test_model_that_began_without_a_cycled_momentum_agrees_with_the_same_words(void **state)
{
	(void)state;
	struct msg_open open = onecycle_of("sgd");
	struct model_settings has = made(&open);
	has.optim.values[1][0] = 0;
	assert_int_equal(optim_slot_count(&has.optim), 0);
	assert_agrees(&open, &has, OPTD_OK, "");
	struct engine_preset preset = {.model = "m", .optim_given = true, .settings = made(&open)};
	struct model model = {.settings = has};
	char why[LIMIT_TEXT_BYTES];
	assert_int_equal(settings_compare_preset(&preset, &model, why, sizeof(why)), OPTD_OK);
}

static void test_groups_take_the_momentum_that_onecycle_moves(void **state)
{
	(void)state;
	struct msg_schedule_part constant = {.name = text_of("constant")};
	struct msg_hyper none = {text_of("momentum"), {0}, 1};
	struct msg_group groups[] = {{.tensors = text_of("a")},
	                             {.tensors = text_of("b"), .hyper_count = 1, .hypers = &none},
	                             {.tensors = text_of("c"), .schedule_count = 1, .schedule = &constant},
	                             {.tensors = text_of("d"),
	                              .schedule_count = 1,
	                              .schedule = &constant,
	                              .hyper_count = 1,
	                              .hypers = &none}};
	static const double momentum[] = {0.95, 0.95, 0.95, 0};
	struct msg_open open = onecycle_of("sgd");
	open.groups = groups;
	open.group_count = 4;
	struct model_settings has = made(&open);
	for (uint32_t i = 0; i < 4; i++)
		assert_true(has.groups.list[i].optim.values[1][0] == momentum[i]);
	assert_agrees(&open, &has, OPTD_OK, "");
	groups[3].optimizer = text_of("rprop");
	groups[3].hyper_count = 0;
	assert_make(NULL, &open, OPTD_HYPER, "group 4 ('d'): rprop: a schedule is without effect");
}

static void test_onecycle_without_a_momentum_to_move_is_refused(void **state)
{
	(void)state;
	struct msg_open open = onecycle_of("adagrad");
	assert_make(NULL, &open, OPTD_HYPER, "adagrad has neither momentum nor betas; give cycle_momentum: 0");
	open.schedule[0].params[open.schedule[0].param_count++] =
	        (struct msg_schedule_param){text_of("cycle_momentum"), {0}, 1};
	assert_make(NULL, &open, OPTD_OK, "");
}

static void test_end_of_the_last_stretch_is_refused(void **state)
{
	(void)state;
	struct msg_open open = onecycle_of("adam");
	open.schedule[0].until = 3;
	assert_make(NULL, &open, OPTD_HYPER, "last stretch is until 3|add a stretch");
	open.schedule[1] = (struct msg_schedule_part){.name = text_of("constant")};
	open.schedule_count = 2;
	assert_make(NULL, &open, OPTD_OK, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_defaults_fill_what_nobody_gave),
	        cmocka_unit_test(test_unknown_optimizer_names_the_nearest),
	        cmocka_unit_test(test_optimizer_that_answers_each_worker_by_itself_takes_no_step_of_several),
	        cmocka_unit_test(test_unknown_hyper_parameter_names_the_nearest),
	        cmocka_unit_test(test_hyper_parameter_out_of_range_names_value_and_range),
	        cmocka_unit_test(test_unknown_match_names_the_choices),
	        cmocka_unit_test(test_text_that_is_far_too_long_is_refused_not_cut),
	        cmocka_unit_test(test_more_workers_than_the_limit_are_refused_with_both_numbers),
	        cmocka_unit_test(test_config_decides_and_the_worker_may_repeat_it),
	        cmocka_unit_test(test_schedule_of_the_worker_is_the_models),
	        cmocka_unit_test(test_schedule_that_is_not_one_is_refused),
	        cmocka_unit_test(test_worker_that_names_nothing_agrees_with_everything),
	        cmocka_unit_test(test_every_setting_that_differs_gives_both_values),
	        cmocka_unit_test(test_match_that_differs_is_a_conflict_also_without_an_optimizer),
	        cmocka_unit_test(test_hyper_parameter_of_another_rule_is_refused),
	        cmocka_unit_test(test_momentum_of_0_under_onecycle_may_be_said_again),
	        cmocka_unit_test(test_model_that_began_without_a_cycled_momentum_agrees_with_the_same_words),
	        cmocka_unit_test(test_groups_take_the_momentum_that_onecycle_moves),
	        cmocka_unit_test(test_onecycle_without_a_momentum_to_move_is_refused),
	        cmocka_unit_test(test_end_of_the_last_stretch_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
