"""Next-sentence prediction: does the second segment follow the first, or does it come from elsewhere?

Devlin et al., "BERT", 2018, arXiv 1810.04805, section 3.1 (task 2); the pairing after the released
`create_pretraining_data.py`. The walk through a document, with unused sentences put back, is the data source's affair
(`data.windows`): here one window of text becomes one pair.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from objectives.objective import Example, Losses, Objective, ObjectiveError, accuracy, cross_entropy

IS_NEXT, IS_RANDOM = 0, 1


@dataclasses.dataclass(frozen=True)
class NextSentence(Objective):
    """Lays out `[CLS] A [SEP] B [SEP]`, where B follows A in the text or was drawn from another document.

    Attributes:
        random_rate: share of pairs whose B is drawn from elsewhere; always, where the text has one sentence only.
        short_rate: share of examples that aim at a random shorter length.
    """

    reads: ClassVar[tuple[str, ...]] = ("input_ids", "tokens", "sentence_ids", "other_tokens", "other_sentence_ids")
    writes: ClassVar[tuple[str, ...]] = (
        "input_ids",
        "token_type_ids",
        "attention_mask",
        "special_tokens_mask",
        "next_sentence_label",
    )
    asks: ClassVar[tuple[tuple[str, ...], ...]] = (("seq_relationship_logits", "logits"),)
    arranges: ClassVar[bool] = True

    random_rate: float = 0.5
    short_rate: float = 0.1
    vocabulary: Any = dataclasses.field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("random_rate", "short_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ObjectiveError(f"{name}={getattr(self, name)}: a share must lie in [0, 1]")

    def bind(self, vocabulary: Any) -> "NextSentence":
        return dataclasses.replace(self, vocabulary=vocabulary)

    def corrupt(self, key: Key[Array, ""], example: Example) -> Example:
        """The pair, as long as `input_ids` was; `tokens` and `other_tokens` are the two windows it is made from.

        `sentence_ids` number the sentences of a window from 0, -1 where it has ended.
        """
        (length,) = example["input_ids"].shape
        most = length - 3
        keys = jax.random.split(key, 6)
        short = jax.random.uniform(keys[0]) < self.short_rate
        target = jnp.where(short, jax.random.randint(keys[1], (), 2, most + 1), most)

        sentences, others = example["sentence_ids"], example["other_sentence_ids"]
        last = _sentence_reaching(sentences, target)
        cut = jnp.where(last > 0, jax.random.randint(keys[2], (), 1, jnp.maximum(last, 1) + 1), 1)
        length_a = _tokens_before(sentences, cut)
        is_random = (last == 0) | (jax.random.uniform(keys[3]) < self.random_rate)
        length_b = jnp.where(
            is_random,
            _tokens_before(others, _sentence_reaching(others, target - length_a) + 1),
            _tokens_before(sentences, last + 1) - length_a,
        )
        begin_b = jnp.where(is_random, 0, length_a)

        drop_a, drop_b = _excess(length_a, length_b, most)
        front_a = _heads(keys[4], drop_a, len(sentences))
        front_b = _heads(keys[5], drop_b, len(sentences))
        begin_a, begin_b = front_a, begin_b + front_b
        length_a, length_b = length_a - drop_a, length_b - drop_b

        place = jnp.arange(length)
        in_a = (place >= 1) & (place <= length_a)
        in_b = (place >= length_a + 2) & (place <= length_a + length_b + 1)
        separator = (place == length_a + 1) | (place == length_a + length_b + 2)
        at_a = jnp.clip(place - 1 + begin_a, 0, len(sentences) - 1)
        at_b = jnp.clip(place - length_a - 2 + begin_b, 0, len(sentences) - 1)
        second = jnp.where(is_random, example["other_tokens"][at_b], example["tokens"][at_b])
        input_ids = jnp.select(
            [place == 0, in_a, separator, in_b],
            [self.vocabulary.cls, example["tokens"][at_a], self.vocabulary.sep, second],
            self.vocabulary.pad,
        )
        integer = example["input_ids"].dtype
        used = place <= length_a + length_b + 2
        return {
            **example,
            "input_ids": input_ids.astype(integer),
            "token_type_ids": ((place > length_a + 1) & used).astype(integer),
            "attention_mask": used.astype(integer),
            "special_tokens_mask": (~in_a & ~in_b).astype(integer),
            "next_sentence_label": jnp.where(is_random, IS_RANDOM, IS_NEXT),
        }

    def loss(self, outputs: Mapping[str, Array], batch: Example) -> Losses:
        """Cross-entropy of "follows" (0) against "drawn from elsewhere" (1)."""
        return {"next_sentence_loss": cross_entropy(self.output(outputs), batch["next_sentence_label"])}

    def metrics(self, outputs: Mapping[str, Array], batch: Example) -> Losses:
        return {"next_sentence_accuracy": accuracy(self.output(outputs), batch["next_sentence_label"])}


def _sentence_reaching(sentence_ids: Int[Array, " window"], target: Int[Array, ""]) -> Int[Array, ""]:
    """The first sentence at whose end there are at least `target` tokens, the last one where there are fewer."""
    at_target = sentence_ids[jnp.clip(target - 1, 0, len(sentence_ids) - 1)]
    return jnp.where(at_target < 0, sentence_ids.max(), at_target)


def _tokens_before(sentence_ids: Int[Array, " window"], sentence: Int[Array, ""]) -> Int[Array, ""]:
    """How many tokens the sentences before `sentence` have."""
    return ((sentence_ids >= 0) & (sentence_ids < sentence)).sum()


def _excess(length_a: Int[Array, ""], length_b: Int[Array, ""], most: int) -> tuple[Int[Array, ""], Int[Array, ""]]:
    """How many tokens each side loses when the longer one (B where equal) loses one until both fit `most`."""
    excess = jnp.maximum(length_a + length_b - most, 0)
    # First the longer side alone comes down to the other; from there on B and A take turns, B first.
    alone = jnp.minimum(excess, jnp.abs(length_a - length_b))
    rest = excess - alone
    drop_b = jnp.where(length_b > length_a, alone, 0) + (rest + 1) // 2
    return excess - drop_b, drop_b


def _heads(key: Key[Array, ""], count: Int[Array, ""], most: int) -> Int[Array, ""]:
    """Heads in `count` tosses of a fair coin (at most `most`): tokens dropped from the front rather than the back."""
    return (jax.random.bernoulli(key, 0.5, (most,)) & (jnp.arange(most) < count)).sum()
