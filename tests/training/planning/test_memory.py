"""What a step holds: the layouts' shares, what is kept for the backward pass, the compiler's refusals."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from models.bert import BertConfig, BertForPreTraining
from objectives import MaskedLM, NextSentence, Sum
from tests.examples import batch
from training.hardware import GIB
from training.parallel import Parallel, logical_axes
from training.planning.memory import exceeded, held, saved_for_backward
from training.state import Update

ROWS, LENGTH = 4, 32


@pytest.fixture(scope="module")
def parts(vocabulary):
    config = BertConfig.tiny(vocab_size=vocabulary.size, max_position_embeddings=64)
    return config, Sum(MaskedLM(), NextSentence()).bind(vocabulary)


def saved(parts, **execution) -> int:
    config, objective = parts
    model = BertForPreTraining(dataclasses.replace(config, **execution))
    params = jax.eval_shape(lambda: nn.unbox(model.init(jax.random.key(0), jnp.zeros((1, 8), jnp.int32))["params"]))
    shapes = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in batch(range(ROWS), LENGTH).items()}
    return saved_for_backward(model, objective, Update(optax.identity()), {"params": params}, shapes)


@pytest.mark.parametrize("scan_layers", [False, True])
def test_remat_keeps_less_and_dots_keeps_the_projections(parts, scan_layers):
    """`dots` keeps, beside what `full` does, what linear layers give: q, k, v, out and down (hidden), up (inner)."""
    config, _ = parts
    none, dots, full = (saved(parts, remat=remat, scan_layers=scan_layers) for remat in ("none", "dots", "full"))
    assert none > dots > full
    tokens, floats = config.num_hidden_layers * ROWS * LENGTH, 4
    # q, k, v, out and up are needed by gradients; of down its sum with the residual is, so that it is kept, too.
    most = tokens * (5 * config.hidden_size + config.intermediate_size) * floats
    least = tokens * (3 * config.hidden_size + config.intermediate_size) * floats
    assert least <= dots - full <= most
    scores = config.num_hidden_layers * ROWS * config.num_attention_heads * LENGTH**2 * floats
    assert none - dots > scores, "attention scores are kept"


def test_state_is_held_by_its_layout(parts):
    config, _ = parts
    model = BertForPreTraining(config)
    boxed = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 8), jnp.int32))["params"])
    sizes = jax.tree.map(lambda x: x.size * 4, nn.unbox(boxed))
    shared = jax.tree.map(
        lambda size, axes: size // 4 if "embed" in axes else size,
        sizes,
        logical_axes(boxed),
        is_leaf=lambda x: x is None,
    )
    whole, cut = (sum(jax.tree.leaves(tree)) for tree in (sizes, shared))
    assert cut < whole / 3.5
    for parallel, share in ((Parallel(), whole), (Parallel("jit"), whole), (Parallel("jit", fsdp=4), cut)):
        spread = parallel.spread(logical_axes(boxed))
        assert held(spread.shapes(boxed)) == share


def test_shapes_are_those_of_what_is_put(parts):
    """A step lowered from shapes is the step that trains."""
    config, _ = parts
    model = BertForPreTraining(config)

    def init():
        return model.init(jax.random.key(0), jnp.zeros((1, 8), jnp.int32))["params"]

    boxed = jax.eval_shape(init)
    examples = {name: x.reshape(2, -1, *x.shape[1:]) for name, x in batch(range(8), LENGTH).items()}
    for parallel in (Parallel(micro_batches=2), Parallel("jit", fsdp=2, micro_batches=2)):
        spread = parallel.spread(logical_axes(boxed))
        arrays = spread.put(jax.device_get(nn.unbox(init())))
        described = jax.tree.map(lambda x: (x.shape, x.dtype, x.sharding), (arrays, spread.put_batch(examples)))
        shapes = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in examples.items()}
        found = spread.shapes(boxed), spread.batch_shapes(shapes)
        assert jax.tree.map(lambda x: (x.shape, x.dtype, x.sharding), found) == described
        assert all(isinstance(x, jax.ShapeDtypeStruct) for x in jax.tree.leaves(found))
        assert not any(isinstance(x, np.ndarray) for x in jax.tree.leaves(found))


def test_the_compilers_refusals_are_read():
    used = "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 27.72G of 15.75G hbm. Exceeded by 11.97G."
    assert exceeded(used, 5) == (round(27.72 * GIB), round(15.75 * GIB))
    temporaries = (
        "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (59.64G)"
        " exceeds available HBM (15.75G)."
    )
    assert exceeded(temporaries, GIB) == (round(60.64 * GIB), round(15.75 * GIB))
    assert exceeded("INVALID_ARGUMENT: something else", 0) is None
