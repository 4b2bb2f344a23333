"""What optimizers are made of: clipping, moments and scales that know the logical axes of parameters, on optax."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from models.layers.axes import NONE, Axes, is_kernel, is_stacked, is_table, named_axes, own_axes, unit_axes


class Moments(NamedTuple):
    """State of `scale_by_adam`: steps done, and running means of gradients and of their squares."""

    count: jax.Array
    mu: Any
    nu: Any


def scale_by_adam(b1: float, b2: float, eps: float, bias_correction: bool) -> optax.GradientTransformation:
    """Adam's direction (Kingma & Ba, 2014, arXiv 1412.6980, algorithm 1), the correction for bias left out if asked.

    Without it (BERT's `AdamWeightDecayOptimizer`) the first steps are larger: m/√v starts at (1-b1)/√(1-b2) ≈ 3.2.
    """
    if bias_correction:
        return optax.scale_by_adam(b1, b2, eps)

    def init(params):
        return Moments(
            jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, params), jax.tree.map(jnp.zeros_like, params)
        )

    def update(gradients, state, params=None):
        mu = jax.tree.map(lambda g, m: b1 * m + (1 - b1) * g, gradients, state.mu)
        nu = jax.tree.map(lambda g, v: b2 * v + (1 - b2) * g * g, gradients, state.nu)
        directions = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + eps), mu, nu)
        return directions, Moments(optax.safe_increment(state.count), mu, nu)

    return optax.GradientTransformation(init, update)


def decayed(params: Any, axes: Axes = NONE) -> Any:
    """True for the parameters that weight decay applies to: kernels, and tables of embeddings.

    So it is in all published recipes here (BERT's and GPT-2's decay their positions, too). Biases, norms, scales of layers, class
    and mask tokens, positions of pictures, and the biases of attention, which T5 looks up in a table, are left alone.
    """

    def applies(path: tuple, x: Any) -> bool:
        names = named_axes(path, x, axes)
        return is_kernel(names) or is_table(names)

    return jax.tree_util.tree_map_with_path(applies, params)


def clip(norm: float | None) -> optax.GradientTransformation:
    """Gradients with a global norm of at most `norm`; as they are for `None`.

    `optax.clip_by_global_norm` divides where this multiplies by one factor, which fuses with what the optimizer does next.
    """
    if norm is None:
        return optax.identity()

    def update(gradients, state, params=None):
        factor = jnp.minimum(1.0, norm / optax.global_norm(gradients))
        return jax.tree.map(lambda gradient: gradient * factor.astype(gradient.dtype), gradients), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def clip_by_unit(ratio: float, least: float = 1e-3, axes: Axes = NONE) -> optax.GradientTransformation:
    """Gradients whose norm is at most `ratio` times that of their parameter, unit by unit (Brock et al., 2021, arXiv
    2102.06171, section 4: adaptive gradient clipping); a unit counts as no smaller than `least`.

    The unit of a kernel is an output, with all its inputs. Of what is no kernel, in a layer of its own, a unit is a row, and
    of a vector the whole.
    """

    def update(gradients, state, params=None):
        def one(path, gradient, parameter):
            summed = unit_axes(named_axes(path, gradient, axes))
            most = ratio * jnp.maximum(norms(parameter, summed), least)
            norm = norms(gradient, summed)
            return jnp.where(norm < most, gradient, gradient * (most / jnp.maximum(norm, 1e-6)).astype(gradient.dtype))

        return jax.tree_util.tree_map_with_path(one, gradients, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def scale_by_trust_ratio(axes: Axes = NONE) -> optax.GradientTransformation:
    """Updates with the norm of their parameter, layer by layer, where weight decay applies and neither is 0."""

    def update(updates, state, params=None):
        def one(path, x, parameter, applies):
            summed = own_axes(named_axes(path, x, axes))
            size, update_size = norms(parameter, summed), norms(x, summed)
            known = applies & (size > 0) & (update_size > 0)
            return x * jnp.where(known, size / jnp.where(known, update_size, 1.0), 1.0).astype(x.dtype)

        return jax.tree_util.tree_map_with_path(one, updates, params, decayed(params, axes)), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def norms(x: jax.Array, axes: Sequence[int]) -> jax.Array:
    """Euclidean norms along these axes, which stay, in float32."""
    return jnp.sqrt((x.astype(jnp.float32) ** 2).sum(axis=tuple(axes), keepdims=True))


class FactoredSquares(NamedTuple):
    """State of `scale_by_factored_squares`: steps done; means of squared gradients, by row and by column or, of parameters
    without, whole. What a parameter does not have is a single zero (Orbax stores no empty arrays)."""

    count: jax.Array
    rows: Any
    columns: Any
    whole: Any


def scale_by_factored_squares(
    exponent: float, factored_from: int, epsilon: float = 1e-30, axes: Axes = NONE
) -> optax.GradientTransformation:
    """Gradients over the roots of their mean squares, those of large matrices being rows · columns / mean(rows)."""

    def factored(x: jax.Array, layers: bool) -> bool:
        return x.ndim - layers >= 2 and min(x.shape[-2:]) >= factored_from

    def init(params):
        def zeros(part: str):
            def of(path, x):
                value = nn.unbox(x)
                every = range(value.ndim)
                if factored(value, is_stacked(named_axes(path, value, axes))):
                    kept = {"rows": every[:-1], "columns": (*every[:-2], every[-1]), "whole": None}[part]
                else:
                    kept = every if part == "whole" else None
                return zeros_along(x, kept)

            return jax.tree_util.tree_map_with_path(of, params, is_leaf=is_boxed)

        return FactoredSquares(jnp.zeros((), jnp.int32), zeros("rows"), zeros("columns"), zeros("whole"))

    def update(gradients, state, params=None):
        count = optax.safe_increment(state.count)
        weight = jnp.asarray(count, jnp.float32) ** -exponent

        def one(path, gradient, rows, columns, whole):
            squares = gradient.astype(jnp.float32) ** 2 + epsilon
            if not factored(gradient, is_stacked(named_axes(path, gradient, axes))):
                whole = (1 - weight) * whole + weight * squares
                return gradient * jax.lax.rsqrt(whole), rows, columns, whole
            rows = (1 - weight) * rows + weight * squares.mean(axis=-1)
            columns = (1 - weight) * columns + weight * squares.mean(axis=-2)
            by_row = jax.lax.rsqrt(rows / rows.mean(axis=-1, keepdims=True))
            return gradient * by_row[..., None] * jax.lax.rsqrt(columns)[..., None, :], rows, columns, whole

        updates = jax.tree_util.tree_map_with_path(one, gradients, state.rows, state.columns, state.whole)
        directions, rows, columns, whole = jax.tree.transpose(
            jax.tree.structure(gradients), jax.tree.structure((0, 0, 0, 0)), updates
        )
        return directions, FactoredSquares(count, rows, columns, whole)

    return optax.GradientTransformation(init, update)


def scale_to_parameters(clip_threshold: float, least_scale: float, axes: Axes = NONE) -> optax.GradientTransformation:
    """Updates with a root mean square of at most `clip_threshold`, times that of their parameter."""

    def update(updates, state, params=None):
        def one(path, x, parameter):
            averaged = own_axes(named_axes(path, x, axes))

            def size(values: jax.Array) -> jax.Array:
                return jnp.sqrt((values.astype(jnp.float32) ** 2).mean(axis=averaged, keepdims=True))

            return x / jnp.maximum(1.0, size(x) / clip_threshold) * jnp.maximum(size(parameter), least_scale)

        return jax.tree_util.tree_map_with_path(one, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def is_boxed(x: Any) -> bool:
    """Whether a parameter still has its logical axes with it."""
    return isinstance(x, nn.meta.AxisMetadata)


def zeros_along(x: Any, axes: Sequence[int] | None) -> Any:
    """Float32 zeros for these axes of a parameter, with their logical names where it has some; for `None` a single one."""
    value = nn.unbox(x)
    zeros = jnp.zeros((1,) if axes is None else [value.shape[axis] for axis in axes], jnp.float32)
    if not is_boxed(x):
        return zeros
    return x.replace(value=zeros, names=(None,) if axes is None else tuple(x.names[axis] for axis in axes))
