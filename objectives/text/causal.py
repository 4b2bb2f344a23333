"""Next-token prediction over packed text, with or without a prefix that is read in both directions.

Radford et al., "Improving Language Understanding by Generative Pre-Training", 2018, OpenAI report, equation 1. The prefix:
Raffel et al., "T5", 2019, arXiv 1910.10683, section 3.2.1; the S-denoiser of Tay et al., "UL2", 2022, arXiv 2205.05131.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Key

from objectives.label_loss import LabelLoss
from objectives.losses import IGNORED
from objectives.objective import Example, ObjectiveError


@dataclasses.dataclass(frozen=True)
class CausalLM(LabelLoss):
    """Every token is asked of those before it. A window of `length + 1` tokens gives `length` inputs and labels.

    Attributes:
        across_documents: attention and positions run through the whole window, and the first token of a document is asked
            of the last of the one before. Otherwise documents are separate: nothing of one is seen or asked in another.
        prefix_rate: fraction of the documents (of the windows, where they run on) that begin with a prefix read in both
            directions, of which nothing is asked; its end is drawn uniformly, and at least one token follows it.
    """

    reads: ClassVar[tuple[str, ...]] = ("tokens", "document_ids")
    causal: ClassVar[bool] = True
    asks: ClassVar[tuple[tuple[str, ...], ...]] = (("logits",),)
    loss_name: ClassVar[str] = "causal_lm_loss"
    accuracy_name: ClassVar[str] = "next_token_accuracy"
    overlap: ClassVar[int] = 1

    across_documents: bool = True
    prefix_rate: float = 0.0

    def __post_init__(self) -> None:
        self._check_fractions("prefix_rate")

    @property
    def takes(self) -> tuple[str, ...]:  # type: ignore[override]
        separate = () if self.across_documents else ("position_ids", "segment_ids")
        return ("input_ids", *separate, *(("prefix_mask",) if self.prefix_rate else ()))

    @property
    def writes(self) -> tuple[str, ...]:  # type: ignore[override]
        return (*self.takes, "labels", "attention_mask")

    def length_read(self, length: int) -> int:
        return length + 1

    def corrupt(self, key: Key[Array, ""], example: Example) -> Example:
        """Adds `input_ids`, `labels` and `attention_mask` (length,), and what separates documents and marks prefixes.

        `document_ids` are equal within a document and -1 where there is no token. `labels[t]` is the token that comes
        after `input_ids[t]`, so nothing need be shifted in the loss; `IGNORED` where there is none to ask for.
        """
        tokens, document_ids = example["tokens"], example["document_ids"]
        if len(tokens) < 2:
            raise ObjectiveError(f"{self!r} needs windows of at least two tokens, and was given {len(tokens)}")
        present = document_ids >= 0
        whole = jnp.where(present, 0, -1) if self.across_documents else document_ids
        begins = jnp.concatenate([jnp.array([True]), whole[1:] != whole[:-1]])
        asked = present[1:] & ~begins[1:]
        place = jnp.arange(len(tokens), dtype=jnp.int32)
        begin = jax.lax.cummax(jnp.where(begins, place, 0))
        seen = {**example, "input_ids": tokens[:-1], "attention_mask": present[:-1].astype(tokens.dtype)}
        if not self.across_documents:
            seen |= {"position_ids": (place - begin)[:-1], "segment_ids": document_ids[:-1]}
        if self.prefix_rate:
            prefix = self._prefix(key, begin)
            # The last token of a prefix sees nothing behind it, and is asked for what comes.
            asked &= ~prefix[1:]
            seen["prefix_mask"] = (prefix & present)[:-1].astype(tokens.dtype)
        return {**seen, "labels": jnp.where(asked, tokens[1:], IGNORED)}

    def _prefix(self, key: Key[Array, ""], begin: Int[Array, " window"]) -> Bool[Array, " window"]:
        """Which places belong to the prefix of their document, that begins at `begin`."""
        (window,) = begin.shape
        share_key, end_key = jax.random.split(key)
        size = jnp.zeros(window, jnp.int32).at[begin].add(1)
        end = 1 + jnp.floor(jax.random.uniform(end_key, (window,)) * (size - 1)).astype(jnp.int32)
        end = jnp.where(jax.random.uniform(share_key, (window,)) < self.prefix_rate, jnp.minimum(end, size - 1), 0)
        return jnp.arange(window) - begin < end[begin]
