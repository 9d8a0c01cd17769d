/*
 * Guard: watches a ROUTER's TCP connections from outside.
 *
 * ZeroMQ counts whole messages, so a peer that sends parts without end fills
 * memory while the application sees nothing.  The guard compares the bytes that
 * ZeroMQ has read from a connection with the bytes the lane has been given (intake.h),
 * and shuts a connection down when the difference exceeds what its pipe may
 * hold; a connection that has not said HELLO gets very little.  A part without
 * bytes takes two on the wire and 64 in memory, so it also looks at progress.  It
 * keeps the number of connections in bounds, too.
 *
 * It drains the socket's monitor on its own thread, since a monitor that is not
 * drained stops ZeroMQ's I/O thread.  Connections of an ipc socket cannot be
 * measured this way and are not watched: they come from this machine's users.
 */
#ifndef OPTD_NET_GUARD_H
#define OPTD_NET_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct guard;

struct guard_options {
	uint32_t connections;    /* at most so many at once */
	uint64_t stranger_bytes; /* undelivered before HELLO */
	uint64_t session_bytes;  /* undelivered after */
	uint64_t message_bytes;  /* of the largest whole message: whoever has sent more, of
	                            which a lane that goes on has been given nothing, sends no
	                            messages */
	uint64_t total_bytes;    /* undelivered over all, beyond what was granted: who has most of
	                            that is cut */
};

/* Of connections, since the start: refused beyond the limit, cut for what they said,
 * flooded for how much they sent or left unread. */
struct guard_counts {
	uint64_t accepted, refused, flooded, cut;
};

/* Watches `socket`, before it is bound.  The monitor's endpoint is named after
 * `name`, unique in the context.  OPTD_INTERNAL or OPTD_NO_MEMORY. */
int guard_open(void *context, void *socket, const char *name, const struct guard_options *options,
               struct guard **out);
/* After the watched socket was closed. NULL is fine. */
void guard_close(struct guard *guard);

/* The lane was given a message of so many bytes on the wire (intake_frame_bytes) from
 * this connection.  The lane's thread; cheap. */
void guard_delivered(struct guard *guard, int fd, size_t bytes);
/* The connection has said HELLO, and so many undelivered bytes are its right: it keeps
 * to its window however long the lane stands still. */
void guard_known(struct guard *guard, int fd, uint64_t granted);
/* The lane has had a turn in which it asked every connection for a message, and the
 * last one, if there was none: empty.  Not more often than 20 times a second: ZeroMQ's
 * thread needs time, too. */
void guard_turn(struct guard *guard, bool empty);
/* Connections now, refused ones among them. */
uint32_t guard_connections(const struct guard *guard);
/* The number of the socket behind a descriptor, which no later one has; 0 if there is none. */
uint64_t guard_socket(int fd);
/* Cuts the connection if the descriptor is still this socket's: what ZeroMQ holds for it
 * is given back.  With 0 whoever has the descriptor is cut; that of an old message may be
 * another's by now, who has to connect again: ask once, not for each message that is
 * still in ZeroMQ's hands.  heavy: it held much memory. */
void guard_cut(struct guard *guard, int fd, uint64_t socket, bool heavy);

void guard_get_counts(struct guard *guard, struct guard_counts *counts);

#endif
