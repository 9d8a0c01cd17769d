/*
 * optd.h: the C library of optd, a parameter server.
 *
 * A program connects to one daemon or several, opens a model by name and layout,
 * gives it first weights if nobody has, and then pushes gradients and pulls
 * weights:
 *
 *     optd_client *client;
 *     optd_model *model;
 *     optd_connect("tcp://127.0.0.1:16783", &(optd_options){.rank = 0}, &client);
 *     optd_layout *layout = optd_layout_new();
 *     optd_layout_add(layout, "w", (const uint64_t[]){784, 10}, 2);
 *     optd_open(client, "demo", layout, &(optd_open_options){.optimizer = "adam"}, &model);
 *     if (optd_init(model, weights) == 0)
 *             optd_pull(model, weights, 0);   // somebody else's were taken
 *     while (training) {
 *             compute(weights, gradient);
 *             optd_push_pull(model, gradient, weights);
 *     }
 *     optd_close(&client);
 *
 * Results.  Every function that can fail returns OPTD_OK (0) or a negative
 * optd_status (a push also OPTD_SKIPPED, which is positive), and leaves a sentence about it
 * in optd_error(): which server, which model, both values, what to do (optd_layout_add alone
 * leaves none).  Outputs are written on success only; weights that were being pulled when a
 * call failed may be partly new.
 *
 * Time.  Each blocking call returns within the client's timeout (90 s unless
 * set).  Inside it, a lost connection is made again (optd_connect says when) and what
 * was not answered is sent again; the server counts each push once.
 *
 * Memory.  The library copies names and options.  Gradients and weights are the
 * caller's: with optd_start_* they must stay as they are until the ticket is
 * done.
 *
 * Threads.  A client and all that was opened through it belong to one thread at
 * a time.  Different clients share nothing.  The library installs no signal
 * handler.  Do not use a client in a child after fork().
 */
#ifndef OPTD_H
#define OPTD_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define OPTD_API __attribute__((visibility("default")))
#else
#define OPTD_API
#endif

#define OPTD_VERSION "0.1.0"

/* Status codes: those of proto/status.h that a function returns, repeated here so that
 * this header stands alone.  What is not negative is no error. */
#ifndef OPTD_PROTO_STATUS_H
enum optd_status {
	OPTD_SKIPPED = 3,
	OPTD_OK = 0,
	OPTD_INVALID = -1, OPTD_UNSUPPORTED = -2,
	OPTD_PROTOCOL = -3, OPTD_UNREACHABLE = -4,
	OPTD_TIMEOUT = -5, OPTD_NO_SESSION = -6,
	OPTD_STALE_EPOCH = -7, OPTD_STALE_INCARNATION = -8,
	OPTD_RANK_HELD = -9, OPTD_NO_MODEL = -10,
	OPTD_NO_TENSOR = -11, OPTD_LAYOUT = -12,
	OPTD_CONFLICT = -13, OPTD_HYPER = -14,
	OPTD_NOT_FINITE = -15, OPTD_TOO_LARGE = -16,
	OPTD_NO_MEMORY = -17, OPTD_NOT_READY = -18,
	OPTD_STEP_TIMEOUT = -19, OPTD_STEP_GAP = -20,
	OPTD_CHECKSUM = -21, OPTD_MALFORMED = -22,
	OPTD_DENIED = -23, OPTD_DRAINING = -24,
	OPTD_ROLLBACK = -25, OPTD_MODEL_LOST = -26,
	OPTD_EXISTS = -27, OPTD_WRONG_MAP = -28,
	OPTD_BUSY = -29, OPTD_IO = -30,
	OPTD_CORRUPT = -31, OPTD_NO_TOKEN = -32,
	OPTD_INTERNAL = -33, OPTD_CANCELLED = -34,
};
#endif

typedef struct optd_client optd_client;
typedef struct optd_model optd_model;
typedef struct optd_layout optd_layout;

/* Names a call that was started; 0 is none. */
typedef uint64_t optd_ticket;

/* "STEP_TIMEOUT" and "the step was not completed in time"; never NULL. */
OPTD_API const char *optd_status_name(int status);
OPTD_API const char *optd_status_text(int status);
/* The library's version, "0.1.0". */
OPTD_API const char *optd_version(void);

