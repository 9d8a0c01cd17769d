/*
 * A set of recorded test vectors on disk: the cases of its manifest.tsv and the
 * tensors of its files, found through tensors.tsv.  tests/vectors/README.md is
 * the format.
 */
#ifndef OPTD_TESTS_VECTORS_SET_H
#define OPTD_TESTS_VECTORS_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A row of the manifest; the texts belong to the set. */
struct vectors_case {
	const char *name;
	const char *kind;   /* torch, torch2, seed, ref, clip */
	const char *rule;   /* the manifest's name of it */
	const char *dtype;  /* f32, f64 */
	const char *shape;  /* "7", "8x12" */
	const char *hyper;  /* "k=v;..." */
	const char *events; /* "step:k=v|...", applied before that step */
	const char *record; /* "1,2,10": recorded steps */
	const char *grads_file, *case_file;
	const char *state; /* "exp_avg,step" */
	uint32_t steps;
	bool bitexact;
	double tol_sulp; /* 0 where only the exact result can pass */
};

struct vectors;

/* The set in a folder, or NULL and a sentence in why. */
struct vectors *vectors_open(const char *folder, char *why, size_t why_bytes);
void vectors_close(struct vectors *set);

uint32_t vectors_count(const struct vectors *set);
struct vectors_case vectors_case(const struct vectors *set, uint32_t index);

bool vectors_has(const struct vectors *set, const char *file, const char *tensor);

/* A tensor's elements, F64 rounded to float; the caller frees them.  NULL where
 * there is no such tensor of F32 or F64, or it cannot be read. */
float *vectors_floats(const struct vectors *set, const char *file, const char *tensor,
                      size_t *count);

/* The one number of an I64 tensor; false where there is none. */
bool vectors_integer(const struct vectors *set, const char *file, const char *tensor, int64_t *out);

#endif
