/* Layouts as payload: one record a tensor, read one at a time. */
#include "proto/wire_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "proto/layout.h"
#include "proto/optd.pb-c.h"

static Optd__V1__Tensor tensor_record(const struct layout_tensor *tensor, size_t name_bytes)
{
	Optd__V1__Tensor record = OPTD__V1__TENSOR__INIT;

	/* packing only reads; protobuf-c has no const */
	record.name = (ProtobufCBinaryData){name_bytes, (uint8_t *)tensor->name};
	record.shape = (uint64_t *)tensor->shape;
	record.n_shape = tensor->rank;
	record.group = tensor->group;
	return record;
}

size_t wire_layout_bytes(const struct layout *layout)
{
	size_t bytes = 0;

	for (uint32_t i = 0; i < layout_tensor_count(layout); i++) {
		const struct layout_tensor *tensor = layout_tensor(layout, i);
		Optd__V1__Tensor record = tensor_record(tensor, strlen(tensor->name));
		bytes += wire_record_bytes(&record.base);
	}
	return bytes;
}

void wire_layout_encode(const struct layout *layout, void *buffer)
{
	uint8_t *out = buffer;

	for (uint32_t i = 0; i < layout_tensor_count(layout); i++) {
		const struct layout_tensor *tensor = layout_tensor(layout, i);
		Optd__V1__Tensor record = tensor_record(tensor, strlen(tensor->name));
		out += wire_record_put(&record.base, out);
	}
}

/* Adds one tensor; `index` is for the sentence. */
static int add_tensor(struct layout *layout, const Optd__V1__Tensor *record, uint32_t index,
                      const struct refusal *why)
{
	struct msg_text name = wire_text(record->name);
	char what[40];

	snprintf(what, sizeof(what), "the name of tensor %" PRIu32, index);
	int rc = wire_check_text(name, LIMIT_NAME_BYTES, what, why);
	if (rc < 0)
		return rc;
	if (name.size == 0)
		return refuse(why, OPTD_MALFORMED, "tensor %" PRIu32 " has no name", index);
	if (record->n_shape > LIMIT_TENSOR_RANK)
		return refuse(why, OPTD_TOO_LARGE,
		              "tensor '%.*s' has %zu dimensions, at most %u are allowed", (int)name.size,
		              name.bytes, record->n_shape, LIMIT_TENSOR_RANK);
	rc = layout_add(layout, name.bytes, name.size, record->shape, (uint32_t)record->n_shape,
	                record->group);
	if (rc == OPTD_INVALID)
		return refuse(why, rc, "tensor '%.*s' is in the layout twice", (int)name.size, name.bytes);
	if (rc == OPTD_TOO_LARGE)
		return refuse(why, rc,
		              "tensor '%.*s' (number %" PRIu32 ") makes the layout larger than %" PRIu64
		              " elements or %u tensors",
		              (int)name.size, name.bytes, index, (uint64_t)LIMIT_ELEMENTS, LIMIT_TENSORS);
	if (rc < 0)
		return refuse(why, rc, "no memory for tensor %" PRIu32, index);
	return 0;
}

/* Reads the record at *at into the layout.  Returns 1, 0 at the end, or why not. */
static int read_tensor(struct wire_arena *arena, const void *bytes, size_t size, size_t *at,
                       struct layout *layout, const struct refusal *why)
{
	uint32_t index = layout_tensor_count(layout);
	const uint8_t *packed;
	size_t packed_bytes;

	int rc = wire_record_next(bytes, size, at, &packed, &packed_bytes);
	if (rc == 0)
		return 0;
	arena->used = arena->mark;
	Optd__V1__Tensor *record =
	        rc < 0 ? NULL : optd__v1__tensor__unpack(&arena->allocator, packed_bytes, packed);
	if (!record)
		return refuse(why, OPTD_MALFORMED, "the record of tensor %" PRIu32 " cannot be read",
		              index);
	rc = add_tensor(layout, record, index, why);
	return rc < 0 ? rc : 1;
}

int wire_layout_decode(struct wire_arena *arena, const void *bytes, size_t size,
                       struct layout **out, char *why, size_t why_bytes)
{
	const struct refusal refusal = {why, why_bytes};
	size_t at = 0;
	int rc;

	struct layout *layout = layout_new();
	if (!layout)
		return refuse(&refusal, OPTD_NO_MEMORY, "no memory for a layout");
	do
		rc = read_tensor(arena, bytes, size, &at, layout, &refusal);
	while (rc > 0);
	arena->used = arena->mark;
	if (rc < 0) {
		layout_free(layout);
		return rc;
	}
	*out = layout;
	return 0;
}
