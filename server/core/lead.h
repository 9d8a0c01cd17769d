/*
 * Lead: who decides about a step as a whole.
 *
 * Of a daemon's shards of a model the first is the lead.  A shard that has collected a step
 * sends the parts of its segments there; when those of all shards have come, and those of
 * other daemons (server/core/norms.h), the lead joins them in the order of the segments,
 * whichever came first, decides, and sends each shard the same decision, with which it
 * commits its blocks.  So the bits depend neither on lanes and daemons nor on arrival, and a
 * step is skipped on all shards or on none.
 *
 * Only models that clip a norm have any of this.
 */
#ifndef OPTD_CORE_LEAD_H
#define OPTD_CORE_LEAD_H

#include "server/core/lane_message.h"
#include "server/core/model.h"
#include "server/core/norms.h"

struct engine;
struct outbox;
struct shard;

/* What a shard keeps for it. */
struct lead {
	uint32_t lanes;
	uint32_t sharers; /* lanes that have blocks of the model: the first ones */
	struct lane_message *message; /* the shard's own; NULL while it is on its way */
	struct lane_message **came;   /* [lanes] on the lead: who has collected the step */
	uint32_t came_count;
	struct norms *norms; /* on the lead, or NULL */
};

/* Bytes that lead_new takes; 0 for a model whose steps are not decided as a whole. */
uint64_t lead_bytes(const struct model_settings *settings, const struct layout *layout,
                    struct model_place place);
/* For a model that clips, whose first step to be decided is this; NULL without memory. */
struct lead *lead_new(const struct model *model, uint64_t step);
void lead_free(struct lead *lead);

/* Something was taken in: if the shard has collected the step, says so to the lead. */
void lead_collect(struct engine *engine, struct shard *shard, struct outbox *out);

/* Parts of the norm came from another daemon: decides, if those were the last. */
void lead_go_on(struct engine *engine, struct shard *shard, struct outbox *out);

/* A message from another lane: takes it. */
void lead_hear(struct engine *engine, struct lane_message *message, struct outbox *out);

#endif
