"""Rows of annotated texts: read from files or from TFDS, each checked, and put on two sides."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Int64

from data.class_folders import HELD_OUT, SPLITS, TRAINING, sides
from data.contents import Content, Contents, content_hash
from data.errors import DataError
from data.files import files_below, on_disk
from data.splits import split_by_content
from data.survey import Survey, counted, text_counts
from data.text.corpus import Corpus
from data.text.documents import WIKIPEDIA_DUMP, Documents, joined, string
from data.text.source import PreparedText, Text
from data.text.tables import raw_rows
from data.tfds import tfds_builder, tfds_split

Say = Callable[[str], None]
Raw = tuple[str, Any] | str
"""Where a row stands and what it holds; or, in a sentence, why it cannot be read."""
DEVELOPMENT = (*HELD_OUT, "dev", "eval")
"""How the names of files begin that are held out, those of others beginning with `train`."""


def table_rows(file: Path) -> Iterator[Raw]:
    """The rows of a `.tsv` or `.jsonl`."""
    with open(file, "rb") as lines:
        yield from raw_rows(file, lines)


@dataclasses.dataclass(frozen=True)
class Row:
    """A row that was read.

    Attributes:
        name: where it stands, for a sentence.
        text: what decides on which side it is.
    """

    name: str
    text: str


@dataclasses.dataclass(frozen=True, eq=False)
class Opened:
    """The rows of a source.

    Attributes:
        held_out: which of them are held out, where the source says so.
        classes: names of the labels, where the source says them.
        broken: what is wrong, in a sentence, with each row that is left out.
    """

    source: str
    rows: Sequence[Any]
    held_out: np.ndarray | None
    classes: tuple[str, ...]
    broken: tuple[str, ...]

    @property
    def documents(self) -> Documents:
        """The text of each row."""
        return documents([row.text for row in self.rows], self.source, self.broken)

    @property
    def fingerprint(self) -> str:
        """Of all that the rows say, and of the sides."""
        known = hashlib.sha256(repr(self.classes).encode())
        for row in self.rows:
            known.update(repr(dataclasses.replace(row, name="")).encode())
        known.update(b"" if self.held_out is None else self.held_out.tobytes())
        return known.hexdigest()[:32]


class Parts(NamedTuple):
    """The texts that rows consist of, as they are tokenised.

    Attributes:
        documents: of each part: the contexts and the questions, say.
        learned: those that a tokenizer is trained on, numbered as if the documents of one part stood behind those of another.
        about: what else `made` asks of them.
    """

    documents: tuple[Documents, ...]
    learned: Int64[np.ndarray, " learned"]
    about: Any = None


def documents(texts: Sequence[str], name: str, broken: Sequence[str] = ()) -> Documents:
    """Texts that are in memory, as documents."""
    hashes = np.array([content_hash(text.encode()) for text in texts], np.uint64)
    sizes = np.array([len(text.strip()) for text in texts], np.int64)
    return Documents([{"text": text} for text in texts], name, hashes, sizes, broken)


@dataclasses.dataclass(frozen=True)
class Annotated(Text):
    """Base of the sources of annotated texts. A subclass sets `readers`, `row` and `columns` and writes `parsed`, `parts` and
    `made`.

    Attributes:
        readers: how each type of file is read, by the end of its name.
        row: what a row is called in a sentence.
        columns: what `features` are, as the flag names them.
        places: whether the first part's corpus keeps the places of its tokens.
        source: a file, a folder of files (those whose names begin with `train` and with `dev` or `validation` are on these
            sides), or a TFDS name.
        features: names of what a row holds: keys of a `.jsonl`, columns, features of TFDS.
        held_out_split: the split that is held out; where empty, `validation` if the source has one.
    """

    readers: ClassVar[Mapping[str, Callable[[Path], Iterator[Raw]]]] = {".jsonl": table_rows}
    row: ClassVar[str] = "row"
    columns: ClassVar[str] = ""
    places: ClassVar[bool] = False

    source: str = ""
    features: tuple[str, ...] = ()
    held_out_split: str = ""

    def parsed(self, raw: Mapping[str, Any], name: str, classes: tuple[str, ...]) -> Any:
        """A `Row`.

        Args:
            name: where it stands.
            classes: names of the labels, where TFDS numbers them.

        Raises:
            DataError: something is wrong with it, in words that go behind its name.
        """
        raise NotImplementedError

    def parts(self, opened: Opened, learned: Int64[np.ndarray, " rows"]) -> Parts:
        """The texts of the rows.

        Args:
            learned: rows that a tokenizer may be trained on.
        """
        raise NotImplementedError

    def made(self, opened: Opened, about: Any, corpora: Sequence[Corpus], common: dict[str, Any]) -> PreparedText:
        """The rows made ready.

        Args:
            about: what `parts` says of them.
            corpora: of the parts.
            common: fields that all annotated texts have.
        """
        raise NotImplementedError

    def prepare(self, size: int, folder: Path, say: Say, needs: Sequence[str] = ()) -> PreparedText:
        """Rows → one tokenizer → a tokenised corpus of each of their parts; what is there already is taken."""
        say(f"opening {self.source}")
        opened = self.opened(say)
        training, held_out = self.sides(opened)
        texts, learned, about = self.parts(opened, training if len(training) else held_out)
        tokenizer = self.prepare_tokenizer(joined(*texts), learned, size, needs, say)
        say(f"tokenising {len(opened.rows):,} {self.row}s")
        corpora = [self.tokenised(part, tokenizer, places=self.places and part is texts[0]) for part in texts]
        common = dict(
            vocabulary=corpora[0].vocabulary,
            fingerprint=" ".join([*(corpus.fingerprint for corpus in corpora), opened.fingerprint]),
            training_items=training,
            held_out_items=held_out,
            amounts={"tokens": sum(len(corpus.tokens) for corpus in corpora)},
            tokenizer=tokenizer,
            corpus=corpora[0],
            trained_here=self.trains_tokenizer or self.trained_here,
            given=opened.held_out is not None,
        )
        return self.made(opened, about, corpora, common)

    def missing(self, content: Mapping[str, Any]) -> list[str]:
        """Names that a row has nothing under."""
        return [feature for feature in self.features if feature not in content]

    def classes_of(self, features: Mapping[str, Any]) -> tuple[str, ...]:
        """The names of the labels among the features of a TFDS data set."""
        return ()

    def opened(self, say: Say = lambda message: None, skip: bool = False) -> Opened:
        """The rows.

        Args:
            skip: leave out what cannot be read, whatever `broken` says.

        Raises:
            DataError: there is nothing to read, or a row cannot be read.
        """
        splits, classes = self._splits()
        chosen = sides(splits, self.held_out_split, self.source)
        parts = [part for part in chosen if part is not None]
        rows = [[self._checked(raw, classes) for raw in part()] for part in parts]
        every = [row for part in rows for row in part]
        if not every:
            raise DataError(f"{self.source} holds no {self.row}")
        contents = Contents.of([Content(broken=row) if isinstance(row, str) else Content() for row in every])
        kept = contents.kept("skip" if skip else self.broken, self.source, self.row, say)
        held_out = None
        if chosen[1] is not None:
            held_out = kept >= (len(rows[0]) if len(parts) == 2 else 0)
        return Opened(self.source, [every[n] for n in kept], held_out, classes, tuple(contents.broken.values()))

    def _checked(self, raw: Raw, classes: tuple[str, ...]) -> Any:
        if isinstance(raw, str):
            return raw
        name, content = raw
        if not isinstance(content, Mapping):
            return f"{name}: expected an object with {' and '.join(self.features)}"
        missing = self.missing(content)
        if missing:
            return f"{name} has no {missing[0]!r}, but {', '.join(content)}: set --data.features {self.columns}"
        try:
            return self.parsed(content, name, classes)
        except (DataError, UnicodeError) as error:
            return f"{name}: {error}"

    def _splits(self) -> tuple[dict[str, Callable[[], Iterable[Raw]]], tuple[str, ...]]:
        path, ends = Path(self.source).expanduser(), tuple(self.readers)
        if path.exists():
            return self._files(path), ()
        types = f"{', '.join(ends[:-1])} or {ends[-1]}" if len(ends) > 1 else ends[0]
        if path.suffix.lower() in ends or path.is_absolute() or self.source.startswith((".", "~")):
            raise DataError(
                f"there is no {path}: {on_disk(path, '; ')}give a {types} file, a folder of them, or a TFDS name"
            )
        builder = tfds_builder(
            self.source,
            self.features,
            f"a folder, nor a {types} file",
            WIKIPEDIA_DUMP,
            f"set --data.features {self.columns}",
        )
        splits = {split: tfds_split(builder, split) for split in builder.info.splits}

        def rows(split: str) -> Iterator[Raw]:
            examples = splits[split]
            return ((f"example {n} of {self.source}, {split}", examples[n]) for n in range(len(examples)))

        return {split: lambda split=split: rows(split) for split in splits}, self.classes_of(builder.info.features)

    def _files(self, path: Path) -> dict[str, Callable[[], Iterable[Raw]]]:
        ends = tuple(self.readers)
        files = [path / name for name in files_below(path, ends)] if path.is_dir() else [path]
        if not files or files[0].suffix.lower() not in ends:
            raise DataError(f"{path} {'is' if files else 'holds'} no {' and no '.join(ends)} file")
        splits: dict[str, list[Path]] = {}
        for file in files:
            splits.setdefault(split_of(file), []).append(file)
        if "train" not in splits or "" in splits:
            splits = {"train": files}
        return {split: lambda named=named: self._raw(named) for split, named in splits.items()}

    def _raw(self, files: Sequence[Path]) -> Iterator[Raw]:
        for file in files:
            try:
                yield from self.readers[file.suffix.lower()](file)
            except OSError as error:
                yield f"{file} cannot be read: {error.strerror}"

    def sides(self, opened: Opened) -> tuple[Int64[np.ndarray, " training"], Int64[np.ndarray, " held_out"]]:
        """Numbers of the rows to train on, and held out."""
        if opened.held_out is not None:
            return np.flatnonzero(~opened.held_out), np.flatnonzero(opened.held_out)
        texts = opened.documents
        return split_by_content(
            texts.text_hashes, texts.text_sizes, self.held_out, self.split_seed, f"{self.source} holds", self.row
        )

    def survey(self, progress: Callable[[int, int], None]) -> Survey:
        opened = self.opened(skip=True)
        training, held_out = self.sides(opened)
        texts, rows = opened.documents, f"{self.row}s"
        counts = counted(rows, texts.text_hashes, training, held_out) | text_counts(texts.text_sizes, held_out, rows)
        return Survey(counts, opened.broken)


def split_of(file: Path) -> str:
    """The split that the name of a file or of its folder begins with: `train`, `validation`, `test`; empty for none."""
    for name in (file.stem, file.parent.name):
        word = re.match("[a-z]*", name.lower()).group()
        if word in TRAINING:
            return "train"
        if word in DEVELOPMENT:
            return "validation"
        if word in SPLITS:
            return "test"
    return ""


def text_of(raw: Any, feature: str) -> str:
    """A text that a row has under a name.

    Raises:
        DataError: it is none, or blank.
    """
    value = raw[feature]
    if not isinstance(value, str | bytes):
        raise DataError(f"{feature!r} is {value!r:.60}, expected a text")
    text = string(value)
    text.encode()
    if not text.strip():
        raise DataError(f"{feature!r} is empty")
    return text


def json_of(file: Path) -> Any:
    """What a JSON file holds.

    Raises:
        DataError: it holds none.
    """
    try:
        return json.loads(file.read_bytes())
    except ValueError as error:
        raise DataError(f"{file} is no JSON: {error}") from None


def whole_number(value: Any) -> int | None:
    """A whole number, which may stand in a string; `None` of anything else."""
    if isinstance(value, str | bytes):
        return int(value) if string(value).strip().isdecimal() else None
    return int(value) if isinstance(value, int | np.integer) and not isinstance(value, bool) else None
