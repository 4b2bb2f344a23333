"""Distillation of a classifier: both teachers' shares as the formulas have them, for one head and for two."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from objectives import ClassDistillation, Classification, ObjectiveError

BATCH, CLASSES = 6, 8


def random(seed):
    return np.random.default_rng(seed).normal(size=(BATCH, CLASSES)).astype(np.float32) * 3


@pytest.fixture
def batch():
    rng = np.random.default_rng(9)
    return {
        "labels": jnp.asarray(rng.integers(0, CLASSES, BATCH), jnp.int32),
        "other_labels": jnp.asarray(rng.integers(0, CLASSES, BATCH), jnp.int32),
        "mix": jnp.asarray(rng.random(BATCH), jnp.float32),
    }


ONE = {"logits": random(0), "teacher_logits": random(1)}
TWO = {"cls_logits": random(0), "distillation_logits": random(2), "logits": random(3), "teacher_logits": random(1)}


def log_softmax(scores):
    scores = scores.astype(np.float64)
    return scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True))


@pytest.mark.parametrize("outputs", [ONE, TWO], ids=["one head", "two heads"])
@pytest.mark.parametrize(("hard", "temperature", "alpha"), [(True, 1.0, 0.5), (False, 3.0, 0.1)])
def test_losses_are_the_formulas_of_the_paper(batch, outputs, hard, temperature, alpha):
    objective = ClassDistillation(Classification(smoothing=0.1), alpha=alpha, hard=hard, temperature=temperature)
    labelled = outputs.get("cls_logits", outputs["logits"])
    taught, teacher = outputs.get("distillation_logits", outputs["logits"]), outputs["teacher_logits"]
    losses = objective.loss(jax.tree.map(jnp.asarray, outputs), batch)
    alone = Classification(smoothing=0.1).loss({"logits": jnp.asarray(labelled)}, batch)["classification_loss"]
    if hard:
        expected = -sum(log_softmax(taught)[row, teacher[row].argmax()] for row in range(BATCH))
    else:
        told, said = log_softmax(teacher / temperature), log_softmax(taught / temperature)
        expected = temperature**2 * (np.exp(told) * (told - said)).sum()
    assert set(losses) == {"distillation_loss", "weighted_classification_loss"}
    np.testing.assert_allclose(losses["distillation_loss"][0], alpha * expected, rtol=1e-5)
    np.testing.assert_allclose(losses["weighted_classification_loss"][0], (1 - alpha) * alone[0], rtol=1e-6)
    assert all(weight == BATCH for _, weight in losses.values())


def test_what_a_student_with_two_heads_says_is_the_mean_of_both(batch):
    outputs = jax.tree.map(jnp.asarray, {**TWO, "logits": (TWO["cls_logits"] + TWO["distillation_logits"]) / 2})
    labels = {"labels": batch["labels"]}
    metrics = ClassDistillation().metrics(outputs, labels)
    wanted = Classification().metrics({"logits": outputs["logits"]}, labels)
    assert {name: metrics[name] for name in wanted} == wanted
    agreed = (outputs["logits"].argmax(axis=-1) == outputs["teacher_logits"].argmax(axis=-1)).sum()
    assert metrics["agreement"] == (agreed, BATCH)
    assert "classification_loss" in metrics and "classification_loss" in ClassDistillation().targets(outputs, labels)


@pytest.mark.parametrize("hard", [True, False])
def test_no_gradient_reaches_the_teacher_and_one_each_head(batch, hard):
    objective, outputs = ClassDistillation(hard=hard), jax.tree.map(jnp.asarray, TWO)
    gradients = jax.grad(lambda outputs: sum(amount for amount, _ in objective.loss(outputs, batch).values()))(outputs)
    for name, gradient in gradients.items():
        assert bool((gradient != 0).any()) == (name in ("cls_logits", "distillation_logits")), name


def test_it_reads_and_writes_what_its_task_does():
    objective = ClassDistillation().bind(SimpleNamespace(classes=CLASSES))
    task = Classification()
    assert (objective.reads, objective.takes, objective.needs) == (task.reads, task.takes, task.needs)
    assert objective.task.vocabulary.classes == CLASSES and repr(objective) == repr(ClassDistillation())


@pytest.mark.parametrize("settings", [{"alpha": 1.5}, {"temperature": 0.0}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ObjectiveError):
        ClassDistillation(**settings)
