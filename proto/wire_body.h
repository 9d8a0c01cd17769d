/* The body of a header, between protobuf's structs and struct msg. */
#ifndef OPTD_PROTO_WIRE_BODY_H
#define OPTD_PROTO_WIRE_BODY_H

#include "proto/optd.pb-c.h"
#include "proto/wire_internal.h"

/* protobuf-c packs structs that point to one another: they stay here until
 * the header is packed. */
struct wire_rule {
	Optd__V1__Hyper hypers[LIMIT_HYPERS];
	Optd__V1__Hyper *hyper_pointers[LIMIT_HYPERS];
	Optd__V1__SchedulePart schedule[LIMIT_SCHEDULE_PARTS];
	Optd__V1__SchedulePart *schedule_pointers[LIMIT_SCHEDULE_PARTS];
	Optd__V1__Hyper params[LIMIT_SCHEDULE_PARTS * LIMIT_SCHEDULE_PARAMS];
	Optd__V1__Hyper *param_pointers[LIMIT_SCHEDULE_PARTS * LIMIT_SCHEDULE_PARAMS];
};

/* Apart from the rest: few messages have groups, and all would touch the memory. */
struct wire_groups {
	Optd__V1__Group groups[LIMIT_GROUPS];
	Optd__V1__Group *pointers[LIMIT_GROUPS];
	struct wire_rule rules[LIMIT_GROUPS];
};

struct wire_average {
	Optd__V1__Average average;
	Optd__V1__Hyper hypers[LIMIT_AVERAGE_HYPERS];
	Optd__V1__Hyper *pointers[LIMIT_AVERAGE_HYPERS];
};

struct wire_body {
	union {
		Optd__V1__Hello hello;
		Optd__V1__Welcome welcome;
		Optd__V1__Open open;
		Optd__V1__Opened opened;
		Optd__V1__Named named;
		Optd__V1__LaneStatus lane_status;
		Optd__V1__Set set;
	};
	Optd__V1__LossScale loss_scale;
	union {
		ProtobufCBinaryData endpoints[LIMIT_LANES];
		struct wire_rule rule;
	};
	struct wire_average average;
};

/* Copies the body that belongs to out's verb; refuses one that is missing or
 * has more in it than struct msg can hold.  Groups are in the arena. */
int wire_body_read(const Optd__V1__Header *header, struct wire_arena *arena, struct msg *out,
                   const struct refusal *why);

/* Links the body of msg, laid out in `body`, into header; without its groups. */
void wire_body_write(const struct msg *msg, struct wire_body *body, Optd__V1__Header *header);

/* Adds the groups that msg has, laid out in `room`. */
void wire_groups_write(const struct msg *msg, struct wire_groups *room, Optd__V1__Header *header);
/* How many those are. */
uint32_t wire_groups_count(const struct msg *msg);

/* SET: only requests have it. */
int wire_set_read(const Optd__V1__Set *in, struct msg_set *out, const struct refusal *why);
void wire_set_write(const struct msg_set *in, struct wire_body *body);

/* What OPEN and OPENED say of clipping (wire_norms.c). */
struct msg_clip wire_norms_of_open(const Optd__V1__Open *in);
struct msg_clip wire_norms_of_opened(const Optd__V1__Opened *in);
void wire_norms_to_open(const struct msg_clip *in, Optd__V1__Open *out);
void wire_norms_to_opened(const struct msg_clip *in, Optd__V1__Opened *out);
/* ---- wire_finite.c: verdicts and loss scales ---- */

void wire_finite_read(const Optd__V1__Header *in, struct msg *out);
void wire_finite_write(const struct msg *in, Optd__V1__Header *out);
/* A word of a later version is OPTD_UNSUPPORTED, with those there are. */
int wire_nonfinite_read(ProtobufCBinaryData in, enum msg_nonfinite *out, const struct refusal *why);
ProtobufCBinaryData wire_nonfinite_write(enum msg_nonfinite policy);
void wire_loss_scale_read(const Optd__V1__LossScale *in, struct msg_loss_scale *out);
/* Laid out in room, or NULL where none is given. */
Optd__V1__LossScale *wire_loss_scale_write(const struct msg_loss_scale *in, Optd__V1__LossScale *room);

/* ---- wire_average.c ---- */

int wire_average_read(const Optd__V1__Average *in, struct msg_average *out, const struct refusal *why);
/* Its message, laid out in `room`; NULL for none. */
Optd__V1__Average *wire_average_write(const struct msg_average *in, struct wire_average *room);

/* ---- shared by wire_body.c, wire_group.c and wire_set.c ---- */

int wire_hypers_read(Optd__V1__Hyper *const *in, size_t count, struct msg_hyper *out,
                     uint32_t *out_count, const struct refusal *why);
int wire_schedule_read(Optd__V1__SchedulePart *const *in, size_t count, struct msg_schedule_part *out,
                       uint32_t *out_count, const struct refusal *why);
int wire_groups_read(Optd__V1__Group *const *in, size_t count, struct wire_arena *arena,
                     const struct msg_group **out, uint32_t *out_count, const struct refusal *why);
void wire_hypers_write(const struct msg_hyper *in, uint32_t count, struct wire_rule *rule);
void wire_schedule_write(const struct msg_schedule_part *in, uint32_t count, struct wire_rule *rule);

#endif
