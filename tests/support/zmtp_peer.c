/* Sockets with a patience, and the few byte patterns of ZMTP 3.0. */
#include "tests/support/zmtp_peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define COMMAND_MAX 256

/* ---- sockets ------------------------------------------------------------ */

static int open_tcp(const char *endpoint, struct sockaddr_in *address)
{
	const char *colon = strrchr(endpoint, ':');

	memset(address, 0, sizeof(*address));
	address->sin_family = AF_INET;
	address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	address->sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
	return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

static int connect_ipc(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static int connect_tcp(const char *endpoint)
{
	struct sockaddr_in address;
	int one = 1, fd = open_tcp(endpoint, &address);

	if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
		close(fd);
		return -1;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return fd;
}

int zmtp_connect(const char *endpoint)
{
	struct timeval patience = { .tv_sec = ZMTP_PATIENCE_MS / 1000 };
	int fd = strncmp(endpoint, "ipc://", 6) == 0 ? connect_ipc(endpoint + 6)
	                                             : connect_tcp(endpoint);
	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return fd;
}

/* Room to send; false at the other side's end, which a closed window would hide. */
static bool wait_room(int fd)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLOUT | POLLRDHUP };

	if (poll(&poll_fd, 1, ZMTP_PATIENCE_MS) <= 0)
		return false;
	return (poll_fd.revents & (POLLRDHUP | POLLHUP | POLLERR)) == 0;
}

bool zmtp_send(int fd, const void *bytes, size_t size)
{
	const char *at = bytes;

	while (size > 0) {
		ssize_t n = send(fd, at, size, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN && wait_room(fd))
			continue;
		if (n <= 0)
			return false;
		at += n;
		size -= (size_t)n;
	}
	return true;
}

bool zmtp_receive(int fd, void *bytes, size_t size)
{
	char *at = bytes;

	while (size > 0) {
		ssize_t n = recv(fd, at, size, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		at += n;
		size -= (size_t)n;
	}
	return true;
}

bool zmtp_readable(int fd, int timeout_ms)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
	return poll(&poll_fd, 1, timeout_ms) > 0;
}

static uint64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

bool zmtp_wait_cut(int fd, int timeout_ms)
{
	uint64_t deadline_ms = now_ms() + (uint64_t)timeout_ms;
	char bytes[4096];

	for (;;) {
		uint64_t now = now_ms();
		if (now >= deadline_ms || !zmtp_readable(fd, (int)(deadline_ms - now)))
			return false;
		ssize_t n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
		if (n == 0 || (n < 0 && errno != EAGAIN))
			return true;
	}
}

/* ---- opening ------------------------------------------------------------ */

void zmtp_greeting(const char *mechanism, unsigned char out[64])
{
	memset(out, 0, 64);
	out[0] = 0xff;
	out[8] = 1;
	out[9] = 0x7f;
	out[10] = 3; /* version 3.0 */
	memcpy(out + 12, mechanism, strnlen(mechanism, 20));
}

bool zmtp_frame_head(int fd, unsigned flags, uint64_t size)
{
	unsigned char head[9] = { (unsigned char)flags };
	size_t bytes = 2;

	head[1] = (unsigned char)size;
	if (flags & ZMTP_LONG) {
		bytes = 9;
		for (int i = 0; i < 8; i++)
			head[1 + i] = (unsigned char)(size >> (56 - 8 * i));
	}
	return zmtp_send(fd, head, bytes);
}

bool zmtp_frame(int fd, unsigned flags, const void *bytes, size_t size)
{
	if (size > 255)
		flags |= ZMTP_LONG;
	return zmtp_frame_head(fd, flags, size) && zmtp_send(fd, bytes, size);
}

