"""Masked language modelling: hide a fraction of the tokens and ask for them back.

Devlin et al., "BERT", 2018, arXiv 1810.04805, section 3.1 (task 1) and appendix A.1; the counts, the candidates and the
whole-word variant after the released `create_pretraining_data.py`.
"""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Key

from objectives.label_loss import LabelLoss
from objectives.losses import IGNORED
from objectives.objective import Example, ObjectiveError


@dataclasses.dataclass(frozen=True)
class MaskedLM(LabelLoss):
    """15 % of the tokens are chosen again each time an example is seen; the model predicts the originals at those alone.

    Attributes:
        rate: fraction of the tokens to choose, special ones counted but never chosen; at least one is.
        mask_rate: of the chosen, the fraction shown as [MASK].
        random_rate: of the chosen, the fraction shown as a token drawn uniformly from the vocabulary; the rest stay.
        max_predictions: most tokens chosen in an example, and the static number of prediction slots; rate times the
            length, rounded up, where `None` (20 for 128 tokens, 77 for 512).
        whole_word: choose words, and with a word all its pieces.
    """

    reads: ClassVar[tuple[str, ...]] = ("input_ids", "special_tokens_mask")
    writes: ClassVar[tuple[str, ...]] = ("input_ids", "masked_positions", "labels")
    takes: ClassVar[tuple[str, ...]] = ("input_ids", "masked_positions")
    asks: ClassVar[tuple[tuple[str, ...], ...]] = (("prediction_logits", "logits"),)
    loss_name: ClassVar[str] = "masked_lm_loss"
    accuracy_name: ClassVar[str] = "masked_accuracy"
    needs: ClassVar[tuple[str, ...]] = ("mask",)

    rate: float = 0.15
    mask_rate: float = 0.8
    random_rate: float = 0.1
    max_predictions: int | None = None
    whole_word: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 1:
            raise ObjectiveError(f"rate={self.rate}: the fraction of masked tokens must lie in (0, 1]")
        if min(self.mask_rate, self.random_rate) < 0 or self.mask_rate + self.random_rate > 1:
            raise ObjectiveError(f"mask_rate={self.mask_rate} and random_rate={self.random_rate} must be shares of one")
        if self.max_predictions is not None and self.max_predictions < 1:
            raise ObjectiveError(f"max_predictions={self.max_predictions}: at least one slot is needed")

    def slots(self, length: int) -> int:
        """The static number of prediction slots of an example of `length` tokens."""
        return min(length, math.ceil(length * self.rate) if self.max_predictions is None else self.max_predictions)

    def corrupt(self, key: Key[Array, ""], example: Example) -> Example:
        """Adds `masked_positions` (slots,), ascending, and their `labels`, `IGNORED` in slots left over."""
        input_ids, special = example["input_ids"], example["special_tokens_mask"] > 0
        (length,) = input_ids.shape
        choose_key, replace_key, token_key = jax.random.split(key, 3)
        # The released code counts [CLS] and [SEP], but not padding, into the length that the rate applies to.
        tokens = length if "attention_mask" not in example else example["attention_mask"].sum()
        slots = self.slots(length)
        wanted = jnp.asarray([min(slots, max(1, round(n * self.rate))) for n in range(length + 1)])[tokens]
        choose = self._choose_words if self.whole_word else self._choose_tokens
        chosen = choose(choose_key, input_ids, ~special, wanted)

        positions = jnp.sort(jnp.where(chosen, jnp.arange(length), length))[:slots]
        asked = positions < length
        positions = jnp.where(asked, positions, 0)
        originals = input_ids[positions]
        draw = jax.random.uniform(replace_key, (slots,))
        random_tokens = jax.random.randint(token_key, (slots,), 0, self.vocabulary.size)
        shown = jnp.where(
            draw < self.mask_rate,
            self.vocabulary.mask,
            jnp.where(draw < self.mask_rate + self.random_rate, random_tokens, originals),
        )
        return {
            **example,
            "input_ids": input_ids.at[jnp.where(asked, positions, length)].set(shown, mode="drop"),
            "masked_positions": positions,
            "labels": jnp.where(asked, originals, IGNORED),
        }

    def _choose_tokens(
        self, key: Key[Array, ""], input_ids: Int[Array, " length"], candidate: Bool[Array, " length"], wanted
    ) -> Bool[Array, " length"]:
        """`wanted` of the candidates, each set of them as likely as any other."""
        order = jnp.argsort(jnp.where(candidate, jax.random.uniform(key, input_ids.shape), jnp.inf))
        rank = jnp.zeros_like(input_ids).at[order].set(jnp.arange(len(input_ids), dtype=input_ids.dtype))
        return candidate & (rank < wanted)

    def _choose_words(
        self, key: Key[Array, ""], input_ids: Int[Array, " length"], candidate: Bool[Array, " length"], wanted
    ) -> Bool[Array, " length"]:
        """Words in random order, each taken whole unless it would pass `wanted`."""
        (length,) = input_ids.shape
        starts = jnp.asarray(self.vocabulary.starts_word)[input_ids]
        # A piece that follows no piece of its own word (cut off by truncation or [SEP]) begins a word.
        starts |= jnp.concatenate([jnp.array([True]), ~candidate[:-1]])
        word = jnp.cumsum(starts & candidate) - 1
        sizes = jnp.zeros(length, jnp.int32).at[jnp.where(candidate, word, length)].add(1, mode="drop")
        order = jnp.argsort(jnp.where(sizes > 0, jax.random.uniform(key, (length,)), jnp.inf))

        def take(count: Int[Array, ""], size: Int[Array, ""]):
            fits = (size > 0) & (count + size <= wanted)
            return count + jnp.where(fits, size, 0), fits

        _, taken = jax.lax.scan(take, jnp.zeros((), jnp.int32), sizes[order])
        return candidate & jnp.zeros(length, bool).at[order].set(taken)[word]