/* ---- clients ---------------------------------------------------------- */

typedef struct optd_options {
	/* This worker's number, 0 to workers-1, the same after a restart; -1 for a
	 * client that only reads.  A zeroed struct means rank 0; NULL options mean
	 * a reader. */
	int32_t rank;
	/* Milliseconds that a blocking call may take; 0: 90,000, which is longer than a server
	 * waits for a step by default: what ends a wait for a dead worker is then
	 * OPTD_STEP_TIMEOUT.  With a larger step_timeout give more, or cope with both. */
	uint32_t timeout_ms;
	/* Told, from inside calls, what the client waits for ("model 'm' on tcp://...:
	 * waiting for 1 of 2 workers: rank 1"), and of a connection that is lost or
	 * cannot be made ("tcp://...: Connection refused; trying for another 58 s"),
	 * within about a second and again every 5, and that is there again.  May be NULL.
	 * Must not call the library. */
	void (*notice)(void *user, const char *text);
	void *user;
} optd_options;

/* Connects to daemons, given as "tcp://host:port" or "ipc://path", several
 * separated by commas; their order matters and must be the same for all clients of a
 * model.  Returns when each has answered.  OPTD_UNREACHABLE names the address
 * that did not and why.  *client is then NULL and the text is had by
 * optd_error(NULL), which is per thread.
 *
 * From then on a connection that is lost or refused is tried again by itself, in the
 * background, until optd_close: first after 100 ms, then each time after twice as long
 * up to 1 s, and every time up to 100 ms later by chance, so that workers do not
 * come all at once.  A connected server that says nothing while a call waits is asked
 * after 1 s whether it lives, and connected to anew after 2 s in which it has not
 * answered and, over tcp, less than 4 KiB have moved: over a slow link the question
 * waits behind what was sent before.  No option changes these times. */
OPTD_API int optd_connect(const char *endpoints, const optd_options *options, optd_client **client);

/* Says goodbye, frees the client, its models and tickets, and sets *client to
 * NULL.  Takes at most a second. */
OPTD_API void optd_close(optd_client **client);

/* The text of the last error on this client (or of the last failed optd_connect
 * on this thread, for NULL); "" if there was none.  Good until the next call. */
OPTD_API const char *optd_error(const optd_client *client);

/* Changes the timeout of later calls, in milliseconds; 0: 90,000. */
OPTD_API void optd_set_timeout(optd_client *client, uint32_t timeout_ms);

/* ---- layouts ---------------------------------------------------------- */

/* An empty layout, or NULL without memory; freed by optd_layout_free. */
OPTD_API optd_layout *optd_layout_new(void);
OPTD_API void optd_layout_free(optd_layout *layout);

/* Appends a tensor: a name of 1 to 511 bytes of UTF-8, unique in the layout, and a
 * shape of 0 to 16 dimensions (0: a scalar).  Returns its index, counted from 0,
 * or, without a text for optd_error, since a layout belongs to no client: OPTD_INVALID (an
 * argument is NULL, the name is empty, not UTF-8 or in the layout already, there are more
 * dimensions), OPTD_TOO_LARGE (a longer name, or more tensors or elements than a layout may
 * have), OPTD_NO_MEMORY.  A layout that lacks the tensor stays good. */
OPTD_API int optd_layout_add(optd_layout *layout, const char *name, const uint64_t *shape, uint32_t rank);

/* Elements of all tensors together: the length of the model's flat vector, in
 * which tensors follow one another in the order they were added. */
OPTD_API uint64_t optd_layout_elements(const optd_layout *layout);

/* ---- models ----------------------------------------------------------- */

typedef struct optd_hyper {
	const char *name; /* PyTorch's: "lr", "betas", "weight_decay", "nesterov" */
	double values[3]; /* one value; two for betas, three for ns_coefficients; flags are 0 or 1 */
	uint32_t count;   /* 1 to 3 */
} optd_hyper;

/* A parameter of a schedule, by PyTorch's name: "T_max", "gamma"; milestones are several. */
typedef struct optd_schedule_param {
	const char *name;
	double values[16];
	uint32_t count; /* 1 to 16 */
} optd_schedule_param;

