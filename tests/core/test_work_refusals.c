/* Whole tensors in the engine: models that cannot have them are refused when they are made. */
#include <string.h>

#include "tests/support/core_world.h"

static struct msg_text text_of(const char *text)
{
	return (struct msg_text){text, (uint32_t)strlen(text)};
}

/* A vector of 100, a matrix of three blocks and a vector of 7; the first and the last may
 * have groups. */
static void begin(struct core_world *world, const char *optimizer)
{
	static const uint64_t tensors[] = {100, 600 * 600, 7};
	static struct msg_group groups[2];

	core_world_init(world);
	world->tensors = tensors;
	world->tensor_count = 3;
	world->columns = 600;
	world->open.optimizer = text_of(optimizer);
	world->open.hyper_count = 0;
	world->open.groups = groups;
	groups[0] = (struct msg_group){.tensors = text_of("t0"), .optimizer = text_of("sgd")};
	groups[1] = (struct msg_group){.tensors = text_of("t2"), .optimizer = text_of("sgd")};
	core_world_start(world);
}

static void refuses(const char *optimizer, enum msg_mode mode, uint32_t groups, const char *words)
{
	struct core_world world;

	begin(&world, optimizer);
	world.open.mode = mode;
	world.open.group_count = groups;
	struct core_client a = core_client_of(&world, 0, 0);
	core_hello(&a);
	const struct core_answer *answer = core_open(&a);
	core_assert_refused(&world, answer->head.request, OPTD_HYPER, words);
	assert_int_equal(engine_shard_count(world.engine), 0);
	core_world_end(&world);
}

static void test_a_shape_that_the_rule_does_not_take_is_refused(void **state)
{
	(void)state;
	refuses("muon", MSG_SYNC, 0, "tensor 't0'|[100]|muon|matrices|parameter group|adamw");
	refuses("muon", MSG_SYNC, 1, "tensor 't2'|[7]");
}

static void test_a_tensor_beyond_a_block_is_refused_in_async(void **state)
{
	(void)state;
	refuses("lars", MSG_ASYNC, 2, "tensor 't1'|[600,600]|360000 elements|lars|131072 elements|sync");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_shape_that_the_rule_does_not_take_is_refused),
		cmocka_unit_test(test_a_tensor_beyond_a_block_is_refused_in_async),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
