/*
 * ZeroMQ sockets behind one epoll descriptor.
 *
 * A ZeroMQ descriptor tells only of changes, and sending can swallow the news of
 * an arrival.  So callers ask link_readable and link_writable, which read
 * ZMQ_EVENTS, until nothing is left, before they wait.
 */
#include "client/link.h"

#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

#include "client/monitor.h"
#include "client/pool.h"
#include "proto/limits.h"
#include "proto/status.h"

/* Messages, not bytes: the window bounds bytes, these are a backstop. */
#define LINK_SEND_MESSAGES 256
#define LINK_RECEIVE_MESSAGES 256
#define LINK_RECONNECT_MS 100
/* Soon enough that a worker goes on right after its server is back. */
#define LINK_RECONNECT_MAX_MS 1000
#define LINK_CONNECT_MS 5000
/* Three for each link: itself, and the two ends of its monitor. */
#define LINK_SOCKETS 4096
/* ZeroMQ's own look at a connection: its ping waits behind what is under way, and only
 * whole messages count as an answer, so it must leave time for the largest one. */
#define LINK_HEARTBEAT_MS 5000
#define LINK_HEARTBEAT_TIMEOUT_MS 60000
/* How long bytes may go unacknowledged, or find no room there: a machine that is gone. */
#define LINK_UNACKNOWLEDGED_MS 30000
/* A frame larger than any payload with some room for what a later version adds. */
#define LINK_FRAME_BYTES (LIMIT_MESSAGE_BYTES + 64u * 1024u)

struct hub {
	void *context;
	int epoll, timer, event;
	bool foreign; /* another event loop looks at the descriptor */
	bool signalled;
};

struct link {
	struct hub *hub;
	void *socket;
	void *monitor; /* NULL: there is none */
	int connection; /* ZeroMQ's descriptor for it, to be looked at; -1 */
	char endpoint[LIMIT_ENDPOINT_BYTES + 1];
	bool holding; /* header and payload hold a message */
	zmq_msg_t header, payload;
	void *aligned; /* copy of a payload that arrived unaligned */
	size_t aligned_bytes;
};

uint64_t hub_now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}

uint64_t hub_random(void)
{
	uint64_t n = 0;
	if (getrandom(&n, sizeof(n), 0) != (ssize_t)sizeof(n)) {
		struct timespec t;
		clock_gettime(CLOCK_REALTIME, &t);
		n = (uint64_t)t.tv_nsec << 32 ^ (uint64_t)t.tv_sec ^ (uint64_t)getpid() << 20;
	}
	return n ? n : 1;
}

void hub_host(char *text, size_t text_bytes)
{
	if (gethostname(text, text_bytes) != 0)
		snprintf(text, text_bytes, "unknown");
	text[text_bytes - 1] = '\0';
}

static int watch(struct hub *hub, int fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
	return epoll_ctl(hub->epoll, EPOLL_CTL_ADD, fd, &event);
}

int hub_new(struct hub **out, char *why, size_t why_bytes)
{
	struct hub *hub = calloc(1, sizeof(*hub));
	if (!hub)
		return OPTD_NO_MEMORY;
	hub->epoll = epoll_create1(EPOLL_CLOEXEC);
	hub->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	hub->event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	hub->context = zmq_ctx_new();
	if (hub->epoll >= 0 && hub->timer >= 0 && hub->event >= 0 && hub->context &&
	    zmq_ctx_set(hub->context, ZMQ_MAX_SOCKETS, LINK_SOCKETS) == 0 &&
	    watch(hub, hub->timer) == 0 && watch(hub, hub->event) == 0) {
		*out = hub;
		return 0;
	}
	snprintf(why, why_bytes, "cannot make descriptors: %s", strerror(errno));
	hub_free(hub);
	return OPTD_IO;
}

void hub_free(struct hub *hub)
{
	if (!hub)
		return;
	if (hub->context)
		while (zmq_ctx_term(hub->context) != 0 && errno == EINTR)
			continue;
	if (hub->epoll >= 0)
		close(hub->epoll);
	if (hub->timer >= 0)
		close(hub->timer);
	if (hub->event >= 0)
		close(hub->event);
	free(hub);
}

/* Takes back what hub_leave has armed. */
static void calm(struct hub *hub)
{
	uint64_t count;
	if (!hub->signalled)
		return;
	hub->signalled = false;
	/* Nothing to read means that it has been read before. */
	if (read(hub->event, &count, sizeof(count)) < 0)
		errno = 0;
	timerfd_settime(hub->timer, 0, &(struct itimerspec){0}, NULL);
}

void hub_wait(struct hub *hub, uint64_t ms)
{
	struct epoll_event events[16];
	calm(hub);
	int timeout = ms > 60000 ? 60000 : (int)ms;
	epoll_wait(hub->epoll, events, 16, timeout);
}

int hub_fd(struct hub *hub)
{
	hub->foreign = true;
	return hub->epoll;
}

