/*
 * Whether a message from a peer may be believed, as far as the message itself
 * can tell.  What is checked here, the code behind it may assert; what depends
 * on a model (does the block exist, is the step due) is for the core.
 */
#include "proto/wire_internal.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "proto/utf8.h"

int refuse(const struct refusal *to, int status, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(to->text, to->bytes, format, args);
	va_end(args);
	return status;
}

int wire_check_text(struct msg_text text, uint32_t limit, const char *what,
                    const struct refusal *why)
{
	if (text.size > limit)
		return refuse(why, OPTD_MALFORMED, "%s has %u bytes, at most %u are allowed", what,
		              text.size, limit);
	if (!utf8_valid(text.bytes, text.size))
		return refuse(why, OPTD_MALFORMED, "%s is not UTF-8, or has a NUL in it", what);
	return 0;
}

int wire_check_known(uint32_t value, uint32_t highest, const char *what,
                     const struct refusal *why)
{
	if (value > highest)
		return refuse(why, OPTD_UNSUPPORTED, "%s %" PRIu32 " is not known to this version", what,
		              value);
	return 0;
}

int wire_check_counter(uint64_t value, const char *what, const struct refusal *why)
{
	if (value > LIMIT_COUNTER)
		return refuse(why, OPTD_MALFORMED, "%s %" PRIu64 " is beyond 2^62", what, value);
	return 0;
}

static int check_numbers(const struct msg *msg, const struct refusal *why)
{
	const struct {
		uint64_t value;
		const char *what;
	} counters[] = {
	        {msg->incarnation, "incarnation"}, {msg->step, "step"},
	        {msg->base_version, "base_version"}, {msg->min_version, "min_version"},
	        {msg->version, "version"}, {msg->version_max, "version_max"},
	        {msg->token, "token"},
	};

	for (size_t i = 0; i < sizeof(counters) / sizeof(counters[0]); i++) {
		int rc = wire_check_counter(counters[i].value, counters[i].what, why);
		if (rc < 0)
			return rc;
	}
	if (msg->version > msg->version_max)
		return refuse(why, OPTD_MALFORMED, "version %" PRIu64 " is beyond version_max %" PRIu64,
		              msg->version, msg->version_max);
	if (msg->rank >= (int32_t)LIMIT_WORKERS || msg->rank < MSG_NO_RANK)
		return refuse(why, OPTD_MALFORMED, "a rank beyond %u", LIMIT_WORKERS - 1);
	/* written so that NaN fails; the smallest normal number, for a share of
	 * zero would be no share */
	if (msg->weight != 0 && !(msg->weight >= 2.2250738585072014e-308 && msg->weight <= LIMIT_WEIGHT))
		return refuse(why, OPTD_MALFORMED, "weight %g is not a number from 0 to 2^53", msg->weight);
	if (!msg->reply && msg->status != OPTD_OK)
		return refuse(why, OPTD_MALFORMED, "a request with status %" PRId32, msg->status);
	return wire_finite_check(msg, why);
}

/* Weights go both ways as they are; only gradients may be shorter. */
static int check_dtype(const struct msg *msg, const struct refusal *why)
{
	bool gradients = !msg->reply && (msg->verb == MSG_PUSH || msg->verb == MSG_PUSH_PULL);
	int rc = wire_check_known(msg->dtype, DTYPE_COUNT - 1, "dtype", why);

	if (rc < 0 || gradients || msg->dtype == DTYPE_F32)
		return rc;
	return refuse(why, OPTD_UNSUPPORTED, "%s %s with dtype %u: only gradients may be other than "
	              "float32", msg_verb_name(msg->verb), msg->reply ? "reply" : "request", msg->dtype);
}

static int check_kinds(const struct msg *msg, const struct refusal *why)
{
	if (msg->verb == 0)
		return refuse(why, OPTD_MALFORMED, "the header has no verb");
	int rc = wire_check_known(msg->verb, MSG_VERB_COUNT - 1, "verb", why);
	if (rc == 0)
		rc = wire_check_known(msg->kind, MSG_MODEL, "kind", why);
	if (rc == 0)
		rc = wire_check_known(msg->place, MSG_INLINE, "place", why);
	if (rc == 0)
		rc = check_dtype(msg, why);
	if (rc == 0)
		rc = wire_check_known(msg->source, MSG_AVERAGE, "source", why);
	/* Passed over, it would bring the weights to one who takes them for something else. */
	if (rc == 0 && msg->verb == MSG_PUSH_PULL && msg->source != MSG_WEIGHTS)
		rc = refuse(why, OPTD_UNSUPPORTED, "PUSH_PULL of an average: it brings the weights, PULL the average");
	return rc;
}

