"""Classification: losses and metrics as the formulas have them, for one label, two in a mixture, several, and soft ones."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from objectives import Classification, ObjectiveError, named
from objectives.losses import IGNORED

BATCH, CLASSES = 7, 9


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32) * 3


def one_hot(labels):
    return np.eye(CLASSES)[np.maximum(labels, 0)]


@pytest.fixture
def batch():
    rng = np.random.default_rng(1)
    return {"labels": rng.integers(0, CLASSES, BATCH).astype(np.int32)}


@pytest.fixture
def mixed(batch):
    rng = np.random.default_rng(2)
    other = rng.integers(0, CLASSES, BATCH).astype(np.int32)
    return {**batch, "other_labels": other, "mix": rng.random(BATCH).astype(np.float32)}


def softmax_loss(logits, targets, smoothing=0.0):
    """-Σ target · log softmax, picture by picture, in float64."""
    total = 0.0
    for scores, target in zip(logits.astype(np.float64), targets, strict=True):
        target = (1 - smoothing) * target + smoothing / CLASSES
        total -= (target * (scores - np.log(np.exp(scores).sum()))).sum()
    return total


def sigmoid_loss(logits, targets, smoothing=0.0):
    """The losses of yes and no for each class, added up."""
    total = 0.0
    for scores, target in zip(logits.astype(np.float64), targets, strict=True):
        for score, share in zip(scores, (1 - smoothing) * target + smoothing / CLASSES, strict=True):
            yes = 1 / (1 + np.exp(-score))
            total -= share * np.log(yes) + (1 - share) * np.log(1 - yes)
    return total


def loss(objective, logits, batch):
    amount, weight = objective.loss({"logits": jnp.asarray(logits)}, jax.tree.map(jnp.asarray, batch))[
        "classification_loss"
    ]
    return float(amount), float(weight)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(("sigmoid", "formula"), [(False, softmax_loss), (True, sigmoid_loss)])
def test_one_label(batch, smoothing, sigmoid, formula):
    logits = random(BATCH, CLASSES)
    amount, weight = loss(Classification(smoothing, sigmoid), logits, batch)
    np.testing.assert_allclose(amount, formula(logits, one_hot(batch["labels"]), smoothing), rtol=1e-5)
    assert weight == BATCH


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(("sigmoid", "formula"), [(False, softmax_loss), (True, sigmoid_loss)])
def test_two_labels_in_the_shares_of_a_mixture(mixed, smoothing, sigmoid, formula):
    logits, share = random(BATCH, CLASSES), mixed["mix"][:, None].astype(np.float64)
    targets = share * one_hot(mixed["labels"]) + (1 - share) * one_hot(mixed["other_labels"])
    amount, weight = loss(Classification(smoothing, sigmoid), logits, mixed)
    np.testing.assert_allclose(amount, formula(logits, targets, smoothing), rtol=1e-5)
    assert weight == BATCH


@pytest.mark.parametrize("sigmoid", [False, True])
def test_a_picture_mixed_with_nothing_costs_what_it_costs_alone(batch, mixed, sigmoid):
    logits, objective = random(BATCH, CLASSES), Classification(0.1, sigmoid)
    for share, labels in ((1.0, mixed["labels"]), (0.0, mixed["other_labels"])):
        mixed["mix"] = np.full(BATCH, share, np.float32)
        np.testing.assert_allclose(
            loss(objective, logits, mixed), loss(objective, logits, {"labels": labels}), rtol=1e-6
        )


def test_several_labels_also_of_mixtures():
    rng, logits = np.random.default_rng(3), random(BATCH, CLASSES)
    labels, other = (rng.random((BATCH, CLASSES)) < 0.3 for _ in range(2))
    labels[2] = False
    batch = {"labels": labels.astype(np.int32)}
    objective = Classification(sigmoid=True)
    np.testing.assert_allclose(loss(objective, logits, batch)[0], sigmoid_loss(logits, labels), rtol=1e-5)
    metrics = objective.metrics({"logits": jnp.asarray(logits)}, jax.tree.map(jnp.asarray, batch))
    asked = [row for row in range(BATCH) if labels[row].any()]
    right = sum(labels[row, logits[row].argmax()] for row in asked)
    assert metrics == {"top_1_accuracy": (right, len(asked))}
    for smoothing in (0.0, 0.1):
        found = loss(Classification(smoothing), logits, batch)
        expected = softmax_loss(logits[asked], labels[asked], smoothing), len(asked)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    share = rng.random(BATCH).astype(np.float32)
    batch |= {"other_labels": other.astype(np.int32), "mix": share}
    targets = share[:, None] * labels + (1 - share[:, None]) * other
    np.testing.assert_allclose(loss(objective, logits, batch)[0], sigmoid_loss(logits, targets), rtol=1e-5)


@pytest.mark.parametrize(("sigmoid", "formula"), [(False, softmax_loss), (True, sigmoid_loss)])
def test_soft_targets(sigmoid, formula):
    targets = np.random.default_rng(4).dirichlet(np.ones(CLASSES), BATCH).astype(np.float32)
    objective, logits = Classification(soft=True, sigmoid=sigmoid), random(BATCH, CLASSES)
    assert objective.reads == ("targets",)
    np.testing.assert_allclose(loss(objective, logits, {"targets": targets})[0], formula(logits, targets), rtol=1e-5)
    right = (logits.argmax(axis=1) == targets.argmax(axis=1)).sum()
    assert objective.metrics({"logits": jnp.asarray(logits)}, {"targets": jnp.asarray(targets)}) == {
        "top_1_accuracy": (right, BATCH)
    }


def test_accuracies(batch):
    logits = random(500, CLASSES)
    labels = np.random.default_rng(5).integers(0, CLASSES, 500).astype(np.int32)
    labels[:20], logits[30:60, :3] = IGNORED, 4.0
    metrics = Classification().metrics({"logits": jnp.asarray(logits)}, {"labels": jnp.asarray(labels)})
    best = [sorted(range(CLASSES), key=lambda c, row=row: -row[c]) for row in logits]  # stable: of equals the first
    for name, count in (("top_1_accuracy", 1), ("top_5_accuracy", 5)):
        right = sum(label in order[:count] for label, order in zip(labels, best, strict=True))
        assert metrics[name] == (right, 480), name
    few = Classification().metrics({"logits": jnp.asarray(logits[:, :5])}, {"labels": jnp.asarray(labels % 5)})
    assert set(few) == {"top_1_accuracy"}
    nothing = Classification().metrics({"logits": jnp.full((3, CLASSES), jnp.nan)}, {"labels": jnp.arange(3)})
    assert all(right == 0 for right, _ in nothing.values())


def test_of_a_mixture_the_greater_part_is_right(mixed):
    greater = np.where(mixed["mix"] < 0.5, mixed["other_labels"], mixed["labels"])
    metrics = Classification().metrics({"logits": jnp.asarray(one_hot(greater))}, jax.tree.map(jnp.asarray, mixed))
    assert metrics["top_1_accuracy"] == (BATCH, BATCH)


def test_one_answer_has_a_baseline_and_others_have_none(batch, mixed):
    outputs = {"logits": jnp.zeros((BATCH, CLASSES))}
    batch, mixed = (jax.tree.map(jnp.asarray, arrays) for arrays in (batch, mixed))
    answers = Classification(smoothing=0.1).targets(outputs, batch)["classification_loss"]
    assert (answers.classes, answers.accuracy, answers.smoothing) == (CLASSES, "top_1_accuracy", 0.1)
    assert (answers.labels == batch["labels"]).all()
    assert not Classification().targets(outputs, mixed) and not Classification(sigmoid=True).targets(outputs, batch)


@pytest.mark.parametrize("settings", [{}, {"sigmoid": True}, {"smoothing": 0.1}])
def test_weights_do_not_depend_on_outputs(mixed, settings):
    assert loss(Classification(**settings), np.full((BATCH, CLASSES), np.nan), mixed)[1] == BATCH


def test_it_wants_classes_and_the_example_as_it_is(vocabulary):
    objective = named("classification").bind(SimpleNamespace(classes=CLASSES))
    example = {"pixel_values": jnp.ones((4, 4, 3)), "labels": jnp.int32(2)}
    assert objective.corrupt(jax.random.key(0), example) == example
    with pytest.raises(ObjectiveError, match="has no classes"):
        Classification().bind(vocabulary)
    with pytest.raises(ObjectiveError, match="targets of 4 classes, and logits of 9"):
        loss(Classification(soft=True), random(BATCH, CLASSES), {"targets": np.full((BATCH, 4), 0.25, np.float32)})


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_impossible_settings_are_refused(smoothing):
    with pytest.raises(ObjectiveError):
        Classification(smoothing=smoothing)


def test_tokens_each_have_a_class_but_those_that_are_not_asked():
    """(batch, length) labels are no 0 and 1 of as many classes: the loss is that of the asked tokens, one by one."""
    rng = np.random.default_rng(6)
    logits, labels = random(3, CLASSES, CLASSES, seed=6), rng.integers(0, CLASSES, (3, CLASSES)).astype(np.int32)
    labels[:, ::2] = IGNORED
    asked = labels != IGNORED
    amount, weight = loss(Classification(), logits, {"labels": labels})
    np.testing.assert_allclose(amount, softmax_loss(logits[asked], one_hot(labels[asked])), rtol=1e-5)
    amount, _ = loss(Classification(sigmoid=True), logits, {"labels": labels})
    np.testing.assert_allclose(amount, sigmoid_loss(logits[asked], one_hot(labels[asked])), rtol=1e-5)
    outputs, batch = {"logits": jnp.asarray(logits)}, {"labels": jnp.asarray(labels)}
    right = (logits.argmax(axis=-1) == labels)[asked].sum()
    assert Classification().metrics(outputs, batch)["top_1_accuracy"] == (right, asked.sum()) and weight == asked.sum()
    assert Classification().targets(outputs, batch)["classification_loss"].labels.shape == labels.shape
