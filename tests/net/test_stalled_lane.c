/*
 * A lane that stands still, as on a disk that takes nothing for seconds: workers
 * that keep to their windows are all still there when it goes on.
 *
 * The lane is in this process, so that it can be made to stand still.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <semaphore.h>
#include <stdlib.h>
#include <zmq.h>

#include "server/net/lane.h"
#include "tests/e2e/speak.h"
#include "tests/support/daemon_process.h"
#include "tests/support/zmtp_peer.h"

#define MESSAGE_BYTES LIMIT_BLOCK_BYTES
#define WINDOW_BYTES (4 * MESSAGE_BYTES)
/* Their windows together are more than the 64 messages that nobody was granted. */
#define WORKERS 24
/* Ten looks of the guard. */
#define STALL_MS 500

struct fixture {
	void *context;
	struct log log;
	struct lane *lane;
	sem_t stalled, go;
	struct speaker workers[WORKERS];
	struct msg last[WORKERS];
};

static void admin(void *user, struct lane *lane, const struct msg *request, uint32_t peer,
                  const char *name)
{
	(void)user, (void)lane, (void)request, (void)peer, (void)name;
}

static int set_up(void **state)
{
	static const char *endpoints[1];
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	char why[256];

	assert_non_null(fixture);
	*state = fixture;
	sem_init(&fixture->stalled, 0, 0);
	sem_init(&fixture->go, 0, 0);
	fixture->context = zmq_ctx_new();
	fixture->log = (struct log){ .level = LOG_ERROR };
	const struct lane_options options = { .context = fixture->context, .log = &fixture->log,
		                              .listen = "tcp://127.0.0.1:*",
		                              .message_bytes = MESSAGE_BYTES,
		                              .window_bytes = WINDOW_BYTES,
		                              .connections = 2 * WORKERS, .admin = admin };
	assert_int_equal(lane_open(&options, &fixture->lane, why, sizeof(why)), OPTD_OK);
	endpoints[0] = lane_endpoint(fixture->lane);
	const struct engine_options engine = { .lanes = 1, .endpoints = endpoints, .epoch = 1, .seed = 1,
		                               .isa = OPTIM_ISA_BASE, .memory_bytes = 1u << 30,
		                               .message_bytes = MESSAGE_BYTES,
		                               .window_bytes = WINDOW_BYTES, .models = 1,
		                               .workers = WORKERS, .step_timeout_ms = 60000,
		                               .notice_ms = 60000, .lease_ms = 60000 };
	assert_int_equal(lane_start(fixture->lane, &engine), OPTD_OK);
	assert_int_equal(lane_run(fixture->lane), OPTD_OK);
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	for (int i = 0; i < WORKERS; i++)
		speak_close(&fixture->workers[i]);
	sem_post(&fixture->go);
	lane_stop(fixture->lane);
	lane_close_socket(fixture->lane);
	zmq_ctx_term(fixture->context);
	lane_free(&fixture->lane);
	sem_destroy(&fixture->stalled);
	sem_destroy(&fixture->go);
	free(fixture);
	return 0;
}

static void stand_still(void *lane, void *argument)
{
	struct fixture *fixture = argument;

	(void)lane;
	sem_post(&fixture->stalled);
	sem_wait(&fixture->go);
}

static void test_workers_within_their_windows_outlast_it(void **state)
{
	static const float gradient[MESSAGE_BYTES / sizeof(float)];
	const uint64_t shape[] = { MESSAGE_BYTES / sizeof(float) };
	struct fixture *fixture = *state;
	const char *endpoint = lane_endpoint(fixture->lane);

	for (int32_t i = 0; i < WORKERS; i++) {
		speak_hello(&fixture->workers[i], endpoint);
		assert_int_equal(speak_open(&fixture->workers[i], "m", shape, 1, i, 0), OPTD_OK);
	}
	assert_int_equal(speak_init(&fixture->workers[0], MESSAGE_BYTES), OPTD_OK);
	assert_int_equal(lane_post(fixture->lane, stand_still, fixture), OPTD_OK);
	sem_wait(&fixture->stalled);
	for (int32_t i = 0; i < WORKERS; i++) {
		for (uint64_t step = 0; step < WINDOW_BYTES / MESSAGE_BYTES; step++) {
			fixture->last[i] = speak_push(&fixture->workers[i], gradient, MESSAGE_BYTES);
			fixture->last[i].rank = i;
			fixture->last[i].step = step;
			assert_true(speak_send(&fixture->workers[i], &fixture->last[i]));
		}
	}
	assert_false(zmtp_wait_cut(fixture->workers[0].fd, STALL_MS));
	sem_post(&fixture->go);
	for (int i = 0; i < WORKERS; i++) {
		if (!speak_answer(&fixture->workers[i], &fixture->last[i], DAEMON_DEADLINE_MS))
			fail_msg("worker %d was cut", i);
		assert_int_equal(fixture->workers[i].status, OPTD_OK);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_workers_within_their_windows_outlast_it, set_up,
		                                tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
