/* Gate: contributions in rank order, standings, and what is missing. */
#include <stdlib.h>
#include <string.h>

#include "server/core/gate.h"
#include "server/core/lane_message.h"
#include "server/core/wait.h"
#include "tests/support/core_world.h"

struct fixture {
	struct core_world world; /* only for its layout */
	struct model *model;
	struct gate *gate;
};

static void fixture_init(struct fixture *fixture, enum msg_mode mode, uint32_t workers)
{
	struct model_settings settings = {.mode = mode, .reduce = MSG_SUM, .workers = workers};
	char why[128];

	core_world_init(&fixture->world);
	struct layout *layout = core_world_layout(&fixture->world);
	assert_int_equal(layout_cut(layout, NULL), 0);
	assert_int_equal(optim_init(&settings.optim, optim_find("sgd"), OPTIM_TORCH2, why, sizeof(why)), 0);
	fixture->model = model_new("m", &settings, &layout, (struct model_place){0, 1, 0, 1});
	assert_non_null(fixture->model);
	model_set_ready(fixture->model);
	for (uint32_t rank = 0; rank < workers; rank++)
		assert_int_equal(model_seat(fixture->model, rank), OPTD_OK);
	fixture->gate = gate_new(fixture->model, OPTIM_ISA_BASE);
	assert_non_null(fixture->gate);
}

static void fixture_deinit(struct fixture *fixture)
{
	gate_free(fixture->gate);
	model_free(fixture->model);
}

/* A model whose steps are decided as a whole. */
static void fixture_init_clip(struct fixture *fixture, uint32_t workers)
{
	fixture_init(fixture, MSG_SYNC, workers);
	gate_free(fixture->gate);
	fixture->model->settings.clip.norm = 1;
	fixture->gate = gate_new(fixture->model, OPTIM_ISA_BASE);
	assert_non_null(fixture->gate);
}

static int admit(struct fixture *fixture, uint32_t rank, uint64_t step, const float *values)
{
	char why[256];
	struct gate_push push = {.rank = rank, .incarnation = 1, .step = step, .values = values};
	assert_int_equal(gate_check(fixture->gate, &push, why, sizeof(why)), OPTD_OK);
	return gate_admit(fixture->gate, &push, why, sizeof(why));
}

static const float BIG[8] = {1e8f, 1, 1, 1, 1, 1, 1, 1};
static const float SMALL[8] = {3, 2, 2, 2, 2, 2, 2, 2};
static const float MINUS[8] = {-1e8f, 3, 3, 3, 3, 3, 3, 3};

