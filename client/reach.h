/*
 * Reach: whether a lane's server can be reached, and telling the program when
 * it cannot.
 *
 * A lane is out of reach from its making, or from the loss of its connection,
 * until its HELLO is answered.  When that lasts longer than REACH_TELL_MS, the
 * program's notice function hears of it, and why, every REACH_AGAIN_MS, and once
 * when the server is back.
 */
#ifndef OPTD_CLIENT_REACH_H
#define OPTD_CLIENT_REACH_H

#include <stdbool.h>
#include <stdint.h>

/* A daemon that restarts is often back before anybody need know. */
#define REACH_TELL_MS 500u
#define REACH_AGAIN_MS 5000u
/* What asking for the reason may take: the program may have better to do. */
#define REACH_DIAGNOSE_MS 100u

struct optd_client;
struct lane;

/* Zeroed: out of reach, since when is not known yet. */
struct reach {
	bool connected;   /* the connection stands; HELLO may still be unanswered */
	bool told;        /* the program has heard that the server is away */
	uint64_t tell_ms; /* when it hears the next time; 0: not set */
};

/* Takes the news of every lane's connection: a lost one starts its session again
 * at once, not when the server's silence shows it. */
void reach_turn(struct optd_client *client, uint64_t now_ms);
/* Whether the lane is without a connection. */
bool reach_is_away(const struct lane *lane);
/* HELLO was answered. */
void reach_found(struct optd_client *client, struct lane *lane);

#endif
