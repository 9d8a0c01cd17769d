/*
 * Intake: what has come on one connection and the lane has not been given.
 *
 * That is the difference of two counts: bytes that ZeroMQ has taken from the
 * kernel, and bytes of messages that the lane was given, each frame as ZMTP puts
 * it on the wire.  Commands (the opening, a PING or a PONG every five seconds) are
 * in the first count only, so the difference would grow for as long as a connection
 * lives.  Therefore it is set right again and again:
 *
 *   note     how much was taken, at some moment;
 *   settle   wait until the lane has several times found nothing to take, so that
 *            what was whole at that moment has been given to it;
 *   learn    of the next message that it is given.
 *
 * That message ended after the moment, and frames come in order: so whatever was
 * held at the moment and was not a command was the beginning of this message.  If
 * it was no larger than a message may be, the difference at that moment is taken
 * for commands.
 *
 * What a peer can make of it: it may let the beginning of a message be taken for
 * commands, and so hold as much more as that beginning.  No more by doing so again:
 * what counts is what was held at the last such moment, not a sum over them, and
 * parts without end never become the message that proves anything.  So it gains at
 * most one message, once.
 *
 * The lane's thread calls intake_given, the guard's all the others.
 */
#ifndef OPTD_NET_INTAKE_H
#define OPTD_NET_INTAKE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct intake {
	atomic_uint_least64_t given; /* of whole messages, to the lane */
	atomic_uint_least64_t first; /* bytes of the first one since this became 0 */
	uint64_t commands;           /* taken, and never to be given: see above */
	enum { INTAKE_NEW, INTAKE_NOTED, INTAKE_SETTLED } phase;
	uint64_t noted;         /* taken, at the moment */
	uint64_t noted_empty;   /* turns then that had found nothing */
	uint64_t settled_given; /* once what was whole at the moment had been given */
	uint64_t moved;         /* given, when it last was seen to change */
	uint64_t moved_turn;    /* the turn then, or when there was no more than a message */
};

/* What the lane has done so far. */
struct intake_turns {
	uint64_t all;   /* turns in which it asked every connection for a message */
	uint64_t empty; /* those that ended with nothing more to take */
};

/* What was measured of the connection, in this order. */
struct intake_bytes {
	uint64_t given_before; /* intake's given */
	uint64_t come;         /* from the peer to this machine */
	uint64_t taken;        /* of these by ZeroMQ */
};

/* A frame's bytes on the wire, in the shortest form: flags, length, contents.  A peer
 * that uses the long form for a short frame counts to its disadvantage. */
size_t intake_frame_bytes(size_t size);

/* For the descriptor's next connection. */
void intake_reset(struct intake *intake);
/* The lane was given a message. */
void intake_given(struct intake *intake, uint64_t bytes);

/* Looks at the connection; call it a few times a second. */
void intake_look(struct intake *intake, const struct intake_bytes *bytes,
                 const struct intake_turns *turns, uint64_t message_bytes);
/* Bytes held, of those taken. */
uint64_t intake_held(const struct intake *intake, uint64_t taken);
/* Whether more than a message is held and turns have passed in which none came. */
bool intake_stalled(struct intake *intake, uint64_t held, const struct intake_turns *turns,
                    uint64_t message_bytes);

#endif
