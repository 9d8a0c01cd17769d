/* Forward and backward, a matrix product a layer. */
#include "client/examples/mlp.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

int mlp_init(struct mlp *mlp, const uint32_t *sizes, uint32_t layers, uint32_t batch)
{
	memset(mlp, 0, sizeof(*mlp));
	mlp->layers = layers;
	mlp->batch = batch;
	memcpy(mlp->sizes, sizes, (layers + 1) * sizeof(*sizes));
	for (uint32_t i = 0; i < layers; i++) {
		mlp->outputs[i] = calloc((size_t)batch * sizes[i + 1], sizeof(float));
		mlp->errors[i] = calloc((size_t)batch * sizes[i + 1], sizeof(float));
		if (mlp->outputs[i] == NULL || mlp->errors[i] == NULL) {
			mlp_deinit(mlp);
			return -1;
		}
	}
	return 0;
}

void mlp_deinit(struct mlp *mlp)
{
	for (uint32_t i = 0; i < mlp->layers; i++) {
		free(mlp->outputs[i]);
		free(mlp->errors[i]);
	}
	memset(mlp, 0, sizeof(*mlp));
}

static size_t layer_parameters(const struct mlp *mlp, uint32_t layer)
{
	return (size_t)(mlp->sizes[layer] + 1) * mlp->sizes[layer + 1];
}

static size_t layer_offset(const struct mlp *mlp, uint32_t layer)
{
	size_t offset = 0;
	for (uint32_t i = 0; i < layer; i++)
		offset += layer_parameters(mlp, i);
	return offset;
}

size_t mlp_parameters(const struct mlp *mlp)
{
	return layer_offset(mlp, mlp->layers);
}

/* SplitMix64. */
static uint64_t draw(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

void mlp_start(const struct mlp *mlp, float *parameters, uint64_t seed)
{
	for (uint32_t layer = 0; layer < mlp->layers; layer++) {
		uint32_t in = mlp->sizes[layer], out = mlp->sizes[layer + 1];
		float bound = sqrtf(6.0f / (float)in);
		for (size_t i = 0; i < (size_t)in * out; i++)
			*parameters++ = bound * ((float)(draw(&seed) >> 40) / 8388608.0f - 1.0f);
		memset(parameters, 0, out * sizeof(float));
		parameters += out;
	}
}

/* y = x W^T + b, then ReLU but for the last layer. */
static void forward(struct mlp *mlp, const float *parameters, const float *inputs, uint32_t rows)
{
	for (uint32_t layer = 0; layer < mlp->layers; layer++) {
		int in = (int)mlp->sizes[layer], out = (int)mlp->sizes[layer + 1];
		const float *weight = parameters + layer_offset(mlp, layer);
		const float *bias = weight + (size_t)in * (size_t)out;
		float *y = mlp->outputs[layer];

		for (uint32_t row = 0; row < rows; row++)
			memcpy(y + (size_t)row * (size_t)out, bias, (size_t)out * sizeof(float));
		cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)rows, out, in, 1.0f, inputs, in,
		            weight, in, 1.0f, y, out);
		for (size_t i = 0; layer + 1 < mlp->layers && i < (size_t)rows * (size_t)out; i++)
			y[i] = y[i] > 0.0f ? y[i] : 0.0f;
		inputs = y;
	}
}

/* Replaces the last layer's outputs by the loss's derivative; returns the loss. */
static double loss_and_error(struct mlp *mlp, const uint8_t *labels, uint32_t rows)
{
	uint32_t classes = mlp->sizes[mlp->layers];
	double loss = 0;

	for (uint32_t row = 0; row < rows; row++) {
		const float *y = mlp->outputs[mlp->layers - 1] + (size_t)row * classes;
		float *error = mlp->errors[mlp->layers - 1] + (size_t)row * classes;
		float largest = y[0], sum = 0.0f;
		for (uint32_t i = 1; i < classes; i++)
			largest = y[i] > largest ? y[i] : largest;
		for (uint32_t i = 0; i < classes; i++) {
			error[i] = expf(y[i] - largest);
			sum += error[i];
		}
		loss += log((double)sum) - (double)(y[labels[row]] - largest);
		for (uint32_t i = 0; i < classes; i++)
			error[i] = (error[i] / sum - (i == labels[row] ? 1.0f : 0.0f)) / (float)rows;
	}
	return loss / rows;
}

static void backward(struct mlp *mlp, const float *parameters, const float *inputs, uint32_t rows,
                     float *gradient)
{
	for (uint32_t layer = mlp->layers; layer-- > 0;) {
		int in = (int)mlp->sizes[layer], out = (int)mlp->sizes[layer + 1];
		const float *x = layer == 0 ? inputs : mlp->outputs[layer - 1];
		const float *weight = parameters + layer_offset(mlp, layer);
		float *dw = gradient + layer_offset(mlp, layer);
		float *db = dw + (size_t)in * (size_t)out;
		const float *error = mlp->errors[layer];

		cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, out, in, (int)rows, 1.0f, error, out, x,
		            in, 0.0f, dw, in);
		memset(db, 0, (size_t)out * sizeof(float));
		for (uint32_t row = 0; row < rows; row++) {
			for (int i = 0; i < out; i++)
				db[i] += error[(size_t)row * (size_t)out + (size_t)i];
		}
		if (layer == 0)
			break;
		float *before = mlp->errors[layer - 1];
		cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)rows, in, out, 1.0f, error, out,
		            weight, in, 0.0f, before, in);
		for (size_t i = 0; i < (size_t)rows * (size_t)in; i++)
			before[i] = x[i] > 0.0f ? before[i] : 0.0f;
	}
}

double mlp_gradient(struct mlp *mlp, const float *parameters, const float *inputs,
                    const uint8_t *labels, uint32_t rows, float *gradient)
{
	forward(mlp, parameters, inputs, rows);
	double loss = loss_and_error(mlp, labels, rows);
	backward(mlp, parameters, inputs, rows, gradient);
	return loss;
}

uint32_t mlp_right(struct mlp *mlp, const float *parameters, const float *inputs,
                   const uint8_t *labels, uint32_t rows)
{
	uint32_t classes = mlp->sizes[mlp->layers];
	uint32_t right = 0;

	forward(mlp, parameters, inputs, rows);
	for (uint32_t row = 0; row < rows; row++) {
		const float *y = mlp->outputs[mlp->layers - 1] + (size_t)row * classes;
		uint32_t best = 0;
		for (uint32_t i = 1; i < classes; i++)
			best = y[i] > y[best] ? i : best;
		right += best == labels[row];
	}
	return right;
}