/* A stretch of a learning-rate schedule: "cosine", "linear_warmup" and others of
 * optd.yaml(5).  The server follows it by the updates it has applied. */
typedef struct optd_schedule {
	const char *name;
	const optd_schedule_param *params; /* what is left out has PyTorch's default */
	uint32_t param_count;              /* at most 9 */
	uint64_t until; /* the update at which the next stretch begins; of the last, 0 (else OPTD_HYPER) */
} optd_schedule;

/* Tensors with an optimizer of their own, or none.  A tensor is in the first group whose
 * pattern matches its name; what no group has is under the model's own optimizer. */
typedef struct optd_group {
	const char *tensors;   /* a pattern over whole names: "*.bias", "bn?.*", "layer.[0-3].*" */
	const char *optimizer; /* NULL: the model's, with its match, hyper-parameters and schedule;
	                          another: with its defaults */
	const char *match;
	const optd_hyper *hypers; /* over those */
	uint32_t hyper_count;
	const optd_schedule *schedule;
	uint32_t schedule_count;
	double lr_factor; /* multiplies the group's lr; 0: 1 */
	int frozen;       /* never updated: pushes of it are acknowledged and ignored */
} optd_group;

typedef enum optd_mode { OPTD_MODE_DEFAULT = 0, OPTD_SYNC = 1, OPTD_ASYNC = 2 } optd_mode;
typedef enum optd_reduce { OPTD_REDUCE_DEFAULT = 0, OPTD_MEAN = 1, OPTD_SUM = 2 } optd_reduce;
typedef enum optd_resume {
	OPTD_RESUME_AUTO = 0,  /* create the model, or go on with it if it exists */
	OPTD_RESUME_NEVER = 1, /* OPTD_EXISTS if it is left from an earlier run */
	OPTD_RESUME_MUST = 2,  /* OPTD_NO_MODEL unless it exists */
} optd_resume;

/* What becomes of a gradient that holds NaN or Inf.
 * OPTD_SKIP_STEP (sync; the default there): the whole step is left out, for every worker:
 *     weights and optimizer state stay as they are, and the next step begins.  Calls return
 *     OPTD_SKIPPED, and optd_last_step says whose gradient it was.
 * OPTD_REJECT (the default in async): the call is refused with OPTD_NOT_FINITE and nothing
 *     of the gradient is sent.  In sync the other workers' calls of this step end with
 *     OPTD_NOT_FINITE too, which names this one; they go on once it has pushed a finite one.
 * OPTD_ZERO: such elements count as 0; optd_last_step says how many they were.
 * What a loss scale below 1 would make infinite counts as Inf in the first two.  With OPTD_ZERO
 * that becomes Inf, as sums of finite gradients may in all three, but where clip_norm sees it. */
typedef enum optd_nonfinite { OPTD_NONFINITE_DEFAULT = 0, OPTD_SKIP_STEP = 1, OPTD_REJECT = 2,
                              OPTD_ZERO = 3 } optd_nonfinite;

/* A loss scale that the server keeps for all workers, by the names and with the defaults of
 * torch.amp.GradScaler; 0 is the default. */
typedef struct optd_scaler {
	double init_scale;        /* 65536; a normal float32 */
	double growth_factor;     /* 2; more than 1 */
	double backoff_factor;    /* 0.5; between 0 and 1 */
	uint32_t growth_interval; /* 2000 steps; at most 2^31 - 1 */
} optd_scaler;

/* What is left zero is taken from the server's config, from the model if it
 * exists, or has the default named here.  What is given and differs from what the
 * model has is OPTD_CONFLICT with both values. */
