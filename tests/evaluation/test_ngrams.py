"""N-gram models: they are distributions, equal to the textbook's sums over dictionaries, and learn what they can."""

import collections
import math

import numpy as np
import pytest

from evaluation.ngrams import KneserNey, _discounts


def slow(text, vocab_size, order):
    """Probability of a token after a context, by the definition, from dictionaries."""
    grams = {
        n: collections.Counter(tuple(text[i : i + n]) for i in range(len(text) - n + 1)) for n in range(1, order + 1)
    }
    used = {order: grams[order]}
    for n in range(1, order):
        used[n] = collections.Counter(gram[1:] for gram in grams[n + 1])
    discounts = {n: _discounts(np.array([used[n][gram] for gram in grams[n]])) for n in used}

    def probability(context, token):
        if context is None:
            return 1 / vocab_size
        counts = used[len(context) + 1]
        shorter = probability(context[1:] if context else None, token)
        after = {gram[-1]: count for gram, count in counts.items() if gram[:-1] == context}
        if not after:
            return shorter
        amount = discounts[len(context) + 1]
        total = sum(after.values())
        left = sum(amount[min(count, 3)] for count in after.values()) / total
        count = after.get(token, 0)
        return max(count - (amount[min(count, 3)] if count else 0), 0) / total + left * shorter

    return probability


def texts(seed, length, vocab_size):
    random = np.random.default_rng(seed)
    text = random.integers(0, vocab_size, length)
    text[length // 2 :] = np.resize(text[: length // 5], length - length // 2)  # something that comes again
    return text


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("length, vocab_size", [(400, 7), (60, 12), (5, 3)])
def test_equals_the_definition(order, length, vocab_size):
    text = texts(order, length, vocab_size)
    model = KneserNey.fit(text, vocab_size, order)
    asked = np.random.default_rng(9).integers(0, vocab_size, (4, 9))
    asked[0, : min(9, length)] = text[:9]
    found = model.log_probabilities(asked)
    probability = slow(text.tolist(), vocab_size, order)
    for row, tokens in enumerate(asked.tolist()):
        for place, token in enumerate(tokens):
            context = tuple(tokens[max(0, place - order + 1) : place])
            assert found[row, place] == pytest.approx(math.log(probability(context, token)), abs=1e-12)


@pytest.mark.parametrize("order", [1, 2, 4])
def test_is_a_distribution_after_any_context(order):
    text, vocab_size = texts(3, 300, 9), 11  # two tokens never occur
    model = KneserNey.fit(text, vocab_size, order)
    for context in (text[:3], text[-3:], np.array([10, 10, 10]), np.array([0, 10, 0])):
        rows = np.stack([np.append(context, token) for token in range(vocab_size)])
        assert np.exp(model.log_probabilities(rows)[:, -1]).sum() == pytest.approx(1.0, abs=1e-12)


def test_longer_contexts_help_where_there_is_something_to_know():
    random = np.random.default_rng(0)
    successor = random.integers(0, 50, (50, 50))
    text = list(random.integers(0, 50, 2))
    for _ in range(60_000):
        known = successor[text[-2], text[-1]]
        text.append(known if random.random() < 0.9 else random.integers(0, 50))
    text = np.array(text)
    losses = [
        -KneserNey.fit(text[:50_000], 50, order).log_probabilities(text[None, 50_000:]).mean() for order in (1, 2, 3)
    ]
    best = 0.9 * -math.log(0.902) + 0.1 * -math.log(0.002)
    assert losses[2] < losses[1] - 0.5 and best - 0.05 < losses[2] < best + 0.4


@pytest.mark.parametrize("text, order, said", [([1, 2], 3, "do not occur"), ([1, 9], 1, "vocabulary of 5")])
def test_bad_input_is_one_sentence(text, order, said):
    with pytest.raises(ValueError, match=said):
        KneserNey.fit(np.array(text), 5, order)
