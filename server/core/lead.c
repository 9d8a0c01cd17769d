/* Parts go to the lead, its decision comes back. */
#include "server/core/lead.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "optim/clip.h"
#include "server/base/mem.h"
#include "server/core/clipping.h"
#include "server/core/verbs.h"

static struct layout_run run_of(const struct layout *layout, struct model_place place, uint32_t lane)
{
	return layout_owned(layout, place.daemon, place.daemons, lane, place.lanes);
}

static size_t message_bytes(uint32_t segments)
{
	return sizeof(struct lane_message) + segments * sizeof(double);
}

uint64_t lead_bytes(const struct model_settings *settings, const struct layout *layout,
                    struct model_place place)
{
	if (!clipping_on(&settings->clip))
		return 0;
	return (place.lane == 0 ? norms_bytes(settings, layout, place) : 0) + sizeof(struct lead) + place.lanes * sizeof(struct lane_message *) +
	       message_bytes(layout_run_segments(layout, run_of(layout, place, place.lane))) + 3 * MALLOC_BYTES;
}

struct lead *lead_new(const struct model *model, uint64_t step)
{
	struct lead *lead = calloc(1, sizeof(*lead));
	if (lead == NULL)
		return NULL;
	lead->lanes = model->place.lanes;
	while (lead->sharers < lead->lanes &&
	       run_of(model->layout, model->place, lead->sharers).count > 0)
		lead->sharers++;
	lead->came = calloc(lead->lanes, sizeof(struct lane_message *));
	lead->message = calloc(1, message_bytes(model->segment_count));
	if (model->place.lane == 0)
		lead->norms = norms_new(model, step);
	if (lead->came == NULL || lead->message == NULL || (model->place.lane == 0 && lead->norms == NULL)) {
		lead_free(lead);
		return NULL;
	}
	lead->message->count = model->segment_count;
	lead->message->from = model->place.lane;
	memcpy(lead->message->model, model->name, sizeof(lead->message->model));
	return lead;
}

void lead_free(struct lead *lead)
{
	if (lead == NULL)
		return;
	for (uint32_t i = 0; lead->came != NULL && i < lead->lanes; i++)
		free(lead->came[i]);
	free(lead->came);
	norms_free(lead->norms);
	free(lead->message);
	free(lead);
}

/* ---- deciding ----------------------------------------------------------- */

/* What is found, before it is written into each message. */
struct finding {
	double norm;
	float factor;
};

static struct finding look_at_all(const double *parts, uint32_t count, const struct msg_clip *clip)
{
	double type = clipping_type(clip), sum = 0;

	for (uint32_t i = 0; i < count; i++)
		sum = clip_join(sum, parts[i], type);
	double norm = clip_norm(sum, type);
	return (struct finding){norm, clip_factor(norm, clip->norm)};
}

/* A place among the segments of the daemon, in the messages of its lanes. */
struct cursor {
	const struct lead *lead;
	uint32_t lane, index;
};

/* The number at the cursor, which moves on to the next. */
static double *next_number(struct cursor *at)
{
	while (at->index == at->lead->came[at->lane]->count) {
		at->lane++;
		at->index = 0;
	}
	return &at->lead->came[at->lane]->numbers[at->index++];
}

/* One tensor, from segment *at on, which moves behind it. */
static struct finding look_at_tensor(const double *parts, uint32_t *at, const struct layout *layout,
                                     const struct msg_clip *clip)
{
	uint32_t tensor = layout_segment(layout, *at)->tensor, count = layout_segment_count(layout);
	double type = clipping_type(clip), sum = 0;

	for (; *at < count && layout_segment(layout, *at)->tensor == tensor; ++*at)
		sum = clip_join(sum, parts[*at], type);
	double norm = clip_norm(sum, type);
	return (struct finding){norm, clip_factor(norm, clip->tensor_norm)};
}

/* Parts become factors, in the messages of this daemon's lanes. */
static struct finding look_at_each(const struct lead *lead, const double *parts, const struct msg_clip *clip)
{
	const struct layout *layout = lead->norms->layout;
	struct cursor own = {.lead = lead};
	struct finding worst = {0, 1.0f};
	uint32_t first = layout_block(layout, lead->norms->own.first)->first_segment;
	uint32_t end = first + layout_run_segments(layout, lead->norms->own);

	for (uint32_t at = 0, begin = 0; at < layout_segment_count(layout); begin = at) {
		struct finding one = look_at_tensor(parts, &at, layout, clip);
		for (uint32_t i = begin > first ? begin : first; i < at && i < end; i++)
			*next_number(&own) = (double)one.factor;
		/* One that is not a number, or not finite, is the one to be told of. */
		if (!isfinite(worst.norm))
			continue;
		worst.norm = one.norm <= worst.norm ? worst.norm : one.norm;
		worst.factor = one.factor < worst.factor ? one.factor : worst.factor;
	}
	return worst;
}

