"""A detector's train step: the gradient of the whole batch, however pictures with unequal numbers of objects are split."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data.scenes.normalization import Normalization
from models.detr import DetrConfig, DetrForObjectDetection
from models.resnet import ResNetConfig
from objectives import Augmented, SetPrediction
from objectives.losses import IGNORED
from tests.training.test_step import distance
from training.optimizers import SGD
from training.parallel import Parallel, logical_axes
from training.state import Update
from training.step import corrupted, host_values, train_step

COUNTS = (0, 0, 5, 1, 3, 0, 2, 4)
"""Objects of the pictures: of four devices the first has none."""

SIZE, OBJECTS, SEED = 32, 5, 2
OBJECTIVE = Augmented(SetPrediction(), Normalization())
MODEL = DetrForObjectDetection(
    DetrConfig(
        backbone_config=ResNetConfig(
            embedding_size=8, hidden_sizes=(8, 16), depths=(1, 1), layer_type="basic", out_features=("stage2",)
        ),
        num_queries=4,
        encoder_layers=1,
        encoder_ffn_dim=16,
        encoder_attention_heads=2,
        decoder_layers=2,
        decoder_ffn_dim=16,
        decoder_attention_heads=2,
        d_model=16,
        labels=tuple("abcd"),
    )
)
SPLITS = {
    "pmap on 4": Parallel(devices=4),
    "jit on 4": Parallel("jit", devices=4),
    "fsdp 2 × tensor 2": Parallel("jit", fsdp=2, tensor=2),
    "2 micro-batches": Parallel(devices=1, micro_batches=2),
    "pmap on 2, 2 micro-batches": Parallel(devices=2, micro_batches=2),
}


def examples() -> dict[str, np.ndarray]:
    """Pictures of noise, some of them with padding; one has more objects than there are queries."""
    rng, rows = np.random.default_rng(0), len(COUNTS)
    there = np.arange(OBJECTS)[None] < np.array(COUNTS)[:, None]
    boxes = np.concatenate([rng.random((rows, OBJECTS, 2)), rng.random((rows, OBJECTS, 2)) * 0.3 + 0.1], -1)
    mask = np.ones((rows, SIZE, SIZE), np.int32)
    mask[1::3, 20:] = 0
    return {
        "index": np.arange(rows, dtype=np.uint32),
        "pixel_values": rng.integers(0, 256, (rows, SIZE, SIZE, 3)).astype(np.uint8),
        "pixel_mask": mask,
        "class_labels": np.where(there, rng.integers(0, 4, (rows, OBJECTS)), IGNORED).astype(np.int32),
        "boxes": (boxes * there[..., None]).astype(np.float32),
    }


@functools.cache
def one_step(parallel: Parallel) -> tuple[dict, dict[str, float]]:
    """The gradient that a step takes, which is what SGD with a rate of 1 moves, and the losses that it reports."""
    optimizer = SGD(learning_rate=1.0, warmup_steps=0, decay="constant", momentum=0.0).build(1)

    def initial():
        return Update(optimizer).first(MODEL.init(jax.random.key(0), **MODEL.blank()))

    spread = parallel.spread(logical_axes(jax.eval_shape(initial)))
    before = jax.device_get(nn.unbox(jax.jit(initial)()))
    step = functools.partial(train_step, model=MODEL, objective=OBJECTIVE, update=Update(optimizer), seed=SEED)
    part, parts = spread.share
    batch = {n: x.reshape(parallel.micro_batches, parts, -1, *x.shape[1:])[:, part] for n, x in examples().items()}
    state, metrics = spread.compile(step, donate=True)(spread.put(before), spread.put_batch(batch))
    moved = jax.tree.map(np.subtract, before.params, spread.gather(state.params))
    return moved, host_values(spread.host(metrics))


@pytest.mark.parametrize("split", SPLITS)
def test_any_split_has_the_gradient_of_the_whole_batch(split):
    (expected, alone), (found, metrics) = one_step(Parallel(devices=1)), one_step(SPLITS[split])
    assert metrics["digest"] == alone["digest"]
    assert distance(expected, found) < 1e-5
    assert metrics == pytest.approx(alone, rel=1e-5)
    assert {"class_loss", "auxiliary_giou_loss", "cardinality_error"} <= metrics.keys()


def test_the_loss_is_that_of_the_whole_batch():
    """Not a mean of means: the sum over all pictures is divided by all objects."""
    batch = {name: jnp.asarray(x) for name, x in examples().items()}
    seen, keys = corrupted(OBJECTIVE, SEED, batch)
    variables = nn.unbox(jax.jit(lambda: MODEL.init(jax.random.key(0), **MODEL.blank()))())
    outputs = jax.jit(MODEL.apply)(variables, seen["pixel_values"], seen["pixel_mask"], dropout_keys=keys)
    _, metrics = one_step(Parallel(devices=1))
    alone = SetPrediction(auxiliary=False)
    distances = 0.0
    for row in range(len(COUNTS)):
        one = {name: x[row : row + 1] for name, x in outputs.items() if name in ("logits", "pred_boxes")}
        amount, weight = alone.loss(one, {name: x[row : row + 1] for name, x in seen.items()})["box_loss"]
        assert weight == COUNTS[row]
        distances += float(amount)
    assert metrics["box_loss"] == pytest.approx(distances / sum(COUNTS), rel=1e-4)
