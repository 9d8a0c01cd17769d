/*
 * Safetensors: reading the head of a file whose bytes may be hostile.
 *
 * The grammar of a head is fixed and four levels deep, so it is read by one
 * function per level, without recursion and without a tree in between: a
 * general JSON parser would take a dozen small objects for each tensor.  Every
 * array is allocated once, for the most that a text of this length can hold.
 *
 *     head     { "__metadata__": texts, name: tensor, ... }   spaces
 *     texts    { key: text, ... }
 *     tensor   { "dtype": text, "shape": [n, ...], "data_offsets": [n, n] }
 */
#include "proto/safetensors.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/json.h"
#include "proto/status.h"

/* The shortest tensor: "":{"dtype":"U8","shape":[],"data_offsets":[0,0]} */
#define TENSOR_TEXT_MIN 49u
/* The shortest entry of the metadata: "":"" */
#define METADATA_TEXT_MIN 5u

/* What of a tensor has been seen. */
enum { SEEN_DTYPE = 1, SEEN_SHAPE = 2, SEEN_PLACE = 4, SEEN_ALL = 7 };

struct safetensors {
	struct safetensors_tensor *tensors;
	const struct safetensors_tensor **by_name;
	struct safetensors_text *metadata;
	uint32_t count, metadata_count;
	uint64_t *numbers; /* of all shapes */
	char *strings;     /* decoded: never longer than they are in the text */
	size_t numbers_used, strings_used;
};

struct parser {
	struct json json;
	struct safetensors *head;
	uint32_t tensors_max, metadata_max;
	char *why;
	size_t why_bytes;
};

/* A name fit for a sentence: cut, without control characters. */
struct quoted {
	char text[84];
};

static struct quoted quote(const char *name)
{
	struct quoted quoted;
	size_t size = strnlen(name, sizeof quoted.text);

	if (size < sizeof quoted.text) {
		memcpy(quoted.text, name, size + 1);
	} else {
		size = sizeof quoted.text - 4;
		while (size > 0 && ((unsigned char)name[size] & 0xc0) == 0x80)
			size--;
		memcpy(quoted.text, name, size);
		memcpy(quoted.text + size, "...", 4);
	}
	for (char *c = quoted.text; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = '?';
	return quoted;
}

__attribute__((format(printf, 3, 4)))
static int refuse(struct parser *p, int status, const char *format, ...)
{
	char text[256];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	snprintf(p->why, p->why_bytes, "safetensors header: %s", text);
	return status;
}

/* The scanner says what it expected at a byte; here is said of which file. */
static int refuse_here(struct parser *p, const char *expected)
{
	return refuse(p, OPTD_CORRUPT, "byte %zu: expected %s", json_offset(&p->json),
	              expected ? expected : p->json.expected);
}

/* A string, decoded into memory that lives as long as the head. */
static int parse_string(struct parser *p, const char **out)
{
	char *begin = p->head->strings + p->head->strings_used;
	size_t size;

	if (json_read_string(&p->json, begin, &size) < 0)
		return refuse_here(p, NULL);
	p->head->strings_used += size;
	*out = begin;
	return OPTD_OK;
}

/* "[n, ...]" of at most `max` numbers. */
static int parse_numbers(struct parser *p, uint64_t *numbers, uint32_t max, uint32_t *count)
{
	uint32_t n = 0;

	if (!json_take(&p->json, '['))
		return refuse_here(p, "'['");
	if (!json_take(&p->json, ']')) {
		do {
			if (n == max)
				return refuse(p, OPTD_CORRUPT, "byte %zu: more than %" PRIu32 " numbers",
				              json_offset(&p->json), max);
			if (json_number(&p->json, &numbers[n++]) < 0)
				return refuse_here(p, NULL);
		} while (json_take(&p->json, ','));
		if (!json_take(&p->json, ']'))
			return refuse_here(p, "',' or ']'");
	}
	*count = n;
	return OPTD_OK;
}

static int parse_dtype(struct parser *p, struct safetensors_tensor *tensor)
{
	size_t used = p->head->strings_used;
	const char *name = NULL;
	int rc = parse_string(p, &name);

	if (rc < 0)
		return rc;
	p->head->strings_used = used; /* not kept */
	for (unsigned dtype = SAFETENSORS_F32; dtype <= SAFETENSORS_U8; dtype++) {
		if (strcmp(name, safetensors_dtype_name(dtype)) == 0) {
			tensor->dtype = dtype;
			return OPTD_OK;
		}
	}
	return refuse(p, OPTD_UNSUPPORTED, "tensor '%s' has element type '%s'; F32, F64, I64 and U8 are known",
	              quote(tensor->name).text, quote(name).text);
}

static int parse_shape(struct parser *p, struct safetensors_tensor *tensor)
{
	uint64_t *shape = p->head->numbers + p->head->numbers_used;
	int rc = parse_numbers(p, shape, SAFETENSORS_RANK_MAX, &tensor->rank);

	if (rc < 0)
		return rc;
	p->head->numbers_used += tensor->rank;
	tensor->shape = shape;
	return OPTD_OK;
}

static int parse_place(struct parser *p, struct safetensors_tensor *tensor)
{
	uint64_t place[2];
	uint32_t count = 0;
	int rc = parse_numbers(p, place, 2, &count);

	if (rc < 0)
		return rc;
	if (count != 2)
		return refuse_here(p, "two data_offsets before this");
	tensor->begin = place[0];
	tensor->end = place[1];
	return OPTD_OK;
}

/* One entry of a tensor's object; *seen gets its bit. */
static int parse_field(struct parser *p, struct safetensors_tensor *tensor, unsigned *seen)
{
	static const struct {
		const char *key;
		unsigned bit;
		int (*parse)(struct parser *p, struct safetensors_tensor *tensor);
	} fields[] = {
		{ "dtype", SEEN_DTYPE, parse_dtype },
		{ "shape", SEEN_SHAPE, parse_shape },
		{ "data_offsets", SEEN_PLACE, parse_place },
	};
	size_t used = p->head->strings_used;
	const char *key = NULL;
	int rc = parse_string(p, &key);

	if (rc < 0)
		return rc;
	p->head->strings_used = used; /* not kept */
	if (!json_take(&p->json, ':'))
		return refuse_here(p, "':'");
	for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
		if (strcmp(key, fields[i].key) != 0)
			continue;
		if (*seen & fields[i].bit)
			return refuse(p, OPTD_CORRUPT, "tensor '%s' has two entries '%s'", quote(tensor->name).text, key);
		*seen |= fields[i].bit;
		return fields[i].parse(p, tensor);
	}
	return refuse(p, OPTD_CORRUPT, "tensor '%s' has an unknown entry '%s'", quote(tensor->name).text,
	              quote(key).text);
}

