/* A poll loop over pairs of sockets. */
#include "tests/support/daemon_proxy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/support/daemon_process.h"
#include "tests/support/zmtp_peer.h"

#define PAIRS_MAX 64
#define SLOW_BUFFER_BYTES 65536
/* How long what a throttled connection may move is looked at ahead. */
#define SLOW_TURN_MS 10

struct pair {
	int ends[2]; /* worker's, daemon's */
	uint64_t bytes, cut_after;
	bool swallowed;
	uint64_t bytes_per_s; /* 0: any */
	uint64_t next_ms[2];  /* from this end nothing is taken before */
};

struct daemon_proxy {
	char target[128], endpoint[64];
	int listener;
	int wake[2];
	pthread_t thread;
	atomic_bool stop, cut, swallow;
	atomic_uint_least64_t cut_after, bytes_per_s;
	atomic_uint connections;
	struct pair pairs[PAIRS_MAX];
	uint32_t count;
};

static void close_pair(struct daemon_proxy *proxy, uint32_t index)
{
	close(proxy->pairs[index].ends[0]);
	close(proxy->pairs[index].ends[1]);
	proxy->pairs[index] = proxy->pairs[--proxy->count];
}

/* The kernel is to hold little. */
static void narrow(int fd)
{
	int bytes = SLOW_BUFFER_BYTES;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
}

static void accept_one(struct daemon_proxy *proxy)
{
	int worker = accept4(proxy->listener, NULL, NULL, SOCK_CLOEXEC);
	int daemon = worker >= 0 ? zmtp_connect(proxy->target) : -1;

	if (daemon < 0 || proxy->count == PAIRS_MAX) {
		close(worker);
		close(daemon);
		return;
	}
	uint64_t after = atomic_load(&proxy->cut_after);
	/* Moves the cut through the messages as connections go by. */
	after += after > 0 ? (atomic_fetch_add(&proxy->connections, 1) * UINT64_C(77777)) % after : 0;
	uint64_t rate = atomic_load(&proxy->bytes_per_s);
	if (rate > 0)
		narrow(daemon);
	proxy->pairs[proxy->count++] = (struct pair){ .ends = { worker, daemon },
		                                      .cut_after = after,
		                                      .bytes_per_s = rate };
	if (after == 0)
		atomic_fetch_add(&proxy->connections, 1);
}

/* False when the pair is to be closed. */
static bool forward(struct pair *pair, int from)
{
	char bytes[64 * 1024];
	size_t room = sizeof(bytes);

	if (pair->bytes_per_s > 0) {
		uint64_t now_ms = daemon_now_ms();
		if (now_ms < pair->next_ms[from])
			return true;
		pair->next_ms[from] = now_ms + SLOW_TURN_MS;
		room = pair->bytes_per_s * SLOW_TURN_MS / 1000;
	}
	ssize_t n = recv(pair->ends[from], bytes, room < sizeof(bytes) ? room : sizeof(bytes), MSG_DONTWAIT);

	if (n < 0 && errno == EAGAIN)
		return true;
	if (n <= 0)
		return false;
	if (pair->swallowed)
		return true;
	pair->bytes += (uint64_t)n;
	if (pair->cut_after > 0 && pair->bytes > pair->cut_after)
		return false;
	return zmtp_send(pair->ends[1 - from], bytes, (size_t)n);
}

static void obey(struct daemon_proxy *proxy)
{
	char byte;

	while (recv(proxy->wake[0], &byte, 1, MSG_DONTWAIT) == 1)
		;
	while (atomic_load(&proxy->cut) && proxy->count > 0)
		close_pair(proxy, 0);
	atomic_store(&proxy->cut, false);
	if (atomic_exchange(&proxy->swallow, false)) {
		for (uint32_t i = 0; i < proxy->count; i++)
			proxy->pairs[i].swallowed = true;
	}
}