static void test_sum_has_the_same_bits_in_every_order_of_arrival(void **state)
{
	(void)state;
	static const uint32_t orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
	                                      {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
	const float *values[3] = {BIG, SMALL, MINUS};
	/* (1e8 + 3) - 1e8 is 0 in float32, where (1e8 - 1e8) + 3 is 3. */
	float expected = (BIG[0] + SMALL[0]) + MINUS[0];
	for (int i = 0; i < 6; i++) {
		struct fixture fixture;
		struct commit commit;
		fixture_init(&fixture, MSG_SYNC, 3);
		for (int j = 0; j < 3; j++) {
			assert_false(gate_next(fixture.gate, 0, &commit));
			admit(&fixture, orders[i][j], 0, values[orders[i][j]]);
		}
		assert_true(gate_next(fixture.gate, 0, &commit));
		const float *sums = commit.values;
		assert_memory_equal(&sums[0], &expected, sizeof(float));
		assert_true(sums[1] == 6.0f);
		assert_int_equal(commit.contributor_count, 3);
		fixture_deinit(&fixture);
	}
}

/* 1e8 as bf16 is 99614720; as f16, 3 is 0x4200 and 2 is 0x4000. */
static void test_each_rank_of_a_step_may_have_its_own_type(void **state)
{
	(void)state;
	static const uint16_t wide[8] = {0x4cbe, 0x3f80, 0x3f80, 0x3f80, 0x3f80, 0x3f80, 0x3f80, 0x3f80};
	static const uint16_t small[8] = {0x4200, 0x4000, 0x4000, 0x4000, 0x4000, 0x4000, 0x4000, 0x4000};
	struct gate_push pushes[3] = {
	        {.rank = 0, .incarnation = 1, .values = wide, .type = DTYPE_BF16},
	        {.rank = 1, .incarnation = 1, .values = small, .type = DTYPE_F16},
	        {.rank = 2, .incarnation = 1, .values = MINUS, .type = DTYPE_F32},
	};
	float expected = (99614720.0f + 3.0f) - 1e8f;
	char why[256];

	for (int first = 0; first < 3; first++) {
		struct fixture fixture;
		struct commit commit;
		fixture_init(&fixture, MSG_SYNC, 3);
		for (int i = 0; i < 3; i++)
			assert_int_equal(gate_admit(fixture.gate, &pushes[(first + i) % 3], why, sizeof(why)), OPTD_OK);
		assert_true(gate_next(fixture.gate, 0, &commit));
		assert_int_equal(commit.type, DTYPE_F32);
		const float *sums = commit.values;
		assert_memory_equal(&sums[0], &expected, sizeof(float));
		assert_true(sums[7] == 6.0f);
		fixture_deinit(&fixture);
	}
}

static void test_where_direct_a_commit_has_the_type_that_arrived(void **state)
{
	(void)state;
	static const uint16_t half[8] = {0x4200, 0x4000, 0x4000, 0x4000, 0x4000, 0x4000, 0x4000, 0x4000};
	struct gate_push push = {.rank = 0, .incarnation = 1, .values = half, .type = DTYPE_F16};
	struct fixture fixture;
	struct commit commit;
	char why[256];

	fixture_init(&fixture, MSG_SYNC, 1);
	assert_int_equal(gate_admit(fixture.gate, &push, why, sizeof(why)), OPTD_OK);
	assert_true(gate_next(fixture.gate, 0, &commit));
	assert_ptr_equal(commit.values, half);
	assert_int_equal(commit.type, DTYPE_F16);
	fixture_deinit(&fixture);
}

static void test_standing_follows_a_rank_through_a_step(void **state)
{
	(void)state;
	struct fixture fixture;
	struct commit commit;
	fixture_init(&fixture, MSG_SYNC, 2);
	assert_int_equal(gate_standing(fixture.gate, 0, 0, 0), GATE_DUE);
	assert_int_equal(gate_standing(fixture.gate, 0, 0, 1), GATE_AHEAD);
	admit(&fixture, 0, 0, BIG);
	assert_int_equal(gate_standing(fixture.gate, 0, 0, 0), GATE_HAS);
	assert_int_equal(gate_standing(fixture.gate, 0, 1, 0), GATE_DUE);
	admit(&fixture, 1, 0, BIG);
	assert_true(gate_next(fixture.gate, 0, &commit));
	model_apply(fixture.model, OPTIM_ISA_BASE, &commit);
	gate_committed(fixture.gate, 0);
	assert_int_equal(gate_standing(fixture.gate, 0, 0, 0), GATE_DONE);
	assert_int_equal(gate_standing(fixture.gate, 0, 0, 1), GATE_DUE);
	fixture_deinit(&fixture);
}

static void test_missing_names_ranks_that_have_not_come(void **state)
{
	(void)state;
	struct fixture fixture;
	uint32_t ranks[2];
	fixture_init(&fixture, MSG_SYNC, 4);
	admit(&fixture, 2, 0, NULL);
	assert_int_equal(gate_missing(fixture.gate, 0, ranks, 2), 3);
	assert_int_equal(ranks[0], 0);
	assert_int_equal(ranks[1], 1);
	fixture_deinit(&fixture);
}

static void test_async_misses_nobody(void **state)
{
	(void)state;
	struct fixture fixture;
	struct commit commit;
	uint32_t ranks[2];
	fixture_init(&fixture, MSG_ASYNC, 3);
	assert_true(gate_direct(fixture.gate));
	assert_int_equal(gate_missing(fixture.gate, 0, ranks, 2), 0);
	admit(&fixture, 1, 0, SMALL);
	assert_true(gate_next(fixture.gate, 0, &commit));
	assert_ptr_equal(commit.values, SMALL); /* straight from what arrived */
	assert_int_equal(commit.contributors[0].rank, 1);
	fixture_deinit(&fixture);
}

static void test_held_block_gives_no_commit(void **state)
{
	(void)state;
	struct fixture fixture;
	struct commit commit;
	fixture_init(&fixture, MSG_SYNC, 1);
	gate_hold(fixture.gate, 0, true);
	admit(&fixture, 0, 0, SMALL);
	assert_false(gate_next(fixture.gate, 0, &commit));
	gate_hold(fixture.gate, 0, false);
	assert_true(gate_next(fixture.gate, 0, &commit));
	fixture_deinit(&fixture);
}

static void release_nothing(struct buf *buf)
{
	(void)buf;
}

static void test_waiting_bytes_are_counted_until_folded(void **state)
{
	(void)state;
	struct fixture fixture;
	char why[256];
	float values[8] = {0};
	struct buf payload = {
	        .holders = 1, .bytes = sizeof(values), .data = values, .release = release_nothing};
	fixture_init(&fixture, MSG_SYNC, 3);
	struct gate_push push = {.rank = 2, .incarnation = 1, .values = values};
	push.parcel = gate_unpack(fixture.gate, &payload);
	assert_int_equal(gate_admit(fixture.gate, &push, why, sizeof(why)), OPTD_OK);
	gate_unpacked(fixture.gate, push.parcel);
	admit(&fixture, 1, 0, NULL);
	assert_int_equal(gate_waiting_bytes(fixture.gate), 32);
	assert_int_equal(atomic_load(&payload.holders), 2);
	admit(&fixture, 0, 0, SMALL);
	assert_int_equal(gate_waiting_bytes(fixture.gate), 0);
	assert_int_equal(atomic_load(&payload.holders), 1);
	fixture_deinit(&fixture);
}

static void test_resend_takes_the_contribution_over_from_its_wait(void **state)
{
	(void)state;
	struct fixture fixture;
	struct wait old = {0}, new = {0};
	char why[256];
	fixture_init(&fixture, MSG_SYNC, 2);
	struct gate_push push = {.rank = 1, .incarnation = 1, .values = SMALL, .wait = &old};
	assert_int_equal(gate_admit(fixture.gate, &push, why, sizeof(why)), OPTD_OK);
	assert_int_equal(old.unfolded, 1);
	gate_rejoin(fixture.gate, 0, 1, &new);
	assert_int_equal(old.unfolded, 0);
	assert_int_equal(new.unfolded, 1);
	admit(&fixture, 0, 0, SMALL);
	assert_int_equal(new.unfolded, 0);
	fixture_deinit(&fixture);
}

static void test_collected_block_commits_once_its_step_is_decided(void **state)
{
	(void)state;
	struct fixture fixture;
	struct commit commit;
	struct lane_message decision = {.clipped = true, .factor = 0.5f};
	fixture_init_clip(&fixture, 1);
	assert_false(gate_direct(fixture.gate));
	assert_false(gate_collected(fixture.gate));
	assert_int_equal(gate_uncollected(fixture.gate), 0);
	admit(&fixture, 0, 0, SMALL);
	assert_true(gate_collected(fixture.gate));
	assert_int_equal(gate_uncollected(fixture.gate), UINT32_MAX);
	assert_true(gate_step_parts(fixture.gate)[0] == 9 + 3 * 4);
	assert_false(gate_next(fixture.gate, 0, &commit));
	gate_decided(fixture.gate, &decision);
	assert_int_equal(gate_step(fixture.gate), 1);
	assert_true(gate_next(fixture.gate, 0, &commit));
	assert_true(commit.factors[0] == 0.5f && commit.factors[2] == 0.5f);
	model_apply(fixture.model, OPTIM_ISA_BASE, &commit);
	gate_committed(fixture.gate, 0);
	assert_false(gate_collected(fixture.gate));
	assert_false(gate_next(fixture.gate, 0, &commit));
	fixture_deinit(&fixture);
}

static void test_skipped_step_commits_nothing_but_its_version(void **state)
{
	(void)state;
	struct fixture fixture;
	struct commit commit;
	struct lane_message decision = {.skip = true};
	fixture_init_clip(&fixture, 1);
	admit(&fixture, 0, 0, SMALL);
	gate_decided(fixture.gate, &decision);
	assert_true(gate_next(fixture.gate, 0, &commit));
	assert_true(commit.empty);
	assert_int_equal(commit.version, 1);
	assert_int_equal(commit.contributor_count, 1);
	fixture_deinit(&fixture);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_sum_has_the_same_bits_in_every_order_of_arrival),
	        cmocka_unit_test(test_each_rank_of_a_step_may_have_its_own_type),
	        cmocka_unit_test(test_where_direct_a_commit_has_the_type_that_arrived),
	        cmocka_unit_test(test_standing_follows_a_rank_through_a_step),
	        cmocka_unit_test(test_missing_names_ranks_that_have_not_come),
	        cmocka_unit_test(test_async_misses_nobody),
	        cmocka_unit_test(test_held_block_gives_no_commit),
	        cmocka_unit_test(test_waiting_bytes_are_counted_until_folded),
	        cmocka_unit_test(test_resend_takes_the_contribution_over_from_its_wait),
	        cmocka_unit_test(test_collected_block_commits_once_its_step_is_decided),
	        cmocka_unit_test(test_skipped_step_commits_nothing_but_its_version),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
