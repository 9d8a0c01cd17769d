/*
 * A model of several lanes while some have it and others do not: whoever comes to a
 * lane first, it is made by a worker, and with what the lead's model has.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/status.h"
#include "proto/wire.h"
#include "tests/e2e/speak.h"
#include "tests/support/daemon_process.h"

#include "client/optd.h"

#define LANES 2
#define ELEMENTS (4 * (uint64_t)LIMIT_BLOCK_ELEMENTS)

struct fixture {
	struct daemon_process daemon;
	struct speaker lanes[LANES]; /* one worker's connections */
	uint64_t run_id;
	bool comes; /* to lane 1, when a reader has been there */
	optd_client *client;
	optd_model *model;
	optd_layout *layout;
};

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	const uint64_t elements = ELEMENTS;

	assert_non_null(fixture);
	*state = fixture;
	daemon_init(&fixture->daemon);
	daemon_start_tcp(&fixture->daemon, LANES);
	for (int i = 0; i < LANES; i++)
		speak_hello(&fixture->lanes[i], fixture->daemon.endpoints[i]);
	fixture->layout = optd_layout_new();
	assert_int_equal(optd_layout_add(fixture->layout, "w", &elements, 1), OPTD_OK);
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	optd_close(&fixture->client);
	optd_layout_free(fixture->layout);
	for (int i = 0; i < LANES; i++)
		speak_close(&fixture->lanes[i]);
	daemon_deinit(&fixture->daemon);
	free(fixture);
	return 0;
}

/* Rank 0 of two opens "m" on one lane, with all its settings. */
static int worker_opens(struct fixture *fixture, int lane)
{
	struct speaker *speaker = &fixture->lanes[lane];
	struct msg open = speak_request(speaker, MSG_OPEN);
	struct layout *layout = layout_new();
	const uint64_t elements = ELEMENTS;
	unsigned char bytes[64];

	assert_int_equal(layout_add(layout, "w", 1, &elements, 1, 0), 0);
	open.payload_bytes = wire_layout_bytes(layout);
	assert_true(open.payload_bytes <= sizeof(bytes));
	wire_layout_encode(layout, bytes);
	assert_int_equal(layout_cut(layout, NULL), 0);
	open.payload = bytes;
	open.checksum = wire_checksum(bytes, open.payload_bytes);
	open.rank = 0;
	open.open = (struct msg_open){ .model = { "m", 1 },
		                       .daemons = 1,
		                       .layout_hash = layout_hash(layout),
		                       .client = 7,
		                       .optimizer = { "adam", 4 },
		                       .match = { "torch1", 6 },
		                       .mode = MSG_ASYNC,
		                       .reduce = MSG_SUM,
		                       .workers = 2,
		                       .step_timeout_ms = 5000,
		                       .hyper_count = 2,
		                       .hypers = { { { "lr", 2 }, { 0.1 }, 1 },
		                                   { { "betas", 5 }, { 0.8, 0.99 }, 2 } },
		                       .schedule_count = 1,
		                       .schedule = { { .name = { "cosine", 6 },
		                                       .param_count = 1,
		                                       .params = { { { "T_max", 5 }, { 100 }, 1 } } } },
		                       .expect_run = lane > 0 ? fixture->run_id : 0 };
	layout_free(layout);
	return speak_ask(speaker, &open);
}

static void learn_run(void *user, const optd_status_row *row)
{
	((struct fixture *)user)->run_id = row->run_id;
}

/* The lead has the model, its other lane has not. */
static void begin(struct fixture *fixture)
{
	optd_client *operator;

	assert_int_equal(worker_opens(fixture, 0), OPTD_OK);
	assert_int_equal(optd_connect(fixture->daemon.endpoints[0], NULL, &operator), OPTD_OK);
	assert_int_equal(optd_get_status(operator, learn_run, fixture), OPTD_OK);
	optd_close(&operator);
}

/* The library says that it asks again. */
static void come_to_lane_1(void *user, const char *text)
{
	struct fixture *fixture = user;

	if (!fixture->comes || strstr(text, "asking again") == NULL)
		return;
	fixture->comes = false;
	assert_int_equal(worker_opens(fixture, 1), OPTD_OK);
}

static int opens_with(struct fixture *fixture, int32_t rank, const optd_layout *layout,
                      const optd_open_options *how)
{
	optd_options options = { .rank = rank,
		                 .timeout_ms = DAEMON_DEADLINE_MS,
		                 .notice = come_to_lane_1,
		                 .user = fixture };

	assert_int_equal(optd_connect(fixture->daemon.endpoints[0], &options, &fixture->client), OPTD_OK);
	return optd_open(fixture->client, "m", layout, how, &fixture->model);
}

static int opens(struct fixture *fixture, int32_t rank, const optd_layout *layout)
{
	return opens_with(fixture, rank, layout, NULL);
}

static void assert_reads(struct fixture *fixture, const optd_layout *layout)
{
	optd_model_info info;

	begin(fixture);
	fixture->comes = true;
	if (opens(fixture, -1, layout) != OPTD_OK)
		fail_msg("%s", optd_error(fixture->client));
	assert_false(fixture->comes);
	optd_model_get_info(fixture->model, &info);
	assert_int_equal(info.workers, 2);
}

static void test_a_reader_waits_for_a_worker_to_make_the_other_lane(void **state)
{
	assert_reads(*state, NULL);
}

static void test_a_reader_with_a_layout_does_not_make_the_other_lane(void **state)
{
	struct fixture *fixture = *state;

	assert_reads(fixture, fixture->layout);
}

static void test_a_lane_that_no_worker_comes_to_is_named(void **state)
{
	struct fixture *fixture = *state;

	begin(fixture);
	assert_int_equal(opens(fixture, -1, NULL), OPTD_NO_MODEL);
	assert_non_null(strstr(optd_error(fixture->client), fixture->daemon.endpoints[1]));
	assert_non_null(strstr(optd_error(fixture->client), "lane 2 of 2"));
}

static void test_a_worker_without_settings_makes_the_other_lane_with_the_leads(void **state)
{
	struct fixture *fixture = *state;

	begin(fixture);
	if (opens(fixture, 1, fixture->layout) != OPTD_OK)
		fail_msg("%s", optd_error(fixture->client));
	/* All that is given here is compared with what that lane has. */
	assert_int_equal(worker_opens(fixture, 1), OPTD_OK);
}

/* It is about the model, which is there. */
static void test_a_worker_whose_model_must_be_there_makes_the_other_lane(void **state)
{
	struct fixture *fixture = *state;
	const optd_open_options must = { .resume = OPTD_RESUME_MUST };

	begin(fixture);
	if (opens_with(fixture, 1, fixture->layout, &must) != OPTD_OK)
		fail_msg("%s", optd_error(fixture->client));
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_reader_waits_for_a_worker_to_make_the_other_lane),
		TEST(test_a_reader_with_a_layout_does_not_make_the_other_lane),
		TEST(test_a_lane_that_no_worker_comes_to_is_named),
		TEST(test_a_worker_without_settings_makes_the_other_lane_with_the_leads),
		TEST(test_a_worker_whose_model_must_be_there_makes_the_other_lane),
	};
	return cmocka_run_group_tests_name("opening lanes", tests, NULL, NULL);
}
