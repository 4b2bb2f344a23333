"""Products with a kernel and sums with a bias, whose gradients are in the dtype of the parameters.

Without this JAX rounds them to bfloat16 where that is computed in: what each chip adds to a gradient is rounded too, and the
sum depends on the layout.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from models.kernels.gradient import with_gradient


def matmul(x: Float[Array, "... in"], kernel: Float[Array, "in *out"]) -> Float[Array, "..."]:
    """`x @ kernel` in the dtype of `x`; the kernel's gradient is computed as `(in, *out)`, in the kernel's dtype.

    JAX computes its transpose and turns it: on CPUs XLA then takes a product half as fast, and copies the output's gradient.
    """
    return _matmul(x, kernel)


def _product(x, kernel):
    return jax.lax.dot_general(x, kernel.astype(x.dtype), (((x.ndim - 1,), (0,)), ((), ())))


def _matmul_forward(x, kernel):
    return _product(x, kernel), (x, kernel)


def _matmul_backward(residuals, gradient):
    x, kernel = residuals
    outputs = kernel.ndim - 1
    rows = x.reshape(-1, x.shape[-1])
    row_gradients = gradient.reshape(-1, *kernel.shape[1:])
    weights = product_over_rows(rows, row_gradients, kernel.dtype)
    contracted = (tuple(range(gradient.ndim - outputs, gradient.ndim)), tuple(range(1, 1 + outputs)))
    return jax.lax.dot_general(gradient, kernel.astype(x.dtype), (contracted, ((), ()))), weights


_matmul = with_gradient(_product, _matmul_forward, _matmul_backward)


FEW_ROWS = 8
"""Most rows for which a product with a table turns the sides on CPUs."""


def table_scores(x: Float[Array, "... features"], table: Float[Array, "rows features"]) -> Float[Array, "... rows"]:
    """`x @ table.T` in the dtype of `x`, as of tied embeddings; gradients as of `matmul`."""
    few = x.size // x.shape[-1] <= FEW_ROWS
    return (_few if few else _matmul)(x, table.T)


def _few_product(x, kernel):
    """XLA:CPU reads a table once where it stands on the left, and packs it first where it stands on the right."""

    def turned(x, kernel):
        flat = x.reshape(-1, x.shape[-1])
        product = jax.lax.dot_general(kernel.astype(x.dtype), flat, (((0,), (1,)), ((), ())))
        product = jax.lax.optimization_barrier(product)  # else XLA turns the sides back
        return product.T.reshape(*x.shape[:-1], kernel.shape[1])

    return jax.lax.platform_dependent(x, kernel, cpu=turned, default=_product)


_few = with_gradient(_few_product, lambda x, kernel: (_few_product(x, kernel), (x, kernel)), _matmul_backward)


def product_over_rows(
    x: Float[Array, "rows in"],
    y: Float[Array, "rows *out"],  # noqa: F821 - it reads as a product
    dtype: jnp.dtype,
) -> Float[Array, "in *out"]:
    """xᵀ · y in this dtype: the gradient of a kernel."""

    def product(left: Array, right: Array) -> Array:
        return jax.lax.dot_general(left, right, (((0,), (0,)), ((), ())), preferred_element_type=dtype)

    def narrower_left(x: Array, y: Array) -> Array:
        """XLA:CPU transposes the left side, and is slower the wider that is: the result is transposed instead."""
        flat = y.reshape(len(y), -1)
        if x.size <= flat.size:
            kernel = product(x, flat)
        else:
            kernel = jax.lax.optimization_barrier(jax.lax.optimization_barrier(product(flat, x)).T)
        return kernel.reshape(x.shape[-1], *y.shape[1:])

    return jax.lax.platform_dependent(x, y, cpu=narrower_left, default=product)


def add_bias(x: Float[Array, "..."], bias: Float[Array, "*features"]) -> Float[Array, "..."]:
    """`x + bias` in the dtype of `x`; the bias's gradient in the bias's dtype."""
    return _add_bias(x, bias)


def _sum(x, bias):
    return x + jnp.expand_dims(bias.astype(x.dtype), range(x.ndim - bias.ndim))


def _add_bias_forward(x, bias):
    return _sum(x, bias), (bias,)


def _add_bias_backward(residuals, gradient):
    (bias,) = residuals
    return gradient, gradient.sum(axis=tuple(range(gradient.ndim - bias.ndim)), dtype=bias.dtype)


_add_bias = with_gradient(_sum, _add_bias_forward, _add_bias_backward, inputs=lambda residuals: (None, *residuals))
