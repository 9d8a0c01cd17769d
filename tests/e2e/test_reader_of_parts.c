/*
 * A reader of one tensor, while another is a step behind: a lost connection is no
 * rollback.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdlib.h>

#include "proto/wire.h"

#include "client/optd.h"
#include "tests/e2e/speak.h"
#include "tests/support/daemon_process.h"
#include "tests/support/daemon_proxy.h"

#define BLOCKS 2u

struct fixture {
	struct daemon_process daemon;
	struct daemon_proxy *proxy;
	struct speaker worker;
	float *block;
};

/* Two tensors of a block each. */
static void open_worker(struct speaker *worker)
{
	const uint64_t shape = LIMIT_BLOCK_ELEMENTS;
	struct msg open = speak_request(worker, MSG_OPEN);
	struct layout *layout = layout_new();
	unsigned char bytes[256];

	assert_int_equal(layout_add(layout, "a", 1, &shape, 1, 0), 0);
	assert_int_equal(layout_add(layout, "b", 1, &shape, 1, 0), 0);
	assert_int_equal(layout_cut(layout, NULL), 0);
	open.payload_bytes = wire_layout_bytes(layout);
	assert_true(open.payload_bytes <= sizeof(bytes));
	wire_layout_encode(layout, bytes);
	open.payload = bytes;
	open.checksum = wire_checksum(bytes, open.payload_bytes);
	open.rank = 0;
	open.open = (struct msg_open){ .model = { "m", 1 },
		                       .daemons = 1,
		                       .layout_hash = layout_hash(layout),
		                       .client = worker->session,
		                       .wants_init = true,
		                       .optimizer = { "sgd", 3 },
		                       .mode = MSG_SYNC,
		                       .workers = 1 };
	layout_free(layout);
	assert_int_equal(speak_ask(worker, &open), OPTD_OK);
}

static void say_block(struct speaker *worker, enum msg_verb verb, uint32_t block, const float *values)
{
	struct msg msg = speak_push(worker, values, LIMIT_BLOCK_BYTES);

	msg.verb = verb;
	msg.token = verb == MSG_INIT ? worker->token : 0;
	msg.parts[0].first = block;
	assert_int_equal(speak_ask(worker, &msg), OPTD_OK);
}

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	assert_non_null(fixture);
	*state = fixture;
	fixture->block = calloc(LIMIT_BLOCK_ELEMENTS, sizeof(float));
	assert_non_null(fixture->block);
	daemon_init(&fixture->daemon);
	daemon_start_tcp(&fixture->daemon, 1);
	fixture->proxy = daemon_proxy_new(fixture->daemon.endpoints[0]);
	speak_hello(&fixture->worker, fixture->daemon.endpoints[0]);
	open_worker(&fixture->worker);
	for (uint32_t block = 0; block < BLOCKS; block++)
		say_block(&fixture->worker, MSG_INIT, block, fixture->block);
	struct msg done = speak_request(&fixture->worker, MSG_INIT);
	done.rank = 0;
	done.token = fixture->worker.token;
	assert_int_equal(speak_ask(&fixture->worker, &done), OPTD_OK);
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	speak_close(&fixture->worker);
	daemon_proxy_free(fixture->proxy);
	daemon_deinit(&fixture->daemon);
	free(fixture->block);
	free(fixture);
	return 0;
}

static void test_a_tensor_that_is_ahead_is_no_rollback(void **state)
{
	struct fixture *fixture = *state;
	const optd_options options = { .rank = -1, .timeout_ms = 30000 };
	const optd_part a = { .tensor = 0, .weights = fixture->block };
	optd_client *client = NULL;
	optd_model *model = NULL;

	assert_int_equal(optd_connect(daemon_proxy_endpoint(fixture->proxy), &options, &client), OPTD_OK);
	assert_int_equal(optd_open(client, "m", NULL, NULL, &model), OPTD_OK);
	say_block(&fixture->worker, MSG_PUSH, 0, fixture->block);
	assert_int_equal(optd_pull_parts(model, &a, 1, 1), OPTD_OK);
	daemon_proxy_cut(fixture->proxy);
	int rc = optd_pull_parts(model, &a, 1, 1);
	if (rc != OPTD_OK)
		fail_msg("%s", optd_error(client));
	optd_close(&client);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_tensor_that_is_ahead_is_no_rollback, set_up,
		                                tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
