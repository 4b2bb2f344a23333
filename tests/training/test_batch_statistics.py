"""Batch norms and averages in the train step: those of the whole batch, however it is spread over devices."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data.images.augmentation import Augmentation
from models.resnet import ResNetConfig, ResNetForImageClassification
from objectives import Augmented, Classification
from tests.training.test_step import distance
from training.optimizers import SGD
from training.parallel import Parallel, logical_axes
from training.state import Update
from training.step import corrupted, host_values, train_step

BATCH, SIZE, STEPS, SEED, DECAY = 16, 16, 6, 3, 0.8
SHAPE = dict(embedding_size=8, hidden_sizes=(8, 16), depths=(2, 1), layer_type="basic", labels=tuple("abcde"))
OBJECTIVE = Augmented(Classification(smoothing=0.1), Augmentation(mixup=0.8, cutmix=1.0, erasing=0.25))


def examples(step: int) -> dict[str, np.ndarray]:
    """Pictures of noise, no two of the same brightness."""
    generator = np.random.default_rng(step)
    bright = generator.integers(20, 255, (2, BATCH, 1, 1, 1))
    first, second = (bright * generator.random((2, BATCH, SIZE, SIZE, 3))).astype(np.uint8)
    return {
        "index": np.arange(step * BATCH, (step + 1) * BATCH, dtype=np.uint32),
        "pixel_values": first,
        "labels": generator.integers(0, 5, BATCH).astype(np.int32),
        "other_pixel_values": second,
        "other_labels": generator.integers(0, 5, BATCH).astype(np.int32),
    }


def run(parallel: Parallel, steps: int = STEPS, **changes):
    """The final state as numpy, each step's metrics, and the parameters after each."""
    model = ResNetForImageClassification(ResNetConfig(**{**SHAPE, **changes}))
    optimizer = SGD(learning_rate=0.05, warmup_steps=0, decay="constant").build(steps)

    def initial():
        return Update(optimizer, average_decay=DECAY).first(model.init(jax.random.key(0), **model.blank()))

    spread = parallel.spread(logical_axes(jax.eval_shape(initial)))
    state = spread.put(jax.device_get(nn.unbox(jax.jit(initial)())))
    step = functools.partial(
        train_step, model=model, objective=OBJECTIVE, update=Update(optimizer, average_decay=DECAY), seed=SEED
    )
    step, metrics, variables = spread.compile(step, donate=True), [], [spread.gather(state.variables)]
    for number in range(steps):
        state, found = step(state, spread.put_batch({name: x[None] for name, x in examples(number).items()}))
        metrics.append(host_values(spread.host(found)))
        variables.append(spread.gather(state.variables))
    return jax.device_get(spread.whole(state)), metrics, variables


@pytest.fixture(scope="module")
def alone():
    return run(Parallel(devices=1))


@pytest.mark.parametrize(
    "parallel",
    [Parallel(devices=4), Parallel("jit", devices=4), Parallel("jit", fsdp=2, tensor=2)],
    ids=["pmap on 4", "jit on 4", "fsdp 2 × tensor 2"],
)
def test_any_split_gives_the_same_statistics(alone, parallel):
    state, metrics, _ = run(parallel)
    assert [m["digest"] for m in metrics] == [m["digest"] for m in alone[1]], "other examples were seen"
    for one, other in (
        (alone[0].params, state.params),
        (alone[0].batch_stats, state.batch_stats),
        (alone[0].average, state.average),
    ):
        assert distance(one, other) < 1e-5
    np.testing.assert_allclose(
        [m["classification_loss"] for m in metrics], [m["classification_loss"] for m in alone[1]], rtol=1e-5
    )


def test_the_first_statistics_are_those_of_the_whole_batch(alone):
    """Of the stem's convolution, in float64: a tenth of the batch's mean and unbiased variance, the rest of the start's."""
    _, _, variables = alone
    seen, _ = corrupted(OBJECTIVE, SEED, {name: jnp.asarray(x) for name, x in examples(0).items()})
    (path, kernel), *_ = [
        (path, x)
        for path, x in jax.tree_util.tree_leaves_with_path(variables[0]["params"])
        if x.ndim == 4 and x.shape[2] == 3
    ]
    side = kernel.shape[0]
    pixels = np.asarray(seen["pixel_values"], np.float64)
    padded = np.pad(pixels, ((0, 0), (side // 2,) * 2, (side // 2,) * 2, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(1, 2))[:, ::2, ::2]
    outputs = np.einsum("bhwcij,ijco->bhwo", windows, np.asarray(kernel, np.float64)).reshape(-1, kernel.shape[-1])
    stem = variables[1]["batch_stats"]
    for key in path[:-2]:
        stem = stem[key.key]
    (norm,) = [value for value in stem.values() if isinstance(value, dict) and "mean" in value]
    np.testing.assert_allclose(norm["mean"], 0.1 * outputs.mean(axis=0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(norm["var"], 0.9 + 0.1 * outputs.var(axis=0, ddof=1), rtol=1e-4)


def test_the_average_is_that_of_the_steps(alone):
    """Parameters and running statistics, each step's weight being (1 - decay) · decay^age."""
    state, _, variables = alone
    expected = variables[0]
    for later in variables[1:]:
        expected = jax.tree.map(lambda old, new: DECAY * old + (1 - DECAY) * new, expected, later)
    assert distance(expected, state.average) < 1e-6
    assert distance(state.variables, state.average) > 1e-3


def test_frozen_statistics_stay_as_they_are():
    state, _, variables = run(Parallel(devices=1), steps=2, freeze_batch_norm=True)
    for before, after in zip(
        jax.tree.leaves(variables[0]["batch_stats"]), jax.tree.leaves(state.batch_stats), strict=True
    ):
        np.testing.assert_array_equal(before, after)
    assert distance(variables[0]["params"], state.params) > 0
