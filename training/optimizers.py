"""Optimizers and schedules as settings, on optax."""

import dataclasses
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax


@dataclasses.dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay (Loshchilov & Hutter, 2017, arXiv 1711.05101), a warm-up and a decay.

    Attributes:
        learning_rate: the peak, reached after `warmup_steps` of linear growth from 0.
        decay: what follows until the last step: `linear` or `cosine` to 0, or `constant`.
        weight_decay: not applied to biases and norms.
        bias_correction: whether the moments are corrected for starting at 0; BERT's released optimizer does not.
        clip_norm: the gradient's global norm is brought down to it; `None` leaves it alone.
    """

    learning_rate: float = 1e-4
    warmup_steps: int = 10_000
    decay: Literal["linear", "cosine", "constant"] = "linear"
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-6
    weight_decay: float = 0.01
    bias_correction: bool = True
    clip_norm: float | None = 1.0

    def schedule(self, steps: int) -> optax.Schedule:
        """Learning rate of each step, the first being step 0; the first is above 0 already."""

        def rate(step: int | jax.Array) -> jax.Array:
            step = jnp.asarray(step, jnp.float32)
            progress = jnp.clip((step + 1 - self.warmup_steps) / max(1, steps - self.warmup_steps), 0, 1)
            decayed = {
                "linear": 1 - progress,
                "cosine": 0.5 * (1 + jnp.cos(jnp.pi * progress)),
                "constant": jnp.ones_like(progress),
            }[self.decay]
            warmed = jnp.minimum(1.0, (step + 1) / max(1, self.warmup_steps))
            return self.learning_rate * warmed * decayed

        return rate

    def rates(self, steps: int) -> np.ndarray:
        """Learning rate of each of `steps` steps, `[steps]`, on the host."""
        return np.asarray(jax.jit(self.schedule(steps))(jnp.arange(steps)))

    def build(self, steps: int) -> optax.GradientTransformation:
        """The transformation for a run of `steps` steps."""
        return optax.chain(
            optax.identity() if self.clip_norm is None else optax.clip_by_global_norm(self.clip_norm),
            scale_by_adam(self.b1, self.b2, self.eps, self.bias_correction),
            optax.add_decayed_weights(self.weight_decay, mask=decayed),
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


def decayed(params: Any) -> Any:
    """True for the parameters that weight decay applies to: all but biases and the scales of norms."""

    def applies(path, _) -> bool:
        names = [str(getattr(key, "key", key)) for key in path]
        return not (names[-1].endswith("bias") or any(name.endswith("norm") for name in names))

    return jax.tree_util.tree_map_with_path(applies, params)
