/*
 * Keep: copies that live as long as a model: what its caller named, and what the lead told
 * of its settings.  OPEN says them again after every reconnect.
 */
#ifndef OPTD_CLIENT_KEEP_H
#define OPTD_CLIENT_KEEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/msg.h"

struct keep {
	struct keep_piece *first;
};

/* Zeroed memory, or NULL. */
void *keep_room(struct keep *keep, size_t bytes);
void keep_free(struct keep *keep);

/* Put copies in place of what these point to.  False without memory. */
bool keep_text(struct keep *keep, struct msg_text *text);
bool keep_hypers(struct keep *keep, struct msg_hyper *hypers, uint32_t count);
bool keep_schedule(struct keep *keep, struct msg_schedule_part *parts, uint32_t count);
bool keep_average(struct keep *keep, struct msg_average *average);
bool keep_groups(struct keep *keep, const struct msg_group **groups, uint32_t count);

#endif