/* Whether the tensor's bytes are what its shape says. */
static int check_size(struct parser *p, const struct safetensors_tensor *tensor)
{
	uint64_t bytes = safetensors_dtype_bytes(tensor->dtype);
	int overflow = 0;

	for (uint32_t d = 0; d < tensor->rank; d++)
		overflow |= __builtin_mul_overflow(bytes, tensor->shape[d], &bytes);
	if (overflow || bytes > INT64_MAX)
		return refuse(p, OPTD_CORRUPT, "tensor '%s' is larger than 2^63 bytes", quote(tensor->name).text);
	if (tensor->end < tensor->begin || tensor->end - tensor->begin != bytes)
		return refuse(p, OPTD_CORRUPT, "tensor '%s' takes %" PRIu64 " bytes by its shape, but is placed at "
		              "[%" PRIu64 ",%" PRIu64 "]", quote(tensor->name).text, bytes, tensor->begin, tensor->end);
	return OPTD_OK;
}

static int parse_tensor(struct parser *p, const char *name)
{
	struct safetensors_tensor *tensor = &p->head->tensors[p->head->count];
	unsigned seen = 0;
	int rc;

	if (strlen(name) > SAFETENSORS_NAME_MAX)
		return refuse(p, OPTD_CORRUPT, "the name '%s' is longer than %u bytes", quote(name).text,
		              SAFETENSORS_NAME_MAX);
	if (p->head->count == p->tensors_max)
		return refuse(p, OPTD_TOO_LARGE, "more than %" PRIu32 " tensors", p->tensors_max);
	tensor->name = name;
	if (!json_take(&p->json, '{'))
		return refuse_here(p, "'{'");
	do {
		rc = parse_field(p, tensor, &seen);
		if (rc < 0)
			return rc;
	} while (json_take(&p->json, ','));
	if (!json_take(&p->json, '}'))
		return refuse_here(p, "',' or '}'");
	if (seen != SEEN_ALL)
		return refuse(p, OPTD_CORRUPT, "tensor '%s' lacks dtype, shape or data_offsets", quote(name).text);
	p->head->count++;
	return check_size(p, tensor);
}

