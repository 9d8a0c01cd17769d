/* Changes of settings while a run goes on, in the engines and in the reference. */
#include <string.h>

#include "tests/support/core_run.h"
#include "tests/support/core_world.h"

static const double VALUES[] = {0, 1e-8, 1e-3, 0.1, 0.5, 0.9, 0.99};

static uint32_t engine_count(const struct run *run)
{
	return run->daemons * run->lanes;
}

static struct shard *shard_of(const struct run *run, uint32_t engine)
{
	return engine_find(run->engines[engine], "m");
}

static struct msg_text text_of(const char *text)
{
	return (struct msg_text){text, (uint32_t)strlen(text)};
}

/* Of one group or none, up to three settings; what the rule refuses is refused. */
static struct msg_set choose_set(struct run *run)
{
	const struct groups *groups = &run->settings.groups;
	struct rng *rng = &run->rng;
	struct msg_set set = {.model = {"m", 1}};
	uint32_t group = rng_below(rng, groups->count + 1);
	const struct optim *optim = group > 0 ? &groups->list[group - 1].optim : &run->settings.optim;

	if (group > 0)
		set.tensors = text_of(groups->list[group - 1].tensors);
	for (uint32_t i = 0; i < optim_hyper_count(optim->rule) && set.hyper_count < 3; i++) {
		const struct optim_hyper *hyper = optim_hyper(optim->rule, i);
		struct msg_hyper *given = &set.hypers[set.hyper_count];
		if (!rng_one_in(rng, 3))
			continue;
		given->name = text_of(hyper->name);
		given->count = hyper->count;
		for (uint32_t v = 0; v < hyper->count; v++)
			given->values[v] = hyper->kind == OPTIM_FLAG ? rng_below(rng, 2) : VALUES[rng_below(rng, 7)];
		set.hyper_count++;
	}
	return set;
}

static uint64_t highest(const struct run *run)
{
	uint64_t most = 0;

	for (uint32_t e = 0; e < engine_count(run); e++) {
		uint64_t low, high;
		const struct model *model = run_model(run, e);
		model_versions(model, &low, &high);
		/* An update that is under way has its settings. */
		if (model->update.running && model->update.commit.version > high)
			high = model->update.commit.version;
		most = high > most ? high : most;
	}
	return most;
}

static uint64_t lowest(const struct run *run)
{
	uint64_t least = UINT64_MAX;

	for (uint32_t e = 0; e < engine_count(run); e++) {
		uint64_t low, high;
		if (run_model(run, e)->owned.count == 0)
			continue;
		model_versions(run_model(run, e), &low, &high);
		least = low < least ? low : least;
	}
	return least;
}

static void begin(struct run *run)
{
	struct msg_set set = choose_set(run);
	char why[LIMIT_TEXT_BYTES];

	if (set.hyper_count == 0)
		return;
	set.has_from = rng_one_in(&run->rng, 2);
	set.from = highest(run) + rng_below(&run->rng, 3);
	for (uint32_t e = 0; e < engine_count(run); e++) {
		int rc = engine_set_begin(shard_of(run, e), &set, why, sizeof(why));
		if (rc < 0 && e == 0)
			return;
		if (rc < 0)
			fail_msg("seed %llu: engine %u: %s", (unsigned long long)run->seed, e, why);
	}
	run->setting = RUN_SET_BEGUN;
}

static void end(struct run *run)
{
	for (uint32_t e = 0; e < engine_count(run); e++) {
		engine_set_end(run->engines[e], shard_of(run, e));
		run_answers(run, e);
	}
	run->setting = RUN_SET_NONE;
}

/* What the engines have agreed on, tensor by tensor. */
static void tell_reference(struct run *run, const struct change *change)
{
	const struct groups *groups = &run->settings.groups;

	for (uint32_t t = 0; t < run->tensor_count; t++) {
		const struct group *group = run_group(run, t);
		uint32_t number = group != NULL ? (uint32_t)(group - groups->list) + 1 : 0;
		for (uint32_t i = 0; i < OPTIM_HYPERS_MAX && number == change->group; i++) {
			if (change->given >> i & 1)
				reference_set(&run->reference, t, change->from, i, change->values[i]);
		}
	}
}

static void agree(struct run *run)
{
	uint64_t from = 0, passed = lowest(run);
	char why[LIMIT_TEXT_BYTES];
	int rc = OPTD_OK;

	for (uint32_t e = 0; e < engine_count(run); e++)
		from = shard_of(run, e)->set.from > from ? shard_of(run, e)->set.from : from;
	for (uint32_t e = 0; rc == OPTD_OK && e < engine_count(run); e++) {
		rc = engine_set_agree(run->engines[e], shard_of(run, e), from, passed, why, sizeof(why));
		run_answers(run, e);
		if (rc < 0 && e > 0)
			fail_msg("seed %llu: engine %u: %s", (unsigned long long)run->seed, e, why);
	}
	if (rc < 0) {
		end(run);
		return;
	}
	tell_reference(run, &shard_of(run, 0)->set);
	run->setting = RUN_SET_AGREED;
}

static void make(struct run *run)
{
	for (uint32_t e = 0; e < engine_count(run); e++) {
		engine_set_make(run->engines[e], shard_of(run, e));
		run_answers(run, e);
	}
	run->setting = RUN_SET_NONE;
	run->changes++;
}

void run_set_turn(struct run *run, bool ahead)
{
	if (!run->changing || (run->setting == RUN_SET_NONE && !rng_one_in(&run->rng, 4)))
		return;
	/* The reference has applied what waits for its turn. */
	for (uint32_t e = 0; ahead && run->setting == RUN_SET_NONE && e < engine_count(run); e++)
		run_work(run, e);
	if (run->setting == RUN_SET_NONE)
		begin(run);
	else if (run->setting == RUN_SET_AGREED && rng_one_in(&run->rng, 2))
		make(run);
	if (run->setting == RUN_SET_BEGUN && (ahead || rng_one_in(&run->rng, 2)))
		agree(run);
}

void run_set_finish(struct run *run)
{
	if (run->setting == RUN_SET_BEGUN && rng_one_in(&run->rng, 4))
		end(run);
	if (run->setting == RUN_SET_BEGUN)
		agree(run);
	if (run->setting == RUN_SET_AGREED)
		make(run);
}
