/*
 * Log: see log.h.
 *
 * A line is built in a buffer of fixed size that always keeps room for its end,
 * so a value may be cut but a line is never broken.  Everything that is not
 * printable UTF-8 is escaped: control characters could forge lines or drive the
 * operator's terminal.
 */
#include "server/log.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *const format_names[LOG_FORMAT_COUNT] = { "text", "json", "journald" };

/* syslog's numbers, which journald reads from the prefix. */
static const struct {
	const char *name;
	char priority;
} levels[LOG_LEVEL_COUNT] = {
	{ "error", '3' }, { "warn", '4' }, { "info", '6' }
};

/* Kept free for the end of a line: "...", a quote, "}" and the newline.  A whole
 * value's closing quote may reach into it, and then nothing else fits. */
#define TAIL_BYTES 8u

struct line {
	char *bytes;
	size_t size;
	bool full; /* something did not fit; the rest of the fields is left out */
};

static bool fits(const struct line *line, size_t size)
{
	return !line->full && size <= LOG_LINE_BYTES &&
	       line->size + size <= LOG_LINE_BYTES - TAIL_BYTES;
}

static void put(struct line *line, const char *bytes, size_t size)
{
	if (!fits(line, size)) {
		line->full = true;
		return;
	}
	memcpy(line->bytes + line->size, bytes, size);
	line->size += size;
}

static void put_text(struct line *line, const char *text)
{
	put(line, text, strlen(text));
}

/* Into the room kept free; the callers together use at most TAIL_BYTES. */
static void put_tail(struct line *line, const char *text)
{
	size_t size = strlen(text);

	memcpy(line->bytes + line->size, text, size);
	line->size += size;
}

/* Bytes of the UTF-8 character at `at` if it may be shown as it is, else 0:
 * malformed, a control character, or one that turns the direction of text. */
