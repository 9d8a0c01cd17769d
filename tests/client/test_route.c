/*
 * Route: random layouts, owners and choices of tensors, cut into messages and
 * put together again, must give what was there, block by block in ascending
 * order, within the bounds of payload, window and header.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client/route.h"
#include "tests/support/rng_seed.h"

#define LANES_MAX 7

/* ---- a world to cut ---------------------------------------------------- */

struct world {
	struct layout *layout;
	uint32_t lane_count;
	struct route_lane lanes[LANES_MAX];
	uint32_t tensors[512];
	uint32_t tensor_count;
};

static struct rng rng_seeded(void)
{
	uint64_t seed = rng_seed();
	print_message("seed: OPTD_SEED=%llu\n", (unsigned long long)seed);
	return rng_new(seed);
}

static void add(struct layout *layout, uint64_t count)
{
	char name[32];
	int n = snprintf(name, sizeof(name), "t%u", layout_tensor_count(layout));
	assert_int_equal(layout_add(layout, name, (size_t)n, &count, 1, 0), 0);
}

static void share(struct world *w, uint32_t lanes)
{
	w->lane_count = lanes;
	for (uint32_t i = 0; i < lanes; i++)
		w->lanes[i] = (struct route_lane){
			.blocks = layout_owned(w->layout, 0, 1, i, lanes),
			.message_bytes = LIMIT_MESSAGE_BYTES,
			.window_bytes = LIMIT_WINDOW_BYTES,
		};
}

static void world_random(struct world *w, struct rng *rng)
{
	memset(w, 0, sizeof(*w));
	w->layout = layout_new();
	uint32_t count = 1 + rng_below(rng, 60);
	for (uint32_t i = 0; i < count; i++)
		add(w->layout, rng_below(rng, 8) == 0 ? rng_below(rng, 400000) : rng_below(rng, 300));
	add(w->layout, 1); /* never empty */
	assert_int_equal(layout_cut(w->layout, NULL), 0);
	share(w, 1 + rng_below(rng, LANES_MAX));
	for (uint32_t i = 0; i < w->lane_count; i++)
		if (rng_below(rng, 3) == 0)
			w->lanes[i].message_bytes = LIMIT_BLOCK_BYTES;
	uint32_t every = 1 + rng_below(rng, 4);
	for (uint32_t i = 0; i <= count; i++)
		if (rng_below(rng, every) == 0)
			w->tensors[w->tensor_count++] = i;
}

static void world_free(struct world *w)
{
	layout_free(w->layout);
}

static struct route *cut(const struct world *w, bool all, bool push)
{
	struct route *route;
	assert_int_equal(route_new(w->layout, w->lanes, w->lane_count, all ? NULL : w->tensors,
	                           all ? 0 : w->tensor_count, push, &route),
	                 0);
	return route;
}

/* ---- the server's view of a message ------------------------------------ */

static bool in_mask(const struct msg_part *part, uint32_t segment)
{
	return !part->mask || (part->mask[segment / 8] >> (segment % 8) & 1);
}

/* Marks in `seen` (a byte for each element of the vector) what a message is
 * about, and copies its payload there, as a server would: block by block,
 * segment by segment. */
static void receive(const struct world *w, const struct route *route, const struct route_message *m,
                    const float *payload, uint8_t *seen, float *vector)
{
	for (uint32_t i = 0; i < m->part_count; i++) {
		const struct msg_part *part = &route->parts[m->first_part + i];
		for (uint32_t b = part->first; b < part->first + part->count; b++) {
			const struct layout_block *block = layout_block(w->layout, b);
			for (uint32_t s = 0; s < block->segment_count; s++) {
				const struct layout_segment *segment =
					layout_segment(w->layout, block->first_segment + s);
				if (!in_mask(part, s))
					continue;
				uint64_t at = block->begin + segment->offset;
				for (uint32_t k = 0; k < segment->count; k++) {
					assert_int_equal(seen[at + k], 0);
					seen[at + k] = m->close ? 2 : 1;
					if (!m->close)
						vector[at + k] = *payload++;
				}
			}
		}
	}
}

