/* Runs of blocks are cut into messages once; then it is counting. */
#include "client/relay.h"

#include <stdlib.h>
#include <string.h>

static struct layout_run blocks_of(const struct layout *layout, uint32_t daemon, uint32_t daemons)
{
	return layout_owned(layout, daemon, daemons, 0, 1);
}

/* Appends the messages about a run, or counts them where there is no room yet. */
static void cut(struct relay *relay, const struct layout *layout, struct layout_run run, uint32_t daemon, bool tells)
{
	uint32_t end = run.first + run.count;
	for (uint32_t first = run.first, next; first < end; first = next) {
		uint32_t begin = layout_block(layout, first)->first_segment, segments = 0;
		for (next = first; next < end; next++) {
			const struct layout_block *block = layout_block(layout, next);
			uint32_t with = block->first_segment + block->segment_count - begin;
			if (with > LIMIT_NORM_SEGMENTS)
				break;
			segments = with;
		}
		if (relay->messages)
			relay->messages[relay->message_count] =
				(struct relay_message){daemon, tells, {.first = first, .count = next - first}, begin, segments};
		relay->message_count++;
	}
}

static void cut_all(struct relay *relay, const struct layout *layout, uint32_t daemons)
{
	uint32_t blocks = layout_block_count(layout);
	relay->message_count = 0;
	for (uint32_t i = 0; i < daemons; i++)
		cut(relay, layout, blocks_of(layout, i, daemons), i, false);
	relay->ask_count = relay->message_count;
	for (uint32_t i = 0; i < daemons; i++) {
		struct layout_run own = blocks_of(layout, i, daemons);
		uint32_t end = own.first + own.count;
		if (own.count == 0)
			continue;
		cut(relay, layout, (struct layout_run){0, own.first}, i, true);
		cut(relay, layout, (struct layout_run){end, blocks - end}, i, true);
	}
}

int relay_new(const struct layout *layout, uint32_t daemons, struct relay **out)
{
	*out = NULL;
	if (blocks_of(layout, 0, daemons).count == layout_block_count(layout))
		return 0;
	struct relay *relay = calloc(1, sizeof(*relay));
	if (!relay)
		return OPTD_NO_MEMORY;
	cut_all(relay, layout, daemons);
	relay->messages = calloc(relay->message_count, sizeof(*relay->messages));
	relay->numbers = calloc(layout_segment_count(layout), sizeof(*relay->numbers));
	if (!relay->messages || !relay->numbers) {
		relay_free(relay);
		return OPTD_NO_MEMORY;
	}
	cut_all(relay, layout, daemons);
	*out = relay;
	return 0;
}

void relay_free(struct relay *relay)
{
	if (!relay)
		return;
	free(relay->messages);
	free(relay->numbers);
	free(relay);
}

void relay_forget(struct relay *relay)
{
	if (relay)
		relay->step_plus_one = 0;
}

void relay_begin(struct relay *relay, uint64_t step)
{
	if (relay->step_plus_one == step + 1 && relay->asks_left == 0)
		return;
	relay->step_plus_one = step + 1;
	relay->asks_left = relay->ask_count;
	relay->guessed = false;
}

static bool continues(const struct relay *relay, uint32_t index)
{
	return index > 0 && index < relay->ask_count &&
	       relay->messages[index].daemon == relay->messages[index - 1].daemon;
}

bool relay_begins_with(const struct relay *relay, uint32_t index)
{
	bool tells = relay->messages[index].tells;
	return relay->asks_left == 0 ? tells : !tells && !continues(relay, index);
}

struct relay_due relay_take(struct relay *relay, uint32_t index, const void *payload, bool guessed)
{
	const struct relay_message *m = &relay->messages[index];
	memcpy(relay->numbers + m->first_segment, payload, relay_bytes(m));
	relay->guessed |= guessed;
	if (--relay->asks_left == 0)
		return (struct relay_due){relay->ask_count, relay->message_count - relay->ask_count};
	return (struct relay_due){index + 1, continues(relay, index + 1)};
}

bool relay_tells(const struct relay *relay, uint32_t index, uint32_t daemon)
{
	const struct relay_message *m = &relay->messages[index];
	return relay->asks_left == 0 && m->tells && m->daemon == daemon;
}
