/*
 * Link: the library's only I/O.  A hub holds the ZeroMQ context, the clock and
 * the descriptors of a client; a link is the DEALER socket to one lane.
 *
 * Nothing here blocks but hub_wait and link_diagnose.  A link that is not
 * connected refuses to send, and connects and reconnects by itself in the
 * background.
 */
#ifndef OPTD_CLIENT_LINK_H
#define OPTD_CLIENT_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hub;
struct link;

/* OPTD_NO_MEMORY, or OPTD_IO with the reason in why. */
int hub_new(struct hub **out, char *why, size_t why_bytes);
/* Frees the hub; all its links must be closed.  Returns when ZeroMQ has let go
 * of every buffer. */
void hub_free(struct hub *hub);

/* Milliseconds of a clock that only goes forward. */
uint64_t hub_now_ms(void);
/* A random number, never 0. */
uint64_t hub_random(void);
/* This machine's name. */
void hub_host(char *text, size_t text_bytes);

/* Waits until a link may have something to do, or for `ms`. */
void hub_wait(struct hub *hub, uint64_t ms);

/* The descriptor for other event loops. */
int hub_fd(struct hub *hub);
/* Prepares that descriptor for leaving the library: it becomes readable at once
 * if there is `work` left, else when a link wakes up or at_ms (UINT64_MAX:
 * never) has come.  Free of system calls until hub_fd was asked for once. */
void hub_leave(struct hub *hub, bool work, uint64_t at_ms);

/* What can be said of an endpoint without a socket: OPTD_INVALID unless it is
 * tcp://host:port or ipc://path. */
int link_check(const char *endpoint);
/* Starts connecting.  OPTD_INVALID for an endpoint that ZeroMQ does not take,
 * OPTD_IO otherwise; why says more. */
int link_open(struct hub *hub, const char *endpoint, struct link **out, char *why, size_t why_bytes);
/* Drops the connection and what is on it, and starts another. */
void link_reopen(struct link *link);
void link_close(struct link *link);

/* Whether a message can be sent, and whether one is there. */
bool link_writable(struct link *link);
bool link_readable(struct link *link);

/* What became of the connection since the last call, oldest first, one at a time;
 * LINK_NOTHING when there is no more.  A link begins without a connection, and
 * begins again with link_reopen. */
enum link_news { LINK_NOTHING = 0, LINK_CONNECTED, LINK_LOST };
enum link_news link_news(struct link *link);

/* Bytes that the connection has moved: those the other side's machine has acknowledged and
 * those it has sent.  0 where that can't be told (ipc, or no connection). */
uint64_t link_bytes(const struct link *link);

/* Sends two frames.  `payload` is NULL or a buffer of a pool, which is taken
 * with any result but OPTD_BUSY: then nothing was sent and it stays the
 * caller's. */
int link_send(struct link *link, const void *header, size_t header_bytes, void *payload,
              size_t payload_bytes);

/* The next message, if there is one; messages that do not have two frames are
 * dropped.  The bytes are good until the next call on this link; the payload is
 * aligned to 8 bytes. */
bool link_receive(struct link *link, const void **header, size_t *header_bytes, const void **payload,
                  size_t *payload_bytes);

/* Why nobody answers at an endpoint ("Connection refused"): tries each of its
 * addresses once by hand, for at most `ms` each, besides what looking up a name
 * takes.  Returns 0 if something listens there, else an errno; EINVAL if there is
 * no such address. */
int link_diagnose(const char *endpoint, uint32_t ms, char *text, size_t text_bytes);
#define LINK_DIAGNOSE_MS 500u

#endif
