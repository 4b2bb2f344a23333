"""A text from another: the decoder is fed the target, one place late, and asked for it token by token.

Sutskever, Vinyals, Le, "Sequence to Sequence Learning with Neural Networks", 2014, arXiv 1409.3215; the smoothed target of
Vaswani et al., "Attention Is All You Need", 2017, arXiv 1706.03762, section 5.4.
"""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from objectives.label_loss import LabelLoss
from objectives.losses import IGNORED
from objectives.objective import Example, ObjectiveError

DENOISED = ("input_ids", "attention_mask", "labels", "decoder_input_ids", "decoder_attention_mask")
"""What an objective writes that corrupts a text and asks for it back."""


@dataclasses.dataclass(frozen=True)
class Seq2Seq(LabelLoss):
    """Pairs of `input_ids` and `labels` as the data give them, the labels `IGNORED` behind their end.

    Attributes:
        start: what the decoder reads first, by its name in the vocabulary: `eos` for BART, `pad` for T5; `last` is the token
            that a framed text ends with: BART's `</s>`, mBART's language.
        label_smoothing: fraction of the target that is spread over the whole vocabulary.
    """

    reads: ClassVar[tuple[str, ...]] = ("input_ids", "labels")
    writes: ClassVar[tuple[str, ...]] = ("decoder_input_ids", "decoder_attention_mask")
    takes: ClassVar[tuple[str, ...]] = ("input_ids", "decoder_input_ids")
    asks: ClassVar[tuple[tuple[str, ...], ...]] = (("logits",),)
    loss_name: ClassVar[str] = "seq2seq_loss"
    accuracy_name: ClassVar[str] = "target_accuracy"

    start: str = "eos"
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ObjectiveError(f"label_smoothing={self.label_smoothing}: a fraction must lie in [0, 1)")

    @property
    def smoothing(self) -> float:  # type: ignore[override]
        return self.label_smoothing

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(dict.fromkeys(("pad", "eos" if self.start == "last" else self.start)))

    @property
    def start_id(self) -> int:
        """The id of what the decoder reads first."""
        if self.start == "last":
            return (self.vocabulary.framing.end or (self.vocabulary.eos,))[-1]
        return getattr(self.vocabulary, self.start)

    def corrupt(self, key: Key[Array, ""], example: Example) -> Example:
        """Adds `decoder_input_ids`, the labels one place late, and `decoder_attention_mask`, both as long as `labels`."""
        return {**example, **self.teach(example["labels"], self.start_id)}

    def teach(self, labels: Int[Array, " target"], start: int) -> Example:
        """`labels`, and what a decoder reads that is asked for them."""
        return {
            "labels": labels,
            "decoder_input_ids": shift_right(labels, start, self.vocabulary.pad),
            "decoder_attention_mask": (labels != IGNORED).astype(labels.dtype),
        }


def shift_right(labels: Int[Array, " length"], start: int, pad: int) -> Int[Array, " length"]:
    """`start`, then the labels but the last; `pad` for those that are not asked."""
    shifted = jnp.roll(labels, 1).at[0].set(start)
    return jnp.where(shifted == IGNORED, pad, shifted)
