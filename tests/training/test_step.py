"""The train step: the same numbers however the work is split, against a plain formula, and its optimizer against others'."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from evaluation.metrics.objective import OfObjective
from evaluation.step import evaluation_step
from models.bert import BertConfig, BertForPreTraining
from models.kernels import vocabulary
from models.layers.axes import axes_of
from models.layers.dropout import dropout_bits
from models.model import Model
from models.outputs import ModelOutput
from objectives import MaskedLM, NextSentence, Objective, Sum
from objectives.checks import loss_weights
from objectives.losses import IGNORED
from tests.examples import batch
from training.optimizers import AdamW
from training.parallel import Parallel, TrainingError, logical_axes
from training.state import Update
from training.step import (
    corrupted,
    example_keys,
    forward,
    host_values,
    train_step,
)
from training.transformations import decayed

BATCH, LENGTH, STEPS, SEED = 16, 32, 20, 7
OPTIMIZER = AdamW(learning_rate=1e-3, warmup_steps=5, bias_correction=False)


@pytest.fixture(scope="module")
def parts(vocabulary):
    config = BertConfig.tiny(vocab_size=vocabulary.size, max_position_embeddings=64)
    assert config.hidden_dropout_prob == config.attention_probs_dropout_prob == 0.1
    return BertForPreTraining(config), Sum(MaskedLM(), NextSentence()).bind(vocabulary)


def run(parts, parallel: Parallel, steps: int = STEPS, **execution):
    """`steps` steps from the same start; the final state as numpy, and each step's metrics."""
    model, objective = parts
    model = type(model)(dataclasses.replace(model.config, **execution))
    optimizer = OPTIMIZER.build(100, axes=axes_of(model.boxed_shapes()["params"]))

    def initial():
        return Update(optimizer).first(model.init(jax.random.key(0), jnp.zeros((1, LENGTH), jnp.int32)))

    spread = parallel.spread(logical_axes(jax.eval_shape(initial)))
    state = spread.put(jax.device_get(nn.unbox(jax.jit(initial)())))
    step = functools.partial(train_step, model=model, objective=objective, update=Update(optimizer), seed=SEED)
    step = spread.compile(step, donate=True)
    metrics = []
    for number in range(steps):
        examples = batch(range(BATCH * number, BATCH * (number + 1)), LENGTH)
        micro = {name: x.reshape(parallel.micro_batches, -1, *x.shape[1:]) for name, x in examples.items()}
        before = state
        state, found = step(state, spread.put_batch(micro))
        assert all(x.is_deleted() for x in jax.tree.leaves(before.params)), "the old state's memory is kept"
        metrics.append(host_values(spread.host(found)))
    return jax.device_get(spread.whole(state)), metrics


def distance(one, other) -> float:
    """‖a - b‖ / ‖a‖ over all parameters."""
    a, b = (np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)]).astype(np.float64) for tree in (one, other))
    return float(np.linalg.norm(a - b) / np.linalg.norm(a))


@pytest.fixture(scope="module")
def alone(parts):
    return run(parts, Parallel(devices=1))


SPLITS = {
    "pmap on 4": Parallel(devices=4),
    "jit on 1": Parallel("jit", devices=1),
    "jit on 4": Parallel("jit", devices=4),
    "4 micro-batches": Parallel(devices=1, micro_batches=4),
    "pmap on 2, 2 micro-batches": Parallel(devices=2, micro_batches=2),
    "fsdp 2 × tensor 2": Parallel("jit", fsdp=2, tensor=2),
    "data 2 × fsdp 2, 2 micro-batches": Parallel("jit", fsdp=2, micro_batches=2),
}


