/* SET, and the changes that a STATUS tells: between protobuf's structs and ours. */
#include "proto/wire_body.h"
#include "proto/wire_set.h"

/* ---- SET ---------------------------------------------------------------- */

int wire_set_read(const Optd__V1__Set *in, struct msg_set *out, const struct refusal *why)
{
	out->model = wire_text(in->model);
	out->tensors = wire_text(in->tensors);
	out->id = in->id;
	out->act = (enum msg_act)in->act;
	out->has_from = in->has_from != 0;
	out->from = in->from;
	return wire_hypers_read(in->hypers, in->n_hypers, out->hypers, &out->hyper_count, why);
}

void wire_set_write(const struct msg_set *in, struct wire_body *body)
{
	Optd__V1__Set *out = &body->set;

	optd__v1__set__init(out);
	out->model = wire_clip(in->model, LIMIT_NAME_BYTES);
	out->tensors = wire_clip(in->tensors, LIMIT_PATTERN_BYTES - 1);
	out->id = in->id;
	out->act = (Optd__V1__Act)in->act;
	out->has_from = in->has_from;
	out->from = in->from;
	out->hypers = body->rule.hyper_pointers;
	out->n_hypers = in->hyper_count;
	wire_hypers_write(in->hypers, in->hyper_count, &body->rule);
}

/* Which of the two the change needs, and whether a PROMISE must name its version. */
static int check_act(const struct msg_set *set, const struct refusal *why)
{
	bool whole = set->act == MSG_SET_NOW || set->act == MSG_SET_PREPARE;

	if (whole && set->hyper_count == 0)
		return refuse(why, OPTD_MALFORMED, "SET without a hyper-parameter");
	if (set->act == MSG_SET_PROMISE && !set->has_from)
		return refuse(why, OPTD_MALFORMED, "SET promises a change without a version");
	return 0;
}

int wire_check_set(const struct msg_set *set, const struct refusal *why)
{
	int rc = wire_check_known(set->act, MSG_SET_WITHDRAW, "act", why);
	if (rc == 0)
		rc = wire_check_text(set->model, LIMIT_NAME_BYTES, "the model's name", why);
	if (rc == 0 && set->model.size == 0)
		rc = refuse(why, OPTD_MALFORMED, "SET without the name of a model");
	if (rc == 0)
		rc = wire_check_text(set->tensors, LIMIT_PATTERN_BYTES - 1, "a group's pattern", why);
	if (rc == 0)
		rc = wire_check_counter(set->from, "from", why);
	if (rc == 0)
		rc = wire_check_hypers(set->hypers, set->hyper_count, why);
	return rc == 0 ? check_act(set, why) : rc;
}

/* ---- changes of a STATUS -------------------------------------------------- */

static void change_write(const struct wire_change *in, struct wire_changes *room, uint32_t index)
{
	Optd__V1__Change *out = &room->changes[index];

	optd__v1__change__init(out);
	out->from = in->from;
	out->tensors = wire_clip(in->tensors, LIMIT_PATTERN_BYTES - 1);
	out->hypers = &room->hyper_pointers[room->hyper_count];
	out->n_hypers = in->hyper_count;
	for (uint32_t i = 0; i < in->hyper_count; i++, room->hyper_count++) {
		Optd__V1__Hyper *hyper = &room->hypers[room->hyper_count];
		optd__v1__hyper__init(hyper);
		hyper->name = wire_clip(in->hypers[i].name, LIMIT_NAME_BYTES);
		hyper->values = (double *)in->hypers[i].values;
		hyper->n_values = in->hypers[i].count;
		room->hyper_pointers[room->hyper_count] = hyper;
	}
	room->pointers[index] = out;
}

void wire_changes_write(const struct wire_model_status *status, struct wire_changes *room,
                        Optd__V1__ModelStatus *record)
{
	uint32_t left_out = 0;

	room->hyper_count = 0;
	for (uint32_t i = 0; i < status->change_count; i++)
		change_write(&status->changes[i], room, i);
	do {
		record->changes = room->pointers + left_out;
		record->n_changes = status->change_count - left_out;
		if (record->n_changes > 0)
			room->changes[left_out].earlier = left_out;
		left_out++;
	} while (record->n_changes > 0 &&
	         protobuf_c_message_get_packed_size(&record->base) > LIMIT_HEADER_BYTES);
}

static void *take(struct wire_arena *arena, size_t count, size_t size)
{
	return arena->allocator.alloc(arena->allocator.allocator_data, count * size);
}

static int change_read(const Optd__V1__Change *in, struct wire_arena *arena, struct wire_change *out)
{
	const struct refusal nowhere = {NULL, 0};
	size_t hypers = in->n_hypers < LIMIT_HYPERS ? in->n_hypers : LIMIT_HYPERS;
	struct msg_hyper *hyper = take(arena, hypers, sizeof(*hyper));

	if (!hyper)
		return OPTD_MALFORMED;
	*out = (struct wire_change){
	        .from = in->from, .tensors = wire_text(in->tensors), .hypers = hyper, .earlier = in->earlier};
	int rc = wire_hypers_read(in->hypers, in->n_hypers, hyper, &out->hyper_count, &nowhere);
	if (rc == 0)
		rc = wire_check_counter(in->from, "", &nowhere);
	if (rc == 0)
		rc = wire_check_text(out->tensors, LIMIT_PATTERN_BYTES - 1, "", &nowhere);
	return rc == 0 ? wire_check_hypers(hyper, out->hyper_count, &nowhere) : rc;
}

int wire_changes_read(const Optd__V1__ModelStatus *record, struct wire_arena *arena,
                      struct wire_model_status *out)
{
	struct wire_change *changes;
	int rc = 0;

	if (record->n_changes == 0)
		return 0;
	if (record->n_changes > LIMIT_CHANGES)
		return OPTD_MALFORMED;
	changes = take(arena, record->n_changes, sizeof(*changes));
	if (!changes)
		return OPTD_MALFORMED;
	for (size_t i = 0; rc == 0 && i < record->n_changes; i++)
		rc = change_read(record->changes[i], arena, &changes[i]);
	out->changes = changes;
	out->change_count = (uint32_t)record->n_changes;
	return rc;
}
