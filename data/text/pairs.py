"""Pairs of texts, to make the second of the first: translations, summaries. Read from tables or from TFDS."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from jaxtyping import Int64
from tokenizers import Tokenizer

from data.contents import Progress
from data.contract import Batch, Config, Examples
from data.errors import DataError
from data.forms import PairForm
from data.ragged import IGNORED
from data.splits import split_by_content
from data.survey import Survey, in_both, repeated, share_of, text_counts
from data.text.corpus import Corpus
from data.text.documents import Documents, Look, joined, string
from data.text.framing import CODE, Framing
from data.text.source import PreparedText, Text
from data.text.tables import Column, Columns, open_table
from data.text.tokenizer_files import load
from data.text.tokenizers import Vocabulary

SOURCE = "source_tokenizer.json"
"""The file of a tokenizer that sources alone have."""


@dataclasses.dataclass(frozen=True)
class Pairs(Text):
    """Where pairs of a source and a target come from; settings beside these are those of `Text`.

    Attributes:
        source: a `.tsv` or `.jsonl` file, a folder of them, or a TFDS name such as `wmt14_translate/de-en`.
        features: names of source and target: of columns (the first line of a `.tsv` has the names), of keys, of features.
        prefix: words before each source, by which T5 knows its task.
        languages: tokens of both languages where texts carry one, as mBART's: `ro_RO`, `en_XX`; else empty.
        source_vocab_size: of a tokenizer of the sources' own, trained on them; one for both sides where `None`.
        source_tokenizer: that one, where it is there already.
        training_split: of TFDS; empty for a source to evaluate on alone.
        held_out_split: of TFDS, the split that is held out, in the place of a share.
    """

    forms: ClassVar[type[PairForm]] = PairForm

    source: str = ""
    kind: str = "byte_bpe"
    features: tuple[str, str] = ("source", "target")
    prefix: str = ""
    languages: tuple[str, str] = ("", "")
    source_vocab_size: int | None = None
    source_tokenizer: str = ""
    training_split: str = "train"
    held_out_split: str = ""

    def prepare(
        self, size: int, folder: Path, say: Callable[[str], None], needs: Sequence[str] = ()
    ) -> "PreparedPairs":
        """Both sides → one tokenizer → two tokenised corpora; what is there already is taken."""
        say(f"opening {self.source}")
        sides, training, held_out = self._open(Look(cache=self.cache_folder, broken=self.broken, say=say))
        seen = training if len(training) else held_out
        own = None
        if self.source_vocab_size is not None:
            alone = dataclasses.replace(self, tokenizer=self.source_tokenizer, vocab_size=self.source_vocab_size)
            own = alone.prepare_tokenizer(sides[0], seen, size, (), say)
        places = [seen + len(sides[0])] if own else [seen, seen + len(sides[0])]
        tokenizer = self.prepare_tokenizer(joined(*sides), np.concatenate(places), size, needs, say)
        say(f"tokenising {len(sides[0]):,} pairs")
        target = load(self.tokenizer, side="target") if self.tokenizer and own is None else tokenizer
        corpora = [self.tokenised(*each) for each in zip(sides, (own or tokenizer, target), strict=True)]
        vocabulary = corpora[0 if own is None else 1].vocabulary
        source, right = (
            in_language(corpus.vocabulary, language) for corpus, language in zip(corpora, self.languages, strict=True)
        )
        return PreparedPairs(
            dataclasses.replace(vocabulary, framing=right),
            " ".join([*(corpus.fingerprint for corpus in corpora), *filter(None, self.languages)]),
            training,
            held_out,
            amounts={f"{side} tokens": len(x.tokens) for side, x in zip(("source", "target"), corpora, strict=True)},
            tokenizer=tokenizer,
            corpus=corpora[0],
            trained_here=self.trains_tokenizer or self.trained_here,
            given=bool(self.held_out_split),
            targets=corpora[1],
            framings=(source, right),
            sides=sides,
            prefix=self.prefix,
            source_tokenizer=own,
        )

    def _open(self, look: Look) -> tuple[tuple[Documents, Documents], np.ndarray, np.ndarray]:
        """Sources and targets, and the numbers of the pairs on either side."""
        splits = [split for split in (self.training_split, self.held_out_split) if split]
        if not splits:
            raise DataError("neither training_split nor held_out_split is set: there is nothing to read")
        parts = [open_pairs(self.source, self.features, look, split=split, prefix=self.prefix) for split in splits]
        sides = parts[0] if len(parts) == 1 else tuple(map(joined, *parts))
        if not self.held_out_split:
            # Asked of the source alone, so that all targets of a source are on its side.
            sizes, holder = sides[0].text_sizes + sides[1].text_sizes, f"{sides[0].name} holds"
            return sides, *split_by_content(sides[0].text_hashes, sizes, self.held_out, self.split_seed, holder, "pair")
        first = len(parts[0][0]) if self.training_split else 0
        return sides, np.arange(first), np.arange(first, len(sides[0]))

    def read_with(self, tokenizer: Path, trained_here: bool = False) -> Self:
        """The same, its texts in the tokens of this file; sources in those of one beside it, where that is there."""
        read = super().read_with(tokenizer, trained_here)
        beside = tokenizer.parent / SOURCE
        return dataclasses.replace(read, source_tokenizer=str(beside)) if beside.is_file() else read

    def survey(self, progress: Progress) -> Survey:
        look = Look(cache=self.cache_folder, broken="skip", progress=progress, again=True)
        sides, train, held_out = self._open(look)
        first, second = (side.text_hashes for side in sides)
        counts = {
            "pairs that can be read": f"{len(first):,}",
            "sources that came before": f"{repeated(first):,}",
            "held-out targets that are trained on, too": share_of(
                in_both(second, second, train, held_out), len(held_out)
            ),
            **text_counts(sides[0].text_sizes + sides[1].text_sizes, held_out, "pairs"),
        }
        return Survey(counts, sides[0].broken)

    def blank(self, form: PairForm) -> Batch:
        source, target = np.zeros(form.source, np.int32), np.zeros(form.target, np.int32)
        return {"input_ids": source, "attention_mask": source, "labels": target}


def open_pairs(
    source: str, features: tuple[str, str], look: Look, *, split: str = "train", prefix: str = ""
) -> tuple[Documents, Documents]:
    """Sources and targets, in the same order, each looked at.

    Args:
        split: of TFDS.
        prefix: words before each source.

    Raises:
        DataError: there is nothing to read there, a line has no such column, or one side of a pair is empty.
    """
    items, state, wrong = open_table(source, Columns(features), split=split, broken=look.broken, say=look.say)
    columns: dict[str, Sequence] = {feature: Column(items, feature) for feature in features}
    if prefix:
        columns[features[0]], state = Prefixed(columns[features[0]], prefix), state + prefix
    (first, second), _ = look.at(columns, source, row="pair", state=state)
    for side in (first, second):
        side.broken = (*wrong, *side.broken)
    return first, second


@dataclasses.dataclass(frozen=True, eq=False)
class Prefixed(Sequence):
    """Documents with words before each text."""

    items: Sequence
    prefix: str

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, str]:
        return {"text": self.prefix + string(self.items[index]["text"])}


def in_language(vocabulary: Vocabulary, language: str) -> Framing:
    """The frame of a text in a language whose token is `language`; the tokenizer's where that is empty.

    Raises:
        DataError: there is no such token, or it has no place.
    """
    if not language:
        return vocabulary.framing
    languages = {vocabulary.tokens[token]: token for token in vocabulary.special_ids}
    if language not in languages:
        raise DataError(
            f"the tokenizer knows no language {language!r}, but {', '.join(languages)}: set --data.languages"
        )
    codes = [token for name, token in languages.items() if CODE.fullmatch(name)]
    return vocabulary.framing.in_language(languages[language], codes)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class PreparedPairs(PreparedText):
    """Pairs made ready; `corpus` has the sources.

    Attributes:
        framings: what stands around a source, and around a target.
        sides: the documents of either side.
        prefix: words that stand before each source.
        source_tokenizer: of the sources, where they have one of their own.
    """

    targets: Corpus
    framings: tuple[Framing, Framing]
    sides: tuple[Documents, Documents]
    prefix: str = ""
    source_tokenizer: Tokenizer | None = None

    def adapt(self, config: Config, start: int | None = None) -> Config:
        """Raises `DataError` where the sources have tokens that the model does not know."""
        own, room = self.source_tokenizer, config.source_vocab_size
        if (own is None) != (room is None):
            whose = "sources a tokenizer of their own" if own is None else "no tokenizer of their own: leave it out"
            raise DataError(
                f"source_vocab_size is {room} for the model, which gives {whose}: set --data.source-vocab-size {room}"
            )
        if own is not None and own.get_vocab_size() > room:
            raise DataError(
                f"sources are written in {own.get_vocab_size()} tokens, and source_vocab_size={room} of the model"
            )
        return super().adapt(config, start)

    def save(self, folder: Path, form: PairForm) -> None:
        super().save(folder, form)
        if self.source_tokenizer is not None:
            self.source_tokenizer.save(str(folder / SOURCE))

    def texts(self, items: np.ndarray) -> tuple[list[str], list[str]]:
        sources, targets = ([side[int(item)]["text"] for item in items] for side in self.sides)
        return [source.removeprefix(self.prefix) for source in sources], targets

    def examples(self, items: np.ndarray, form: PairForm, seed: int) -> "PairExamples":
        if set(form.reads) != {"input_ids", "labels"}:
            raise DataError(f"pairs give input_ids and labels, and the objective reads {', '.join(form.reads)}")
        return PairExamples(self.corpus, self.targets, items, self.framings, form=form, seed=seed)


@dataclasses.dataclass(frozen=True, eq=False)
class PairExamples(Examples):
    """Examples from pairs of documents of two corpora; an item is a pair. An example, int32:

        input_ids, attention_mask [source]: the source as the tokenizer frames a text, cut where it is longer.
        labels [target]: the target likewise, with the end of text behind it where the frame has no end; `IGNORED` behind
            that.

    Attributes:
        pairs: those to take.
        framings: what stands around a source, and around a target.

    Raises:
        DataError: there is no pair, or no token that ends a text.
    """

    sources: Corpus
    targets: Corpus
    pairs: Int64[np.ndarray, " pairs"]
    framings: tuple[Framing, Framing]

    def __post_init__(self) -> None:
        vocabulary, (source, target) = self.sources.vocabulary, (self.form.source, self.form.target)
        if None in (vocabulary.pad, self.targets.vocabulary.eos):
            raise DataError("the tokenizer has no token that ends a text, or none that pads it, which pairs need")
        if source <= self.framings[0].count or target <= len(self.framings[1].begin) + len(self._end):
            raise DataError(f"pairs of {source} and {target} tokens have no room for a text and its end")
        super().__post_init__()

    @property
    def _end(self) -> tuple[int, ...]:
        return self.framings[1].document_end(self.targets.vocabulary.eos)

    def __len__(self) -> int:
        return len(self.pairs)

    @functools.cached_property
    def sizes(self) -> Int64[np.ndarray, "pairs 2"]:
        """Tokens of source and target, with what stands around them."""
        counts = [np.subtract(*corpus.spans(self.pairs)[::-1]) for corpus in (self.sources, self.targets)]
        around = self.framings[0].count, len(self.framings[1].begin) + len(self._end)
        return np.stack(counts, axis=1) + np.array(around)

    def at(self, items: Int64[np.ndarray, " batch"], indices: Int64[np.ndarray, " batch"], form: PairForm) -> Batch:
        pairs = np.asarray(self.pairs, np.int64)[items]
        vocabulary = self.sources.vocabulary
        around, right = self.framings
        source = self.sources.rows(pairs, form.source, around.begin, around.end, IGNORED)
        target = self.targets.rows(pairs, form.target, right.begin, self._end, IGNORED)
        return {
            "input_ids": np.where(source == IGNORED, vocabulary.pad, source),
            "attention_mask": (source != IGNORED).astype(np.int32),
            "labels": target,
        }
