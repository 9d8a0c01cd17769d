/* The cluster, its clock, and the end of a run. */
#include "tests/sim/sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Faults end after a while, so that everything must come to its end. */
#define FAULTS_MS 20000u
#define LIMIT_MS 150000u

static const char *const ENDPOINTS[LIMIT_LANES] = {"a", "b", "c", "d"};

void sim_fail(struct sim *sim, const char *format, ...)
{
	va_list args;

	if (sim->failure[0] != '\0')
		return;
	int used = snprintf(sim->failure, sizeof(sim->failure), "seed %llu, %llu ms: ",
	                    (unsigned long long)sim->seed, (unsigned long long)sim->now_ms);
	va_start(args, format);
	vsnprintf(sim->failure + used, sizeof(sim->failure) - (size_t)used, format, args);
	va_end(args);
}

static void start_engine(struct sim *sim, uint32_t index)
{
	/* A narrow window now and then: requests then wait for FOLDED. */
	uint32_t window = index % 2 == 0 ? LIMIT_WINDOW_BYTES : 2 * LIMIT_BLOCK_BYTES;
	struct engine_options options = {.lane = index % sim->lanes,
	                                 .lanes = sim->lanes,
	                                 .endpoints = ENDPOINTS,
	                                 .daemon_id = 1 + index / sim->lanes,
	                                 .epoch = 40 + index / sim->lanes,
	                                 .seed = sim->seed,
	                                 .isa = OPTIM_ISA_BASE,
	                                 .memory_bytes = UINT64_C(1) << 32,
	                                 .message_bytes = LIMIT_MESSAGE_BYTES,
	                                 .window_bytes = window,
	                                 .models = 1,
	                                 .workers = SIM_WORKERS,
	                                 .step_timeout_ms = 15000,
	                                 .notice_ms = 5000,
	                                 .lease_ms = 3000,
	                                 .presets = &sim->preset,
	                                 .preset_count = 1};
	sim->engines[index] = engine_new(&options, sim->pool);
	if (sim->engines[index] == NULL)
		abort();
}

static bool all_done(const struct sim *sim)
{
	for (uint32_t i = 0; i < sim->workers; i++) {
		if (sim->worker[i].state != WORKER_DONE)
			return false;
	}
	return true;
}

static void turn(struct sim *sim)
{
	net_turn(sim);
	for (uint32_t i = 0; i < sim->workers; i++)
		worker_turn(sim, &sim->worker[i]);
	if (sim->now_ms % 100 == 0) {
		for (uint32_t i = 0; i < sim->daemons * sim->lanes; i++) {
			while (engine_tick(sim->engines[i], sim->now_ms, &sim->out))
				net_send_down(sim, i);
			net_send_down(sim, i);
		}
	}
	for (uint32_t i = 0; i < sim->daemons * sim->lanes; i++) {
		net_work(sim, i);
		net_send_kept(sim, i);
	}
	set_turn(sim);
	if (sim->now_ms < FAULTS_MS && rng_one_in(&sim->rng, sim->fault_every_ms))
		net_fault(sim);
	sim->now_ms++;
}

void sim_run(struct sim *sim, uint64_t seed)
{
	memset(sim, 0, sizeof(*sim));
	sim->seed = seed;
	sim->rng = rng_new(seed);
	sim->now_ms = 1;
	plan_make(sim);
	sim->pool = buf_pool_new(1u << 24);
	sim->links = calloc(SIM_LINKS, sizeof(*sim->links));
	outbox_init(&sim->out);
	for (uint32_t i = 0; i < sim->daemons * sim->lanes; i++)
		start_engine(sim, i);
	for (uint32_t i = 0; i < sim->workers; i++)
		worker_start(sim, &sim->worker[i], i, rng_below(&sim->rng, 200));
	while (!all_done(sim) && sim->failure[0] == '\0') {
		turn(sim);
		if (sim->now_ms > LIMIT_MS)
			sim_fail(sim, "worker 0 hangs in state %d at step %llu, with %u answers to come",
			         sim->worker[0].state, (unsigned long long)sim->worker[0].step,
			         sim->worker[0].left);
	}
	if (sim->failure[0] == '\0')
		plan_compare(sim);
}

void sim_free(struct sim *sim)
{
	net_free(sim);
	for (uint32_t i = 0; i < sim->workers; i++)
		worker_free(&sim->worker[i]);
	for (uint32_t i = 0; i < SIM_ENGINES; i++)
		engine_free(sim->engines[i]);
	outbox_deinit(&sim->out);
	buf_pool_free(sim->pool);
	plan_free(sim);
}