static int parse_metadata(struct parser *p)
{
	struct safetensors *head = p->head;
	int rc;

	if (!json_take(&p->json, '{'))
		return refuse_here(p, "'{'");
	if (json_take(&p->json, '}'))
		return OPTD_OK;
	do {
		struct safetensors_text *text = &head->metadata[head->metadata_count];

		if (head->metadata_count == p->metadata_max)
			return refuse(p, OPTD_TOO_LARGE, "more than %" PRIu32 " entries of __metadata__",
			              p->metadata_max);
		rc = parse_string(p, &text->key);
		if (rc < 0)
			return rc;
		/* Linear: metadata_max is what a person would write, not a million. */
		if (safetensors_metadata(head, text->key))
			return refuse(p, OPTD_CORRUPT, "__metadata__ has two entries '%s'", quote(text->key).text);
		if (!json_take(&p->json, ':'))
			return refuse_here(p, "':'");
		rc = parse_string(p, &text->value);
		if (rc < 0)
			return rc;
		head->metadata_count++;
	} while (json_take(&p->json, ','));
	return json_take(&p->json, '}') ? OPTD_OK : refuse_here(p, "',' or '}'");
}

static int parse_head(struct parser *p)
{
	int metadata_seen = 0, rc;
	const char *name = NULL;

	if (!json_next(&p->json, '{'))
		return refuse(p, OPTD_CORRUPT, "it does not begin with '{'; this is no safetensors file");
	if (!json_take(&p->json, '}')) {
		do {
			rc = parse_string(p, &name);
			if (rc < 0)
				return rc;
			if (!json_take(&p->json, ':'))
				return refuse_here(p, "':'");
			if (strcmp(name, "__metadata__") != 0)
				rc = parse_tensor(p, name);
			else if (metadata_seen++)
				return refuse(p, OPTD_CORRUPT, "two entries '__metadata__'");
			else
				rc = parse_metadata(p);
			if (rc < 0)
				return rc;
		} while (json_take(&p->json, ','));
		if (!json_take(&p->json, '}'))
			return refuse_here(p, "',' or '}'");
	}
	while (json_next(&p->json, ' '))
		;
	return json_at_end(&p->json) ? OPTD_OK : refuse_here(p, "nothing but spaces");
}

static int place_order(const void *a, const void *b)
{
	const struct safetensors_tensor *x = a, *y = b;

	if (x->begin != y->begin)
		return x->begin < y->begin ? -1 : 1;
	if (x->end != y->end)
		return x->end < y->end ? -1 : 1;
	return 0;
}

/* Puts the tensors in the order of their data and checks that they cover it.
 * Where they already are, as in files written here, they stay: sorting might
 * swap empty ones. */
static int check_places(struct parser *p, uint64_t data_bytes)
{
	struct safetensors_tensor *tensors = p->head->tensors;
	uint64_t at = 0;
	uint32_t i = 1;

	while (i < p->head->count && place_order(&tensors[i - 1], &tensors[i]) <= 0)
		i++;
	if (i < p->head->count)
		qsort(tensors, p->head->count, sizeof *tensors, place_order);
	for (i = 0; i < p->head->count; i++) {
		if (tensors[i].begin != at)
			return refuse(p, OPTD_CORRUPT, "tensor '%s' begins at byte %" PRIu64 " of the data, the one before "
			              "ends at %" PRIu64, quote(tensors[i].name).text, tensors[i].begin, at);
		at = tensors[i].end;
	}
	if (at != data_bytes)
		return refuse(p, OPTD_CORRUPT, "the tensors take %" PRIu64 " bytes, the file has %" PRIu64
		              " for them", at, data_bytes);
	return OPTD_OK;
}

static int name_order(const void *a, const void *b)
{
	const struct safetensors_tensor *const *x = a, *const *y = b;

	return strcmp((*x)->name, (*y)->name);
}

