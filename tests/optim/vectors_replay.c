/*
 * Replaying recorded runs: the settings and events of a case, its gradients one
 * by one, a comparison at each recorded step.
 */
#include "tests/optim/vectors_replay.h"

#include "optim/tensor.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/optim/vectors_clip.h"
#include "tests/support/vectors_compare.h"

/* The manifest's names where they are not optd's, for the rules of one kind or,
 * with "", for all. */
struct alias {
	const char *rule; /* as in the manifest */
	const char *theirs, *ours;
	uint32_t place; /* in a pair */
};

static const struct alias hyper_aliases[] = {
	{ "seed_adam", "decay_rate_1", "betas", 0 },
	{ "seed_adam", "decay_rate_2", "betas", 1 },
	{ "seed_rmsprop", "decay_rate", "alpha", 0 },
	{ "seed_momentum", "mu", "momentum", 0 },
	{ "fedadagrad", "beta1", "beta1", 0 },
	{ "adafactor", "eps1", "eps", 0 },
	{ "adafactor", "eps2", "eps", 1 },
	{ "adafactor_paper", "eps1", "eps", 0 },
	{ "adafactor_paper", "eps2", "eps", 1 },
	{ "muon", "a", "ns_coefficients", 0 },
	{ "muon", "b", "ns_coefficients", 1 },
	{ "muon", "c", "ns_coefficients", 2 },
	{ "muon", "adjust", "adjust_lr_fn", 0 },
	{ "adafactor_paper", "beta1", "beta1", 0 },
	{ "", "beta1", "betas", 0 },
	{ "", "beta2", "betas", 1 },
	{ "rprop", "etaminus", "etas", 0 },
	{ "rprop", "etaplus", "etas", 1 },
	{ "rprop", "step_min", "step_sizes", 0 },
	{ "rprop", "step_max", "step_sizes", 1 },
	{ "yogi", "initial_accumulator", "initial_accumulator_value", 0 },
};

static const struct alias slot_aliases[] = {
	{ "seed_momentum", "v", "momentum_buffer", 0 }, { "seed_adagrad", "cache", "sum", 0 },
	{ "seed_rmsprop", "cache", "square_avg", 0 },   { "seed_adam", "m", "exp_avg", 0 },
	{ "seed_adam", "v", "exp_avg_sq", 0 },       { "fedadagrad", "m", "exp_avg", 0 },
	{ "fedadagrad", "v", "sum", 0 },             { "fedadam", "m", "exp_avg", 0 },
	{ "fedadam", "v", "exp_avg_sq", 0 },         { "fedyogi", "m", "exp_avg", 0 },
	{ "fedyogi", "v", "exp_avg_sq", 0 },
};

/* Rules that PyTorch 1.13 and 2.x compute in the same order. */
static const char *const same_in_both[] = { "sgd", "adagrad", "adadelta", "asgd", "rprop" };

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define WHY_BYTES 256

/* One replay: a case under a match and an instruction set. */
struct replay {
	const struct vectors *set;
	const struct vectors_case *row;
	enum optim_isa isa;
	bool in_pieces;

	struct optim optim;
	struct tensor_shape shape;
	struct tensor_slot about[OPTIM_SLOTS_MAX]; /* of slots */
	size_t n;
	uint64_t updates; /* before the first gradient */
	struct optim_carry carry;
	float *reply; /* what the worker is answered, where not the weights */
	float *w, *slots[OPTIM_SLOTS_MAX], *grads, *scratch;
	uint32_t slot_count;

	char why[WHY_BYTES];
};

static struct alias alias_find(const struct alias *aliases, size_t count, const char *rule,
                               const char *theirs)
{
	for (size_t i = 0; i < count; i++) {
		if (strcmp(aliases[i].theirs, theirs) == 0 &&
		    (aliases[i].rule[0] == '\0' || strcmp(aliases[i].rule, rule) == 0))
			return aliases[i];
	}
	return (struct alias){ rule, theirs, theirs, 0 };
}

