/* Averages of OPEN and OPENED: between protobuf's structs and ours. */
#include "proto/wire_body.h"

int wire_average_read(const Optd__V1__Average *in, struct msg_average *out, const struct refusal *why)
{
	if (!in)
		return 0;
	if (in->n_hypers > LIMIT_AVERAGE_HYPERS)
		return refuse(why, OPTD_MALFORMED, "an average with %zu settings, at most %u are allowed", in->n_hypers,
		              LIMIT_AVERAGE_HYPERS);
	out->kind = wire_text(in->kind);
	return wire_hypers_read(in->hypers, in->n_hypers, out->hypers, &out->hyper_count, why);
}

Optd__V1__Average *wire_average_write(const struct msg_average *in, struct wire_average *room)
{
	Optd__V1__Average *out = &room->average;

	if (in->kind.size == 0)
		return NULL;
	optd__v1__average__init(out);
	out->kind = wire_clip(in->kind, LIMIT_NAME_BYTES);
	out->hypers = room->pointers;
	out->n_hypers = in->hyper_count;
	for (uint32_t i = 0; i < in->hyper_count; i++) {
		Optd__V1__Hyper *hyper = &room->hypers[i];
		optd__v1__hyper__init(hyper);
		hyper->name = wire_clip(in->hypers[i].name, LIMIT_NAME_BYTES);
		hyper->values = (double *)in->hypers[i].values;
		hyper->n_values = in->hypers[i].count;
		room->pointers[i] = hyper;
	}
	return out;
}
