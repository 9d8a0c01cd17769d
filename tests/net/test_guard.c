/*
 * The guard over a real ROUTER: whom it cuts and whom not.  The test is the lane:
 * it takes messages and tells of turns.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>
#include <zmq.h>

#include "proto/status.h"
#include "server/net/guard.h"
#include "server/net/intake.h"
#include "tests/support/zmtp_peer.h"

#define CONNECTIONS 3
#define MESSAGE_BYTES 1000
#define STRANGER_BYTES 20000
#define SESSION_BYTES 50000
#define GRANTED_BYTES 40000
#define TOTAL_BYTES 20000
#define PATIENCE_MS 10000
#define TURN_MS 20
/* Turns in which one who is not to be cut is watched. */
#define CALM_TURNS 25

struct world {
	void *context, *socket;
	struct guard *guard;
	char endpoint[128];
};

static int set_up_with(void **state, uint64_t total_bytes)
{
	const struct guard_options options = { CONNECTIONS, STRANGER_BYTES, SESSION_BYTES,
		                               MESSAGE_BYTES, total_bytes };
	struct world *world = calloc(1, sizeof(*world));
	size_t size = sizeof(world->endpoint);

	assert_non_null(world);
	*state = world;
	world->context = zmq_ctx_new();
	world->socket = zmq_socket(world->context, ZMQ_ROUTER);
	assert_int_equal(guard_open(world->context, world->socket, "test", &options, &world->guard),
	                 OPTD_OK);
	assert_int_equal(zmq_bind(world->socket, "tcp://127.0.0.1:*"), 0);
	assert_int_equal(zmq_getsockopt(world->socket, ZMQ_LAST_ENDPOINT, world->endpoint, &size), 0);
	return 0;
}

static int set_up(void **state)
{
	return set_up_with(state, UINT64_MAX);
}

static int set_up_total(void **state)
{
	return set_up_with(state, TOTAL_BYTES);
}

static int tear_down(void **state)
{
	struct world *world = *state;

	zmq_close(world->socket);
	guard_close(world->guard);
	zmq_ctx_term(world->context);
	free(world);
	return 0;
}

static int dealer(struct world *world)
{
	int fd = zmtp_dealer(world->endpoint);
	assert_true(fd >= 0);
	return fd;
}

/* Takes whole messages of two frames as the lane does; the last one's descriptor. */
static int take(struct world *world, int count)
{
	int fd = -1;

	for (int i = 0; i < count; i++) {
		size_t bytes = 0;
		for (int part = 0; part < 3; part++) {
			zmq_msg_t message;
			zmq_msg_init(&message);
			assert_true(zmq_msg_recv(&message, world->socket, 0) >= 0);
			if (part > 0)
				bytes += intake_frame_bytes(zmq_msg_size(&message));
			if (part == 1)
				fd = zmq_msg_get(&message, ZMQ_SRCFD);
			zmq_msg_close(&message);
		}
		guard_delivered(world->guard, fd, bytes);
	}
	return fd;
}

static bool is_cut(struct world *world, int fd, int turns)
{
	for (int i = 0; i < turns; i++) {
		guard_turn(world->guard, true);
		if (zmtp_wait_cut(fd, TURN_MS))
			return true;
	}
	return false;
}

static struct guard_counts counts(struct world *world)
{
	struct guard_counts counts;
	guard_get_counts(world->guard, &counts);
	return counts;
}

static void send_parts(int fd, int parts, size_t bytes)
{
	static const char part[100];
	for (int i = 0; i < parts; i++)
		zmtp_frame(fd, ZMTP_MORE, part, bytes);
}

static void test_one_beyond_the_limit_is_refused(void **state)
{
	int fds[CONNECTIONS + 1];

	for (int i = 0; i <= CONNECTIONS; i++)
		fds[i] = zmtp_dealer(((struct world *)*state)->endpoint);
	assert_true(fds[CONNECTIONS] < 0 || zmtp_wait_cut(fds[CONNECTIONS], PATIENCE_MS));
	assert_int_equal(counts(*state).refused, 1);
	assert_int_equal(counts(*state).accepted, CONNECTIONS + 1);
	for (int i = 0; i <= CONNECTIONS; i++)
		close(fds[i]);
}

static void test_more_than_a_message_of_parts_is_cut(void **state)
{
	int fd = dealer(*state);

	send_parts(fd, MESSAGE_BYTES / 100 + 1, 100);
	assert_true(is_cut(*state, fd, PATIENCE_MS / TURN_MS));
	assert_int_equal(counts(*state).flooded, 1);
	close(fd);
}

static void test_empty_parts_are_cut(void **state)
{
	int fd = dealer(*state);

	send_parts(fd, MESSAGE_BYTES, 0);
	assert_true(is_cut(*state, fd, PATIENCE_MS / TURN_MS));
	close(fd);
}

static void test_a_message_that_is_not_whole_is_waited_for(void **state)
{
	int fd = dealer(*state);

	send_parts(fd, MESSAGE_BYTES / 102 - 2, 100);
	assert_false(is_cut(*state, fd, CALM_TURNS));
	close(fd);
}