/* Sets one value of a hyper-parameter, the other one of a pair left alone. */
static int set_hyper(struct replay *replay, const char *name, double value)
{
	struct alias alias = alias_find(hyper_aliases, COUNT(hyper_aliases), replay->row->rule,
	                                name);
	struct optim *optim = &replay->optim;
	double values[OPTIM_VALUES_MAX] = { 0 };
	uint32_t count = 1;

	for (uint32_t i = 0; i < optim_hyper_count(optim->rule); i++) {
		const struct optim_hyper *hyper = optim_hyper(optim->rule, i);

		if (strcmp(hyper->name, alias.ours) != 0)
			continue;
		count = hyper->count;
		memcpy(values, optim->values[i], sizeof(values));
	}
	values[alias.place] = value;
	return optim_set(optim, alias.ours, values, count, replay->why, WHY_BYTES);
}

/* "name=value" up to one of the stops; moves *text behind it. */
static int set_assignment(struct replay *replay, const char **text, const char *stops)
{
	char name[64];
	size_t length = strcspn(*text, "=");
	const char *value = *text + length + 1;

	snprintf(name, sizeof(name), "%.*s", (int)length, *text);
	*text = value + strcspn(value, stops);
	*text += **text != '\0';
	return set_hyper(replay, name, strtod(value, NULL));
}

static int set_hypers(struct replay *replay)
{
	const char *text = replay->row->hyper;

	while (*text != '\0') {
		if (set_assignment(replay, &text, ";") < 0)
			return -1;
	}
	return optim_check(&replay->optim, replay->why, WHY_BYTES);
}

/* Applies the events of a step. */
static int apply_events(struct replay *replay, uint32_t step)
{
	const char *text = replay->row->events;

	while (*text != '\0') {
		unsigned long due = strtoul(text, NULL, 10);

		text += strcspn(text, ":");
		text += *text != '\0';
		if (due != step) {
			text += strcspn(text, "|");
			text += *text != '\0';
		} else if (set_assignment(replay, &text, "|") < 0) {
			return -1;
		}
	}
	return 0;
}

static int missing(struct replay *replay, const char *file, const char *tensor)
{
	snprintf(replay->why, WHY_BYTES, "%s: no tensor %s of the expected size", file, tensor);
	return -1;
}

/* A tensor of n elements. */
static int load(struct replay *replay, const char *file, const char *tensor, size_t n, float **out)
{
	size_t count = 0;

	*out = vectors_floats(replay->set, file, tensor, &count);
	return *out != NULL && count == n ? 0 : missing(replay, file, tensor);
}

/* A tensor of one element. */
static int load_number(struct replay *replay, const char *file, const char *tensor, float *out)
{
	float *one;
	int rc = load(replay, file, tensor, 1, &one);

	if (rc == 0)
		*out = one[0];
	free(one);
	return rc;
}

static int slot_index(const struct replay *replay, const char *theirs)
{
	struct alias alias = alias_find(slot_aliases, COUNT(slot_aliases), replay->row->rule,
	                                theirs);

	for (uint32_t i = 0; i < replay->slot_count; i++) {
		if (strcmp(replay->about[i].name, alias.ours) == 0)
			return (int)i;
	}
	return -1;
}

static int carry_index(const struct replay *replay, const char *name)
{
	for (uint32_t i = 0; i < optim_carry_count(&replay->optim); i++) {
		if (strcmp(optim_carry_name(&replay->optim, i), name) == 0)
			return (int)i;
	}
	return -1;
}

/* Calls visit for each name of the case's state. */
static int each_state(struct replay *replay, uint32_t step,
                      int (*visit)(struct replay *replay, const char *state, uint32_t step))
{
	const char *text = replay->row->state;

	while (*text != '\0') {
		char name[64];
		size_t length = strcspn(text, ",");

		snprintf(name, sizeof(name), "%.*s", (int)length, text);
		if (visit(replay, name, step) < 0)
			return -1;
		text += length + (text[length] == ',');
	}
	return 0;
}

/* Takes over init.<state>.  A rule without a counter of its own that starts with
 * a filled slot has had its first update. */
