/* OPEN, and what a checkpoint of the model would be like: asked before it is made. */
#include "tests/support/core_world.h"

/* What the world says; core neither knows files nor asks for them. */
static uint64_t promised_bytes;

static uint64_t promise(const struct model_settings *settings, const struct layout *layout,
                        struct model_place place)
{
	assert_non_null(settings->optim.rule);
	assert_int_equal(layout_tensor_count(layout), 3);
	assert_int_equal(layout_block_count(layout), 1);
	assert_int_equal(place.daemons, 1);
	return promised_bytes;
}

static void start(struct core_world *world, uint64_t head_bytes)
{
	promised_bytes = head_bytes;
	core_world_init(world);
	world->options.head_bytes = promise;
	core_world_start(world);
}

static void test_model_that_could_never_be_saved_is_refused(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, LIMIT_SAFETENSORS_HEADER + 1);
	struct core_client client = core_client_of(&world, 0, 0);
	core_hello(&client);
	core_open(&client);
	core_assert_refused(&world, world.requests, OPTD_TOO_LARGE,
	                    "'m'|100000001 bytes|3 tensors|accept 100000000|shorter names");
	assert_int_equal(engine_shard_count(world.engine), 0);
	assert_int_equal(engine_bytes(world.engine), 0);
	core_world_end(&world);
}

static void test_model_that_can_just_be_saved_is_made(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, LIMIT_SAFETENSORS_HEADER);
	core_join(&world, 0, 0);
	assert_int_equal(engine_shard_count(world.engine), 1);
	core_world_end(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_model_that_could_never_be_saved_is_refused),
	        cmocka_unit_test(test_model_that_can_just_be_saved_is_made),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
