/*
 * A daemon with room for a few connections, and peers that come, misbehave and go.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/e2e/speak.h"
#include "tests/support/daemon_process.h"
#include "tests/support/zmtp_peer.h"

#define CONNECTIONS 8
/* Well below what a silent peer is given before it is asked whether it lives. */
#define ROOM_MS 4000

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
	fprintf(file, "listen: tcp://127.0.0.1:0\nlimits: {connections: %d}\n", CONNECTIONS);
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

/* Says HELLO until it is let in; false when that takes too long. */
static bool enter(const struct daemon_process *daemon, struct speaker *speaker)
{
	uint64_t began_ms = daemon_now_ms();
	int status = OPTD_BUSY;

	while (status != OPTD_OK && daemon_now_ms() - began_ms < ROOM_MS) {
		*speaker = (struct speaker){ .fd = zmtp_dealer(daemon->endpoints[0]), .session = began_ms };
		if (speaker->fd < 0)
			continue;
		struct msg hello = speak_request(speaker, MSG_HELLO);
		hello.hello = (struct msg_hello){ .protocol_min = LIMIT_PROTOCOL_MIN,
			                          .protocol_max = LIMIT_PROTOCOL_MAX };
		status = speak_ask(speaker, &hello);
		if (status != OPTD_OK)
			speak_close(speaker);
	}
	return status == OPTD_OK;
}

static void test_sessions_that_left_make_room_for_new_ones(void **state)
{
	struct speaker speaker;

	for (int i = 0; i < 2 * CONNECTIONS + 1; i++) {
		assert_true(enter(*state, &speaker));
		speak_close(&speaker);
	}
}

static void test_sessions_that_stay_are_kept_when_there_is_no_room(void **state)
{
	struct speaker stays, speaker;

	assert_true(enter(*state, &stays));
	for (int i = 0; i < CONNECTIONS + 1; i++) {
		assert_true(enter(*state, &speaker));
		speak_close(&speaker);
	}
	struct msg status = speak_request(&stays, MSG_STATUS);
	assert_int_equal(speak_ask(&stays, &status), OPTD_OK);
	speak_close(&stays);
}

static void test_malformed_messages_of_one_address_are_logged_once_a_minute(void **state)
{
	struct daemon_process *daemon = *state;
	int fds[CONNECTIONS / 2];

	for (int i = 0; i < CONNECTIONS / 2; i++)
		fds[i] = zmtp_dealer(daemon->endpoints[0]);
	for (int i = 0; i < CONNECTIONS / 2; i++) {
		assert_true(fds[i] >= 0);
		for (int j = 0; j < 3; j++)
			zmtp_message(fds[i], "\xff", 1, NULL, 0);
		/* All have been seen. */
		assert_true(zmtp_wait_cut(fds[i], ROOM_MS));
	}
	/* Twice: once more for those that were cut before all of theirs was looked at. */
	assert_in_range(daemon_log_count(daemon, "event=malformed"), 1, 2);
	for (int i = 0; i < CONNECTIONS / 2; i++)
		close(fds[i]);
}

/* What optctl status prints; false if it was not let in. */
static bool ask_status(const struct daemon_process *daemon, const char *arguments, char *out,
                       size_t out_bytes)
{
	const char *program = getenv("OPTCTL_BIN");
	char command[1024];

	assert_non_null(program);
	snprintf(command, sizeof(command), "%s -s %s status %s", program, daemon->endpoints[0],
	         arguments);
	FILE *pipe = popen(command, "r");
	assert_non_null(pipe);
	out[fread(out, 1, out_bytes - 1, pipe)] = '\0';
	return pclose(pipe) == 0;
}

static void test_hostile_frames_are_counted_and_told_by_status(void **state)
{
	struct daemon_process *daemon = *state;
	char out[4096];
	int fd = zmtp_dealer(daemon->endpoints[0]);

	assert_true(fd >= 0);
	for (int i = 0; i < 3; i++)
		zmtp_message(fd, "\xff", 1, NULL, 0);
	assert_true(zmtp_wait_cut(fd, ROOM_MS));
	close(fd);
	assert_true(ask_status(daemon, "", out, sizeof(out)));
	assert_non_null(strstr(out, "1 connections for what they sent, 0 for how much"));
	assert_non_null(strstr(out, "3 malformed, 0 without a session"));
	assert_true(ask_status(daemon, "--json", out, sizeof(out)));
	assert_non_null(strstr(out, "\"malformed\": 3"));
	assert_non_null(strstr(out, "\"cut\": 1"));
}

static void test_connections_beyond_the_limit_are_counted_and_told_by_status(void **state)
{
	struct daemon_process *daemon = *state;
	int fds[CONNECTIONS + 1];
	char out[4096];

	for (int i = 0; i <= CONNECTIONS; i++)
		fds[i] = zmtp_dealer(daemon->endpoints[0]);
	assert_true(fds[CONNECTIONS] < 0 || zmtp_wait_cut(fds[CONNECTIONS], ROOM_MS));
	for (int i = 0; i <= CONNECTIONS; i++)
		close(fds[i]);
	/* As soon as there is room for optctl. */
	uint64_t began_ms = daemon_now_ms();
	while (!ask_status(daemon, "2>&1", out, sizeof(out)) && daemon_now_ms() - began_ms < ROOM_MS)
		;
	assert_null(strstr(out, "refused     0 "));
	assert_non_null(strstr(out, "connections beyond the limit"));
}

static void test_nothing_is_told_of_a_lane_that_met_no_trouble(void **state)
{
	char out[4096];

	assert_true(ask_status(*state, "", out, sizeof(out)));
	assert_null(strstr(out, "lane "));
	assert_true(ask_status(*state, "--json", out, sizeof(out)));
	assert_non_null(strstr(out, "\"malformed\": 0"));
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_sessions_that_left_make_room_for_new_ones),
		TEST(test_sessions_that_stay_are_kept_when_there_is_no_room),
		TEST(test_malformed_messages_of_one_address_are_logged_once_a_minute),
		TEST(test_hostile_frames_are_counted_and_told_by_status),
		TEST(test_connections_beyond_the_limit_are_counted_and_told_by_status),
		TEST(test_nothing_is_told_of_a_lane_that_met_no_trouble),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
