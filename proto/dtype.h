/*
 * Element types on the wire.  Models are float32 inside; other types are ways
 * to send fewer bytes.  The numbers are those of the protocol and never change.
 */
#ifndef OPTD_PROTO_DTYPE_H
#define OPTD_PROTO_DTYPE_H

#include <stdint.h>

enum dtype {
	DTYPE_F32 = 0,
	DTYPE_BF16 = 1, /* the upper half of a float32 */
	DTYPE_F16 = 2,  /* IEEE 754 binary16 */
};
#define DTYPE_COUNT 3

/* Bytes of one element; 0 for a type this version does not speak. */
static inline uint32_t dtype_bytes(uint32_t dtype)
{
	if (dtype == DTYPE_F32)
		return 4;
	return dtype < DTYPE_COUNT ? 2 : 0;
}

/* Element `index` of an array, whose pointer need not be aligned to it. */
static inline const void *dtype_at(const void *array, uint32_t dtype, uint64_t index)
{
	return (const char *)array + index * dtype_bytes(dtype);
}

#endif