typedef struct optd_open_options {
	/* "adam", "sgd", ...: optim/README.md has all; default sgd.  easgd is OPTD_HYPER in sync
	 * with several workers.  lars, lamb, adafactor, adafactor_paper and muon look at whole
	 * tensors: OPTD_HYPER for a shape that they do not take (muon: all but matrices) and, in
	 * async, for more than 131,072 elements. */
	const char *optimizer;
	const char *match;     /* "torch2" (default), "torch1", "numpy" */
	const optd_hyper *hypers;
	uint32_t hyper_count;
	const optd_schedule *schedule; /* stretches, one after the other */
	uint32_t schedule_count;       /* at most 4; 0: a constant rate */
	const optd_group *groups; /* a pattern that matches no tensor is OPTD_HYPER */
	uint32_t group_count;     /* at most 8, which with all else fit a header of 4096 bytes */
	const char *average; /* "ema" or "swa": an average of the weights that the server keeps beside
	                        them, as torch.optim.swa_utils; NULL: none */
	const optd_hyper *average_hypers; /* "start", "every"; ema: "decay", "num_updates" too */
	uint32_t average_hyper_count;     /* at most 8 */
	optd_mode mode;        /* default: sync */
	optd_reduce reduce;    /* default: mean */
	uint32_t workers;      /* ranks that make a step in sync; default 1 */
	uint32_t step_timeout_ms; /* sync: how long a step may wait for a rank; and how
	                             long a pull for its min_version */
	optd_resume resume;
	const char *run;       /* a name all workers of this job share; default none */
	/* Limits on the norm of a step's reduced gradient, in sync: of all tensors together, as
	 * torch.nn.utils.clip_grad_norm_, or of each by itself, as Keras' clipnorm; one of them,
	 * above 0; 0: none.  Frozen tensors, and those whose optimizer takes weights, have no part.
	 * A step whose norm is not finite is skipped for every worker (OPTD_SKIPPED).  With several
	 * servers, calls that push carry the parts of the norm from one to the other: a step goes on
	 * while some worker is in such a call, or in optd_wait or optd_process.  In async:
	 * OPTD_HYPER; clip before you push there. */
	double clip_norm;
	double clip_norm_type; /* 1 or more, or INFINITY for the largest element; 0: 2 */
	double clip_tensor_norm;
	optd_nonfinite nonfinite; /* default: OPTD_SKIP_STEP in sync, OPTD_REJECT in async */
	const optd_scaler *loss_scale; /* the server keeps one: sync and OPTD_SKIP_STEP only; default
	                                  NULL: none */
} optd_open_options;

typedef struct optd_model_info {
	uint64_t run_id;    /* of the model; stays over restarts */
	uint64_t step;      /* the step this worker pushes next; the first is 0 */
	uint64_t elements;
	uint32_t tensors;
	uint32_t workers;
	optd_mode mode;
	int created;        /* by this client's optd_open */
	int restored;       /* it came from a checkpoint */
	uint64_t age_s;     /* since it was created, or since that checkpoint */
	int ready;          /* it has weights: as of opening it, or of a pull since */
	char optimizer[1024]; /* "adam match=torch2 lr=0.001 ...; 1 group: '*.bias' adam"; ends
	                         with "..." where it is longer */
	/* "exists at step 9380, run ab12, 14 h old" where optd_open found what an earlier
	 * run has left, from a checkpoint or not; "" where it made the model or joined
	 * workers that are at it. */
	char attached[256];
	/* As pushes of this client are treated: OPTD_REJECT also where not all of the model's
	 * servers know policies. */
	optd_nonfinite nonfinite;
	int keeps_loss_scale; /* see optd_loss_scale */
	char average[160]; /* "ema decay=0.999 num_updates=0 start=0 every=1", or "": none is kept */
} optd_model_info;

/* Opens a model; a worker creates it if need be.  layout is borrowed for the call; a
 * reader may pass NULL and take the model's own, and gets OPTD_NO_MODEL until a worker
 * has made it; where one has made only some of its lanes, the call waits a few seconds
 * for the others, and its error names the lane.  OPTD_LAYOUT names the first tensor that
 * differs, OPTD_RANK_HELD the holder's host and pid, OPTD_WRONG_MAP
 * the place this server has in the model's list, OPTD_TOO_LARGE both numbers: a layout
 * must fit one message (4 MiB; about 150,000 tensors), the model the server's memory
 * and the header of a checkpoint.  One model may be opened once per client. */
OPTD_API int optd_open(optd_client *client, const char *name, const optd_layout *layout,
                       const optd_open_options *options, optd_model **model);

/* The model as this client knows it. */
OPTD_API void optd_model_get_info(const optd_model *model, optd_model_info *info);
OPTD_API uint32_t optd_model_tensor_count(const optd_model *model);
/* Name, shape and place of a tensor; NULL beyond the last. */
OPTD_API const char *optd_model_tensor(const optd_model *model, uint32_t index, const uint64_t **shape,
                                       uint32_t *rank, uint64_t *offset, uint64_t *count);
