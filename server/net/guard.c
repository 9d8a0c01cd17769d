/* The monitor's thread and a table of connections by descriptor. */
#include "server/net/guard.h"

#include <netinet/in.h>
#include <linux/tcp.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

#include "proto/status.h"
#include "server/net/intake.h"

#define TICK_MS 50
/* How long after a flood its memory is given back: ZeroMQ frees it bit by bit. */
#define TRIM_TICKS 10

struct connection {
	bool open;
	bool shut;
	struct sockaddr_storage address; /* of the peer at accept: descriptors are reused */
	socklen_t address_bytes;
	atomic_bool known;
	atomic_uint_least64_t granted;
	struct intake intake;
};

struct guard {
	struct guard_options options;
	void *monitor;
	pthread_t thread;
	atomic_bool stop;
	atomic_uint_least64_t turns, empty_turns;
	struct connection *connections; /* [room], by descriptor */
	uint32_t room;
	uint32_t highest; /* no open descriptor beyond it */
	atomic_uint open;
	atomic_uint_least64_t accepted, refused, flooded, cut;
};

static struct connection *find(struct guard *guard, int fd)
{
	return fd >= 0 && (uint32_t)fd < guard->room ? &guard->connections[fd] : NULL;
}

void guard_delivered(struct guard *guard, int fd, size_t bytes)
{
	struct connection *c = find(guard, fd);
	if (c != NULL)
		intake_given(&c->intake, bytes);
}

void guard_known(struct guard *guard, int fd, uint64_t granted)
{
	struct connection *c = find(guard, fd);
	if (c == NULL)
		return;
	atomic_store_explicit(&c->granted, granted, memory_order_relaxed);
	atomic_store(&c->known, true);
}

void guard_turn(struct guard *guard, bool empty)
{
	atomic_fetch_add(&guard->turns, 1);
	atomic_fetch_add(&guard->empty_turns, empty);
}

uint32_t guard_connections(const struct guard *guard)
{
	return atomic_load_explicit(&guard->open, memory_order_relaxed);
}

uint64_t guard_socket(int fd)
{
	struct stat about;
	return fd >= 0 && fstat(fd, &about) == 0 ? about.st_ino : 0;
}

/* At once and here: a note for the guard's thread could be taken for one about the
 * descriptor's owner before. */
void guard_cut(struct guard *guard, int fd, uint64_t socket, bool heavy)
{
	if (fd >= 0 && (socket == 0 || guard_socket(fd) == socket) && shutdown(fd, SHUT_RDWR) == 0)
		atomic_fetch_add(heavy ? &guard->flooded : &guard->cut, 1);
}

void guard_get_counts(struct guard *guard, struct guard_counts *counts)
{
	counts->accepted = atomic_load(&guard->accepted);
	counts->refused = atomic_load(&guard->refused);
	counts->flooded = atomic_load(&guard->flooded);
	counts->cut = atomic_load(&guard->cut);
}

/* Shuts the connection down, never closes it: the descriptor is ZeroMQ's. */
static void cut(struct guard *guard, int fd, atomic_uint_least64_t *why)
{
	struct connection *c = &guard->connections[fd];
	struct sockaddr_storage now;
	socklen_t bytes = sizeof(now);

	memset(&now, 0, sizeof(now));
	if (c->shut || getpeername(fd, (struct sockaddr *)&now, &bytes) != 0 ||
	    bytes != c->address_bytes || memcmp(&now, &c->address, bytes) != 0)
		return;
	c->shut = true;
	/* First, so that who has seen the cut finds it counted. */
	atomic_fetch_add(why, 1);
	shutdown(fd, SHUT_RDWR);
}

