/*
 * Sim: a whole cluster in one deterministic process.
 *
 * Real engines (daemons x lanes) and the client's real state machines (session,
 * inflight, route) over a virtual network and a virtual clock.  Messages travel as
 * structs.  A seed decides everything: the model, who has what in a step, delays,
 * and the faults:
 *
 *     cut        a connection breaks; all that is under way on it is lost, and both
 *                sides learn of it some time later
 *     drop       a connection goes deaf: it takes messages and delivers none
 *     duplicate  a request is delivered twice
 *     damage     a reply arrives and cannot be read
 *     reorder    connections run at their own speeds; on one, order is kept
 *     death      a worker's process dies, and another takes its rank
 *
 * What lanes of a daemon tell each other is late and in any order, but never lost; what
 * daemons have to tell each other of norms is carried by the workers.
 * Meanwhile the learning rate is changed.
 *
 * Training is sync, and a gradient is a function of (rank, step) and, in runs
 * without deaths, of the weights that the worker has pulled.  In some runs now and then one
 * is poisoned, so its step is skipped and everyone must be told; in some of these the server
 * keeps a loss scale.  So what must come
 * out is known: the naive reference with the same gradients.  Nobody may hang: a
 * run has a limit of virtual time.
 */
#ifndef OPTD_TEST_SIM_H
#define OPTD_TEST_SIM_H

#include <stdbool.h>
#include <stdint.h>

#include "client/relay.h"
#include "client/route.h"
#include "client/session.h"
#include "server/core/engine.h"
#include "tests/support/core_reference.h"
#include "tests/support/rng_seed.h"

#define SIM_ENGINES 6
#define SIM_WORKERS 4
#define SIM_LINKS 4096u
#define SIM_NO_LINK UINT32_MAX
#define SIM_SETS 4u

/* ---- network ------------------------------------------------------------ */

struct packet {
	struct packet *next;
	uint64_t at_ms; /* arrives */
	struct msg msg; /* masks and payload are the packet's own */
	uint8_t *masks;
	struct buf *payload;
	char text[LIMIT_TEXT_BYTES];
	bool damaged;
};

struct pipe {
	struct packet *first, *last;
	uint64_t last_ms; /* order is kept: nothing arrives before this */
};

/* A connection between one worker and one engine; its index is the peer number
 * that the engine knows. */
struct link {
	bool used, cut, deaf;
	uint32_t worker, engine;
	uint64_t server_ms, client_ms; /* when each side learns of the cut; 0: knows */
	uint32_t delay_ms;             /* this connection's speed */
	struct pipe up, down;
};

/* A message from one lane to another of its daemon. */
struct told {
	struct lane_message *message;
	uint32_t engine; /* that hears it */
	uint64_t at_ms;
};

/* ---- workers ------------------------------------------------------------ */

enum worker_state {
	WORKER_ABSENT,  /* until wake_ms */
	WORKER_LEAD,    /* opens the lead */
	WORKER_REST,    /* opens the other lanes */
	WORKER_INIT,    /* gives first weights */
	WORKER_END,     /* ends all lanes but the lead */
	WORKER_END_LEAD,
	WORKER_WEIGHTS, /* pulls before its first step */
	WORKER_PUSH,
	WORKER_PULL,
	WORKER_DONE,
};

struct worker {
	enum worker_state state;
	uint32_t rank;
	uint64_t wake_ms;
	uint64_t client; /* this process */
	struct msg_hello hello;
	struct session sessions[SIM_ENGINES];
	uint32_t links[SIM_ENGINES];
	struct session_spec specs[SIM_ENGINES];
	bool granted;
	uint64_t token;
	uint64_t step;
	bool whole;    /* this step's push is of all tensors, and brings their weights */
	uint32_t left; /* messages of the call under way */
	struct relay *relay;       /* parts of norms, or NULL */
	struct route *route;       /* whole model */
	struct route *some;        /* this step's */
	const struct route *call;  /* whichever is under way */
	uint32_t *tensors;         /* [tensor_count] chosen in this step */
	const void **items;       /* [tensor_count] their gradients */
	float *weights, *gradient; /* [elements] */
	double scale;  /* of its next loss, as the lead says; 0: there is none */
	double stated; /* of the step under way */
	bool *has;
};

