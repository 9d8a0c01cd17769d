/*
 * What peers may do below the level of messages: openings, frames, connections.
 *
 * Each test is an attack by raw sockets; that the worker beside it saw nothing
 * and the daemon's memory stayed in bounds is claimed after each of them by
 * scene_end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/e2e/scene.h"
#include "tests/e2e/speak.h"
#include "tests/support/rng_seed.h"
#include "tests/support/zmtp_peer.h"

/* ZMQ_HANDSHAKE_IVL of the daemon, and time for it to be noticed. */
#define HANDSHAKE_MS 9000
#define CONNECTIONS 1000
#define VISITS 3000
#define FLOOD_BYTES (120u << 20)

static int connect_scene(const struct scene *scene)
{
	int fd = zmtp_connect(scene_endpoint(scene));
	assert_true(fd >= 0);
	return fd;
}

static int dealer(const struct scene *scene)
{
	int fd = zmtp_dealer(scene_endpoint(scene));
	assert_true(fd >= 0);
	return fd;
}

/* ---- openings ----------------------------------------------------------- */

static void test_bad_and_unfinished_openings_are_cut(void **state)
{
	static const char http[] = "GET / HTTP/1.1\r\nHost: optd\r\n\r\n";
	unsigned char zeros[64] = { 0 }, ones[64], plain[64], curve[64], unknown[64], good[64];
	const struct {
		const void *bytes;
		size_t size;
	} openings[] = {
		{ http, sizeof(http) - 1 }, { zeros, 64 },    { ones, 64 },  { plain, 64 },
		{ curve, 64 },              { unknown, 64 },  { good, 1 },   { good, 11 },
		{ good, 63 },               { good, 64 },     { good, 0 },
	};
	enum { COUNT = sizeof(openings) / sizeof(openings[0]) };
	int fds[COUNT];

	memset(ones, 0xff, sizeof(ones));
	zmtp_greeting("PLAIN", plain);
	zmtp_greeting("CURVE", curve);
	zmtp_greeting("NONSENSE-MECHANISM!!", unknown);
	zmtp_greeting("NULL", good);
	for (int i = 0; i < COUNT; i++) {
		fds[i] = connect_scene(*state);
		zmtp_send(fds[i], openings[i].bytes, openings[i].size);
	}
	for (int i = 0; i < COUNT; i++) {
		if (!zmtp_wait_cut(fds[i], HANDSHAKE_MS))
			fail_msg("opening %d is still connected", i);
		close(fds[i]);
	}
}

/* A byte at a time, for as long as it is let. */
static void test_a_slow_opening_is_cut(void **state)
{
	unsigned char greeting[64];
	uint64_t began_ms = daemon_now_ms();
	int fd = connect_scene(*state);
	bool cut = false;

	zmtp_greeting("NULL", greeting);
	for (int i = 0; i < 64 && !cut && daemon_now_ms() - began_ms < HANDSHAKE_MS; i++) {
		if (!zmtp_send(fd, greeting + i, 1))
			break;
		/* The daemon greets back at once; what is waited for is the end. */
		cut = zmtp_wait_cut(fd, 300);
	}
	assert_true(cut || zmtp_wait_cut(fd, HANDSHAKE_MS));
	close(fd);
}

static void test_bad_commands_are_cut(void **state)
{
	unsigned char greeting[64], command[300];
	struct rng rng = rng_new(rng_seed());

	zmtp_greeting("NULL", greeting);
	for (int i = 0; i < 50; i++) {
		int fd = connect_scene(*state);
		size_t size = 1 + rng_below(&rng, sizeof(command) - 1);
		for (size_t j = 0; j < size; j++)
			command[j] = (unsigned char)rng_next(&rng);
		if (rng_one_in(&rng, 2))
			memcpy(command, "\5READY", size < 6 ? size : 6);
		if (zmtp_send(fd, greeting, 64))
			zmtp_frame(fd, ZMTP_COMMAND, command, size);
		close(fd);
	}
}

static void test_random_bytes_are_cut(void **state)
{
	static unsigned char bytes[256 * 1024];
	struct rng rng = rng_new(rng_seed());

	for (int i = 0; i < 40; i++) {
		for (size_t j = 0; j < sizeof(bytes); j++)
			bytes[j] = (unsigned char)rng_next(&rng);
		/* Half of them in place of an opening, half behind a good one. */
		int fd = i % 2 ? dealer(*state) : connect_scene(*state);
		zmtp_send(fd, bytes, sizeof(bytes));
		if (!zmtp_wait_cut(fd, HANDSHAKE_MS))
			fail_msg("connection %d is still there", i);
		close(fd);
	}
}

/* ---- frames ------------------------------------------------------------- */

static void test_huge_lengths_are_cut(void **state)
{
	static const uint64_t sizes[] = { UINT64_C(1) << 63, (UINT64_C(1) << 63) - 1, UINT64_MAX,
		                          UINT64_C(1) << 40, (8u << 20) };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		int fd = dealer(*state);
		assert_true(zmtp_frame_head(fd, ZMTP_LONG | (i % 2 ? ZMTP_MORE : 0), sizes[i]));
		if (!zmtp_wait_cut(fd, HANDSHAKE_MS))
			fail_msg("a length of %llu was taken", (unsigned long long)sizes[i]);
		close(fd);
	}
}

