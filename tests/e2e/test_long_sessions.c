/*
 * A session that lives long: what it has sent in all is no reason to cut it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "tests/e2e/speak.h"
#include "tests/support/daemon_process.h"
#include "tests/support/zmtp_peer.h"

/* limits.message is small, so that few messages tell.  Of an error of six bytes a
 * message, which the lengths of frames are, this many make twice that. */
#define MESSAGE_BYTES (512u << 10)
#define PUSHES (2 * MESSAGE_BYTES / 6)
#define ELEMENTS 64
#define BATCH 500
/* The daemon looks 20 times a second. */
#define PAUSE_MS 500

static int set_up(void **state)
{
	struct daemon_process *daemon = calloc(1, sizeof(*daemon));
	char config[96];

	assert_non_null(daemon);
	*state = daemon;
	daemon_init(daemon);
	snprintf(config, sizeof(config), "%s/optd.yaml", daemon->directory);
	FILE *file = fopen(config, "w");
	assert_non_null(file);
	fprintf(file, "listen: tcp://127.0.0.1:0\nlimits: {message: %u}\n", MESSAGE_BYTES);
	fclose(file);
	assert_true(daemon_start_with(daemon, (const char *[]){ "--config", config, NULL }));
	return 0;
}

static int tear_down(void **state)
{
	daemon_deinit(*state);
	free(*state);
	return 0;
}

static void push_much(struct speaker *speaker)
{
	static const float gradient[ELEMENTS];
	struct msg push;

	for (uint64_t step = 0; step < PUSHES; step++) {
		push = speak_push(speaker, gradient, sizeof(gradient));
		push.step = step;
		assert_true(speak_send(speaker, &push));
		if (step % BATCH == BATCH - 1)
			assert_true(speak_answer(speaker, &push, DAEMON_DEADLINE_MS));
	}
	assert_true(speak_answer(speaker, &push, DAEMON_DEADLINE_MS));
	assert_int_equal(speaker->status, OPTD_OK);
}

static void test_a_session_that_pauses_after_many_small_pushes_is_kept(void **state)
{
	const uint64_t shape[] = { ELEMENTS };
	struct daemon_process *daemon = *state;
	struct speaker speaker;

	speak_hello(&speaker, daemon->endpoints[0]);
	assert_int_equal(speak_open(&speaker, "small", shape, 1, 0, 0), OPTD_OK);
	assert_int_equal(speak_init(&speaker, ELEMENTS * sizeof(float)), OPTD_OK);
	push_much(&speaker);
	assert_false(zmtp_wait_cut(speaker.fd, PAUSE_MS));
	struct msg status = speak_request(&speaker, MSG_STATUS);
	assert_int_equal(speak_ask(&speaker, &status), OPTD_OK);
	speak_close(&speaker);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
		        test_a_session_that_pauses_after_many_small_pushes_is_kept, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
