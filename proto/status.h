/*
 * Status codes: the one list of ways in which a request can end.
 *
 * The same number travels on the wire, is returned by every function that can
 * fail, and is handed to callers of the library.  Zero is success, negative
 * numbers are errors, and the few positive numbers are notices: they speak of a
 * request that is still under way.  SKIPPED is the library's: a call that
 * succeeded, and more to be known of it.  Numbers are never reused.
 */
#ifndef OPTD_PROTO_STATUS_H
#define OPTD_PROTO_STATUS_H

/* name, number, what a person reads when nothing more is known */
#define STATUS_TABLE(ROW) \
	ROW(OK, 0, "success") \
	ROW(FOLDED, 1, "the bytes are taken in; the answer follows") \
	ROW(WAITING, 2, "still waiting") \
	ROW(SKIPPED, 3, "the step was skipped: a gradient holds NaN or Inf") \
	ROW(INVALID, -1, "an argument is not valid") \
	ROW(UNSUPPORTED, -2, "the server does not know this request") \
	ROW(PROTOCOL, -3, "the two sides speak different protocol versions") \
	ROW(UNREACHABLE, -4, "no server answers at this address") \
	ROW(TIMEOUT, -5, "the deadline passed") \
	ROW(NO_SESSION, -6, "the server does not know this session") \
	ROW(STALE_EPOCH, -7, "the server has restarted since") \
	ROW(STALE_INCARNATION, -8, "a newer worker holds this rank") \
	ROW(RANK_HELD, -9, "another worker holds this rank") \
	ROW(NO_MODEL, -10, "no model of this name") \
	ROW(NO_TENSOR, -11, "no tensor of this name") \
	ROW(LAYOUT, -12, "the layouts differ") \
	ROW(CONFLICT, -13, "a setting differs from the model's") \
	ROW(HYPER, -14, "a hyper-parameter is unknown or out of range") \
	ROW(NOT_FINITE, -15, "a gradient holds NaN or Inf") \
	ROW(TOO_LARGE, -16, "larger than a limit allows") \
	ROW(NO_MEMORY, -17, "out of memory") \
	ROW(NOT_READY, -18, "the model has no weights yet") \
	ROW(STEP_TIMEOUT, -19, "the step was not completed in time") \
	ROW(STEP_GAP, -20, "the step is not the one that is due") \
	ROW(CHECKSUM, -21, "the payload does not match its checksum") \
	ROW(MALFORMED, -22, "the message is malformed") \
	ROW(DENIED, -23, "this principal may not do that") \
	ROW(DRAINING, -24, "the server is shutting down") \
	ROW(ROLLBACK, -25, "the server went back to an earlier step") \
	ROW(MODEL_LOST, -26, "the server no longer has this model") \
	ROW(EXISTS, -27, "a model of this name exists from an earlier run") \
	ROW(WRONG_MAP, -28, "the list of servers differs from the model's") \
	ROW(BUSY, -29, "a limit of the server is reached; try again later") \
	ROW(IO, -30, "reading or writing failed") \
	ROW(CORRUPT, -31, "the file is damaged") \
	ROW(NO_TOKEN, -32, "another worker was chosen to give the first weights") \
	ROW(INTERNAL, -33, "a bug in optd") \
	ROW(CANCELLED, -34, "the call was given up")

enum optd_status {
#define STATUS_ENUM(name, number, text) OPTD_##name = number,
	STATUS_TABLE(STATUS_ENUM)
#undef STATUS_ENUM
};

/* A constant sentence for a status, never NULL; unknown numbers get one too. */
const char *status_text(int status);

/* The symbol without its prefix ("STEP_TIMEOUT"), never NULL. */
const char *status_name(int status);

#endif
