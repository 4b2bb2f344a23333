"""BART's denoising: a text is corrupted in up to five ways, and the decoder writes the original.

Lewis et al., "BART: Denoising Sequence-to-Sequence Pre-training", 2019, arXiv 1910.13461, section 2.2; the draws after the
released `denoising_dataset.py` of fairseq. Liu et al., "Multilingual Denoising Pre-training" (mBART), 2020, arXiv
2001.08210, section 2.2.
"""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Key

from objectives.draws import choose, poisson, shuffled
from objectives.losses import IGNORED
from objectives.objective import Example, ObjectiveError
from objectives.text.seq2seq import DENOISED, Seq2Seq

SPARE_DRAWS = 16
"""Spans drawn beyond the budget, for those of length zero: with a mean of 3 they fall short once in 10²⁰ texts."""


@dataclasses.dataclass(frozen=True)
class Infilling(Seq2Seq):
    """Text infilling and sentence permutation, as BART was released; the paper's other corruptions are switches.

    Those that are on are applied one to the outcome of the other, in this order: sentences, masks, deletions, infilling,
    rotation. Inputs and labels are framed as the tokenizer frames a text: of BART a window of `length - 2` tokens gives
    `length` inputs `<s> corrupted text </s>` and as many labels `<s> text </s>`; of mBART `text </s> language`. The decoder
    reads first what the labels end with.

    Attributes:
        permute_sentences: put the sentences into a random order, each as likely as any other.
        mask_rate: fraction of the tokens shown as `<mask>` (token masking).
        delete_rate: fraction of the tokens left out (token deletion).
        infill_rate: budget of text infilling, a fraction of the words, rounded up. Spans begin at random words, no two at
            the same; each is replaced by one `<mask>`; one that reaches another's start swallows its `<mask>`, and one that
            reaches the end of the text stops there, so that somewhat less than the budget is hidden.
        mean_span: of their lengths, Poisson(`mean_span`), drawn until their sum reaches the budget and the last one cut to
            meet it. One of length zero is a `<mask>` inserted at a random place, unless the inputs are full: no token of
            the text is ever lost to it.
        random_rate: fraction of the `<mask>`s shown as a token drawn uniformly from the vocabulary.
        rotate_rate: fraction of the texts that are rotated, to begin with any of their tokens (document rotation).
        whole_word: lengths count words and spans begin with one, as released; otherwise tokens.
    """

    reads: ClassVar[tuple[str, ...]] = ("tokens", "sentence_ids")
    writes: ClassVar[tuple[str, ...]] = DENOISED

    start: str = "last"
    permute_sentences: bool = True
    mask_rate: float = 0.0
    delete_rate: float = 0.0
    infill_rate: float = 0.3
    mean_span: float = 3.0
    random_rate: float = 0.0
    rotate_rate: float = 0.0
    whole_word: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_fractions("mask_rate", "delete_rate", "infill_rate", "random_rate", "rotate_rate")
        if self.mean_span < 1:
            raise ObjectiveError(f"mean_span={self.mean_span}: spans must have a word on average")

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(dict.fromkeys((*super().needs, "eos", "mask")))

    @property
    def edges(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """What stands before and behind a text; behind it at least what ends one, for a decoder to learn."""
        framing = self.vocabulary.framing
        return framing.begin, framing.end or (self.vocabulary.eos,)

    def length_read(self, length: int) -> int:
        around = sum(map(len, self.edges))
        if length <= around:
            raise ObjectiveError(f"{length} tokens have no room for a text and the {around} that stand around it")
        return length - around

    def corrupt(self, key: Key[Array, ""], example: Example) -> Example:
        """Adds `input_ids`, `attention_mask`, `labels`, `decoder_input_ids` and `decoder_attention_mask` (length,).

        `sentence_ids` number the sentences from 0, -1 where the text has ended.
        """
        tokens, sentence_ids = example["tokens"], example["sentence_ids"]
        size = (sentence_ids >= 0).sum(dtype=jnp.int32)
        labels, asked = self._frame(tokens, size)
        keys = jax.random.split(key, 5)
        starts = self._word_starts(tokens, sentence_ids)
        if self.permute_sentences:
            tokens, starts = _permute(keys[0], tokens, starts, sentence_ids)
        present = jnp.arange(len(tokens)) < size
        if self.mask_rate:
            hidden = choose(keys[1], present, _share(size, self.mask_rate, len(tokens)))
            tokens = jnp.where(hidden, self._masks(keys[1], len(tokens), tokens.dtype), tokens)
        if self.delete_rate:
            kept = present & ~choose(keys[2], present, _share(size, self.delete_rate, len(tokens)))
            tokens, starts = _squeeze(tokens, kept), _squeeze(starts, kept)
            size = kept.sum(dtype=jnp.int32)
        if self.infill_rate:
            tokens, size = self._infill(keys[3], tokens, starts, size)
        if self.rotate_rate:
            whether, where = jax.random.split(keys[4])
            begin = jax.random.randint(where, (), 0, jnp.maximum(size, 1))
            begin = jnp.where(jax.random.uniform(whether) < self.rotate_rate, begin, 0)
            tokens = tokens[(jnp.arange(len(tokens)) + begin) % jnp.maximum(size, 1)]
        input_ids, used = self._frame(tokens, size)
        return {
            **example,
            "input_ids": jnp.where(used, input_ids, self.vocabulary.pad),
            "attention_mask": used.astype(tokens.dtype),
            **self.teach(jnp.where(asked & (sentence_ids[0] >= 0), labels, IGNORED), self.start_id),
        }

    def _frame(
        self, tokens: Int[Array, " window"], size: Int[Array, ""]
    ) -> tuple[Int[Array, " length"], Bool[Array, " length"]]:
        """The first `size` tokens with what begins and ends a text, and which places they take."""
        begin, end = (jnp.asarray(edge, tokens.dtype) for edge in self.edges)
        framed = jnp.concatenate([begin, tokens, end])
        behind = jnp.arange(len(framed)) - len(begin) - size
        framed = jnp.where(behind >= 0, end[jnp.clip(behind, 0, len(end) - 1)], framed)
        return framed, behind < len(end)

    def _word_starts(
        self, tokens: Int[Array, " window"], sentence_ids: Int[Array, " window"]
    ) -> Bool[Array, " window"]:
        """Where a word begins; a sentence always begins with one."""
        if not self.whole_word:
            return jnp.ones(len(tokens), bool)
        begins = jnp.concatenate([jnp.array([True]), sentence_ids[1:] != sentence_ids[:-1]])
        return jnp.asarray(self.vocabulary.starts_word)[tokens] | begins

    def _masks(self, key: Key[Array, ""], count: int, dtype: jnp.dtype) -> Int[Array, " count"]:
        """What is shown in the place of tokens that are hidden."""
        if not self.random_rate:
            return jnp.full(count, self.vocabulary.mask, dtype)
        whether, which = jax.random.split(jax.random.fold_in(key, 1))
        random_tokens = jax.random.randint(which, (count,), 0, self.vocabulary.size, dtype)
        return jnp.where(jax.random.uniform(whether, (count,)) < self.random_rate, random_tokens, self.vocabulary.mask)

    def _infill(
        self, key: Key[Array, ""], tokens: Int[Array, " window"], starts: Bool[Array, " window"], size: Int[Array, ""]
    ) -> tuple[Int[Array, " window"], Int[Array, ""]]:
        """The text with spans of words replaced by one `<mask>` each, and its size."""
        (window,) = tokens.shape
        length_key, start_key, insert_key = jax.random.split(key, 3)
        place = jnp.arange(window)
        starts = (starts & (place < size)) | ((place == 0) & (size > 0))
        word = jnp.cumsum(starts) - 1
        words = starts.sum(dtype=jnp.int32)
        budget = _share(words, self.infill_rate, window)

        draws = math.ceil(window * self.infill_rate) + SPARE_DRAWS
        lengths = poisson(length_key, self.mean_span, draws)
        before = jnp.cumsum(lengths) - lengths
        drawn = before < budget
        # The last one is cut to the budget, and should chance fall short of it, the last draw of all makes up for that.
        lengths = jnp.where(jnp.arange(draws) == draws - 1, budget, lengths)
        lengths = jnp.where(drawn, jnp.minimum(lengths, budget - before), 0)
        inserted = (drawn & (lengths == 0)).sum(dtype=jnp.int32)

        first = shuffled(start_key, place < words)
        spans = jnp.cumsum(lengths > 0) - 1
        begins = jnp.zeros(window, bool).at[_where(lengths > 0, first, spans, window)].set(True, mode="drop")
        ends = jnp.zeros(window, jnp.int32)
        ends = ends.at[_where(lengths > 0, first, spans, window)].set(lengths, mode="drop")
        ends = jnp.where(begins, place + ends, 0)
        reached = jnp.concatenate([jnp.zeros(1, jnp.int32), jax.lax.cummax(ends)[:-1]])
        swallowed = reached > place
        hides, shows = begins | swallowed, begins & ~swallowed

        mask_key = jax.random.fold_in(key, 2)
        masks = self._masks(mask_key, window, tokens.dtype)
        masked = starts & shows[word]
        kept = (place < size) & (~hides[word] | masked)
        tokens = _squeeze(jnp.where(masked, masks, tokens), kept)
        size = kept.sum(dtype=jnp.int32)

        inserted = jnp.minimum(inserted, window - size)
        new = choose(insert_key, place < size + inserted, inserted)
        masks = self._masks(jax.random.fold_in(mask_key, 3), window, tokens.dtype)
        return jnp.where(new, masks, tokens[jnp.maximum(jnp.cumsum(~new) - 1, 0)]), size + inserted


def _share(size: Int[Array, ""], rate: float, most: int) -> Int[Array, ""]:
    """`rate` of `size` (at most `most`), rounded up."""
    return jnp.asarray([math.ceil(n * rate - 1e-9) for n in range(most + 1)], jnp.int32)[size]


def _where(chosen, places, rank, beyond: int):
    """The `rank`-th of `places` where `chosen`, else `beyond`, which a scatter drops."""
    return jnp.where(chosen, places[jnp.clip(rank, 0, len(places) - 1)], beyond)


def _squeeze(values: Array, kept: Bool[Array, " window"]) -> Array:
    """The values that are kept, moved together to the front; zeros behind them."""
    place = jnp.where(kept, jnp.cumsum(kept) - 1, len(values))
    return jnp.zeros_like(values).at[place].set(values, mode="drop")


def _permute(
    key: Key[Array, ""],
    tokens: Int[Array, " window"],
    starts: Bool[Array, " window"],
    sentence_ids: Int[Array, " window"],
) -> tuple[Int[Array, " window"], Bool[Array, " window"]]:
    """Tokens and word starts with the sentences in random order."""
    (window,) = tokens.shape
    place = jnp.arange(window)
    present = sentence_ids >= 0
    sizes = jnp.zeros(window, jnp.int32).at[jnp.where(present, sentence_ids, window)].add(1, mode="drop")
    order = shuffled(key, sizes > 0)
    ordered = sizes[order]
    begins = jnp.zeros(window, jnp.int32).at[order].set(jnp.cumsum(ordered) - ordered)
    shift = begins - (jnp.cumsum(sizes) - sizes)
    place = jnp.where(present, place + shift[jnp.maximum(sentence_ids, 0)], place)
    return tokens.at[place].set(tokens), starts.at[place].set(starts)