static int load_state(struct replay *replay, const char *state, uint32_t step)
{
	const char *file = replay->row->case_file;
	char tensor[80];
	int64_t updates;
	int slot = slot_index(replay, state), carry = carry_index(replay, state);

	(void)step;
	snprintf(tensor, sizeof(tensor), "init.%s", state);
	if (!vectors_has(replay->set, file, tensor))
		return 0;
	if (strcmp(state, "step") == 0) {
		if (!vectors_integer(replay->set, file, tensor, &updates))
			return missing(replay, file, tensor);
		replay->updates = (uint64_t)updates;
		return 0;
	}
	if (carry >= 0)
		return load_number(replay, file, tensor, &replay->carry.values[carry]);
	if (slot < 0)
		return missing(replay, file, tensor);
	if (replay->updates == 0)
		replay->updates = 1;
	free(replay->slots[slot]);
	return load(replay, file, tensor, replay->about[slot].elements, &replay->slots[slot]);
}

/* "8x12" */
static struct tensor_shape read_shape(const char *text)
{
	uint64_t shape[2] = { strtoull(text, NULL, 10) };
	const char *times = strchr(text, 'x');

	if (times != NULL)
		shape[1] = strtoull(times + 1, NULL, 10);
	return tensor_shape_of(shape, times != NULL ? 2 : 1);
}

static int start_slots(struct replay *replay)
{
	replay->shape = read_shape(replay->row->shape);
	replay->slot_count = tensor_slots(&replay->optim, &replay->shape, replay->about);
	replay->scratch = calloc(tensor_scratch(&replay->optim, &replay->shape) + 1, sizeof(float));
	replay->reply = calloc(replay->n + 1, sizeof(float));
	if (replay->scratch == NULL || replay->reply == NULL)
		return missing(replay, "memory", "scratch");
	for (uint32_t i = 0; i < replay->slot_count; i++) {
		replay->slots[i] = malloc((replay->about[i].elements + 1) * sizeof(float));
		if (replay->slots[i] == NULL)
			return missing(replay, "memory", "slot");
		for (size_t j = 0; j < replay->about[i].elements; j++)
			replay->slots[i][j] = replay->about[i].initial;
	}
	return 0;
}

static int start(struct replay *replay, const struct optim_rule *rule, enum optim_match match)
{
	const struct vectors_case *row = replay->row;

	if (optim_init(&replay->optim, rule, match, replay->why, WHY_BYTES) < 0 ||
	    set_hypers(replay) < 0)
		return -1;
	replay->w = vectors_floats(replay->set, row->grads_file, "w0", &replay->n);
	if (replay->w == NULL)
		return missing(replay, row->grads_file, "w0");
	replay->grads = vectors_floats(replay->set, row->grads_file, "g", &(size_t){ 0 });
	if (replay->grads == NULL)
		return missing(replay, row->grads_file, "g");
	optim_carry_initial(&replay->optim, &replay->carry);
	if (start_slots(replay) < 0)
		return -1;
	if (tensor_elements(&replay->shape) != replay->n)
		return missing(replay, row->grads_file, "w0");
	return each_state(replay, 0, load_state);
}

static void finish(struct replay *replay)
{
	free(replay->w);
	free(replay->grads);
	free(replay->reply);
	free(replay->scratch);
	for (uint32_t i = 0; i < OPTIM_SLOTS_MAX; i++)
		free(replay->slots[i]);
}

/* A number of the sequence that cuts the pieces: any will do, if always the same. */
static uint32_t next_random(uint32_t *state)
{
	*state = *state * 1664525u + 1013904223u;
	return *state >> 16;
}

/* In one go, or in slices of irregular lengths. */
static void update_tensor(struct replay *replay, const struct optim_scalars *scalars, const float *g,
                          uint32_t random)
{
	struct tensor_update update = { .optim = &replay->optim,
		                        .isa = replay->isa,
		                        .scalars = scalars,
		                        .shape = replay->shape,
		                        .w = replay->w,
		                        .slots = replay->slots,
		                        .g = { g, 1.0f, DTYPE_F32 },
		                        .scratch = replay->scratch };

	tensor_begin(&update);
	while (!tensor_run(&update, replay->in_pieces ? 1 + next_random(&random) % 67 : UINT64_MAX))
		continue;
}

