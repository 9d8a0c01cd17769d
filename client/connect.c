/*
 * From endpoints to lanes: the caller names the first lane of each daemon; the
 * others are learned from WELCOME, at the start and again when a daemon comes
 * back with other lanes.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/internal.h"

#define SOFTWARE "liboptd " OPTD_VERSION
/* What optd_close waits for an answer to GOODBYE. */
#define GOODBYE_MS 500u

static int lane_failed(optd_client *client, const char *endpoint, int rc, const char *why)
{
	return client_fail(client, rc, "'%s' cannot be connected to: %s%s", endpoint, why,
	                   rc == OPTD_INVALID ? " (endpoints are tcp://host:port or ipc://path)" : "");
}

struct lane *lane_new(optd_client *client, const char *endpoint, uint32_t daemon, uint32_t index, int *rc)
{
	char why[256] = "out of memory";
	struct lane *lane = calloc(1, sizeof(*lane));
	*rc = lane ? OPTD_OK : OPTD_NO_MEMORY;
	if (lane) {
		snprintf(lane->endpoint, sizeof(lane->endpoint), "%s", endpoint);
		lane->daemon = daemon;
		lane->lane = index;
		session_init(&lane->session, hub_random(), &client->hello);
		*rc = link_open(client->hub, endpoint, &lane->link, why, sizeof(why));
	}
	if (*rc == OPTD_OK)
		return lane;
	lane_failed(client, endpoint, *rc, why);
	lane_free(lane);
	return NULL;
}

void lane_free(struct lane *lane)
{
	if (!lane)
		return;
	link_close(lane->link);
	session_deinit(&lane->session);
	free(lane);
}

/* ---- what WELCOME says ------------------------------------------------ */

static bool same_endpoints(const struct daemon *d, const struct msg_welcome *w)
{
	if (d->endpoint_count != w->endpoint_count)
		return false;
	/* Lane 0 is where the caller says it is. */
	for (uint32_t i = 1; i < w->endpoint_count; i++)
		if (strlen(d->endpoints[i]) != w->endpoints[i].size ||
		    memcmp(d->endpoints[i], w->endpoints[i].bytes, w->endpoints[i].size) != 0)
			return false;
	return true;
}

void connect_welcomed(optd_client *client, struct lane *lane, const struct msg *reply)
{
	struct daemon *d = &client->daemons[lane->daemon];
	const struct msg_welcome *w = &reply->welcome;
	d->id = w->daemon_id;
	if (same_endpoints(d, w))
		return;
	void *grown = realloc(d->endpoints, w->endpoint_count * sizeof(*d->endpoints));
	if (!grown)
		return; /* the map stays as it is; the next WELCOME says it again */
	d->endpoints = grown;
	for (uint32_t i = 0; i < w->endpoint_count; i++)
		text_copy(w->endpoints[i], d->endpoints[i], sizeof(d->endpoints[i]));
	d->endpoint_count = w->endpoint_count;
	/* Before the first map is made, connecting looks at this itself. */
	if (d->lane_count > 0)
		client->map_changed = true;
	client->map_retry_ms = 0;
}

/* ---- lanes ------------------------------------------------------------ */

/* Appends the lanes of a daemon as WELCOME named them to a list: the first, which is
 * there, and those behind it, made anew. */
static int add_lanes(optd_client *client, struct lane *first, struct lane **lanes, uint32_t *count)
{
	int rc = 0;
	const struct daemon *d = &client->daemons[first->daemon];
	lanes[(*count)++] = first;
	for (uint32_t i = 1; i < d->endpoint_count && rc == 0; i++) {
		struct lane *lane = lane_new(client, d->endpoints[i], first->daemon, i, &rc);
		if (lane)
			lanes[(*count)++] = lane;
	}
	return rc;
}

