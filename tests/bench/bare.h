/*
 * Bare: what optd would be without everything that makes it optd.
 *
 * A forked process with a ROUTER loop, and a client for it: the same messages,
 * window, socket options, copies, checksums and adam kernel as optd and
 * liboptd, and nothing else: no sessions, layouts, versions, checks, resends,
 * event loop.  One trusted peer, one hard-wired model.  How far optd stays
 * behind it is the price of what optd promises.
 *
 * The echo variant sends the same bytes both ways and touches none of them:
 * neither copied nor summed by client or server.
 */
#ifndef OPTD_BENCH_BARE_H
#define OPTD_BENCH_BARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct bare_plan {
	size_t elements;         /* of the model */
	size_t message_elements; /* of one message; the last one may have fewer */
	size_t window_bytes;     /* sent and not answered */
	bool echo;
};

/* The first frame of each message, in both directions. */
struct bare_header {
	uint64_t step;  /* counted from 1 */
	uint64_t first; /* element */
	uint64_t checksum;
};

/* First weights of element i, of every server in the benchmark. */
float bare_first_weight(size_t i);

/* Memory of all processes stays warm: what they receive is taken from and given
 * back to the allocator.  server: as in the daemon; otherwise as liboptd's
 * users are told. */
void bare_keep_warm(bool server);

/* A server, forked: call it while the program has one thread.  It listens on
 * `listen` (port *: any) and writes where to *endpoint, of 256 bytes.  It ends
 * with its parent. */
pid_t bare_server_start(const struct bare_plan *plan, const char *listen, char *endpoint);
void bare_server_stop(pid_t pid);

struct bare_client;
struct bare_client *bare_client_open(const struct bare_plan *plan, const char *endpoint);
void bare_client_close(struct bare_client *client);
/* One step: all of gradient there, all of weights back (unless echo). */
void bare_client_round(struct bare_client *client, const float *gradient, float *weights);

#endif