static void apply(struct engine *engine, struct shard *shard, struct lane_message *decision)
{
	struct layout_run owned = shard->model->owned;

	shard->lead->message = decision;
	gate_decided(shard->gate, decision);
	shard->counts.last_norm = decision->norm;
	shard->counts.last_factor = decision->factor;
	shard->counts.clipped += decision->clipped;
	shard->counts.overflowed += decision->skip;
	for (uint32_t i = 0; i < owned.count; i++)
		shard_run(engine, shard, owned.first + i);
}

static void decide(struct engine *engine, struct shard *shard, struct outbox *out)
{
	struct lead *lead = shard->lead;
	const struct msg_clip *clip = &shard->model->settings.clip;
	const double *parts = norms_parts(lead->norms, lead->norms->step);
	struct finding found = clip->norm > 0
	                               ? look_at_all(parts, layout_segment_count(shard->model->layout), clip)
	                               : look_at_each(lead, parts, clip);
	struct lane_message *own = NULL;

	for (uint32_t i = 0; i < lead->sharers; i++) {
		struct lane_message *message = lead->came[i];
		lead->came[i] = NULL;
		message->kind = LANE_DECISION;
		message->skip = !isfinite(found.norm);
		message->clipped = !message->skip && found.factor < 1;
		message->norm = found.norm;
		message->factor = message->skip ? 0 : found.factor;
		message->to = message->from;
		if (message->to == shard->model->place.lane)
			own = message;
		else
			outbox_tell(out, message);
	}
	lead->came_count = 0;
	norms_next(lead->norms);
	assert(own != NULL);
	apply(engine, shard, own);
}

/* ---- messages ----------------------------------------------------------- */

void lead_go_on(struct engine *engine, struct shard *shard, struct outbox *out)
{
	if (norms_complete(shard->lead->norms))
		decide(engine, shard, out);
}

/* All lanes of the daemon have collected the step. */
static void collect(struct lead *lead)
{
	double *parts = norms_parts(lead->norms, lead->norms->step) +
	                layout_block(lead->norms->layout, lead->norms->own.first)->first_segment;

	for (uint32_t i = 0; i < lead->sharers; i++) {
		memcpy(parts, lead->came[i]->numbers, lead->came[i]->count * sizeof(double));
		parts += lead->came[i]->count;
	}
	lead->norms->collected = true;
}

/* Takes the message.  A lane that comes twice made its shard anew. */
static void take_parts(struct engine *engine, struct shard *shard, struct lane_message *parts,
                       struct outbox *out)
{
	struct lead *lead = shard->lead;
	struct lane_message **place = &lead->came[parts->from];

	lead->came_count += *place == NULL;
	free(*place);
	*place = parts;
	if (lead->came_count < lead->sharers)
		return;
	collect(lead);
	lead_go_on(engine, shard, out);
}

void lead_collect(struct engine *engine, struct shard *shard, struct outbox *out)
{
	struct lane_message *message = shard->lead != NULL ? shard->lead->message : NULL;

	if (message == NULL || !gate_collected(shard->gate))
		return;
	shard->lead->message = NULL;
	message->kind = LANE_PARTS;
	message->to = 0;
	message->run_id = shard->model->run_id;
	message->handle = shard->handle;
	message->step = gate_step(shard->gate);
	memcpy(message->numbers, gate_step_parts(shard->gate), message->count * sizeof(double));
	if (message->from == 0)
		take_parts(engine, shard, message, out);
	else
		outbox_tell(out, message);
}

static bool is_wanted(const struct shard *shard, const struct lane_message *message)
{
	const struct model *model = shard->model;

	if (shard->lead == NULL || model->run_id != message->run_id ||
	    gate_step(shard->gate) != message->step || message->to != model->place.lane)
		return false;
	if (message->kind == LANE_DECISION)
		return shard->handle == message->handle && shard->lead->message == NULL;
	return message->from < shard->lead->sharers &&
	       message->count ==
	               layout_run_segments(model->layout, run_of(model->layout, model->place, message->from));
}

void lead_hear(struct engine *engine, struct lane_message *message, struct outbox *out)
{
	struct shard *shard = engine_find(engine, message->model);

	if (shard == NULL || !is_wanted(shard, message))
		free(message);
	else if (message->kind == LANE_PARTS)
		take_parts(engine, shard, message, out);
	else
		apply(engine, shard, message);
}
