/*
 * Room: the memory that answers take until they are read.
 *
 * A rank's answers are in the models' formula.  All others, and what a rank leaves
 * beyond that, may take what the models leave of limits.memory.  A peer may have as
 * much of it as is still free, so that those who leave much are the first to hear
 * BUSY and something is left for one who comes later.  When it is gone even so, who
 * has nothing unread is answered in place of one who does not read at all.
 */
#include <stdio.h>

#include "server/net/lane_parts.h"

/* What answers may always take, so that a model can be exported: models and answers
 * together keep to so much more than limits.memory. */
static uint64_t room_least(const struct lane *lane)
{
	return LIMIT_ANSWER_WINDOWS * (uint64_t)lane->options.window_bytes;
}

/* What answers may take. */
static uint64_t room_left(const struct lane *lane)
{
	uint64_t models = engine_bytes(lane->engine), limit = lane->engine_options.memory_bytes;
	uint64_t left = limit > models ? limit - models : 0;
	uint64_t least = room_least(lane);

	return left > least ? left : least;
}

void room_log_unread(struct lane *lane, uint32_t number, const char *why)
{
	const struct peer *peer = &lane->peers.all[number];
	uint64_t idle_ms = peer->read_ms != 0 ? lane_now_ms() - peer->read_ms : 0, left_out;

	if (lane_may_log(lane, peer->fd, &left_out))
		log_event(lane->options.log, LOG_WARN, "unread", log_u64("lane", lane->options.index),
		          log_i64("connection", peer->fd),
		          log_u64("unread_bytes", peers_unread(&lane->peers, number)),
		          log_u64("idle_ms", idle_ms), log_str("why", why),
		          log_u64("left_out", left_out));
}

/* Lets go a peer that leaves much unread and reads nothing, if there is one. */
static bool make_room(struct lane *lane, bool ranks)
{
	uint32_t number = peers_idle(&lane->peers, ranks, lane_now_ms());

	if (number == PEERS_NONE)
		return false;
	const struct peer *peer = &lane->peers.all[number];
	room_log_unread(lane, number, "it reads nothing and others need the memory: cut");
	guard_cut(lane->guard, peer->fd, peer->socket, true);
	lane->counts.unsent++;
	lane_peer_gone(lane, number);
	return true;
}

/* Summed over all peers once between two sends: who asks for each of many peers in turn. */
static size_t beyond_all(struct lane *lane)
{
	if (!lane->beyond_is_known)
		lane->beyond = peers_beyond_all(&lane->peers);
	lane->beyond_is_known = true;
	return lane->beyond;
}

bool room_is_there(struct lane *lane, uint32_t peer, uint64_t share)
{
	const struct peers *peers = &lane->peers;
	uint64_t left = room_left(lane), own = peers_beyond(peers, peer);
	/* Those in the formula among them, so mostly the peers need not be summed. */
	uint64_t all = atomic_load(&peers->lent_bytes) + peers->queued_bytes;

	return all + own < left || peers_unread(peers, peer) < share || beyond_all(lane) + own < left;
}

bool room_for_answer(struct lane *lane, uint32_t peer, uint64_t share,
                     char text[static ROOM_TEXT_BYTES])
{
	const struct peers *peers = &lane->peers;
	uint64_t left = room_left(lane), own = peers_beyond(peers, peer);
	uint64_t all;

	if (room_is_there(lane, peer, share) || (own == 0 && make_room(lane, false)))
		return true;
	all = peers_beyond_all(peers);
	snprintf(text, ROOM_TEXT_BYTES,
	         "answers of %llu bytes wait to be read, %llu of them by you, and limits.memory leaves "
	         "%llu: read them, or try again later",
	         (unsigned long long)all, (unsigned long long)own, (unsigned long long)left);
	return false;
}

void room_before_open(struct lane *lane)
{
	uint64_t all = peers_beyond_all(&lane->peers), least = room_least(lane);

	engine_set_unread(lane->engine, all > least ? all - least : 0);
}

void room_after_open(struct lane *lane)
{
	const struct outbox *out = &lane->out;
	const struct outbox_entry *entry = out->count > 0 ? &out->entries[out->count - 1] : NULL;

	/* limits.models says BUSY, too.  One who comes to train goes before a worker that
	 * does not read: that one finds its rank when it goes on. */
	if (entry != NULL && entry->head.verb == MSG_OPEN && entry->head.status == OPTD_BUSY &&
	    engine_shard_count(lane->engine) < lane->engine_options.models && !make_room(lane, false))
		make_room(lane, true);
}
