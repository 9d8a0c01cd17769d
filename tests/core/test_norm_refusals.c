/*
 * NORM, the bad case: who may not, what blocks it may not be about, and models that have no
 * norm to tell of.  Nothing of it is taken.
 */
#include <string.h>

#include "server/core/verbs.h"
#include "tests/support/core_daemons.h"
#include "tests/support/rng_seed.h"

#define BLOCK LIMIT_BLOCK_SEGMENTS
#define ELEMENTS (DAEMONS_MOST * BLOCK)

static struct daemons d;
static const double parts[ELEMENTS] = {1, 2, 3};
static const float gradient[ELEMENTS] = {4, 5};

static void start(uint32_t daemons, uint32_t lanes)
{
	d = (struct daemons){.daemons = daemons, .lanes = lanes, .workers = 2, .clip = {.norm = 1}};
	daemons_start(&d);
}

static const struct norms *norms_of(uint32_t daemon)
{
	return core_shard(daemons_world(&d, daemon))->lead->norms;
}

/* The whole run of a daemon, refused, and nothing taken of it. */
static void refused(struct core_client *client, struct layout_run run, uint32_t count, int status, const char *words)
{
	const struct norms *norms = core_shard(client->world)->lead->norms;
	uint32_t missing = norms->missing;

	core_assert_refused(client->world, daemons_send(client, 0, run, count > 0 ? parts : NULL, count), status, words);
	assert_int_equal(norms->missing, missing);
	assert_int_equal(norms->waiting, 0);
}

/* ---- who ---------------------------------------------------------------- */

static void refused_of(struct core_client *client, int status, const char *words)
{
	refused(client, daemons_blocks(&d, 0), 0, status, words);
	refused(client, daemons_blocks(&d, 1), BLOCK, status, words);
}

static void test_a_reader_neither_asks_nor_tells(void **state)
{
	(void)state;
	start(2, 1);
	struct core_client reader = core_join(daemons_world(&d, 0), 3, MSG_NO_RANK);
	refused_of(&reader, OPTD_DENIED, "this session reads");
	daemons_end(&d);
}

static void test_a_rank_is_of_its_own_session(void **state)
{
	(void)state;
	start(2, 1);
	struct core_client client = *daemons_client(&d, 0, 0);
	client.rank = 1;
	refused_of(&client, OPTD_STALE_INCARNATION, "rank 1 of model 'm' is held");
	client.rank = 7;
	refused_of(&client, OPTD_DENIED, "rank");
	client.session++;
	refused_of(&client, OPTD_NO_SESSION, "HELLO");
	daemons_end(&d);
}

static void test_a_stale_incarnation_is_refused(void **state)
{
	(void)state;
	start(2, 1);
	struct core_client client = *daemons_client(&d, 0, 1);
	client.opened.incarnation--;
	refused_of(&client, OPTD_STALE_INCARNATION, "rank 1 of model 'm'|incarnation 1, yours 0");
	struct core_world *world = daemons_world(&d, 0);
	engine_peer_gone(world->engine, 1, &world->out);
	core_hello(&client);
	refused_of(&client, OPTD_STALE_INCARNATION, "not held by this session");
	daemons_end(&d);
}

/* ---- which blocks ------------------------------------------------------- */

/* Three daemons have a block each; the one in the middle is talked to. */
static void test_only_a_daemons_own_blocks_are_asked_for(void **state)
{
	static const struct layout_run runs[] = {{0, 1}, {2, 1}, {0, 2}, {1, 2}, {0, 3}, {3, 1}, {1, UINT32_MAX}, {UINT32_MAX, 1}};

	(void)state;
	start(3, 1);
	for (size_t i = 0; i < sizeof(runs) / sizeof(runs[0]); i++)
		refused(daemons_client(&d, 1, 0), runs[i], 0, OPTD_INVALID, "'m' has 3 blocks|1 to 1 are this server's");
	daemons_end(&d);
}

static void test_a_daemon_is_told_of_others_blocks_only(void **state)
{
	static const struct layout_run runs[] = {{1, 1}, {0, 2}, {1, 2}, {0, 3}, {3, 1}, {2, 2}, {2, UINT32_MAX}, {UINT32_MAX, 1}};

	(void)state;
	start(3, 1);
	for (size_t i = 0; i < sizeof(runs) / sizeof(runs[0]); i++)
		refused(daemons_client(&d, 1, 0), runs[i], BLOCK, OPTD_INVALID, "'m' has 3 blocks|1 to 1 are this server's");
	daemons_end(&d);
}

