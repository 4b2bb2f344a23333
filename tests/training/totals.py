"""Two losses that are no ratio of two sums, on a small model: what any split must still differentiate exactly."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from models.config import ModelConfig
from models.model import Model
from models.outputs import ModelOutput
from objectives import Depth, Objective, Sum
from objectives.audio.contrastive import perplexity
from training.parallel import Parallel, logical_axes
from training.state import Update
from training.step import host_values, train_step

ROWS, PLACES, FEATURES, CODES = 32, 6, 8, 16


@dataclasses.dataclass(frozen=True)
class DepthOfFeatures(Depth):
    """The scale-invariant error of depth, of a model that sees no pictures."""

    takes = ()


@dataclasses.dataclass(frozen=True)
class Diversity(Objective):
    """1 - exp(H(p)) / codes, p the mean distribution over codes (Baevski et al., 2020, arXiv 2006.11477, equation 4)."""

    def sums(self, outputs, batch):
        chosen = jax.nn.softmax(outputs["logits"]) * (batch["labels"] > 0)[..., None]
        return {"chosen": chosen.sum(axis=(0, 1)), "count": (batch["labels"] > 0).sum().astype(jnp.float32)}

    def losses(self, totals):
        mean = totals["chosen"] / totals["count"]
        return {"diversity_loss": 1 - perplexity(mean[None]) / len(mean)}


@dataclasses.dataclass(frozen=True)
class Squares(Objective):
    """A ratio beside them, whose weight is 0.04 for each example."""

    def loss(self, outputs, batch):
        return {"squares_loss": (0.04 * (outputs["logits"] ** 2).sum(), 0.04 * jnp.float32(len(batch["labels"])))}


OBJECTIVE = Sum(DepthOfFeatures(), Diversity(), Squares())


class Scores(Model):
    """`logits` (batch, places, codes) of `features` (batch, places, features); `predicted_depth` is e to the first of them."""

    config: ModelConfig = ModelConfig()

    @nn.compact
    def __call__(self, features, dropout_keys=None):
        start = nn.with_logical_partitioning(nn.initializers.normal(0.5), ("embed", "mlp"))
        logits = features @ self.param("kernel", start, (FEATURES, CODES))
        return ModelOutput(logits=logits, predicted_depth=jnp.exp(logits[..., 0]))


def examples() -> dict[str, np.ndarray]:
    """A batch whose eighths have another number of labelled places each."""
    draw = np.random.default_rng(0)
    labels = draw.normal(3, 1, (ROWS, PLACES)).clip(0.1)
    asked = np.arange(ROWS * PLACES).reshape(ROWS, PLACES) % (2 + np.arange(ROWS)[:, None] // 4) == 0
    features = draw.normal(size=(ROWS, PLACES, FEATURES))
    given = {"features": features.astype(np.float32), "labels": (labels * asked).astype(np.float32)}
    return {**given, "index": np.arange(ROWS, dtype=np.uint32)}


def whole_batch() -> tuple[np.ndarray, dict[str, float]]:
    """The gradient of the losses of the whole batch and their values, by plain differentiation."""
    batch = {name: jnp.asarray(x) for name, x in examples().items()}
    kernel = nn.unbox(Scores().init(jax.random.key(0), batch["features"][:1]))["params"]["kernel"]

    def losses(kernel):
        outputs = Scores().apply({"params": {"kernel": kernel}}, batch["features"])
        parts = [part.losses(part.sums(outputs, batch)) for part in OBJECTIVE.parts]
        values = {name: value for part in parts for name, value in part.items()}
        return sum(values.values()), values

    gradient, values = jax.grad(losses, has_aux=True)(kernel)
    return np.asarray(gradient), {name: float(value) for name, value in values.items()}


def one_step(parallel: Parallel) -> tuple[np.ndarray, dict[str, float]]:
    """The gradient that a train step takes, however it is spread, and the losses that it reports."""
    optimizer, batch = optax.sgd(1.0), examples()

    def initial():
        return Update(optimizer).first(Scores().init(jax.random.key(0), batch["features"][:1]))

    spread = parallel.spread(logical_axes(jax.eval_shape(initial)))
    before = jax.device_get(nn.unbox(jax.jit(initial)()))
    step = functools.partial(train_step, model=Scores(), objective=OBJECTIVE, update=Update(optimizer), seed=0)
    part, parts = spread.share
    mine = {name: x.reshape(parallel.micro_batches, parts, -1, *x.shape[1:])[:, part] for name, x in batch.items()}
    state, metrics = spread.compile(step, donate=True)(spread.put(before), spread.put_batch(mine))
    after = spread.gather(state.params)
    return before.params["kernel"] - after["kernel"], host_values(spread.host(metrics))
