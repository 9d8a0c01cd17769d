/* Records: protobuf messages one after the other, each behind its length. */
#include "proto/wire_internal.h"

/* Two bytes of length: what a record of at most a header's size takes. */
_Static_assert(LIMIT_HEADER_BYTES < 1u << 14, "a length takes two bytes");

int wire_record_next(const void *bytes, size_t size, size_t *at, const uint8_t **record,
                     size_t *record_bytes)
{
	const uint8_t *in = bytes;
	size_t length;

	if (*at == size)
		return 0;
	length = in[*at] & 0x7f;
	size_t begin = *at + 1;
	if (in[*at] & 0x80) {
		if (begin == size || in[begin] & 0x80)
			return OPTD_MALFORMED;
		length |= (size_t)in[begin++] << 7;
	}
	if (length > LIMIT_HEADER_BYTES || length > size - begin)
		return OPTD_MALFORMED;
	*record = in + begin;
	*record_bytes = length;
	*at = begin + length;
	return 1;
}

size_t wire_record_bytes(const ProtobufCMessage *message)
{
	size_t bytes = protobuf_c_message_get_packed_size(message);

	return bytes + (bytes < 0x80 ? 1 : 2);
}

size_t wire_record_put(const ProtobufCMessage *message, uint8_t *out)
{
	size_t bytes = protobuf_c_message_get_packed_size(message);
	size_t at = 0;

	if (bytes >= 0x80) {
		out[at++] = (uint8_t)(bytes | 0x80);
		out[at++] = (uint8_t)(bytes >> 7);
	} else {
		out[at++] = (uint8_t)bytes;
	}
	return at + protobuf_c_message_pack(message, out + at);
}
