/* Groups that workers give: read as the config's are, compared with the model's, and told. */
#include <string.h>

#include "server/core/settings.h"
#include "tests/support/core_world.h"
#include "tests/support/rng_seed.h"

static const struct engine_options OPTIONS = {.workers = 8, .step_timeout_ms = 30000};
static char why[1024];

static struct msg_text text_of(const char *s)
{
	return (struct msg_text){s, (uint32_t)strlen(s)};
}

/* adam with lr 0.5 and these groups. */
static struct msg_open open_of(const struct msg_group *groups, uint32_t count)
{
	return (struct msg_open){.optimizer = text_of("adam"),
	                         .hyper_count = 1,
	                         .hypers = {{.name = text_of("lr"), .values = {0.5}, .count = 1}},
	                         .group_count = count,
	                         .groups = groups};
}

static const struct msg_hyper LR[] = {{.name = {"lr", 2}, .values = {0.25}, .count = 1}};
static const struct msg_group TWO[] = {
        {.tensors = {"*.bias", 6}, .hyper_count = 1, .hypers = LR},
        {.tensors = {"bn.*", 4}, .frozen = true},
};

static struct model_settings made(const struct msg_open *open)
{
	struct model_settings settings;

	if (settings_make(&OPTIONS, NULL, open, &settings, why, sizeof(why)) < 0)
		fail_msg("%s", why);
	return settings;
}

static void refuses(struct msg_group group, int status, const char *words)
{
	struct msg_open open = open_of(&group, 1);
	struct model_settings settings;
	struct core_answer said = {.text = ""};

	int rc = settings_make(&OPTIONS, NULL, &open, &settings, said.text, sizeof(said.text));
	if (rc != status)
		fail_msg("%s: %s", status_name(rc), said.text);
	core_assert_text(&said, words);
}

static void conflicts(const struct msg_group *groups, uint32_t count, int status, const char *words)
{
	struct msg_open first = open_of(TWO, 2), open = open_of(groups, count);
	struct model_settings has = made(&first);
	struct core_answer said = {.text = ""};

	open.whole_settings = true;
	int rc = settings_compare(&open, &has, said.text, sizeof(said.text));
	if (rc != status)
		fail_msg("%s: %s", status_name(rc), said.text);
	core_assert_text(&said, words);
}

static void test_whole_settings_without_a_schedule_are_of_a_model_without_one(void **state)
{
	(void)state;
	const struct msg_schedule_part cosine = {
	        .name = text_of("cosine"), .param_count = 1, .params = {{.name = {"T_max", 5}, .values = {40}, .count = 1}}};
	struct msg_open none = open_of(NULL, 0), one = open_of(NULL, 0);
	one.schedule_count = 1;
	one.schedule[0] = cosine;
	struct model_settings has = made(&one);
	assert_int_equal(settings_compare(&none, &has, why, sizeof(why)), OPTD_OK);
	none.whole_settings = true;
	assert_int_equal(settings_compare(&none, &has, why, sizeof(why)), OPTD_CONFLICT);
	assert_non_null(strstr(why, "schedule"));
	one.whole_settings = true;
	assert_int_equal(settings_compare(&one, &has, why, sizeof(why)), OPTD_OK);
}

static void test_groups_of_the_worker_are_the_models(void **state)
{
	(void)state;
	struct msg_open open = open_of(TWO, 2);
	struct model_settings settings = made(&open);
	assert_int_equal(settings.groups.count, 2);
	assert_string_equal(settings.groups.list[0].tensors, "*.bias");
	assert_true(settings.groups.list[0].optim.values[0][0] == 0.25);
	assert_true(settings.groups.list[1].frozen);
	assert_int_equal(settings_compare(&open, &settings, why, sizeof(why)), 0);
}

static void test_factor_and_schedule_of_the_worker_are_the_groups(void **state)
{
	(void)state;
	const struct msg_schedule_part cosine = {
	        .name = text_of("cosine"), .param_count = 1, .params = {{.name = {"T_max", 5}, .values = {40}, .count = 1}}};
	const struct msg_group group = {
	        .tensors = text_of("e"), .lr_factor = 0.5, .schedule_count = 1, .schedule = &cosine};
	struct msg_open open = open_of(&group, 1);
	struct model_settings settings = made(&open);
	assert_true(settings.groups.list[0].optim.values[0][0] == 0.25);
	assert_int_equal(settings.groups.list[0].optim.schedule.parts[0].kind, SCHEDULE_COSINE);
	assert_int_equal(settings.optim.schedule.part_count, 0);
}

