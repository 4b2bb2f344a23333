"""Layers that several architectures share; attention is in `models.attention`. Parameters carry logical axis names, which
the training mesh maps to chips.
"""

import functools
import math
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float, Int, Key, UInt32

from models.config import ModelConfig, ModelError, nearest

Initializer = Callable[..., Array]
Keys = Key[Array, " batch"] | None


def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """x Φ(x), Φ the normal distribution function (Hendrycks & Gimpel, 2016, arXiv 1606.08415), in float32 or wider."""
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return (wide * (0.5 * (1.0 + jax.lax.erf(wide * math.sqrt(0.5))))).astype(x.dtype)


def relu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """max(x, 0). As a choice, not a maximum: of that XLA's CPU backend thinks that it may as well be computed again wherever it
    is used, and with it all sums of residual connections before.
    """
    return jnp.where(x <= 0, jnp.zeros((), x.dtype), x)


def gelu_tanh(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The tanh approximation of `gelu` (Hendrycks & Gimpel, 2016, section 2)."""
    return jax.nn.gelu(x, approximate=True)


def quick_gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """x σ(1.702 x), the sigmoid approximation of `gelu` (Hendrycks & Gimpel, 2016, section 2)."""
    return x * jax.nn.sigmoid(1.702 * x)


def laplace(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Φ((x - μ) / σ) with μ = √½ and σ = √(1 / 4π), six digits of each (Ma et al., "Mega", 2022, arXiv 2209.10655)."""
    return 0.5 * (1.0 + jax.lax.erf((x - 0.707107) / (0.282095 * math.sqrt(2.0))))


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": gelu,
    "gelu_python": gelu,
    "gelu_new": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "gelu_python_tanh": gelu_tanh,
    "gelu_fast": gelu_tanh,
    "gelu_accurate": gelu_tanh,
    "gelu_10": lambda x: jnp.clip(gelu(x), -10, 10),
    "quick_gelu": quick_gelu,
    "relu": relu,
    "relu2": lambda x: jnp.square(relu(x)),
    "relu6": jax.nn.relu6,
    "leaky_relu": lambda x: jnp.where(x > 0, x, 0.01 * x),
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
    "hardswish": jax.nn.hard_swish,
    "mish": jax.nn.mish,
    "sigmoid": jax.nn.sigmoid,
    "sqrtsoftplus": lambda x: jnp.sqrt(jax.nn.softplus(x)),
    "tanh": jnp.tanh,
    "laplace": laplace,
    "linear": lambda x: x,
}
"""By the names that `transformers` has for them; those with parameters of their own (`prelu`, `xielu`) are not among them."""


def activation(name: str) -> Callable[[Array], Array]:
    """The activation that a published config calls `name`."""
    _formula(name)
    return functools.partial(_activate, name)


