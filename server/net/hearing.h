/*
 * Hearing: what the other lanes of the daemon tell this one (server/core/lane_message.h).
 *
 * A message is heard once, on the lane's thread; of one lane, in the order in which it
 * told them.  Telling takes no memory and never fails: who cannot hear any more loses
 * nothing that matters, since its models are saved or given up.
 */
#ifndef OPTD_NET_HEARING_H
#define OPTD_NET_HEARING_H

#include <pthread.h>
#include <stdbool.h>
#include <uv.h>

#include "server/core/lane_message.h"

struct hearing {
	pthread_mutex_t lock;
	bool open;
	struct lane_message *first, *last;
	uv_async_t async;
	void (*hear)(void *user, struct lane_message *message); /* takes it */
	void *user;
};

/* From here on it may be told things, which until it is open are forgotten. */
void hearing_init(struct hearing *hearing);
void hearing_deinit(struct hearing *hearing);

/* Before the loop's thread starts, and on it. */
void hearing_open(struct hearing *hearing, uv_loop_t *loop,
                  void (*hear)(void *user, struct lane_message *message), void *user);
/* Begins to close; what was not heard yet is forgotten. */
void hearing_close(struct hearing *hearing);

/* Takes the message.  Any thread. */
void hearing_tell(struct hearing *hearing, struct lane_message *message);

#endif