static bool is_throttled(const struct daemon_proxy *proxy)
{
	for (uint32_t i = 0; i < proxy->count; i++) {
		if (proxy->pairs[i].bytes_per_s > 0)
			return true;
	}
	return false;
}

static void *proxy_main(void *argument)
{
	struct daemon_proxy *proxy = argument;
	struct pollfd fds[2 + 2 * PAIRS_MAX];

	while (!atomic_load(&proxy->stop)) {
		uint32_t count = proxy->count;
		fds[0] = (struct pollfd){ .fd = proxy->wake[0], .events = POLLIN };
		fds[1] = (struct pollfd){ .fd = proxy->listener, .events = POLLIN };
		for (uint32_t i = 0; i < 2 * count; i++)
			fds[2 + i] = (struct pollfd){ .fd = proxy->pairs[i / 2].ends[i % 2],
				                      .events = POLLIN };
		poll(fds, 2 + 2 * count, -1);
		if (is_throttled(proxy))
			poll(NULL, 0, SLOW_TURN_MS);
		/* Backwards, since closing moves the last one. */
		for (uint32_t i = count; i-- > 0;) {
			bool good = true;
			for (int end = 0; end < 2 && good; end++) {
				if (fds[2 + 2 * i + (uint32_t)end].revents != 0)
					good = forward(&proxy->pairs[i], end);
			}
			if (!good)
				close_pair(proxy, i);
		}
		if (fds[0].revents != 0)
			obey(proxy);
		if (fds[1].revents != 0)
			accept_one(proxy);
	}
	while (proxy->count > 0)
		close_pair(proxy, 0);
	return NULL;
}

struct daemon_proxy *daemon_proxy_new(const char *target)
{
	struct daemon_proxy *proxy = calloc(1, sizeof(*proxy));
	struct sockaddr_in address = { .sin_family = AF_INET };
	socklen_t bytes = sizeof(address);

	assert_non_null(proxy);
	snprintf(proxy->target, sizeof(proxy->target), "%s", target);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	proxy->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(proxy->listener, (struct sockaddr *)&address, bytes), 0);
	assert_int_equal(listen(proxy->listener, 16), 0);
	assert_int_equal(getsockname(proxy->listener, (struct sockaddr *)&address, &bytes), 0);
	snprintf(proxy->endpoint, sizeof(proxy->endpoint), "tcp://127.0.0.1:%u",
	         ntohs(address.sin_port));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, proxy->wake), 0);
	assert_int_equal(pthread_create(&proxy->thread, NULL, proxy_main, proxy), 0);
	return proxy;
}

static void wake(struct daemon_proxy *proxy)
{
	send(proxy->wake[1], "", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void daemon_proxy_free(struct daemon_proxy *proxy)
{
	if (proxy == NULL)
		return;
	atomic_store(&proxy->stop, true);
	wake(proxy);
	pthread_join(proxy->thread, NULL);
	close(proxy->listener);
	close(proxy->wake[0]);
	close(proxy->wake[1]);
	free(proxy);
}

const char *daemon_proxy_endpoint(const struct daemon_proxy *proxy)
{
	return proxy->endpoint;
}

void daemon_proxy_cut(struct daemon_proxy *proxy)
{
	atomic_store(&proxy->cut, true);
	wake(proxy);
}

void daemon_proxy_cut_after(struct daemon_proxy *proxy, uint64_t bytes)
{
	atomic_store(&proxy->cut_after, bytes);
}

uint32_t daemon_proxy_connections(struct daemon_proxy *proxy)
{
	return atomic_load(&proxy->connections);
}

void daemon_proxy_throttle(struct daemon_proxy *proxy, uint64_t bytes_per_s)
{
	/* Taken over by the connections that are accepted. */
	if (bytes_per_s > 0)
		narrow(proxy->listener);
	atomic_store(&proxy->bytes_per_s, bytes_per_s);
}

void daemon_proxy_swallow(struct daemon_proxy *proxy)
{
	atomic_store(&proxy->swallow, true);
	wake(proxy);
}