void hub_leave(struct hub *hub, bool work, uint64_t at_ms)
{
	if (!hub->foreign)
		return;
	calm(hub);
	if (work) {
		uint64_t one = 1;
		if (write(hub->event, &one, sizeof(one)) < 0)
			errno = 0; /* full: readable all the same */
		hub->signalled = true;
	} else if (at_ms != UINT64_MAX) {
		struct itimerspec when = {0};
		when.it_value.tv_sec = (time_t)(at_ms / 1000);
		/* One nanosecond more: all zero would disarm. */
		when.it_value.tv_nsec = (long)(at_ms % 1000) * 1000000 + 1;
		timerfd_settime(hub->timer, TFD_TIMER_ABSTIME, &when, NULL);
		hub->signalled = true;
	}
}

/* ---- links ------------------------------------------------------------ */

static int set_options(void *socket)
{
	static const struct {
		int name, value;
	} options[] = {
		{ZMQ_LINGER, 0},
		{ZMQ_IMMEDIATE, 1},
		{ZMQ_IPV6, 1},
		{ZMQ_SNDHWM, LINK_SEND_MESSAGES},
		{ZMQ_RCVHWM, LINK_RECEIVE_MESSAGES},
		{ZMQ_RECONNECT_IVL, LINK_RECONNECT_MS},
		{ZMQ_RECONNECT_IVL_MAX, LINK_RECONNECT_MAX_MS},
		{ZMQ_CONNECT_TIMEOUT, LINK_CONNECT_MS},
		{ZMQ_HANDSHAKE_IVL, LINK_CONNECT_MS},
		{ZMQ_HEARTBEAT_IVL, LINK_HEARTBEAT_MS},
		{ZMQ_HEARTBEAT_TIMEOUT, LINK_HEARTBEAT_TIMEOUT_MS},
		{ZMQ_HEARTBEAT_TTL, LINK_HEARTBEAT_TIMEOUT_MS},
		{ZMQ_TCP_KEEPALIVE, 1},
		{ZMQ_TCP_MAXRT, LINK_UNACKNOWLEDGED_MS},
	};
	int64_t frame = LINK_FRAME_BYTES;
	for (size_t i = 0; i < sizeof(options) / sizeof(*options); i++)
		if (zmq_setsockopt(socket, options[i].name, &options[i].value, sizeof(int)) != 0)
			return -1;
	return zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &frame, sizeof(frame));
}

static int link_fd(const struct link *link)
{
	int fd = -1;
	size_t size = sizeof(fd);
	zmq_getsockopt(link->socket, ZMQ_FD, &fd, &size);
	return fd;
}

static void close_sockets(struct link *link)
{
	zmq_close(link->socket);
	monitor_close(link->monitor);
	link->socket = link->monitor = NULL;
	link->connection = -1;
}

/* Makes the socket and starts connecting; errno says why not. */
static int start(struct link *link)
{
	link->socket = zmq_socket(link->hub->context, ZMQ_DEALER);
	if (!link->socket)
		return -1;
	link->monitor = monitor_open(link->hub->context, link->socket);
	if (set_options(link->socket) == 0 && zmq_connect(link->socket, link->endpoint) == 0 &&
	    watch(link->hub, link_fd(link)) == 0 &&
	    (!link->monitor || watch(link->hub, monitor_fd(link->monitor)) == 0))
		return 0;
	int saved = errno;
	close_sockets(link);
	errno = saved;
	return -1;
}

static void drop_message(struct link *link)
{
	if (!link->holding)
		return;
	zmq_msg_close(&link->header);
	zmq_msg_close(&link->payload);
	link->holding = false;
}

static void stop(struct link *link)
{
	drop_message(link);
	if (!link->socket)
		return;
	epoll_ctl(link->hub->epoll, EPOLL_CTL_DEL, link_fd(link), NULL);
	if (link->monitor)
		epoll_ctl(link->hub->epoll, EPOLL_CTL_DEL, monitor_fd(link->monitor), NULL);
	close_sockets(link);
}

/* Whether it ends in ":port", and has something before. */
static bool has_port(const char *address)
{
	const char *colon = strrchr(address, ':');
	size_t digits = colon ? strspn(colon + 1, "0123456789") : 0;
	if (digits == 0 || digits > 5 || colon[1 + digits] != '\0' || colon == address)
		return false;
	long port = strtol(colon + 1, NULL, 10);
	return port > 0 && port <= UINT16_MAX;
}

int link_check(const char *endpoint)
{
	bool good = false;
	if (strncmp(endpoint, "tcp://", 6) == 0)
		good = has_port(endpoint + 6);
	else if (strncmp(endpoint, "ipc://", 6) == 0)
		good = endpoint[6] != '\0';
	return good ? OPTD_OK : OPTD_INVALID;
}

