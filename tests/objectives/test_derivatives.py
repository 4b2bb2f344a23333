"""Derivatives of every objective's loss: forward mode, reverse mode and the limit of differences, in float64."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import objectives
from data.images.augmentation import Augmentation
from objectives import (
    AnswerSpan,
    Augmented,
    CausalLM,
    ClassDistillation,
    Classification,
    Contrastive,
    Ctc,
    Depth,
    Distillation,
    Infilling,
    MaskedAutoencoder,
    MaskedImage,
    MaskedLM,
    MaskPrediction,
    MixtureOfDenoisers,
    NextSentence,
    Objective,
    Regression,
    ReplacedTokenDetection,
    SentenceOrder,
    Seq2Seq,
    SetPrediction,
    SpanCorruption,
    Sum,
    Transcription,
)
from objectives.audio.frames import frames_of
from objectives.losses import IGNORED
from tests.examples import batch, text_vocabulary, text_windows

ROWS, LENGTH, WIDTH, CLASSES, SIDE, PATCH, STEP = 3, 24, 5, 7, 8, 2, 1e-5
SAMPLES, CODES, QUERIES = 120, 5, 5
CONV = dict(conv_kernel=(4, 2), conv_stride=(2, 2))
VOCABULARY = SimpleNamespace(**vars(text_vocabulary()), classes=CLASSES, start=1, prompt=(2, 3))
OBJECTIVES = [
    MaskedLM(),
    NextSentence(),
    SentenceOrder(),
    ReplacedTokenDetection(),
    CausalLM(),
    Infilling(),
    SpanCorruption(),
    MixtureOfDenoisers(),
    Seq2Seq(label_smoothing=0.1),
    Distillation(),
    Distillation(everywhere=False),
    AnswerSpan(),
    Classification(),
    Classification(smoothing=0.1, sigmoid=True),
    ClassDistillation(),
    ClassDistillation(hard=False),
    Regression(),
    MaskedImage(patch_size=PATCH, mask_patch_size=4),
    MaskedAutoencoder(patch_size=PATCH),
    SetPrediction(masks=True),
    MaskPrediction(num_points=20),
    Augmented(Classification(smoothing=0.1), Augmentation(mixup=0.8)),
    Depth(),
    Depth("log_l1"),
    Contrastive(**CONV, mask_time_prob=0.5, mask_time_length=3, num_negatives=4, codes=CODES),
    Ctc(**CONV, hidden_size=WIDTH),
    Transcription(score_prompt=True),
    Sum(MaskedLM(), NextSentence()),
]


def classifies(objective: Objective) -> bool:
    """Whether an example has one label, or is a picture."""
    return "pixel_values" in objective.reads or "classes" in objective.needs


def seen(objective: Objective) -> dict[str, jax.Array]:
    """A corrupted batch of text, of pairs, of pictures or of sound."""
    random = np.random.default_rng(0)
    keys = jax.random.split(jax.random.key(0), ROWS)
    if "input_values" in objective.reads:
        heard = np.arange(SAMPLES) < np.array([[SAMPLES], [SAMPLES - 20], [SAMPLES // 2]])
        sound = dict(input_values=random.normal(size=(ROWS, SAMPLES)), attention_mask=heard.astype(np.int32))
        sound |= dict(labels=random.integers(1, CLASSES, (ROWS, 4)), step=np.zeros(ROWS, np.int32))
        return jax.jit(jax.vmap(objective.corrupt))(keys, sound)
    window = objective.length_read(LENGTH)
    examples = batch(range(ROWS), LENGTH) | text_windows([window, window - 3, window // 2], window)
    labels = random.integers(0, CLASSES, ROWS) if classifies(objective) else examples["input_ids"]
    labels = random.normal(size=ROWS) if isinstance(objective, Regression) else labels
    labels = random.uniform(1, 9, (ROWS, SIDE, SIDE)) if isinstance(objective, Depth) else labels
    images = {f"{name}pixel_values": random.normal(size=(ROWS, SIDE, SIDE, 3)) for name in ("", "other_")}
    examples |= dict(labels=labels, other_labels=labels[::-1], other_tokens=examples["tokens"][::-1], **images)
    examples |= dict(input_features=random.normal(size=(ROWS, SAMPLES, WIDTH)))
    examples |= dict(other_sentence_ids=examples["sentence_ids"][::-1])
    objects = np.where(np.arange(3)[None] < np.array([[3], [0], [2]]), random.integers(0, CLASSES, (ROWS, 3)), IGNORED)
    masks = random.integers(0, 2, (ROWS, 3, SIDE, SIDE)).astype(np.uint8)
    examples |= dict(class_labels=objects, boxes=random.random((ROWS, 3, 4)), mask_labels=masks)
    examples |= {name: random.integers(0, LENGTH, ROWS) for name in ("start_positions", "end_positions")}
    return jax.jit(jax.vmap(objective.corrupt))(keys, {name: examples[name] for name in objective.reads})


def outputs_for(objective: Objective, seen: dict[str, jax.Array]) -> tuple[dict, dict]:
    """Random outputs that the loss is a function of, and those that have no gradient."""
    random = np.random.default_rng(1)
    places, text = seen.get("labels", jnp.zeros(ROWS)).shape, (ROWS, LENGTH)
    if isinstance(objective, Distillation) and objective.everywhere:
        places = text
    classes = CLASSES if classifies(objective) else VOCABULARY.size
    patches = (ROWS, (SIDE // PATCH) ** 2)
    shapes = {
        name: (*places, classes) for name in ("logits", "prediction_logits", "teacher_logits", "generator_logits")
    }
    shapes |= dict(cls_logits=(ROWS, CLASSES), distillation_logits=(ROWS, CLASSES), discriminator_logits=text)
    shapes |= dict(start_logits=text, end_logits=text)
    shapes |= dict(seq_relationship_logits=(ROWS, 2), hidden=(*text, WIDTH), teacher_hidden=(*text, WIDTH))
    shapes |= dict(predicted_depth=places)
    shapes |= dict(reconstruction=(ROWS, SIDE, SIDE, 3), replaced=text, mask=patches)
    if isinstance(objective, Regression):
        shapes["logits"] = (ROWS, 1)
    if isinstance(objective, MaskedAutoencoder):
        shapes["logits"] = (*patches, 3 * PATCH**2)
    if "input_values" in objective.reads:
        frames = (ROWS, frames_of(SAMPLES, **CONV))
        shapes |= dict(logits=(*frames, CLASSES), conv_features=(*frames, WIDTH))
        shapes |= dict(projected_states=(*places, WIDTH), projected_quantized_states=(*places, WIDTH))
        shapes |= dict(codevector_indices=(*places, 2), codevector_logits=(*places, 2, CODES))
    if isinstance(objective, MaskPrediction):
        shapes["class_queries_logits"] = (ROWS, QUERIES, CLASSES + 1)
        shapes["masks_queries_logits"] = (ROWS, QUERIES, SIDE // 2, SIDE // 2)
    if isinstance(objective, SetPrediction):
        shapes["logits"] = (ROWS, QUERIES, CLASSES + 1)
        shapes |= dict(pred_boxes=(ROWS, QUERIES, 4), pred_masks=(ROWS, QUERIES, SIDE // 2, SIDE // 2))
    asked = [next(name for name in names if name in shapes) for names in objective.asks]
    outputs = {name: jnp.asarray(random.normal(size=shapes[name])) for name in asked}
    if "predicted_depth" in outputs:
        outputs["predicted_depth"] = jnp.exp(outputs["predicted_depth"])
    fixed = [
        name for name in outputs if name.startswith("teacher") or name in ("replaced", "mask", "codevector_indices")
    ]
    if "codevector_indices" in outputs:
        outputs["codevector_indices"] = (outputs["codevector_indices"] > 0).astype(jnp.int32)
    return {name: x for name, x in outputs.items() if name not in fixed}, {name: outputs[name] for name in fixed}


def test_every_objective_is_here():
    public = [getattr(objectives, name) for name in objectives.__all__]
    types = {x for x in public if isinstance(x, type) and issubclass(x, Objective) and x is not Objective}
    assert {type(objective) for objective in OBJECTIVES} == types


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: type(objective).__name__)
def test_linearized_losses_are_reverse_mode_and_the_limit_of_differences(objective):
    objective = objective.bind(VOCABULARY)
    batch = seen(objective)
    with jax.enable_x64(True):
        outputs, fixed = outputs_for(objective, batch)
        random = np.random.default_rng(2)
        direction = jax.tree.map(lambda x: jnp.asarray(random.normal(size=x.shape)), outputs)

        @jax.jit
        def losses(outputs):
            return objective.losses(objective.sums({**outputs, **fixed}, batch))

        value, linear = jax.linearize(losses, outputs)
        forward = linear(direction)
        for found, wanted in zip((value, forward), jax.jvp(losses, (outputs,), (direction,)), strict=True):
            jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-10), found, wanted)
        moved = [jax.tree.map(lambda x, y, s=step: x + s * y, outputs, direction) for step in (STEP, -STEP)]
        ahead, behind = map(losses, moved)
        for name, gradient in jax.jacrev(losses)(outputs).items():
            reverse = sum(jax.tree.leaves(jax.tree.map(jnp.vdot, gradient, direction)))
            assert abs(reverse) > 1e-6
            np.testing.assert_allclose(forward[name], reverse, rtol=1e-10)
            np.testing.assert_allclose((ahead[name] - behind[name]) / (2 * STEP), reverse, rtol=1e-6)
