"""What all objectives share: the smoothed cross-entropy, exact draws, and vocabularies that lack something."""

import dataclasses
import itertools
from types import SimpleNamespace
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data.forms import TextForm
from experiments.experiment import describe
from objectives import (
    CausalLM,
    Classification,
    Distillation,
    Infilling,
    MaskedAutoencoder,
    MaskedImage,
    MaskedLM,
    MixtureOfDenoisers,
    NextSentence,
    Objective,
    ObjectiveError,
    ReplacedTokenDetection,
    SentenceOrder,
    Seq2Seq,
    SpanCorruption,
    Sum,
)
from objectives.draws import choose, shuffled
from objectives.losses import IGNORED, cross_entropy
from objectives.sum import Wrapper
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
        (Infilling(), "eos"),
        (Infilling(start="bos"), "bos"),
        (Infilling(), "mask"),
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
    assert CausalLM().bind(less).vocabulary is less
    without = SimpleNamespace(**{name: value for name, value in vars(written).items() if name != "bos"})
    assert Infilling().bind(without).vocabulary is without


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


BOUND = [
    MaskedLM(),
    SpanCorruption(),
    Infilling(),
    ReplacedTokenDetection(),
    Distillation(),
    Sum(MaskedLM(), SentenceOrder()),
]


@pytest.mark.parametrize("objective", BOUND, ids=lambda objective: type(objective).__name__)
def test_binding_changes_no_setting(written, objective):
    bound = objective.bind(written)
    assert repr(bound) == repr(objective)
    assert describe(bound) == describe(objective)
    assert dataclasses.fields(bound) == dataclasses.fields(objective)


@pytest.mark.parametrize("objective", BOUND, ids=lambda objective: type(objective).__name__)
def test_a_bound_objective_compares_and_hashes_with_its_vocabulary(written, objective):
    same = SimpleNamespace(**{**vars(written), "starts_word": written.starts_word.copy()})
    other = SimpleNamespace(**{**vars(written), "starts_word": ~written.starts_word})
    bound = objective.bind(written)
    assert bound == objective.bind(same) and hash(bound) == hash(objective.bind(same))
    assert bound != objective.bind(other) and hash(bound) != hash(objective.bind(other))
    assert bound != objective and objective == type(objective)(**vars(objective))


def test_replacing_a_setting_keeps_the_binding(written):
    assert dataclasses.replace(MaskedLM().bind(written), rate=0.3) == MaskedLM(rate=0.3).bind(written)
    bound = Sum(MaskedLM(), NextSentence()).bind(written)
    assert dataclasses.replace(bound, parts=bound.parts[:1]).vocabulary is written
    assert dataclasses.replace(Distillation().bind(written), temperature=3.0).task.vocabulary is written


@dataclasses.dataclass(frozen=True)
class Hiding(Objective):
    """Hides every token and asks for it back, under the names that `MaskedLM` uses too; `tell` says so beforehand."""

    tell: bool = True
    loss_name: str = "hiding_loss"

    @property
    def reads(self):
        return ("input_ids",) if self.tell else ()

    @property
    def writes(self):
        return ("input_ids", "labels") if self.tell else ()

    def corrupt(self, key, example):
        return {**example, "input_ids": jnp.zeros_like(example["input_ids"]), "labels": example["input_ids"]}

    def loss(self, outputs, batch):
        return {self.loss_name: cross_entropy(outputs["logits"], batch["labels"])}


@dataclasses.dataclass(frozen=True)
class Reading(Objective):
    """Asks something of the text as the data give it."""

    reads: ClassVar[tuple[str, ...]] = ("input_ids",)
    overlap: ClassVar[int] = 3
    agrees: ClassVar[dict[str, str]] = {"size": "hidden_size"}

    size: int = 4
    loss_name: str = "reading_loss"

    def length_read(self, length):
        return length + 7

    def loss(self, outputs, batch):
        return {self.loss_name: (jnp.float32(0), jnp.float32(1))}

    def metrics(self, outputs, batch):
        return {self.loss_name.replace("loss", "accuracy"): (jnp.float32(0), jnp.float32(1))}


EXAMPLE = {"input_ids": jnp.arange(8), "special_tokens_mask": jnp.zeros(8, jnp.int32)}