static void on_accepted(struct guard *guard, int fd)
{
	struct connection *c = find(guard, fd);

	atomic_fetch_add(&guard->accepted, 1);
	if (c == NULL) {
		atomic_fetch_add(&guard->refused, 1);
		shutdown(fd, SHUT_RDWR);
		return;
	}
	memset(&c->address, 0, sizeof(c->address));
	c->address_bytes = sizeof(c->address);
	if (getpeername(fd, (struct sockaddr *)&c->address, &c->address_bytes) != 0)
		c->address_bytes = 0;
	atomic_fetch_add(&guard->open, !c->open);
	c->open = true;
	if ((uint32_t)fd > guard->highest)
		guard->highest = (uint32_t)fd;
	if (atomic_load(&guard->open) > guard->options.connections)
		cut(guard, fd, &guard->refused);
}

static void on_closed(struct guard *guard, int fd)
{
	struct connection *c = find(guard, fd);
	if (c == NULL || !c->open)
		return;
	/* Here, not when the next one is accepted: the lane may have had messages
	 * of that one before the guard hears of it. */
	c->open = false;
	c->shut = false;
	intake_reset(&c->intake);
	atomic_store(&c->known, false);
	atomic_store(&c->granted, 0);
	atomic_fetch_sub(&guard->open, 1);
}

/* Bytes that ZeroMQ has taken of this connection.  Not those that wait in the kernel:
 * on a busy machine a worker's may wait there long.  False where it cannot be told. */
static bool measure(const struct connection *c, int fd, struct intake_bytes *out)
{
	struct tcp_info info;
	socklen_t bytes = sizeof(info);
	int waiting = 0;

	if (c->address.ss_family == AF_UNIX ||
	    getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &bytes) != 0 || ioctl(fd, FIONREAD, &waiting) != 0)
		return false;
	/* Read in this order, what comes in between makes it too small, never too large. */
	out->come = info.tcpi_bytes_received;
	out->taken = out->come > (uint64_t)waiting ? out->come - (uint64_t)waiting : 0;
	return true;
}

/* Bytes that ZeroMQ holds of this connection; *flood if they are too many. */
static uint64_t inspect_one(const struct guard *guard, struct connection *c, int fd, bool *flood)
{
	const struct guard_options *options = &guard->options;
	const struct intake_turns turns = {atomic_load(&guard->turns), atomic_load(&guard->empty_turns)};
	struct intake_bytes bytes = {.given_before = atomic_load(&c->intake.given)};

	*flood = false;
	if (!measure(c, fd, &bytes))
		return 0;
	intake_look(&c->intake, &bytes, &turns, options->message_bytes);
	uint64_t held = intake_held(&c->intake, bytes.taken);
	/* Asked after the bytes were: those that HELLO allowed may be among them. */
	bool known = atomic_load(&c->known);
	*flood = held > (known ? options->session_bytes : options->stranger_bytes) ||
	         intake_stalled(&c->intake, held, &turns, options->message_bytes);
	return held;
}

/* Honest workers that all keep to their windows may have any number of bytes under way
 * while the lane stands still, on a slow disk for one: nothing in their bytes tells
 * them from a flood, so the total is of what nobody was granted. */
static uint64_t beyond_grant(const struct connection *c, uint64_t held)
{
	uint64_t granted = atomic_load_explicit(&c->granted, memory_order_relaxed);
	return held > granted ? held - granted : 0;
}

static void inspect(struct guard *guard)
{
	uint64_t total = 0, largest = 0;
	int largest_fd = -1;

	for (uint32_t fd = 0; fd <= guard->highest; fd++) {
		struct connection *c = &guard->connections[fd];
		if (!c->open || c->shut)
			continue;
		bool flood;
		uint64_t bytes = beyond_grant(c, inspect_one(guard, c, (int)fd, &flood));
		if (flood)
			cut(guard, (int)fd, &guard->flooded);
		total += bytes;
		if (bytes > largest) {
			largest = bytes;
			largest_fd = (int)fd;
		}
	}
	if (total > guard->options.total_bytes && largest_fd >= 0)
		cut(guard, largest_fd, &guard->flooded);
}

