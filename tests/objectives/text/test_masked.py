"""Masked language modelling against a slow, obvious oracle, and its rates within binomial bounds."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from objectives import MaskedLM, NextSentence, ObjectiveError, Sum
from objectives.losses import IGNORED
from tests.examples import batch, example

LENGTH, COUNT = 64, 4_000


def within(successes: int, trials: int, rate: float, sigmas: float = 5.0) -> bool:
    """Whether a count is as binomial chance would have it."""
    return abs(successes - trials * rate) <= sigmas * np.sqrt(trials * rate * (1 - rate))


def corrupt(objective, examples, seed=0):
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(seed), i))(examples["index"])
    return jax.device_get(jax.jit(jax.vmap(objective.corrupt))(keys, examples))


@pytest.fixture(scope="module")
def examples():
    return batch(range(COUNT), LENGTH)


@pytest.fixture(scope="module", params=[False, True], ids=["tokens", "words"])
def seen(request, examples, vocabulary):
    objective = MaskedLM(whole_word=request.param).bind(vocabulary)
    return objective, corrupt(objective, examples)


def test_labels_are_the_originals_and_nothing_else_changes(examples, seen):
    _, seen = seen
    for row in range(COUNT):
        asked = seen["labels"][row] != IGNORED
        positions = seen["masked_positions"][row][asked]
        assert (np.diff(positions) > 0).all()
        original = examples["input_ids"][row]
        assert (original[positions] == seen["labels"][row][asked]).all()
        untouched = np.setdiff1d(np.arange(LENGTH), positions)
        assert (seen["input_ids"][row][untouched] == original[untouched]).all()


def test_special_tokens_are_never_chosen(examples, seen):
    _, seen = seen
    asked = seen["labels"] != IGNORED
    chosen = np.take_along_axis(examples["special_tokens_mask"], seen["masked_positions"], axis=1)
    assert asked.any(axis=1).mean() > 0.9
    assert not chosen[asked].any()


def test_count_is_the_rate_of_the_length(examples, vocabulary):
    objective = MaskedLM().bind(vocabulary)
    seen = corrupt(objective, examples)
    for row in range(COUNT):
        tokens = int(examples["attention_mask"][row].sum())
        assert (seen["labels"][row] != IGNORED).sum() == min(tokens - 2, 10, max(1, round(tokens * 0.15)))


@pytest.mark.parametrize(("length", "slots"), [(128, 20), (512, 77), (8, 2), (1, 1)])
def test_slots(length, slots):
    assert MaskedLM().slots(length) == slots


def test_overall_rate(examples, vocabulary):
    """Over all lengths the roundings even out; 64 tokens alone, the commonest length here, are always rounded up."""
    lengths = examples["attention_mask"].sum(axis=1)
    asked = (corrupt(MaskedLM().bind(vocabulary), examples)["labels"] != IGNORED).sum(axis=1)
    mixed = (lengths > 12) & (lengths < 64)
    assert within(int(asked[mixed].sum()), int(lengths[mixed].sum()), 0.15)
    assert (asked[lengths == 64] == 10).all()


def test_eighty_ten_ten(examples, vocabulary):
    objective = MaskedLM().bind(vocabulary)
    seen = corrupt(objective, examples)
    asked = seen["labels"] != IGNORED
    shown = np.take_along_axis(seen["input_ids"], seen["masked_positions"], axis=1)[asked]
    labels, trials = seen["labels"][asked], int(asked.sum())
    assert within(int((shown == vocabulary.mask).sum()), trials, 0.8 + 0.1 / vocabulary.size)
    # A random token equals the original, or [MASK], once in `size` draws.
    assert within(int((shown == labels).sum()), trials, 0.1 + 0.1 / vocabulary.size)
    others = shown[(shown != vocabulary.mask) & (shown != labels)]
    assert within(len(others), trials, 0.1 * (1 - 2 / vocabulary.size))
    counts = np.bincount(others, minlength=vocabulary.size)
    expected = len(others) / (vocabulary.size - 1)
    statistic = ((counts - expected) ** 2 / expected).sum()
    assert statistic < vocabulary.size + 6 * np.sqrt(2 * vocabulary.size)


def test_every_place_is_chosen_alike(vocabulary):
    examples = batch([2] * COUNT, LENGTH)
    examples["index"] = np.arange(COUNT, dtype=np.uint32)
    seen = corrupt(MaskedLM().bind(vocabulary), examples)
    candidates = np.flatnonzero(example(2, LENGTH)["special_tokens_mask"] == 0)
    asked = seen["labels"] != IGNORED
    counts = np.bincount(seen["masked_positions"][asked], minlength=LENGTH)[candidates]
    share = asked.sum() / COUNT / len(candidates)
    assert all(within(int(count), COUNT, share) for count in counts)


def words_of(input_ids, special, starts_word):
    """Lists of places, one per word: the slow, obvious way."""
    words = []
    for place, token in enumerate(input_ids):
        if special[place]:
            continue
        if not starts_word[token] and place > 0 and not special[place - 1]:
            words[-1].append(place)
        else:
            words.append([place])
    return words


def test_whole_words_stay_whole_and_as_many_as_fit(examples, vocabulary):
    objective = MaskedLM(whole_word=True).bind(vocabulary)
    seen = corrupt(objective, examples)
    several = 0
    for row in range(COUNT):
        chosen = set(seen["masked_positions"][row][seen["labels"][row] != IGNORED].tolist())
        words = words_of(examples["input_ids"][row], examples["special_tokens_mask"][row], vocabulary.starts_word)
        taken = [word for word in words if set(word) <= chosen]
        assert sum(map(len, taken)) == len(chosen), "a word is chosen in part"
        wanted = min(10, max(1, round(int(examples["attention_mask"][row].sum()) * 0.15)))
        left = [len(word) for word in words if not set(word) & chosen]
        assert len(chosen) <= wanted
        assert all(len(chosen) + size > wanted for size in left), "a word that fits was left out"
        several += any(len(word) > 1 for word in taken)
    assert several > COUNT / 4


def test_loss_is_the_reference_formula(seen, vocabulary):
    objective, seen = seen
    part = {name: jnp.asarray(value[:32]) for name, value in seen.items()}
    logits = np.random.default_rng(0).normal(size=(*part["labels"].shape, vocabulary.size)).astype(np.float32) * 3
    amount, weight = objective.loss({"logits": jnp.asarray(logits)}, part)["masked_lm_loss"]
    expected, count = 0.0, 0
    for row, slot in zip(*np.nonzero(part["labels"] != IGNORED), strict=True):
        scores = logits[row, slot].astype(np.float64)
        expected -= scores[part["labels"][row, slot]] - np.log(np.exp(scores).sum())
        count += 1
    assert weight == count
    np.testing.assert_allclose(amount, expected, rtol=1e-5)


def test_weights_do_not_depend_on_outputs(seen, vocabulary):
    objective, seen = seen
    logits = jnp.full((*seen["labels"].shape, vocabulary.size), jnp.nan)
    batch = {name: jnp.asarray(value) for name, value in seen.items()}
    assert objective.loss({"logits": logits}, batch)["masked_lm_loss"][1] == (seen["labels"] != IGNORED).sum()


@pytest.mark.slow_but_first
@pytest.mark.parametrize("whole_word", [False, True])
def test_an_example_is_the_same_whatever_its_batch(vocabulary, examples, whole_word):
    objective = Sum(MaskedLM(whole_word=whole_word), NextSentence()).bind(vocabulary)
    together = corrupt(objective, {name: value[:24] for name, value in examples.items()})
    order = np.random.default_rng(0).permutation(24)
    shuffled = corrupt(objective, {name: value[:24][order] for name, value in examples.items()})
    alone = corrupt(objective, {name: value[7:8] for name, value in examples.items()})
    for name in together:
        assert (together[name][order] == shuffled[name]).all(), name
        assert (together[name][7] == alone[name][0]).all(), name


def test_other_seeds_and_places_give_other_masks(vocabulary, examples):
    objective = MaskedLM().bind(vocabulary)
    same = {name: np.repeat(value[:1], 64, axis=0) for name, value in examples.items() if name != "index"}
    same["index"] = np.arange(64, dtype=np.uint32)
    first, second = corrupt(objective, same, 0), corrupt(objective, same, 1)
    assert len({tuple(row) for row in first["masked_positions"]}) > 32
    assert (first["masked_positions"] != second["masked_positions"]).any(axis=1).mean() > 0.9


@pytest.mark.parametrize(
    "settings", [{"rate": 0.0}, {"rate": 1.5}, {"mask_rate": 0.9, "random_rate": 0.2}, {"max_predictions": 0}]
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ObjectiveError):
        MaskedLM(**settings)


def test_all_settings_reach_the_mask(vocabulary, examples):
    everything = dataclasses.replace(MaskedLM(), rate=1.0, mask_rate=1.0, random_rate=0.0).bind(vocabulary)
    seen = corrupt(everything, {name: value[:8] for name, value in examples.items()})
    assert ((seen["input_ids"] == vocabulary.mask) == (examples["special_tokens_mask"][:8] == 0)).all()
