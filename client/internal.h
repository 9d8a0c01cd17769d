/*
 * What the library's files share: the client, its lanes, models and calls.
 *
 *     connect.c  endpoints to lanes, and lanes made anew after a restart
 *     client.c   the turn: receive, dispatch, send, wait
 *     reach.c    connections that are lost, and telling of them
 *     open.c     opening and closing models
 *     open_specs.c  what is said then
 *     model.c    a model's lanes, routes and steps; restarts of its servers
 *     call.c     a call's life, from route to result
 *     answer.c   what its requests carry and its answers bring
 *     verdict.c  gradients that are not finite, loss scales, how a step ended
 *     reject.c   telling the others of one that was not sent
 *     inplace.c  arrays that are gradient and weights at once
 *     push.c     the public calls on a model: push, pull, tickets
 *     init.c     first weights
 *     check.c    what the wire would refuse
 *     clip.c     clipping by a norm
 *     norm.c     parts of norms, carried between servers
 *     average.c  an average of the weights: what is said of it
 *     admin.c    status, lanes, save, drop, goodbye
 *     set.c      changes of hyper-parameters
 *     error.c    sentences
 *
 * The machine that decides what is sent (route, inflight, session) is pure;
 * these files lend it arrays, a clock and a network.
 */
#ifndef OPTD_CLIENT_INTERNAL_H
#define OPTD_CLIENT_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/keep.h"
#include "client/link.h"
#include "client/pool.h"
#include "client/reach.h"
#include "client/relay.h"
#include "client/route.h"
#include "client/session.h"
#include "proto/layout.h"
#include "proto/msg.h"
#include "proto/status.h"
#include "proto/wire.h"

#include "client/optd.h"

/* Longer than a server's step_timeout (60 s unless its config says otherwise) by what a
 * model's bytes may take on the way there: the server knows who is missing and why, and
 * its error should come first. */
#define CLIENT_TIMEOUT_MS 90000u
#define CLIENT_ERROR_BYTES 2048u
/* A notice that repeats is told again after this time. */
#define CLIENT_NOTICE_MS 5000u
/* Messages received from one lane before the others have their turn. */
#define CLIENT_BURST 16u

struct optd_layout {
	struct layout *layout;
};

/* One lane of one daemon. */
struct lane {
	char endpoint[LIMIT_ENDPOINT_BYTES + 1];
	uint32_t daemon, lane;
	struct link *link;
	struct session session;
	struct reach reach;
	bool blocked; /* something waits for the link to take it */
	uint64_t bytes; /* link_bytes when something was asked that is answered at once */
	char why[LIMIT_TEXT_BYTES]; /* why the session failed */
};

struct daemon {
	char endpoint[LIMIT_ENDPOINT_BYTES + 1]; /* as the caller gave it: lane 0 */
	uint32_t first_lane, lane_count;
	uint64_t id;
	/* Where its lanes listen, as its last WELCOME says; lane_count texts. */
	char (*endpoints)[LIMIT_ENDPOINT_BYTES + 1];
	uint32_t endpoint_count;
};

/* An array that a push_pull reads its gradient from and writes weights into. */
struct inplace_array {
	const float *begin;
	uint64_t count;
	uint32_t tensor; /* or INPLACE_WHOLE */
};
#define INPLACE_WHOLE UINT32_MAX

enum call_state { CALL_QUEUED, CALL_ACTIVE, CALL_DONE };

/* One call of the program: the messages of a route, or one for each lane of a
 * list. */
struct call {
	struct call *next, *prev; /* of the client, in the order of starting */
	optd_ticket ticket;
	optd_model *model; /* NULL: admin */
	enum msg_verb verb;
	enum call_state state;

	const struct route *route;
	enum dtype type;    /* of what is pushed */
	const void *source; /* the array of an item-less call */
	float *target;
	const void *const *sources; /* by item */
	float *const *targets;
	bool whole;    /* route is that of the whole model */
	bool in_place; /* an answer overwrites the gradient it answers */
	bool overwrote; /* and one has */
	struct inplace_array *shared; /* with in_place; owned */
	uint32_t shared_count;
	uint64_t step, base_version, min_version, token;
	enum msg_source source_of_pull;
	double weight;
	double loss_scale;
	bool poisoned; /* its gradient is not finite, and the step is to be skipped */
	uint32_t poison_tensor;
	/* What answers have said of its step. */
	uint32_t skipped_rank_plus_one, skipped_tensor_plus_one;
	uint64_t zeroed;

