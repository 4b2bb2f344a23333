"""Distillation: the three terms as the formulas have them, at the task's places or everywhere, and none for the teacher."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from objectives import CausalLM, Distillation, ObjectiveError
from objectives.losses import IGNORED
from tests.examples import batch
from tests.objectives.text.test_masked import corrupt

COUNT, LENGTH, WIDTH = 6, 40, 8


@pytest.fixture(scope="module")
def examples():
    return batch(range(COUNT), LENGTH)


def outputs_for(places, vocabulary, seed=0):
    keys = jax.random.split(jax.random.key(seed), 4)
    shapes = dict(logits=(places, vocabulary.size), teacher_logits=(places, vocabulary.size))
    shapes |= dict(hidden=(LENGTH, WIDTH), teacher_hidden=(LENGTH, WIDTH))
    return {
        name: jax.random.normal(key, (COUNT, *shape)) * 2
        for key, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


def log_softmax(scores):
    return scores - np.log(np.exp(scores).sum())


def reference(outputs, compared, labels, attended, temperature=2.0):
    """The three terms, place by place, in float64; `labels` has (row, place of the logits, label)."""
    wide = {name: np.asarray(value, np.float64) for name, value in outputs.items()}
    divergence = task = cosine = 0.0
    for row, place in zip(*np.nonzero(compared), strict=True):
        student = log_softmax(wide["logits"][row, place] / temperature)
        teacher = log_softmax(wide["teacher_logits"][row, place] / temperature)
        divergence += temperature**2 * (np.exp(teacher) * (teacher - student)).sum()
    for row, place, label in labels:
        task -= log_softmax(wide["logits"][row, place])[label]
    for row, place in zip(*np.nonzero(attended), strict=True):
        a, b = wide["hidden"][row, place], wide["teacher_hidden"][row, place]
        cosine += 1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    return divergence, task, cosine


def check(objective, outputs, seen, compared, labels, temperature=2.0):
    losses = objective.loss(outputs, jax.tree.map(jnp.asarray, seen))
    terms = reference(outputs, compared, labels, seen["attention_mask"] > 0, temperature)
    for (name, (amount, weight)), term, scale, count in zip(
        losses.items(), terms, (5, 2, 1), (compared.sum(), len(labels), seen["attention_mask"].sum()), strict=True
    ):
        np.testing.assert_allclose(amount, scale * term, rtol=1e-5, err_msg=name)
        assert weight == count, name


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_losses_at_the_slots_are_the_reference_formulas(vocabulary, examples, temperature):
    objective = Distillation(temperature=temperature).bind(vocabulary)
    seen = corrupt(objective, examples)
    asked = seen["labels"] != IGNORED
    labels = [(row, slot, seen["labels"][row, slot]) for row, slot in zip(*np.nonzero(asked), strict=True)]
    check(objective, outputs_for(asked.shape[1], vocabulary), seen, asked, labels, temperature)


def test_losses_everywhere_are_the_reference_formulas(vocabulary, examples):
    objective = Distillation(everywhere=True).bind(vocabulary)
    seen = corrupt(objective, examples)
    assert "masked_positions" not in seen and set(objective.writes) <= set(seen)
    labels = [
        (row, seen["label_positions"][row, slot], seen["labels"][row, slot])
        for row, slot in zip(*np.nonzero(seen["labels"] != IGNORED), strict=True)
    ]
    check(objective, outputs_for(LENGTH, vocabulary), seen, seen["attention_mask"] > 0, labels)


def test_a_decoder_is_distilled_with_next_tokens(vocabulary, windows):
    objective = Distillation(task=CausalLM()).bind(vocabulary)
    seen = corrupt(objective, windows([LENGTH + 1, 5, 1, 20, 30, 2], objective.length_read(LENGTH)))
    asked = seen["labels"] != IGNORED
    labels = [(row, place, seen["labels"][row, place]) for row, place in zip(*np.nonzero(asked), strict=True)]
    check(objective, outputs_for(LENGTH, vocabulary), seen, asked, labels)


@pytest.mark.parametrize("everywhere", [False, True])
def test_no_gradient_reaches_the_teacher_and_one_the_student(vocabulary, examples, everywhere):
    objective = Distillation(everywhere=everywhere).bind(vocabulary)
    seen = jax.tree.map(jnp.asarray, corrupt(objective, examples))
    outputs = outputs_for(LENGTH if everywhere else seen["labels"].shape[1], vocabulary)
    gradients = jax.grad(lambda outputs: sum(amount for amount, _ in objective.loss(outputs, seen).values()))(outputs)
    for name, gradient in gradients.items():
        assert bool(jnp.any(gradient != 0)) != name.startswith("teacher"), name


def test_a_student_like_its_teacher_has_nothing_to_learn_from_it(vocabulary, examples):
    objective = Distillation().bind(vocabulary)
    seen = jax.tree.map(jnp.asarray, corrupt(objective, examples))
    outputs = outputs_for(seen["labels"].shape[1], vocabulary)
    outputs |= {"teacher_logits": outputs["logits"], "teacher_hidden": 3 * outputs["hidden"]}
    losses = objective.loss(outputs, seen)
    assert abs(float(losses["distillation_loss"][0])) < 1e-3 and abs(float(losses["cosine_loss"][0])) < 1e-3
    agreed, places = objective.metrics(outputs, seen)["agreement"]
    assert agreed == places > 0


def test_hidden_states_of_zero_have_a_gradient_that_is_a_number(vocabulary, examples):
    objective = Distillation().bind(vocabulary)
    seen = jax.tree.map(jnp.asarray, corrupt(objective, examples))
    outputs = jax.tree.map(jnp.zeros_like, outputs_for(seen["labels"].shape[1], vocabulary))
    gradients = jax.grad(lambda outputs: sum(amount for amount, _ in objective.loss(outputs, seen).values()))(outputs)
    assert all(bool(jnp.isfinite(gradient).all()) for gradient in gradients.values())


@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {"cosine_weight": -1.0}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ObjectiveError):
        Distillation(**settings)
