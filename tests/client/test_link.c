/*
 * Link and connecting: sockets, the descriptor, and what is said about an
 * address where nobody, or the wrong one, answers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zmq.h>

#include "client/link.h"
#include "client/pool.h"
#include "proto/status.h"

#include "client/optd.h"
#include "tests/support/fake_daemon.h"

/* ---- one socket on each side ------------------------------------------------ */

struct pair {
	void *context, *router;
	char endpoint[64];
	struct hub *hub;
	struct pool *pool;
	struct link *link;
};

static int set_up(void **state)
{
	struct pair *p = calloc(1, sizeof(*p));
	char why[256];
	size_t size = sizeof(p->endpoint);
	int none = 0;
	p->context = zmq_ctx_new();
	p->router = zmq_socket(p->context, ZMQ_ROUTER);
	zmq_setsockopt(p->router, ZMQ_LINGER, &none, sizeof(none));
	assert_int_equal(zmq_bind(p->router, "tcp://127.0.0.1:*"), 0);
	zmq_getsockopt(p->router, ZMQ_LAST_ENDPOINT, p->endpoint, &size);
	p->pool = pool_new();
	assert_int_equal(hub_new(&p->hub, why, sizeof(why)), 0);
	assert_int_equal(link_open(p->hub, p->endpoint, &p->link, why, sizeof(why)), 0);
	*state = p;
	return 0;
}

static int tear_down(void **state)
{
	struct pair *p = *state;
	link_close(p->link);
	hub_free(p->hub);
	pool_free(p->pool);
	zmq_close(p->router);
	zmq_ctx_term(p->context);
	free(p);
	return 0;
}

static void await_writable(struct pair *p)
{
	while (!link_writable(p->link))
		hub_wait(p->hub, 1000);
}

/* Receives what the link sent; leaves the routing id in `id`. */
static void router_receive(struct pair *p, zmq_msg_t *id, char *header, void *payload, size_t bytes)
{
	zmq_msg_init(id);
	assert_true(zmq_msg_recv(id, p->router, 0) > 0);
	int n = zmq_recv(p->router, header, 15, 0);
	assert_true(n >= 0);
	header[n] = '\0';
	assert_int_equal(zmq_recv(p->router, payload, bytes, 0), bytes);
}

static void test_nothing_is_sent_before_the_connection_is_there(void **state)
{
	struct pair *p = *state;
	char why[256];
	struct link *lonely;
	assert_int_equal(link_open(p->hub, "tcp://127.0.0.1:1", &lonely, why, sizeof(why)), 0);
	assert_false(link_writable(lonely));
	assert_int_equal(link_send(lonely, "h", 1, NULL, 0), OPTD_BUSY);
	link_close(lonely);
}

static void test_a_payload_is_sent_from_the_pool_and_comes_back_to_it(void **state)
{
	struct pair *p = *state;
	size_t bytes = 300000;
	char header[16], *received = malloc(bytes);
	zmq_msg_t id;
	await_writable(p);
	void *buffer = pool_take(p->pool, bytes);
	memset(buffer, 7, bytes);
	assert_int_equal(link_send(p->link, "head", 4, buffer, bytes), 0);
	router_receive(p, &id, header, received, bytes);
	assert_string_equal(header, "head");
	assert_true(received[0] == 7 && received[bytes - 1] == 7);
	/* Closing the link gives back what is still held: the buffer is there again. */
	link_reopen(p->link);
	void *again = pool_take(p->pool, bytes), *others = NULL;
	while (again != buffer) {
		/* Kept until the end: given back it may lie on top of the one waited for. */
		memcpy(again, &others, sizeof(others));
		others = again;
		hub_wait(p->hub, 1);
		again = pool_take(p->pool, bytes);
	}
	pool_give(again);
	while (others != NULL) {
		void *other = others;
		memcpy(&others, other, sizeof(others));
		pool_give(other);
	}
	zmq_msg_close(&id);
	free(received);
}