/* Index of a tensor, or OPTD_NO_TENSOR with the nearest name in the error text. */
OPTD_API int64_t optd_model_find(optd_model *model, const char *name);

/* Gives the model its first weights (elements floats).  Every worker may call it
 * with its own: one's are taken, and the call returns when the model has weights.  Returns
 * 1 if these were taken, 0 if the model had or got others: pull them. */
OPTD_API int optd_init(optd_model *model, const float *weights);

/* One step: gradients in, weights after the step out; both `elements` long and in
 * the layout's order.  In sync mode returns when every rank has pushed this step.
 *
 * OPTD_SKIPPED (positive): the step is over and was left out, since the gradient of a worker
 * (this one or another) held NaN or Inf, or the norm that the model clips was not finite; weights
 * are as they were.  Every worker's call returns it.  optd_last_step says whose it was.  Compute the next gradient and go on.
 * OPTD_NOT_FINITE, under OPTD_REJECT: of this gradient: names the tensor and index; nothing of it was sent; in
 * sync the servers were told, for up to 2 s.  Push a finite one.  Or, in sync, of another worker's, told once:
 * names its rank and the tensor; this gradient stays in the step and counts once, and the same call made again
 * waits for the other's.  Both arrays are as they were, unless part of the step was complete.
 * OPTD_STEP_TIMEOUT: names the rank that is missing; this worker's gradient stays
 * in the step and counts once; the same call made again waits again.
 * OPTD_TIMEOUT: likewise.  It means that the client's timeout came before the model's step_timeout, that the
 * server does not answer, or that it had no room to send the weights because nothing was read for so long; the
 * text says which, and names the rank if the server has.
 *
 * After a push that ended with OPTD_TIMEOUT, OPTD_STEP_TIMEOUT or OPTD_NOT_FINITE, or that optd_cancel gave
 * up, the next push is the SAME step.  Where the server already has the first one's gradient for a block, that
 * one counts, whatever the next push brings for it.  Where the first one's was not finite, the step is
 * skipped, whatever the next push brings.
 *
 * gradient and weights may be the same array.  If such a call fails after weights have overwritten part of it,
 * the gradient is gone: a push from that array is then OPTD_INVALID, and nothing is sent, until the step was
 * pushed from another array, or optd_resume_model has said that the array has a gradient again.  Use two
 * arrays to be able to make a call again.
 * OPTD_ROLLBACK, OPTD_MODEL_LOST: see optd_resume_model.
 *
 * Under easgd (optim/README.md), which is for async or one worker, gradient is this worker's weights, and
 * weights are its new ones; optd_pull has the model's, the centre.  Where only the answer was lost, what comes
 * is an elastic step towards the centre of now, which stays. */
OPTD_API int optd_push_pull(optd_model *model, const float *gradient, float *weights);
/* The same without the weights: returns when the step is applied. */
OPTD_API int optd_push(optd_model *model, const float *gradient);

/* The same from a gradient of two bytes an element: PyTorch's bfloat16 (the upper half of a
 * float32) or float16 (IEEE 754 binary16; up to 65504, nothing below 6e-8), as little-endian
 * bits, aligned to 2 bytes.  The server makes it float32, which rounds nothing, and goes on as
 * with that, NaN and Inf included; weights are float32 always.  Each call, and each worker of a
 * step, may have another type.  gradient and weights may not overlap: OPTD_INVALID.
 * OPTD_UNSUPPORTED: the server is too old. */
typedef enum optd_half { OPTD_BF16 = 1, OPTD_F16 = 2 } optd_half;
OPTD_API int optd_push_pull_half(optd_model *model, optd_half type, const uint16_t *gradient, float *weights);
OPTD_API int optd_push_half(optd_model *model, optd_half type, const uint16_t *gradient);

/* The weights as they are, once they have seen at least min_version updates.  Of a model
 * that has none yet it waits for the first ones; if nobody gives them in time (the client's
 * timeout or the model's step_timeout) it ends with OPTD_TIMEOUT, which says so. */
