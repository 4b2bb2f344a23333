"""Layers that several architectures share. Parameters carry logical axis names, which the training mesh maps to chips."""

import math
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float, Int, Key, UInt32

from models.config import ModelConfig, ModelError, nearest

Initializer = Callable[..., Array]
Keys = Key[Array, " batch"] | None


@jax.custom_jvp
def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """x Φ(x), Φ the normal distribution function (Hendrycks & Gimpel, 2016, arXiv 1606.08415), in float32 or wider.

    The derivative Φ(x) + x φ(x) is computed beside it: the backward pass keeps one array and runs no erf of its own.
    """
    return _gelu_and_slope(x)[0]


@gelu.defjvp
def _gelu_jvp(primals, tangents):
    value, slope = _gelu_and_slope(*primals)
    return value, slope * tangents[0]


def _gelu_and_slope(x: Float[Array, "*shape"]) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    below = 0.5 * (1.0 + jax.lax.erf(wide * math.sqrt(0.5)))
    slope = below + wide * jnp.exp(-0.5 * wide**2) / math.sqrt(2 * math.pi)
    return (wide * below).astype(x.dtype), slope.astype(x.dtype)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": gelu,
    "gelu_new": lambda x: jax.nn.gelu(x, approximate=True),
    "gelu_pytorch_tanh": lambda x: jax.nn.gelu(x, approximate=True),
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "tanh": jnp.tanh,
}


def activation(name: str) -> Callable[[Array], Array]:
    """The activation that a published config calls `name`."""
    if name not in ACTIVATIONS:
        raise ModelError(f"unknown activation {name!r}: {nearest(name, list(ACTIVATIONS))}")
    return ACTIVATIONS[name]


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


# ── Projections, norms, embeddings ───────────────────────────────────────────────────────────────────────────────────


def truncated_normal(stddev: float) -> Initializer:
    """N(0, stddev²) cut at ±2 stddev, as the TensorFlow models of 2018 were initialised."""
    return nn.initializers.truncated_normal(stddev)


def by_example(x: Float[Array, "batch ..."], features: str | None = None) -> Float[Array, "batch ..."]:
    """`x`, on a mesh laid out by examples and, where its last axis has a logical name, by that.

    Parameters that chips share must come to the activations: without being told, XLA may send these to the parameters.
    """
    return nn.with_logical_constraint(x, ("batch", *(None,) * (x.ndim - 2), features))


@jax.custom_vjp
def matmul(x: Float[Array, "... in"], kernel: Float[Array, "in out"]) -> Float[Array, "... out"]:
    """`x @ kernel` in the dtype of `x`; the weight gradient is asked for as `(in, out)` at once, in the kernel's dtype.

    JAX would compute its transpose, `(out, in)`, and turn it: on CPUs XLA then leaves its fast matrix product for one half
    as fast and copies the output's gradient. And it would round the gradient to bfloat16 where that is computed in: then
    what each chip adds to it would be rounded too, and the sum depend on the layout. No forward-mode derivative.
    """
    return x @ kernel.astype(x.dtype)


def _matmul_forward(x, kernel):
    return matmul(x, kernel), (x, kernel)


def _matmul_backward(saved, gradient):
    x, kernel = saved
    rows, row_gradients = (a.reshape(-1, a.shape[-1]) for a in (x, gradient))
    contracted = (((0,), (0,)), ((), ()))
    weights = jax.lax.dot_general(rows, row_gradients, contracted, preferred_element_type=kernel.dtype)
    return gradient @ kernel.T.astype(x.dtype), weights


matmul.defvjp(_matmul_forward, _matmul_backward)


PROJECTION = "projection"
"""What the results of `dense` are called in rematerialisation policies, which cannot see into `matmul`."""


@jax.custom_vjp
def add_bias(x: Float[Array, "... features"], bias: Float[Array, " features"]) -> Float[Array, "... features"]:
    """`x + bias` in the dtype of `x`; the bias's gradient in its own, for the reason that `matmul` gives."""
    return x + jnp.expand_dims(bias.astype(x.dtype), range(x.ndim - 1))


def _add_bias_backward(bias, gradient):
    return gradient, gradient.sum(axis=tuple(range(gradient.ndim - 1)), dtype=bias.dtype)


add_bias.defvjp(lambda x, bias: (add_bias(x, bias), bias), _add_bias_backward)


class Dense(nn.Module):
    """A linear layer: `x @ kernel + bias` in the compute dtype, the gradients in the parameters'. See `dense`."""

    config: ModelConfig
    features: int
    axes: tuple[str, str]
    use_bias: bool
    kernel_init: Initializer

    @nn.compact
    def __call__(self, x: Float[Array, "... in"]) -> Float[Array, "... out"]:
        dtype = jnp.dtype(self.config.param_dtype)
        kernel_init = nn.with_logical_partitioning(self.kernel_init, self.axes)
        kernel = self.param("kernel", kernel_init, (x.shape[-1], self.features), dtype)
        y = checkpoint_name(matmul(x.astype(self.config.compute_dtype), kernel), PROJECTION)
        y = by_example(y, None if self.axes[1].startswith("embed") else self.axes[1])
        if not self.use_bias:
            return y
        bias_init = nn.with_logical_partitioning(nn.initializers.zeros, self.axes[1:])
        return add_bias(y, self.param("bias", bias_init, (self.features,), dtype))


