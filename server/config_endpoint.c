/*
 * Config endpoints: addresses as an operator writes them, taken apart.
 *
 * What is not certainly loopback counts as reachable from outside: a name other
 * than localhost is a network interface to ZeroMQ's bind, and stays outside even
 * when it is "lo".
 */
#include "server/config_value.h"

#include <arpa/inet.h>
#include <string.h>

#define TCP "tcp://"
#define IPC "ipc://"
#define SCHEME_BYTES 6u

#define PORT_MAX 65535u

/* A tcp endpoint, in pieces that point into its text. */
struct tcp {
	const char *host; /* without brackets */
	size_t host_bytes;
	bool bracketed;
	uint32_t port; /* 0: any */
};

static bool starts_with(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* A port: "*", or up to five digits. */
static bool read_port(const char *text, uint32_t *out)
{
	uint32_t port = 0;
	size_t size = strlen(text);

	if (strcmp(text, "*") == 0) {
		*out = 0;
		return true;
	}
	if (size == 0 || size > 5 || strspn(text, "0123456789") != size)
		return false;
	for (; *text; text++)
		port = port * 10 + (uint32_t)(*text - '0');
	*out = port;
	return port <= PORT_MAX;
}

static bool tcp_split(const char *text, struct tcp *out)
{
	const char *host = text + SCHEME_BYTES;
	const char *colon = strrchr(host, ':');

	if (!colon || colon == host || !read_port(colon + 1, &out->port))
		return false;
	out->bracketed = host[0] == '[';
	out->host = host + out->bracketed;
	out->host_bytes = (size_t)(colon - out->host);
	if (out->bracketed) {
		if (colon - host < 3 || colon[-1] != ']')
			return false;
		out->host_bytes--;
	}
	return true;
}

static bool host_is(const struct tcp *tcp, const char *name)
{
	return tcp->host_bytes == strlen(name) && memcmp(tcp->host, name, tcp->host_bytes) == 0;
}

/* The host's text, for the resolver; false when longer than any address. */
static bool host_copy(const struct tcp *tcp, char out[INET6_ADDRSTRLEN])
{
	if (tcp->host_bytes >= INET6_ADDRSTRLEN)
		return false;
	memcpy(out, tcp->host, tcp->host_bytes);
	out[tcp->host_bytes] = '\0';
	return true;
}

static bool host_valid(const struct tcp *tcp)
{
	static const char name[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
	char address[INET6_ADDRSTRLEN];
	struct in6_addr six;

	if (tcp->bracketed)
		return host_copy(tcp, address) && inet_pton(AF_INET6, address, &six) == 1;
	if (host_is(tcp, "*"))
		return true;
	for (size_t i = 0; i < tcp->host_bytes; i++) {
		if (!memchr(name, tcp->host[i], sizeof(name) - 1))
			return false;
	}
	return true;
}

static int refuse(const char *text, const char *what, char *why, size_t why_bytes)
{
	snprintf(why, why_bytes, "\"%.80s\" %s", text, what);
	return OPTD_INVALID;
}

static int ipc_check(const char *text, char *why, size_t why_bytes)
{
	const char *path = text + SCHEME_BYTES;

	if (path[0] == '\0' || path[0] == '*')
		return refuse(text, "names no path; write ipc:///run/optd/optd.sock", why,
		              why_bytes);
	if (strlen(path) > CONFIG_IPC_PATH_BYTES) {
		snprintf(why, why_bytes,
		         "\"%.120s\" has a path of %zu bytes; a socket's may have %u", text,
		         strlen(path), CONFIG_IPC_PATH_BYTES);
		return OPTD_INVALID;
	}
	return 0;
}

int endpoint_check(const char *text, bool to_connect, char *why, size_t why_bytes)
{
	struct tcp tcp;

	if (strlen(text) > LIMIT_ENDPOINT_BYTES)
		return refuse(text, "is too long for an endpoint", why, why_bytes);
	if (starts_with(text, IPC))
		return ipc_check(text, why, why_bytes);
	if (!starts_with(text, TCP) || !tcp_split(text, &tcp) || !host_valid(&tcp))
		return refuse(
			text,
			"is not an endpoint; allowed: tcp://ADDRESS:PORT, tcp://[IPV6]:PORT or "
			"ipc://PATH, with PORT from 0 to 65535 or *",
			why, why_bytes);
	if (to_connect && (tcp.port == 0 || host_is(&tcp, "*")))
		return refuse(
			text,
			"is nothing to connect to; clients need an address and a port from 1 to 65535",
			why, why_bytes);
	return 0;
}

bool endpoint_loopback(const char *text)
{
	char address[INET6_ADDRSTRLEN];
	struct in6_addr six;
	struct in_addr four;
	struct tcp tcp;

	if (starts_with(text, IPC))
		return true;
	if (!tcp_split(text, &tcp) || !host_copy(&tcp, address))
		return false;
	if (host_is(&tcp, "localhost"))
		return true;
	if (tcp.bracketed)
		return inet_pton(AF_INET6, address, &six) == 1 && IN6_IS_ADDR_LOOPBACK(&six);
	return inet_pton(AF_INET, address, &four) == 1 && ntohl(four.s_addr) >> 24 == 127;
}

void endpoint_lane(const char *text, uint32_t n, char out[LIMIT_ENDPOINT_BYTES + 1])
{
	struct tcp tcp;
	char port[12] = "*";

	if (starts_with(text, IPC) || !tcp_split(text, &tcp)) {
		if (n == 0)
			snprintf(out, LIMIT_ENDPOINT_BYTES + 1, "%s", text);
		else
			snprintf(out, LIMIT_ENDPOINT_BYTES + 1, "%s.%u", text, n);
		return;
	}
	if (n == 0 && tcp.port != 0)
		snprintf(port, sizeof(port), "%u", tcp.port);
	/* ZeroMQ's bind resolves addresses and interfaces, but not localhost. */
	if (!tcp.bracketed && host_is(&tcp, "localhost"))
		snprintf(out, LIMIT_ENDPOINT_BYTES + 1, TCP "127.0.0.1:%s", port);
	else
		snprintf(out, LIMIT_ENDPOINT_BYTES + 1, TCP "%s%.*s%s:%s", tcp.bracketed ? "[" : "",
		         (int)tcp.host_bytes, tcp.host, tcp.bracketed ? "]" : "", port);
}
