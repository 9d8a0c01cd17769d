/* An operator who changes the learning rate while the cluster trains: prepares it on all
 * lanes, each a little later than the last, agrees, and makes it or withdraws it. */
#include <string.h>

#include "tests/sim/sim.h"

static uint32_t engine_count(const struct sim *sim)
{
	return sim->daemons * sim->lanes;
}

/* The engine's part of the model, or NULL where it has no blocks. */
static struct shard *part_of(const struct sim *sim, uint32_t engine)
{
	struct shard *shard = engine_find(sim->engines[engine], "m");
	return shard != NULL && shard->model->owned.count > 0 ? shard : NULL;
}

static uint32_t blocks_ready(const struct sim *sim)
{
	uint32_t blocks = 0;

	for (uint32_t e = 0; e < engine_count(sim); e++) {
		const struct shard *shard = part_of(sim, e);
		blocks += shard != NULL && shard->ready ? shard->model->owned.count : 0;
	}
	return blocks;
}

/* The rule's lr, or the count: of rprop it only says how state begins, adafactor_paper has its
 * own unless told otherwise. */
static uint32_t find_lr(const struct optim_rule *rule)
{
	uint32_t i = 0, count = optim_hyper_count(rule);

	while (i < count && strcmp(optim_hyper(rule, i)->name, "lr") != 0)
		i++;
	bool without = strcmp(optim_rule_name(rule), "rprop") == 0 ||
	               strcmp(optim_rule_name(rule), "adafactor_paper") == 0;
	return without ? count : i;
}

static void begin(struct sim *sim, uint32_t engine)
{
	struct shard *shard = part_of(sim, engine);
	struct msg_set set = {.hyper_count = 1};
	char why[LIMIT_TEXT_BYTES] = "";

	set.hypers[0] = (struct msg_hyper){{"lr", 2}, {sim->set.lr}, 1};
	if (shard != NULL && engine_set_begin(shard, &set, why, sizeof(why)) < 0)
		sim_fail(sim, "engine %u: %s", engine, why);
}

static void agree(struct sim *sim, uint32_t engine)
{
	struct shard *shard = part_of(sim, engine);
	char why[LIMIT_TEXT_BYTES] = "";

	if (engine == 0) {
		sim->set.from = 0;
		for (uint32_t e = 0; e < engine_count(sim); e++) {
			const struct shard *other = part_of(sim, e);
			if (other != NULL && other->set.from > sim->set.from)
				sim->set.from = other->set.from;
		}
	}
	if (shard != NULL &&
	    engine_set_agree(sim->engines[engine], shard, sim->set.from, 0, why, sizeof(why)) < 0)
		sim_fail(sim, "engine %u: %s", engine, why);
}

static void make(struct sim *sim, uint32_t engine)
{
	struct shard *shard = part_of(sim, engine);

	if (shard != NULL && sim->set.withdrawn)
		engine_set_end(sim->engines[engine], shard);
	else if (shard != NULL)
		engine_set_make(sim->engines[engine], shard);
	if (engine == 0 && !sim->set.withdrawn)
		sim->sets[sim->set_count++] = (struct sim_set){.from = sim->set.from, .lr = sim->set.lr};
}

void set_turn(struct sim *sim)
{
	static void (*const steps[])(struct sim *sim, uint32_t engine) = {begin, agree, make};
	const struct optim_rule *rule = sim->settings.optim.rule;
	struct sim_set *set = &sim->set;

	if (set->next == 0) {
		if (find_lr(rule) == optim_hyper_count(rule) || sim->set_count == SIM_SETS || !rng_one_in(&sim->rng, 500) ||
		    blocks_ready(sim) < layout_block_count(sim->layout))
			return;
		set->lr = 1e-3 * (1 + rng_below(&sim->rng, 50));
		set->withdrawn = rng_one_in(&sim->rng, 4);
	} else if (!rng_one_in(&sim->rng, 20)) {
		return;
	}
	uint32_t engine = set->next % engine_count(sim);
	steps[set->next / engine_count(sim)](sim, engine);
	net_send_down(sim, engine);
	set->next = (set->next + 1) % (3 * engine_count(sim));
}

void set_reference(const struct sim *sim, struct reference *reference)
{
	uint32_t lr = find_lr(sim->settings.optim.rule);

	for (uint32_t i = 0; i < sim->set_count; i++) {
		for (uint32_t t = 0; t < sim->tensor_count; t++) {
			const double values[OPTIM_VALUES_MAX] = {sim->sets[i].lr};
			if (reference->optims[t] == &reference->optim)
				reference_set(reference, t, sim->sets[i].from, lr, values);
		}
	}
}
