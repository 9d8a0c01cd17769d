/*
 * More connections than the daemon's limit on descriptors has room for: it serves
 * those it let in, and its checkpoint at the end is written.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "proto/limits.h"
#include "tests/e2e/speak.h"
#include "tests/support/daemon_process.h"
#include "tests/support/zmtp_peer.h"

#define CONNECTIONS 600
#define SPARE (LIMIT_SPARE_DESCRIPTORS + LIMIT_LANE_DESCRIPTORS)
#define ALLOWED 100 /* under the hard limit */

struct fixture {
	struct daemon_process daemon;
	struct speaker trainer;
	int fds[CONNECTIONS];
};

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	assert_non_null(fixture);
	*state = fixture;
	daemon_init(&fixture->daemon);
	for (int i = 0; i < CONNECTIONS; i++)
		fixture->fds[i] = -1;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	for (int i = 0; i < CONNECTIONS; i++) {
		if (fixture->fds[i] >= 0)
			close(fixture->fds[i]);
	}
	daemon_deinit(&fixture->daemon);
	free(fixture);
	return 0;
}

static rlim_t hard_limit(void)
{
	struct rlimit limit;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	return limit.rlim_max;
}

/* A daemon with a model that has something to save. */
static void start(struct fixture *fixture, uint32_t soft, uint32_t hard)
{
	const uint64_t shape[] = { 64 };

	fixture->daemon.soft_descriptors = soft;
	fixture->daemon.hard_descriptors = hard;
	daemon_start_tcp(&fixture->daemon, 1);
	speak_hello(&fixture->trainer, fixture->daemon.endpoints[0]);
	assert_int_equal(speak_open(&fixture->trainer, "m", shape, 1, 0, 0), OPTD_OK);
	assert_int_equal(speak_init(&fixture->trainer, 64 * sizeof(float)), OPTD_OK);
}

/* Connections that say nothing once they are open. */
static void crowd(struct fixture *fixture)
{
	for (int i = 0; i < CONNECTIONS; i++)
		fixture->fds[i] = zmtp_dealer(fixture->daemon.endpoints[0]);
}

static void assert_let_in(struct fixture *fixture, int first, int end)
{
	for (int i = first; i < end; i++) {
		if (fixture->fds[i] < 0 || zmtp_wait_cut(fixture->fds[i], 0))
			fail_msg("connection %d was refused", i);
	}
}

static void assert_refused(struct fixture *fixture, int first, int end)
{
	for (int i = first; i < end; i++) {
		if (fixture->fds[i] >= 0 && !zmtp_wait_cut(fixture->fds[i], DAEMON_DEADLINE_MS))
			fail_msg("connection %d was let in", i);
	}
}

static void assert_serves(struct fixture *fixture)
{
	struct msg status = speak_request(&fixture->trainer, MSG_STATUS);
	assert_int_equal(speak_ask(&fixture->trainer, &status), OPTD_OK);
}

static void test_a_low_soft_limit_is_raised(void **state)
{
	struct fixture *fixture = *state;
	rlim_t hard = hard_limit();

	start(fixture, SPARE, hard < 65536 ? (uint32_t)hard : 65536);
	crowd(fixture);
	assert_let_in(fixture, 0, CONNECTIONS);
	assert_serves(fixture);
	assert_int_equal(daemon_stop(&fixture->daemon), 0);
}

static void test_a_low_hard_limit_is_logged_and_leaves_room_for_checkpoints(void **state)
{
	struct fixture *fixture = *state;

	start(fixture, SPARE + ALLOWED, SPARE + ALLOWED);
	assert_true(daemon_wait_log(&fixture->daemon, "event=descriptors", 1));
	assert_true(daemon_wait_log(&fixture->daemon, "connections=100 configured=4096", 1));
	crowd(fixture);
	/* The trainer is one of those allowed. */
	assert_refused(fixture, ALLOWED - 1, CONNECTIONS);
	assert_let_in(fixture, 0, ALLOWED - 1);
	assert_serves(fixture);
	assert_int_equal(daemon_stop(&fixture->daemon), 0);
}

static void test_no_room_for_a_connection_ends_the_start(void **state)
{
	struct fixture *fixture = *state;

	fixture->daemon.soft_descriptors = fixture->daemon.hard_descriptors = SPARE;
	assert_false(daemon_start_with(&fixture->daemon,
	                               (const char *[]){ "--listen", "tcp://127.0.0.1:0", NULL }));
	assert_int_equal(fixture->daemon.exit_code, 71);
	assert_int_equal(daemon_log_count(&fixture->daemon, "RLIMIT_NOFILE allows 272 descriptors"), 1);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_low_soft_limit_is_raised),
		TEST(test_a_low_hard_limit_is_logged_and_leaves_room_for_checkpoints),
		TEST(test_no_room_for_a_connection_ends_the_start),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
