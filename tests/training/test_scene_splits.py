"""Train steps of boxes and of masks: the gradient of the whole batch, however pictures with unequal numbers of objects are
split. Masks are asked at points that each example draws with its own key."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data.scenes.normalization import Normalization
from models.detr import DetrConfig, DetrForObjectDetection
from models.mask2former import Mask2FormerConfig, Mask2FormerForUniversalSegmentation
from models.mask2former.config import STAGES
from models.model import Model
from models.resnet import ResNetConfig
from objectives import Augmented, MaskPrediction, Objective, SetPrediction
from objectives.losses import IGNORED
from tests.training.test_step import distance
from training.optimizers import SGD
from training.parallel import Parallel, logical_axes
from training.state import Update
from training.step import corrupted, host_values, train_step

COUNTS = (0, 0, 5, 1, 3, 0, 2, 4)
"""Objects of the pictures: of four devices the first has none."""

SIZE, OBJECTS, SEED = 32, 5, 2


@dataclasses.dataclass(frozen=True)
class Task:
    """What is asked of which model, and some of the losses and metrics that come of it."""

    model: Model
    objective: Objective
    reported: frozenset[str]

    @property
    def augmented(self) -> Augmented:
        return Augmented(self.objective, Normalization())


DETECTOR = DetrForObjectDetection(
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
SEGMENTER = Mask2FormerForUniversalSegmentation(
    Mask2FormerConfig(
        backbone_config=ResNetConfig(
            embedding_size=4,
            hidden_sizes=(4, 4, 8, 8),
            depths=(1, 1, 1, 1),
            layer_type="basic",
            out_features=STAGES,
        ),
        feature_size=32,
        mask_feature_size=8,
        hidden_dim=16,
        num_attention_heads=2,
        encoder_layers=1,
        encoder_feedforward_dim=16,
        decoder_layers=3,
        dim_feedforward=16,
        num_queries=4,
        labels=tuple("abcd"),
    )
)
TASKS = {
    "boxes": Task(DETECTOR, SetPrediction(), frozenset({"class_loss", "auxiliary_giou_loss", "cardinality_error"})),
    "masks": Task(SEGMENTER, MaskPrediction(num_points=24), frozenset({"class_loss", "mask_loss", "dice_loss"})),
}
SPLITS = {
    "pmap on 4": Parallel(devices=4),
    "jit on 4": Parallel("jit", devices=4),
    "fsdp 2 × tensor 2": Parallel("jit", fsdp=2, tensor=2),
    "data 2 × fsdp 2": Parallel("jit", devices=4, fsdp=2),
    "2 micro-batches": Parallel(devices=1, micro_batches=2),
    "pmap on 2, 2 micro-batches": Parallel(devices=2, micro_batches=2),
}


def examples(names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Pictures of noise, some of them with padding; one has more objects than there are queries."""
    rng, rows = np.random.default_rng(0), len(COUNTS)
    there = np.arange(OBJECTS)[None] < np.array(COUNTS)[:, None]
    boxes = np.concatenate([rng.random((rows, OBJECTS, 2)), rng.random((rows, OBJECTS, 2)) * 0.3 + 0.1], -1)
    mask = np.ones((rows, SIZE, SIZE), np.int32)
    mask[1::3, 20:] = 0
    shapes = (rng.random((rows, OBJECTS, SIZE, SIZE)) < rng.random((rows, OBJECTS, 1, 1))) & there[..., None, None]
    found = {
        "index": np.arange(rows, dtype=np.uint32),
        "pixel_values": rng.integers(0, 256, (rows, SIZE, SIZE, 3)).astype(np.uint8),
        "pixel_mask": mask,
        "class_labels": np.where(there, rng.integers(0, 4, (rows, OBJECTS)), IGNORED).astype(np.int32),
        "boxes": (boxes * there[..., None]).astype(np.float32),
        "mask_labels": shapes.astype(np.uint8),
    }
    return {name: found[name] for name in ("index", "pixel_mask", *names)}


@functools.cache
def one_step(name: str, parallel: Parallel) -> tuple[dict, dict[str, float]]:
    """The gradient that a step takes, which is what SGD with a rate of 1 moves, and the losses that it reports."""
    task, optimizer = TASKS[name], SGD(learning_rate=1.0, warmup_steps=0, decay="constant", momentum=0.0).build(1)
    model, objective = task.model, task.augmented

    def initial():
        return Update(optimizer).first(model.init(jax.random.key(0), **model.blank()))

    spread = parallel.spread(logical_axes(jax.eval_shape(initial)))
    before = jax.device_get(nn.unbox(jax.jit(initial)()))
    step = functools.partial(train_step, model=model, objective=objective, update=Update(optimizer), seed=SEED)
    part, parts = spread.share
    batch = {
        n: x.reshape(parallel.micro_batches, parts, -1, *x.shape[1:])[:, part]
        for n, x in examples(objective.reads).items()
    }
    state, metrics = spread.compile(step, donate=True)(spread.put(before), spread.put_batch(batch))
    moved = jax.tree.map(np.subtract, before.params, spread.gather(state.params))
    return moved, host_values(spread.host(metrics))


def check_split(name: str, split: str) -> None:
    (expected, alone), (found, metrics) = one_step(name, Parallel(devices=1)), one_step(name, SPLITS[split])
    assert metrics["digest"] == alone["digest"]
    assert distance(expected, found) < 1e-5
    assert metrics == pytest.approx(alone, rel=1e-5)
    assert TASKS[name].reported <= metrics.keys()


@pytest.mark.parametrize(
    "split", [pytest.param(x, marks=pytest.mark.slow) if x == "data 2 × fsdp 2" else x for x in SPLITS]
)
def test_any_split_has_the_gradient_of_the_whole_batch_of_boxes(split):
    check_split("boxes", split)


@pytest.mark.slow
@pytest.mark.parametrize("split", SPLITS)
def test_any_split_has_the_gradient_of_the_whole_batch_of_masks(split):
    check_split("masks", split)


def judged_alone(name: str):
    """The objective of a task without augmentation, the outputs of the model that begins, and what they are asked."""
    task = TASKS[name]
    batch = {key: jnp.asarray(x) for key, x in examples(task.augmented.reads).items()}
    seen, keys = corrupted(task.augmented, SEED, batch)
    variables = nn.unbox(jax.jit(lambda: task.model.init(jax.random.key(0), **task.model.blank()))())
    return jax.jit(task.model.apply)(variables, seen["pixel_values"], seen["pixel_mask"], dropout_keys=keys), seen


@pytest.mark.parametrize(
    ("name", "loss", "outputs"),
    [
        ("boxes", "box_loss", ("logits", "pred_boxes")),
        pytest.param("masks", "dice_loss", ("class_queries_logits", "masks_queries_logits"), marks=pytest.mark.slow),
    ],
)
def test_the_loss_is_that_of_the_whole_batch(name, loss, outputs):
    """Not a mean of means: the sum over all pictures is divided by all objects."""
    found, seen = judged_alone(name)
    _, metrics = one_step(name, Parallel(devices=1))
    total = 0.0
    for row in range(len(COUNTS)):
        names = [
            key for key in found if key in outputs or (name == "masks" and key.removeprefix("auxiliary_") in outputs)
        ]
        one = {key: found[key][row : row + 1] for key in names}
        amount, weight = TASKS[name].objective.loss(one, {key: x[row : row + 1] for key, x in seen.items()})[loss]
        assert weight == COUNTS[row]
        total += float(amount)
    assert metrics[loss] == pytest.approx(total / sum(COUNTS), rel=1e-4)
