/* Parameter groups of OPEN and OPENED: between protobuf's structs and ours. */
#include "proto/wire_body.h"

/* ---- reading ------------------------------------------------------------ */

static void *take(struct wire_arena *arena, size_t count, size_t size)
{
	return arena->allocator.alloc(arena->allocator.allocator_data, count * size);
}

/* Room for what a group has, which is bounded before it is asked for. */
static int lists_read(const Optd__V1__Group *in, struct wire_arena *arena, struct msg_group *out,
                      const struct refusal *why)
{
	size_t hypers = in->n_hypers < LIMIT_HYPERS ? in->n_hypers : LIMIT_HYPERS;
	size_t parts = in->n_schedule < LIMIT_SCHEDULE_PARTS ? in->n_schedule : LIMIT_SCHEDULE_PARTS;
	struct msg_hyper *hyper = take(arena, hypers, sizeof(*hyper));
	struct msg_schedule_part *part = take(arena, parts, sizeof(*part));

	if (!hyper || !part)
		return refuse(why, OPTD_MALFORMED, "groups with more settings than a message may have");
	out->hypers = hyper;
	out->schedule = part;
	int rc = wire_hypers_read(in->hypers, in->n_hypers, hyper, &out->hyper_count, why);
	return rc < 0 ? rc : wire_schedule_read(in->schedule, in->n_schedule, part, &out->schedule_count, why);
}

static int group_read(const Optd__V1__Group *in, struct wire_arena *arena, struct msg_group *out,
                      const struct refusal *why)
{
	*out = (struct msg_group){.tensors = wire_text(in->tensors),
	                          .frozen = in->frozen != 0,
	                          .lr_factor = in->lr_factor,
	                          .optimizer = wire_text(in->optimizer),
	                          .match = wire_text(in->match),
	                          .whole = in->whole != 0};
	return lists_read(in, arena, out, why);
}

int wire_groups_read(Optd__V1__Group *const *in, size_t count, struct wire_arena *arena,
                     const struct msg_group **out, uint32_t *out_count, const struct refusal *why)
{
	struct msg_group *groups;
	int rc = 0;

	if (count == 0)
		return 0;
	if (count > LIMIT_GROUPS)
		return refuse(why, OPTD_MALFORMED, "%zu groups, at most %u are allowed", count, LIMIT_GROUPS);
	groups = take(arena, count, sizeof(*groups));
	if (!groups)
		return refuse(why, OPTD_MALFORMED, "groups with more settings than a message may have");
	for (size_t i = 0; i < count && rc == 0; i++)
		rc = group_read(in[i], arena, &groups[i], why);
	if (rc < 0)
		return rc;
	*out = groups;
	*out_count = (uint32_t)count;
	return 0;
}

/* ---- writing ------------------------------------------------------------ */

static bool has_groups(const struct msg *msg)
{
	return msg->verb == MSG_OPEN && wire_has_body(msg);
}

uint32_t wire_groups_count(const struct msg *msg)
{
	if (!has_groups(msg))
		return 0;
	return msg->reply ? msg->rule.group_count : msg->open.group_count;
}

static void group_write(const struct msg_group *in, struct wire_rule *rule, Optd__V1__Group *out)
{
	optd__v1__group__init(out);
	out->tensors = wire_clip(in->tensors, LIMIT_PATTERN_BYTES - 1);
	out->frozen = in->frozen;
	out->lr_factor = in->lr_factor;
	out->whole = in->whole;
	out->optimizer = wire_clip(in->optimizer, LIMIT_NAME_BYTES);
	out->match = wire_clip(in->match, LIMIT_NAME_BYTES);
	out->hypers = rule->hyper_pointers;
	out->n_hypers = in->hyper_count;
	wire_hypers_write(in->hypers, in->hyper_count, rule);
	out->schedule = rule->schedule_pointers;
	out->n_schedule = in->schedule_count;
	wire_schedule_write(in->schedule, in->schedule_count, rule);
}

void wire_groups_write(const struct msg *msg, struct wire_groups *room, Optd__V1__Header *header)
{
	const struct msg_group *groups = msg->reply ? msg->rule.groups : msg->open.groups;
	uint32_t count = wire_groups_count(msg);

	for (uint32_t i = 0; i < count; i++) {
		group_write(&groups[i], &room->rules[i], &room->groups[i]);
		room->pointers[i] = &room->groups[i];
	}
	if (msg->reply) {
		header->opened->groups = room->pointers;
		header->opened->n_groups = count;
	} else {
		header->open->groups = room->pointers;
		header->open->n_groups = count;
	}
}