static size_t printable(const unsigned char *at, size_t left)
{
	size_t size = at[0] < 0x80 ? 1 : at[0] >= 0xf0 ? 4 : at[0] >= 0xe0 ? 3 : 2;
	uint32_t code = at[0];

	if (size == 1)
		return code >= 0x20 && code != 0x7f ? 1 : 0;
	if (at[0] < 0xc2 || at[0] > 0xf4 || size > left)
		return 0;
	code &= 0x7fu >> size;
	for (size_t i = 1; i < size; i++) {
		if ((at[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (at[i] & 0x3fu);
	}
	if (size == 3 && (code < 0x800 || (code >= 0xd800 && code <= 0xdfff)))
		return 0;
	if (size == 4 && (code < 0x10000 || code > 0x10ffff))
		return 0;
	if (code < 0xa0 || (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069))
		return 0;
	return size;
}

/* One byte that cannot stand as it is. JSON has no \x; a byte that is no
 * character becomes U+FFFD there. */
static void put_escaped(struct line *line, unsigned char byte, bool json)
{
	char text[8];

	if (byte == '"' || byte == '\\')
		snprintf(text, sizeof(text), "\\%c", byte);
	else if (byte == '\n')
		snprintf(text, sizeof(text), "\\n");
	else if (byte == '\t')
		snprintf(text, sizeof(text), "\\t");
	else if (!json)
		snprintf(text, sizeof(text), "\\x%02x", byte);
	else if (byte < 0x80)
		snprintf(text, sizeof(text), "\\u%04x", byte);
	else
		snprintf(text, sizeof(text), "\\ufffd");
	put_text(line, text);
}

/* A value in text form stands bare when it has neither spaces nor anything that
 * a reader of key=value could take for structure. */
static bool stands_bare(const unsigned char *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++)
		if (bytes[i] <= ' ' || bytes[i] >= 0x7f || strchr("\"\\=", bytes[i]))
			return false;
	return size > 0;
}

static void put_string(struct line *line, const char *text, size_t size, bool json)
{
	const unsigned char *bytes = (const unsigned char *)text;

	if (!json && fits(line, size) && stands_bare(bytes, size)) {
		put(line, text, size);
		return;
	}
	put(line, "\"", 1);
	if (line->full)
		return;
	for (size_t i = 0; i < size && !line->full;) {
		size_t step = printable(bytes + i, size - i);

		if (step == 0 || bytes[i] == '"' || bytes[i] == '\\') {
			put_escaped(line, bytes[i++], json);
		} else {
			put(line, text + i, step);
			i += step;
		}
	}
	put_tail(line, line->full ? "...\"" : "\"");
}

static void put_number(struct line *line, const struct log_field *field, bool json)
{
	char text[40];

	if (field->kind == LOG_KIND_U64)
		snprintf(text, sizeof(text), "%llu", (unsigned long long)field->value.u64);
	else if (field->kind == LOG_KIND_I64)
		snprintf(text, sizeof(text), "%lld", (long long)field->value.i64);
	else if (field->kind == LOG_KIND_BOOL)
		snprintf(text, sizeof(text), "%s", field->value.flag ? "true" : "false");
	else if (json && !isfinite(field->value.f64))
		snprintf(text, sizeof(text), "null"); /* JSON has no NaN */
	else
		snprintf(text, sizeof(text), "%.9g", field->value.f64);
	put_text(line, text);
}

/* Takes back a field that was begun but has no value, so that what is cut is
 * always a whole field or the end of a text. */
static void put_field(struct line *line, const struct log_field *field, bool json)
{
	const char *text = field->value.text.bytes;
	size_t begin = line->size;
	size_t value;

	put_text(line, json ? ",\"" : " ");
	put_text(line, field->key);
	put_text(line, json ? "\":" : "=");
	value = line->size;
	if (field->kind > LOG_KIND_BYTES)
		put_number(line, field, json);
	else if (!text)
		put_string(line, "-", 1, json);
	else
		put_string(line, text,
		           field->kind == LOG_KIND_STR ? strlen(text) : field->value.text.size,
		           json);
	if (line->full && line->size == value)
		line->size = begin;
}

size_t log_line(enum log_format format, enum log_level level, int64_t unix_s,
                const struct log_field *fields, char bytes[LOG_LINE_BYTES])
{
	struct line line = { .bytes = bytes };
	time_t seconds = (time_t)unix_s;
	bool json = format == LOG_JSON;
	char when[64] = "?", head[128];
	struct tm tm;

	if (gmtime_r(&seconds, &tm))
		strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
	if (json)
		snprintf(head, sizeof(head), "{\"time\":\"%s\",\"level\":\"%s\"", when,
		         levels[level].name);
	else if (format == LOG_JOURNALD)
		snprintf(head, sizeof(head), "<%c>%s", levels[level].priority, levels[level].name);
	else
		snprintf(head, sizeof(head), "%s %s", when, levels[level].name);
	put_text(&line, head);
	for (; fields->key && !line.full; fields++)
		put_field(&line, fields, json);
	put_tail(&line, json ? "}\n" : "\n");
	return line.size;
}

void log_write(const struct log *log, enum log_level level, const struct log_field *fields)
{
	char line[LOG_LINE_BYTES];
	struct timespec now = { 0 };
	ssize_t written;
	size_t size;

	if (level > log->level)
		return;
	clock_gettime(CLOCK_REALTIME, &now);
	size = log_line(log->format, level, now.tv_sec, fields, line);
	written = write(log->fd, line, size);
	(void)written;
}

const char *log_format_name(enum log_format format)
{
	return (unsigned)format < LOG_FORMAT_COUNT ? format_names[format] : "?";
}

const char *log_level_name(enum log_level level)
{
	return (unsigned)level < LOG_LEVEL_COUNT ? levels[level].name : "?";
}

/* FNV-1a.  Peers that collide share one line a minute, which harms nobody. */
static uint64_t peer_hash(const unsigned char *bytes, size_t size)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < size; i++)
		hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
	return hash ? hash : 1;
}

bool log_limit(struct log_limit *limit, const void *peer, size_t peer_bytes, uint64_t now_ms,
               uint64_t *left_out)
{
	uint64_t key = peer_hash(peer, peer_bytes);
	uint32_t place = LOG_LIMIT_PEERS;

	for (uint32_t i = 0; i < LOG_LIMIT_PEERS; i++) {
		bool old = limit->peers[i].key == 0 ||
		           now_ms - limit->peers[i].logged_ms >= LOG_LIMIT_MS;

		if (limit->peers[i].key == key) {
			if (!old) {
				limit->peers[i].left_out++;
				return false;
			}
			place = i;
			break;
		}
		/* A free place is better than that of a peer that may come back. */
		if (old &&
		    (place == LOG_LIMIT_PEERS || (limit->peers[place].key && !limit->peers[i].key)))
			place = i;
	}
	if (place == LOG_LIMIT_PEERS) {
		limit->left_out++;
		return false;
	}
	/* What a peer that gave up its place left out is told with the next line. */
	*left_out = limit->peers[place].left_out + limit->left_out;
	limit->left_out = 0;
	limit->peers[place].key = key;
	limit->peers[place].logged_ms = now_ms;
	limit->peers[place].left_out = 0;
	return true;
}