OPTD_API int optd_pull(optd_model *model, float *weights, uint64_t min_version);
/* The average of the weights, of a model that keeps one: the same vector in the same order,
 * and like optd_pull otherwise; optd_model_versions then speaks of the weights that are in it.
 * Of a model that keeps none it is OPTD_INVALID.  push_pull always brings the weights. */
OPTD_API int optd_pull_average(optd_model *model, float *weights, uint64_t min_version);

/* The same for some tensors.  A push of some tensors is a whole step: this worker
 * has nothing for the others in it.  Tensors in ascending order, each once. */
typedef struct optd_part {
	uint32_t tensor;
	const float *gradient; /* as many as the tensor has; unused when pulling */
	float *weights;        /* likewise; unused when only pushing */
} optd_part;

OPTD_API int optd_push_pull_parts(optd_model *model, const optd_part *parts, uint32_t count);
OPTD_API int optd_push_parts(optd_model *model, const optd_part *parts, uint32_t count);
OPTD_API int optd_pull_parts(optd_model *model, const optd_part *parts, uint32_t count,
                             uint64_t min_version);
OPTD_API int optd_pull_average_parts(optd_model *model, const optd_part *parts, uint32_t count,
                                     uint64_t min_version);

/* Likewise, all of one type in a call; no weights may overlap a gradient. */
typedef struct optd_half_part {
	uint32_t tensor;
	const uint16_t *gradient;
	float *weights;
} optd_half_part;

OPTD_API int optd_push_pull_parts_half(optd_model *model, optd_half type, const optd_half_part *parts, uint32_t count);
OPTD_API int optd_push_parts_half(optd_model *model, optd_half type, const optd_half_part *parts, uint32_t count);

/* Versions the last completed pull or push_pull of this model brought: the lowest and
 * the highest over its blocks.  Equal in sync unless pulls raced with steps. */
OPTD_API void optd_model_versions(const optd_model *model, uint64_t *lowest, uint64_t *highest);

/* Samples behind the next pushes, for a weighted mean; 0: none given.  Either all
 * ranks give one in a step, or none. */
OPTD_API int optd_set_weight(optd_model *model, double samples);

/* What the loss of the next pushes was multiplied with, a normal float32 (1.2e-38 to
 * 3.4e38); the server divides their gradients by it, in the pass that adds them up, and takes
 * what is pushed to optimizers of values, weights or deltas (assign, average, ema, swa, easgd,
 * fed*, diloco) as it is: push those unscaled.  0: by nothing, or where the server keeps a
 * scale, by that.  Workers may have scales of their own.  OPTD_INVALID for another number. */
OPTD_API int optd_set_loss_scale(optd_model *model, double scale);

/* What to multiply the next loss with.  Where the server keeps a scale (loss_scale of optd_open_options) it
 * is that of the next step, as the last answer told it: it falls when a step is skipped and grows when none
 * was for a while, as torch.amp.GradScaler's, and a push that begins states it by itself.  (Who computes a
 * gradient before the push in front of it is done notes the scale then, and says so by optd_set_loss_scale.)
 * Elsewhere it is what optd_set_loss_scale was given, or 1. */
OPTD_API double optd_loss_scale(const optd_model *model);

/* In place of a rank: each worker's gradient was finite, and the norm of what they make
 * together, to which the model holds its steps (clip_norm), was not. */
#define OPTD_NO_WORKER UINT32_MAX

/* How a step of this worker ended. */
typedef struct optd_step_outcome {
	uint64_t step;
	int skipped;        /* a gradient, or the norm that is clipped, was not finite */
	uint32_t rank;      /* with skipped: the lowest rank whose was not, or OPTD_NO_WORKER */
	const char *tensor; /* with skipped: its first such tensor, or "" if it did not say; good
	                       as long as the model is open */
	uint64_t zeroed;    /* elements of this worker's gradient that counted as 0; fewer where an
	                       answer was lost on the way and came again */
} optd_step_outcome;

/* Of the last push whose result was returned, by the call itself or by optd_wait.  OPTD_INVALID
 * before the first. */
OPTD_API int optd_last_step(optd_model *model, optd_step_outcome *outcome);