def dense(
    config: ModelConfig,
    features: int,
    name: str | None,
    axes: tuple[str, str],
    *,
    bias: bool = True,
    stddev: float = 0.02,
    kernel_init: Initializer | None = None,
) -> Dense:
    """A linear layer whose kernel `(in, out)` has the logical `axes`, and N(0, stddev²) cut at ±2 stddev at first."""
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


def layer_norm(config: ModelConfig, epsilon: float, name: str | None) -> nn.LayerNorm:
    """Layer normalisation over the last axis (Ba et al., 2016), in float32, the variance from centred values."""
    return nn.LayerNorm(
        epsilon=epsilon,
        dtype=config.compute_dtype,
        param_dtype=jnp.dtype(config.param_dtype),
        use_fast_variance=False,
        scale_init=nn.with_logical_partitioning(nn.initializers.ones, ("norm",)),
        bias_init=nn.with_logical_partitioning(nn.initializers.zeros, ("norm",)),
        name=name,
    )


# ── Attention ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Attention(nn.Module):
    """Multi-head scaled dot-product attention (Vaswani et al., 2017, arXiv 1706.03762, section 3.2).

    Attributes:
        num_heads: heads; `features` must divide by it.
        dropout_rate: of the attention probabilities.
        local_start: let the first half of the heads begin with keys equal to queries, so that like attends to like: with
            sinusoids as positions, each token to its neighbours (Trockman & Kolter, "Mimetic Initialization of
            Self-Attention Layers", 2023, arXiv 2305.09828). The other half begins by looking everywhere alike.
    """

    config: ModelConfig
    features: int
    num_heads: int
    dropout_rate: float
    stddev: float = 0.02
    local_start: bool = False

    @nn.compact
    def __call__(
        self,
        hidden: Float[Array, "batch length features"],
        mask: Bool[Array, "batch 1 #length keys"] | None,
        dropout_keys: Keys = None,
    ) -> tuple[Float[Array, "batch length features"], Float[Array, "batch heads length keys"]]:
        """Returns the attended and projected vectors, and the attention probabilities before dropout.

        `mask` is true where a query may look. A query that may look nowhere looks everywhere alike.
        """

        head_dim = self.features // self.num_heads

        def project(name: str, init: Initializer | None = None) -> Float[Array, "batch heads length head_dim"]:
            layer = dense(self.config, self.features, name, ("embed", "heads"), stddev=self.stddev, kernel_init=init)
            return rearrange(layer(hidden), "batch length (heads dim) -> batch heads length dim", heads=self.num_heads)

        query = project("query", self._local_queries if self.local_start else None)
        key = project("key", self._local_keys if self.local_start else None)
        value = project("value")
        scores = jnp.einsum("bhqd,bhkd->bhqk", query, key, preferred_element_type=jnp.float32)
        scores = scores.astype(jnp.float32) * head_dim**-0.5
        if mask is not None:
            scores = jnp.where(mask, scores, jnp.finfo(jnp.float32).min)
        probabilities = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
        dropped = dropout(probabilities, self.dropout_rate, dropout_keys)
        attended = rearrange(
            jnp.einsum("bhqk,bhkd->bhqd", dropped, value), "batch heads length dim -> batch length (heads dim)"
        )
        out = dense(self.config, self.features, "out", ("heads", "embed"), stddev=self.stddev)(attended)
        return out, probabilities

    def _local_queries(self, key: Array, shape: Sequence[int], dtype: jnp.dtype) -> Float[Array, "in out"]:
        """An initializer: so wide in the first half of the heads that the scores of like vectors begin at about 10."""
        head_dim = self.features // self.num_heads
        wide = math.sqrt(10 / (math.sqrt(head_dim) * self.features))
        stddev = jnp.where(jnp.arange(self.features) < self.num_heads // 2 * head_dim, wide, self.stddev)
        return (jax.random.normal(key, shape) * stddev[None]).astype(dtype)

    def _local_keys(self, key: Array, shape: Sequence[int], dtype: jnp.dtype) -> Float[Array, "in out"]:
        """An initializer: the queries in the first half of the heads, what they would be anyway in the others."""
        head_dim = self.features // self.num_heads
        local = jnp.arange(self.features) < self.num_heads // 2 * head_dim
        queries = nn.unbox(self.variables["params"]["query"]["kernel"])
        return jnp.where(local[None], queries, truncated_normal(self.stddev)(key, shape, dtype))


# ── Stacks ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def stack(layer: type[nn.Module], config: ModelConfig, count: int, name: str | None, **attributes) -> nn.Module:
    """`count` copies of `layer`, run one after the other, their parameters stacked on a first axis called `layers`.

    `layer(...)(carry, index, *shared) -> (carry, collected)`: `index` is the layer's number, `shared` the same for all,
    and `collected` comes back stacked. With `config.scan_layers` one layer is compiled and looped over; without, all are
    laid out one after another. `config.remat` says what the backward pass computes again. Neither changes parameters
    or numbers.
    """
    policies = {"dots": jax.checkpoint_policies.save_only_these_names(PROJECTION), "full": None}
    if config.remat != "none":
        layer = nn.remat(layer, policy=policies[config.remat], prevent_cse=not config.scan_layers)
    return nn.scan(
        layer,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        in_axes=(0, nn.broadcast, nn.broadcast),
        length=count,
        unroll=1 if config.scan_layers else count,
        metadata_params={nn.PARTITION_NAME: "layers"},
    )(config, name=name, **attributes)
