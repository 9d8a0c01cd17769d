/*
 * Safetensors: what both directions share, and writing.
 *
 * The head is written in two passes over the same code: the first only counts,
 * so one allocation of the right size is enough and cannot be overrun.
 * Reading, where the bytes may be hostile, is proto/safetensors_decode.c.
 */
#include "proto/safetensors.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/status.h"
#include "proto/utf8.h"

/* Bytes go to `at`, or are only counted while it is NULL. */
struct sink {
	char *at;
	size_t size;
};

static const struct {
	const char *name;
	uint32_t bytes;
} dtypes[] = {
	[SAFETENSORS_F32] = { "F32", 4 },
	[SAFETENSORS_F64] = { "F64", 8 },
	[SAFETENSORS_I64] = { "I64", 8 },
	[SAFETENSORS_U8] = { "U8", 1 },
};

uint32_t safetensors_dtype_bytes(enum safetensors_dtype dtype)
{
	return dtypes[dtype].bytes;
}

const char *safetensors_dtype_name(enum safetensors_dtype dtype)
{
	return dtypes[dtype].name;
}

int safetensors_place(struct safetensors_tensor *tensors, uint32_t count, uint64_t *data_bytes)
{
	uint64_t at = 0;

	for (uint32_t i = 0; i < count; i++) {
		uint64_t bytes = dtypes[tensors[i].dtype].bytes;

		for (uint32_t d = 0; d < tensors[i].rank; d++)
			if (__builtin_mul_overflow(bytes, tensors[i].shape[d], &bytes))
				return OPTD_TOO_LARGE;
		tensors[i].begin = at;
		if (__builtin_add_overflow(at, bytes, &at) || at > INT64_MAX)
			return OPTD_TOO_LARGE;
		tensors[i].end = at;
	}
	*data_bytes = at;
	return OPTD_OK;
}

static void put(struct sink *sink, const char *bytes, size_t size)
{
	if (sink->at)
		memcpy(sink->at + sink->size, bytes, size);
	sink->size += size;
}

__attribute__((format(printf, 2, 3)))
static void put_format(struct sink *sink, const char *format, ...)
{
	char text[128];
	va_list args;
	int size;

	va_start(args, format);
	size = vsnprintf(text, sizeof text, format, args);
	va_end(args);
	put(sink, text, (size_t)size);
}

static void put_string(struct sink *sink, const char *text)
{
	put(sink, "\"", 1);
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\')
			put(sink, "\\", 1);
		if (c < 0x20)
			put_format(sink, "\\u%04x", c);
		else
			put(sink, text, 1);
	}
	put(sink, "\"", 1);
}