	const char *name;       /* admin: the model, or "" */
	const struct msg_set *set; /* SET: its body */
	const uint32_t *lanes;  /* admin, INIT without parts, rejects: lane of each message */
	uint32_t *rejects;      /* not a push, but tells these lanes that there is none; owned */
	void (*answer)(struct call *call, uint32_t index, const struct msg *reply);
	void *user;

	uint32_t total, left;
	uint8_t *final; /* by message: answered */
	int status;
	uint32_t failed; /* message of the first error, by shard order */
	uint64_t version, version_max;
	uint64_t *seen; /* the highest that each daemon has told; NULL: admin */
	char waiting[LIMIT_TEXT_BYTES + 64]; /* the latest WAITING notice */
	char error[CLIENT_ERROR_BYTES];
};

struct optd_model {
	optd_client *client;
	optd_model *next;
	char *name;
	uint32_t slot;
	struct layout *layout;
	struct session_spec *specs; /* by daemon */
	struct keep keep; /* what specs and rule point to */
	struct msg_rule rule; /* the model's, as the lead answered */
	bool rule_lost; /* no memory for it */
	void *layout_bytes;

	struct layout_run *runs; /* by lane; count 0: not the model's */
	struct relay *relay; /* of one that clips, shared among servers; made by its first push */
	struct route *whole;
	struct route *some; /* the last route of chosen tensors */
	uint32_t *some_tensors;
	uint32_t some_count;
	bool some_push;

	uint64_t step;
	uint64_t seen_step; /* every lane has completed so many of this worker's */
	uint64_t known_run;
	double weight;
	double loss_scale; /* as the program gave it; 0: it did not */
	double next_scale; /* as the lead says; 0: the server keeps none */
	uint64_t poison_step_plus_one; /* the last step that was pushed as not finite; 0: none */
	uint32_t poison_tensor;
	bool has_outcome;
	optd_step_outcome outcome;
	uint64_t version, version_max;
	uint64_t base_version; /* of the weights that the program has */
	optd_model_info info;
	/* Arrays of a step that was broken off, part gradient, part weights. */
	struct inplace_array *spoiled;
	uint32_t spoiled_count;
	/* What a lane says that has OPEN asked again. */
	const struct lane *held_by;
	char held[LIMIT_TEXT_BYTES];
	int broken; /* OPTD_ROLLBACK or OPTD_MODEL_LOST until resumed */
	char broken_text[CLIENT_ERROR_BYTES];
};

struct optd_client {
	int32_t rank;
	uint32_t timeout_ms;
	void (*notice)(void *user, const char *text);
	void *user;
	uint64_t number; /* of this client, the same in all its sessions */
	char host[128];
	struct msg_hello hello;

	struct hub *hub;
	struct pool *pool;
	struct wire_arena *arena;
	struct daemon *daemons;
	uint32_t daemon_count;
	struct lane **lanes;
	uint32_t lane_count;
	bool map_changed; /* a daemon came back with other lanes */
	int map_status;   /* why they could not be connected to in the last turn; 0: they are */
	uint64_t map_retry_ms; /* not before this, unless the map changes again */
	bool map_held; /* for something that may pass: nothing is sent meanwhile */
	char map_why[CLIENT_ERROR_BYTES];

	optd_model *models;
	uint64_t slots; /* taken */
	struct call *calls, *last_call;
	optd_ticket next_ticket;
	uint32_t finished; /* calls that became done */

	char told[LIMIT_TEXT_BYTES + 512]; /* the latest notice */
	uint64_t told_ms;
	uint64_t news_ms;  /* when connections were last looked at */
	uint64_t until_ms; /* deadline of the call that waits; 0: none does */
	char error[CLIENT_ERROR_BYTES];
	uint8_t header[LIMIT_HEADER_BYTES];
	struct msg out, in; /* large: kept off the stack */
};

