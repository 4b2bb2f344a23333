"""What every source of examples has in common, whatever the examples are.

A source is its settings (`Source`), which an experiment names; what they lead to (`Prepared`): items on two sides, to train on
and held out; and the examples made of a side's items (`Examples`), which is what a loader reads. What differs between sources
is one method, `Examples.at`.
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
from jaxtyping import Int64

from data.contents import Broken, Progress
from data.errors import DataError
from data.forms import Form
from data.order import shuffled_places
from data.ragged import Buckets
from data.survey import Survey

Config = TypeVar("Config")
"""A model's config: a dataclass, of no class in particular, for `data` knows no model."""

Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Source:
    """Base of `Text`, `Pairs` and `Images`: where examples come from, as an experiment names it.

    Attributes:
        source: a name, a file or a folder.
        held_out: fraction of the documents (pictures) kept for evaluation; each one's content decides where it belongs
            (`data.splits`), so that more of them move none.
        split_seed: which ones those are.
        broken: documents (pictures) that cannot be read are refused before training, or left out and counted: `skip`.
        workers: processes that prepare batches; 0 does it in threads of this one.
        cache: folder of prepared data; `$LACUNA_CACHE` or `~/.cache/lacuna` where empty.
    """

    documents: ClassVar[str] = "documents"
    """What it consists of."""
    forms: ClassVar[type[Form]] = Form
    """What its examples look like."""

    source: str = ""
    held_out: float = 0.05
    split_seed: int = 0
    broken: Broken = "refuse"
    workers: int = 0
    cache: str = ""

    @property
    def augmentation(self) -> Any:
        """What is done to each example on the device, before the objective sees it; `None` for nothing."""
        return None

    @property
    def tokenizer(self) -> str:
        """What its texts are written with, where it has some and names one."""
        return ""

    @property
    def trains_tokenizer(self) -> bool:
        """Whether a tokenizer is trained on it, because it has texts and names none."""
        return False

    @property
    def cache_folder(self) -> Path:
        return Path(self.cache or os.environ.get("LACUNA_CACHE", "~/.cache/lacuna")).expanduser()

    def suited_to(self, model_type: str) -> Self:
        """The same for models of this type: what is made here (a tokenizer) is made as they are published with."""
        return self

    def elsewhere(self, source: str) -> "Source":
        """The same settings for another source."""
        return dataclasses.replace(self, source=source)

    def read_with(self, tokenizer: Path, trained_here: bool = False) -> Self:
        """The same, its texts in the tokens of this file, where there are texts.

        Args:
            trained_here: the tokenizer was trained on this source.
        """
        return self

    def prepare(self, size: int, folder: Path, say: Callable[[str], None], needs: Sequence[str] = ()) -> "Prepared":
        """The examples, ready to be read.

        Args:
            size: tokens that the model has room for; of no use to pictures.
            folder: of the run.
            needs: what the objective needs of the vocabulary.

        Raises:
            DataError: there is nothing of use.
        """
        raise NotImplementedError

    def survey(self, progress: Progress) -> Survey:
        """What is there, all of it read, whatever was remembered of it.

        Raises:
            DataError: there is nothing of use.
        """
        raise NotImplementedError

    def blank(self, form: Form) -> Batch:
        """An example of `form` but for its `index`, with the names, shapes and dtypes of the real ones, all zeros."""
        raise NotImplementedError

    def blank_vocabulary(self, size: int, needs: Sequence[str] = ()) -> Any:
        """What an objective is bound to where nothing was read.

        Args:
            size: of the vocabulary: tokens, or classes.
        """
        raise NotImplementedError

    def outline(self, size: int, needs: Sequence[str] = ()) -> "Outline":
        """The source without a look at it: blank examples, to compile for."""
        return Outline(self, self.blank_vocabulary(size, needs))


@dataclasses.dataclass(frozen=True)
class Classes:
    """What examples are sorted into, in the place of a vocabulary: the names of the classes, by label."""

    labels: tuple[str, ...]

    @property
    def size(self) -> int:
        return len(self.labels)

    @property
    def classes(self) -> int:
        return len(self.labels)