@pytest.mark.parametrize(
    ("parts", "sentence"),
    {
        "both write": (
            (Hiding(), SpanCorruption()),
            r"SpanCorruption.* overwrites 'input_ids', which Hiding.* has written",
        ),
        "one reads": ((Hiding(), Reading()), r"Hiding.* overwrites 'input_ids', which Reading.* reads"),
        "it reads before": ((Reading(), Hiding()), r"Hiding.* overwrites 'input_ids', which Reading.* reads"),
        "both arrange": (
            (NextSentence(), SentenceOrder()),
            r"NextSentence.* overwrites 'input_ids', which SentenceOrder.* reads",
        ),
        "images": ((Classification(), MaskedLM()), r"MaskedLM.* overwrites 'labels', which Classification.* reads"),
    }.values(),
)
def test_parts_that_overwrite_one_another_are_refused_at_once(parts, sentence):
    with pytest.raises(ObjectiveError, match=sentence):
        Sum(*parts)


@pytest.mark.parametrize("other", [MaskedLM(), Reading()], ids=["written", "read"])
def test_parts_that_do_not_say_what_they_write_are_refused_when_they_write_it(vocabulary, other):
    both = Sum(Hiding(tell=False), other).bind(vocabulary)
    with pytest.raises(ObjectiveError, match=r"overwrites 'input_ids'"):
        jax.eval_shape(lambda: both.corrupt(jax.random.key(0), EXAMPLE))


def test_what_the_data_give_and_a_part_overwrites_is_refused():
    """`labels` are the pictures', which `Classification` reads, and the mask's: the order hides it until there is data."""
    both = Sum(Hiding(), Classification())
    example = {**EXAMPLE, "pixel_values": jnp.zeros((2, 2, 3)), "labels": jnp.zeros((), jnp.int32)}
    with pytest.raises(ObjectiveError, match=r"Hiding.* overwrites 'labels', which Classification.* reads"):
        both.corrupt(jax.random.key(0), example)


def test_two_losses_or_metrics_of_one_name_are_refused():
    with pytest.raises(ObjectiveError, match=r"give a loss 'reading_loss'"):
        Sum(Reading(), Hiding(loss_name="reading_loss", tell=False)).loss(
            {"logits": jnp.zeros((1, 8, 8))}, {"labels": jnp.zeros((1, 8), jnp.int32)}
        )

    class Second(Reading):
        pass

    with pytest.raises(ObjectiveError, match=r"give a metric 'reading_accuracy'"):
        Sum(Reading(), Second()).metrics({}, {})


def test_sums_and_wrappers_forward_all_that_an_objective_may_define():
    """Whoever adds something to the contract must say what a `Sum` and a wrapper make of it."""
    contract = {name for name in vars(Objective) if not name.startswith("_")} - {"binding", "vocabulary", "output"}
    for kind in (Sum, Wrapper):
        assert contract <= set(vars(kind)), kind


@pytest.mark.parametrize(
    "objective", [Sum(Reading(), NextSentence()), Distillation(task=Reading())], ids=["sum", "around"]
)
def test_what_is_forwarded_is_the_parts(objective):
    assert objective.overlap == 3
    with pytest.raises(ObjectiveError, match="size=4, and its hidden_size is 5"):
        objective.check_config(SimpleNamespace(hidden_size=5))
    assert Distillation(task=Sum(MaskedLM(), NextSentence())).arranges
    assert Sum(Reading()).length_read(512) == Distillation(task=Reading()).length_read(512) == 519
    assert TextForm(512).read_by(Sum(CausalLM())) == TextForm(512).read_by(CausalLM())


def test_the_units_of_losses_are_theirs():
    """Cross-entropies are in nats; differences of pixels and angles are not."""
    assert Sum(MaskedLM(), NextSentence()).units == {"masked_lm_loss": "nats", "next_sentence_loss": "nats"}
    assert Distillation(task=CausalLM()).units == {
        **dict.fromkeys(("causal_lm_loss", "weighted_causal_lm_loss", "distillation_loss"), "nats")
    }
    assert MaskedImage().units == MaskedAutoencoder().units == {}


@pytest.mark.parametrize("objective", [NextSentence(), SentenceOrder()])
def test_a_score_for_each_token_is_no_answer_about_two_sentences(objective):
    """Numbers for 24 places would pass for 24 classes."""
    batch = {"next_sentence_label": jnp.array([0, 1]), "sentence_order_label": jnp.array([0, 1])}
    objective.loss({"logits": jnp.zeros((2, 2))}, batch)
    with pytest.raises(ObjectiveError, match="expected two classes"):
        objective.loss({"logits": jnp.zeros((2, 24))}, batch)