/* One monitor event: a frame with number and value, a frame with the address. */
static void read_event(struct guard *guard)
{
	unsigned char frame[6];
	char address[256];
	uint16_t event;
	int32_t value;

	if (zmq_recv(guard->monitor, frame, sizeof(frame), ZMQ_DONTWAIT) != (int)sizeof(frame))
		return;
	zmq_recv(guard->monitor, address, sizeof(address), ZMQ_DONTWAIT);
	memcpy(&event, frame, sizeof(event));
	memcpy(&value, frame + 2, sizeof(value));
	if (event == ZMQ_EVENT_ACCEPTED)
		on_accepted(guard, value);
	else if (event == ZMQ_EVENT_CLOSED || event == ZMQ_EVENT_DISCONNECTED)
		on_closed(guard, value);
}

static void *guard_main(void *argument)
{
	struct guard *guard = argument;
	zmq_pollitem_t item = {.socket = guard->monitor, .events = ZMQ_POLLIN};
	int events;
	size_t size = sizeof(events);
	uint64_t floods = 0;
	unsigned trim = 0;

	while (!atomic_load(&guard->stop)) {
		zmq_poll(&item, 1, TICK_MS);
		while (zmq_getsockopt(guard->monitor, ZMQ_EVENTS, &events, &size) == 0 &&
		       (events & ZMQ_POLLIN) != 0)
			read_event(guard);
		inspect(guard);
		/* The allocator keeps freed memory warm, which for this was never meant. */
		if (atomic_load(&guard->flooded) != floods) {
			floods = atomic_load(&guard->flooded);
			trim = TRIM_TICKS;
		} else if (trim > 0 && --trim == 0) {
			malloc_trim(0);
		}
	}
	return NULL;
}

static uint32_t descriptor_limit(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur > 65536)
		return 65536;
	return (uint32_t)limit.rlim_cur;
}

static int monitor_open(void *context, void *socket, const char *name, void **monitor)
{
	char endpoint[128];
	int linger = 0;

	snprintf(endpoint, sizeof(endpoint), "inproc://guard.%s", name);
	/* Not ACCEPT_FAILED: a peer that exhausts descriptors makes 100,000 a second. */
	if (zmq_socket_monitor(socket, endpoint,
	                       ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_CLOSED | ZMQ_EVENT_DISCONNECTED) != 0)
		return OPTD_INTERNAL;
	*monitor = zmq_socket(context, ZMQ_PAIR);
	if (*monitor == NULL)
		return OPTD_INTERNAL;
	zmq_setsockopt(*monitor, ZMQ_LINGER, &linger, sizeof(linger));
	return zmq_connect(*monitor, endpoint) == 0 ? OPTD_OK : OPTD_INTERNAL;
}

int guard_open(void *context, void *socket, const char *name, const struct guard_options *options,
               struct guard **out)
{
	struct guard *guard = calloc(1, sizeof(*guard));
	int rc = OPTD_NO_MEMORY;

	if (guard == NULL)
		return rc;
	guard->options = *options;
	guard->room = descriptor_limit();
	guard->connections = calloc(guard->room, sizeof(*guard->connections));
	if (guard->connections != NULL)
		rc = monitor_open(context, socket, name, &guard->monitor);
	if (rc == OPTD_OK && pthread_create(&guard->thread, NULL, guard_main, guard) != 0)
		rc = OPTD_INTERNAL;
	if (rc < 0) {
		if (guard->monitor != NULL)
			zmq_close(guard->monitor);
		free(guard->connections);
		free(guard);
		return rc;
	}
	*out = guard;
	return OPTD_OK;
}

void guard_close(struct guard *guard)
{
	if (guard == NULL)
		return;
	atomic_store(&guard->stop, true);
	pthread_join(guard->thread, NULL);
	zmq_close(guard->monitor);
	free(guard->connections);
	free(guard);
}