/* ---- parts and payload -------------------------------------------------- */

static uint64_t mask_segments(const struct msg_part *part)
{
	uint64_t count = 0;

	for (uint32_t i = 0; i < part->mask_bytes; i++)
		count += (uint64_t)__builtin_popcount(part->mask[i]);
	return count;
}

static int check_mask(const struct msg *msg, const struct msg_part *part, const struct refusal *why)
{
	if (!part->mask)
		return 0;
	if (part->count != 1)
		return refuse(why, OPTD_MALFORMED, "a mask over %" PRIu32 " blocks, from block %" PRIu32
		              " on: only single blocks have one", part->count, part->first);
	if (part->mask_bytes > LIMIT_MASK_BYTES)
		return refuse(why, OPTD_MALFORMED, "the mask of block %" PRIu32 " has %" PRIu32
		              " bytes, at most %u are allowed",
		              part->first, part->mask_bytes, LIMIT_MASK_BYTES);
	if (msg->verb == MSG_NORM)
		return refuse(why, OPTD_MALFORMED, "NORM with a mask: it is about whole blocks");
	if (mask_segments(part) == 0)
		return refuse(why, OPTD_MALFORMED, "the mask of block %" PRIu32 " is empty", part->first);
	if (msg->verb == MSG_CLOSE_STEP)
		return refuse(why, OPTD_MALFORMED, "CLOSE_STEP with a mask: it is about whole blocks");
	return 0;
}

/* Parts ascend without touching a block twice.  *least gets the number of
 * elements that they have at least, *most at most. */
static int check_parts(const struct msg *msg, uint64_t *least, uint64_t *most,
                       const struct refusal *why)
{
	uint64_t end = 0;

	*least = *most = 0;
	for (uint32_t i = 0; i < msg->part_count; i++) {
		const struct msg_part *part = &msg->parts[i];
		if (part->count == 0)
			return refuse(why, OPTD_MALFORMED, "part %" PRIu32 " has no blocks", i);
		if (part->first < end)
			return refuse(why, OPTD_MALFORMED, "part %" PRIu32 " begins at block %" PRIu32
			              ", inside or before the part in front of it", i, part->first);
		end = (uint64_t)part->first + part->count;
		if (end > UINT32_MAX)
			return refuse(why, OPTD_MALFORMED, "part %" PRIu32 " has %" PRIu32
			              " blocks from block %" PRIu32 " on, beyond 2^32",
			              i, part->count, part->first);
		int rc = check_mask(msg, part, why);
		if (rc < 0)
			return rc;
		*least += part->mask ? mask_segments(part) : part->count;
		*most += (uint64_t)part->count * LIMIT_BLOCK_ELEMENTS;
	}
	return 0;
}

enum use { NEVER, MAYBE, ALWAYS };

/* Whether this message has parts. */
static enum use parts_use(const struct msg *msg)
{
	switch (msg->verb) {
	case MSG_PULL:
	case MSG_PUSH_PULL:
		return !msg->reply || msg->status == OPTD_OK ? ALWAYS : MAYBE;
	case MSG_PUSH:
	case MSG_CLOSE_STEP:
	case MSG_NORM:
		return msg->reply ? MAYBE : ALWAYS;
	case MSG_INIT:
		return MAYBE;
	default:
		return NEVER;
	}
}

/* What a payload consists of. */
enum content { NOTHING, RECORDS, ELEMENTS, NORMS };

