"""Several sources mixed by weight: which one example *i* comes from is a function of (seed, *i*)."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import tyro
from jaxtyping import Float64, Int64

from data.contents import Progress
from data.contract import Batch, Config, Examples, Prepared, Source
from data.errors import DataError
from data.forms import Form
from data.order import shuffled_places
from data.survey import Survey

BLOCK = 4_096
"""Examples among which each source has as many as its weight says, but for the rounding of one."""


@dataclasses.dataclass(frozen=True)
class Mixture(Source):
    """Sources whose examples are mixed; all are of one form. The first one says what tokens or classes they have.

    Attributes:
        sources: what is mixed. A tokenizer that none of them names is trained on the first.
        weights: shares of the examples, in any unit. Each source is gone through in its own order, item by item, as often as
            its weight takes.
    """

    sources: tyro.conf.Fixed[tuple[Source, ...]] = ()
    weights: tuple[float, ...] = ()
    source: tyro.conf.Suppress[str] = dataclasses.field(default="", repr=False)

    def __post_init__(self) -> None:
        if not self.sources or len(self.sources) != len(self.weights):
            raise DataError(
                f"weights={self.weights}: expected one for each of {len(self.sources)} sources, at least one"
            )
        if min(self.weights) <= 0 or self.shares.min() * BLOCK < 1:
            raise DataError(f"weights={self.weights}: expected numbers above 0, each at least 1/{BLOCK} of all")
        if (
            len({source.forms for source in self.sources}) > 1
            or len({source.augmentation for source in self.sources}) > 1
        ):
            raise DataError("sources that are mixed have examples of one form, augmented alike")
        object.__setattr__(self, "source", " + ".join(source.source for source in self.sources))

    @property
    def shares(self) -> Float64[np.ndarray, " sources"]:
        """Of the examples; they add up to 1."""
        weights = np.array(self.weights, np.float64)
        return weights / weights.sum()

    @property
    def documents(self) -> str:  # type: ignore[override]
        return self.sources[0].documents

    @property
    def forms(self) -> type[Form]:  # type: ignore[override]
        return self.sources[0].forms

    @property
    def augmentation(self) -> Any:
        return self.sources[0].augmentation

    @property
    def tokenizer(self) -> str:
        return self.sources[0].tokenizer

    @property
    def trains_tokenizer(self) -> bool:
        return self.sources[0].trains_tokenizer

    def elsewhere(self, source: str) -> Source:
        """The settings of the first for another source."""
        return self.sources[0].elsewhere(source)

    def suited_to(self, model_type: str) -> Self:
        return self._each(lambda source: source.suited_to(model_type))

    def read_with(self, tokenizer: Path, trained_here: bool = False) -> Self:
        return self._each(lambda source: source.read_with(tokenizer, trained_here))

    def _each(self, change: Callable[[Source], Source]) -> Self:
        return dataclasses.replace(self, sources=tuple(map(change, self.sources)))

    def prepare(
        self, size: int, folder: Path, say: Callable[[str], None], needs: Sequence[str] = ()
    ) -> "PreparedMixture":
        first, *others = self.sources
        parts = [first.prepare(size, folder, say, needs)]
        if others and parts[0].tokenizer is not None:
            place = self.cache_folder / "mixtures" / parts[0].fingerprint.replace(" ", "-")
            place.mkdir(parents=True, exist_ok=True)
            parts[0].save(place, self.forms())
            others = [source.read_with(place / "tokenizer.json") for source in others]
        parts += [source.prepare(size, folder, say, needs) for source in others]
        for source, part in zip(self.sources, parts, strict=True):
            if part.vocabulary.labels != parts[0].vocabulary.labels:
                raise DataError(f"{source.source}: its classes are not those of {first.source}")
        return PreparedMixture.of(parts, self.shares)

    def survey(self, progress: Progress) -> Survey:
        surveys = [source.survey(progress) for source in self.sources]
        counts = {
            f"{source.source}: {name}": count
            for source, survey in zip(self.sources, surveys, strict=True)
            for name, count in survey.counts.items()
        }
        return Survey(counts, tuple(reason for survey in surveys for reason in survey.broken))

    def blank(self, form: Form) -> Batch:
        return self.sources[0].blank(form)

    def blank_vocabulary(self, size: int, needs: Sequence[str] = ()) -> Any:
        return self.sources[0].blank_vocabulary(size, needs)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class PreparedMixture(Prepared):
    """Sources made ready. Items are numbered from source to source."""

    parts: tuple[Prepared, ...]
    shares: Float64[np.ndarray, " sources"]

    @classmethod
    def of(cls, parts: Sequence[Prepared], shares: Float64[np.ndarray, " sources"]) -> "PreparedMixture":
        training, held_out = (np.arange(sum(part.counts[side] for part in parts)) for side in (0, 1))
        return cls(
            vocabulary=parts[0].vocabulary,
            fingerprint=f"{' '.join(part.fingerprint for part in parts)} {shares.tolist()}",
            training_items=training,
            held_out_items=held_out,
            amounts={name: sum(part.amounts.get(name, 0) for part in parts) for name in parts[0].amounts},
            tokenizer=parts[0].tokenizer,
            parts=tuple(parts),
            shares=shares,
        )

    def training(self, form: Form, seed: int) -> "MixedExamples":
        parts = tuple(part.training(form, seed) for part in self.parts)
        return MixedExamples(form=form, seed=seed, parts=parts, shares=self.shares)

    def held_out(self, form: Form) -> "MixedExamples":
        parts = tuple(part.held_out(form) for part in self.parts if part.counts[1])
        return MixedExamples(form=form, shuffled=False, parts=parts, shares=self.shares)

    def all_held_out(self) -> "PreparedMixture":
        return self.of([part.all_held_out() for part in self.parts], self.shares)

    def adapt(self, config: Config, start: int | None = None) -> Config:
        return self.parts[0].adapt(config, start)

    def save(self, folder: Path, form: Form) -> None:
        self.parts[0].save(folder, form)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class MixedExamples(Examples):
    """Examples of several sources: shuffled, each by its weight; in order, those of one source behind those of another."""

    parts: tuple[Examples, ...]
    shares: Float64[np.ndarray, " sources"]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def in_order(self) -> "MixedExamples":
        return dataclasses.replace(self, shuffled=False, parts=tuple(part.in_order() for part in self.parts))

    def items(self, indices: Int64[np.ndarray, " batch"]) -> Int64[np.ndarray, " batch"]:
        return indices

    def places(
        self, indices: Int64[np.ndarray, " batch"]
    ) -> tuple[Int64[np.ndarray, " batch"], Int64[np.ndarray, " batch"]]:
        """The source of each example, and its place in that one's stream: each place of a stream is shown once.

        In block b of `BLOCK` examples, source k has as many as its part of the first b + 1 blocks is more than that of b.
        """
        if not self.shuffled:
            ends = np.cumsum([len(part) for part in self.parts])
            sources = np.searchsorted(ends, indices, side="right")
            return sources, indices - np.concatenate([[0], ends])[sources]
        blocks, places = np.divmod(indices, BLOCK)
        places = shuffled_places(self.seed, blocks, places, BLOCK)
        before, behind = (self._shown((blocks + more) * BLOCK) for more in (0, 1))
        ends = np.cumsum(behind - before, axis=1)
        sources = (places[:, None] >= ends).sum(axis=1)
        rows = np.arange(len(indices))
        return sources, before[rows, sources] + places - (ends - behind + before)[rows, sources]

    def _shown(self, count: Int64[np.ndarray, " batch"]) -> Int64[np.ndarray, "batch sources"]:
        """How many of the first `count` examples come from each source."""
        ends = np.floor(np.concatenate([[0], np.cumsum(self.shares)[:-1], [1]]) * count[:, None] + 0.5)
        return np.diff(ends.astype(np.int64), axis=1)

    def at(self, items: Int64[np.ndarray, " batch"], indices: Int64[np.ndarray, " batch"], form: Form) -> Batch:
        sources, places = self.places(indices)
        arrays: dict[str, np.ndarray] = {}
        for number in np.unique(sources).tolist():
            rows = sources == number
            for name, array in self.parts[number].batch(places[rows]).items():
                arrays.setdefault(name, np.zeros((len(indices), *array.shape[1:]), array.dtype))[rows] = array
        return {name: array for name, array in arrays.items() if name != "index"}
