/*
 * A daemon is told of once: by the first of its lanes that is out of reach.
 */
#include "client/reach.h"

#include <stdio.h>

#include "client/internal.h"

static void take_news(struct lane *lane, uint64_t now_ms)
{
	enum link_news news;
	while ((news = link_news(lane->link)) != LINK_NOTHING) {
		lane->reach.connected = news == LINK_CONNECTED;
		if (lane->reach.connected)
			continue;
		/* What was under way is lost with the connection; HELLO goes out as soon
		 * as there is another. */
		session_restart(&lane->session, now_ms);
		lane->reach.tell_ms = now_ms + REACH_TELL_MS;
	}
}

static bool is_told_by_another(const optd_client *client, uint32_t index)
{
	for (uint32_t i = 0; i < index; i++)
		if (client->lanes[i]->daemon == client->lanes[index]->daemon &&
		    client->lanes[i]->reach.told)
			return true;
	return false;
}

static void tell(optd_client *client, struct lane *lane, uint64_t now_ms)
{
	char why[256];
	lane->reach.tell_ms = now_ms + REACH_AGAIN_MS;
	if (!client->notice)
		return;
	/* Somebody listens there again: ZeroMQ is about to find out. */
	if (link_diagnose(lane->endpoint, REACH_DIAGNOSE_MS, why, sizeof(why)) == 0) {
		lane->reach.tell_ms = now_ms + REACH_TELL_MS;
		return;
	}
	lane->reach.told = true;
	if (client->until_ms > now_ms)
		client_tell(client, "%s: %s; trying for another %llu s", lane->endpoint, why,
		            (unsigned long long)(client->until_ms - now_ms + 999) / 1000);
	else
		client_tell(client, "%s: %s; trying again", lane->endpoint, why);
}

void reach_turn(optd_client *client, uint64_t now_ms)
{
	/* A busy client turns many times in a millisecond. */
	if (now_ms == client->news_ms)
		return;
	client->news_ms = now_ms;
	for (uint32_t i = 0; i < client->lane_count; i++) {
		struct lane *lane = client->lanes[i];
		take_news(lane, now_ms);
		if (!reach_is_away(lane))
			continue;
		if (lane->reach.tell_ms == 0)
			lane->reach.tell_ms = now_ms + REACH_TELL_MS;
		if (now_ms >= lane->reach.tell_ms && !is_told_by_another(client, i))
			tell(client, lane, now_ms);
	}
}

bool reach_is_away(const struct lane *lane)
{
	return lane->session.state == SESSION_GREETING && !lane->reach.connected;
}

void reach_found(optd_client *client, struct lane *lane)
{
	if (lane->reach.told)
		client_tell(client, "%s: connected again", lane->endpoint);
	lane->reach.told = false;
	lane->reach.tell_ms = 0;
}