def _formula(name: str) -> Callable[[Array], Array]:
    if name not in ACTIVATIONS:
        raise ModelError(f"unknown activation {name!r}: {nearest(name, list(ACTIVATIONS))}")
    return ACTIVATIONS[name]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _activate(name: str, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The backward pass keeps `x` alone, not the many arrays in between, and computes them again in one loop."""
    return ACTIVATIONS[name](x)


def on_all_cores(product: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The same (but that a NaN spreads over its row): for XLA's CPU backend, which takes one core for batched products and
    some convolutions (JAX 0.10), unless a sum or the like shares their loop.
    """
    return jnp.maximum(product, product.min(axis=-1, keepdims=True))


def anew(arrays):
    """The same arrays; but XLA's CPU backend doesn't see that what follows is computed from them elsewhere, too: it would write
    that down for both, and for the backward pass keep it, large as it may be.
    """
    return jax.lax.platform_dependent(arrays, cpu=jax.lax.optimization_barrier, default=lambda arrays: arrays)


def _activate_forward(name, x):
    y = ACTIVATIONS[name](x)
    return y, y if name == "relu" else x


def _activate_backward(name, x, gradient):
    return jax.vjp(ACTIVATIONS[name], anew(x))[1](gradient)


_activate.defvjp(_activate_forward, _activate_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def gated(name: str, gate: Float[Array, "*shape"], x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """activation(gate) · x (Shazeer, "GLU Variants Improve Transformer", 2020, arXiv 2002.05202), `name` being the
    activation's. The backward pass keeps `gate` and `x` alone.
    """
    return _gated_forward(name, gate, x)[0]


def _gated_forward(name, gate, x):
    return _formula(name)(gate) * x, (gate, x)


def _gated_backward(name, saved, gradient):
    gate, x = anew(saved)
    active, back = jax.vjp(ACTIVATIONS[name], gate)
    return *back(gradient * x), gradient * active


gated.defvjp(_gated_forward, _gated_backward)


# ── Dropout ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def fold_in(keys: Keys, data: int | Int[Array, ""]) -> Keys:
    """`jax.random.fold_in` for a batch of keys, one per example; `None` (no dropout) stays `None`."""
    return None if keys is None else jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, data)


def _mix(x: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
    """A bijection of 32-bit integers in which each input bit flips each output bit with probability ≈ 1/2.

    Two rounds of xor-shift and multiplication (Wellons, "Prospecting for Hash Functions", 2018, constants of the
    triple (16, 15, 15) found there).
    """
    x = (x ^ (x >> 16)) * jnp.uint32(0x21F0AAAD)
    x = (x ^ (x >> 15)) * jnp.uint32(0x735A2D97)
    return x ^ (x >> 15)


def dropout_bits(keys: Key[Array, " batch"], shape: Sequence[int]) -> UInt32[Array, "batch ..."]:
    """Random 32-bit words of shape `(batch, *shape)`, where row b is a function of `keys[b]` and the place alone.

    So they do not change when the batch is split over devices, processes or micro-batches. They are computed where they
    are used, element by element: no chip ever holds those of another, and XLA fuses them into the code around them.
    """
    words = jax.random.key_data(keys)[:, :2].reshape(-1, 2, *(1,) * len(shape))
    place = jnp.zeros((1, *shape), jnp.uint32)
    for axis, stride in enumerate(math.prod(shape[axis + 1 :]) for axis in range(len(shape))):
        place += jax.lax.broadcasted_iota(jnp.uint32, (1, *shape), axis + 1) * jnp.uint32(stride % 2**32)
    return _mix(_mix(place + words[:, 0]) + words[:, 1])


def dropout(x: Float[Array, "batch ..."], rate: float, keys: Keys) -> Float[Array, "batch ..."]:
    """Zero each element with probability `rate` and scale the others by 1 / (1 - rate) (Srivastava et al., 2014).

    `keys` holds one key per example, made new for each place that drops (`fold_in`); `None` turns dropout off.
    """
    if keys is None or rate == 0.0:
        return x
    keep = dropout_bits(keys, x.shape[1:]) < jnp.uint32(round((1.0 - rate) * 2**32))
    return jnp.where(keep, x / jnp.asarray(1.0 - rate, x.dtype), jnp.zeros((), x.dtype))


def drop_path(x: Float[Array, "batch ..."], rate: float | Float[Array, ""], keys: Keys) -> Float[Array, "batch ..."]:
    """Zero whole examples with probability `rate` and scale the others by 1 / (1 - rate): of a residual branch, so that its
    layer is skipped ("stochastic depth", Huang et al., 2016, arXiv 1603.09382). `rate` may be an array: of a layer in a
    `stack`.
    """
    if keys is None or (isinstance(rate, float) and rate == 0.0):
        return x
    drawn = (dropout_bits(keys, ()) >> 8).astype(jnp.float32) * 2.0**-24
    keep = jnp.expand_dims(drawn < 1.0 - rate, range(1, x.ndim))
    return jnp.where(keep, x / jnp.asarray(1.0 - rate, x.dtype), jnp.zeros((), x.dtype))


# ── Projections, norms, embeddings ───────────────────────────────────────────────────────────────────────────────────


def truncated_normal(stddev: float) -> Initializer:
    """N(0, stddev²) cut at ±2 stddev, as the TensorFlow models of 2018 were initialised."""
    return nn.initializers.truncated_normal(stddev)


torch_uniform: Initializer = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
"""U(-1/√fan_in, 1/√fan_in): how the kernels of torch's linear layers and convolutions begin."""


def by_example(x: Float[Array, "batch ..."], features: str | None = None) -> Float[Array, "batch ..."]:
    """`x`, on a mesh laid out by examples and, where its last axis has a logical name, by that.

    Parameters that chips share must come to the activations: without being told, XLA may send these to the parameters.
    """
    return nn.with_logical_constraint(x, ("batch", *(None,) * (x.ndim - 2), features))


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


PROJECTION = "projection"
"""What the results of `dense` are called in rematerialisation policies, which cannot see into `matmul`."""


@jax.custom_vjp
def add_bias(x: Float[Array, "..."], bias: Float[Array, "*features"]) -> Float[Array, "..."]:
    """`x + bias` in the dtype of `x`; the bias's gradient in its own, for the reason that `matmul` gives."""
    return _add_bias_forward(x, bias)[0]


def _add_bias_forward(x, bias):
    return x + jnp.expand_dims(bias.astype(x.dtype), range(x.ndim - bias.ndim)), bias


def _add_bias_backward(bias, gradient):
    return gradient, gradient.sum(axis=tuple(range(gradient.ndim - bias.ndim)), dtype=bias.dtype)


add_bias.defvjp(_add_bias_forward, _add_bias_backward)


class Dense(nn.Module):
    """A linear layer: `x @ kernel + bias` in the compute dtype, the gradients in the parameters'. See `dense`."""

    config: ModelConfig
    features: tuple[int, ...]
    axes: tuple[str | None, ...]
    use_bias: bool
    kernel_init: Initializer

    @nn.compact
    def __call__(self, x: Float[Array, "... in"]) -> Float[Array, "..."]:
        dtype = jnp.dtype(self.config.param_dtype)
        kernel_init = nn.with_logical_partitioning(self.kernel_init, self.axes)
        kernel = self.param("kernel", kernel_init, (x.shape[-1], *self.features), dtype)
        y = checkpoint_name(matmul(x.astype(self.config.compute_dtype), kernel), PROJECTION)
        y = by_example(y, None if (self.axes[-1] or "").startswith("embed") else self.axes[-1])
        if not self.use_bias:
            return y
        bias_init = nn.with_logical_partitioning(nn.initializers.zeros, self.axes[1:])
        return add_bias(y, self.param("bias", bias_init, self.features, dtype))


def dense(
    config: ModelConfig,
    features: int | tuple[int, ...],
    name: str | None,
    axes: tuple[str | None, ...],
    *,
    bias: bool = True,
    stddev: float = 0.02,
    kernel_init: Initializer | None = None,
) -> Dense:
    """A linear layer whose kernel `(in, *features)` has the logical `axes`, and N(0, stddev²) cut at ±2 stddev at first."""
    features = (features,) if isinstance(features, int) else features
    return Dense(config, features, axes, bias, kernel_init or truncated_normal(stddev), name=name)


def sinusoids(scale: float) -> Initializer:
    """Sines and cosines of geometric wavelengths (Vaswani et al., 2017, section 3.5), with root mean square `scale`."""

    def table(key: Array, shape: Sequence[int], dtype: jnp.dtype) -> Float[Array, "positions features"]:
        positions, features = shape
        angles = jnp.arange(positions)[:, None] / 10_000 ** (2 * jnp.arange(features // 2) / features)[None]
        return (math.sqrt(2) * scale * jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=1)).astype(dtype)

    return table


def embedding(
    config: ModelConfig,
    count: int,
    features: int,
    name: str | None,
    *,
    stddev: float,
    axis: str,
    table_init: Initializer | None = None,
) -> nn.Embed:
    """A table of `count` vectors, looked up as it is stored; the logical name of its first axis is `axis`."""
    return nn.Embed(
        count,
        features,
        dtype=jnp.dtype(config.param_dtype),
        param_dtype=jnp.dtype(config.param_dtype),
        embedding_init=nn.with_logical_partitioning(table_init or truncated_normal(stddev), (axis, "embed")),
        name=name,
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def normalized(
    x: Float[Array, "... features"],
    scale: Float[Array, " features"],
    bias: Float[Array, " features"] | None,
    epsilon: float,
    dtype: jnp.dtype,
) -> Float[Array, "... features"]:
    """(x - mean) / √(variance + epsilon) · scale + bias over the last axis; without `bias` x / √(mean(x²) + epsilon) · scale.

    In float32, the variance from centred values; without `bias` the quotient is rounded to `dtype` before it is scaled, as in
    Llama and T5. The backward pass keeps `x` and two numbers of each row, and goes over `x` and the gradient twice: left to
    itself, XLA's CPU backend goes over them again in every later loop that a gradient passes through.
    """
    return _normalized_forward(x, scale, bias, epsilon, dtype)[0]


def _normalized_forward(x, scale, bias, epsilon, dtype):
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    mean = None if bias is None else wide.mean(axis=-1, keepdims=True)
    centred = wide if mean is None else wide - mean
    inverse = jax.lax.rsqrt((centred**2).mean(axis=-1, keepdims=True) + epsilon)
    scale_by, *shift_by = (jnp.expand_dims(y, range(x.ndim - 1)) for y in (scale, bias) if y is not None)
    if bias is None:
        y = (centred * inverse).astype(dtype) * scale_by.astype(dtype)
    else:
        y = (centred * inverse * scale_by + shift_by[0]).astype(dtype)
    return y, (x, mean, inverse, scale)


def _normalized_backward(epsilon, dtype, saved, gradient):
    x, mean, inverse, scale = saved
    gradient = gradient.astype(inverse.dtype)
    normed = (x.astype(inverse.dtype) - (0.0 if mean is None else mean)) * inverse
    scaled = gradient * jnp.expand_dims(scale.astype(inverse.dtype), range(x.ndim - 1))
    along = (scaled * normed).mean(axis=-1, keepdims=True)
    across = 0.0 if mean is None else scaled.mean(axis=-1, keepdims=True)
    inputs = (inverse * (scaled - across - normed * along)).astype(x.dtype)
    rows = tuple(range(x.ndim - 1))
    scales = (gradient * normed).sum(axis=rows).astype(scale.dtype)
    return inputs, scales, None if mean is None else gradient.sum(axis=rows).astype(scale.dtype)


normalized.defvjp(_normalized_forward, _normalized_backward)


class Norm(nn.Module):
    """Layer normalisation over the last axis (Ba et al., 2016, arXiv 1607.06450), with `scale` and `bias`; without `bias`
    root mean square normalisation (Zhang & Sennrich, 2019, arXiv 1910.07467). See `normalized`.
    """

    config: ModelConfig
    epsilon: float
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "... features"]) -> Float[Array, "... features"]:
        features, dtype = x.shape[-1:], jnp.dtype(self.config.param_dtype)
        scale = self.param("scale", nn.with_logical_partitioning(nn.initializers.ones, ("norm",)), features, dtype)
        bias_init = nn.with_logical_partitioning(nn.initializers.zeros, ("norm",))
        bias = self.param("bias", bias_init, features, dtype) if self.use_bias else None
        return normalized(x, scale, bias, self.epsilon, self.config.compute_dtype)


def layer_norm(config: ModelConfig, epsilon: float, name: str | None) -> Norm:
    return Norm(config, epsilon, name=name)


def rms_norm(config: ModelConfig, epsilon: float, name: str | None) -> Norm:
    return Norm(config, epsilon, use_bias=False, name=name)


# ── Stacks ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def stack(layer: type[nn.Module], config: ModelConfig, count: int, name: str | None, **attributes) -> nn.Module:
    """`count` copies of `layer`, run one after the other, their parameters stacked on a first axis called `layers`.

    `layer(...)(carry, own, shared) -> (carry, collected)`: of each array in `own` a layer gets its share of the first axis
    (`own = jnp.arange(count)` gives it its number), `shared` is the same for all, and `collected` comes back stacked. With
    `config.scan_layers` one layer is compiled and looped over; without, all are laid out one after another. `config.remat`
    says what the backward pass computes again. Neither changes parameters or numbers.
    """
    policies = {"dots": jax.checkpoint_policies.save_only_these_names(PROJECTION), "full": None}
    if config.remat != "none":
        layer = nn.remat(layer, policy=policies[config.remat], prevent_cse=not config.scan_layers)
    return nn.scan(
        layer,
        variable_axes={"params": 0, "batch_stats": 0},
        split_rngs={"params": True},
        in_axes=(0, nn.broadcast),
        length=count,
        unroll=1 if config.scan_layers else count,
        metadata_params={nn.PARTITION_NAME: "layers"},
    )(config, name=name, **attributes)


def last_token(
    input_ids: Int[Array, "batch length"],
    padding: int | None,
    attention_mask: Int[Array, "batch length"] | None = None,
) -> Int[Array, " batch"]:
    """The place of each row's last token that is not `padding`, and that the mask has not 0 at; the last place where neither
    says which are padding."""
    real = jnp.ones(input_ids.shape, bool) if padding is None else input_ids != padding
    if attention_mask is not None:
        real &= attention_mask > 0
    return jnp.where(real, jnp.arange(input_ids.shape[1])[None], 0).max(axis=1)
