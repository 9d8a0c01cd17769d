/* Clipping that config and workers name: what goes together, and both values where they differ. */
#include <math.h>
#include <string.h>

#include "server/core/clipping.h"
#include "server/core/settings.h"
#include "tests/support/core_world.h"

static const struct engine_options OPTIONS = {.workers = 8, .step_timeout_ms = 30000};
static struct core_answer said;

static int make(const struct engine_preset *preset, struct msg_clip clip, enum msg_mode mode,
                struct model_settings *settings)
{
	struct msg_open open = {.mode = mode, .clip = clip};
	said.text[0] = '\0';
	return settings_make(&OPTIONS, preset, &open, settings, said.text, sizeof(said.text));
}

static void refuses(struct msg_clip clip, enum msg_mode mode, const char *words)
{
	struct model_settings settings;
	assert_int_equal(make(NULL, clip, mode, &settings), OPTD_HYPER);
	core_assert_text(&said, words);
}

static void test_the_norm_is_the_second_unless_named(void **state)
{
	struct model_settings settings;

	(void)state;
	assert_int_equal(make(NULL, (struct msg_clip){.norm = 1.5}, MSG_MODE_UNSET, &settings), OPTD_OK);
	assert_true(settings.clip.norm == 1.5 && settings.clip.norm_type == 2);
	assert_int_equal(make(NULL, (struct msg_clip){.tensor_norm = 1, .norm_type = INFINITY}, MSG_SYNC, &settings),
	                 OPTD_OK);
	assert_true(isinf(settings.clip.norm_type));
	assert_int_equal(make(NULL, (struct msg_clip){0}, MSG_ASYNC, &settings), OPTD_OK);
	assert_false(clipping_on(&settings.clip));
	assert_true(settings.clip.norm_type == 0);
}

static void test_what_no_model_could_have_is_refused(void **state)
{
	(void)state;
	refuses((struct msg_clip){.norm = -1}, MSG_SYNC, "clip_norm is -1|above 0");
	refuses((struct msg_clip){.norm = INFINITY}, MSG_SYNC, "clip_norm is inf");
	refuses((struct msg_clip){.tensor_norm = NAN}, MSG_SYNC, "clip_tensor_norm is nan");
	refuses((struct msg_clip){.norm = 1, .norm_type = 0.5}, MSG_SYNC, "clip_norm_type is 0.5|1 or more|inf");
	refuses((struct msg_clip){.norm = 1, .norm_type = NAN}, MSG_SYNC, "clip_norm_type is nan");
	refuses((struct msg_clip){.norm_type = 1}, MSG_SYNC, "clip_norm_type is 1|no limit");
	refuses((struct msg_clip){.norm = 1, .tensor_norm = 3}, MSG_SYNC, "clip_norm is 1|clip_tensor_norm is 3|one of");
	refuses((struct msg_clip){.norm = 1}, MSG_ASYNC, "clip_norm is 1|async|in the worker");
	refuses((struct msg_clip){.tensor_norm = 4}, MSG_ASYNC, "clip_tensor_norm is 4|async");
}

static void conflicts(const struct msg_open *open, struct msg_clip has, int status, const char *words)
{
	struct model_settings settings;
	assert_int_equal(make(NULL, has, MSG_SYNC, &settings), OPTD_OK);
	said.text[0] = '\0';
	assert_int_equal(settings_compare(open, &settings, said.text, sizeof(said.text)), status);
	core_assert_text(&said, words);
}

static void test_another_limit_than_the_models_is_a_conflict_with_both_values(void **state)
{
	(void)state;
	const struct msg_clip has = {.norm = 0.1};
	conflicts(&(struct msg_open){.clip = {.norm = 2}}, has, OPTD_CONFLICT, "clip_norm|2 is asked for|has 0.1");
	conflicts(&(struct msg_open){.clip = {.tensor_norm = 2}}, has, OPTD_CONFLICT, "clip_tensor_norm|2 is asked for|has none");
	conflicts(&(struct msg_open){.clip = {.norm_type = INFINITY}}, has, OPTD_CONFLICT, "clip_norm_type|inf is asked for|has 2");
	conflicts(&(struct msg_open){.clip = {.norm = 0.1, .norm_type = 2}}, has, OPTD_OK, "");
	conflicts(&(struct msg_open){.clip = {.norm = 20}}, (struct msg_clip){0}, OPTD_CONFLICT, "20 is asked for|has none");
}