@pytest.mark.parametrize("split", SPLITS)
def test_any_split_gives_the_same_training(parts, alone, split):
    """Dropout on, every shard with another number of masked tokens; 20 steps of AdamW."""
    state, metrics = run(parts, SPLITS[split])
    assert [m["digest"] for m in metrics] == [m["digest"] for m in alone[1]], "other examples were seen"
    assert distance(alone[0].params, state.params) < 1e-6
    assert distance(alone[0].opt_state[1].nu, state.opt_state[1].nu) < 1e-5
    for name in ("masked_lm_loss", "next_sentence_loss", "gradient_norm"):
        np.testing.assert_allclose([m[name] for m in metrics], [m[name] for m in alone[1]], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("split", SPLITS)
def test_any_split_gives_the_same_training_with_the_kernel_of_attention(parts, alone, split):
    """It drops the weights that the reference drops, whichever chip computes them."""
    _, metrics = run(parts, SPLITS[split], steps=3, attention="kernel")
    for name in ("masked_lm_loss", "next_sentence_loss", "gradient_norm"):
        np.testing.assert_allclose([m[name] for m in metrics], [m[name] for m in alone[1][:3]], rtol=1e-5)


@pytest.mark.parametrize(
    "split",
    ["pmap on 4", *(pytest.param(name, marks=pytest.mark.slow) for name in SPLITS if name != "pmap on 4")],
)
def test_any_split_gives_the_same_training_with_scores_by_chunks(parts, alone, split, monkeypatch):
    """Of at most two places of each example at once."""
    monkeypatch.setattr(vocabulary, "MOST_SCORES", 2 * 200)
    _, metrics = run(parts, SPLITS[split], steps=3)
    assert all(m["masked_accuracy"] == n["masked_accuracy"] for m, n in zip(metrics, alone[1], strict=False))
    for name in ("masked_lm_loss", "next_sentence_loss", "gradient_norm"):
        np.testing.assert_allclose([m[name] for m in metrics], [m[name] for m in alone[1][:3]], rtol=1e-5)


@pytest.mark.parametrize(
    "execution", [{"scan_layers": True}, {"remat": "full"}, {"remat": "dots", "scan_layers": True}]
)
def test_scan_and_remat_change_no_number(parts, alone, execution):
    state, metrics = run(parts, Parallel(devices=1), **execution)
    assert distance(alone[0].params, state.params) < 1e-6
    assert [m["digest"] for m in metrics] == [m["digest"] for m in alone[1]]


def test_the_shards_have_unequal_numbers_of_masked_tokens(parts):
    _, objective = parts
    seen, _ = corrupted(objective, SEED, {name: jnp.asarray(x) for name, x in batch(range(BATCH), LENGTH).items()})
    counts = (np.asarray(seen["labels"]) != IGNORED).reshape(4, -1).sum(axis=1)
    assert len(set(counts.tolist())) > 1


def test_dropout_is_on_and_other_seeds_differ(parts):
    model, objective = parts
    examples = {name: jnp.asarray(x) for name, x in batch(range(4), LENGTH).items()}
    seen, keys = corrupted(objective, SEED, examples)
    params = nn.unbox(model.init(jax.random.key(0), jnp.zeros((1, 8), jnp.int32)))["params"]
    logits = [
        forward(model, {"params": params}, seen, k).prediction_logits
        for k in (None, keys, example_keys(8, examples["index"])[1])
    ]
    assert all(float(jnp.abs(logits[i] - logits[j]).max()) > 1e-3 for i, j in ((0, 1), (0, 2), (1, 2)))


def test_gradient_is_that_of_the_global_means(parts):
    """Against the loss written plainly: mean over all masked tokens plus mean over all pairs, no dropout, SGD."""
    model, objective = parts
    config = dataclasses.replace(model.config, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model = type(model)(config)
    params = nn.unbox(model.init(jax.random.key(0), jnp.zeros((1, 8), jnp.int32)))["params"]
    examples = {name: jnp.asarray(x) for name, x in batch(range(BATCH), LENGTH).items()}
    seen, _ = corrupted(objective, SEED, examples)

    def plain(params):
        outputs = forward(model, {"params": params}, seen)
        log_shares = jax.nn.log_softmax(outputs.prediction_logits)
        asked = (seen["labels"] != IGNORED)[..., None]
        chosen = jnp.where(asked, jnp.take_along_axis(log_shares, jnp.maximum(seen["labels"], 0)[..., None], -1), 0)
        pairs = jax.nn.log_softmax(outputs.seq_relationship_logits)
        follows = jnp.take_along_axis(pairs, seen["next_sentence_label"][:, None], 1)
        return -chosen.sum() / asked.sum() - follows.mean()

    expected = jax.grad(plain)(params)
    sgd = optax.sgd(1.0)
    micro = {name: x.reshape(4, -1, *x.shape[1:]) for name, x in examples.items()}
    state, _ = train_step(
        Update(sgd).first({"params": params}), micro, model=model, objective=objective, update=Update(sgd), seed=SEED
    )
    found = jax.tree.map(lambda before, after: before - after, params, state.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), expected, found)


def test_weights_come_from_the_batch_alone(parts):
    model, objective = parts
    params = nn.unbox(model.init(jax.random.key(0), jnp.zeros((1, 8), jnp.int32)))["params"]
    seen, _ = corrupted(objective, SEED, {name: jnp.asarray(x) for name, x in batch(range(BATCH), LENGTH).items()})
    outputs = forward(model, {"params": params}, seen)
    weights = loss_weights(objective, jax.eval_shape(lambda: outputs), seen)
    assert {name: float(w) for name, w in weights.items()} == {
        name: float(w) for name, (_, w) in objective.loss(outputs, seen).items()
    }


class Line(Model):
    """`logits` = w · input."""

    @nn.compact
    def __call__(self, input_ids, dropout_keys=None):
        return ModelOutput(logits=self.param("w", nn.initializers.ones, ()) * input_ids)


@dataclasses.dataclass(frozen=True)
class Weighted(Objective):
    """The logits themselves, every example with the same weight."""

    weight: float = 1.0

    def loss(self, outputs, batch):
        count = jnp.float32(len(batch["input_ids"]))
        return {"line_loss": (self.weight * outputs["logits"].sum(), self.weight * count)}


@pytest.mark.parametrize("micro_batches", [1, 4])
@pytest.mark.parametrize("weight", [1e-3, 0.04, 1.0, 4000.0])
def test_a_weight_may_be_any_positive_number(weight, micro_batches):
    """The mean does not depend on it: neither the loss nor the gradient, in training as in evaluation."""
    examples = {"input_ids": jnp.arange(1.0, 9.0), "index": jnp.arange(8, dtype=jnp.uint32)}
    batch = {name: x.reshape(micro_batches, -1) for name, x in examples.items()}
    sgd = optax.sgd(1.0)
    parts = dict(model=Line(), objective=Weighted(weight), seed=0)
    state = Update(sgd).first({"params": {"w": jnp.ones(())}})
    after, metrics = train_step(state, batch, update=Update(sgd), **parts)
    assert host_values(metrics)["line_loss"] == pytest.approx(4.5)
    assert 1 - float(after.params["w"]) == pytest.approx(4.5)
    metrics = (OfObjective(parts["objective"]),)
    see = lambda batch: corrupted(parts["objective"], 0, batch)[0]  # noqa: E731
    sums = evaluation_step(state.variables, batch, model=Line(), see=see, metrics=metrics)["sums"]
    assert metrics[0].compute(sums[0])["line_loss"] == pytest.approx(4.5)


def test_what_nothing_is_asked_for_is_nothing(vocabulary):
    """Where no token is asked, the loss is 0 and no parameter moves."""
    examples = {"input_ids": jnp.arange(1.0, 9.0)[None], "index": jnp.arange(8, dtype=jnp.uint32)[None]}
    sgd = optax.sgd(1.0)
    parts = dict(model=Line(), objective=Weighted(0.0), seed=0)
    state = Update(sgd).first({"params": {"w": jnp.ones(())}})
    after, metrics = train_step(state, examples, update=Update(sgd), **parts)
    assert host_values(metrics)["line_loss"] == host_values(metrics)["gradient_norm"] == 0.0
    assert float(after.params["w"]) == 1.0


def test_a_weight_that_is_no_number_is_seen():
    assert np.isnan(host_values({"line_loss": (jnp.float32(1), jnp.float32(jnp.nan))})["line_loss"])


def test_adam_without_bias_correction_is_the_released_one():
    """`AdamWeightDecayOptimizer` of the released code, written with loops over scalars."""
    rng = np.random.default_rng(0)
    params = {"kernel": rng.normal(size=(3, 2)), "bias": rng.normal(size=3)}
    settings = AdamW(learning_rate=0.1, warmup_steps=2, bias_correction=False, clip_norm=None)
    optimizer, rate = settings.build(10), settings.schedule(10)
    state = optimizer.init({name: jnp.asarray(x, jnp.float32) for name, x in params.items()})
    ours = {name: jnp.asarray(x, jnp.float32) for name, x in params.items()}
    m, v = ({name: np.zeros_like(x) for name, x in params.items()} for _ in range(2))
    for step in range(6):
        gradients = {name: rng.normal(size=x.shape) for name, x in params.items()}
        updates, state = optimizer.update(
            {name: jnp.asarray(g, jnp.float32) for name, g in gradients.items()}, state, ours
        )
        ours = optax.apply_updates(ours, updates)
        for name, g in gradients.items():
            m[name] = 0.9 * m[name] + 0.1 * g
            v[name] = 0.999 * v[name] + 0.001 * g**2
            update = m[name] / (np.sqrt(v[name]) + 1e-6)
            if name == "kernel":
                update = update + 0.01 * params[name]
            params[name] = params[name] - float(rate(step)) * update
    for name in params:
        np.testing.assert_allclose(ours[name], params[name], rtol=2e-5)


def test_schedule_warms_up_and_comes_down():
    rate = AdamW(learning_rate=1.0, warmup_steps=10).schedule(100)
    assert float(rate(0)) == pytest.approx(0.1)
    assert float(rate(9)) == 1.0
    assert float(rate(54)) == pytest.approx(0.5, abs=0.01)
    assert float(rate(99)) == 0.0


def test_biases_and_norms_are_not_decayed(parts):
    model, _ = parts
    boxed = model.boxed_shapes()["params"]
    found = jax.tree_util.tree_leaves_with_path(decayed(nn.unbox(boxed), axes_of(boxed)))
    kept = {jax.tree_util.keystr(path) for path, applies in found if applies}
    assert all("kernel" in path or "embedding'" in path for path in kept)
    assert len(kept) == 3 + 6 + 1 + 1 + 1


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(TrainingError, match=r"batch_size=10 does not divide into 1 micro-batch.* × 4 device"):
        Parallel().check_batch(10)
    with pytest.raises(TrainingError, match=r"parallel.devices=9: there are 4"):
        Parallel(devices=9).mesh()
    with pytest.raises(TrainingError, match=r"need parallel.kind=jit"):
        Parallel(fsdp=2).mesh()


def test_dropout_bits_look_random():
    """Each bit of the words is fair, and neighbours (in places, rows, keys) are uncorrelated, within six sigmas."""
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(0), i))(jnp.arange(8))
    words = np.asarray(dropout_bits(keys, (64, 1024)))
    bits = np.unpackbits(words.view(np.uint8).reshape(8, 64, 1024, 4), axis=-1).astype(np.float32)
    assert abs(bits.mean(axis=(0, 1, 2)) - 0.5).max() < 6 * 0.5 / np.sqrt(words.size)
    kept = (words < np.uint32(0.9 * 2**32)).astype(np.float64) - 0.9
    noise = 6 * 0.09 / np.sqrt(words.size / 2)
    assert abs(kept.mean()) < noise * 4
    for axis in range(3):
        for offset in (1, 2, 3, 4):
            first = np.take(kept, range(kept.shape[axis] - offset), axis)
            second = np.take(kept, range(offset, kept.shape[axis]), axis)
            assert abs((first * second).mean()) < noise, (axis, offset)
