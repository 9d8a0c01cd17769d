/* Two counters and what is learned from them. */
#include "server/net/intake.h"

/* Turns of the lane without a message, while more than one must be there. */
#define STALLED_TURNS 1
/* Empty turns after which all that was whole has been given: the first may have begun
 * before, and ZeroMQ's thread may have been about to hand a message over. */
#define SETTLED_TURNS 2

#define NOT_ASKED UINT64_MAX

size_t intake_frame_bytes(size_t size)
{
	return size + (size > UINT8_MAX ? 9 : 2);
}

void intake_reset(struct intake *intake)
{
	intake->commands = 0;
	intake->phase = INTAKE_NEW;
	intake->moved = 0;
	atomic_store(&intake->given, 0);
	atomic_store(&intake->first, NOT_ASKED);
}

void intake_given(struct intake *intake, uint64_t bytes)
{
	/* In this order: a message that is not in settled_given is in first. */
	atomic_fetch_add(&intake->given, bytes);
	if (atomic_load(&intake->first) == 0)
		atomic_store(&intake->first, bytes);
}

static void note(struct intake *intake, uint64_t taken, const struct intake_turns *turns)
{
	atomic_store(&intake->first, NOT_ASKED);
	intake->noted = taken;
	intake->noted_empty = turns->empty;
	intake->phase = INTAKE_NOTED;
}

static void settle(struct intake *intake)
{
	atomic_store(&intake->first, 0);
	intake->settled_given = atomic_load(&intake->given);
	intake->phase = INTAKE_SETTLED;
}

static void learn(struct intake *intake, uint64_t message_bytes)
{
	uint64_t rest = intake->noted > intake->settled_given ? intake->noted - intake->settled_given : 0;

	if (atomic_load(&intake->first) <= message_bytes && rest > intake->commands)
		intake->commands = rest;
}

void intake_look(struct intake *intake, const struct intake_bytes *bytes,
                 const struct intake_turns *turns, uint64_t message_bytes)
{
	/* More than has come: the last messages of the descriptor's owner before. */
	if (bytes->given_before > bytes->come)
		atomic_fetch_sub(&intake->given, bytes->given_before - bytes->come);
	if (intake->phase == INTAKE_NOTED && turns->empty - intake->noted_empty > SETTLED_TURNS)
		settle(intake);
	if (intake->phase == INTAKE_SETTLED && atomic_load(&intake->first) != 0) {
		learn(intake, message_bytes);
		intake->phase = INTAKE_NEW;
	}
	if (intake->phase == INTAKE_NEW)
		note(intake, bytes->taken, turns);
}

uint64_t intake_held(const struct intake *intake, uint64_t taken)
{
	uint64_t gone = atomic_load(&intake->given) + intake->commands;
	return taken > gone ? taken - gone : 0;
}

bool intake_stalled(struct intake *intake, uint64_t held, const struct intake_turns *turns,
                    uint64_t message_bytes)
{
	uint64_t given = atomic_load(&intake->given);

	if (given != intake->moved || held <= message_bytes) {
		intake->moved = given;
		intake->moved_turn = turns->all;
	}
	return turns->all - intake->moved_turn > STALLED_TURNS;
}
