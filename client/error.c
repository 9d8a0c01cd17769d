/*
 * Sentences for people: the client's error text, notices, and advice.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "client/internal.h"

/* The header promises optd_error(NULL) per thread, for a client that was never made. */
static _Thread_local char connect_error[CLIENT_ERROR_BYTES];

void connect_error_set(const char *text)
{
	snprintf(connect_error, sizeof(connect_error), "%s", text);
}

const char *optd_error(const optd_client *client)
{
	return client ? client->error : connect_error;
}

int client_fail(optd_client *client, int status, const char *format, ...)
{
	/* Written aside: arguments may point into the old text. */
	char text[CLIENT_ERROR_BYTES];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	memcpy(client->error, text, sizeof(text));
	return status;
}

void client_tell(optd_client *client, const char *format, ...)
{
	char text[sizeof(client->told)];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	uint64_t now = hub_now_ms();
	if (strcmp(text, client->told) == 0 && now < client->told_ms + CLIENT_NOTICE_MS)
		return;
	memcpy(client->told, text, sizeof(text));
	client->told_ms = now;
	if (client->notice)
		client->notice(client->user, client->told);
}

const char *text_copy(struct msg_text text, char *out, size_t out_bytes)
{
	size_t n = text.size < out_bytes - 1 ? text.size : out_bytes - 1;
	if (n)
		memcpy(out, text.bytes, n);
	out[n] = '\0';
	return out;
}

struct msg_text text_of(const char *string)
{
	if (!string)
		return (struct msg_text){0};
	return (struct msg_text){string, (uint32_t)strlen(string)};
}

const char *status_advice(int status)
{
	switch (status) {
	case OPTD_UNREACHABLE:
		return "; is optd running there?";
	case OPTD_RANK_HELD:
		return "; give each worker its own rank";
	case OPTD_MODEL_LOST:
		return "; close it and open it anew";
	case OPTD_ROLLBACK:
		return "; call optd_resume_model to go on from there";
	case OPTD_STALE_INCARNATION:
		return "; stop one of the two workers";
	case OPTD_NOT_READY:
		return "; a worker must call optd_init first";
	case OPTD_STEP_TIMEOUT:
		return "; make the same call again to go on waiting";
	case OPTD_INTERNAL:
		return "; please report it";
	default:
		return "";
	}
}

void describe(char *out, size_t out_bytes, const optd_model *model, const char *endpoint,
              const char *said, int status)
{
	if (!said || !*said)
		said = status_text(status);
	/* Servers name the model themselves where they know it. */
	if (!model || strncmp(said, "model '", 7) == 0)
		snprintf(out, out_bytes, "%s: %s%s", endpoint, said, status_advice(status));
	else
		snprintf(out, out_bytes, "model '%s' on %s: %s%s", model->name, endpoint, said,
		         status_advice(status));
}

const char *optd_status_name(int status)
{
	return status_name(status);
}

const char *optd_status_text(int status)
{
	return status_text(status);
}

const char *optd_version(void)
{
	return OPTD_VERSION;
}
