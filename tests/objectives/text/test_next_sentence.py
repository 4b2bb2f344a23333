"""Next-sentence pairs against the released algorithm written with lists, and its rates within binomial bounds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from objectives import MaskedLM, NextSentence, ObjectiveError, Sum
from objectives.text.next_sentence import IS_NEXT, IS_RANDOM
from tests.examples import CLS, PAD, SEP, batch
from tests.objectives.text.test_masked import corrupt, within

COUNT = 3_000


def sentences_of(tokens, sentence_ids):
    return [tokens[sentence_ids == number].tolist() for number in range(int(sentence_ids.max()) + 1)]


def oracle(key, example, short_rate=0.1, random_rate=0.5):
    """`create_pretraining_data.py` on one window, with lists and loops; only its draws are those of the objective."""
    length = len(example["input_ids"])
    most, window = length - 3, len(example["tokens"])
    keys = jax.random.split(key, 6)
    target = most
    if jax.random.uniform(keys[0]) < short_rate:
        target = int(jax.random.randint(keys[1], (), 2, most + 1))
    chunk, total = [], 0
    for sentence in sentences_of(example["tokens"], example["sentence_ids"]):
        chunk.append(sentence)
        total += len(sentence)
        if total >= target:
            break
    end_a = 1 if len(chunk) == 1 else int(jax.random.randint(keys[2], (), 1, len(chunk)))
    a = [token for sentence in chunk[:end_a] for token in sentence]
    is_random = len(chunk) == 1 or bool(jax.random.uniform(keys[3]) < random_rate)
    b = []
    if is_random:
        for sentence in sentences_of(example["other_tokens"], example["other_sentence_ids"]):
            b += sentence
            if len(b) >= target - len(a):
                break
    else:
        b = [token for sentence in chunk[end_a:] for token in sentence]
    coins = {
        id(a): list(jax.random.bernoulli(keys[4], 0.5, (window,))),
        id(b): list(jax.random.bernoulli(keys[5], 0.5, (window,))),
    }
    while len(a) + len(b) > most:
        longer = a if len(a) > len(b) else b
        if coins[id(longer)].pop(0):
            del longer[0]
        else:
            longer.pop()
    input_ids = [CLS, *a, SEP, *b, SEP]
    types = [0] * (len(a) + 2) + [1] * (len(b) + 1)
    padding = length - len(input_ids)
    return {
        "input_ids": input_ids + [PAD] * padding,
        "token_type_ids": types + [0] * padding,
        "attention_mask": [1] * len(input_ids) + [0] * padding,
        "special_tokens_mask": [int(t in (CLS, SEP)) for t in input_ids] + [1] * padding,
        "next_sentence_label": IS_RANDOM if is_random else IS_NEXT,
    }


@pytest.mark.slow_but_first
@pytest.mark.parametrize(
    ("length", "mean_sentence", "count"), [(32, 5.0, 300), (32, 60.0, 300), (128, 20.0, 200), (5, 2.0, 300)]
)
def test_pairs_equal_the_oracle(vocabulary, length, mean_sentence, count):
    examples = batch(range(count), length, mean_sentence=mean_sentence)
    seen = corrupt(NextSentence().bind(vocabulary), examples)
    for row in range(count):
        key = jax.random.fold_in(jax.random.key(0), examples["index"][row])
        for name, expected in oracle(key, {k: v[row] for k, v in examples.items()}).items():
            np.testing.assert_array_equal(seen[name][row], expected, err_msg=f"{name} of example {row}")


@pytest.fixture(scope="module")
def pairs(vocabulary):
    examples = batch(range(COUNT), 64)
    return examples, corrupt(NextSentence().bind(vocabulary), examples)


def test_half_of_the_pairs_are_random(pairs):
    examples, seen = pairs
    several = examples["sentence_ids"].max(axis=1) > 0
    first_ends = np.array([(row == 0).sum() for row in examples["sentence_ids"]])
    free = several & (first_ends < 61) & (seen["attention_mask"].sum(axis=1) == 64)
    labels = seen["next_sentence_label"][free]
    assert free.sum() > COUNT / 3
    assert within(int((labels == IS_RANDOM).sum()), len(labels), 0.5)
    assert (seen["next_sentence_label"][~several] == IS_RANDOM).all()


def test_a_tenth_of_the_examples_are_short(vocabulary):
    examples = batch(range(COUNT), 64, mean_sentence=1.0)
    full = examples["sentence_ids"].min(axis=1) >= 0
    full &= examples["other_sentence_ids"].min(axis=1) >= 0
    seen = corrupt(NextSentence().bind(vocabulary), examples)
    lengths = seen["attention_mask"].sum(axis=1)[full]
    # Every sentence is one token long, so a pair is as long as it aims to be; a random aim is the longest once in 60.
    assert within(int((lengths < 64).sum()), len(lengths), 0.1 * 59 / 60)


def test_order_of_the_parts_changes_nothing(vocabulary):
    examples = batch(range(64), 64)
    one = corrupt(Sum(MaskedLM(), NextSentence()).bind(vocabulary), examples)
    other = corrupt(Sum(NextSentence(), MaskedLM()).bind(vocabulary), examples)
    assert all((one[name] == other[name]).all() for name in one)
    alone = corrupt(Sum(NextSentence()).bind(vocabulary), examples)
    assert (alone["token_type_ids"] == one["token_type_ids"]).all()


@pytest.mark.parametrize("weight", [1.0, 0.3])
def test_loss_is_the_reference_formula(vocabulary, weight):
    logits = np.random.default_rng(0).normal(size=(16, 2)).astype(np.float32)
    labels = np.arange(16) % 2
    objective = NextSentence(weight=weight).bind(vocabulary)
    asked = {"seq_relationship_logits": jnp.asarray(logits)}, {"next_sentence_label": jnp.asarray(labels)}
    amount, count = objective.loss(*asked)["next_sentence_loss"]
    assert objective.targets(*asked)["next_sentence_loss"].factor == weight
    expected = -weight * sum(
        row[label] - np.log(np.exp(row.astype(np.float64)).sum()) for row, label in zip(logits, labels, strict=True)
    )
    assert count == 16
    np.testing.assert_allclose(amount, expected, rtol=1e-6)


def test_a_sum_of_the_same_twice_or_of_nothing_is_refused():
    with pytest.raises(ObjectiveError, match="twice"):
        Sum(MaskedLM(), MaskedLM())
    with pytest.raises(ObjectiveError, match="at least one"):
        Sum()
