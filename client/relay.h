/*
 * Relay: carries the parts of a step's norm from daemon to daemon.
 *
 * A model that clips a norm and is shared among daemons needs the parts of all of them for
 * a step.  Whoever pushes asks each for its own, in one message after the other where they
 * are many, and once all are here tells each those of the others.  Not before: a daemon that
 * has decided may restart and not know them any more, but then they are here.
 *
 * Numbers are kept until the next step: what is told again after a restart, or in another
 * call of the same step, is the same.
 *
 * Pure: no sockets, clock or protobuf.
 */
#ifndef OPTD_CLIENT_RELAY_H
#define OPTD_CLIENT_RELAY_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/layout.h"
#include "proto/msg.h"

/* To the first lane of a daemon, which has blocks. */
struct relay_message {
	uint32_t daemon;
	bool tells;
	struct msg_part part;
	uint32_t first_segment, segments; /* of these blocks */
};

struct relay {
	struct relay_message *messages; /* what is asked, daemon by daemon, then what is told */
	uint32_t ask_count, message_count;
	double *numbers; /* [segments] */
	uint32_t asks_left;
	uint64_t step_plus_one; /* whose they are; 0: of none */
	bool guessed; /* some are not: a daemon is past the step and does not know them any more */
};

/* Messages that may be sent from now on. */
struct relay_due {
	uint32_t first, count;
};

/* Of a layout that is cut.  *out is NULL where one daemon has all blocks.  OPTD_NO_MEMORY. */
int relay_new(const struct layout *layout, uint32_t daemons, struct relay **out);
void relay_free(struct relay *relay);

/* The steps of its numbers are to be done again, after a rollback: others will come. */
void relay_forget(struct relay *relay);
/* A push of this step begins. */
void relay_begin(struct relay *relay, uint64_t step);
/* Whether message `index` is to be sent when it does. */
bool relay_begins_with(const struct relay *relay, uint32_t index);
/* Takes what was asked for, and says what follows from it. */
struct relay_due relay_take(struct relay *relay, uint32_t index, const void *payload, bool guessed);
/* Whether it is to be told (again): the daemon may have forgotten it. */
bool relay_tells(const struct relay *relay, uint32_t index, uint32_t daemon);

/* Bytes of what a message tells, or of the answer to what it asks. */
static inline uint64_t relay_bytes(const struct relay_message *message)
{
	return message->segments * sizeof(double);
}

#endif