@dataclasses.dataclass(frozen=True)
class Outline:
    """A source that was not read, in the place of a `Prepared`, for steps that are compiled and not run."""

    source: Source
    vocabulary: Any

    def training(self, form: Form, seed: int) -> list[Batch]:
        """A single example."""
        return [{"index": np.zeros((), np.uint32), **self.source.blank(form)}]


@dataclasses.dataclass(frozen=True, eq=False)
class Prepared:
    """A source made ready.

    Attributes:
        vocabulary: what objectives are bound to: of text a `Vocabulary`, of pictures their `Classes`.
        fingerprint: of all that decides examples; two with the same give the same.
        training_items, held_out_items: numbers of the documents, pairs or pictures on either side.
        amounts: how much there is of what, by name.
        tokenizer: what texts are written with; `None` where there are none.
        given: whether the source says by itself what is held out.
    """

    prefix: ClassVar[str] = ""
    """Words that stand before each text that is read."""
    source_tokenizer: ClassVar[Any] = None
    """Of texts that are read, where these have one of their own."""
    generation: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    """Settings of `generation_config.json` that follow from the data."""

    vocabulary: Any
    fingerprint: str
    training_items: Int64[np.ndarray, " training"]
    held_out_items: Int64[np.ndarray, " held_out"]
    amounts: Mapping[str, int] = dataclasses.field(default_factory=dict, kw_only=True)
    tokenizer: Any = dataclasses.field(default=None, kw_only=True)
    given: bool = dataclasses.field(default=False, kw_only=True)

    def examples(self, items: Int64[np.ndarray, " items"], form: Form, seed: int) -> "Examples":
        """Examples made of some items."""
        raise NotImplementedError

    def training(self, form: Form, seed: int) -> "Examples":
        """The endless stream of training examples: a function of the seed and an example's place in it."""
        return self.examples(self.training_items, form, seed)

    def held_out(self, form: Form) -> "Examples":
        """The held-out examples, each once, in order."""
        return self.examples(self.held_out_items, form, 0).in_order()

    def texts(self, items: Int64[np.ndarray, " items"]) -> tuple[list[str], list[str]]:
        """What is read and what is right, as text, of some items.

        Raises:
            DataError: the examples are no pairs of texts.
        """
        raise DataError(
            f"{type(self).__name__} holds no pairs of texts: what a model writes is compared to the second of a pair"
        )

    @property
    def counts(self) -> tuple[int, int]:
        """Items to train on, and held out."""
        return len(self.training_items), len(self.held_out_items)

    def all_held_out(self) -> Self:
        """The same with every item held out, unless the source says by itself which ones are."""
        if self.given:
            return self
        items = np.union1d(self.training_items, self.held_out_items)
        return dataclasses.replace(self, training_items=items[:0], held_out_items=items)

    def adapt(self, config: Config, start: int | None = None) -> Config:
        """The model's config with what the data know: labels, ids of special tokens.

        Args:
            start: what a decoder reads first, as the objective has it.

        Raises:
            DataError: the config and the data disagree.
        """
        labels = self.vocabulary.labels
        has = "labels" in {field.name for field in dataclasses.fields(config)}
        return dataclasses.replace(config, labels=labels) if labels and has else config

    def save(self, folder: Path, form: Form) -> None:
        """Write what a reader of the model's folder must know of its inputs."""

    def save_processor(self, folder: Path, form: Form) -> None:
        """Write what it must know beside the tokens of texts."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Examples:
    """A map from places in a run to examples, stateless: what a loader reads. Subclasses write `at` and `__len__`.

    Each epoch visits every item once, in a pseudo-random order that is a function of (seed, epoch). Ragged items are put into
    buckets by their `sizes`, the order is a function of these, too, and a batch takes the smallest bucket that holds its items.
    The fields alone are pickled: what is computed from them is a `cached_property`.

    Attributes:
        shuffled: an endless stream to train on; else each item once, in order, as for evaluation.

    Raises:
        DataError: the seed is negative, there is no item, or the form has buckets and the items no sizes.
    """

    form: Form
    seed: int = 0
    shuffled: bool = True

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise DataError(f"seed={self.seed}: give a seed of 0 or more")
        if not len(self):
            raise DataError("there is nothing to make examples of: no item was chosen")
        if self.form.buckets < 1 or (self.form.buckets > 1 and self.sizes is None):
            raise DataError(
                f"buckets={self.form.buckets}: {type(self).__name__} are all of one length, set buckets to 1"
            )

    def __len__(self) -> int:
        """Items of an epoch."""
        raise NotImplementedError

    def at(self, items: Int64[np.ndarray, " batch"], indices: Int64[np.ndarray, " batch"], form: Form) -> Batch:
        """The examples of some items, stacked, without their `index`.

        Args:
            items: numbers below `len()`.
            indices: places in the run, of which what is drawn for an example is a function.
            form: theirs; of ragged data, of the bucket that holds them.
        """
        raise NotImplementedError

    @property
    def sizes(self) -> Int64[np.ndarray, "items ..."] | None:
        """How long each item is, in the units of its form's `lengths`, of which it has one a side; `None` where all examples are
        alike."""
        return None

    @functools.cached_property
    def buckets(self) -> Buckets | None:
        """Those that hold the items; `None` where examples are of one length."""
        if self.form.buckets == 1:
            return None
        sizes = self.sizes.reshape(len(self), -1)
        return Buckets.of(np.minimum(sizes, self.form.lengths), self.form.buckets, self.form.together)

    def items(self, indices: Int64[np.ndarray, " batch"]) -> Int64[np.ndarray, " batch"]:
        """The items that these places of the run show."""
        epochs, places = np.divmod(indices, len(self))
        if not self.shuffled:
            return places
        if self.buckets is None:
            return shuffled_places(self.seed, epochs, places, len(self))
        found = np.empty_like(places)
        for epoch in np.unique(epochs).tolist():
            found[epochs == epoch] = self.buckets_in(epoch).order(self.seed, epoch)[places[epochs == epoch]]
        return found

    def buckets_in(self, epoch: int) -> Buckets:
        """Where the items lie in an epoch: in other buckets than in the next, where what is drawn decides their sizes."""
        return self.buckets

    def lengths_of(self, indices: Int64[np.ndarray, " batch"]) -> tuple[int, ...]:
        """Those of the smallest bucket that holds the items at these places of the run."""
        items, epochs = self.items(indices), indices // len(self)
        return self.buckets.first(
            [self.buckets_in(epoch).holding(items[epochs == epoch]) for epoch in np.unique(epochs)]
        )

    def batch(self, indices: Int64[np.ndarray, " batch"], among: Int64[np.ndarray, " whole"] | None = None) -> Batch:
        """The examples at `indices` of the run, stacked; `index` (uint32), from which an objective's randomness is made.

        Args:
            among: the whole batch, of which other processes read the rest: all of it has the lengths of one bucket. Without it
                examples have those of the form.

        Raises:
            IndexError: an index is negative, or beyond the items of `in_order()`.
        """
        indices = np.asarray(indices, np.int64)
        if len(indices) and (indices.min() < 0 or (not self.shuffled and indices.max() >= len(self))):
            last = "" if self.shuffled else f" to {len(self) - 1}"
            raise IndexError(f"examples are numbered from 0{last}: {indices}")
        form = self.form
        if among is not None and self.buckets is not None:
            form = form.of_lengths(*self.lengths_of(np.asarray(among, np.int64)))
        return {"index": indices.astype(np.uint32), **self.at(self.items(indices), indices, form)}

    def __getitem__(self, index: int) -> Batch:
        """Example `index` of the run, any number from 0 on."""
        return {name: np.asarray(array[0]) for name, array in self.batch(np.array([index])).items()}

    def in_order(self) -> Self:
        """The same items one after the other, each once: for evaluation, `len()` examples."""
        return dataclasses.replace(self, shuffled=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), {field.name: vars(self)[field.name] for field in dataclasses.fields(self)})


def _restored(kind: type[Examples], fields: Mapping[str, Any]) -> Examples:
    return kind(**fields)
