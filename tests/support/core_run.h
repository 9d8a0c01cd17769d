/*
 * Run: a random training run on real engines.
 *
 * From one seed come a layout (from a few scalars to vectors and matrices of several
 * blocks, with empty ones between), a rule with settings, parameter groups, an average, a mode, daemons and lanes (each
 * lane an engine), workers, a policy for what is not finite, loss scales, and for each step
 * and rank the tensors it has gradients for, in float32 or in one of the shorter types; in sync
 * perhaps a limit on the norm, and now and then a change of settings.  Pushes are cut into
 * messages at random, arrive in a random order between ranks, and now and then twice; updates
 * of whole tensors are done in slices of random sizes between them, and what lanes tell each
 * other arrives in a random order as well.  The reference sees the same steps.
 */
#ifndef OPTD_TEST_CORE_RUN_H
#define OPTD_TEST_CORE_RUN_H

#include "server/core/engine.h"
#include "tests/support/core_reference.h"
#include "tests/support/rng_seed.h"

#define RUN_ENGINES 9
#define RUN_WORKERS 5

struct run_commit {
	uint32_t engine;
	struct commit commit; /* all it points to is owned */
};

enum run_set { RUN_SET_NONE, RUN_SET_BEGUN, RUN_SET_AGREED };

struct run {
	uint64_t seed;
	struct rng rng;
	uint64_t *counts; /* [tensor_count] elements */
	struct run_shape {
		uint32_t rank;
		uint64_t sizes[2];
	} *shapes;
	uint32_t tensor_count;
	bool spans; /* a tensor lies in several blocks */
	struct layout *layout;
	struct model_settings settings;
	struct engine_preset preset;
	bool weighted;
	uint32_t daemons, lanes;
	struct engine *engines[RUN_ENGINES];
	enum optim_isa isas[RUN_ENGINES];
	struct msg_opened opened[RUN_ENGINES][RUN_WORKERS];
	struct buf_pool *pool;
	struct outbox out;
	struct lane_message *told[RUN_ENGINES]; /* on their way between lanes */
	uint32_t told_in[RUN_ENGINES]; /* which daemon */
	uint32_t told_count;
	/* Parts of the step's norm, carried between daemons by a rank. */
	struct run_norm {
		bool needed;
		uint32_t rank;
		double *numbers; /* [segments] */
		bool asked[RUN_ENGINES], came[RUN_ENGINES], told[RUN_ENGINES]; /* by daemon */
	} norm;
	uint64_t requests, answered, duplicates;
	float *weights; /* first ones */
	float *gradients[RUN_WORKERS];
	/* In which type each sends them in a step; where not float32, these are their bits. */
	enum dtype types[RUN_WORKERS];
	uint16_t *halves[RUN_WORKERS];
	bool *has[RUN_WORKERS];
	double samples[RUN_WORKERS];
	double scales[RUN_WORKERS]; /* of their losses; 0: not given */
	bool scaled;
	uint32_t poisoned; /* a mask of ranks whose gradient is not finite */
	uint64_t zeroed;   /* elements that must have counted as 0, over all steps */
	uint32_t skipped;  /* steps */
	uint32_t steps;
	bool changing; /* settings change while it goes on */
	enum run_set setting;
	uint32_t changes; /* made so far */
	struct reference reference;
	/* With record set before run_start: every commit, in order. */
	bool record;
	struct run_commit *commits;
	uint32_t commit_count, commit_room;
	struct run_tap *taps;
};

/* mode: MSG_MODE_UNSET for one at random. */
void run_init(struct run *run, uint64_t seed, enum msg_mode mode);
void run_start(struct run *run);
/* One step of every rank, in the engines and in the reference. */
void run_step(struct run *run);
/* Asserts that the engines hold what the reference holds. */
void run_compare(const struct run *run);
void run_deinit(struct run *run);

/* Reads what an engine has to say. */
void run_answers(struct run *run, uint32_t engine);
/* Does all updates of whole tensors that the engine has to do. */
void run_work(struct run *run, uint32_t engine);
/* A step begins; a daemon says its parts; and between two messages, one of them is carried
 * further: true while there is more to do. */
void run_norm_begin(struct run *run);
void run_norm_take(struct run *run, const struct msg *head, const void *payload);
bool run_norm_turn(struct run *run);
/* Between two messages: now and then takes a change of settings a bit further.  ahead: the
 * reference takes messages before the engines do, so it must know at once. */
void run_set_turn(struct run *run, bool ahead);
/* Takes the one at hand to its end, which may be that it is withdrawn. */
void run_set_finish(struct run *run);

/* The group that has a tensor, or NULL, as libc's own fnmatch finds it. */
const struct group *run_group(const struct run *run, uint32_t tensor);
/* A one-line description, for the one who has to find out what went wrong. */
void run_text(const struct run *run, char *text, size_t bytes);
/* The model of an engine. */
struct model *run_model(const struct run *run, uint32_t engine);
/* An empty model as this engine's was. */
struct model *run_model_new(const struct run *run, uint32_t engine);

#endif