static void update(struct replay *replay, uint32_t step)
{
	const float *g = replay->grads + (size_t)(step - 1) * replay->n;
	struct optim_scalars scalars;
	uint32_t random = step;

	optim_scalars(&replay->optim, replay->updates + step, &replay->carry, &scalars);
	if (optim_rule_class(replay->optim.rule) == OPTIM_TENSOR) {
		update_tensor(replay, &scalars, g, random);
		return;
	}
	for (size_t begin = 0, count; begin < replay->n; begin += count) {
		float *slots[OPTIM_SLOTS_MAX];

		count = replay->in_pieces ? 1 + next_random(&random) % 67 : replay->n;
		if (count > replay->n - begin)
			count = replay->n - begin;
		for (uint32_t i = 0; i < replay->slot_count; i++)
			slots[i] = replay->slots[i] + begin;
		if (optim_replies(&replay->optim))
			optim_reply(&replay->optim, replay->isa, &scalars, replay->w + begin,
			            (struct optim_gradient){ g + begin, 1.0f, DTYPE_F32 },
			            replay->reply + begin, count);
		optim_step(&replay->optim, replay->isa, &scalars, replay->w + begin, slots,
		           g + begin, count);
	}
}

static int compare(struct replay *replay, const char *name, uint32_t step, const float *got,
                   size_t n)
{
	const struct vectors_case *row = replay->row;
	char tensor[80], scale_name[80];
	size_t scale_count = 0;
	float *want, *scale;
	int rc = 0;

	snprintf(tensor, sizeof(tensor), "s%u.%s", (unsigned)step, name);
	snprintf(scale_name, sizeof(scale_name), "scale.%s", name);
	if (load(replay, row->case_file, tensor, n, &want) < 0) {
		free(want);
		return -1;
	}
	scale = vectors_floats(replay->set, row->case_file, scale_name, &scale_count);
	for (size_t i = 0; i < n && rc == 0; i++) {
		float largest = scale_count == n ? scale[i] : fabsf(want[i]);
		uint32_t ulp = vectors_ulp(got[i], want[i]);
		double sulp = vectors_sulp(got[i], want[i], largest);

		if (ulp == 0 || (!row->bitexact && sulp <= row->tol_sulp))
			continue;
		snprintf(replay->why, WHY_BYTES,
		         "%s[%zu] is %.9g, recorded %.9g: %u ULP, %.3g sULP", tensor, i,
		         (double)got[i], (double)want[i], (unsigned)ulp, sulp);
		rc = -1;
	}
	free(want);
	free(scale);
	return rc;
}

static int compare_state(struct replay *replay, const char *state, uint32_t step)
{
	int slot = slot_index(replay, state), carry = carry_index(replay, state);
	int64_t want = -1;
	char tensor[80];

	if (strcmp(state, "step") != 0) {
		if (slot >= 0)
			return compare(replay, state, step, replay->slots[slot],
			               replay->about[slot].elements);
		if (carry >= 0)
			return compare(replay, state, step, &replay->carry.values[carry], 1);
		if (optim_replies(&replay->optim) && strcmp(state, "worker_reply") == 0)
			return compare(replay, state, step, replay->reply, replay->n);
		snprintf(replay->why, WHY_BYTES, "the rule has no slot for %s", state);
		return -1;
	}
	snprintf(tensor, sizeof(tensor), "s%u.step", (unsigned)step);
	if (vectors_integer(replay->set, replay->row->case_file, tensor, &want) &&
	    want == (int64_t)replay->updates + step)
		return 0;
	snprintf(replay->why, WHY_BYTES, "%s is %llu, recorded %lld", tensor,
	         (unsigned long long)replay->updates + step, (long long)want);
	return -1;
}

static bool is_recorded(const struct vectors_case *row, uint32_t step)
{
	for (const char *text = row->record; *text != '\0';) {
		if (strtoul(text, NULL, 10) == step)
			return true;
		text += strcspn(text, ",");
		text += *text != '\0';
	}
	return false;
}

