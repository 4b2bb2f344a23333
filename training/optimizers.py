"""Optimizers and schedules as settings, on optax."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from models.layers.axes import NONE, Axes
from training.layer_rates import Depth, scale_by_layer, scale_by_path
from training.parallel import TrainingError
from training.transformations import (
    clip,
    clip_by_unit,
    decayed,
    scale_by_adam,
    scale_by_factored_squares,
    scale_by_trust_ratio,
    scale_to_parameters,
)

EXPECTED: dict[str, tuple[str, Callable[[float], bool]]] = {
    **dict.fromkeys(
        ("learning_rate", "eps", "clip_norm", "adaptive_clip", "layer_decay", "clip_threshold", "least_scale", "power"),
        ("more than 0", lambda x: x > 0),
    ),
    **dict.fromkeys(
        (
            "warmup_steps",
            "hold_steps",
            "warmup_init",
            "weight_decay",
            "constant_steps",
            "factored_from",
            "decay_exponent",
        ),
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
        adaptive_clip: the norm of the gradient of each unit is brought down to this fraction of the unit's
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
class TriStage(AdamW):
    """AdamW whose rate grows, stays at its peak and falls exponentially, as speech recognisers are fine-tuned (Baevski et al.,
    2020, arXiv 2006.11477, released recipes).

    Attributes:
        hold_steps: how long it stays at its peak.
        final_share: what it falls to in the last step, a fraction of the peak.
    """

    final_share: float = 0.05
    hold_steps: int = 0

    def schedule(self, steps: int) -> optax.Schedule:
        falls_from = self.warmup_steps + self.hold_steps

        def rate(step: int | jax.Array) -> jax.Array:
            step = jnp.asarray(step, jnp.float32) + 1
            fallen = jnp.clip((step - falls_from) / max(1, steps - falls_from), 0, 1)
            warmed = jnp.minimum(1.0, step / max(1, self.warmup_steps))
            return self.learning_rate * warmed * jnp.exp(math.log(self.final_share) * fallen)

        return rate


@dataclasses.dataclass(frozen=True)
class Triangular(AdamW):
    """AdamW whose rate grows from `warmup_init` to its peak over the first half of the run, and falls back over the second, both
    times as a power of the part of that half that is done (the released code of GLPN, Kim et al., 2022, arXiv 2201.07436).

    Attributes:
        power: 1 for straight lines.
    """

    power: float = 0.9

    def schedule(self, steps: int) -> optax.Schedule:
        def rate(step: int | jax.Array) -> jax.Array:
            done = 2 * (jnp.asarray(step, jnp.float32) + 1) / steps
            risen = jnp.minimum(done, 1.0) ** self.power - jnp.maximum(done - 1.0, 0.0) ** self.power
            return self.warmup_init + (self.learning_rate - self.warmup_init) * risen

        return rate


@dataclasses.dataclass(frozen=True)
class Stepwise(AdamW):
    """AdamW whose rate falls at a few points of the run, and is lower for some parameters, as detectors are trained (Carion et
    al., 2020, arXiv 2005.12872, section 4).

    Attributes:
        drops: shares of the run at which it falls; `decay` and `final_share` are not read.
        drop: what it is multiplied by there.
        slower: pattern searched for in the paths of parameters (`model/backbone`); those that have it change at a rate of
            `slower_by` times the others'.
    """

    warmup_steps: int = 0
    weight_decay: float = 1e-4
    clip_norm: float | None = 0.1
    eps: float = 1e-8
    drops: tuple[float, ...] = (2 / 3,)
    drop: float = 0.1
    slower: str = ""
    slower_by: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(0 <= share <= 1 for share in self.drops) or not 0 < self.drop <= 1 or not 0 < self.slower_by <= 1:
            raise TrainingError(
                f"optimizer.drops={self.drops}, drop={self.drop}, slower_by={self.slower_by}: expected shares of the run, and"
                " factors of more than 0 and at most 1"
            )

    def schedule(self, steps: int) -> optax.Schedule:
        places = tuple(round(share * steps) for share in self.drops)

        def rate(step: int | jax.Array) -> jax.Array:
            step = jnp.asarray(step, jnp.float32)
            fallen = sum((step >= place for place in places), jnp.zeros_like(step))
            warmed = jnp.minimum(1.0, (step + 1) / max(1, self.warmup_steps))
            return self.learning_rate * warmed * self.drop**fallen

        return rate

    def build(self, steps: int, depth: Depth | None = None, axes: Axes = NONE) -> optax.GradientTransformation:
        adam = super().build(steps, depth, axes)
        return adam if not self.slower else optax.chain(adam, scale_by_path(self.slower, self.slower_by))


@dataclasses.dataclass(frozen=True)
class Polynomial(Stepwise):
    """The same with a rate that falls as a power of what is left of the run, as segmentation networks are trained (Chen et al.,
    "DeepLab", 2016, arXiv 1606.00915, section 4.1.1).

    Attributes:
        power: 1 for a straight line.
        drops: not read.
    """

    power: float = 0.9

    def schedule(self, steps: int) -> optax.Schedule:
        def rate(step: int | jax.Array) -> jax.Array:
            step = jnp.asarray(step, jnp.float32)
            warmed = jnp.minimum(1.0, (step + 1) / max(1, self.warmup_steps))
            return self.learning_rate * warmed * jnp.maximum(1 - step / steps, 0.0) ** self.power

        return rate


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