static int check_unique(struct parser *p)
{
	struct safetensors *head = p->head;

	for (uint32_t i = 0; i < head->count; i++)
		head->by_name[i] = &head->tensors[i];
	qsort(head->by_name, head->count, sizeof *head->by_name, name_order);
	for (uint32_t i = 1; i < head->count; i++)
		if (strcmp(head->by_name[i - 1]->name, head->by_name[i]->name) == 0)
			return refuse(p, OPTD_CORRUPT, "two tensors are called '%s'", quote(head->by_name[i]->name).text);
	return OPTD_OK;
}

/* Memory for the most that text_bytes can describe. */
static struct safetensors *head_new(size_t text_bytes, uint32_t metadata_max)
{
	size_t tensors = text_bytes / TENSOR_TEXT_MIN + 2;
	size_t texts = text_bytes / METADATA_TEXT_MIN + 2;
	struct safetensors *head = calloc(1, sizeof *head);

	if (!head)
		return NULL;
	if (texts > (size_t)metadata_max + 1)
		texts = (size_t)metadata_max + 1;
	head->tensors = calloc(tensors, sizeof *head->tensors);
	head->by_name = malloc(tensors * sizeof *head->by_name);
	head->numbers = malloc(tensors * SAFETENSORS_RANK_MAX * sizeof *head->numbers);
	head->metadata = calloc(texts, sizeof *head->metadata);
	head->strings = malloc(text_bytes + 1);
	if (!head->tensors || !head->by_name || !head->numbers || !head->metadata || !head->strings) {
		safetensors_free(head);
		return NULL;
	}
	return head;
}

int safetensors_text_bytes(const void *eight, uint64_t file_bytes, uint64_t limit_bytes,
                           uint64_t *text_bytes, char *why, size_t why_bytes)
{
	const unsigned char *bytes = eight;
	uint64_t size = 0;

	for (int i = 7; i >= 0; i--)
		size = size << 8 | bytes[i];
	if (file_bytes < 8 || size > file_bytes - 8) {
		snprintf(why, why_bytes, "safetensors header: %" PRIu64 " bytes by its first eight, but the file has "
		         "%" PRIu64, size, file_bytes);
		return OPTD_CORRUPT;
	}
	if (size > limit_bytes) {
		snprintf(why, why_bytes, "safetensors header: %" PRIu64 " bytes, at most %" PRIu64 " are allowed",
		         size, limit_bytes);
		return OPTD_TOO_LARGE;
	}
	*text_bytes = size;
	return OPTD_OK;
}

int safetensors_decode(const void *text, size_t text_bytes, uint64_t data_bytes,
                       uint32_t tensors_max, uint32_t metadata_max,
                       struct safetensors **out, char *why, size_t why_bytes)
{
	struct parser p = { .tensors_max = tensors_max, .metadata_max = metadata_max,
		            .why = why, .why_bytes = why_bytes };
	int rc;

	json_init(&p.json, text, text_bytes);
	p.head = head_new(text_bytes, metadata_max);
	if (!p.head)
		return refuse(&p, OPTD_NO_MEMORY, "no memory for one of %zu bytes", text_bytes);
	rc = parse_head(&p);
	if (rc == OPTD_OK)
		rc = check_places(&p, data_bytes);
	if (rc == OPTD_OK)
		rc = check_unique(&p);
	if (rc < 0) {
		safetensors_free(p.head);
		return rc;
	}
	*out = p.head;
	return OPTD_OK;
}

void safetensors_free(struct safetensors *head)
{
	if (!head)
		return;
	free(head->tensors);
	free(head->by_name);
	free(head->numbers);
	free(head->metadata);
	free(head->strings);
	free(head);
}

uint32_t safetensors_count(const struct safetensors *head)
{
	return head->count;
}

const struct safetensors_tensor *safetensors_tensors(const struct safetensors *head)
{
	return head->tensors;
}

const struct safetensors_tensor *safetensors_find(const struct safetensors *head, const char *name)
{
	const struct safetensors_tensor key = { .name = name }, *wanted = &key;
	const struct safetensors_tensor *const *found =
		bsearch(&wanted, head->by_name, head->count, sizeof *head->by_name, name_order);

	return found ? *found : NULL;
}

const char *safetensors_metadata(const struct safetensors *head, const char *key)
{
	for (uint32_t i = 0; i < head->metadata_count; i++)
		if (strcmp(head->metadata[i].key, key) == 0)
			return head->metadata[i].value;
	return NULL;
}

const struct safetensors_text *safetensors_texts(const struct safetensors *head, uint32_t *count)
{
	*count = head->metadata_count;
	return head->metadata;
}
