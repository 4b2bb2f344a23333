"""A part of the parameters is trained: the others have no gradient, no moments, and stay as they are."""

import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict

from models.model import Model
from models.outputs import ModelOutput
from objectives import Objective
from training.parallel import Parallel, TrainingError, logical_axes
from training.state import Update
from training.step import train_step

ROWS, FEATURES, CLASSES = 16, 8, 4
HEAD = "^head/"


class Deep(Model):
    """Three layers of one width and a head."""

    @nn.compact
    def __call__(self, features, dropout_keys=None):
        start = nn.with_logical_partitioning(nn.initializers.normal(0.5), ("embed", "mlp"))
        for number in range(3):
            features = jnp.tanh(nn.Dense(FEATURES, kernel_init=start, name=f"layer_{number}")(features))
        return ModelOutput(logits=nn.Dense(CLASSES, kernel_init=start, name="head")(features))


class Squares(Objective):
    def loss(self, outputs, batch):
        squares = (outputs["logits"] - batch["labels"]) ** 2
        return {"squares_loss": (squares.sum(), jnp.float32(len(squares)))}


def one_step(parallel: Parallel, update: Update):
    """The state before and after a step, on the host, and its metrics."""
    draw = np.random.default_rng(0)
    sizes = {"features": FEATURES, "labels": CLASSES}
    batch = {name: draw.normal(size=(ROWS, size)).astype(np.float32) for name, size in sizes.items()}
    batch["index"] = np.arange(ROWS, dtype=np.uint32)
    initial = lambda: update.first(Deep().init(jax.random.key(0), batch["features"]))  # noqa: E731
    spread = parallel.spread(logical_axes(jax.eval_shape(initial)))
    before = jax.device_get(nn.unbox(jax.jit(initial)()))
    step = functools.partial(train_step, model=Deep(), objective=Squares(), update=update, seed=0)
    given = spread.put_batch({name: x.reshape(parallel.micro_batches, -1, *x.shape[1:]) for name, x in batch.items()})
    after, _ = spread.compile(step, donate=True)(spread.put(before), given)
    return before, spread.gather(after)


def flat(params) -> dict[str, np.ndarray]:
    return flatten_dict(params, sep="/")


@pytest.mark.parametrize(
    "parallel",
    [Parallel(devices=1), Parallel(devices=4), Parallel("jit", fsdp=2), Parallel("jit", micro_batches=2)],
    ids=str,
)
def test_what_is_trained_moves_as_in_the_whole_and_the_rest_keeps_its_bits(parallel):
    _, whole = one_step(parallel, Update(optax.sgd(0.1, momentum=0.9)))
    before, after = one_step(parallel, Update(optax.sgd(0.1, momentum=0.9), HEAD, average_decay=0.5))
    expected = flat(whole.params)
    for path, value in flat(after.params).items():
        if path.startswith("head/"):
            np.testing.assert_allclose(value, expected[path], rtol=1e-6, atol=1e-7)
            assert (value != flat(before.params)[path]).any()
        else:
            assert value.tobytes() == flat(before.params)[path].tobytes()
            assert (expected[path] != value).any()
    kept = {x.shape for x in jax.tree.leaves(after.opt_state)}
    assert kept == {(FEATURES, CLASSES), (CLASSES,)}
    halfway = 0.5 * flat(before.params)["head/kernel"] + 0.5 * flat(after.params)["head/kernel"]
    np.testing.assert_allclose(flat(after.average["params"])["head/kernel"], halfway, rtol=1e-6)


def products(update: Update) -> int:
    """Matrix products in the program of a step."""
    features = jnp.zeros((1, ROWS, FEATURES))
    batch = {"features": features, "labels": features[..., :CLASSES], "index": jnp.zeros((1, ROWS), jnp.uint32)}
    step = functools.partial(train_step, model=Deep(), objective=Squares(), update=update, seed=0)
    state = nn.unbox(update.first(Deep().init(jax.random.key(0), features[0])))
    return len(re.findall(r"dot_general", jax.jit(step).lower(state, batch).as_text()))


def test_no_gradient_goes_further_back_than_to_what_is_trained():
    """4 products forward; backward one for each kernel and one for each layer's input but the first's."""
    optimizer = optax.sgd(0.1)
    assert products(Update(optimizer)) == 4 + 4 + 3
    assert products(Update(optimizer, HEAD)) == 4 + 1
    assert products(Update(optimizer, "layer_2/|head/")) == 4 + 2 + 1


def test_another_part_begins_with_moments_of_its_own_and_the_schedule_goes_on():
    optimizer = optax.chain(optax.scale_by_adam(), optax.scale_by_learning_rate(lambda step: 0.1 / (1 + step)))
    before, after = one_step(Parallel(devices=1), Update(optimizer, HEAD))
    entered = Update(optimizer, "layer_0").entered(after)
    adam, schedule = entered.opt_state
    assert set(flat(adam.mu)) == {"layer_0/kernel", "layer_0/bias"} and adam.count == 0 and schedule.count == 1
    assert all((x == 0).all() for x in jax.tree.leaves((adam.mu, adam.nu)))
    assert entered.step == 1 and flat(entered.params).keys() == flat(before.params).keys()


def test_a_pattern_that_meets_no_parameter_is_refused():
    with pytest.raises(TrainingError, match=r"trainable='classifier': the path of no parameter .* such as head/bias"):
        Update(optax.sgd(0.1), "classifier").split(Deep().init(jax.random.key(0), jnp.zeros((1, FEATURES)))["params"])


def test_of_stacked_layers_some_are_trained_and_the_others_neither_decay_nor_count_in_the_norm():
    params = {"layers": {"kernel": jnp.ones((3, 4))}, "head": {"kernel": jnp.ones(4)}}
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.add_decayed_weights(0.5), optax.scale(-1.0))
    update = Update(optimizer, trainable="layers/1/")
    trained, others = update.split(params)
    assert set(trained) == {"layers"} and set(others) == {"head"}
    gradients = {"layers": {"kernel": jnp.full((3, 4), 2.0)}}
    after = flat(update(update.first({"params": params}), gradients, None).params)
    np.testing.assert_array_equal(after["head/kernel"], np.ones(4))
    np.testing.assert_array_equal(after["layers/kernel"][jnp.array([0, 2])], np.ones((2, 4)))
    # The norm of the trained layer's gradient, four times 2, is 4: clipped to 1 it is ½ each; beside it ½ decays.
    np.testing.assert_allclose(after["layers/kernel"][1], np.zeros(4), atol=1e-6)
    with pytest.raises(TrainingError, match="the path of no parameter has this in it"):
        Update(optimizer, trainable="layers/3/").split(params)