/* After OPTD_ROLLBACK or OPTD_MODEL_LOST every call on the model fails the same way until
 * the program has decided.  For ROLLBACK this accepts the server's state: returns
 * OPTD_OK and the step to go on from; pull the weights next.  For MODEL_LOST it returns
 * OPTD_MODEL_LOST again: there is nothing to go on from.  optd_model_close the model, optd_open
 * it, which makes it if nobody has yet, and give it weights by optd_init.
 *
 * On a model that works it returns OPTD_OK and the step that is pushed next, and ends what
 * optd_push_pull says about one array for both. */
OPTD_API int optd_resume_model(optd_model *model, uint64_t *step);

/* Closes the model at this client; the server keeps it.  *model becomes NULL. */
OPTD_API void optd_model_close(optd_model **model);

/* ---- started calls ---------------------------------------------------- */

/* Each starts what its blocking twin does and returns a ticket; arrays must stay
 * until it is done.  A model's pushes are done in the order they were started. */
OPTD_API int optd_start_push_pull(optd_model *model, const float *gradient, float *weights, optd_ticket *ticket);
OPTD_API int optd_start_push(optd_model *model, const float *gradient, optd_ticket *ticket);
OPTD_API int optd_start_push_pull_half(optd_model *model, optd_half type, const uint16_t *gradient,
                                       float *weights, optd_ticket *ticket);
OPTD_API int optd_start_push_half(optd_model *model, optd_half type, const uint16_t *gradient, optd_ticket *ticket);
OPTD_API int optd_start_pull(optd_model *model, float *weights, uint64_t min_version, optd_ticket *ticket);
OPTD_API int optd_start_pull_average(optd_model *model, float *weights, uint64_t min_version, optd_ticket *ticket);

/* Waits until the ticket is done, at most timeout_ms (0: the client's timeout), and
 * returns its result, which may be OPTD_SKIPPED.  OPTD_TIMEOUT leaves it under way: wait again, or optd_cancel. A
 * ticket whose result was returned is forgotten. */
OPTD_API int optd_wait(optd_client *client, optd_ticket ticket, uint32_t timeout_ms);

/* 1 if done (the result waits in optd_wait), 0 if under way, OPTD_INVALID if unknown. */
OPTD_API int optd_done(optd_client *client, optd_ticket ticket);

/* Gives up a ticket: its arrays are no longer touched.  What the server already has of
 * a push stays there, and
 * the next push is the same step: see optd_push_pull. */
OPTD_API void optd_cancel(optd_client *client, optd_ticket ticket);

/* A descriptor for poll, epoll or another event loop: readable when optd_process
 * has something to do.  Never read from it or close it. */
OPTD_API int optd_fd(const optd_client *client);

/* Does what can be done without waiting.  Returns the number of tickets that became done, or an
 * error of the client as a whole. */
OPTD_API int optd_process(optd_client *client);

/* ---- for operators ---------------------------------------------------- */

/* These do not wait for a server that is to come back: they end with OPTD_UNREACHABLE
 * within a second of its being gone, and optd_save, optd_drop and optd_set_hypers with
 * OPTD_DRAINING when it is shutting down.  Call again when it is back. */

/* Writes checkpoints of one model, or of all for NULL, on every daemon.  All are asked at
 * once, and it returns when each has answered, with the first failure: others may have done
 * it.  OPTD_NO_MODEL means that none of them has the model. */
OPTD_API int optd_save(optd_client *client, const char *name);
/* Makes every daemon forget a model and its checkpoint; the rest as for optd_save. */
OPTD_API int optd_drop(optd_client *client, const char *name);

/* Changes hyper-parameters of a model that runs, on all daemons from the same version on,
 * and of all its blocks alike: updates that take a block from version v to v + 1 with
 * v >= *from use the new values.  tensors: the pattern of a parameter group, as the model
 * was made with it; NULL: the model's own optimizer, of the tensors that are in no group; groups do not follow it.
 * *from: in, the version, or OPTD_FROM_NOW for the lowest that no block has passed; out,
 * the version.  Under a schedule lr is the schedule's base.
 *
 * It holds until it is changed again, and is in checkpoints that are written from then on
 * (optd_save).  All or nothing: OPTD_HYPER (a name that the optimizer does not have, with the
 * nearest, a value out of range, other optimizer state than the model has, lr under onecycle and
 * the momentum or first beta that it moves, the lr of adafactor_paper with relative_step, a
 * pattern that is no group's, a frozen group), OPTD_INVALID with both where a block is past
 * *from, OPTD_NOT_READY for a model without weights, OPTD_TOO_LARGE where so many are set
 * ahead (64) that there is no room, OPTD_BUSY, OPTD_NO_MODEL, leave everything as it was.
 * With several daemons blocks wait at the version while they agree, 5 s at the most; if
 * then a server goes away in the very moment at which the change is made, the error says
 * which ones have it: optd_get_status tells. */
