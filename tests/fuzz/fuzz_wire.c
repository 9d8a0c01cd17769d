/*
 * Fuzzing the wire: a header and a payload from the network.
 *
 * Input: two bytes (little-endian; low 13 bits: the header's length, bit 15:
 * verify the checksum), the header, the payload.  Seeds: corpus/wire, written
 * by WIRE_CORPUS=tests/fuzz/corpus/wire build/release/tests/proto/test_wire.
 *
 * What is accepted must keep the promises of msg.h and come through encoding
 * and decoding again unchanged.
 */
#include <stdlib.h>
#include <string.h>

#include "proto/layout.h"
#include "proto/utf8.h"
#include "proto/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool true_one)
{
	if (!true_one)
		abort();
}

/* A copy of its own, so that the sanitizer sees one byte too far. */
static uint8_t *copy_of(const uint8_t *bytes, size_t size)
{
	uint8_t *copy = malloc(size ? size : 1);

	must(copy != NULL);
	if (size)
		memcpy(copy, bytes, size);
	return copy;
}

static void check_promises(const struct msg *msg)
{
	uint64_t end = 0;

	must(msg->verb > 0 && msg->verb < MSG_VERB_COUNT);
	must(msg->rank >= MSG_NO_RANK && msg->rank < (int32_t)LIMIT_WORKERS);
	must(msg->part_count <= LIMIT_PARTS);
	must(msg->dtype == DTYPE_F32 ||
	     (dtype_bytes(msg->dtype) > 0 && !msg->reply && (msg->verb == MSG_PUSH || msg->verb == MSG_PUSH_PULL)));
	must(msg->verdict <= MSG_POISONED && msg->poison_tensor_plus_one <= LIMIT_TENSORS);
	must(msg->skipped_rank_plus_one <= MSG_SKIPPED_SUM && msg->skipped_tensor_plus_one <= LIMIT_TENSORS);
	must(msg->loss_scale == 0 || (msg->loss_scale > 0 && msg->loss_scale <= LIMIT_LOSS_SCALE_MAX));
	must(msg->source <= MSG_AVERAGE && (msg->verb != MSG_PUSH_PULL || msg->source == MSG_WEIGHTS));
	for (uint32_t i = 0; i < msg->part_count; i++) {
		const struct msg_part *part = &msg->parts[i];
		must(part->count > 0 && part->first >= end);
		must(!part->mask || (part->count == 1 && part->mask_bytes > 0));
		end = (uint64_t)part->first + part->count;
	}
	must(utf8_valid(msg->text.bytes, msg->text.size));
	must(msg->payload_bytes <= LIMIT_MESSAGE_BYTES);
	must((msg->payload == NULL) == (msg->payload_bytes == 0));
}

static void read_records(struct wire_arena *arena, const struct msg *msg)
{
	char why[256];

	if (msg->verb == MSG_OPEN) {
		struct layout *layout = NULL;
		wire_layout_decode(arena, msg->payload, msg->payload_bytes, &layout, why, sizeof(why));
		layout_free(layout);
	} else if (msg->verb == MSG_STATUS) {
		struct wire_model_status status;
		size_t at = 0;
		while (wire_status_decode(arena, msg->payload, msg->payload_bytes, &at, &status) == 1)
			must(utf8_valid(status.model.bytes, status.model.size));
	}
}

static void encode_again(const struct msg *msg)
{
	uint8_t first[LIMIT_HEADER_BYTES], second[LIMIT_HEADER_BYTES];
	struct wire_arena *arena = wire_arena_new();
	struct msg again;
	char why[256];

	must(arena != NULL);
	int size = wire_encode(msg, first, sizeof(first));
	if (size >= 0) {
		must(wire_decode(arena, first, (size_t)size, msg->payload, msg->payload_bytes, false,
		                 &again, why, sizeof(why)) == 0);
		must(wire_encode(&again, second, sizeof(second)) == size);
		must(memcmp(first, second, (size_t)size) == 0);
	}
	wire_arena_free(arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct wire_arena *arena;
	struct msg msg;
	char why[256];

	if (!arena)
		arena = wire_arena_new();
	if (size < 2)
		return 0;
	uint32_t word = (uint32_t)(data[0] | data[1] << 8);
	size_t header_bytes = word & 0x1fff;
	if (header_bytes > size - 2)
		header_bytes = size - 2;
	size_t payload_bytes = size - 2 - header_bytes;
	uint8_t *header = copy_of(data + 2, header_bytes);
	uint8_t *payload = copy_of(data + 2 + header_bytes, payload_bytes);

	int rc = wire_decode(arena, header, header_bytes, payload, payload_bytes, word >> 15, &msg, why,
	                     sizeof(why));
	if (rc == 0) {
		check_promises(&msg);
		encode_again(&msg);
		read_records(arena, &msg);
		check_promises(&msg);
	}
	free(header);
	free(payload);
	return 0;
}