static void test_norm_is_about_one_part(void **state)
{
	(void)state;
	start(3, 1);
	struct core_client *client = daemons_client(&d, 0, 0);
	struct msg msg = daemons_norm(client, 0, (struct layout_run){1, 1});
	msg.part_count = 2;
	msg.parts[1] = (struct msg_part){.first = 2, .count = 1};
	core_send(client, &msg, (const float *)(const void *)parts, 4 * BLOCK);
	core_assert_refused(client->world, msg.request, OPTD_INVALID, "NORM of 2 parts");
	msg = daemons_norm(client, 0, (struct layout_run){0, 1});
	msg.part_count = 0;
	core_send(client, &msg, NULL, 0);
	core_assert_refused(client->world, msg.request, OPTD_INVALID, "NORM of 0 parts");
	assert_int_equal(norms_of(0)->missing, 2);
	daemons_end(&d);
}

static void test_as_many_numbers_are_told_as_the_blocks_have_segments(void **state)
{
	(void)state;
	start(2, 1);
	struct core_client *client = daemons_client(&d, 0, 0);
	refused(client, daemons_blocks(&d, 1), BLOCK - 1, OPTD_INVALID, "'m'|4096 parts of a norm, 4095 came");
	refused(client, daemons_blocks(&d, 1), BLOCK + 1, OPTD_INVALID, "4096 parts of a norm, 4097 came");
	daemons_end(&d);
}

/* Whatever the wire lets through: a random run, and now and then numbers. */
static void test_any_blocks_are_refused_but_the_right_ones(void **state)
{
	uint64_t seed = rng_seed();
	struct rng rng = rng_new(seed);

	(void)state;
	print_message("OPTD_SEED=%llu\n", (unsigned long long)seed);
	start(3, 1);
	struct core_client *client = daemons_client(&d, 1, 0);
	for (int i = 0; i < 2000; i++) {
		struct layout_run run = {rng_below(&rng, 5), 1 + rng_below(&rng, 4)};
		bool tells = rng_one_in(&rng, 2);
		uint32_t count = tells ? BLOCK * (1 + rng_below(&rng, 3)) : 0;
		run.first = rng_one_in(&rng, 8) ? UINT32_MAX - run.first : run.first;
		run.count = rng_one_in(&rng, 8) ? UINT32_MAX - run.count : run.count;
		bool own = run.first == 1 && run.count == 1, other = run.count == 1 && (run.first == 0 || run.first == 2);
		uint64_t request = daemons_send(client, 0, run, count > 0 ? parts : NULL, count);
		if (tells ? other && count == BLOCK : own)
			assert_true(tells == (core_answer(client->world, request) != NULL)); /* asks wait */
		else
			core_assert_refused(client->world, request, OPTD_INVALID, "model 'm'");
	}
	assert_int_equal(norms_of(1)->missing, 0);
	daemons_end(&d);
}

static void test_more_blocks_than_a_message_has_numbers_are_too_large(void **state)
{
	enum { BLOCKS = 2 * (LIMIT_NORM_SEGMENTS / BLOCK + 1), MOST = LIMIT_NORM_SEGMENTS / BLOCK };
	static uint64_t tensors[BLOCKS * BLOCK];

	(void)state;
	for (uint32_t i = 0; i < BLOCKS * BLOCK; i++)
		tensors[i] = CORE_SCALAR;
	d = (struct daemons){.daemons = 2, .lanes = 1, .workers = 1, .clip = {.norm = 1},
	                     .tensors = tensors, .tensor_count = BLOCKS * BLOCK};
	daemons_start(&d);
	refused(daemons_client(&d, 0, 0), daemons_blocks(&d, 0), 0, OPTD_TOO_LARGE, "36864 parts of a norm|32768");
	daemons_send(daemons_client(&d, 0, 0), 0, (struct layout_run){0, MOST}, NULL, 0);
	assert_int_equal(norms_of(0)->waiting, 1);
	daemons_end(&d);
}

/* ---- which models ------------------------------------------------------- */

static void has_none(struct core_client *client)
{
	core_assert_refused(client->world, daemons_send(client, 0, (struct layout_run){0, 1}, NULL, 0), OPTD_INVALID,
	                    "model 'm' has no norm|clip_norm|several servers|first lane");
	core_assert_refused(client->world, daemons_send(client, 0, (struct layout_run){1, 1}, parts, BLOCK),
	                    OPTD_INVALID, "model 'm' has no norm");
}

