/*
 * Kernel product: products of float32 matrices, in slices, as muon takes them.
 *
 * An element of a product is one chain of fma over the common dimension, from its
 * beginning, whatever the blocks and the vector width.  The common dimension is taken in
 * stretches, so that what is read again and again stays in the caches; between two
 * stretches the chain waits in memory, as the float32 that it is.
 *
 * A matrix lies in panels of PANEL columns: the first panel's rows one after the other,
 * then the second's.  Both operands have the common dimension as rows, out = left^T right,
 * so each step of a tile reads a line of 64 bytes of one panel of left, and of one or more
 * of right, and the next step the lines behind: nothing has to be packed.  With whole rows
 * in memory each step would be in another page, and in the same set of a cache.
 */
#ifndef OPTD_OPTIM_KERNEL_PRODUCT_H
#define OPTD_OPTIM_KERNEL_PRODUCT_H

#include <string.h>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "optim/kernel.h"

#define PANEL 16

struct matrix {
	float *at;
	uint64_t rows, columns; /* the last panel is filled up; nobody looks at what is there, but
	                           it is zeros, since denormal numbers would be slow */
};

static inline uint64_t matrix_panels(uint64_t columns)
{
	return (columns + PANEL - 1) / PANEL;
}

static inline uint64_t matrix_floats(uint64_t rows, uint64_t columns)
{
	return rows * matrix_panels(columns) * PANEL;
}

static inline float *matrix_line(const struct matrix *m, uint64_t row, uint64_t panel)
{
	return m->at + (panel * m->rows + row) * PANEL;
}

static inline float *matrix_element(const struct matrix *m, uint64_t row, uint64_t column)
{
	return matrix_line(m, row, column / PANEL) + column % PANEL;
}

/* How many of the PANEL from number `panel` on there are. */
static inline uint64_t matrix_there(uint64_t columns, uint64_t panel)
{
	uint64_t left = columns - panel * PANEL;

	return left < PANEL ? left : PANEL;
}

/* The lines row * PANEL and on of `panel` of `to`, from the transposed ones of `from`; 0
 * where those end. */
static inline void matrix_turn(const struct matrix *to, uint64_t row, uint64_t panel,
                               const struct matrix *from)
{
	float *out = matrix_line(to, row * PANEL, panel);
	const float *in = matrix_line(from, panel * PANEL, row);
	uint64_t out_rows = matrix_there(to->rows, row), in_rows = matrix_there(from->rows, panel);

	for (uint64_t i = 0; i < out_rows; i++) {
		for (uint64_t j = 0; j < PANEL; j++)
			out[i * PANEL + j] = j < in_rows ? in[j * PANEL + i] : 0;
	}
}

/* ---- one tile ----------------------------------------------------------- */

/* A vector, and how many rows of how many panels the registers hold beside what is read.
 * Written out, because compilers make of the plain loops, which the last is, code of a
 * twentieth of the speed. */
#if defined(__AVX512F__)
typedef __m512 vector;
#define VECTOR_LOAD _mm512_loadu_ps
#define VECTOR_STORE _mm512_storeu_ps
#define VECTOR_ALL _mm512_set1_ps
#define VECTOR_FMA _mm512_fmadd_ps
#define TILE_ROWS 8
#define TILE_PANELS 3
#elif defined(__AVX2__)
typedef __m256 vector;
#define VECTOR_LOAD _mm256_loadu_ps
#define VECTOR_STORE _mm256_storeu_ps
#define VECTOR_ALL _mm256_set1_ps
#define VECTOR_FMA _mm256_fmadd_ps
#define TILE_ROWS 6
#define TILE_PANELS 1
#else
typedef float vector;
#define VECTOR_LOAD(from) (*(from))
#define VECTOR_STORE(to, x) (*(to) = (x))
#define VECTOR_ALL(x) (x)
#define VECTOR_FMA fmaf
#define TILE_ROWS 4
#define TILE_PANELS 1
#endif
#define VECTOR_FLOATS ((int)(sizeof(vector) / sizeof(float)))
#define PANEL_VECTORS (PANEL / VECTOR_FLOATS)