static uint32_t lanes_wanted(const optd_client *client)
{
	uint32_t total = 0;
	for (uint32_t i = 0; i < client->daemon_count; i++)
		total += client->daemons[i].endpoint_count;
	return total;
}

/* These are the client's lanes from now on; the list is taken. */
static void adopt(optd_client *client, struct lane **lanes, uint32_t count)
{
	free(client->lanes);
	client->lanes = lanes;
	client->lane_count = count;
	for (uint32_t i = 0; i < count; i++) {
		struct daemon *d = &client->daemons[lanes[i]->daemon];
		if (lanes[i]->lane == 0)
			d->first_lane = i;
		d->lane_count = lanes[i]->lane + 1;
	}
}

/* ---- other lanes after a restart -------------------------------------- */

#define REMAP_RETRY_MS 1000u

/* What takes the place of the client's lanes and of its models' runs: made as a whole
 * before anything of the old is touched. */
struct remap {
	struct lane **lanes;
	uint32_t count;
	struct layout_run *runs[INFLIGHT_SLOTS]; /* by slot; NULL: no model, or not mapped yet */
};

static bool fits(const optd_client *client, const struct daemon *d)
{
	if (d->lane_count != d->endpoint_count)
		return false;
	for (uint32_t i = 1; i < d->lane_count; i++)
		if (strcmp(client->lanes[d->first_lane + i]->endpoint, d->endpoints[i]) != 0)
			return false;
	return true;
}

static int remap_refused(optd_client *client, const struct daemon *d, int rc)
{
	return client_fail(client, rc, "%s came back with %u lanes: %s", d->endpoint, d->endpoint_count,
	                   client->error);
}

/* Before any socket is made for a new lane: one that is closed again takes a while to
 * give its descriptors back, and a map that cannot be is tried again and again. */
static int check_endpoints(optd_client *client)
{
	for (uint32_t i = 0; i < client->daemon_count; i++) {
		const struct daemon *d = &client->daemons[i];
		for (uint32_t k = 1; k < d->endpoint_count; k++) {
			if (link_check(d->endpoints[k]) == 0)
				continue;
			lane_failed(client, d->endpoints[k], OPTD_INVALID, "not an endpoint");
			return remap_refused(client, d, OPTD_INVALID);
		}
	}
	return 0;
}

static int remap_lanes(optd_client *client, struct remap *remap)
{
	int rc = check_endpoints(client);
	if (rc < 0)
		return rc;
	remap->lanes = calloc(lanes_wanted(client), sizeof(*remap->lanes));
	if (!remap->lanes)
		return client_fail(client, OPTD_NO_MEMORY, "out of memory");
	for (uint32_t i = 0; i < client->daemon_count; i++) {
		const struct daemon *d = &client->daemons[i];
		struct lane **old = &client->lanes[d->first_lane];
		if (fits(client, d)) {
			memcpy(&remap->lanes[remap->count], old, d->lane_count * sizeof(*old));
			remap->count += d->lane_count;
			continue;
		}
		client_tell(client, "%s: came back with other lanes; connecting to them", d->endpoint);
		rc = add_lanes(client, old[0], remap->lanes, &remap->count);
		if (rc < 0)
			return remap_refused(client, d, rc);
	}
	return 0;
}

static int remap_models(optd_client *client, struct remap *remap)
{
	for (const optd_model *m = client->models; m; m = m->next) {
		if (!m->runs)
			continue; /* being opened: mapped when its layout is known */
		int rc = model_runs(m, remap->lanes, remap->count, &remap->runs[m->slot]);
		if (rc < 0)
			return client_fail(client, rc, "out of memory");
	}
	return 0;
}

/* Frees what was made; what the client has goes on being its own. */
static void remap_give_up(const optd_client *client, struct remap *remap)
{
	for (uint32_t i = 0; i < remap->count; i++) {
		struct lane *lane = remap->lanes[i];
		if (lane->lane > 0 && !fits(client, &client->daemons[lane->daemon]))
			lane_free(lane);
	}
	free(remap->lanes);
	for (uint32_t i = 0; i < INFLIGHT_SLOTS; i++)
		free(remap->runs[i]);
}