static void put_tensor(struct sink *sink, const struct safetensors_tensor *tensor)
{
	put_string(sink, tensor->name);
	put_format(sink, ":{\"dtype\":\"%s\",\"shape\":[", dtypes[tensor->dtype].name);
	for (uint32_t d = 0; d < tensor->rank; d++)
		put_format(sink, "%s%" PRIu64, d ? "," : "", tensor->shape[d]);
	put_format(sink, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", tensor->begin, tensor->end);
}

size_t safetensors_entry_bytes(const struct safetensors_tensor *tensor, uint64_t last_byte)
{
	struct safetensors_tensor placed = *tensor;
	struct sink measure = { NULL, 0 };

	placed.begin = placed.end = last_byte;
	put_tensor(&measure, &placed);
	return measure.size + 1; /* the comma */
}

static void put_head(struct sink *sink, const struct safetensors_tensor *tensors, uint32_t count,
                     const struct safetensors_text *metadata, uint32_t metadata_count)
{
	put(sink, "{", 1);
	if (metadata_count > 0) {
		put_format(sink, "\"__metadata__\":{");
		for (uint32_t i = 0; i < metadata_count; i++) {
			if (i > 0)
				put(sink, ",", 1);
			put_string(sink, metadata[i].key);
			put(sink, ":", 1);
			put_string(sink, metadata[i].value);
		}
		put(sink, "}", 1);
	}
	for (uint32_t i = 0; i < count; i++) {
		if (i > 0 || metadata_count > 0)
			put(sink, ",", 1);
		put_tensor(sink, &tensors[i]);
	}
	put(sink, "}", 1);
}

static int text_order(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Refuses a repeated or unfit one among `count` names, which get sorted. */
static int check_names(const char **names, uint32_t count, const char *what, char *why, size_t why_bytes)
{
	qsort(names, count, sizeof *names, text_order);
	for (uint32_t i = 0; i < count; i++) {
		size_t size = strlen(names[i]);

		if (size > SAFETENSORS_NAME_MAX || !utf8_valid(names[i], size)) {
			snprintf(why, why_bytes, "safetensors: a %s of %zu bytes is too long or not UTF-8", what, size);
			return OPTD_INVALID;
		}
		if (i > 0 && strcmp(names[i - 1], names[i]) == 0) {
			snprintf(why, why_bytes, "safetensors: the %s '%.200s' is given twice", what, names[i]);
			return OPTD_INVALID;
		}
	}
	return OPTD_OK;
}

static int check_tensors(const struct safetensors_tensor *tensors, uint32_t count, char *why, size_t why_bytes)
{
	const char **names = malloc((count + 1u) * sizeof *names);
	int rc;

	if (!names)
		return OPTD_NO_MEMORY;
	for (uint32_t i = 0; i < count; i++)
		names[i] = tensors[i].name;
	rc = check_names(names, count, "tensor's name", why, why_bytes);
	for (uint32_t i = 0; rc == OPTD_OK && i < count; i++) {
		if (strcmp(tensors[i].name, "__metadata__") == 0 || tensors[i].rank > SAFETENSORS_RANK_MAX) {
			snprintf(why, why_bytes, "safetensors: a tensor cannot be called '__metadata__' or have "
			         "more than %u dimensions", SAFETENSORS_RANK_MAX);
			rc = OPTD_INVALID;
		}
	}
	free(names);
	return rc;
}

static int check_metadata(const struct safetensors_text *metadata, uint32_t count, char *why, size_t why_bytes)
{
	const char **keys = malloc((count + 1u) * sizeof *keys);
	int rc;

	if (!keys)
		return OPTD_NO_MEMORY;
	for (uint32_t i = 0; i < count; i++)
		keys[i] = metadata[i].key;
	rc = check_names(keys, count, "metadata key", why, why_bytes);
	for (uint32_t i = 0; rc == OPTD_OK && i < count; i++) {
		if (!utf8_valid(metadata[i].value, strlen(metadata[i].value))) {
			snprintf(why, why_bytes, "safetensors: the metadata '%.200s' is not UTF-8", metadata[i].key);
			rc = OPTD_INVALID;
		}
	}
	free(keys);
	return rc;
}

/* Eight bytes of length, the text, and spaces up to the next border. */
static size_t padded(size_t text_bytes)
{
	size_t bytes = 8 + text_bytes;

	return (bytes + SAFETENSORS_ALIGN - 1) / SAFETENSORS_ALIGN * SAFETENSORS_ALIGN;
}

int safetensors_encode(const struct safetensors_tensor *tensors, uint32_t count,
                       const struct safetensors_text *metadata, uint32_t metadata_count,
                       uint64_t limit_bytes, char **out, size_t *out_bytes,
                       char *why, size_t why_bytes)
{
	struct sink measure = { NULL, 0 }, sink = { NULL, 0 };
	size_t bytes;
	int rc;

	if (why_bytes > 0)
		why[0] = '\0';
	rc = check_tensors(tensors, count, why, why_bytes);
	if (rc < 0)
		return rc;
	rc = check_metadata(metadata, metadata_count, why, why_bytes);
	if (rc < 0)
		return rc;
	put_head(&measure, tensors, count, metadata, metadata_count);
	bytes = padded(measure.size);
	if (bytes - 8 > limit_bytes) {
		snprintf(why, why_bytes, "safetensors: %" PRIu32 " tensors need a header of %zu bytes, at most "
		         "%" PRIu64 " are allowed", count, bytes - 8, limit_bytes);
		return OPTD_TOO_LARGE;
	}
	sink.at = malloc(bytes);
	if (!sink.at)
		return OPTD_NO_MEMORY;
	for (int i = 0; i < 8; i++)
		sink.at[i] = (char)(((uint64_t)bytes - 8) >> (8 * i) & 0xff);
	sink.size = 8;
	put_head(&sink, tensors, count, metadata, metadata_count);
	memset(sink.at + sink.size, ' ', bytes - sink.size);
	*out = sink.at;
	*out_bytes = bytes;
	return OPTD_OK;
}
