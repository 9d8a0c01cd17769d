/* A pairing heap: a tree in which each node comes before its children. */
#include "server/base/heap.h"

#include <assert.h>

static bool before(const struct heap_node *a, const struct heap_node *b)
{
	return a->key != b->key ? a->key < b->key : a->order < b->order;
}

/* Makes the later of two trees the first child of the other. */
static struct heap_node *join(struct heap_node *a, struct heap_node *b)
{
	if (a == NULL || b == NULL)
		return a != NULL ? a : b;
	struct heap_node *top = before(a, b) ? a : b;
	struct heap_node *under = top == a ? b : a;

	under->next = top->child;
	if (under->next != NULL)
		under->next->previous = under;
	under->previous = top;
	top->child = under;
	top->next = NULL;
	top->previous = NULL;
	return top;
}

/* One tree of a list of siblings: in pairs from the left, then all from the right,
 * which is what keeps the trees shallow. */
static struct heap_node *join_siblings(struct heap_node *node)
{
	struct heap_node *pairs = NULL, *whole = NULL;

	while (node != NULL) {
		struct heap_node *second = node->next;
		struct heap_node *rest = second != NULL ? second->next : NULL;
		struct heap_node *pair = join(node, second);
		pair->next = pairs;
		pairs = pair;
		node = rest;
	}
	while (pairs != NULL) {
		struct heap_node *rest = pairs->next;
		pairs->next = NULL;
		pairs->previous = NULL;
		whole = join(whole, pairs);
		pairs = rest;
	}
	return whole;
}

void heap_add(struct heap *heap, struct heap_node *node, uint64_t key, uint64_t order)
{
	assert(!node->in);
	*node = (struct heap_node){.key = key, .order = order, .in = true};
	heap->first = join(heap->first, node);
}

void heap_remove(struct heap *heap, struct heap_node *node)
{
	assert(node->in);
	struct heap_node *under = join_siblings(node->child);

	if (node == heap->first) {
		heap->first = under;
	} else {
		if (node->previous->child == node)
			node->previous->child = node->next;
		else
			node->previous->next = node->next;
		if (node->next != NULL)
			node->next->previous = node->previous;
		heap->first = join(heap->first, under);
	}
	*node = (struct heap_node){0};
}