static void check_order_and_bounds(const struct world *w, const struct route *route)
{
	uint32_t next[LANES_MAX][2] = {{0}};
	for (uint32_t i = 0; i < route->message_count; i++) {
		const struct route_message *m = &route->messages[i];
		const struct route_lane *lane = &w->lanes[m->lane];
		uint32_t *at = &next[m->lane][m->close];
		uint32_t header = 0;
		assert_true(m->part_count >= 1 && m->part_count <= LIMIT_PARTS);
		assert_true(m->bytes <= lane->message_bytes);
		bool single = m->part_count == 1 && route->parts[m->first_part].count == 1;
		assert_true(single || m->bytes <= lane->window_bytes / 2);
		assert_true(m->bytes <= route->largest);
		for (uint32_t p = 0; p < m->part_count; p++) {
			const struct msg_part *part = &route->parts[m->first_part + p];
			assert_true(part->first >= *at && part->first >= lane->blocks.first);
			*at = part->first + part->count;
			assert_true(*at <= lane->blocks.first + lane->blocks.count);
			header += ROUTE_PART_BYTES + part->mask_bytes;
			if (part->mask)
				assert_int_equal(part->mask_bytes,
				                 (layout_block(w->layout, part->first)->segment_count + 7) / 8);
		}
		assert_true(header <= ROUTE_PARTS_BYTES);
	}
}

/* ---- claims ------------------------------------------------------------ */

static void deliver(const struct world *w, const struct route *route, const void *const *items,
                    uint8_t *seen, float *vector)
{
	for (uint32_t i = 0; i < route->message_count; i++) {
		const struct route_message *m = &route->messages[i];
		float *payload = malloc(m->bytes + 1);
		route_gather(route, m, items, DTYPE_F32, payload);
		receive(w, route, m, payload, seen, vector);
		free(payload);
	}
}

static void whole_model(struct rng *rng)
{
	struct world w;
	world_random(&w, rng);
	uint64_t n = layout_elements(w.layout);
	float *from = malloc(n * 4), *to = calloc(n, 4);
	uint8_t *seen = calloc(n, 1);
	for (uint64_t i = 0; i < n; i++)
		from[i] = (float)(i % 1000003);
	struct route *route = cut(&w, true, true);
	check_order_and_bounds(&w, route);
	const void *items[1] = {from};
	deliver(&w, route, items, seen, to);
	assert_memory_equal(from, to, n * 4);
	free(from);
	free(to);
	free(seen);
	route_free(route);
	world_free(&w);
}

static void test_a_whole_model_arrives_element_by_element(void **state)
{
	struct rng rng = rng_seeded();
	(void)state;
	for (int i = 0; i < 60; i++)
		whole_model(&rng);
}

/* Every chosen element arrives, in a push the rest of each block is closed by
 * its mask or by CLOSE_STEP, and nothing else is touched. */
static void check_some(const struct world *w, const uint8_t *seen, const float *vector, bool push)
{
	uint32_t next = 0;
	for (uint32_t t = 0; t < layout_tensor_count(w->layout); t++) {
		const struct layout_tensor *tensor = layout_tensor(w->layout, t);
		bool chosen = next < w->tensor_count && w->tensors[next] == t;
		for (uint64_t k = 0; k < tensor->count; k++) {
			uint64_t at = tensor->offset + k;
			if (chosen)
				assert_true(seen[at] == 1 && vector[at] == (float)(at % 1000003));
			else
				assert_true(seen[at] != 1 && (push || seen[at] == 0));
		}
		next += chosen;
	}
	for (uint32_t b = 0; push && b < layout_block_count(w->layout); b++) {
		const struct layout_block *block = layout_block(w->layout, b);
		bool any = false, closed = true;
		for (uint32_t k = 0; k < block->count; k++) {
			any = any || seen[block->begin + k] == 1;
			closed = closed && seen[block->begin + k] == 2;
		}
		assert_true(any || closed);
	}
}

static void some_tensors(struct rng *rng, bool push)
{
	struct world w;
	world_random(&w, rng);
	uint64_t n = layout_elements(w.layout);
	float *from = malloc(n * 4), *to = calloc(n, 4);
	uint8_t *seen = calloc(n, 1);
	const void *items[512] = {0};
	for (uint64_t i = 0; i < n; i++)
		from[i] = (float)(i % 1000003);
	for (uint32_t i = 0; i < w.tensor_count; i++)
		items[i] = from + layout_tensor(w.layout, w.tensors[i])->offset;
	struct route *route = cut(&w, false, push);
	check_order_and_bounds(&w, route);
	deliver(&w, route, items, seen, to);
	check_some(&w, seen, to, push);
	free(from);
	free(to);
	free(seen);
	route_free(route);
	world_free(&w);
}