static void remap_adopt(optd_client *client, struct remap *remap)
{
	/* Before lanes go: nothing may be under way on them. */
	for (struct call *call = client->calls; call; call = call->next)
		for (uint32_t i = 0; i < client->lane_count; i++)
			inflight_cancel(&client->lanes[i]->session.inflight, call);
	for (uint32_t i = 0; i < client->daemon_count; i++) {
		const struct daemon *d = &client->daemons[i];
		bool kept = fits(client, d);
		for (uint32_t k = 1; k < d->lane_count && !kept; k++)
			lane_free(client->lanes[d->first_lane + k]);
	}
	adopt(client, remap->lanes, remap->count);
	for (optd_model *m = client->models; m; m = m->next) {
		if (!remap->runs[m->slot])
			continue;
		model_map(m, remap->runs[m->slot]);
		model_attach(m);
		call_restart(client, m);
	}
}

/* Fails all calls, or only those that are of no model. */
static void fail_calls(optd_client *client, bool models, int status, const char *text)
{
	for (struct call *call = client->calls, *next; call; call = next) {
		next = call->next;
		if (models || !call->model)
			call_fail(client, call, status, text);
	}
}

/* All calls fail with what was wrong when it was last tried. */
static int remap_failed(optd_client *client, int rc)
{
	fail_calls(client, true, rc, client->map_why);
	/* The cure may be another start of the server, and no call gets as far as
	 * noticing it. */
	for (uint32_t i = 0; i < client->daemon_count; i++)
		if (!fits(client, &client->daemons[i]))
			session_poke(&client->lanes[client->daemons[i].first_lane]->session);
	return client_fail(client, rc, "%s", client->map_why);
}

/* What is tried again in a while: an address cannot become right by itself, a lack of
 * descriptors or of memory can. */
static int remap_not_now(optd_client *client, int rc, uint64_t now_ms)
{
	snprintf(client->map_why, sizeof(client->map_why), "%s", client->error);
	/* Not in each turn: sockets that are closed take a while to be gone. */
	client->map_retry_ms = now_ms + REMAP_RETRY_MS;
	client->map_held = rc != OPTD_INVALID;
	if (!client->map_held)
		return remap_failed(client, rc);
	client_tell(client, "%s; trying again", client->map_why);
	return 0;
}

int connect_remap(optd_client *client, uint64_t now_ms)
{
	struct remap remap = {0};
	if (now_ms < client->map_retry_ms)
		return client->map_held ? 0 : remap_failed(client, client->map_status);
	client->map_held = false;
	int rc = remap_lanes(client, &remap);
	if (rc == 0)
		rc = remap_models(client, &remap);
	if (rc < 0) {
		remap_give_up(client, &remap);
		return remap_not_now(client, rc, now_ms);
	}
	client->map_changed = false;
	remap_adopt(client, &remap);
	fail_calls(client, false, OPTD_CANCELLED,
	           "the server came back with other lanes; make the call again");
	return 0;
}

/* ---- connecting ------------------------------------------------------- */

static int parse(optd_client *client, const char *endpoints)
{
	const char *at = endpoints;
	uint32_t count = 1;
	for (const char *p = endpoints; *p; p++)
		count += *p == ',';
	if (count > LIMIT_DAEMONS)
		return client_fail(client, OPTD_TOO_LARGE, "%u endpoints, at most %u are allowed", count,
		                   LIMIT_DAEMONS);
	client->daemons = calloc(count, sizeof(*client->daemons));
	if (!client->daemons)
		return client_fail(client, OPTD_NO_MEMORY, "out of memory");
	for (uint32_t i = 0; i < count; i++) {
		while (*at == ' ')
			at++;
		size_t length = strcspn(at, ",");
		size_t text = length;
		while (text > 0 && at[text - 1] == ' ')
			text--;
		if (text == 0 || text > LIMIT_ENDPOINT_BYTES)
			return client_fail(client, OPTD_INVALID,
			                   "endpoint %u in '%s' has %zu characters, 1 to %u are allowed", i + 1,
			                   endpoints, text, LIMIT_ENDPOINT_BYTES);
		memcpy(client->daemons[i].endpoint, at, text);
		client->daemon_count++;
		at += length + (at[length] == ',');
	}
	return 0;
}