/* Rows of the tile that ends a panel of left. */
#define TILE_REST (PANEL % TILE_ROWS != 0 ? PANEL % TILE_ROWS : TILE_ROWS)

/* A block of out, so many panels down and across, goes through all of the common dimension
 * before the next; its chains wait in `sums`, in panels of BLOCK_ROWS rows. */
#define BLOCK 12
#define BLOCK_ROWS (BLOCK * PANEL)
#define PRODUCT_SUMS (BLOCK_ROWS * BLOCK_ROWS)

struct tile {
	float *sums;
	const float *left, *right;
	uint64_t right_panel; /* floats from a panel to the next */
	uint64_t steps;
	bool first; /* the chains begin here */
};

/* Where vector v of a line through several panels is. */
static inline uint64_t vector_at(int v, uint64_t panel_floats)
{
	return (uint64_t)(v / PANEL_VECTORS) * panel_floats + (uint64_t)(v % PANEL_VECTORS * VECTOR_FLOATS);
}

KERNEL_LOOP tile_do(const struct tile *tile, int rows, int panels)
{
	const int vectors = panels * PANEL_VECTORS;
	const uint64_t right_panel = tile->right_panel, sums_panel = BLOCK_ROWS * PANEL;
	const float *left = tile->left, *right = tile->right;
	vector sums[TILE_ROWS][TILE_PANELS * PANEL_VECTORS], r[TILE_PANELS * PANEL_VECTORS];

	for (int i = 0; i < rows; i++) {
		for (int v = 0; v < vectors; v++) {
			const float *from = tile->sums + i * PANEL + vector_at(v, sums_panel);

			sums[i][v] = tile->first ? VECTOR_ALL(0) : VECTOR_LOAD(from);
		}
	}
	for (uint64_t k = 0; k < tile->steps; k++, left += PANEL, right += PANEL) {
		for (int v = 0; v < vectors; v++)
			r[v] = VECTOR_LOAD(right + vector_at(v, right_panel));
		for (int i = 0; i < rows; i++) {
			for (int v = 0; v < vectors; v++)
				sums[i][v] = VECTOR_FMA(VECTOR_ALL(left[i]), r[v], sums[i][v]);
		}
	}
	for (int i = 0; i < rows; i++) {
		for (int v = 0; v < vectors; v++)
			VECTOR_STORE(tile->sums + i * PANEL + vector_at(v, sums_panel), sums[i][v]);
	}
}

/* Each number of rows and panels is a loop of its own. */
static void tile_run(const struct tile *tile, uint64_t rows, uint64_t panels)
{
	if (panels == TILE_PANELS && rows == TILE_ROWS)
		tile_do(tile, TILE_ROWS, TILE_PANELS);
	else if (panels == TILE_PANELS)
		tile_do(tile, TILE_REST, TILE_PANELS);
	else if (panels == 2)
		tile_do(tile, TILE_ROWS, 2);
	else
		tile_do(tile, TILE_ROWS, 1);
}

/* ---- the product -------------------------------------------------------- */

/* out = keep * from + weight * left^T right, or without from, left^T right. */
struct product {
	struct matrix out, left, right;
	const float *from; /* a matrix like out, or out itself; NULL for none */
	float keep, weight;
	bool symmetric; /* left is right: the chain of [j, i] has the factors of [i, j], which may
	                   change places in an fma, so what is below the diagonal is mirrored */
	float *sums;    /* [PRODUCT_SUMS] */
};

/* What is done at a time: one panel of left by GROUP of right, over a stretch of the common
 * dimension, of which a panel takes 16 KiB: those of right are read again for each panel of
 * left, and all of a block's, of left and right, fit the second-level cache. */
#define GROUP 3
#define STRETCH 256

struct unit {
	uint64_t row, column; /* panels in out, of which .. */
	uint64_t panels;      /* .. so many; none where out has ended */
	uint64_t first, steps;
	float *sums;
};