static void test_who_leaves_it_out_takes_the_models_unless_it_says_all(void **state)
{
	(void)state;
	conflicts(&(struct msg_open){.workers = 0}, (struct msg_clip){.norm = 1}, OPTD_OK, "");
	conflicts(&(struct msg_open){.whole_settings = true}, (struct msg_clip){.norm = 1}, OPTD_CONFLICT,
	          "clip_norm|none is asked for|has 1");
	conflicts(&(struct msg_open){.whole_settings = true, .clip = {.tensor_norm = 1, .norm_type = 2}},
	          (struct msg_clip){.tensor_norm = 1}, OPTD_OK, "");
}

static void test_the_configs_limit_is_not_the_workers_to_change(void **state)
{
	struct engine_preset preset = {.settings = {.clip = {.norm = 3}}};
	struct model_settings settings;

	(void)state;
	assert_int_equal(make(&preset, (struct msg_clip){0}, MSG_SYNC, &settings), OPTD_OK);
	assert_true(settings.clip.norm == 3 && settings.clip.norm_type == 2);
	assert_int_equal(make(&preset, (struct msg_clip){.norm_type = 1}, MSG_SYNC, &settings), OPTD_OK);
	assert_true(settings.clip.norm_type == 1);
	assert_int_equal(make(&preset, (struct msg_clip){.tensor_norm = 1}, MSG_SYNC, &settings), OPTD_CONFLICT);
	core_assert_text(&said, "clip_tensor_norm|1 is asked for|has none|config");
	assert_int_equal(make(&preset, (struct msg_clip){0}, MSG_ASYNC, &settings), OPTD_HYPER);
}

/* One that does not carry parts of norms would wait for ever, and others with it. */
static void test_a_model_of_several_servers_with_a_norm_takes_a_client_that_carries_it(void **state)
{
	struct core_world world;

	(void)state;
	core_world_init(&world);
	world.open.daemons = 2;
	world.open.clip.norm = 1;
	core_world_start(&world);
	struct core_client client = core_client_of(&world, 0, 0), older = core_client_of(&world, 1, 1);
	core_hello(&client);
	core_hello(&older);
	const struct core_answer *answer = core_open(&older);
	assert_int_equal(answer->head.status, OPTD_UNSUPPORTED);
	core_assert_text(answer, "'m'|clip_norm is 1|2 servers|update");
	world.open.relays_norms = true;
	assert_int_equal(core_open(&client)->head.status, OPTD_OK);
	world.open.relays_norms = false;
	assert_int_equal(core_open(&older)->head.status, OPTD_UNSUPPORTED);
	older.rank = MSG_NO_RANK;
	assert_int_equal(core_open(&older)->head.status, OPTD_OK);
	core_world_end(&world);
}

static void test_opened_tells_the_limit_in_words_and_numbers(void **state)
{
	struct core_world world;

	(void)state;
	core_world_init(&world);
	world.open.clip = (struct msg_clip){.tensor_norm = 0.1, .norm_type = INFINITY};
	core_world_start(&world);
	struct core_client client = core_client_of(&world, 0, 0);
	core_hello(&client);
	const struct core_answer *answer = core_open(&client);
	assert_true(answer->head.rule.clip.tensor_norm == 0.1);
	assert_true(isinf(answer->head.rule.clip.norm_type));
	assert_non_null(strstr(answer->optimizer, "; clip_tensor_norm=0.1 clip_norm_type=inf"));
	core_world_end(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_the_norm_is_the_second_unless_named),
	        cmocka_unit_test(test_what_no_model_could_have_is_refused),
	        cmocka_unit_test(test_another_limit_than_the_models_is_a_conflict_with_both_values),
	        cmocka_unit_test(test_who_leaves_it_out_takes_the_models_unless_it_says_all),
	        cmocka_unit_test(test_the_configs_limit_is_not_the_workers_to_change),
	        cmocka_unit_test(test_a_model_of_several_servers_with_a_norm_takes_a_client_that_carries_it),
	        cmocka_unit_test(test_opened_tells_the_limit_in_words_and_numbers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
