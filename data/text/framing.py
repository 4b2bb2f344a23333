"""Which special tokens stand before, between and behind texts: what a tokenizer's template says, read off in one place.

Training, prompts, the sources of translators, pipelines and exported files all frame texts by this. Radford et al., 2019 (GPT-2:
nothing around a text); Devlin et al., 2018, arXiv 1810.04805 (BERT); Lewis et al., 2019, arXiv 1910.13461 (BART); Raffel et al.,
2019, arXiv 1910.10683 (T5); Liu et al., 2020, arXiv 2001.08210 (mBART).
"""

import dataclasses
import re
from collections.abc import Collection, Sequence

from tokenizers import Tokenizer

from data.errors import DataError

CODE = re.compile(r"[a-z]{2,3}_([A-Z]{2}|[A-Z][a-z]{3})")
"""A token that is a language: mBART's `fr_XX`."""

PROBES = ("a", "1", ".", "the")
"""Texts of which any tokenizer makes a token of at least one."""


@dataclasses.dataclass(frozen=True)
class Framing:
    """The special tokens around texts, as tuples of ids.

    Attributes:
        begin: before a text.
        end: behind it.
        pair_begin: before the first of two texts.
        between: between the two.
        pair_end: behind the second.
        second_type: the token type of the second text and of what ends it; all before is of type 0.
    """

    begin: tuple[int, ...] = ()
    end: tuple[int, ...] = ()
    pair_begin: tuple[int, ...] = ()
    between: tuple[int, ...] = ()
    pair_end: tuple[int, ...] = ()
    second_type: int = 0

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "Framing":
        """What the template (post-processor) of `tokenizer` puts around a text, and around two.

        Raises:
            DataError: the tokenizer makes no token of any text.
        """
        probe = next((text for text in PROBES if tokenizer.encode(text, add_special_tokens=False).ids), None)
        if probe is None:
            probe = next(
                (t for t in sorted(tokenizer.get_vocab()) if tokenizer.encode(t, add_special_tokens=False).ids), None
            )
        if probe is None:
            raise DataError("the tokenizer makes no token of any text: take another")
        begin, end = _runs(tokenizer.encode(probe), texts=1)
        pair = tokenizer.encode(probe, probe)
        pair_begin, between, pair_end = _runs(pair, texts=2)
        types = [kind for kind, text in zip(pair.type_ids, pair.sequence_ids, strict=True) if text == 1]
        return cls(begin, end, pair_begin, between, pair_end, types[0])

    @property
    def count(self) -> int:
        """Special tokens around a text."""
        return len(self.begin) + len(self.end)

    @property
    def pair_count(self) -> int:
        """Special tokens around two texts."""
        return len(self.pair_begin) + len(self.between) + len(self.pair_end)

    def text(self, ids: Sequence[int], longest: int | None = None) -> list[int]:
        """A text as an encoder reads it; one longer than `longest` loses its last tokens, never what stands around it.

        Raises:
            DataError: `longest` has no room for a token.
        """
        if longest is not None and longest <= self.count:
            raise DataError(f"{longest} tokens have no room for a text: {self.count} stand around it")
        kept = ids if longest is None else ids[: longest - self.count]
        return [*self.begin, *kept, *self.end]

    def pair(self, first: Sequence[int], second: Sequence[int]) -> list[int]:
        """Two texts as an encoder reads them."""
        return [*self.pair_begin, *first, *self.between, *second, *self.pair_end]

    def pair_types(self, first: int, second: int) -> list[int]:
        """The token type of each token of a `pair` of so many tokens."""
        before = len(self.pair_begin) + first + len(self.between)
        return [0] * before + [self.second_type] * (second + len(self.pair_end))

    def in_language(self, language: int, languages: Collection[int]) -> "Framing":
        """The same with another language, where one of `languages` stands beside a text, as mBART has it.

        Raises:
            DataError: none does.
        """
        if not {*self.begin, *self.end} & {*languages}:
            raise DataError("the tokenizer puts no language beside a text: give its tokenizer_config.json a src_lang")
        begin, end = (tuple(language if one in languages else one for one in part) for part in (self.begin, self.end))
        return dataclasses.replace(self, begin=begin, end=end)

    def prompt(self, ids: Sequence[int]) -> list[int]:
        """A text that is to be gone on with: what begins it stands before, and nothing behind."""
        return [*self.begin, *ids]

    def document_end(self, eos: int) -> tuple[int, ...]:
        """What ends a document among others in packed text: as the template says, or `eos` where that says nothing."""
        return self.end or (eos,)


def _runs(encoding, *, texts: int) -> list[tuple[int, ...]]:
    """The ids before, between and behind the tokens of so many texts."""
    runs: list[list[int]] = [[] for _ in range(texts + 1)]
    place = 0
    for token, sequence in zip(encoding.ids, encoding.sequence_ids, strict=True):
        if sequence is None:
            runs[place].append(token)
        else:
            place = sequence + 1
    return [tuple(run) for run in runs]