static void send_back(struct pair *p, zmq_msg_t *id, int frames, size_t bytes)
{
	char *payload = calloc(1, bytes + 3);
	zmq_msg_t copy;
	zmq_msg_init(&copy);
	zmq_msg_copy(&copy, id);
	assert_true(zmq_msg_send(&copy, p->router, ZMQ_SNDMORE) >= 0);
	for (int i = 0; i < frames; i++)
		zmq_send(p->router, payload, i == 0 ? 3 : bytes, i + 1 < frames ? ZMQ_SNDMORE : 0);
	free(payload);
}

static void test_only_messages_of_two_frames_arrive_and_are_aligned(void **state)
{
	struct pair *p = *state;
	const void *header, *payload;
	size_t header_bytes, payload_bytes;
	char text[16];
	zmq_msg_t id;
	await_writable(p);
	assert_int_equal(link_send(p->link, "hello", 5, NULL, 0), 0);
	router_receive(p, &id, text, NULL, 0);
	send_back(p, &id, 1, 0);
	send_back(p, &id, 2, 44);
	send_back(p, &id, 5, 10);
	send_back(p, &id, 2, 4004);
	for (int got = 0; got < 2;) {
		if (!link_receive(p->link, &header, &header_bytes, &payload, &payload_bytes)) {
			hub_wait(p->hub, 1000);
			continue;
		}
		assert_int_equal(header_bytes, 3);
		assert_int_equal(payload_bytes, got == 0 ? 44 : 4004);
		assert_int_equal((uintptr_t)payload % 8, 0);
		got++;
	}
	assert_false(link_receive(p->link, &header, &header_bytes, &payload, &payload_bytes));
	zmq_msg_close(&id);
}

static void test_many_messages_are_all_received(void **state)
{
	struct pair *p = *state;
	const void *header, *payload;
	size_t header_bytes, payload_bytes;
	char text[16];
	zmq_msg_t id;
	int got = 0, sent = 0;
	await_writable(p);
	assert_int_equal(link_send(p->link, "hello", 5, NULL, 0), 0);
	router_receive(p, &id, text, NULL, 0);
	/* Sending between receives swallows ZeroMQ's edges; none may be missed. */
	while (got < 2000) {
		for (int i = 0; i < 10 && sent < 2000; i++, sent++)
			send_back(p, &id, 2, 8);
		link_send(p->link, "more", 4, NULL, 0);
		while (link_receive(p->link, &header, &header_bytes, &payload, &payload_bytes))
			got++;
		if (got < sent && !link_readable(p->link))
			hub_wait(p->hub, 1000);
	}
	assert_int_equal(got, 2000);
	zmq_msg_close(&id);
}

static void test_the_descriptor_shows_work_and_time(void **state)
{
	struct pair *p = *state;
	struct pollfd fd = {.fd = hub_fd(p->hub), .events = POLLIN};
	await_writable(p);
	hub_leave(p->hub, true, UINT64_MAX);
	assert_int_equal(poll(&fd, 1, 0), 1);
	hub_leave(p->hub, false, hub_now_ms() + 20);
	uint64_t before = hub_now_ms();
	assert_int_equal(poll(&fd, 1, 5000), 1);
	assert_true(hub_now_ms() >= before + 15);
	hub_leave(p->hub, false, UINT64_MAX);
	assert_int_equal(poll(&fd, 1, 0), 0);
}

/* ---- connecting ---------------------------------------------------------------- */

static int connect_to(const char *endpoints, uint32_t timeout_ms)
{
	optd_client *client;
	optd_options options = {.rank = -1, .timeout_ms = timeout_ms};
	int rc = optd_connect(endpoints, &options, &client);
	if (rc == 0)
		optd_close(&client);
	else
		assert_null(client);
	return rc;
}

static void test_an_address_without_a_server_is_named_with_the_reason(void **state)
{
	(void)state;
	assert_int_equal(connect_to("tcp://127.0.0.1:1", 100), OPTD_UNREACHABLE);
	assert_non_null(strstr(optd_error(NULL), "tcp://127.0.0.1:1: Connection refused"));
	assert_int_equal(connect_to("ipc:///nowhere/at/all", 100), OPTD_UNREACHABLE);
	assert_non_null(strstr(optd_error(NULL), "No such file"));
}

