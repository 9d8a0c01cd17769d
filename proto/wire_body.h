/* The body of a header, between protobuf's structs and struct msg. */
#ifndef OPTD_PROTO_WIRE_BODY_H
#define OPTD_PROTO_WIRE_BODY_H

#include "proto/optd.pb-c.h"
#include "proto/wire_internal.h"

/* protobuf-c packs structs that point to one another: they stay here until
 * the header is packed. */
struct wire_body {
	union {
		Optd__V1__Hello hello;
		Optd__V1__Welcome welcome;
		Optd__V1__Open open;
		Optd__V1__Opened opened;
		Optd__V1__Named named;
		Optd__V1__LaneStatus lane_status;
	};
	union {
		ProtobufCBinaryData endpoints[LIMIT_LANES];
		struct {
			Optd__V1__Hyper hypers[LIMIT_HYPERS];
			Optd__V1__Hyper *hyper_pointers[LIMIT_HYPERS];
			Optd__V1__SchedulePart schedule[LIMIT_SCHEDULE_PARTS];
			Optd__V1__SchedulePart *schedule_pointers[LIMIT_SCHEDULE_PARTS];
			Optd__V1__Hyper params[LIMIT_SCHEDULE_PARTS * LIMIT_SCHEDULE_PARAMS];
			Optd__V1__Hyper *param_pointers[LIMIT_SCHEDULE_PARTS * LIMIT_SCHEDULE_PARAMS];
		};
	};
};

/* Copies the body that belongs to out's verb; refuses one that is missing or
 * has more in it than struct msg can hold. */
int wire_body_read(const Optd__V1__Header *header, struct msg *out, const struct refusal *why);

/* Links the body of msg, laid out in `body`, into header. */
void wire_body_write(const struct msg *msg, struct wire_body *body, Optd__V1__Header *header);

#endif