static void test_a_model_of_one_daemon_has_no_parts_to_tell(void **state)
{
	(void)state;
	start(1, 2);
	has_none(daemons_client(&d, 0, 0));
	daemons_end(&d);
}

static void test_a_model_that_clips_no_norm_has_no_parts_to_tell(void **state)
{
	(void)state;
	d = (struct daemons){.daemons = 2, .lanes = 1, .workers = 1};
	daemons_start(&d);
	has_none(daemons_client(&d, 0, 0));
	daemons_end(&d);
}

static void test_lanes_but_the_first_have_no_parts_to_tell(void **state)
{
	(void)state;
	start(2, 2);
	has_none(&d.clients[1][0]);
	daemons_end(&d);
}

/* All blocks fit on the first; the other's worker has nobody to ask or tell. */
static void test_a_daemon_without_blocks_has_none_to_tell_of(void **state)
{
	static const uint64_t tensors[] = {4};

	(void)state;
	d = (struct daemons){.daemons = 2, .lanes = 1, .workers = 1, .clip = {.norm = 1}, .tensors = tensors, .tensor_count = 1};
	daemons_start(&d);
	has_none(daemons_client(&d, 0, 0));
	has_none(daemons_client(&d, 1, 0));
	daemons_end(&d);
}

/* ---- memory ------------------------------------------------------------- */

static void test_the_formula_counts_parts_of_two_steps_and_who_may_wait(void **state)
{
	(void)state;
	start(2, 1);
	const struct model *model = daemons_model(&d, 0);
	struct model_settings settings = model->settings;
	struct model_place alone = {0, 1, 0, 1}, shared = {0, 2, 0, 1}, second = {0, 2, 1, 2};
	uint64_t all = layout_segment_count(model->layout) * sizeof(double);
	assert_true(lead_bytes(&settings, model->layout, alone) >= 2 * all); /* parts, and the message */
	uint64_t few = lead_bytes(&settings, model->layout, shared);
	assert_true(few >= 2 * all + all / 2);
	settings.workers += 100;
	assert_true(lead_bytes(&settings, model->layout, shared) >= few + 100 * sizeof(struct norm_ask));
	assert_true(lead_bytes(&settings, model->layout, second) < all);
	daemons_end(&d);
}

static void test_what_was_refused_leaves_the_step_as_it_was(void **state)
{
	(void)state;
	start(2, 1);
	refused(daemons_client(&d, 0, 0), daemons_blocks(&d, 1), BLOCK - 1, OPTD_INVALID, "came");
	daemons_push(&d, 0, 0, 0, gradient);
	daemons_push(&d, 0, 1, 0, gradient);
	assert_int_equal(daemons_model(&d, 0)->versions[0], 0);
	daemons_tell(&d, 0, 1, 0, 1, parts);
	assert_int_equal(daemons_model(&d, 0)->versions[0], 1);
	daemons_end(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_a_reader_neither_asks_nor_tells),
	        cmocka_unit_test(test_a_rank_is_of_its_own_session),
	        cmocka_unit_test(test_a_stale_incarnation_is_refused),
	        cmocka_unit_test(test_only_a_daemons_own_blocks_are_asked_for),
	        cmocka_unit_test(test_a_daemon_is_told_of_others_blocks_only),
	        cmocka_unit_test(test_norm_is_about_one_part),
	        cmocka_unit_test(test_as_many_numbers_are_told_as_the_blocks_have_segments),
	        cmocka_unit_test(test_any_blocks_are_refused_but_the_right_ones),
	        cmocka_unit_test(test_more_blocks_than_a_message_has_numbers_are_too_large),
	        cmocka_unit_test(test_a_model_of_one_daemon_has_no_parts_to_tell),
	        cmocka_unit_test(test_a_model_that_clips_no_norm_has_no_parts_to_tell),
	        cmocka_unit_test(test_lanes_but_the_first_have_no_parts_to_tell),
	        cmocka_unit_test(test_a_daemon_without_blocks_has_none_to_tell_of),
	        cmocka_unit_test(test_the_formula_counts_parts_of_two_steps_and_who_may_wait),
	        cmocka_unit_test(test_what_was_refused_leaves_the_step_as_it_was),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