/* Waits until every lane has answered HELLO. */
static int await_welcome(optd_client *client, uint64_t deadline_ms)
{
	char why[256];
	for (;;) {
		const struct lane *down = NULL;
		for (uint32_t i = 0; i < client->lane_count; i++) {
			const struct lane *lane = client->lanes[i];
			if (lane->session.state == SESSION_FAILED)
				return client_fail(client, lane->session.status, "%s: %s", lane->endpoint,
				                   lane->why);
			if (lane->session.state != SESSION_UP)
				down = lane;
		}
		if (!down)
			return 0;
		if (hub_now_ms() >= deadline_ms) {
			link_diagnose(down->endpoint, LINK_DIAGNOSE_MS, why, sizeof(why));
			return client_fail(client, OPTD_UNREACHABLE, "no server answers at %s: %s%s",
			                   down->endpoint, why, status_advice(OPTD_UNREACHABLE));
		}
		client_turn(client, deadline_ms);
		if (client->map_status < 0)
			return client->map_status;
	}
}

static int check_daemons(optd_client *client)
{
	for (uint32_t i = 0; i < client->daemon_count; i++) {
		const struct daemon *d = &client->daemons[i];
		if (client->lanes[i]->session.lane != 0)
			return client_fail(client, OPTD_INVALID,
			                   "%s is lane %u of a daemon; give its first endpoint, %s", d->endpoint,
			                   client->lanes[i]->session.lane, d->endpoints[0]);
		for (uint32_t j = 0; j < i; j++)
			if (client->daemons[j].id == d->id)
				return client_fail(client, OPTD_INVALID,
				                   "%s and %s are the same daemon; list each once",
				                   client->daemons[j].endpoint, d->endpoint);
	}
	return 0;
}

static int check_lanes(optd_client *client)
{
	for (uint32_t i = 0; i < client->lane_count; i++) {
		const struct lane *lane = client->lanes[i];
		const struct daemon *d = &client->daemons[lane->daemon];
		const struct session *s = &lane->session;
		if (s->daemon_id != client->lanes[d->first_lane]->session.daemon_id || s->lane != lane->lane)
			return client_fail(client, OPTD_WRONG_MAP,
			                   "%s should be lane %u of the daemon at %s, but is lane %u of "
			                   "daemon %016" PRIx64 "; check its advertised endpoints",
			                   lane->endpoint, lane->lane, d->endpoint, s->lane, s->daemon_id);
	}
	return 0;
}

static int connect_first(optd_client *client, uint64_t deadline_ms)
{
	int rc = 0;
	client->lanes = calloc(client->daemon_count, sizeof(*client->lanes));
	if (!client->lanes)
		return client_fail(client, OPTD_NO_MEMORY, "out of memory");
	for (uint32_t i = 0; i < client->daemon_count && rc == 0; i++) {
		struct lane *lane = lane_new(client, client->daemons[i].endpoint, i, 0, &rc);
		if (lane)
			client->lanes[client->lane_count++] = lane;
	}
	if (rc == 0)
		rc = await_welcome(client, deadline_ms);
	if (rc == 0)
		rc = check_daemons(client);
	return rc;
}

