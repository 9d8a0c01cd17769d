/*
 * Why nobody answers: ZeroMQ connects in the background and keeps its reasons to
 * itself, so a failed call tries the address once by hand.
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "client/link.h"
#include "proto/limits.h"

/* 0, or an errno. */
static int try_connect(const struct sockaddr *address, socklen_t size, uint32_t ms)
{
	int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return errno;
	int error = 0;
	if (connect(fd, address, size) != 0)
		error = errno;
	if (error == EINPROGRESS) {
		struct pollfd p = {.fd = fd, .events = POLLOUT};
		socklen_t length = sizeof(error);
		error = ETIMEDOUT;
		if (poll(&p, 1, (int)ms) == 1)
			getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
	}
	close(fd);
	return error;
}

static int explain(int error, char *text, size_t text_bytes)
{
	if (error == 0)
		snprintf(text, text_bytes, "something listens there but does not answer as optd");
	else
		snprintf(text, text_bytes, "%s", strerror(error));
	return error;
}

static int diagnose_tcp(const char *address, uint32_t ms, char *text, size_t text_bytes)
{
	char host[LIMIT_ENDPOINT_BYTES + 1];
	snprintf(host, sizeof(host), "%s", address);
	char *port = strrchr(host, ':');
	if (!port) {
		snprintf(text, text_bytes, "the address has no port");
		return EINVAL;
	}
	*port++ = '\0';
	char *name = host;
	size_t length = strlen(name);
	if (length > 1 && name[0] == '[' && name[length - 1] == ']') {
		name[length - 1] = '\0';
		name++;
	}
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
	int rc = getaddrinfo(name, port, &hints, &list);
	if (rc != 0) {
		snprintf(text, text_bytes, "%s", gai_strerror(rc));
		return EINVAL;
	}
	int error = EINVAL;
	/* "localhost" is two addresses, and a server may listen at one. */
	for (const struct addrinfo *a = list; a && error != 0; a = a->ai_next)
		error = try_connect(a->ai_addr, a->ai_addrlen, ms);
	freeaddrinfo(list);
	return explain(error, text, text_bytes);
}

static int diagnose_ipc(const char *path, uint32_t ms, char *text, size_t text_bytes)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(address.sun_path)) {
		snprintf(text, text_bytes, "the path is longer than %zu bytes", sizeof(address.sun_path) - 1);
		return EINVAL;
	}
	memcpy(address.sun_path, path, strlen(path));
	socklen_t size = sizeof(address);
	if (address.sun_path[0] == '@') {
		size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
		address.sun_path[0] = '\0';
	}
	return explain(try_connect((const struct sockaddr *)&address, size, ms), text, text_bytes);
}

int link_diagnose(const char *endpoint, uint32_t ms, char *text, size_t text_bytes)
{
	if (strncmp(endpoint, "tcp://", 6) == 0)
		return diagnose_tcp(endpoint + 6, ms, text, text_bytes);
	if (strncmp(endpoint, "ipc://", 6) == 0)
		return diagnose_ipc(endpoint + 6, ms, text, text_bytes);
	snprintf(text, text_bytes, "no answer");
	return EINVAL;
}
