/* The fixture, and what tests ask of it. */
#include "tests/support/calls_world.h"

static void notice(void *user, const char *text)
{
	struct world *w = user;
	snprintf(w->noticed, sizeof(w->noticed), "%s", text);
}

optd_layout *calls_layout(void)
{
	optd_layout *layout = optd_layout_new();
	assert_int_equal(optd_layout_add(layout, "a", (const uint64_t[]){A}, 1), 0);
	assert_int_equal(optd_layout_add(layout, "b", (const uint64_t[]){2, LIMIT_BLOCK_ELEMENTS}, 2), 1);
	assert_int_equal(optd_layout_add(layout, "c", (const uint64_t[]){C}, 1), 2);
	assert_int_equal(optd_layout_elements(layout), N);
	return layout;
}

int calls_set_up(void **state)
{
	return calls_set_up_policy(state, 0, 0);
}

int calls_set_up_policy(void **state, int nonfinite, int loss_scale)
{
	struct world *w = calloc(1, sizeof(*w));
	fake_daemon_start(&w->daemon, 77);
	atomic_store(&w->daemon.nonfinite, nonfinite);
	atomic_store(&w->daemon.next_scale, loss_scale);
	w->gradient = malloc(N * sizeof(float));
	w->weights = malloc(N * sizeof(float));
	for (uint32_t i = 0; i < N; i++) {
		w->gradient[i] = 1;
		w->weights[i] = (float)i;
	}
	optd_options options = {.timeout_ms = 20000, .notice = notice, .user = w};
	assert_int_equal(optd_connect(w->daemon.endpoint, &options, &w->client), 0);
	optd_layout *layout = calls_layout();
	assert_int_equal(optd_open(w->client, "m", layout, NULL, &w->model), 0);
	optd_layout_free(layout);
	assert_int_equal(optd_init(w->model, w->weights), 1);
	*state = w;
	return 0;
}

int calls_tear_down(void **state)
{
	struct world *w = *state;
	optd_close(&w->client);
	assert_null(w->client);
	fake_daemon_stop(&w->daemon);
	free(w->gradient);
	free(w->weights);
	free(w);
	return 0;
}

void calls_expect_weights(const struct world *w, float added)
{
	for (uint32_t i = 0; i < N; i++)
		if (w->weights[i] != (float)i + added)
			fail_msg("weight %u is %g, not %g", i, (double)w->weights[i], (double)i + added);
}

uint64_t calls_step(const struct world *w)
{
	optd_model_info info;
	optd_model_get_info(w->model, &info);
	return info.step;
}
