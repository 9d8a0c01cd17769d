/*
 * Element types on the wire.  Models are float32 inside; other types are ways
 * to send fewer bytes.  Only f32 is spoken today; the numbers are those of the
 * protocol and never change.
 */
#ifndef OPTD_PROTO_DTYPE_H
#define OPTD_PROTO_DTYPE_H

#include <stdint.h>

enum dtype {
	DTYPE_F32 = 0,
};

/* Bytes of one element; 0 for a type this version does not speak. */
static inline uint32_t dtype_bytes(uint32_t dtype)
{
	return dtype == DTYPE_F32 ? 4 : 0;
}

#endif