static void test_some_tensors_arrive_and_the_rest_is_closed(void **state)
{
	struct rng rng = rng_seeded();
	(void)state;
	for (int i = 0; i < 60; i++)
		some_tensors(&rng, true);
}

static void test_a_pull_of_some_tensors_closes_nothing(void **state)
{
	struct rng rng = rng_seeded();
	(void)state;
	for (int i = 0; i < 30; i++)
		some_tensors(&rng, false);
}

static void test_scatter_is_the_inverse_of_gather(void **state)
{
	struct rng rng = rng_seeded();
	struct world w;
	(void)state;
	world_random(&w, &rng);
	uint64_t n = layout_elements(w.layout);
	float *from = malloc(n * 4), *to = calloc(n, 4);
	for (uint64_t i = 0; i < n; i++)
		from[i] = (float)i;
	struct route *route = cut(&w, true, false);
	float *payload = malloc(route->largest);
	for (uint32_t i = 0; i < route->message_count; i++) {
		const void *source[1] = {from};
		float *target[1] = {to};
		route_gather(route, &route->messages[i], source, DTYPE_F32, payload);
		route_scatter(route, &route->messages[i], payload, target);
	}
	assert_memory_equal(from, to, n * 4);
	free(payload);
	free(from);
	free(to);
	route_free(route);
	world_free(&w);
}

static void test_many_masks_still_fit_a_header(void **state)
{
	struct world w = {.layout = layout_new()};
	(void)state;
	/* Blocks of 4096 one-element tensors have masks of 512 bytes each. */
	for (uint32_t i = 0; i < 6 * 4096; i++)
		add(w.layout, 1);
	assert_int_equal(layout_cut(w.layout, NULL), 0);
	share(&w, 1);
	for (uint32_t i = 0; i < 6; i++)
		w.tensors[w.tensor_count++] = i * 4096 + 17;
	struct route *route = cut(&w, false, false);
	check_order_and_bounds(&w, route);
	assert_int_equal(route->message_count, 2);
	route_free(route);
	world_free(&w);
}

static void test_a_message_takes_at_most_half_the_window(void **state)
{
	struct world w = {.layout = layout_new()};
	(void)state;
	/* Each tensor of 64 KiB shares its block with one that is not chosen. */
	for (uint32_t i = 0; i < 6; i++) {
		add(w.layout, 16384);
		add(w.layout, LIMIT_BLOCK_ELEMENTS - 16384);
		w.tensors[w.tensor_count++] = 2 * i;
	}
	assert_int_equal(layout_cut(w.layout, NULL), 0);
	share(&w, 1);
	struct route *route = cut(&w, false, false);
	assert_int_equal(route->message_count, 1);
	route_free(route);
	w.lanes[0].window_bytes = 4 * 65536;
	route = cut(&w, false, false);
	check_order_and_bounds(&w, route);
	assert_int_equal(route->message_count, 3);
	route_free(route);
	world_free(&w);
}

static void test_more_runs_than_a_message_has_parts_take_two(void **state)
{
	struct world w = {.layout = layout_new()};
	uint32_t closing = 0;
	(void)state;
	for (uint32_t i = 0; i < 2 * LIMIT_PARTS + 2; i++)
		add(w.layout, LIMIT_BLOCK_ELEMENTS);
	for (uint32_t i = 0; i < LIMIT_PARTS + 1; i++)
		w.tensors[w.tensor_count++] = 2 * i;
	assert_int_equal(layout_cut(w.layout, NULL), 0);
	share(&w, 1);
	struct route *route = cut(&w, false, true);
	check_order_and_bounds(&w, route);
	for (uint32_t i = 0; i < route->message_count; i++)
		closing += route->messages[i].close;
	assert_int_equal(closing, 2);
	route_free(route);
	world_free(&w);
}

