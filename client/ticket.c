/*
 * Tickets: waiting for started calls, and the face towards other event loops.
 */
#include "client/internal.h"

static struct call *find(const optd_client *client, optd_ticket ticket)
{
	struct call *call = client->calls;
	while (call && call->ticket != ticket)
		call = call->next;
	return call;
}

static int unknown(optd_client *client, optd_ticket ticket)
{
	return client_fail(client, OPTD_INVALID,
	                   "ticket %llu is not known: each is waited for once, or given up",
	                   (unsigned long long)ticket);
}

int optd_wait(optd_client *client, optd_ticket ticket, uint32_t timeout_ms)
{
	char why[LIMIT_TEXT_BYTES + 256];
	uint64_t deadline_ms = hub_now_ms() + (timeout_ms ? timeout_ms : client->timeout_ms);
	struct call *call = find(client, ticket);
	if (!call)
		return unknown(client, ticket);
	while (call->state != CALL_DONE) {
		if (hub_now_ms() >= deadline_ms) {
			client_explain(client, call_heard(call), why, sizeof(why));
			client_leave(client);
			return client_fail(client, OPTD_TIMEOUT, "ticket %llu is still under way: %s",
			                   (unsigned long long)ticket, why);
		}
		client_turn(client, deadline_ms);
	}
	int rc = call_result(client, call);
	call_free(client, call);
	client_leave(client);
	return rc;
}

int optd_done(optd_client *client, optd_ticket ticket)
{
	struct call *call = find(client, ticket);
	if (!call)
		return unknown(client, ticket);
	return call->state == CALL_DONE;
}

void optd_cancel(optd_client *client, optd_ticket ticket)
{
	struct call *call = find(client, ticket);
	if (!call)
		return;
	/* Pushes behind it fail: they would be taken for repetitions of its step. */
	call_fail(client, call, OPTD_CANCELLED, "given up by optd_cancel");
	call_free(client, call);
	client_leave(client);
}

int optd_fd(const optd_client *client)
{
	int fd = hub_fd(client->hub);
	/* Whatever is there already makes it readable. */
	hub_leave(client->hub, true, SESSION_NEVER);
	return fd;
}

/* Bounds one call of optd_process, so that a foreign loop gets its turn. */
#define PROCESS_TURNS 64

int optd_process(optd_client *client)
{
	client->finished = 0;
	for (int i = 0; i < PROCESS_TURNS && client_pump(client); i++)
		continue;
	client_leave(client);
	for (uint32_t i = 0; i < client->lane_count; i++) {
		const struct lane *lane = client->lanes[i];
		if (lane->session.state == SESSION_FAILED)
			return client_fail(client, lane->session.status, "%s: %s", lane->endpoint, lane->why);
	}
	return (int)client->finished;
}
