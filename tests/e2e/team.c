/* Threads over trainers. */
#include "tests/e2e/team.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *member_main(void *argument)
{
	struct member *member = argument;
	struct team *team = member->team;
	struct trainer trainer;

	member->rc = trainer_open(&trainer, team->endpoints, &team->plan, member->rank);
	while (member->rc >= OPTD_OK && trainer.step < team->until) {
		member->rc = trainer_step(&trainer);
		if (member->rank == 0)
			atomic_store(&team->step, trainer.step);
	}
	if (member->rc < 0)
		snprintf(member->error, sizeof(member->error), "%s", trainer_error(&trainer));
	member->weights = trainer.weights;
	trainer.weights = NULL;
	trainer_close(&trainer);
	return NULL;
}

void team_start(struct team *team, const char *endpoints, const struct plan *plan, uint64_t until)
{
	assert_true(plan->workers <= TEAM_MAX);
	memset(team, 0, sizeof(*team));
	snprintf(team->endpoints, sizeof(team->endpoints), "%s", endpoints);
	team->plan = *plan;
	team->until = until;
	for (uint32_t i = 0; i < plan->workers; i++) {
		team->members[i].team = team;
		team->members[i].rank = (int32_t)i;
		assert_int_equal(pthread_create(&team->members[i].thread, NULL, member_main,
		                                &team->members[i]), 0);
	}
}

void team_join(struct team *team)
{
	for (uint32_t i = 0; i < team->plan.workers && !team->joined; i++)
		pthread_join(team->members[i].thread, NULL);
	team->joined = true;
}

void team_free_weights(struct team *team)
{
	for (uint32_t i = 0; i < team->plan.workers; i++) {
		free(team->members[i].weights);
		team->members[i].weights = NULL;
	}
}

void team_assert_exact(struct team *team)
{
	team_join(team);
	for (uint32_t i = 0; i < team->plan.workers; i++) {
		if (team->members[i].rc < 0)
			fail_msg("rank %u: %s: %s", i, optd_status_name(team->members[i].rc),
			         team->members[i].error);
	}
	trainer_assert_exact(team->members[0].weights, &team->plan, team->until);
	for (uint32_t i = 1; i < team->plan.workers; i++)
		assert_memory_equal(team->members[i].weights, team->members[0].weights,
		                    trainer_elements() * sizeof(float));
	team_free_weights(team);
}
