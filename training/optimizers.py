"""Optimizers and schedules as settings, on optax."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from models.layers.axes import NONE, Axes, is_kernel, is_stacked, is_table, named_axes, own_axes, unit_axes
from training.layer_rates import Depth, scale_by_layer
from training.parallel import TrainingError

EXPECTED: dict[str, tuple[str, Callable[[float], bool]]] = {
    **dict.fromkeys(
        ("learning_rate", "eps", "clip_norm", "adaptive_clip", "layer_decay", "clip_threshold", "least_scale"),
        ("more than 0", lambda x: x > 0),
    ),
    **dict.fromkeys(
        ("warmup_steps", "warmup_init", "weight_decay", "constant_steps", "factored_from", "decay_exponent"),
        ("0 or more", lambda x: x >= 0),
    ),
    **dict.fromkeys(("b1", "b2", "momentum"), ("from 0 to less than 1", lambda x: 0 <= x < 1)),
    "final_share": ("from 0 to 1", lambda x: 0 <= x <= 1),
}
"""What the numbers among the settings of an optimizer must be, by their names; all must be finite."""


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """Base of all optimizers: a frozen dataclass of settings."""

    def __post_init__(self) -> None:
        """Raise `TrainingError` where a number is none that an optimizer can work with."""
        for name in EXPECTED.keys() & {field.name for field in dataclasses.fields(self)}:
            value, (expected, holds) = vars(self)[name], EXPECTED[name]
            if value is not None and not (math.isfinite(value) and holds(value)):
                raise TrainingError(f"optimizer.{name}={value}: expected a finite number, {expected}")

    def schedule(self, steps: int) -> optax.Schedule:
        """Learning rate of each step of a run of `steps` steps, the first being step 0."""
        raise NotImplementedError

    def build(self, steps: int, depth: Depth | None = None, axes: Axes = NONE) -> optax.GradientTransformation:
        """The transformation for a run of `steps` steps.

        Args:
            depth: of a parameter, for rates that fall from layer to layer.
            axes: the logical axes of the parameters, by which stacks, kernels and tables are known.
        """
        raise NotImplementedError

    def rates(self, steps: int) -> np.ndarray:
        """Learning rate of each of `steps` steps, `[steps]`, on the host."""
        return np.asarray(jax.jit(self.schedule(steps))(jnp.arange(steps)))


@dataclasses.dataclass(frozen=True)
class Warmed(Optimizer):
    """Base of the optimizers whose learning rate grows for a while and then falls.

    Attributes:
        learning_rate: the peak, reached after `warmup_steps` of linear growth from `warmup_init`.
        decay: what follows until the last step: `linear` or `cosine` to `final_share` of the peak, or `constant`; or,
            whatever the last step,
            `inverse_sqrt`: √(warmup_steps / step). With the peak (d_model · warmup_steps)^-0.5 that is the schedule of
            Vaswani et al. (2017, equation 3): d_model^-0.5 · min(step^-0.5, step · warmup_steps^-1.5).
    """

    learning_rate: float = 1e-4
    warmup_steps: int = 10_000
    decay: Literal["linear", "cosine", "constant", "inverse_sqrt"] = "linear"
    final_share: float = 0.0
    warmup_init: float = 0.0

    def schedule(self, steps: int) -> optax.Schedule:
        """Learning rate of each step; the first is above `warmup_init` already."""

        def rate(step: int | jax.Array) -> jax.Array:
            step = jnp.asarray(step, jnp.float32)
            progress = jnp.clip((step + 1 - self.warmup_steps) / max(1, steps - self.warmup_steps), 0, 1)
            decayed = {
                "linear": 1 - (1 - self.final_share) * progress,
                "cosine": self.final_share + (1 - self.final_share) * 0.5 * (1 + jnp.cos(jnp.pi * progress)),
                "constant": jnp.ones_like(progress),
                "inverse_sqrt": jax.lax.rsqrt(jnp.maximum(1.0, (step + 1) / max(1, self.warmup_steps))),
            }[self.decay]
            warmed = jnp.minimum(1.0, (step + 1) / max(1, self.warmup_steps))
            if self.warmup_init:
                warmed += (1 - warmed) * (self.warmup_init / self.learning_rate)
            return self.learning_rate * warmed * decayed

        return rate


@dataclasses.dataclass(frozen=True)
class AdamW(Warmed):
    """Adam with decoupled weight decay (Loshchilov & Hutter, 2017, arXiv 1711.05101), a warm-up and a decay.

    Attributes:
        weight_decay: of kernels and tables of embeddings (`decayed`).
        bias_correction: whether the moments are corrected for starting at 0; BERT's released optimizer does not.
        clip_norm: the gradient's global norm is brought down to it; `None` leaves it alone.
        adaptive_clip: the norm of the gradient of each unit is brought down to this share of the unit's own
            (`clip_by_unit`), before `clip_norm`; `None` leaves it alone.
        layer_decay: what the rate is multiplied with from each layer to the one before it (`training.layer_rates`).
    """

    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-6
    weight_decay: float = 0.01
    bias_correction: bool = True
    clip_norm: float | None = 1.0
    adaptive_clip: float | None = None
    layer_decay: float = 1.0

    def build(self, steps: int, depth: Depth | None = None, axes: Axes = NONE) -> optax.GradientTransformation:
        return optax.chain(
            *([] if self.adaptive_clip is None else [clip_by_unit(self.adaptive_clip, axes=axes)]),
            clip(self.clip_norm),
            scale_by_adam(self.b1, self.b2, self.eps, self.bias_correction),
            optax.add_decayed_weights(self.weight_decay, mask=functools.partial(decayed, axes=axes)),
            optax.scale_by_learning_rate(self.schedule(steps)),
            *([] if self.layer_decay == 1 else [scale_by_layer(self.layer_decay, depth)]),
        )


@dataclasses.dataclass(frozen=True)
class LAMB(Warmed):
    """AdamW whose updates are as large as their parameters, layer by layer, for large batches (You et al., 2019, arXiv
    1904.00962, algorithm 2, φ(x) = x).

    Each layer of a stack counts as a layer of its own. Parameters without weight decay, biases and norms, take Adam's
    updates as they are, as in the code released with the paper.

    Attributes:
        weight_decay: of kernels and tables of embeddings (`decayed`).
        clip_norm: the gradient's global norm is brought down to it; `None` leaves it alone.
    """

    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-6
    weight_decay: float = 0.01
    clip_norm: float | None = 1.0

    def build(self, steps: int, depth: Depth | None = None, axes: Axes = NONE) -> optax.GradientTransformation:
        return optax.chain(
            clip(self.clip_norm),
            scale_by_adam(self.b1, self.b2, self.eps, bias_correction=True),
            optax.add_decayed_weights(self.weight_decay, mask=functools.partial(decayed, axes=axes)),
            scale_by_trust_ratio(axes),
            optax.scale_by_learning_rate(self.schedule(steps)),
        )


@dataclasses.dataclass(frozen=True)
class SGD(Warmed):
    """Stochastic gradient descent with momentum (Sutskever et al., 2013, PMLR 28(3), section 2), as `torch.optim.SGD`.

    Attributes:
        momentum: what is kept of the sum of the gradients before.
        nesterov: look ahead by the momentum of the next step.
        weight_decay: added to the gradient, and so to the momentum; of kernels and tables of embeddings (`decayed`).
        clip_norm: the gradient's global norm is brought down to it; `None` leaves it alone.
    """

    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    clip_norm: float | None = None

    def build(self, steps: int, depth: Depth | None = None, axes: Axes = NONE) -> optax.GradientTransformation:
        return optax.chain(
            clip(self.clip_norm),
            optax.add_decayed_weights(self.weight_decay, mask=functools.partial(decayed, axes=axes)),
            optax.trace(self.momentum, self.nesterov),
            optax.scale_by_learning_rate(self.schedule(steps)),
        )


@dataclasses.dataclass(frozen=True)
class Adafactor(Optimizer):
    """Adafactor without momentum (Shazeer & Stern, 2018, arXiv 1804.04235, algorithm 4): what T5 was trained with.

    Of a matrix's squared gradients only the means of rows and columns are kept, and its update is as large as the matrix
    itself says. Each layer of a stack counts as a matrix of its own.

    Attributes:
        learning_rate: of the root mean square of a parameter, until `constant_steps`; then it falls with 1 / √step. T5's
            is 1 / √max(step, 10⁴).
        decay_exponent: the squares of step t enter their mean with a weight of t^-`decay_exponent`.
        clip_threshold: an update whose root mean square is larger is brought down to it.
        least_scale: a parameter counts as no smaller than this.
        factored_from: a matrix with fewer rows or columns keeps all its squares.
    """

    learning_rate: float = 1e-2
    constant_steps: int = 10_000
    decay_exponent: float = 0.8
    clip_threshold: float = 1.0
    least_scale: float = 1e-3
    factored_from: int = 128

    def schedule(self, steps: int) -> optax.Schedule:
        def rate(step: int | jax.Array) -> jax.Array:
            step = jnp.asarray(step, jnp.float32)
            return self.learning_rate * jax.lax.rsqrt(jnp.maximum(1.0, (step + 1) / max(1, self.constant_steps)))

        return rate

    def build(self, steps: int, depth: Depth | None = None, axes: Axes = NONE) -> optax.GradientTransformation:
        return optax.chain(
            scale_by_factored_squares(self.decay_exponent, self.factored_from, axes=axes),
            scale_to_parameters(self.clip_threshold, self.least_scale, axes),
            optax.scale_by_learning_rate(self.schedule(steps)),
        )


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


def clip_by_unit(share: float, least: float = 1e-3, axes: Axes = NONE) -> optax.GradientTransformation:
    """Gradients whose norm is at most `share` of that of their parameter, unit by unit (Brock et al., 2021, arXiv
    2102.06171, section 4: adaptive gradient clipping); a unit counts as no smaller than `least`.

    The unit of a kernel is an output, with all its inputs. Of what is no kernel, in a layer of its own, a unit is a row, and
    of a vector the whole.
    """

    def update(gradients, state, params=None):
        def one(path, gradient, parameter):
            summed = unit_axes(named_axes(path, gradient, axes))
            most = share * jnp.maximum(norms(parameter, summed), least)
            found = norms(gradient, summed)
            return jnp.where(
                found < most, gradient, gradient * (most / jnp.maximum(found, 1e-6)).astype(gradient.dtype)
            )

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
        share = jnp.asarray(count, jnp.float32) ** -exponent

        def one(path, gradient, rows, columns, whole):
            squares = gradient.astype(jnp.float32) ** 2 + epsilon
            if not factored(gradient, is_stacked(named_axes(path, gradient, axes))):
                whole = (1 - share) * whole + share * squares
                return gradient * jax.lax.rsqrt(whole), rows, columns, whole
            rows = (1 - share) * rows + share * squares.mean(axis=-1)
            columns = (1 - share) * columns + share * squares.mean(axis=-2)
            by_row = jax.lax.rsqrt(rows / rows.mean(axis=-1, keepdims=True))
            return gradient * by_row[..., None] * jax.lax.rsqrt(columns)[..., None, :], rows, columns, whole

        found = jax.tree_util.tree_map_with_path(one, gradients, state.rows, state.columns, state.whole)
        directions, rows, columns, whole = jax.tree.transpose(
            jax.tree.structure(gradients), jax.tree.structure((0, 0, 0, 0)), found
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
