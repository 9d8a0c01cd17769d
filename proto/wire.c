/*
 * Wire: headers to struct msg and back.
 *
 * Decoding has three steps: protobuf-c unpacks into the arena, header_read
 * copies into a struct msg (refusing only what has no room there), wire_check
 * judges the struct.  Encoding is header_write and protobuf-c's pack.
 */
#include "proto/wire_body.h"

#include <assert.h>
#include <string.h>

#include "proto/utf8.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "payloads are little-endian and are used as they are");

/* The numbers of msg.h are those of the schema. */
#define SAME(schema, ours) _Static_assert((int)OPTD__V1__##schema == (int)(ours), #ours)
SAME(VERB__VERB_HELLO, MSG_HELLO);
SAME(VERB__VERB_OPEN, MSG_OPEN);
SAME(VERB__VERB_INIT, MSG_INIT);
SAME(VERB__VERB_PUSH, MSG_PUSH);
SAME(VERB__VERB_PULL, MSG_PULL);
SAME(VERB__VERB_PUSH_PULL, MSG_PUSH_PULL);
SAME(VERB__VERB_CLOSE_STEP, MSG_CLOSE_STEP);
SAME(VERB__VERB_STATUS, MSG_STATUS);
SAME(VERB__VERB_SAVE, MSG_SAVE);
SAME(VERB__VERB_DROP, MSG_DROP);
SAME(VERB__VERB_GOODBYE, MSG_GOODBYE);
SAME(VERB__VERB_SET, MSG_SET);
SAME(VERB__VERB_NORM, MSG_NORM);
SAME(ACT__ACT_PREPARE, MSG_SET_PREPARE);
SAME(ACT__ACT_PROMISE, MSG_SET_PROMISE);
SAME(ACT__ACT_MAKE, MSG_SET_MAKE);
SAME(ACT__ACT_WITHDRAW, MSG_SET_WITHDRAW);
SAME(KIND__KIND_MODEL, MSG_MODEL);
SAME(PLACE__PLACE_INLINE, MSG_INLINE);
SAME(DTYPE__DTYPE_F32, DTYPE_F32);
SAME(MODE__MODE_SYNC, MSG_SYNC);
SAME(MODE__MODE_ASYNC, MSG_ASYNC);
SAME(REDUCE__REDUCE_MEAN, MSG_MEAN);
SAME(REDUCE__REDUCE_SUM, MSG_SUM);
SAME(VERDICT__VERDICT_POISONED, MSG_POISONED);
SAME(SOURCE__SOURCE_WEIGHTS, MSG_WEIGHTS);
SAME(SOURCE__SOURCE_AVERAGE, MSG_AVERAGE);
SAME(RESUME__RESUME_NEVER, MSG_RESUME_NEVER);
SAME(RESUME__RESUME_MUST, MSG_RESUME_MUST);
SAME(MODEL_STATE__STATE_READY, MSG_MODEL_READY);
SAME(MODEL_STATE__STATE_GRANTED, MSG_MODEL_GRANTED);
SAME(MODEL_STATE__STATE_WAITING, MSG_MODEL_WAITING);

/* ---- decoding ----------------------------------------------------------- */

static int parts_read(const Optd__V1__Header *in, struct msg *out, const struct refusal *why)
{
	if (in->n_parts > LIMIT_PARTS)
		return refuse(why, OPTD_MALFORMED, "%zu parts, at most %u are allowed", in->n_parts,
		              LIMIT_PARTS);
	out->part_count = (uint32_t)in->n_parts;
	for (size_t i = 0; i < in->n_parts; i++) {
		const Optd__V1__Part *part = in->parts[i];
		out->parts[i] = (struct msg_part){
		        .first = part->first,
		        .count = part->count,
		        .mask = part->mask.len ? part->mask.data : NULL,
		        .mask_bytes = (uint32_t)part->mask.len,
		};
	}
	return 0;
}

/* The wire has rank + 1, so that a field that is absent means none.  What is
 * too large stays too large. */
static int32_t rank_read(uint32_t rank_plus_one)
{
	return rank_plus_one > LIMIT_WORKERS ? (int32_t)LIMIT_WORKERS : (int32_t)rank_plus_one - 1;
}

static void scalars_read(const Optd__V1__Header *in, struct msg *out)
{
	out->verb = (enum msg_verb)in->verb;
	out->reply = in->reply != 0;
	out->status = in->status;
	out->request = in->request;
	out->session = in->session;
	out->epoch = in->epoch;
	out->kind = (enum msg_kind)in->kind;
	out->object = in->object;
	out->layout = in->layout;
	out->rank = rank_read(in->rank_plus_one);
	out->incarnation = in->incarnation;
	out->step = in->step;
	out->base_version = in->base_version;
	out->min_version = in->min_version;
	out->source = (enum msg_source)in->source;
	out->version = in->version;
	out->version_max = in->version_max;
	out->token = in->token;
	out->weight = in->weight;
	out->dtype = (enum dtype)in->dtype;
	out->place = (enum msg_place)in->place;
	out->checksum = in->checksum;
	out->payload_bytes = in->payload_bytes;
	out->text = wire_text(in->text);
	wire_finite_read(in, out);
	out->guessed = in->guessed != 0;
}

static int checksum_check(const struct msg *msg, const struct refusal *why)
{
	if (wire_checksum(msg->payload, msg->payload_bytes) == msg->checksum)
		return 0;
	return refuse(why, OPTD_CHECKSUM, "the payload of %s does not match its checksum",
	              msg_verb_name(msg->verb));
}

