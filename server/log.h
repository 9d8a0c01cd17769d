/*
 * Log: what the daemon tells its operator, one line per event on stderr.
 *
 *	log_event(log, LOG_INFO, "listen", log_str("endpoint", text), log_u64("lanes", 2));
 *	2026-11-22T21:44:36Z info event=listen endpoint=tcp://127.0.0.1:16783 lanes=2
 *
 * A line is a list of typed fields, so no text that came from a peer is ever
 * taken for a format or for a second line.  Core and library code does not log:
 * the shell does, once, where it decides what to do.
 */
#ifndef OPTD_SERVER_LOG_H
#define OPTD_SERVER_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A line with its newline: what write(2) to a pipe delivers in one piece.  A
 * value that would not fit is cut, and ends in "...". */
#define LOG_LINE_BYTES 4096u

enum log_format { LOG_TEXT, LOG_JSON, LOG_JOURNALD, LOG_FORMAT_COUNT };
enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_LEVEL_COUNT };

/* Plain data; several threads may use one log at once as long as nobody changes
 * it.  journald is text with a "<6>" priority in front and without the time,
 * which the journal adds itself. */
struct log {
	int fd;
	enum log_format format;
	enum log_level level; /* events beyond it are left out */
};

/* A named value.  Borrowed for the call.  Keys are constants of the program:
 * lower case words joined by "_", units last. */
struct log_field {
	const char *key;
	enum {
		LOG_KIND_STR,
		LOG_KIND_BYTES,
		LOG_KIND_U64,
		LOG_KIND_I64,
		LOG_KIND_F64,
		LOG_KIND_BOOL
	} kind;
	union {
		struct {
			const char *bytes; /* NULL is written as "-" */
			size_t size;
		} text;
		uint64_t u64;
		int64_t i64;
		double f64;
		bool flag;
	} value;
};

/* Writes one line: log_event(log, level, event, field, field, ...).  The event
 * is a constant word of the program.  A failing write is ignored: there is
 * nowhere left to say so. */
#define log_event(log, level, event, ...) \
	log_write(log, level, \
	          (const struct log_field[]){ log_str("event", event), ##__VA_ARGS__, log_end() })

static inline struct log_field log_str(const char *key, const char *text)
{
	return (struct log_field){ .key = key, .kind = LOG_KIND_STR, .value.text.bytes = text };
}

/* Text that need not end in NUL, or may hold one. */
static inline struct log_field log_bytes(const char *key, const void *bytes, size_t size)
{
	return (struct log_field){ .key = key,
		                   .kind = LOG_KIND_BYTES,
		                   .value.text = { bytes, size } };
}

static inline struct log_field log_u64(const char *key, uint64_t number)
{
	return (struct log_field){ .key = key, .kind = LOG_KIND_U64, .value.u64 = number };
}

static inline struct log_field log_i64(const char *key, int64_t number)
{
	return (struct log_field){ .key = key, .kind = LOG_KIND_I64, .value.i64 = number };
}

static inline struct log_field log_f64(const char *key, double number)
{
	return (struct log_field){ .key = key, .kind = LOG_KIND_F64, .value.f64 = number };
}

static inline struct log_field log_bool(const char *key, bool flag)
{
	return (struct log_field){ .key = key, .kind = LOG_KIND_BOOL, .value.flag = flag };
}

static inline struct log_field log_end(void)
{
	return (struct log_field){ .key = NULL };
}

/* What log_event does: one write(2) to the log's file. */
void log_write(const struct log *log, enum log_level level, const struct log_field *fields);

/* The line itself, pure: formats fields (closed by log_end) into line, with its
 * newline, and returns its bytes, at most LOG_LINE_BYTES.  unix_s is the time. */
size_t log_line(enum log_format format, enum log_level level, int64_t unix_s,
                const struct log_field *fields, char line[LOG_LINE_BYTES]);

/* "text", "warn"; never NULL. */
const char *log_format_name(enum log_format format);
const char *log_level_name(enum log_level level);

/*
 * A limiter: what a peer can provoke is logged at most once per peer and
 * minute, and at most LOG_LIMIT_PEERS times a minute for all peers together, so
 * that a peer which invents names cannot flood the log either.  One per thread.
 * Zero it to begin.
 */
#define LOG_LIMIT_PEERS 64u
#define LOG_LIMIT_MS UINT64_C(60000)

struct log_limit {
	struct {
		uint64_t key; /* hash of the peer; 0: free */
		uint64_t logged_ms;
		uint64_t left_out;
	} peers[LOG_LIMIT_PEERS];
	uint64_t left_out; /* of peers that found no place */
};

/* Whether to log an event of this peer now.  When true, *left_out is the number
 * of events not logged since the last time: log it too if it is not 0.  now_ms
 * is a clock that never goes back. */
bool log_limit(struct log_limit *limit, const void *peer, size_t peer_bytes, uint64_t now_ms,
               uint64_t *left_out);

#endif