static enum content payload_content(const struct msg *msg)
{
	if (msg->reply && msg->status != OPTD_OK)
		return NOTHING;
	switch (msg->verb) {
	case MSG_INIT:
		return msg->part_count && !msg->reply ? ELEMENTS : NOTHING;
	case MSG_PUSH:
		return msg->reply ? NOTHING : ELEMENTS;
	case MSG_PUSH_PULL:
		return ELEMENTS;
	case MSG_PULL:
		return msg->reply ? ELEMENTS : NOTHING;
	case MSG_OPEN:
		return RECORDS;
	case MSG_STATUS:
		return msg->reply ? RECORDS : NOTHING;
	case MSG_NORM:
		return msg->payload_bytes > 0 ? NORMS : NOTHING;
	default:
		return NOTHING;
	}
}

static int check_elements(const struct msg *msg, uint64_t least, uint64_t most,
                          const struct refusal *why)
{
	uint64_t size = dtype_bytes(msg->dtype);
	uint64_t count = msg->payload_bytes / size;

	if (msg->payload_bytes % size)
		return refuse(why, OPTD_MALFORMED, "a payload of %" PRIu64 " bytes is no whole number of "
		              "elements of %" PRIu64 " bytes", msg->payload_bytes, size);
	if (count < least || count > most)
		return refuse(why, OPTD_MALFORMED, "a payload of %" PRIu64 " elements for parts that have "
		              "%" PRIu64 " to %" PRIu64, count, least, most);
	if ((uintptr_t)msg->payload % size)
		return refuse(why, OPTD_INTERNAL, "the payload was handed over misaligned");
	return 0;
}

/* A number for each segment of the blocks. */
static int check_norms(const struct msg *msg, uint64_t blocks, const struct refusal *why)
{
	uint64_t count = msg->payload_bytes / sizeof(double);

	if (msg->payload_bytes % sizeof(double) || count > LIMIT_NORM_SEGMENTS)
		return refuse(why, OPTD_MALFORMED, "a payload of %" PRIu64 " bytes is no whole number of "
		              "parts of a norm, of 8 bytes, or more than %u",
		              msg->payload_bytes, LIMIT_NORM_SEGMENTS);
	if (count < blocks)
		return refuse(why, OPTD_MALFORMED, "a payload of %" PRIu64 " parts of a norm for %" PRIu64
		              " blocks, which have one segment at least", count, blocks);
	return 0;
}

static int check_payload(const struct msg *msg, size_t payload_bytes, const struct refusal *why)
{
	uint64_t least, most;
	enum use parts = parts_use(msg);
	enum content content = payload_content(msg);
	const char *verb = msg_verb_name(msg->verb);

	int rc = check_parts(msg, &least, &most, why);
	if (rc < 0)
		return rc;
	if ((parts == NEVER && msg->part_count) || (parts == ALWAYS && !msg->part_count))
		return refuse(why, OPTD_MALFORMED, "%s with %" PRIu32 " parts", verb, msg->part_count);
	if (msg->payload_bytes != payload_bytes)
		return refuse(why, OPTD_MALFORMED, "the payload has %zu bytes, the header says %" PRIu64,
		              payload_bytes, msg->payload_bytes);
	if (payload_bytes > LIMIT_MESSAGE_BYTES)
		return refuse(why, OPTD_MALFORMED, "a payload of %zu bytes, at most %u are allowed",
		              payload_bytes, LIMIT_MESSAGE_BYTES);
	if (payload_bytes == 0 && msg->checksum != 0)
		return refuse(why, OPTD_MALFORMED, "a checksum of a payload that is empty");
	if (content == NOTHING && payload_bytes > 0)
		return refuse(why, OPTD_MALFORMED, "%s %s with a payload of %zu bytes", verb,
		              msg->reply ? "reply" : "request", payload_bytes);
	if (content == ELEMENTS)
		return check_elements(msg, least, most, why);
	return content == NORMS ? check_norms(msg, least, why) : 0;
}

int wire_check(const struct msg *msg, size_t payload_bytes, const struct refusal *why)
{
	int rc = check_kinds(msg, why);
	if (rc == 0)
		rc = check_numbers(msg, why);
	if (rc == 0)
		rc = check_payload(msg, payload_bytes, why);
	if (rc == 0)
		rc = wire_check_text(msg->text, LIMIT_TEXT_BYTES, "text", why);
	if (rc == 0)
		rc = wire_check_body(msg, why);
	return rc;
}