int link_open(struct hub *hub, const char *endpoint, struct link **out, char *why, size_t why_bytes)
{
	struct link *link = calloc(1, sizeof(*link));
	if (!link)
		return OPTD_NO_MEMORY;
	link->hub = hub;
	link->connection = -1;
	snprintf(link->endpoint, sizeof(link->endpoint), "%s", endpoint);
	if (start(link) == 0) {
		*out = link;
		return 0;
	}
	int rc = errno == EINVAL || errno == EPROTONOSUPPORT || errno == ENOCOMPATPROTO ? OPTD_INVALID
	                                                                                : OPTD_IO;
	snprintf(why, why_bytes, "%s", zmq_strerror(errno));
	free(link);
	return rc;
}

void link_reopen(struct link *link)
{
	stop(link);
	/* A failure (no descriptors left) leaves the link without a socket; the
	 * session tries again when its patience ends. */
	start(link);
}

void link_close(struct link *link)
{
	if (!link)
		return;
	stop(link);
	free(link->aligned);
	free(link);
}

static int events(struct link *link)
{
	int flags = 0;
	size_t size = sizeof(flags);
	if (!link->socket || zmq_getsockopt(link->socket, ZMQ_EVENTS, &flags, &size) != 0)
		return 0;
	return flags;
}

bool link_writable(struct link *link)
{
	return events(link) & ZMQ_POLLOUT;
}

bool link_readable(struct link *link)
{
	return events(link) & ZMQ_POLLIN;
}

enum link_news link_news(struct link *link)
{
	int fd;
	switch (monitor_next(link->monitor, &fd)) {
	case MONITOR_CONNECTED:
		link->connection = fd;
		return LINK_CONNECTED;
	case MONITOR_LOST:
		link->connection = -1;
		return LINK_LOST;
	default:
		return LINK_NOTHING;
	}
}

uint64_t link_bytes(const struct link *link)
{
	struct tcp_info info;
	socklen_t bytes = sizeof(info);
	if (link->connection < 0 ||
	    getsockopt(link->connection, IPPROTO_TCP, TCP_INFO, &info, &bytes) != 0)
		return 0;
	return info.tcpi_bytes_acked + info.tcpi_bytes_received;
}

static void give_back(void *data, void *hint)
{
	(void)hint;
	pool_give(data);
}

int link_send(struct link *link, const void *header, size_t header_bytes, void *payload,
              size_t payload_bytes)
{
	zmq_msg_t second;
	if (!link->socket || zmq_send(link->socket, header, header_bytes, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0)
		return OPTD_BUSY;
	int rc = payload ? zmq_msg_init_data(&second, payload, payload_bytes, give_back, NULL)
	                 : zmq_msg_init(&second);
	if (rc != 0) {
		if (payload)
			pool_give(payload);
		zmq_msg_init(&second);
	}
	/* The first frame has chosen the connection, so this one is taken too, or
	 * dropped with it. */
	while ((rc = zmq_msg_send(&second, link->socket, 0)) < 0 && errno == EINTR)
		continue;
	if (rc < 0)
		zmq_msg_close(&second);
	return rc < 0 ? OPTD_IO : OPTD_OK;
}

/* Reads the rest of a message that has too many frames. */
static void skip_frames(struct link *link)
{
	zmq_msg_t rest;
	do {
		zmq_msg_init(&rest);
		int rc = zmq_msg_recv(&rest, link->socket, ZMQ_DONTWAIT);
		bool more = rc >= 0 && zmq_msg_more(&rest);
		zmq_msg_close(&rest);
		if (!more)
			return;
	} while (true);
}

/* Small frames may lie anywhere in ZeroMQ's own buffer. */
static const void *align(struct link *link, const void *data, size_t size)
{
	if ((uintptr_t)data % 8 == 0)
		return data;
	if (size > link->aligned_bytes) {
		free(link->aligned);
		link->aligned = malloc(size);
		link->aligned_bytes = link->aligned ? size : 0;
	}
	if (link->aligned)
		memcpy(link->aligned, data, size);
	return link->aligned;
}

bool link_receive(struct link *link, const void **header, size_t *header_bytes, const void **payload,
                  size_t *payload_bytes)
{
	drop_message(link);
	while (link->socket) {
		zmq_msg_init(&link->header);
		zmq_msg_init(&link->payload);
		link->holding = true;
		if (zmq_msg_recv(&link->header, link->socket, ZMQ_DONTWAIT) < 0)
			break;
		bool two = zmq_msg_more(&link->header) &&
		           zmq_msg_recv(&link->payload, link->socket, ZMQ_DONTWAIT) >= 0;
		if (two && !zmq_msg_more(&link->payload)) {
			*header = zmq_msg_data(&link->header);
			*header_bytes = zmq_msg_size(&link->header);
			*payload_bytes = zmq_msg_size(&link->payload);
			*payload = *payload_bytes
			                   ? align(link, zmq_msg_data(&link->payload), *payload_bytes)
			                   : NULL;
			return true;
		}
		if (two)
			skip_frames(link);
		drop_message(link);
	}
	drop_message(link);
	return false;
}