static void test_what_is_no_group_is_refused_by_its_number_and_pattern(void **state)
{
	(void)state;
	static const struct msg_hyper bad = {.name = {"lrr", 3}, .values = {1}, .count = 1};
	refuses((struct msg_group){.tensors = text_of("a[")}, OPTD_HYPER, "group 1 ('a[')|'[' without");
	refuses((struct msg_group){.tensors = text_of("a"), .optimizer = text_of("adma")}, OPTD_HYPER,
	        "group 1 ('a')|'adma'; the nearest is 'adam'");
	refuses((struct msg_group){.tensors = text_of("a"), .optimizer = text_of("levenberg")}, OPTD_HYPER,
	        "'levenberg'; optctl rules lists all");
	refuses((struct msg_group){.tensors = text_of("a"), .match = text_of("torch3")}, OPTD_HYPER, "'torch3'");
	refuses((struct msg_group){.tensors = text_of("a"), .hyper_count = 1, .hypers = &bad}, OPTD_HYPER,
	        "'lrr'|nearest is 'lr'");
	refuses((struct msg_group){.tensors = text_of("a"), .lr_factor = -1}, OPTD_HYPER,
	        "lr_factor=-1|lr=-0.5");
	refuses((struct msg_group){.tensors = text_of("a"), .frozen = true, .lr_factor = 1}, OPTD_HYPER,
	        "a frozen group is not updated");
}

static void test_worker_that_names_no_groups_takes_the_models(void **state)
{
	(void)state;
	struct msg_open open = open_of(TWO, 2);
	struct model_settings has = made(&open);
	open.group_count = 0;
	assert_int_equal(settings_compare(&open, &has, why, sizeof(why)), 0);
}

static void test_groups_that_differ_are_a_conflict_with_both(void **state)
{
	(void)state;
	struct msg_group groups[] = {TWO[0], TWO[1]};
	conflicts(TWO, 2, OPTD_OK, "");
	conflicts(NULL, 0, OPTD_CONFLICT, "none is asked for|the model has 2 ('*.bias', 'bn.*')");
	conflicts(TWO, 1, OPTD_CONFLICT, "1 ('*.bias') is asked for|2 ('*.bias', 'bn.*')");
	groups[1].tensors = text_of("bn?.*");
	conflicts(groups, 2, OPTD_CONFLICT, "2 ('*.bias', 'bn?.*')|2 ('*.bias', 'bn.*')");
	groups[1] = TWO[1];
	groups[1].frozen = false;
	conflicts(groups, 2, OPTD_CONFLICT, "group 2 ('bn.*')|frozen: no, yes");
	groups[1] = TWO[1];
	groups[0].hyper_count = 0;
	conflicts(groups, 2, OPTD_CONFLICT, "group 1 ('*.bias')|lr|0.5|0.25");
	groups[0] = TWO[0];
	groups[0].optimizer = text_of("sgd");
	conflicts(groups, 2, OPTD_CONFLICT, "group 1 ('*.bias')|sgd|adam");
}

static void test_groups_of_the_config_hold_against_the_workers(void **state)
{
	(void)state;
	struct msg_open open = open_of(TWO, 2);
	struct engine_preset preset = {.model = "m", .optim_given = true, .settings = made(&open)};
	struct model_settings settings;
	assert_int_equal(settings_make(&OPTIONS, &preset, &open, &settings, why, sizeof(why)), 0);
	assert_int_equal(settings.groups.count, 2);
	open.group_count = 1;
	assert_int_equal(settings_make(&OPTIONS, &preset, &open, &settings, why, sizeof(why)), OPTD_CONFLICT);
	assert_non_null(strstr(why, "the server's config says so"));
}

static void choose_optim(struct rng *rng, struct optim *optim)
{
	const double value = (double)rng_float(rng);

	do {
		const struct optim_rule *rule = optim_rule(rng_below(rng, optim_rule_count()));
		if (optim_init(optim, rule, (enum optim_match)rng_below(rng, 3), why, sizeof(why)) < 0)
			assert_int_equal(optim_init(optim, optim_find("adam"), OPTIM_TORCH1, why, sizeof(why)), 0);
		optim_set(optim, "lr", &value, 1, why, sizeof(why));
		if (rng_one_in(rng, 2)) {
			optim->schedule.part_count = 1;
			schedule_part_init(&optim->schedule.parts[0], SCHEDULE_LINEAR_WARMUP);
		}
	} while (optim_settle(optim, why, sizeof(why)) < 0);
}