struct sim {
	uint64_t seed, now_ms;
	struct rng rng;
	/* the plan */
	uint64_t counts[64];
	uint32_t tensor_count;
	struct layout *layout;
	struct model_settings settings;
	struct engine_preset preset;
	uint32_t daemons, lanes, workers, steps;
	bool poisons; /* some gradients are not finite */
	bool deaths; /* workers die, and gradients do not look at weights */
	uint32_t fault_every_ms;
	float *first_weights;
	/* the cluster */
	struct buf_pool *pool;
	struct engine *engines[SIM_ENGINES];
	struct outbox out;
	struct link *links; /* [SIM_LINKS] */
	uint32_t link_count;
	struct told told[SIM_ENGINES]; /* one for each shard at most */
	uint32_t told_count;
	struct worker worker[SIM_WORKERS];
	uint64_t processes;
	/* changes of the learning rate: the one under way, and those that were made */
	struct sim_set {
		uint32_t next; /* of its steps, engine by engine */
		uint64_t from;
		double lr;
		bool withdrawn;
	} set, sets[SIM_SETS];
	uint32_t set_count;
	/* what happened */
	uint64_t faults, died, delivered, duplicated, timeouts, skipped, clipped, overflowed;
	char failure[512]; /* the first thing that must not happen; empty: none */
};

/* Runs one seed to its end.  sim->failure says what went wrong. */
void sim_run(struct sim *sim, uint64_t seed);
void sim_free(struct sim *sim);
void sim_fail(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* sim_net.c */
uint32_t net_connect(struct sim *sim, uint32_t worker, uint32_t engine);
void net_send_up(struct sim *sim, uint32_t link, const struct msg *msg, const void *payload);
/* What the engine wants sent, with all answers to pushes; and to pulls that waited, now or
 * in a later turn. */
void net_send_down(struct sim *sim, uint32_t engine);
void net_send_kept(struct sim *sim, uint32_t engine);
/* A slice of the updates of whole tensors, of a random size. */
void net_work(struct sim *sim, uint32_t engine);
void net_cut(struct sim *sim, uint32_t link, bool client_learns);
void net_turn(struct sim *sim);
void net_fault(struct sim *sim);
void net_free(struct sim *sim);

/* sim_worker.c */
void worker_start(struct sim *sim, struct worker *worker, uint32_t rank, uint64_t wake_ms);
void worker_turn(struct sim *sim, struct worker *worker);
void worker_receive(struct sim *sim, struct worker *worker, uint32_t engine, struct packet *packet);
void worker_lost(struct sim *sim, struct worker *worker, uint32_t engine);
void worker_die(struct sim *sim, struct worker *worker);
void worker_free(struct worker *worker);

/* sim_set.c */
void set_turn(struct sim *sim);
void set_reference(const struct sim *sim, struct reference *reference);

/* sim_plan.c: what a rank has in a step, and what must come out. */
void plan_make(struct sim *sim);
void plan_gradient(const struct sim *sim, uint32_t rank, uint64_t step, const float *weights,
                   float *gradient, bool *has);
/* Multiplies with a loss scale what is a gradient of the loss, and nothing where it is 0. */
void plan_scale(const struct sim *sim, double scale, float *gradient);
/* Whether this rank's gradient is not finite; and the lowest rank of the step whose is not,
 * plus one. */
bool plan_poisons(const struct sim *sim, uint32_t rank, uint64_t step);
uint32_t plan_skipped(const struct sim *sim, uint64_t step);
bool plan_clips(const struct sim *sim);
void plan_compare(struct sim *sim);
struct layout *plan_layout(const struct sim *sim);
void plan_free(struct sim *sim);

#endif