static int run(struct replay *replay)
{
	for (uint32_t step = 1; step <= replay->row->steps; step++) {
		if (apply_events(replay, step) < 0)
			return -1;
		update(replay, step);
		if (is_recorded(replay->row, step) && (compare(replay, "w", step, replay->w, replay->n) < 0 ||
		                                       each_state(replay, step, compare_state) < 0))
			return -1;
	}
	return 0;
}

static bool starts_with(const char *text, const char *start)
{
	return strncmp(text, start, strlen(start)) == 0;
}

/* The rule's name in optd. */
static void rule_name(const struct vectors_case *row, char *out, size_t out_bytes)
{
	size_t length = strlen(row->rule);

	if (strcmp(row->kind, "torch2") == 0 && length > 3)
		length -= 3; /* _t2 */
	if (starts_with(row->rule, "seed_"))
		snprintf(out, out_bytes, "%s", row->rule + strlen("seed_"));
	else
		snprintf(out, out_bytes, "%.*s", (int)length, row->rule);
}

/* A bit for each match under which the case must give its numbers. */
static uint32_t matches_of(const struct vectors_case *row)
{
	uint32_t both = 1u << OPTIM_TORCH1 | 1u << OPTIM_TORCH2;

	if (strcmp(row->kind, "seed") == 0 && strcmp(row->rule, "seed_momentum") != 0)
		return 1u << OPTIM_NUMPY;
	if (strcmp(row->kind, "torch") != 0)
		return 1u << OPTIM_TORCH2; /* also: the rule has no match */
	for (size_t i = 0; i < COUNT(same_in_both); i++) {
		if (strcmp(row->rule, same_in_both[i]) == 0)
			return both;
	}
	if (strcmp(row->rule, "rmsprop") == 0 && strstr(row->hyper, "centered=1") == NULL)
		return both;
	return 1u << OPTIM_TORCH1;
}

const char *vectors_skip_reason(const struct vectors_case *row)
{
	char name[64];

	rule_name(row, name, sizeof(name));
	if (starts_with(row->rule, "sparse_") || starts_with(row->rule, "rowwise_"))
		return "updates by rows are not built";
	if (strcmp(row->dtype, "f64") == 0 && strcmp(row->kind, "ref") != 0)
		return "models are float32";
	if (strcmp(row->kind, "clip") == 0)
		return NULL;
	if (strcmp(name, "dcasgd") == 0 || strcmp(name, "stale_sgd") == 0)
		return "a policy over a rule, not a rule";
	return optim_find(name) != NULL ? NULL : "the rule is not built";
}

int vectors_run_case(const struct vectors *set, const struct vectors_case *row, uint32_t isas,
                     char *why, size_t why_bytes)
{
	char name[64];

	if (strcmp(row->kind, "clip") == 0)
		return vectors_run_clip(set, row, isas, why, why_bytes);
	rule_name(row, name, sizeof(name));
	for (uint32_t i = 0; i < OPTIM_MATCH_COUNT * OPTIM_ISA_COUNT * 2; i++) {
		enum optim_match match = i / 2 / OPTIM_ISA_COUNT;
		struct replay replay = { .set = set, .row = row };
		int rc;

		replay.isa = i / 2 % OPTIM_ISA_COUNT;
		replay.in_pieces = i % 2;
		if (!(matches_of(row) & 1u << match) || !(isas & 1u << replay.isa))
			continue;
		rc = start(&replay, optim_find(name), match);
		if (rc == 0)
			rc = run(&replay);
		finish(&replay);
		if (rc == 0)
			continue;
		snprintf(why, why_bytes, "%s, %s, %s: %s", optim_match_name(match),
		         optim_isa_name(replay.isa), replay.in_pieces ? "in pieces" : "whole",
		         replay.why);
		return -1;
	}
	return 0;
}

uint32_t vectors_isas(const char *name)
{
	uint32_t isas = 0;

	for (int i = 0; i < OPTIM_ISA_COUNT; i++) {
		if (optim_isa_usable((enum optim_isa)i) &&
		    (name == NULL || optim_isa_find(name) == i))
			isas |= 1u << i;
	}
	return isas;
}