/* ---- error.c ---------------------------------------------------------- */

/* Sets the client's error text and returns status. */
int client_fail(optd_client *client, int status, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Tells the program's notice function. */
void client_tell(optd_client *client, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Copies a message's text, terminated and cut to fit; returns out. */
const char *text_copy(struct msg_text text, char *out, size_t out_bytes);
struct msg_text text_of(const char *string);
/* Reads a text as an error of optd_connect on this thread. */
void connect_error_set(const char *text);
/* What to do about a status, as the end of a sentence, or "". */
const char *status_advice(int status);
/* One sentence about a failure: which model (may be NULL) on which server, what was
 * said about it (empty: the status's own words), and what to do. */
void describe(char *out, size_t out_bytes, const optd_model *model, const char *endpoint,
              const char *said, int status);

/* ---- client.c --------------------------------------------------------- */

/* Moves what can be moved without waiting.  Returns whether anything moved. */
bool client_pump(optd_client *client);
/* client_pump, and if nothing moved, waits for something to do. */
void client_turn(optd_client *client, uint64_t deadline_ms);
/* Arms the descriptor; every public function that pumps ends with it. */
void client_leave(optd_client *client);
uint64_t client_deadline(const optd_client *client);
/* Why a call is late, as one clause: the state of the first lane that is not up, with
 * the last that was heard about the call (may be ""), or that alone. */
void client_explain(optd_client *client, const char *heard, char *text, size_t text_bytes);

/* ---- connect.c -------------------------------------------------------- */

struct lane *lane_new(optd_client *client, const char *endpoint, uint32_t daemon, uint32_t lane, int *rc);
void lane_free(struct lane *lane);
/* Takes a lane's WELCOME: notes the endpoints, and whether they changed. */
void connect_welcomed(optd_client *client, struct lane *lane, const struct msg *reply);
/* Makes the lanes of daemons that came back with other ones.  All of them or, on an
 * error, none: then every call there is fails with the text, which is the client's
 * error text too; but for a lack of descriptors or memory calls wait (map_held).  It is
 * tried again after a second, or when a server names others. */
int connect_remap(optd_client *client, uint64_t now_ms);

/* ---- open_specs.c ---------------------------------------------------------- */

/* Makes model->specs of the caller's options, which may be NULL; sets the error text
 * where the layout is too large. */
int specs_make(optd_model *model, const optd_open_options *options);
/* The model has weights and all lanes have agreed: OPEN names its hyper-parameters no more.
 * They may change while it runs, until it is long since what it had when it was opened. */
void specs_agreed(optd_model *model);
void specs_free(optd_model *model);

/* ---- open.c, model.c ------------------------------------------------------- */

optd_model *model_by_slot(const optd_client *client, uint32_t slot);
/* The endpoint that errors about a model name: its lead. */
const char *model_endpoint(const optd_model *model);
/* Cuts the layout as the rules that the lead has told need it; id is the lead's layout id. */
int model_cut(optd_model *model, uint64_t id);
/* Which blocks each lane of a list has.  After model_cut. */
int model_runs(const optd_model *model, struct lane *const *lanes, uint32_t count,
               struct layout_run **out);
/* Takes the runs, which fit the client's lanes; routes are made anew as needed. */
void model_map(optd_model *model, struct layout_run *runs);
/* Opens the model on every lane that has blocks of it. */
void model_attach(optd_model *model);
/* Waits until it is open everywhere.  Returns the first failure. */
int model_settle(optd_model *model, uint64_t deadline_ms);
/* The program has what these versions of the model are, by daemon: it says so to each when
 * it opens the model there again. */
void model_saw(optd_model *model, const uint64_t *versions);
/* Takes OPENED or a failure to open from a lane. */
void model_opened(optd_model *model, struct lane *lane, const struct session_event *event,
                  const struct msg *reply);
/* Every call fails like this until the program has decided. */
void model_break(optd_model *model, int status, const char *text);
/* Fails if the model is broken; tries again what did not open before. */
int model_ready(optd_model *model);
/* The routes of a call. */
int model_route(optd_model *model, const struct route **out);
int model_route_some(optd_model *model, const uint32_t *tensors, uint32_t count, bool push,
                     const struct route **out);
/* The step is done: the next one is due. */
void model_advance(optd_model *model, uint64_t step);
/* Goes on from where the lanes, all open, say that this worker is. */
void model_take_steps(optd_model *model);

/* ---- call.c ----------------------------------------------------------- */

/* Makes a call of `total` messages; NULL without memory.  Fill it in, then start it. */
struct call *call_new(optd_client *client, optd_model *model, enum msg_verb verb, uint32_t total);
void call_free(optd_client *client, struct call *call);
/* Queues its requests, or, for a push behind another push, waits its turn. */
int call_start(optd_client *client, struct call *call);
/* Whether it is one of those of a model that run one after the other. */
bool call_takes_turn(const struct call *call);
/* Starts the next push of a model whose last one is done. */
void call_next(optd_model *model);
/* The last answer is there. */
void call_complete(optd_client *client, struct call *call);
/* Blocks until done or the deadline, then frees the call.  Returns its result with
 * the client's error text set. */
int call_finish(optd_client *client, struct call *call, uint64_t deadline_ms);
/* Sets the client's error text from a call that is done; returns its status. */
int call_result(optd_client *client, const struct call *call);
/* The latest that is known of what a call waits for, or "".  The server says it only
 * after a while (waiting_notice). */
const char *call_heard(const struct call *call);
/* Ends a call: whatever is under way is given up. */
void call_fail(optd_client *client, struct call *call, int status, const char *text);
/* Asks again for messages of pushes under way that this lane's daemon may have forgotten. */
void call_recall(optd_client *client, optd_model *model, struct lane *lane);
/* The lanes changed: calls on the model start from the beginning. */
void call_restart(optd_client *client, optd_model *model);
/* Queues a request of a call on a lane; it fails the call where that cannot be. */
int call_request(optd_client *client, struct call *call, struct lane *lane, enum msg_verb verb, uint64_t bytes,
                 uint32_t index);
/* What an error on one message means for the model as a whole. */
void call_judge(struct call *call, const struct lane *lane, const struct msg *reply, int status);
/* Fills in what the session leaves open, and takes a buffer for the payload. */
int call_fill(optd_client *client, const struct inflight_request *request, struct msg *msg,
              void **buffer);
void call_answer(optd_client *client, struct lane *lane, const struct inflight_request *request,
                 const struct msg *reply);
void call_notice(optd_client *client, struct lane *lane, const struct inflight_request *request,
                 const struct msg *reply);

/* ---- verdict.c -------------------------------------------------------- */

/* An array that is pushed. */
struct pushed {
	const void *values;
	enum dtype type; /* DTYPE_COUNT: the program named none that there is */
};

/* Where a call's gradient is not finite, as far as it has been looked through. */
struct verdict {
	bool poisoned;
	uint32_t tensor;
};

/* Looks through the gradient of the whole model, or of one tensor, as its policy has it.
 * OPTD_NOT_FINITE, or 0 and what was found. */
int verdict_check(optd_model *model, struct pushed gradient, struct verdict *verdict);
int verdict_check_tensor(optd_model *model, uint32_t tensor, struct pushed gradient, struct verdict *verdict);
/* A push is made: what its messages say of the gradient. */
void verdict_mark(struct call *call, struct verdict verdict);
/* Its step is known: one that was pushed as not finite before stays so, since servers may
 * have heard it of some blocks. */
void verdict_begin(struct call *call);
void verdict_fill(const struct call *call, struct msg *msg);
void verdict_answer(struct call *call, const struct lane *lane, const struct msg *reply);
/* The result of a push that succeeded. */
int verdict_result(const struct call *call);
/* Whether the lead knows what the program asked for. */
int verdict_known(optd_model *model, const struct msg_opened *lead);
/* The model is open on all lanes: whether they are of one mind. */
void verdict_settle(optd_model *model);
/* The lead has opened the model, anew or again. */
void verdict_opened(optd_model *model, const struct msg_opened *lead);

/* ---- reject.c --------------------------------------------------------- */

/* The model's policy is reject, and this tensor's gradient is not finite: the lanes are to
 * hear it, if others wait for this worker. */
void reject_start(optd_model *model, uint32_t tensor);
/* Sends that; `waits`: and sees to it for up to a few seconds.  Keeps the error text. */
void reject_finish(optd_model *model, bool waits);
void reject_fill(const struct call *call, uint32_t index, struct msg *msg);

/* ---- inplace.c -------------------------------------------------------- */

/* Notes the arrays that a call uses for both: of these tensors, or, for NULL, the one of
 * the whole model. */
int inplace_keep(struct call *call, const uint32_t *tensors, uint32_t count);
/* The call failed: the model keeps its arrays in mind, if anything was overwritten. */
void inplace_spoil(optd_model *model, struct call *call);
/* The step is done, or the program has decided. */
void inplace_forget(optd_model *model);
/* Refuses a gradient in such an array. */
int inplace_check(optd_model *model, const void *gradient, uint64_t bytes);

/* ---- check.c ---------------------------------------------------------- */

/* Each returns 0, or fails with a sentence, before anything is sent. */
int check_name(optd_client *client, const char *name);
int check_open_options(optd_client *client, const char *model, const optd_open_options *options);
int check_set(optd_client *client, const char *model, const char *tensors, const optd_hyper *hypers,
              uint32_t hyper_count);
int check_version(optd_model *model, uint64_t min_version);

/* ---- clip.c ----------------------------------------------------------- */

int check_clip(optd_client *client, const char *model, const optd_open_options *options);
/* A server that does not know clipping passes over it, and would train without. */
int check_clip_known(optd_model *model);

/* ---- norm.c ----------------------------------------------------------- */

/* A push is under way: what it asks of parts of its step's norm. */
void norm_begin(optd_client *client, struct call *call);
int norm_fill(optd_client *client, const struct call *call, uint32_t index, struct msg *msg, void **buffer);
/* May end the call. */
void norm_answer(optd_client *client, struct call *call, const struct lane *lane, uint32_t index,
                 const struct msg *reply);
/* The lane's daemon has restarted: it is told again. */
void norm_recall(optd_client *client, struct call *call, const struct lane *lane);

/* Refuses hyper-parameters that are none. */
int check_hypers(optd_client *client, const char *model, const optd_hyper *hypers, uint32_t count);

/* ---- average.c -------------------------------------------------------- */

/* The average that options name, checked like them; and as OPEN says it, kept.  False
 * without memory. */
int average_check(optd_client *client, const char *model, const optd_open_options *options);
bool average_keep(struct keep *keep, const optd_open_options *options, struct msg_average *out);
/* "ema decay=0.999 ...", or "". */
void average_describe(const struct msg_average *average, char *text, size_t text_bytes);

/* ---- finite.c --------------------------------------------------------- */

/* Index of the first element that is NaN or further from 0 than the limit, or `count`. */
uint64_t finite_check(const void *values, enum dtype type, uint64_t count, float limit);
/* The largest float32 that is finite when the server has divided it by a loss scale (0: none). */
float finite_limit(double loss_scale);
/* What that element is: "nan" or "-inf". */
const char *finite_name(const void *values, enum dtype type, uint64_t index);

/* ---- set.c ------------------------------------------------------------ */

/* The changes of a row, with texts that end in NUL.  A record has no more of them. */
#define TOLD_HYPERS (LIMIT_HEADER_BYTES / 12)
struct told_changes {
	optd_change changes[LIMIT_CHANGES];
	optd_hyper hypers[TOLD_HYPERS];
	char texts[2 * LIMIT_HEADER_BYTES];
};
void tell_changes(const struct wire_model_status *status, struct told_changes *room, optd_status_row *row);

/* ---- admin.c ---------------------------------------------------------- */

/* Starts a verb on lanes, which stay until it is finished: verb, name, set, lanes, total,
 * answer and user are looked at.  NULL without memory. */
struct call *admin_start(optd_client *client, const struct call *about);
/* Until it is done, its time is over, or a server that it asks is gone. */
int admin_finish(optd_client *client, struct call *call, uint64_t deadline_ms);
/* Says goodbye to every lane that is up, for at most ms. */
void admin_goodbye(optd_client *client, uint64_t ms);

#endif
