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

/* What to do about a status, and how servers, which do not know this library, end
 * their texts about it: advice is given once. */
static const struct {
	int status;
	const char *advice, *servers;
} advices[] = {
	{OPTD_UNREACHABLE, "; is optd running there?", NULL},
	{OPTD_RANK_HELD, "; give each worker its own rank", NULL},
	{OPTD_MODEL_LOST, "; close it and open it anew", ": open it again"},
	{OPTD_WRONG_MAP, "; close it and open it anew", ": open it again"},
	{OPTD_ROLLBACK, "; call optd_resume_model, then pull the weights",
	 ": accept it and pull the weights"},
	{OPTD_STALE_INCARNATION, "; stop one of the two workers", NULL},
	{OPTD_NOT_READY, "; a worker must call optd_init first",
	 ": give it its first weights, or pull to wait for them"},
	{OPTD_STEP_TIMEOUT, "; make the same call again to go on waiting",
	 ", make the same call again to go on waiting"},
	{OPTD_INTERNAL, "; please report it", NULL},
};
#define ADVICES (sizeof(advices) / sizeof(*advices))

const char *status_advice(int status)
{
	/* Without the server's words this is a guess. */
	if (status == OPTD_WRONG_MAP)
		return "";
	for (size_t i = 0; i < ADVICES; i++)
		if (advices[i].status == status)
			return advices[i].advice;
	return "";
}

/* Bytes of what a server said without its own advice, and ours instead. */
static int trim(const char *said, int status, const char **advice)
{
	size_t bytes = strlen(said);
	*advice = status_advice(status);
	for (size_t i = 0; i < ADVICES; i++) {
		size_t end = advices[i].servers ? strlen(advices[i].servers) : 0;
		if (advices[i].status != status || end == 0 || end > bytes ||
		    strcmp(said + bytes - end, advices[i].servers) != 0)
			continue;
		*advice = advices[i].advice;
		return (int)(bytes - end);
	}
	return (int)bytes;
}

void describe(char *out, size_t out_bytes, const optd_model *model, const char *endpoint,
              const char *said, int status)
{
	const char *advice;
	if (!said || !*said)
		said = status_text(status);
	int bytes = trim(said, status, &advice);
	/* Servers name the model themselves where they know it. */
	if (!model || strncmp(said, "model '", 7) == 0)
		snprintf(out, out_bytes, "%s: %.*s%s", endpoint, bytes, said, advice);
	else
		snprintf(out, out_bytes, "model '%s' on %s: %.*s%s", model->name, endpoint, bytes, said,
		         advice);
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
