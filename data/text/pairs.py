"""Pairs of texts, to make the second of the first: translations, summaries. Read from tables or from TFDS."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Int64

from data.contents import Joined, Progress
from data.contract import Batch, Examples
from data.errors import DataError
from data.forms import PairForm
from data.ragged import IGNORED
from data.splits import split_by_content
from data.survey import Survey, in_both, repeated, share_of, text_counts
from data.text.corpus import Corpus, build_corpus
from data.text.documents import Documents, Look
from data.text.source import PreparedText, Text
from data.text.tables import Column, Columns, open_table
from data.text.tokenizer_files import load


@dataclasses.dataclass(frozen=True)
class Pairs(Text):
    """Where pairs of a source and a target come from; settings beside these are those of `Text`.

    Attributes:
        source: a `.tsv` or `.jsonl` file, a folder of them, or a TFDS name such as `wmt14_translate/de-en`.
        features: names of source and target: of columns (the first line of a `.tsv` has the names), of keys, of features.
    """

    forms: ClassVar[type[PairForm]] = PairForm

    source: str = ""
    kind: str = "byte_bpe"
    features: tuple[str, str] = ("source", "target")

    def prepare(
        self, size: int, folder: Path, say: Callable[[str], None], needs: Sequence[str] = ()
    ) -> "PreparedPairs":
        """Both sides → one tokenizer → two tokenised corpora; what is there already is taken."""
        cache = self.cache_folder
        say(f"opening {self.source}")
        sides = open_pairs(self.source, self.features, Look(cache=cache, broken=self.broken, say=say))
        training, held_out = split_pairs(*sides, self.held_out, self.split_seed)
        both = Documents(Joined(*sides), self.source, np.concatenate([side.text_hashes for side in sides]))
        tokenizer = self.prepare_tokenizer(
            both, np.concatenate([training, training + len(sides[0])]), size, needs, cache, say
        )
        say(f"tokenising {len(sides[0]):,} pairs")
        target = load(self.tokenizer, side="target") if self.tokenizer else tokenizer
        corpora = [
            build_corpus(side, written, cache / "corpora", language=self.language, roles=self.roles)
            for side, written in zip(sides, (tokenizer, target), strict=True)
        ]
        return PreparedPairs(
            corpora[0].vocabulary,
            f"{corpora[0].fingerprint} {corpora[1].fingerprint}",
            training,
            held_out,
            amounts={f"{side} tokens": len(x.tokens) for side, x in zip(("source", "target"), corpora, strict=True)},
            tokenizer=tokenizer,
            corpus=corpora[0],
            trained_here=self.trains_tokenizer or self.trained_here,
            targets=corpora[1],
        )

    def survey(self, progress: Progress) -> Survey:
        look = Look(cache=self.cache_folder, broken="skip", progress=progress, again=True)
        sides = open_pairs(self.source, self.features, look)
        train, held_out = split_pairs(*sides, self.held_out, self.split_seed)
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


def open_pairs(source: str, features: tuple[str, str], look: Look) -> tuple[Documents, Documents]:
    """Sources and targets, in the same order, each looked at.

    Raises:
        DataError: there is nothing to read there, a line has no such column, or one side of a pair is empty.
    """
    items, state, wrong = open_table(source, Columns(features), broken=look.broken, say=look.say)
    columns = {feature: Column(items, feature) for feature in features}
    (first, second), _ = look.at(columns, source, row="pair", state=state)
    for side in (first, second):
        side.broken = (*wrong, *side.broken)
    return first, second


def split_pairs(
    sources: Documents, targets: Documents, held_out: float, seed: int
) -> tuple[Int64[np.ndarray, " train"], Int64[np.ndarray, " held_out"]]:
    """Numbers of the pairs to train on and to hold out: the rule of `split_by_content`, asked of the source alone, so that
    all targets of a source are on its side."""
    sizes = sources.text_sizes + targets.text_sizes
    return split_by_content(sources.text_hashes, sizes, held_out, seed, f"{sources.name} holds", "pair")


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class PreparedPairs(PreparedText):
    """Pairs made ready; `corpus` has the sources."""

    targets: Corpus

    def examples(self, items: np.ndarray, form: PairForm, seed: int) -> "PairExamples":
        if set(form.reads) != {"input_ids", "labels"}:
            raise DataError(f"pairs give input_ids and labels, and the objective reads {', '.join(form.reads)}")
        return PairExamples(self.corpus, self.targets, items, form=form, seed=seed)


@dataclasses.dataclass(frozen=True, eq=False)
class PairExamples(Examples):
    """Examples from pairs of documents of two corpora; an item is a pair. An example, int32:

        input_ids, attention_mask [source]: the source as the tokenizer frames a text, cut where it is longer.
        labels [target]: the target likewise, with the end of text behind it where the frame has no end; `IGNORED` behind
            that.

    Attributes:
        pairs: those to take.

    Raises:
        DataError: there is no pair, or no token that ends a text.
    """

    sources: Corpus
    targets: Corpus
    pairs: Int64[np.ndarray, " pairs"]

    def __post_init__(self) -> None:
        vocabulary, (source, target) = self.sources.vocabulary, (self.form.source, self.form.target)
        if vocabulary.eos is None or vocabulary.pad is None:
            raise DataError("the tokenizer has no token that ends a text, or none that pads it, which pairs need")
        if min(source, target) <= len(vocabulary.framing.begin) + len(self._end):
            raise DataError(f"pairs of {source} and {target} tokens have no room for a text and its end")
        super().__post_init__()

    @property
    def _end(self) -> tuple[int, ...]:
        return self.sources.vocabulary.framing.document_end(self.sources.vocabulary.eos)

    def __len__(self) -> int:
        return len(self.pairs)

    def at(self, items: Int64[np.ndarray, " batch"], indices: Int64[np.ndarray, " batch"], form: PairForm) -> Batch:
        pairs = np.asarray(self.pairs, np.int64)[items]
        vocabulary = self.sources.vocabulary
        begin, end = vocabulary.framing.begin, vocabulary.framing.end
        source = self.sources.rows(pairs, form.source, begin, end, IGNORED)
        target = self.targets.rows(pairs, form.target, begin, self._end, IGNORED)
        return {
            "input_ids": np.where(source == IGNORED, vocabulary.pad, source),
            "attention_mask": (source != IGNORED).astype(np.int32),
            "labels": target,
        }
