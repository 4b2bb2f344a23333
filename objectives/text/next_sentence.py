"""Next-sentence prediction: does the second segment follow the first, or does it come from elsewhere?

Devlin et al., "BERT", 2018, arXiv 1810.04805, section 3.1 (task 2); the pairing after the released
`create_pretraining_data.py`. The walk through a document, with unused sentences put back, is the data source's affair
(`data.text.windows`): here one window of text becomes one pair.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from objectives.label_loss import LabelLoss
from objectives.losses import two_classes
from objectives.objective import Example, ObjectiveError
from objectives.text.segments import WRITES, Segment, lay_out, sentence_reaching, target_length, tokens_before

IS_NEXT, IS_RANDOM = 0, 1


@dataclasses.dataclass(frozen=True)
class NextSentence(LabelLoss):
    """Lays out `[CLS] A [SEP] B [SEP]`, where B follows A in the text or was drawn from another document.

    What stands around the two is what the tokenizer puts there, here BERT's.

    Attributes:
        random_rate: fraction of pairs whose B is drawn from elsewhere; always, where the text has one sentence only.
        short_rate: fraction of examples that aim at a random shorter length.
        weight: of the loss, which is reported as weighted; published: 1.
    """

    reads: ClassVar[tuple[str, ...]] = ("input_ids", "tokens", "sentence_ids", "other_tokens", "other_sentence_ids")
    writes: ClassVar[tuple[str, ...]] = (*WRITES, "next_sentence_label")
    takes: ClassVar[tuple[str, ...]] = ("input_ids", "token_type_ids")
    asks: ClassVar[tuple[tuple[str, ...], ...]] = (("seq_relationship_logits", "logits"),)
    loss_name: ClassVar[str] = "next_sentence_loss"
    accuracy_name: ClassVar[str] = "next_sentence_accuracy"
    answer: ClassVar[str] = "next_sentence_label"
    needs: ClassVar[tuple[str, ...]] = ("pad", "cls", "sep")
    arranges: ClassVar[bool] = True

    random_rate: float = 0.5
    short_rate: float = 0.1
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.weight < 0:
            raise ObjectiveError(f"weight={self.weight} of the loss: expected 0 or more")
        self._check_fractions("random_rate", "short_rate")

    def length_read(self, length: int) -> int:
        return 2 * length

    def corrupt(self, key: Key[Array, ""], example: Example) -> Example:
        """The pair, as long as `input_ids` was; `tokens` and `other_tokens` are the two windows it is made from.

        `sentence_ids` number the sentences of a window from 0, -1 where it has ended.
        """
        (length,) = example["input_ids"].shape
        keys = jax.random.split(key, 6)
        target = target_length(keys[0], keys[1], length - self.vocabulary.framing.pair_count, self.short_rate)
        sentences, others = example["sentence_ids"], example["other_sentence_ids"]
        last = sentence_reaching(sentences, target)
        cut = jnp.where(last > 0, jax.random.randint(keys[2], (), 1, jnp.maximum(last, 1) + 1), 1)
        length_a = tokens_before(sentences, cut)
        is_random = (last == 0) | (jax.random.uniform(keys[3]) < self.random_rate)
        length_b = jnp.where(
            is_random,
            tokens_before(others, sentence_reaching(others, target - length_a) + 1),
            tokens_before(sentences, last + 1) - length_a,
        )
        first = Segment(example["tokens"], jnp.zeros_like(length_a), length_a)
        second = jnp.where(is_random, example["other_tokens"], example["tokens"])
        return {
            **example,
            **lay_out(
                (keys[4], keys[5]),
                self.vocabulary,
                length,
                first,
                Segment(second, jnp.where(is_random, 0, length_a), length_b),
            ),
            "next_sentence_label": jnp.where(is_random, IS_RANDOM, IS_NEXT),
        }

    @property
    def factor(self) -> float:  # type: ignore[override]
        return self.weight

    def logits(self, outputs: Mapping[str, Any]) -> Array:
        """Of "follows" (0) and "drawn from elsewhere" (1)."""
        return two_classes(self.output(outputs))
