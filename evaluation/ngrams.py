"""N-gram language models: what a model of text must beat to have learned more than which tokens stand together.

Interpolated Kneser–Ney with three discounts an order: Chen & Goodman, "An Empirical Study of Smoothing Techniques for Language
Modeling", 1999, Computer Speech & Language 13, section 3 ("modified Kneser–Ney").
"""

import dataclasses

import numpy as np
from jaxtyping import Float64, Int, Int64


@dataclasses.dataclass(frozen=True)
class Order:
    """The n-grams of one length that occur; an n-gram's number is its place in `keys`.

    Attributes:
        keys: ascending; of the n-gram whose first n - 1 tokens have the number p and whose last is t: p · vocabulary + t.
        share: of each n-gram, its discounted count over the count of its first n - 1 tokens.
        left: of each (n - 1)-gram, what the discounts leave to shorter contexts: 1 where it is not gone on with.
    """

    keys: Int64[np.ndarray, " grams"]
    share: Float64[np.ndarray, " grams"]
    left: Float64[np.ndarray, " contexts"]

    def find(self, keys: Int64[np.ndarray, "*shape"]) -> Int64[np.ndarray, "*shape"]:
        """Numbers of the n-grams with these keys, -1 for what does not occur."""
        place = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[place] == keys, place, -1)


@dataclasses.dataclass(frozen=True)
class KneserNey:
    """A model that predicts a token from at most `len(orders) - 1` tokens before it."""

    vocab_size: int
    orders: tuple[Order, ...]

    @classmethod
    def fit(cls, text: Int[np.ndarray, " tokens"], vocab_size: int, order: int) -> "KneserNey":
        """The model of one long text.

        Args:
            order: tokens of the longest n-grams; 2 looks at the token before.

        Raises:
            ValueError: the text is shorter than that, or a token is not in the vocabulary.
        """
        text = np.asarray(text, np.int64)
        if order < 1 or len(text) < order:
            raise ValueError(f"n-grams of {order} tokens do not occur in a text of {len(text)}")
        if text.min() < 0 or text.max() >= vocab_size:
            raise ValueError(f"tokens from {text.min()} to {text.max()} in a vocabulary of {vocab_size}")
        numbers, keys, ends = np.zeros(len(text) + 1, np.int64), [], []
        for length in range(1, order + 1):
            # `numbers[i]` becomes the number of the n-gram that begins at i; `ends`, of each, that of its last n - 1 tokens.
            shorter = numbers
            places = len(text) - length + 1
            distinct, first, numbers, counts = np.unique(
                shorter[:places] * vocab_size + text[length - 1 :],
                return_index=True,
                return_inverse=True,
                return_counts=True,
            )
            keys.append(distinct)
            ends.append(shorter[first + 1])
        orders = []
        for n, grams in enumerate(keys):
            # Of all but the longest not how often it occurs, but how many tokens stand before it.
            weights = np.bincount(ends[n + 1], minlength=len(grams)) if n + 1 < order else counts
            orders.append(_discounted(grams, weights, vocab_size, len(keys[n - 1]) if n else 1))
        return cls(vocab_size, tuple(orders))

    def log_probabilities(self, rows: Int[np.ndarray, "rows length"]) -> Float64[np.ndarray, "rows length"]:
        """Natural logarithm of the probability of each token, given those before it in its row."""
        rows = np.asarray(rows, np.int64)
        if rows.size and (rows.min() < 0 or rows.max() >= self.vocab_size):
            raise ValueError(f"tokens from {rows.min()} to {rows.max()} in a vocabulary of {self.vocab_size}")
        found = np.full(rows.shape, 1.0 / self.vocab_size)
        contexts = np.zeros_like(rows)  # number of the tokens before each place; the empty text is 0
        for order in self.orders:
            known = contexts >= 0
            grams = np.where(known, order.find(contexts * self.vocab_size + rows), -1)
            left = np.where(known, order.left[contexts], 1.0)
            found = left * found + np.where(grams >= 0, order.share[grams], 0.0)
            # The next order's contexts end one place earlier than these n-grams do.
            contexts = np.concatenate([np.full((len(rows), 1), -1), grams[:, :-1]], axis=1)
        return np.log(found)


def _discounted(
    keys: Int64[np.ndarray, " grams"], counts: Int[np.ndarray, " grams"], vocab_size: int, contexts: int
) -> Order:
    context = keys // vocab_size
    discounts = _discounts(counts)[np.minimum(counts, 3)]
    total = np.bincount(context, counts, minlength=contexts)
    taken = np.bincount(context, np.where(counts > 0, discounts, 0.0), minlength=contexts)
    seen = total > 0
    left = np.divide(taken, total, out=np.ones(contexts), where=seen)
    share = np.divide(np.maximum(counts - discounts, 0.0), total[context], out=np.zeros(len(keys)), where=seen[context])
    return Order(keys, share, left)


def _discounts(counts: Int[np.ndarray, " grams"]) -> Float64[np.ndarray, "4"]:
    """What is taken from counts of 0, 1, 2, and 3 or more (Chen & Goodman, equation 26); of a text too small to say, ½, 1, 1½."""
    one, two, three, four = (int((counts == n).sum()) for n in range(1, 5))
    if one and two and three:
        y = one / (one + 2 * two)
        found = np.array([0.0, 1 - 2 * y * two / one, 2 - 3 * y * three / two, 3 - 4 * y * four / three])
        if (found[1:] > 0).all():
            return found
    return np.array([0.0, 0.5, 1.0, 1.5])