#define OPTD_FROM_NOW UINT64_MAX
OPTD_API int optd_set_hypers(optd_client *client, const char *name, const char *tensors,
                             const optd_hyper *hypers, uint32_t hyper_count, uint64_t *from);

/* A change that a model has. */
typedef struct optd_change {
	uint64_t from;
	const char *tensors; /* the group's pattern; "": the model's own optimizer */
	const optd_hyper *hypers;
	uint32_t hyper_count;
} optd_change;

/* The learning rate of a model's next update, with what its schedule and changes make of it. */
typedef struct optd_rate {
	const char *tensors; /* the group's pattern, cut to 64 bytes with "..."; "": the model's own */
	double lr;
} optd_rate;

/* One lane's view of one model. */
typedef struct optd_status_row {
	const char *endpoint;
	const char *model;
	uint64_t run_id;
	int ready, restored;
	uint64_t elements;
	uint32_t tensors;
	uint32_t blocks, first_block, block_count;
	uint64_t version, version_max;
	uint64_t step;
	optd_mode mode;
	uint32_t workers, workers_present;
	const char *optimizer;
	const char *waiting; /* "rank 1" or "" */
	uint64_t bytes;
	uint64_t pushes, pulls, duplicates, refused;
	uint64_t saved_version;
	/* Of a model that clips a norm (else 0), since the server started: of its last step the
	 * norm (each tensor's: the largest; it may be infinite or no number) and the factor that
	 * its gradient was multiplied with (the smallest; 0: skipped); how many steps were made
	 * smaller; and how many updated nothing, because their norm was not finite. */
	double last_norm, last_factor;
	uint64_t clipped, overflowed;
	optd_nonfinite nonfinite;
	uint64_t skipped;            /* steps, since the daemon started; the last of them: */
	uint64_t skipped_step;
	uint32_t skipped_rank;       /* the lowest whose gradient was not finite, or OPTD_NO_WORKER */
	const char *skipped_tensor;  /* its first such, or "" */
	uint64_t zeroed;             /* elements that counted as 0 */
	double loss_scale;           /* of the next step; 0: the server keeps none */
	uint32_t growth_tracker;     /* steps since it changed, none of them skipped */
	optd_scaler scaler;          /* its settings */
	const char *average; /* "ema decay=0.999 ..." or "" */
	/* In the order of versions: the last ones, and how many more there are.  Of more than
	 * 64, those that every block has passed are joined to the next of their group. */
	const optd_change *changes;
	uint32_t change_count, changes_left_out;
	/* The model's own, and each group's that is not frozen, in their order; none of an optimizer
	 * without an lr.  In async a group's is that of its tensor with the fewest updates. */
	const optd_rate *rates;
	uint32_t rate_count;
} optd_status_row;

/* What a lane has counted since its daemon started. */
typedef struct optd_lane_row {
	const char *endpoint;
	uint64_t connections; /* now */
	uint64_t accepted;    /* connections */
	uint64_t refused;     /* connections beyond limits.connections */
	uint64_t cut;         /* connections, for malformed messages */
	uint64_t flooded;     /* connections that sent, or left unread, too much */
	uint64_t malformed;   /* messages that are none of optd's */
	uint64_t strangers;   /* requests without a session */
	uint64_t unsent;      /* answers to peers that were gone or took none */
} optd_lane_row;

/* Calls row for each lane.  Texts are good during the call. */
OPTD_API int optd_get_lanes(optd_client *client, void (*row)(void *user, const optd_lane_row *row), void *user);

/* Calls row for each lane and model.  Texts are good during the call. */
OPTD_API int optd_get_status(optd_client *client, void (*row)(void *user, const optd_status_row *row), void *user);

#ifdef __cplusplus
}
#endif
#endif
