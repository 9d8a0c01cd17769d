/*
 * Daemon proxy: a TCP forwarder between a worker and a daemon that can break.
 *
 * It runs on a thread of the test.  Connections through it can be cut after a
 * number of bytes, or swallowed: they stay up and nothing arrives any more.
 * Of a daemon with several lanes a client learns the further ones' own addresses,
 * unless it advertises forwarders.
 */
#ifndef OPTD_TEST_DAEMON_PROXY_H
#define OPTD_TEST_DAEMON_PROXY_H

#include <stdint.h>

struct daemon_proxy;

/* Listens on a free port; forwards to "tcp://127.0.0.1:port". */
struct daemon_proxy *daemon_proxy_new(const char *target);
/* Cuts all and ends the thread. */
void daemon_proxy_free(struct daemon_proxy *proxy);
/* Where it listens. */
const char *daemon_proxy_endpoint(const struct daemon_proxy *proxy);

/* Cuts all connections now. */
void daemon_proxy_cut(struct daemon_proxy *proxy);
/* Cuts each connection once so many bytes have gone through it, both ways added up;
 * the number changes a little from connection to connection.  0: never. */
void daemon_proxy_cut_after(struct daemon_proxy *proxy, uint64_t bytes);
/* Connections made so far. */
uint32_t daemon_proxy_connections(struct daemon_proxy *proxy);
/* Lets new connections move so many bytes a second each way, like a slow link: little is
 * on the way between its ends.  0: as fast as they go. */
void daemon_proxy_throttle(struct daemon_proxy *proxy, uint64_t bytes_per_s);
/* Swallows what comes on all connections there are now, for good: new ones work. */
void daemon_proxy_swallow(struct daemon_proxy *proxy);

#endif