/* Unit number `at`: block by block, in each stretch by stretch, in each group by group. */
static struct unit unit_of(const struct product *p, uint64_t at, uint64_t blocks_across,
                           uint64_t stretches)
{
	const uint64_t down = at % BLOCK, across = at / BLOCK % (BLOCK / GROUP) * GROUP;
	const uint64_t stretch = at / (BLOCK * (BLOCK / GROUP)) % stretches;
	const uint64_t block = at / (BLOCK * (BLOCK / GROUP)) / stretches;
	const uint64_t panels = matrix_panels(p->out.columns), first = stretch * STRETCH;
	struct unit unit = { .row = block / blocks_across * BLOCK + down,
		             .column = block % blocks_across * BLOCK + across,
		             .first = first,
		             .steps = p->left.rows - first < STRETCH ? p->left.rows - first : STRETCH,
		             .sums = p->sums + (across * BLOCK_ROWS + down * PANEL) * PANEL };
	bool below = p->symmetric && unit.row >= unit.column + GROUP;

	if (unit.row < matrix_panels(p->out.rows) && unit.column < panels && !below)
		unit.panels = panels - unit.column < GROUP ? panels - unit.column : GROUP;
	return unit;
}

KERNEL_LOOP combine(float keep, float weight, float *restrict sums, const float *restrict from,
                    uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		sums[i] = keep * from[i] + weight * sums[i];
}

/* A panel of the unit whose chains have come to their end. */
static void unit_end(const struct product *p, uint64_t row, uint64_t column, float *sums)
{
	float *out = matrix_line(&p->out, row * PANEL, column);
	const uint64_t n = matrix_there(p->out.rows, row) * PANEL;

	if (p->from != NULL)
		combine(p->keep, p->weight, sums, p->from + (out - p->out.at), n);
	memcpy(out, sums, n * sizeof(float));
	if (p->symmetric && row < column)
		matrix_turn(&p->out, column, row, &p->out);
}

/* Returns how many multiplications it took. */
static uint64_t unit_do(const struct product *p, const struct unit *unit)
{
	const uint64_t rows = matrix_there(p->out.rows, unit->row);

	for (uint64_t j = 0; j < unit->panels; j += TILE_PANELS) {
		uint64_t panels = unit->panels - j < TILE_PANELS ? unit->panels - j : TILE_PANELS;

		for (uint64_t i = 0; i < rows; i += TILE_ROWS) {
			struct tile tile = { .sums = unit->sums + (j * BLOCK_ROWS + i) * PANEL,
				             .left = matrix_line(&p->left, unit->first, unit->row) + i,
				             .right = matrix_line(&p->right, unit->first, unit->column + j),
				             .right_panel = p->right.rows * PANEL,
				             .steps = unit->steps,
				             .first = unit->first == 0 };

			tile_run(&tile, PANEL - i < TILE_ROWS ? PANEL - i : TILE_ROWS, panels);
		}
	}
	for (uint64_t j = 0; j < unit->panels && unit->first + unit->steps == p->left.rows; j++)
		unit_end(p, unit->row, unit->column + j, unit->sums + j * BLOCK_ROWS * PANEL);
	return rows * unit->panels * PANEL * unit->steps;
}

/* Units from number *at on, within the budget; true when all are done. */
static bool product_run(const struct product *p, uint64_t *at, uint64_t *budget)
{
	const uint64_t down = (matrix_panels(p->out.rows) + BLOCK - 1) / BLOCK;
	const uint64_t across = (matrix_panels(p->out.columns) + BLOCK - 1) / BLOCK;
	const uint64_t stretches = (p->left.rows + STRETCH - 1) / STRETCH;
	const uint64_t units = down * across * stretches * BLOCK * (BLOCK / GROUP);

	for (; *at < units && *budget > 0; ++*at) {
		struct unit unit = unit_of(p, *at, across, stretches);
		uint64_t cost = unit.panels > 0 ? unit_do(p, &unit) : 0;

		*budget -= *budget < cost ? *budget : cost;
	}
	return *at == units;
}

#endif
