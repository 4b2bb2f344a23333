"""Sentence-order prediction: two consecutive segments, in their order or swapped?

Lan et al., "ALBERT: A Lite BERT for Self-supervised Learning of Language Representations", 2019, arXiv 1909.11942, section
3.1 (inter-sentence coherence loss); segments as BERT's.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from objectives.label_loss import LabelLoss
from objectives.losses import IGNORED, two_classes
from objectives.objective import Example
from objectives.text.segments import WRITES, Segment, lay_out, sentence_reaching, target_length, tokens_before

IN_ORDER, SWAPPED = 0, 1


@dataclasses.dataclass(frozen=True)
class SentenceOrder(LabelLoss):
    """Lays out `[CLS] A [SEP] B [SEP]`, where B follows A in the text, or A follows B.

    A text of one sentence is cut within it, at any token (the released code takes a segment of another document then,
    which topic alone gives away); one of a single token is A without B, and nothing is asked of it.

    Attributes:
        swap_rate: fraction of the pairs that are swapped.
        short_rate: fraction of examples that aim at a random shorter length.
    """

    reads: ClassVar[tuple[str, ...]] = ("input_ids", "tokens", "sentence_ids")
    writes: ClassVar[tuple[str, ...]] = (*WRITES, "sentence_order_label")
    takes: ClassVar[tuple[str, ...]] = ("input_ids", "token_type_ids")
    asks: ClassVar[tuple[tuple[str, ...], ...]] = (("sop_logits", "seq_relationship_logits", "logits"),)
    loss_name: ClassVar[str] = "sentence_order_loss"
    accuracy_name: ClassVar[str] = "sentence_order_accuracy"
    answer: ClassVar[str] = "sentence_order_label"
    needs: ClassVar[tuple[str, ...]] = ("pad", "cls", "sep")
    arranges: ClassVar[bool] = True

    swap_rate: float = 0.5
    short_rate: float = 0.1

    def __post_init__(self) -> None:
        self._check_fractions("swap_rate", "short_rate")

    def length_read(self, length: int) -> int:
        return 2 * length

    def corrupt(self, key: Key[Array, ""], example: Example) -> Example:
        """The pair, as long as `input_ids` was; `sentence_ids` number the sentences from 0, -1 where the text has ended."""
        (length,) = example["input_ids"].shape
        keys = jax.random.split(key, 6)
        tokens, sentences = example["tokens"], example["sentence_ids"]
        most = length - self.vocabulary.framing.pair_count
        last = sentence_reaching(sentences, target_length(keys[0], keys[1], most, self.short_rate))
        whole = tokens_before(sentences, last + 1)
        between = tokens_before(sentences, jax.random.randint(keys[2], (), 1, jnp.maximum(last, 1) + 1))
        within = jax.random.randint(keys[2], (), 1, jnp.maximum(whole, 2))
        cut = jnp.minimum(jnp.where(last > 0, between, within), whole)
        swapped = jax.random.uniform(keys[3]) < self.swap_rate
        begins, lengths = jnp.stack([jnp.zeros_like(cut), cut]), jnp.stack([cut, whole - cut])
        # Without a B there is nothing to swap, and nothing to ask.
        alone = cut == whole
        order = (swapped & ~alone).astype(jnp.int32)
        first = Segment(tokens, begins[order], lengths[order])
        second = Segment(tokens, begins[1 - order], lengths[1 - order])
        return {
            **example,
            **lay_out((keys[4], keys[5]), self.vocabulary, length, first, second),
            "sentence_order_label": jnp.where(alone, IGNORED, jnp.where(swapped, SWAPPED, IN_ORDER)),
        }

    def logits(self, outputs: Mapping[str, Any]) -> Array:
        """Of "in order" (0) and "swapped" (1)."""
        return two_classes(self.output(outputs))
