/*
 * Protobuf by hand, for messages that no encoder of ours would write.
 *
 * Appended to a valid message, a field overrides the one before it (or merges
 * with it, if it is a message), which is how hostile fields are planted.
 */
#ifndef OPTD_TESTS_PROTO_RAW_H
#define OPTD_TESTS_PROTO_RAW_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Field numbers of optd.proto's Header that the tests use. */
enum {
	FIELD_PARTS = 10,
	FIELD_VERB = 1,
	FIELD_RANK_PLUS_ONE = 7,
	FIELD_DTYPE = 20,
	FIELD_TEXT = 24,
	FIELD_SOURCE = 26,
	FIELD_HELLO = 32,
	FIELD_WELCOME = 33,
	FIELD_OPEN = 34,
	FIELD_OPENED = 35,
	FIELD_NAMED = 36,
	FIELD_UNKNOWN = 999,
};

struct raw {
	size_t size;
	uint8_t bytes[16384];
};

static inline void raw_varint(struct raw *raw, uint64_t value)
{
	for (; value >= 0x80; value >>= 7)
		raw->bytes[raw->size++] = (uint8_t)(value | 0x80);
	raw->bytes[raw->size++] = (uint8_t)value;
}

static inline void raw_number(struct raw *raw, uint32_t field, uint64_t value)
{
	raw_varint(raw, field << 3);
	raw_varint(raw, value);
}

static inline void raw_bytes(struct raw *raw, uint32_t field, const void *bytes, size_t size)
{
	raw_varint(raw, field << 3 | 2);
	raw_varint(raw, size);
	if (size)
		memcpy(raw->bytes + raw->size, bytes, size);
	raw->size += size;
}

#endif