/* Three times as much as the lengths of their frames would need to look like a flood. */
static void test_many_messages_and_a_pause_are_not_cut(void **state)
{
	static const char payload[256];
	int fd = dealer(*state);

	for (int i = 0; i < 3 * MESSAGE_BYTES / 11; i++) {
		assert_true(zmtp_message(fd, "header", 6, payload, sizeof(payload)));
		take(*state, 1);
	}
	assert_false(is_cut(*state, fd, CALM_TURNS));
	close(fd);
}

/* Taken in turns in which the lane is too busy to ask for more: whole messages wait. */
static void test_strangers_may_leave_less_waiting_than_sessions(void **state)
{
	struct world *world = *state;
	static const char payload[MESSAGE_BYTES / 2];
	int stranger = dealer(world), session = dealer(world);

	assert_true(zmtp_message(session, "hello", 5, NULL, 0));
	guard_known(world->guard, take(world, 1), 0);
	for (int i = 0; i < 2 * STRANGER_BYTES / MESSAGE_BYTES + 5; i++) {
		zmtp_message(stranger, "header", 6, payload, sizeof(payload));
		zmtp_message(session, "header", 6, payload, sizeof(payload));
	}
	assert_true(zmtp_wait_cut(stranger, PATIENCE_MS));
	assert_false(zmtp_wait_cut(session, CALM_TURNS * TURN_MS));
	close(stranger);
	close(session);
}

static int session(struct world *world, uint64_t granted)
{
	int fd = dealer(world);

	assert_true(zmtp_message(fd, "hello", 5, NULL, 0));
	guard_known(world->guard, take(world, 1), granted);
	return fd;
}

/* Whole messages that nobody takes. */
static void leave_waiting(int fd, size_t bytes)
{
	static const char payload[MESSAGE_BYTES / 2];

	for (size_t sent = 0; sent < bytes; sent += sizeof(payload))
		zmtp_message(fd, "header", 6, payload, sizeof(payload));
}

/* The lane has no turn: it stands still, on a slow disk for one. */
static void test_windows_that_were_granted_are_not_in_the_total(void **state)
{
	int first = session(*state, GRANTED_BYTES), second = session(*state, GRANTED_BYTES);

	leave_waiting(first, GRANTED_BYTES - 10000);
	leave_waiting(second, GRANTED_BYTES - 10000);
	assert_false(zmtp_wait_cut(first, CALM_TURNS * TURN_MS));
	assert_false(zmtp_wait_cut(second, CALM_TURNS * TURN_MS));
	close(first);
	close(second);
}

static void test_who_holds_most_beyond_a_grant_is_cut_for_the_total(void **state)
{
	int granted = session(*state, GRANTED_BYTES), greedy = session(*state, 0);

	leave_waiting(granted, GRANTED_BYTES - 5000);
	leave_waiting(greedy, GRANTED_BYTES - 10000);
	assert_true(zmtp_wait_cut(greedy, PATIENCE_MS));
	assert_false(zmtp_wait_cut(granted, CALM_TURNS * TURN_MS));
	assert_int_equal(counts(*state).flooded, 1);
	close(granted);
	close(greedy);
}

static void test_a_descriptor_that_is_another_sockets_by_now_is_not_cut(void **state)
{
	struct world *world = *state;
	int fd = dealer(world);

	assert_true(zmtp_message(fd, "hello", 5, NULL, 0));
	int theirs = take(world, 1);
	guard_cut(world->guard, theirs, guard_socket(theirs) + 1, true);
	assert_int_equal(counts(world).flooded, 0);
	assert_false(zmtp_wait_cut(fd, TURN_MS));
	guard_cut(world->guard, theirs, guard_socket(theirs), true);
	assert_int_equal(counts(world).flooded, 1);
	assert_true(zmtp_wait_cut(fd, PATIENCE_MS));
	close(fd);
}

/* A guard whose table ends where the next descriptor begins. */
static void test_a_connection_beyond_the_table_counts_as_refused(void **state)
{
	struct rlimit before, few;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	few = before;
	few.rlim_cur = 64;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	assert_int_equal(set_up(state), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	int high[64], count = 0;
	while ((high[count] = dup(0)) < 64)
		count++;
	int fd = zmtp_dealer(((struct world *)*state)->endpoint);
	assert_true(fd < 0 || zmtp_wait_cut(fd, PATIENCE_MS));
	assert_int_equal(counts(*state).accepted, 1);
	assert_int_equal(counts(*state).refused, 1);
	close(fd);
	for (int i = 0; i <= count; i++)
		close(high[i]);
	tear_down(state);
}

#define TEST_TOTAL(test) cmocka_unit_test_setup_teardown(test, set_up_total, tear_down)
#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_one_beyond_the_limit_is_refused),
		TEST(test_more_than_a_message_of_parts_is_cut),
		TEST(test_empty_parts_are_cut),
		TEST(test_a_message_that_is_not_whole_is_waited_for),
		TEST(test_many_messages_and_a_pause_are_not_cut),
		TEST(test_strangers_may_leave_less_waiting_than_sessions),
		TEST(test_a_descriptor_that_is_another_sockets_by_now_is_not_cut),
		cmocka_unit_test(test_a_connection_beyond_the_table_counts_as_refused),
		TEST_TOTAL(test_windows_that_were_granted_are_not_in_the_total),
		TEST_TOTAL(test_who_holds_most_beyond_a_grant_is_cut_for_the_total),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