static size_t add_property(unsigned char *at, const char *name, const void *value, size_t bytes)
{
	size_t name_bytes = strlen(name);

	at[0] = (unsigned char)name_bytes;
	memcpy(at + 1, name, name_bytes);
	at += 1 + name_bytes;
	at[0] = at[1] = 0;
	at[2] = (unsigned char)(bytes >> 8);
	at[3] = (unsigned char)bytes;
	if (bytes > 0)
		memcpy(at + 4, value, bytes);
	return 1 + name_bytes + 4 + bytes;
}

bool zmtp_ready(int fd, const char *type, const void *identity, size_t identity_bytes)
{
	unsigned char command[COMMAND_MAX + 256] = "\5READY";
	size_t used = 6;

	used += add_property(command + used, "Socket-Type", type, strlen(type));
	if (identity_bytes > 0)
		used += add_property(command + used, "Identity", identity, identity_bytes);
	return zmtp_frame(fd, ZMTP_COMMAND, command, used);
}

/* One frame of any kind; keeps at most `room` bytes. */
static bool next_frame(int fd, unsigned char *flags, unsigned char *bytes, size_t room, size_t *size)
{
	unsigned char head[8];
	uint64_t left = 0;

	if (!zmtp_receive(fd, flags, 1) || !zmtp_receive(fd, head, *flags & ZMTP_LONG ? 8 : 1))
		return false;
	for (int i = 0; i < (*flags & ZMTP_LONG ? 8 : 1); i++)
		left = left << 8 | head[i];
	*size = left;
	size_t kept = left < room ? left : room;
	if (!zmtp_receive(fd, bytes, kept))
		return false;
	for (left -= kept; left > 0; left -= kept) {
		unsigned char spare[4096];
		kept = left < sizeof(spare) ? left : sizeof(spare);
		if (!zmtp_receive(fd, spare, kept))
			return false;
	}
	return true;
}

bool zmtp_open(int fd, const void *identity, size_t identity_bytes)
{
	unsigned char greeting[64], flags, command[COMMAND_MAX];
	size_t size;

	zmtp_greeting("NULL", greeting);
	return zmtp_send(fd, greeting, sizeof(greeting)) &&
	       zmtp_receive(fd, greeting, sizeof(greeting)) &&
	       zmtp_ready(fd, "DEALER", identity, identity_bytes) &&
	       next_frame(fd, &flags, command, sizeof(command), &size) && (flags & ZMTP_COMMAND);
}

int zmtp_dealer(const char *endpoint)
{
	int fd = zmtp_connect(endpoint);
	if (fd >= 0 && !zmtp_open(fd, NULL, 0)) {
		close(fd);
		return -1;
	}
	return fd;
}

/* ---- messages ----------------------------------------------------------- */

bool zmtp_message(int fd, const void *header, size_t header_bytes, const void *payload,
                  size_t payload_bytes)
{
	return zmtp_frame(fd, ZMTP_MORE, header, header_bytes) &&
	       zmtp_frame(fd, 0, payload, payload_bytes);
}

static bool answer_ping(int fd, const unsigned char *command, size_t size)
{
	unsigned char pong[COMMAND_MAX] = "\4PONG";
	size_t context = size > 7 ? size - 7 : 0;

	if (size < 7 || memcmp(command, "\4PING", 5) != 0)
		return true;
	memcpy(pong + 5, command + 7, context);
	return zmtp_frame(fd, ZMTP_COMMAND, pong, 5 + context);
}

bool zmtp_next(int fd, void *bytes, size_t room, size_t *size, bool *more)
{
	unsigned char flags, command[COMMAND_MAX];

	for (;;) {
		/* Peeked, so that a command does not disturb the caller's buffer. */
		if (recv(fd, &flags, 1, MSG_PEEK) != 1)
			return false;
		if ((flags & ZMTP_COMMAND) == 0)
			break;
		if (!next_frame(fd, &flags, command, 250, size) ||
		    !answer_ping(fd, command, *size < 250 ? *size : 250))
			return false;
	}
	if (!next_frame(fd, &flags, bytes, room, size))
		return false;
	*more = (flags & ZMTP_MORE) != 0;
	return true;
}
