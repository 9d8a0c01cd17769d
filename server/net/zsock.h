/*
 * Zsock: a ZeroMQ socket as a libuv handle.
 *
 * A ZeroMQ descriptor tells of changes, not of states, and sending can swallow
 * the news of an arriving message.  So the descriptor only wakes the loop; what
 * is to be done is read from ZMQ_EVENTS each turn: in the prepare phase, to
 * decide whether the loop may sleep, and in the check phase, to do a bounded
 * amount of work.  Timers and other handles get their turn in between.
 */
#ifndef OPTD_NET_ZSOCK_H
#define OPTD_NET_ZSOCK_H

#include <stdbool.h>
#include <uv.h>

struct zsock {
	void *socket; /* the caller's, used by the loop's thread only */
	uv_poll_t poll;
	uv_prepare_t prepare;
	uv_check_t check;
	uv_idle_t idle;
	/* Does work while there is some, within its budget; called once a turn. */
	void (*turn)(void *user);
	void *user;
};

/* Watches a socket.  0, or a negative libuv error. */
int zsock_open(struct zsock *zsock, uv_loop_t *loop, void *socket, void (*turn)(void *user),
               void *user);

/* Begins to close the handles; the loop must run once more before the socket is
 * closed and the struct goes away. */
void zsock_close(struct zsock *zsock);

/* Whether a message waits. */
bool zsock_readable(const struct zsock *zsock);

#endif