/* Leaves of a refused message what an answer is addressed with. */
static void keep_address(struct msg *msg)
{
	enum msg_verb verb = msg->verb;
	bool reply = msg->reply;
	uint64_t request = msg->request, session = msg->session;

	memset(msg, 0, sizeof(*msg));
	msg->verb = verb;
	msg->reply = reply;
	msg->request = request;
	msg->session = session;
	msg->rank = MSG_NO_RANK;
}

int wire_decode(struct wire_arena *arena, const void *header, size_t header_bytes,
                const void *payload, size_t payload_bytes, bool check,
                struct msg *out, char *why, size_t why_bytes)
{
	const struct refusal refusal = {why, why_bytes};
	Optd__V1__Header *unpacked = NULL;

	memset(out, 0, sizeof(*out));
	arena->used = arena->mark = 0;
	if (header_bytes > LIMIT_HEADER_BYTES)
		return refuse(&refusal, OPTD_MALFORMED, "a header of %zu bytes, at most %u are allowed",
		              header_bytes, LIMIT_HEADER_BYTES);
	unpacked = optd__v1__header__unpack(&arena->allocator, header_bytes, header);
	if (!unpacked)
		return refuse(&refusal, OPTD_MALFORMED, "the header of %zu bytes cannot be unpacked",
		              header_bytes);

	scalars_read(unpacked, out);
	out->payload = payload_bytes ? payload : NULL;
	int rc = parts_read(unpacked, out, &refusal);
	if (rc == 0)
		rc = wire_body_read(unpacked, arena, out, &refusal);
	arena->mark = arena->used;
	if (rc == 0)
		rc = wire_check(out, payload_bytes, &refusal);
	if (rc == 0 && check)
		rc = checksum_check(out, &refusal);
	if (rc < 0)
		keep_address(out);
	return rc;
}

/* ---- encoding ----------------------------------------------------------- */

ProtobufCBinaryData wire_clip(struct msg_text text, uint32_t limit)
{
	size_t size = text.size < limit ? text.size : limit;

	return (ProtobufCBinaryData){utf8_prefix(text.bytes, size), (uint8_t *)text.bytes};
}

static void scalars_write(const struct msg *msg, Optd__V1__Header *out)
{
	out->verb = (Optd__V1__Verb)msg->verb;
	out->reply = msg->reply;
	out->status = msg->status;
	out->request = msg->request;
	out->session = msg->session;
	out->epoch = msg->epoch;
	out->kind = (Optd__V1__Kind)msg->kind;
	out->object = msg->object;
	out->layout = msg->layout;
	out->rank_plus_one = (uint32_t)(msg->rank + 1);
	out->incarnation = msg->incarnation;
	out->step = msg->step;
	out->base_version = msg->base_version;
	out->min_version = msg->min_version;
	out->source = (Optd__V1__Source)msg->source;
	out->version = msg->version;
	out->version_max = msg->version_max;
	out->token = msg->token;
	out->weight = msg->weight;
	out->dtype = (Optd__V1__Dtype)msg->dtype;
	out->place = (Optd__V1__Place)msg->place;
	out->checksum = msg->checksum;
	out->payload_bytes = msg->payload_bytes;
	out->text = wire_clip(msg->text, LIMIT_TEXT_BYTES);
	wire_finite_write(msg, out);
	out->guessed = msg->guessed;
}

/* Everything that one header points to while it is packed. */
struct encoder {
	Optd__V1__Header header;
	Optd__V1__Part parts[LIMIT_PARTS];
	Optd__V1__Part *part_pointers[LIMIT_PARTS];
	struct wire_body body;
};

static void parts_write(const struct msg *msg, struct encoder *encoder)
{
	encoder->header.parts = encoder->part_pointers;
	encoder->header.n_parts = msg->part_count;
	for (uint32_t i = 0; i < msg->part_count; i++) {
		Optd__V1__Part *part = &encoder->parts[i];
		optd__v1__part__init(part);
		part->first = msg->parts[i].first;
		part->count = msg->parts[i].count;
		if (msg->parts[i].mask)
			part->mask = (ProtobufCBinaryData){msg->parts[i].mask_bytes,
			                                   (uint8_t *)msg->parts[i].mask};
		encoder->part_pointers[i] = part;
	}
}

static int pack(const Optd__V1__Header *header, void *buffer, size_t buffer_bytes)
{
	size_t size = optd__v1__header__get_packed_size(header);

	if (size > LIMIT_HEADER_BYTES || size > buffer_bytes)
		return OPTD_TOO_LARGE;
	return (int)optd__v1__header__pack(header, buffer);
}

/* In a frame of its own, of 40 KiB. */
__attribute__((noinline))
static int pack_groups(const struct msg *msg, Optd__V1__Header *header, void *buffer, size_t buffer_bytes)
{
	struct wire_groups groups;

	wire_groups_write(msg, &groups, header);
	return pack(header, buffer, buffer_bytes);
}

int wire_encode(const struct msg *msg, void *buffer, size_t buffer_bytes)
{
	struct encoder encoder;

	assert(msg->part_count <= LIMIT_PARTS);
	optd__v1__header__init(&encoder.header);
	scalars_write(msg, &encoder.header);
	parts_write(msg, &encoder);
	wire_body_write(msg, &encoder.body, &encoder.header);
	if (wire_groups_count(msg) > 0)
		return pack_groups(msg, &encoder.header, buffer, buffer_bytes);
	return pack(&encoder.header, buffer, buffer_bytes);
}
