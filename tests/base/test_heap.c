/* Heap: the order in which nodes come out, whatever was added and removed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/base/heap.h"

#define NODES 500u

struct thing {
	int before; /* so that the node is not at the beginning */
	struct heap_node node;
};

static void test_smallest_key_comes_first(void **state)
{
	(void)state;
	struct thing things[3] = {0};
	struct heap heap = {0};
	static const uint64_t keys[3] = {5, 3, 4};
	for (uint32_t i = 0; i < 3; i++)
		heap_add(&heap, &things[i].node, keys[i], i);
	assert_ptr_equal(heap_owner(heap.first, struct thing, node), &things[1]);
	heap_remove(&heap, heap.first);
	assert_ptr_equal(heap_owner(heap.first, struct thing, node), &things[2]);
}

static void test_equals_come_in_order_of_arrival(void **state)
{
	(void)state;
	struct thing things[NODES] = {0};
	struct heap heap = {0};
	for (uint32_t i = 0; i < NODES; i++)
		heap_add(&heap, &things[i].node, 7, i);
	for (uint32_t i = 0; i < NODES; i++) {
		assert_ptr_equal(heap.first, &things[i].node);
		heap_remove(&heap, heap.first);
	}
	assert_null(heap.first);
}

static void test_removed_node_is_in_no_heap(void **state)
{
	(void)state;
	struct thing thing = {0};
	struct heap heap = {0};
	assert_false(thing.node.in);
	heap_add(&heap, &thing.node, 1, 1);
	assert_true(thing.node.in);
	heap_remove(&heap, &thing.node);
	assert_false(thing.node.in);
	assert_null(heap.first);
}

/* Against a scan over all of them. */
static void test_any_adding_and_removing_keeps_the_order(void **state)
{
	(void)state;
	struct thing things[NODES] = {0};
	struct heap heap = {0};
	uint64_t random = 88172645463325252u;
	for (uint64_t turn = 0; turn < 20000; turn++) {
		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		struct heap_node *node = &things[random % NODES].node;
		if (node->in)
			heap_remove(&heap, node);
		else
			heap_add(&heap, node, random >> 60, turn);
		const struct heap_node *first = NULL;
		for (uint32_t i = 0; i < NODES; i++) {
			const struct heap_node *other = &things[i].node;
			if (other->in && (first == NULL || other->key < first->key ||
			                  (other->key == first->key && other->order < first->order)))
				first = other;
		}
		assert_ptr_equal(heap.first, first);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_smallest_key_comes_first),
	        cmocka_unit_test(test_equals_come_in_order_of_arrival),
	        cmocka_unit_test(test_removed_node_is_in_no_heap),
	        cmocka_unit_test(test_any_adding_and_removing_keeps_the_order),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
