/* nonfinite and loss_scale: what a worker may say of them. */
#include <string.h>

#include "server/core/settings.h"
#include "tests/support/core_world.h"

static void start(struct core_world *world)
{
	core_world_init(world);
	core_world_start(world);
}

static void refused(struct core_world *world, int status, const char *words)
{
	struct core_client client = core_client_of(world, 0, 0);
	core_hello(&client);
	const struct core_answer *answer = core_open(&client);
	assert_int_equal(answer->head.status, status);
	core_assert_text(answer, words);
	core_world_end(world);
}

static void test_skip_step_in_async_is_refused(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	world.open.mode = MSG_ASYNC;
	world.open.nonfinite = MSG_SKIP_STEP;
	refused(&world, OPTD_HYPER, "skip_step is for mode sync|take reject or zero");
}

static void test_loss_scale_in_async_is_refused(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	world.open.mode = MSG_ASYNC;
	world.open.loss_scale.given = true;
	refused(&world, OPTD_HYPER, "loss_scale is for mode sync");
}

static void test_loss_scale_needs_skip_step(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	world.open.nonfinite = MSG_ZERO;
	world.open.loss_scale.given = true;
	refused(&world, OPTD_HYPER, "loss_scale needs nonfinite: skip_step|is zero");
}

static void test_loss_scale_out_of_range_makes_no_model(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	world.open.loss_scale = (struct msg_loss_scale){.given = true, .backoff_factor = 2};
	refused(&world, OPTD_HYPER, "backoff_factor is 2");
}

/* Opens a model with one's settings and again with the other's. */
static void conflict(struct core_world *world, const struct msg_open *then, int status, const char *words)
{
	core_join(world, 0, 0);
	world->open.nonfinite = then->nonfinite;
	world->open.loss_scale = then->loss_scale;
	world->open.whole_settings = then->whole_settings;
	struct core_client client = core_client_of(world, 0, 0);
	core_hello(&client);
	const struct core_answer *answer = core_open(&client);
	assert_int_equal(answer->head.status, status);
	core_assert_text(answer, words);
	core_world_end(world);
}

static void test_another_policy_than_the_models_is_a_conflict(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	conflict(&world, &(struct msg_open){.nonfinite = MSG_ZERO}, OPTD_CONFLICT,
	         "nonfinite: zero is asked for, the model has skip_step");
}

static void test_what_is_left_out_is_the_models(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	world.open.nonfinite = MSG_SKIP_STEP;
	world.open.loss_scale = (struct msg_loss_scale){.given = true, .init_scale = 8};
	conflict(&world, &(struct msg_open){.nonfinite = MSG_NONFINITE_UNSET}, OPTD_OK, "");
	start(&world);
	world.open.loss_scale = (struct msg_loss_scale){.given = true, .init_scale = 8, .growth_interval = 7};
	conflict(&world, &(struct msg_open){.loss_scale = {.given = true, .growth_interval = 7}}, OPTD_OK, "");
}

static void test_another_loss_scale_than_the_models_is_a_conflict(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	world.open.loss_scale = (struct msg_loss_scale){.given = true, .init_scale = 8};
	conflict(&world, &(struct msg_open){.loss_scale = {.given = true, .init_scale = 16}}, OPTD_CONFLICT,
	         "init_scale=16|the model has init_scale=8 growth_factor=2");
	start(&world);
	conflict(&world, &(struct msg_open){.loss_scale = {.given = true}}, OPTD_CONFLICT,
	         "init_scale=65536|the model has none");
}

static void test_whole_settings_without_a_loss_scale_say_that_there_is_none(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	world.open.loss_scale.given = true;
	conflict(&world, &(struct msg_open){.whole_settings = true}, OPTD_CONFLICT,
	         "none is asked for, the model has init_scale=65536");
}

static void test_config_decides_before_the_worker(void **state)
{
	(void)state;
	struct core_world world;
	struct engine_preset preset = {.model = "m", .settings = {.nonfinite = MSG_REJECT}};
	core_world_init(&world);
	world.options.presets = &preset;
	world.options.preset_count = 1;
	core_world_start(&world);
	assert_int_equal(core_join(&world, 0, 0).opened.nonfinite, MSG_REJECT);
	core_world_end(&world);
	core_world_init(&world);
	world.options.presets = &preset;
	world.options.preset_count = 1;
	world.open.nonfinite = MSG_ZERO;
	core_world_start(&world);
	refused(&world, OPTD_CONFLICT, "zero is asked for, the model has reject|the server's config says so");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_skip_step_in_async_is_refused),
	        cmocka_unit_test(test_loss_scale_in_async_is_refused),
	        cmocka_unit_test(test_loss_scale_needs_skip_step),
	        cmocka_unit_test(test_loss_scale_out_of_range_makes_no_model),
	        cmocka_unit_test(test_another_policy_than_the_models_is_a_conflict),
	        cmocka_unit_test(test_what_is_left_out_is_the_models),
	        cmocka_unit_test(test_another_loss_scale_than_the_models_is_a_conflict),
	        cmocka_unit_test(test_whole_settings_without_a_loss_scale_say_that_there_is_none),
	        cmocka_unit_test(test_config_decides_before_the_worker),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
