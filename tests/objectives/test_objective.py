"""What all objectives share: the smoothed cross-entropy, exact draws, and vocabularies that lack something."""

import dataclasses
import itertools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from objectives import (
    CausalLM,
    Distillation,
    Infilling,
    MaskedLM,
    MixtureOfDenoisers,
    NextSentence,
    ObjectiveError,
    ReplacedTokenDetection,
    SentenceOrder,
    Seq2Seq,
    SpanCorruption,
    Sum,
)
from objectives.draws import choose, shuffled
from objectives.objective import IGNORED, cross_entropy
from tests.objectives.conftest import uniform


def plain(logits, labels, smoothing):
    """The smoothed cross-entropy as the formula has it."""
    classes = logits.shape[-1]
    target = (1 - smoothing) * jax.nn.one_hot(labels, classes) + smoothing / classes
    losses = -(target * jax.nn.log_softmax(logits)).sum(axis=-1)
    return jnp.where(labels != IGNORED, losses, 0.0).sum()


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_smoothed_cross_entropy_and_its_gradient(smoothing):
    logits = jax.random.normal(jax.random.key(0), (4, 7, 11)) * 3
    labels = jax.random.randint(jax.random.key(1), (4, 7), 0, 11).at[1, 3:].set(IGNORED)
    amount, weight = cross_entropy(logits, labels, smoothing)
    assert weight == 24
    np.testing.assert_allclose(amount, plain(logits, labels, smoothing), rtol=1e-6)
    ours = jax.grad(lambda x: cross_entropy(x, labels, smoothing)[0] * 0.7)(logits)
    theirs = jax.grad(lambda x: plain(x, labels, smoothing) * 0.7)(logits)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert not np.asarray(ours)[1, 3:].any()


def test_without_smoothing_the_loss_is_the_same_to_the_bit():
    logits = jax.random.normal(jax.random.key(0), (5, 100), jnp.bfloat16)
    labels = jnp.arange(5)
    wide = logits.astype(jnp.float32)
    chosen = jnp.take_along_axis(wide, labels[:, None], axis=1)[:, 0]
    assert cross_entropy(logits, labels)[0] == (jax.nn.logsumexp(wide, axis=-1) - chosen).sum()


@pytest.mark.parametrize("length", [1, 2, 5, 64])
def test_draws_have_their_size(length):
    candidate = jnp.asarray(np.random.default_rng(0).random(length) < 0.6)
    for count in range(-1, length + 2):
        chosen = np.asarray(choose(jax.random.key(count), candidate, jnp.asarray(count)))
        assert chosen.sum() == min(max(count, 0), int(candidate.sum()))
        assert not (chosen & ~np.asarray(candidate)).any()
    order = np.asarray(shuffled(jax.random.key(0), candidate))
    assert sorted(order) == list(range(length))
    assert np.asarray(candidate)[order].tolist() == sorted(np.asarray(candidate).tolist(), reverse=True)


def test_draws_are_uniform():
    keys = jax.random.split(jax.random.key(0), 12_000)
    candidate = jnp.array([True, False, True, True, True])
    orders = np.asarray(jax.vmap(lambda key: shuffled(key, candidate))(keys))[:, :4]
    every = list(itertools.permutations((0, 2, 3, 4)))
    assert uniform([(orders == order).all(axis=1).sum() for order in every])
    sets = np.asarray(jax.vmap(lambda key: choose(key, candidate, jnp.asarray(2)))(keys))
    pairs = [sets[:, i] & sets[:, j] for i, j in itertools.combinations((0, 2, 3, 4), 2)]
    assert uniform([pair.sum() for pair in pairs])


@pytest.mark.parametrize(
    ("objective", "missing"),
    [
        (MaskedLM(), "mask"),
        (NextSentence(), "sep"),
        (SentenceOrder(), "cls"),
        (Seq2Seq(), "eos"),
        (Seq2Seq(start="bos"), "bos"),
        (SpanCorruption(), "sentinels"),
        (MixtureOfDenoisers(), "eos"),
        (Infilling(), "bos"),
        (Infilling(language=7), "mask"),
        (ReplacedTokenDetection(), "mask"),
        (Distillation(), "mask"),
        (Sum(MaskedLM(), SentenceOrder()), "sep"),
    ],
    ids=str,
)
def test_a_vocabulary_that_lacks_something_is_refused(written, objective, missing):
    assert objective.bind(written)
    for lacking in (
        SimpleNamespace(**{name: value for name, value in vars(written).items() if name != missing}),
        SimpleNamespace(**{**vars(written), missing: () if missing == "sentinels" else None}),
    ):
        with pytest.raises(ObjectiveError, match=f"has no {missing}: choose"):
            objective.bind(lacking)


def test_what_is_not_needed_may_be_missing(written):
    less = SimpleNamespace(**{name: value for name, value in vars(written).items() if name in ("size", "eos")})
    assert CausalLM().bind(less) == CausalLM()
    without = SimpleNamespace(**{name: value for name, value in vars(written).items() if name != "bos"})
    assert Infilling(language=7).bind(without).vocabulary is without


def test_lengths_read(written):
    lengths = {
        CausalLM(): 513,
        MaskedLM(): 512,
        NextSentence(): 1024,
        Sum(MaskedLM(), SentenceOrder()): 1024,
        SpanCorruption(): 568,
        Infilling(): 510,
        Distillation(task=CausalLM()): 513,
    }
    for objective, length in lengths.items():
        assert objective.bind(written).length_read(512) == length


def test_binding_changes_no_setting(written):
    for objective in (MaskedLM(), SpanCorruption(), Infilling(), ReplacedTokenDetection(), Distillation()):
        bound = objective.bind(written)
        assert bound == objective and repr(bound) == repr(objective)
        assert dataclasses.fields(bound) == dataclasses.fields(objective)


@pytest.mark.parametrize("objective", [NextSentence(), SentenceOrder()])
def test_a_score_for_each_token_is_no_answer_about_two_sentences(objective):
    """Numbers for 24 places would pass for 24 classes."""
    batch = {"next_sentence_label": jnp.array([0, 1]), "sentence_order_label": jnp.array([0, 1])}
    objective.loss({"logits": jnp.zeros((2, 2))}, batch)
    with pytest.raises(ObjectiveError, match="expected two classes"):
        objective.loss({"logits": jnp.zeros((2, 24))}, batch)
