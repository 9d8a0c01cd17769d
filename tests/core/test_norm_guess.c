/*
 * Norms of a model that several daemons share, after a crash: parts of a step that nobody
 * knows any more are guessed, and count when no rank has better ones.
 */
#include "server/core/verbs.h"
#include "tests/support/core_daemons.h"
#include "tests/support/rng_seed.h"

#define ELEMENTS (DAEMONS_MOST * LIMIT_BLOCK_SEGMENTS)
#define BLOCK LIMIT_BLOCK_SEGMENTS

static struct daemons d;
static float gradient[ELEMENTS];
static double parts[ELEMENTS];

static void start(uint32_t workers)
{
	d = (struct daemons){.daemons = 2, .lanes = 1, .workers = workers, .clip = {.norm = 1}};
	daemons_start(&d);
}

static void fill(uint64_t seed)
{
	struct rng rng = rng_new(seed);

	for (uint32_t i = 0; i < ELEMENTS; i++) {
		gradient[i] = rng_float(&rng);
		parts[i] = (double)gradient[i] * (double)gradient[i];
	}
}

static uint64_t version(uint32_t daemon)
{
	return daemons_model(&d, daemon)->versions[0];
}

static uint64_t guess(uint32_t daemon, uint32_t rank, uint64_t number, const double *numbers)
{
	struct core_client *client = daemons_client(&d, daemon, rank);
	struct layout_run other = daemons_blocks(&d, 1 - daemon);
	struct msg msg = daemons_norm(client, number, other);

	msg.guessed = true;
	msg.payload = numbers + daemons_segment(&d, other.first);
	msg.payload_bytes = BLOCK * sizeof(double);
	return core_send(client, &msg, NULL, 0);
}

static void test_guesses_count_when_all_ranks_have_nothing_better(void **state)
{
	(void)state;
	start(2);
	fill(8);
	daemons_push(&d, 0, 0, 0, gradient);
	daemons_push(&d, 0, 1, 0, gradient);
	core_assert_ok(daemons_world(&d, 0), guess(0, 0, 0, parts));
	core_assert_ok(daemons_world(&d, 0), guess(0, 0, 0, parts));
	assert_int_equal(version(0), 0);
	core_assert_ok(daemons_world(&d, 0), guess(0, 1, 0, parts));
	assert_int_equal(version(0), 1);
	daemons_end(&d);
}

static void test_who_knows_better_than_a_guess_is_believed(void **state)
{
	static double wrong[ELEMENTS];
	float told, alone = 0;

	(void)state;
	for (int early = 0; early < 2; early++) {
		start(2);
		fill(9);
		for (uint32_t i = 0; i < ELEMENTS; i++)
			wrong[i] = 1e6;
		daemons_push(&d, 0, 0, 0, gradient);
		if (early == 0)
			guess(0, 0, 0, wrong);
		daemons_tell(&d, 0, 1, 0, 1, parts);
		if (early == 1)
			guess(0, 0, 0, wrong);
		daemons_push(&d, 0, 1, 0, gradient);
		assert_int_equal(version(0), 1);
		told = daemons_model(&d, 0)->weights[0];
		daemons_end(&d);
		alone = early == 0 ? told : alone;
		assert_true(told == alone && told != 0);
	}
}

static void test_guesses_of_one_step_do_not_count_in_the_next(void **state)
{
	(void)state;
	start(1);
	fill(10);
	for (uint64_t number = 0; number < 2; number++) {
		daemons_push(&d, 0, 0, number, gradient);
		assert_int_equal(version(0), number);
		guess(0, 0, number, parts);
		assert_int_equal(version(0), number + 1);
	}
	daemons_end(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_guesses_count_when_all_ranks_have_nothing_better),
		cmocka_unit_test(test_who_knows_better_than_a_guess_is_believed),
		cmocka_unit_test(test_guesses_of_one_step_do_not_count_in_the_next),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
