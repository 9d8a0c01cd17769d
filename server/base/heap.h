/*
 * Heap: things in order of a key, the smallest first, and among equals in order
 * of arrival.
 *
 * A pairing heap of nodes that live in what they order, so nothing is allocated
 * and nothing can fail: adding takes no search, taking the first or any other
 * one the logarithm of how many there are, over many.
 */
#ifndef OPTD_BASE_HEAP_H
#define OPTD_BASE_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Zeroed: in no heap. */
struct heap_node {
	struct heap_node *child, *next;
	struct heap_node *previous; /* the sibling before, or the parent of a first child */
	uint64_t key, order;
	bool in;
};

/* Zeroed: empty. */
struct heap {
	struct heap_node *first;
};

/* Adds a node that is in no heap.  No two nodes of a heap have the same order. */
void heap_add(struct heap *heap, struct heap_node *node, uint64_t key, uint64_t order);
/* Takes out a node that is in this heap. */
void heap_remove(struct heap *heap, struct heap_node *node);

/* What the node is a member of. */
#define heap_owner(node, type, member) ((type *)(void *)((char *)(node) - offsetof(type, member)))

#endif
