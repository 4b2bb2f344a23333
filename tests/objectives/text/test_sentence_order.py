"""Pairs of consecutive segments against the algorithm written with lists, and how often they are swapped."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from objectives import MaskedLM, ObjectiveError, SentenceOrder, Sum
from objectives.losses import IGNORED
from objectives.text.sentence_order import IN_ORDER, SWAPPED
from tests.examples import CLS, PAD, SEP, batch
from tests.objectives.text.test_masked import corrupt, within
from tests.objectives.text.test_next_sentence import sentences_of


def oracle(key, example):
    """One pair, with lists and loops; only the draws are those of the objective."""
    length = len(example["input_ids"])
    most, window = length - 3, len(example["tokens"])
    keys = jax.random.split(key, 6)
    target = most
    if jax.random.uniform(keys[0]) < 0.1:
        target = int(jax.random.randint(keys[1], (), 2, most + 1))
    chunk = []
    for sentence in sentences_of(example["tokens"], example["sentence_ids"]):
        chunk.append(sentence)
        if sum(map(len, chunk)) >= target:
            break
    if len(chunk) == 1 and len(chunk[0]) > 1:
        cut = int(jax.random.randint(keys[2], (), 1, len(chunk[0])))
        chunk = [chunk[0][:cut], chunk[0][cut:]]
        end = 1
    else:
        end = int(jax.random.randint(keys[2], (), 1, len(chunk))) if len(chunk) > 1 else 1
    a = [token for sentence in chunk[:end] for token in sentence]
    b = [token for sentence in chunk[end:] for token in sentence]
    label = IGNORED if not b else IN_ORDER
    if b and jax.random.uniform(keys[3]) < 0.5:
        a, b, label = b, a, SWAPPED
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
        "sentence_order_label": label,
    }


@pytest.mark.slow_but_first
@pytest.mark.parametrize(
    ("length", "mean_sentence", "count"), [(32, 5.0, 150), (32, 60.0, 150), (128, 20.0, 60), (5, 2.0, 150)]
)
def test_pairs_equal_the_oracle(vocabulary, length, mean_sentence, count):
    examples = batch(range(count), length, mean_sentence=mean_sentence)
    seen = corrupt(SentenceOrder().bind(vocabulary), examples)
    for row in range(count):
        key = jax.random.fold_in(jax.random.key(0), examples["index"][row])
        for name, expected in oracle(key, {k: v[row] for k, v in examples.items()}).items():
            np.testing.assert_array_equal(seen[name][row], expected, err_msg=f"{name} of example {row}")


def test_half_of_the_pairs_are_swapped_and_a_single_token_is_not_asked(vocabulary):
    examples = batch(range(3_000), 32)
    examples["tokens"][::10, 1:], examples["sentence_ids"][::10, 1:] = PAD, -1
    labels = corrupt(SentenceOrder().bind(vocabulary), examples)["sentence_order_label"]
    single = (examples["sentence_ids"] >= 0).sum(axis=1) == 1
    assert single.sum() >= 300 and (labels[single] == IGNORED).all()
    assert within(int((labels[~single] == SWAPPED).sum()), int((~single).sum()), 0.5)


def test_joins_masked_tokens(vocabulary):
    objective = Sum(MaskedLM(), SentenceOrder()).bind(vocabulary)
    examples = batch(range(64), 64)
    seen = corrupt(objective, examples)
    alone = corrupt(Sum(SentenceOrder()).bind(vocabulary), examples)
    assert set(objective.reads) <= set(examples) and set(objective.writes) <= set(seen)
    assert (alone["token_type_ids"] == seen["token_type_ids"]).all()
    asked = seen["labels"] != IGNORED
    originals = np.take_along_axis(alone["input_ids"], seen["masked_positions"], axis=1)
    assert (originals[asked] == seen["labels"][asked]).all() and asked.any(axis=1).all()


def test_loss_is_the_reference_formula(vocabulary):
    logits = np.random.default_rng(0).normal(size=(16, 2)).astype(np.float32)
    labels = np.arange(16) % 2
    labels[3] = IGNORED
    amount, weight = SentenceOrder().loss(
        {"sop_logits": jnp.asarray(logits)}, {"sentence_order_label": jnp.asarray(labels)}
    )["sentence_order_loss"]
    expected = -sum(
        row[label] - np.log(np.exp(row.astype(np.float64)).sum())
        for row, label in zip(logits, labels, strict=True)
        if label != IGNORED
    )
    assert weight == 15
    np.testing.assert_allclose(amount, expected, rtol=1e-6)


def test_impossible_settings_are_refused():
    with pytest.raises(ObjectiveError, match="swap_rate"):
        SentenceOrder(swap_rate=1.5)
