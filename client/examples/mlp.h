/*
 * Mlp: a fully connected network with ReLU between its layers and softmax with
 * cross-entropy at the end, on CBLAS.
 *
 * All parameters are one flat vector: for each layer a weight matrix
 * [outputs][inputs] as PyTorch has it, then its biases.
 */
#ifndef MLP_H
#define MLP_H

#include <stddef.h>
#include <stdint.h>

#define MLP_LAYERS_MAX 8

struct mlp {
	uint32_t layers;
	uint32_t sizes[MLP_LAYERS_MAX + 1]; /* inputs, hidden layers, classes */
	uint32_t batch;                     /* most rows at once */
	float *outputs[MLP_LAYERS_MAX];     /* [batch][sizes[i+1]] of each layer */
	float *errors[MLP_LAYERS_MAX];      /* the loss's derivative by them */
};

/* 0, or -1 without memory. */
int mlp_init(struct mlp *mlp, const uint32_t *sizes, uint32_t layers, uint32_t batch);
void mlp_deinit(struct mlp *mlp);

size_t mlp_parameters(const struct mlp *mlp);

/* He's uniform initialisation, biases 0, from a seed. */
void mlp_start(const struct mlp *mlp, float *parameters, uint64_t seed);

/* Mean loss of a batch, and its gradient. */
double mlp_gradient(struct mlp *mlp, const float *parameters, const float *inputs,
                    const uint8_t *labels, uint32_t rows, float *gradient);

/* How many of the rows get the right label. */
uint32_t mlp_right(struct mlp *mlp, const float *parameters, const float *inputs,
                   const uint8_t *labels, uint32_t rows);

#endif
