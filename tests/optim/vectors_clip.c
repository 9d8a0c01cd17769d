/* Tensors g0, g1, ... clipped together, against out0, out1, ... and total_norm. */
#include "tests/optim/vectors_clip.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "optim/clip.h"
#include "tests/support/vectors_compare.h"

#define TENSORS_MAX 8

struct clip_case {
	const struct vectors_case *row;
	double limit, p; /* p 0: by value */
	uint32_t count;
	size_t sizes[TENSORS_MAX];
	float *in[TENSORS_MAX], *want[TENSORS_MAX], *norm;
};

static double number_after(const char *text, const char *key)
{
	const char *at = strstr(text, key);

	return at != NULL ? strtod(at + strlen(key), NULL) : 0;
}

static void load(struct clip_case *clip, const struct vectors *set)
{
	const char *file = clip->row->case_file;
	char name[16];

	clip->limit = number_after(clip->row->hyper, "max=");
	clip->p = strcmp(clip->row->rule, "clip_grad_value") == 0 ?
	                  0 :
	                  number_after(clip->row->hyper, "norm_type=");
	clip->norm = vectors_floats(set, file, "total_norm", &(size_t){ 0 });
	for (uint32_t i = 0; i < TENSORS_MAX; i++) {
		snprintf(name, sizeof(name), "g%u", i);
		clip->in[i] = vectors_floats(set, file, name, &clip->sizes[i]);
		if (clip->in[i] == NULL)
			return;
		snprintf(name, sizeof(name), "out%u", i);
		clip->want[i] = vectors_floats(set, file, name, &clip->sizes[i]);
		clip->count++;
	}
}

static void unload(struct clip_case *clip)
{
	for (uint32_t i = 0; i < clip->count; i++) {
		free(clip->in[i]);
		free(clip->want[i]);
	}
	free(clip->norm);
}

static int compare(const struct clip_case *clip, const char *what, size_t i, float got, float want,
                   char *why, size_t why_bytes)
{
	double sulp = vectors_sulp(got, want, fabsf(want));

	if (vectors_ulp(got, want) == 0 || (!clip->row->bitexact && sulp <= clip->row->tol_sulp))
		return 0;
	snprintf(why, why_bytes, "%s[%zu] is %.9g, recorded %.9g: %.3g sULP", what, i, (double)got,
	         (double)want, sulp);
	return -1;
}

/* The factor of a clip by norm, whose norm is compared on the way. */
static int find_factor(const struct clip_case *clip, enum optim_isa isa, float *factor, char *why,
                       size_t why_bytes)
{
	double parts = 0, norm;

	for (uint32_t i = 0; i < clip->count; i++)
		parts = clip_join(parts, clip_part(isa, clip->in[i], clip->sizes[i], clip->p), clip->p);
	norm = clip_norm(parts, clip->p);
	*factor = clip_factor(norm, clip->limit);
	return compare(clip, "total_norm", 0, (float)norm, clip->norm[0], why, why_bytes);
}

static int run(const struct clip_case *clip, enum optim_isa isa, char *why, size_t why_bytes)
{
	float factor = 1;

	if (clip->p > 0 && find_factor(clip, isa, &factor, why, why_bytes) < 0)
		return -1;
	for (uint32_t i = 0; i < clip->count; i++) {
		float *out = malloc((clip->sizes[i] + 1) * sizeof(float));
		int rc = out != NULL ? 0 : -1;

		if (clip->p > 0)
			optim_scale(isa, out, (struct optim_gradient){clip->in[i], factor, DTYPE_F32}, clip->sizes[i]);
		else
			clip_value(isa, out, clip->in[i], (float)clip->limit, clip->sizes[i]);
		for (size_t j = 0; j < clip->sizes[i] && rc == 0; j++)
			rc = compare(clip, "out", j, out[j], clip->want[i][j], why, why_bytes);
		free(out);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int vectors_run_clip(const struct vectors *set, const struct vectors_case *row, uint32_t isas,
                     char *why, size_t why_bytes)
{
	struct clip_case clip = { .row = row };
	int rc = 0;

	load(&clip, set);
	if (clip.count == 0 || (clip.p > 0 && clip.norm == NULL)) {
		snprintf(why, why_bytes, "%s: no tensors g0, out0, total_norm", row->case_file);
		rc = -1;
	}
	for (int isa = 0; isa < OPTIM_ISA_COUNT && rc == 0; isa++) {
		if (isas & 1u << isa)
			rc = run(&clip, (enum optim_isa)isa, why, why_bytes);
	}
	unload(&clip);
	return rc;
}