static void test_thousands_of_small_tensors_cost_one_message(void **state)
{
	struct world w = {.layout = layout_new()};
	(void)state;
	for (uint32_t i = 0; i < 5000; i++)
		add(w.layout, 10);
	assert_int_equal(layout_cut(w.layout, NULL), 0);
	share(&w, 1);
	struct route *route = cut(&w, true, true);
	assert_int_equal(route->message_count, 1);
	assert_int_equal(route->messages[0].part_count, 1);
	assert_int_equal(route->messages[0].piece_count, 1);
	route_free(route);
	world_free(&w);
}

static void test_a_lane_with_nothing_to_push_is_closed_in_one_run(void **state)
{
	struct world w = {.layout = layout_new(), .tensor_count = 1};
	(void)state;
	for (uint32_t i = 0; i < 8; i++)
		add(w.layout, LIMIT_BLOCK_ELEMENTS);
	assert_int_equal(layout_cut(w.layout, NULL), 0);
	share(&w, 2);
	struct route *route = cut(&w, false, true);
	/* lane 0: CLOSE_STEP of blocks 1 to 3, then block 0; lane 1: CLOSE_STEP */
	assert_int_equal(route->message_count, 3);
	assert_true(route->messages[0].close && !route->messages[1].close && route->messages[2].close);
	const struct msg_part *part = &route->parts[route->messages[2].first_part];
	assert_int_equal(part->first, 4);
	assert_int_equal(part->count, 4);
	route_free(route);
	world_free(&w);
}

static void test_no_tensor_at_all_closes_every_block(void **state)
{
	struct rng rng = rng_seeded();
	struct world w;
	uint32_t blocks = 0;
	(void)state;
	world_random(&w, &rng);
	w.tensor_count = 0;
	struct route *route = cut(&w, false, true);
	for (uint32_t i = 0; i < route->part_count; i++)
		blocks += route->parts[i].count;
	assert_int_equal(blocks, layout_block_count(w.layout));
	assert_int_equal(route->largest, 0);
	route_free(route);
	world_free(&w);
}

static void test_tensors_out_of_order_or_unknown_are_refused(void **state)
{
	struct world w = {.layout = layout_new(), .tensors = {1, 0}, .tensor_count = 2};
	struct route *route;
	(void)state;
	add(w.layout, 3);
	add(w.layout, 3);
	assert_int_equal(layout_cut(w.layout, NULL), 0);
	share(&w, 1);
	assert_int_equal(route_new(w.layout, w.lanes, 1, w.tensors, 2, true, &route), OPTD_INVALID);
	w.tensors[0] = w.tensors[1] = 1;
	assert_int_equal(route_new(w.layout, w.lanes, 1, w.tensors, 2, true, &route), OPTD_INVALID);
	w.tensors[0] = 2;
	assert_int_equal(route_new(w.layout, w.lanes, 1, w.tensors, 1, true, &route), OPTD_INVALID);
	world_free(&w);
}

static void test_a_block_larger_than_the_server_takes_is_refused(void **state)
{
	struct world w = {.layout = layout_new()};
	struct route *route;
	(void)state;
	add(w.layout, LIMIT_BLOCK_ELEMENTS);
	assert_int_equal(layout_cut(w.layout, NULL), 0);
	share(&w, 1);
	w.lanes[0].message_bytes = LIMIT_BLOCK_BYTES - 4;
	assert_int_equal(route_new(w.layout, w.lanes, 1, NULL, 0, true, &route), OPTD_TOO_LARGE);
	world_free(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_whole_model_arrives_element_by_element),
		cmocka_unit_test(test_some_tensors_arrive_and_the_rest_is_closed),
		cmocka_unit_test(test_a_pull_of_some_tensors_closes_nothing),
		cmocka_unit_test(test_scatter_is_the_inverse_of_gather),
		cmocka_unit_test(test_many_masks_still_fit_a_header),
		cmocka_unit_test(test_a_message_takes_at_most_half_the_window),
		cmocka_unit_test(test_more_runs_than_a_message_has_parts_take_two),
		cmocka_unit_test(test_thousands_of_small_tensors_cost_one_message),
		cmocka_unit_test(test_a_lane_with_nothing_to_push_is_closed_in_one_run),
		cmocka_unit_test(test_no_tensor_at_all_closes_every_block),
		cmocka_unit_test(test_tensors_out_of_order_or_unknown_are_refused),
		cmocka_unit_test(test_a_block_larger_than_the_server_takes_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