/* As a client does: what the lead answered is what the other lanes are told. */
static void test_what_is_told_makes_the_same_model_elsewhere(void **state)
{
	(void)state;
	uint64_t seed = rng_seed();
	struct rng rng = rng_new(seed);
	for (uint32_t round = 0; round < 2000; round++) {
		/* In which all rules go together. */
		struct model_settings settings = {.mode = MSG_ASYNC, .reduce = MSG_MEAN, .workers = 1};
		struct msg_rule rule = {.group_count = 0};
		struct settings_told told;
		choose_optim(&rng, &settings.optim);
		settings.groups.count = 1 + rng_below(&rng, 5);
		for (uint32_t i = 0; i < settings.groups.count; i++) {
			struct group *group = &settings.groups.list[i];
			assert_int_equal(group_begin(group, "*.x", &settings.optim, NULL, NULL, why, sizeof(why)), 0);
			group->frozen = rng_one_in(&rng, 4);
			if (!group->frozen && rng_one_in(&rng, 2))
				choose_optim(&rng, &group->optim);
		}
		/* A group of the model's rule cannot be without the schedule that the model has. */
		for (uint32_t i = 0; i < settings.groups.count; i++) {
			struct optim *optim = &settings.groups.list[i].optim;
			if (optim->rule == settings.optim.rule && optim->schedule.part_count == 0)
				optim->schedule = settings.optim.schedule;
		}
		settings_tell(&settings, &rule);
		settings_tell_groups(&settings, &told);
		struct msg_open open = {.mode = MSG_ASYNC, .optimizer = rule.name, .match = rule.match, .hyper_count = rule.hyper_count,
		                        .schedule_count = rule.schedule_count, .group_count = settings.groups.count,
		                        .groups = told.groups, .whole_settings = true};
		memcpy(open.hypers, rule.hypers, sizeof(open.hypers));
		memcpy(open.schedule, rule.schedule, sizeof(open.schedule));
		struct model_settings again = made(&open);
		if (settings_compare(&open, &settings, why, sizeof(why)) < 0)
			fail_msg("seed %llu: %s", (unsigned long long)seed, why);
		for (uint32_t i = 0; i < settings.groups.count; i++) {
			assert_int_equal(again.groups.list[i].frozen, settings.groups.list[i].frozen);
			if (!settings.groups.list[i].frozen &&
			    optim_compare(&again.groups.list[i].optim, &settings.groups.list[i].optim, why, sizeof(why)) < 0)
				fail_msg("seed %llu, group %u: %s", (unsigned long long)seed, i, why);
		}
	}
}

static void test_groups_that_no_header_can_tell_are_too_large(void **state)
{
	(void)state;
	static char pattern[200];
	struct msg_group groups[LIMIT_GROUPS];
	struct model_settings settings;
	memset(pattern, 'p', sizeof(pattern));
	for (uint32_t i = 0; i < LIMIT_GROUPS; i++)
		groups[i] = (struct msg_group){.tensors = {pattern, sizeof(pattern)}, .optimizer = text_of("adamw")};
	struct msg_open open = open_of(groups, LIMIT_GROUPS);
	assert_int_equal(settings_make(&OPTIONS, NULL, &open, &settings, why, sizeof(why)), OPTD_TOO_LARGE);
	assert_non_null(strstr(why, "8 groups take"));
	assert_non_null(strstr(why, "room for 2176"));
	open.group_count = 3;
	assert_int_equal(settings_make(&OPTIONS, NULL, &open, &settings, why, sizeof(why)), 0);
}

static void test_opened_tells_the_groups_from_memory_of_its_own(void **state)
{
	(void)state;
	struct core_world world;
	static const struct msg_group group = {.tensors = {"t[01]", 5}, .optimizer = {"average", 7}};
	core_world_init(&world);
	world.open.group_count = 1;
	world.open.groups = &group;
	core_world_start(&world);
	struct core_client client = core_client_of(&world, 0, 0);
	core_hello(&client);
	struct msg msg = core_msg(&client, MSG_OPEN);
	struct layout *layout = core_world_layout(&world);
	msg.open = world.open;
	struct layout *cut = core_world_layout(&world);
	layout_cut(cut, NULL);
	msg.open.layout_hash = layout_hash(cut);
	layout_free(cut);
	engine_handle(world.engine, 0, &PRINCIPAL_ANONYMOUS, &msg, NULL, &layout, 0, &world.out);
	const struct msg_rule *rule = &world.out.entries[0].head.rule;
	assert_int_equal(world.out.entries[0].head.status, OPTD_OK);
	assert_int_equal(rule->group_count, 1);
	const char *pattern = core_shard(&world)->model->settings.groups.list[0].tensors;
	assert_ptr_not_equal(rule->groups[0].tensors.bytes, pattern);
	assert_memory_equal(rule->groups[0].tensors.bytes, "t[01]", 5);
	assert_memory_equal(rule->groups[0].optimizer.bytes, "average", 7);
	assert_int_equal((uintptr_t)rule->groups % 8, 0);
	assert_int_equal((uintptr_t)rule->groups[0].hypers % 8, 0);
	layout_free(layout);
	outbox_clear(&world.out);
	core_world_end(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_whole_settings_without_a_schedule_are_of_a_model_without_one),
	        cmocka_unit_test(test_groups_of_the_worker_are_the_models),
	        cmocka_unit_test(test_factor_and_schedule_of_the_worker_are_the_groups),
	        cmocka_unit_test(test_what_is_no_group_is_refused_by_its_number_and_pattern),
	        cmocka_unit_test(test_worker_that_names_no_groups_takes_the_models),
	        cmocka_unit_test(test_groups_that_differ_are_a_conflict_with_both),
	        cmocka_unit_test(test_groups_of_the_config_hold_against_the_workers),
	        cmocka_unit_test(test_what_is_told_makes_the_same_model_elsewhere),
	        cmocka_unit_test(test_groups_that_no_header_can_tell_are_too_large),
	        cmocka_unit_test(test_opened_tells_the_groups_from_memory_of_its_own),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
