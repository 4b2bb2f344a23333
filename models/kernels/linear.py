"""Products with a kernel and sums with a bias, whose gradients are in the dtype of the parameters."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@jax.custom_vjp
def matmul(x: Float[Array, "... in"], kernel: Float[Array, "in *out"]) -> Float[Array, "..."]:
    """`x @ kernel` in the dtype of `x`; the weight gradient is asked for as `(in, out)` at once, in the kernel's dtype.

    JAX would compute its transpose, `(out, in)`, and turn it: on CPUs XLA then leaves its fast matrix product for one half
    as fast and copies the output's gradient. And it would round the gradient to bfloat16 where that is computed in: then
    what each chip adds to it would be rounded too, and the sum depend on the layout. As of all that is differentiated by
    hand here there is no forward-mode derivative of it, but of its gradient (`jax.jvp` of `jax.grad`).
    """
    return _matmul_forward(x, kernel)[0]


def _matmul_forward(x, kernel):
    return jax.lax.dot_general(x, kernel.astype(x.dtype), (((x.ndim - 1,), (0,)), ((), ()))), (x, kernel)


def _matmul_backward(saved, gradient):
    x, kernel = saved
    outputs = kernel.ndim - 1
    rows = x.reshape(-1, x.shape[-1])
    row_gradients = gradient.reshape(-1, *kernel.shape[1:])
    weights = over_rows(rows, row_gradients, kernel.dtype)
    contracted = (tuple(range(gradient.ndim - outputs, gradient.ndim)), tuple(range(1, 1 + outputs)))
    return jax.lax.dot_general(gradient, kernel.astype(x.dtype), (contracted, ((), ()))), weights


matmul.defvjp(_matmul_forward, _matmul_backward)


def over_rows(x: Float[Array, "rows in"], y: Float[Array, "rows *out"], dtype: jnp.dtype) -> Float[Array, "in *out"]:
    """Σ over rows of x · y, in this dtype: what a kernel's gradient is.

    On CPUs the narrower side goes left, for XLA is slower the wider what it has to turn is; the result is turned instead.
    """

    def product(left: Array, right: Array) -> Array:
        return jax.lax.dot_general(left, right, (((0,), (0,)), ((), ())), preferred_element_type=dtype)

    def narrower_left(x: Array, y: Array) -> Array:
        flat = y.reshape(len(y), -1)
        if x.size <= flat.size:
            kernel = product(x, flat)
        else:
            kernel = jax.lax.optimization_barrier(jax.lax.optimization_barrier(product(flat, x)).T)
        return kernel.reshape(x.shape[-1], *y.shape[1:])

    return jax.lax.platform_dependent(x, y, cpu=narrower_left, default=product)


@jax.custom_vjp
def add_bias(x: Float[Array, "..."], bias: Float[Array, "*features"]) -> Float[Array, "..."]:
    """`x + bias` in the dtype of `x`; the bias's gradient in its own, for the reason that `matmul` gives."""
    return _add_bias_forward(x, bias)[0]


def _add_bias_forward(x, bias):
    return x + jnp.expand_dims(bias.astype(x.dtype), range(x.ndim - bias.ndim)), bias


def _add_bias_backward(bias, gradient):
    return gradient, gradient.sum(axis=tuple(range(gradient.ndim - bias.ndim)), dtype=bias.dtype)


add_bias.defvjp(_add_bias_forward, _add_bias_backward)