/* Sends parts without end; how many bytes until it was cut. */
static size_t flood(int fd, size_t frame_bytes)
{
	static unsigned char batch[1 << 20];
	size_t used = 0, sent = 0;

	while (used + 9 + frame_bytes <= sizeof(batch)) {
		batch[used++] = ZMTP_MORE | (frame_bytes > 255 ? ZMTP_LONG : 0);
		if (frame_bytes > 255) {
			for (int i = 0; i < 8; i++)
				batch[used++] = (unsigned char)((uint64_t)frame_bytes >> (56 - 8 * i));
		} else {
			batch[used++] = (unsigned char)frame_bytes;
		}
		used += frame_bytes;
	}
	while (sent < FLOOD_BYTES && zmtp_send(fd, batch, used))
		sent += used;
	close(fd);
	return sent;
}

static void test_endless_parts_of_a_stranger_are_cut(void **state)
{
	assert_true(flood(dealer(*state), 64 * 1024) < FLOOD_BYTES);
}

static void test_endless_parts_of_a_session_are_cut(void **state)
{
	struct scene *scene = *state;
	struct speaker speaker;

	speak_hello(&speaker, scene_endpoint(scene));
	assert_true(flood(speaker.fd, 64 * 1024) < FLOOD_BYTES);
}

/* A part of two bytes on the wire takes 64 in memory. */
static void test_endless_empty_parts_of_a_stranger_are_cut(void **state)
{
	assert_true(flood(dealer(*state), 0) < FLOOD_BYTES);
}

static void test_endless_empty_parts_of_a_session_are_cut(void **state)
{
	struct scene *scene = *state;
	struct speaker speaker;

	speak_hello(&speaker, scene_endpoint(scene));
	assert_true(flood(speaker.fd, 0) < FLOOD_BYTES);
}

/* ---- connections -------------------------------------------------------- */

static void test_a_thousand_idle_connections_are_borne(void **state)
{
	static int fds[CONNECTIONS];
	struct scene *scene = *state;

	for (int i = 0; i < CONNECTIONS; i++)
		fds[i] = i % 2 ? dealer(scene) : connect_scene(scene);
	worker_wait(&scene->worker, 100);
	for (int i = 0; i < CONNECTIONS; i++)
		close(fds[i]);
}

static void test_peers_that_connect_and_leave_are_borne(void **state)
{
	unsigned char greeting[64];
	const struct linger at_once = { .l_onoff = 1 };

	zmtp_greeting("NULL", greeting);
	for (int i = 0; i < VISITS; i++) {
		/* One in a hundred says HELLO; others leave before, within or after the opening. */
		int fd = connect_scene(*state);
		if (i % 3 > 0)
			zmtp_send(fd, greeting, i % 3 == 1 ? 20 : 64);
		if (i % 3 == 2)
			zmtp_ready(fd, "DEALER", NULL, 0);
		/* Every other one is reset, which leaves no port in TIME_WAIT either. */
		if (i % 2)
			setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
		close(fd);
	}
}

static void test_sessions_that_come_and_go_are_forgotten(void **state)
{
	struct scene *scene = *state;
	struct speaker speaker;

	for (int i = 0; i < 500; i++) {
		speak_hello(&speaker, scene_endpoint(scene));
		speak_close(&speaker);
	}
}

static void test_a_chosen_routing_id_is_not_served(void **state)
{
	static const char *const names[] = { "w1", "Xabcd", "a name of some length" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct speaker speaker = { .fd = connect_scene(*state), .session = 77 };
		assert_true(zmtp_open(speaker.fd, names[i], strlen(names[i])));
		struct msg hello = speak_request(&speaker, MSG_HELLO);
		hello.hello = (struct msg_hello){ .protocol_min = 1, .protocol_max = 1 };
		for (int j = 0; j < 4; j++)
			speak_send(&speaker, &hello);
		assert_false(speak_answer(&speaker, &hello, HANDSHAKE_MS));
		assert_true(zmtp_wait_cut(speaker.fd, HANDSHAKE_MS));
		speak_close(&speaker);
	}
}

/* The log holds what an operator should see, and not a line for each frame. */
static void test_attacks_fill_no_log(void **state)
{
	struct scene *scene = *state;
	assert_true(daemon_log_count(&scene->daemon, "") < 300);
}

#define ATTACK(test) cmocka_unit_test_setup_teardown(test, scene_begin, scene_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ATTACK(test_bad_and_unfinished_openings_are_cut),
		ATTACK(test_a_slow_opening_is_cut),
		ATTACK(test_bad_commands_are_cut),
		ATTACK(test_random_bytes_are_cut),
		ATTACK(test_huge_lengths_are_cut),
		ATTACK(test_endless_parts_of_a_stranger_are_cut),
		ATTACK(test_endless_parts_of_a_session_are_cut),
		ATTACK(test_endless_empty_parts_of_a_stranger_are_cut),
		ATTACK(test_endless_empty_parts_of_a_session_are_cut),
		ATTACK(test_a_thousand_idle_connections_are_borne),
		ATTACK(test_peers_that_connect_and_leave_are_borne),
		ATTACK(test_sessions_that_come_and_go_are_forgotten),
		ATTACK(test_a_chosen_routing_id_is_not_served),
		ATTACK(test_attacks_fill_no_log),
	};
	return cmocka_run_group_tests(tests, scene_open, scene_close);
}