static int connect_rest(optd_client *client, uint64_t deadline_ms)
{
	uint32_t count = 0;
	int rc = 0;
	struct lane **firsts = client->lanes;
	struct lane **lanes = calloc(lanes_wanted(client), sizeof(*lanes));
	if (!lanes)
		return client_fail(client, OPTD_NO_MEMORY, "out of memory");
	/* Every first lane is taken over, also behind an error, so that none leaks. */
	for (uint32_t i = 0; i < client->daemon_count; i++) {
		int added = add_lanes(client, firsts[i], lanes, &count);
		if (rc == 0)
			rc = added;
	}
	adopt(client, lanes, count);
	if (rc == 0)
		rc = await_welcome(client, deadline_ms);
	if (rc == 0)
		rc = check_lanes(client);
	return rc;
}

static int prepare(optd_client *client, const optd_options *options)
{
	char why[256] = "out of memory";
	client->rank = options ? options->rank : MSG_NO_RANK;
	if (options) {
		client->notice = options->notice;
		client->user = options->user;
	}
	optd_set_timeout(client, options ? options->timeout_ms : 0);
	if (client->rank < MSG_NO_RANK || client->rank >= (int32_t)LIMIT_WORKERS)
		return client_fail(client, OPTD_INVALID, "rank %d: ranks are 0 to %u, or -1 to read only",
		                   client->rank, LIMIT_WORKERS - 1);
	client->number = hub_random();
	client->next_ticket = 1;
	hub_host(client->host, sizeof(client->host));
	client->hello = (struct msg_hello){
		.protocol_min = LIMIT_PROTOCOL_MIN,
		.protocol_max = LIMIT_PROTOCOL_MAX,
		.host = text_of(client->host),
		.pid = (uint32_t)getpid(),
		.software = text_of(SOFTWARE),
	};
	client->arena = wire_arena_new();
	client->pool = pool_new();
	if (!client->arena || !client->pool)
		return client_fail(client, OPTD_NO_MEMORY, "%s", why);
	int rc = hub_new(&client->hub, why, sizeof(why));
	return rc < 0 ? client_fail(client, rc, "%s", why) : 0;
}

static void client_free(optd_client *client)
{
	while (client->calls)
		call_free(client, client->calls);
	while (client->models) {
		optd_model *model = client->models;
		optd_model_close(&model);
	}
	for (uint32_t i = 0; i < client->lane_count; i++)
		lane_free(client->lanes[i]);
	free(client->lanes);
	for (uint32_t i = 0; i < client->daemon_count; i++)
		free(client->daemons[i].endpoints);
	free(client->daemons);
	/* ZeroMQ gives the last buffers back before the pool goes. */
	hub_free(client->hub);
	pool_free(client->pool);
	wire_arena_free(client->arena);
	free(client);
}

int optd_connect(const char *endpoints, const optd_options *options, optd_client **out)
{
	if (!endpoints || !out) {
		connect_error_set("optd_connect needs endpoints and a place for the client");
		return OPTD_INVALID;
	}
	*out = NULL;
	optd_client *client = calloc(1, sizeof(*client));
	if (!client) {
		connect_error_set("out of memory");
		return OPTD_NO_MEMORY;
	}
	int rc = prepare(client, options);
	uint64_t deadline_ms = hub_now_ms() + client->timeout_ms;
	if (rc == 0)
		rc = parse(client, endpoints);
	if (rc == 0)
		rc = connect_first(client, deadline_ms);
	if (rc == 0)
		rc = connect_rest(client, deadline_ms);
	if (rc < 0) {
		connect_error_set(client->error);
		client_free(client);
		return rc;
	}
	client_leave(client);
	*out = client;
	return 0;
}

void optd_close(optd_client **client_pointer)
{
	optd_client *client = client_pointer ? *client_pointer : NULL;
	if (!client)
		return;
	*client_pointer = NULL;
	while (client->calls)
		call_free(client, client->calls);
	admin_goodbye(client, GOODBYE_MS);
	client_free(client);
}