/* A listener that speaks no protocol at all. */
static int listen_on_loopback(char *endpoint, size_t bytes)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
	assert_int_equal(listen(fd, 8), 0);
	getsockname(fd, (struct sockaddr *)&address, &size);
	snprintf(endpoint, bytes, "tcp://127.0.0.1:%u", ntohs(address.sin_port));
	return fd;
}

static void test_a_server_that_is_not_optd_is_told_apart(void **state)
{
	char endpoint[64];
	int fd = listen_on_loopback(endpoint, sizeof(endpoint));
	(void)state;
	assert_int_equal(connect_to(endpoint, 100), OPTD_UNREACHABLE);
	assert_non_null(strstr(optd_error(NULL), "does not answer as optd"));
	close(fd);
}

/* Not sooner than the manual says, or a crowd of workers would keep a server that
 * comes up from doing so; the latest time is the machine's to choose. */
static void test_a_lost_connection_is_tried_again_after_100_ms(void **state)
{
	char endpoint[64], why[256];
	struct hub *hub;
	struct link *link;
	int listener = listen_on_loopback(endpoint, sizeof(endpoint));
	struct pollfd came = {.fd = listener, .events = POLLIN};
	uint64_t lost_ms = 0;
	(void)state;
	assert_int_equal(hub_new(&hub, why, sizeof(why)), 0);
	assert_int_equal(link_open(hub, endpoint, &link, why, sizeof(why)), 0);
	for (int i = 0; i < 6; i++) {
		assert_int_equal(poll(&came, 1, 10000), 1);
		if (i > 0)
			assert_in_range(hub_now_ms() - lost_ms, 99, 10000);
		int fd = accept(listener, NULL, NULL);
		assert_true(fd >= 0);
		lost_ms = hub_now_ms();
		close(fd);
	}
	link_close(link);
	hub_free(hub);
	close(listener);
}

static void test_bad_endpoints_are_refused_at_once(void **state)
{
	(void)state;
	assert_int_equal(connect_to("localhost:16783", 10000), OPTD_INVALID);
	assert_non_null(strstr(optd_error(NULL), "tcp://host:port"));
	assert_int_equal(connect_to("tcp://127.0.0.1:1,,tcp://127.0.0.1:2", 10000), OPTD_INVALID);
	assert_int_equal(connect_to("", 10000), OPTD_INVALID);
	assert_int_equal(connect_to(NULL, 10000), OPTD_INVALID);
}

static void test_the_same_daemon_twice_is_an_error(void **state)
{
	struct fake_daemon daemon;
	char twice[1024];
	(void)state;
	fake_daemon_start(&daemon, 5);
	snprintf(twice, sizeof(twice), "%s, %s", daemon.endpoint, daemon.endpoint);
	assert_int_equal(connect_to(twice, 5000), OPTD_INVALID);
	assert_non_null(strstr(optd_error(NULL), "are the same daemon"));
	fake_daemon_stop(&daemon);
}

static void test_two_daemons_are_both_greeted(void **state)
{
	static struct fake_daemon one, two;
	char both[1024];
	(void)state;
	fake_daemon_start(&one, 5);
	fake_daemon_start(&two, 6);
	snprintf(both, sizeof(both), "%s,%s", one.endpoint, two.endpoint);
	assert_int_equal(connect_to(both, 5000), 0);
	assert_int_equal(atomic_load(&one.goodbyes) + atomic_load(&two.goodbyes), 2);
	fake_daemon_stop(&one);
	fake_daemon_stop(&two);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_nothing_is_sent_before_the_connection_is_there),
		CASE(test_a_payload_is_sent_from_the_pool_and_comes_back_to_it),
		CASE(test_only_messages_of_two_frames_arrive_and_are_aligned),
		CASE(test_many_messages_are_all_received),
		CASE(test_the_descriptor_shows_work_and_time),
		cmocka_unit_test(test_an_address_without_a_server_is_named_with_the_reason),
		cmocka_unit_test(test_a_server_that_is_not_optd_is_told_apart),
		cmocka_unit_test(test_a_lost_connection_is_tried_again_after_100_ms),
		cmocka_unit_test(test_bad_endpoints_are_refused_at_once),
		cmocka_unit_test(test_the_same_daemon_twice_is_an_error),
		cmocka_unit_test(test_two_daemons_are_both_greeted),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
