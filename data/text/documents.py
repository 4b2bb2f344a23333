"""Documents: the texts of a TFDS data set, a Wikipedia dump or a folder, in one random-access form, and their split."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt64

from data.contents import Broken, Content, Contents, Joined, Progress, content_hash, read_all, spoken
from data.errors import DataError
from data.files import locked, on_disk
from data.splits import split_by_content
from data.text.files import SUFFIXES, open_text_files
from data.tfds import one_split, tfds_items

WIKIPEDIA_DUMP = "wikipedia_dump"


class Documents(Sequence):
    """A random-access sequence of `{"title": str, "text": str}`.

    Attributes:
        name: what to call the source in a sentence.
        text_hashes: 64 bits of the hash of each text, by which duplicates are known.
        text_sizes: characters of each text, without the white space around it; 1 of each where they are not known.
        broken: what is wrong, in a sentence, with each document of the source that is left out.
        fingerprint: a hash of all texts in their order: it changes when any of them does, and with nothing else.
    """

    def __init__(
        self,
        items: Sequence[Mapping[str, Any]],
        name: str,
        text_hashes: UInt64[np.ndarray, " documents"],
        text_sizes: Int64[np.ndarray, " documents"] | None = None,
        broken: Sequence[str] = (),
    ):
        self._items, self.name, self.text_hashes = items, name, text_hashes
        self.text_sizes = np.ones(len(text_hashes), np.int64) if text_sizes is None else text_sizes
        self.broken = tuple(broken)
        self.fingerprint = _fingerprint(text_hashes)

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> dict[str, str]:
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name} has documents 0 to {len(self) - 1}, not {index}")
        item = self._items[index]
        return {"title": string(item.get("title", "")), "text": string(item["text"])}

    def texts(self, document_ids: Sequence[int] | np.ndarray) -> "Texts":
        """The texts of some documents, to be gone through as often as needed."""
        return Texts(self, document_ids)


class Texts:
    """Texts that are read while they are gone through, and can be gone through again (a generator cannot)."""

    def __init__(self, documents: Documents, document_ids: Sequence[int] | np.ndarray):
        self._documents, self._document_ids = documents, document_ids

    def __len__(self) -> int:
        return len(self._document_ids)

    @property
    def fingerprint(self) -> str:
        """A hash of these texts in their order."""
        return _fingerprint(self._documents.text_hashes[np.asarray(self._document_ids, np.int64)])

    def __iter__(self) -> Iterator[str]:
        return (self._documents[int(index)]["text"] for index in self._document_ids)


def _fingerprint(text_hashes: UInt64[np.ndarray, " documents"]) -> str:
    return hashlib.sha256(text_hashes.astype("<u8").tobytes()).hexdigest()[:32]


def joined(*parts: Documents) -> Documents:
    """The documents of several sources, those of one behind those of another."""
    hashes, sizes = (np.concatenate([vars(part)[name] for part in parts]) for name in ("text_hashes", "text_sizes"))
    broken = [reason for part in parts for reason in part.broken]
    return Documents(functools.reduce(Joined, parts), parts[0].name, hashes, sizes, broken)


def open_documents(
    source: str,
    cache: Path,
    *,
    broken: Broken = "refuse",
    say: Callable[[str], None] = lambda message: None,
    progress: Progress | None = None,
    again: bool = False,
) -> Documents:
    """The documents that `source` names, prepared under `cache` on first use, each looked at.

    Args:
        source: `wikipedia_dump` (pages that come with the `demo` extra); a MediaWiki dump `*.xml` or `*.xml.bz2`; a
            UTF-8 text file `.txt` (cut at paragraphs) or `.jsonl` (an object with a `text` in each line), or a folder of
            such files, each `.txt` a document; or a TFDS name such as `wikipedia/20230601.en` (its `train` split, prepared
            under TFDS's own data folder).
        cache: folder for what is prepared, to be shared by all runs.
        broken: whether documents that cannot be read are refused or left out.
        progress: is told how many documents were looked at, where nobody had looked before.
        again: look at all of them even so.

    Raises:
        DataError: there is nothing to read there, in a sentence that says where to mend it.
    """
    path = Path(source).expanduser()
    if source == WIKIPEDIA_DUMP:
        items, state = _wikipedia_dump(None, cache)
    elif path.suffix.lower() in (".xml", ".bz2"):
        if not path.is_file():
            raise DataError(
                f"there is no dump {path}: {on_disk(path, '; ')}give a path to a *-pages-articles*.xml(.bz2)"
            )
        items, state = _wikipedia_dump(path, cache)
    elif path.is_dir() or (path.is_file() and path.suffix.lower() in SUFFIXES):
        items, state = open_text_files(path, cache)
    elif path.is_file():
        raise DataError(
            f"{path} is neither a dump *.xml(.bz2), nor a text ({', '.join(SUFFIXES)}) nor a folder: give one of these"
        )
    elif path.is_absolute() or source.startswith((".", "~")) or path.suffix.lower() in SUFFIXES:
        raise DataError(
            f"there is no folder {path}: {on_disk(path, '; ')}give a folder of .txt files, a dump *.xml(.bz2) or a TFDS name"
        )
    else:
        items, state = tfds_items(source, ("text",), WIKIPEDIA_DUMP)
    progress = progress or spoken(say, f"the documents of {source}")
    contents = text_contents(items, source, cache, state, progress, again)
    kept = contents.kept(broken, source, "document", say)
    if not contents.sizes[kept].any():
        raise DataError(f"{source} holds no text: all of its {len(kept)} document(s) are blank")
    chosen = items if len(kept) == len(items) else Chosen(items, kept)
    return Documents(chosen, source, contents.hashes[kept], contents.sizes[kept], tuple(contents.broken.values()))


@dataclasses.dataclass(frozen=True, eq=False)
class Chosen(Sequence):
    """Some of the items of a sequence."""

    items: Sequence[Any]
    places: Int64[np.ndarray, " chosen"]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Any:
        return self.items[int(self.places[index])]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Look:
    """How the texts of a table are looked at.

    Attributes:
        cache: folder where it is remembered what was seen.
        broken: whether rows that cannot be read are refused or left out.
        progress, again: as in `open_documents`, of a column.
    """

    cache: Path
    broken: Broken = "refuse"
    say: Callable[[str], None] = lambda message: None
    progress: Progress | None = None
    again: bool = False

    def at(
        self, columns: Mapping[str, Sequence[Mapping[str, Any]]], source: str, *, row: str, state: str
    ) -> tuple[tuple[Documents, ...], Int64[np.ndarray, " kept"]]:
        """The documents of each column, in the same order, and the rows that are kept.

        Args:
            row: what a row is called in a sentence.
            state: changes whenever the columns do.

        Raises:
            DataError: a row cannot be read, or a column holds no text.
        """
        progress = self.progress or spoken(self.say, f"the {row}s of {source}")
        names = {column: source if len(columns) == 1 else f"{source} ({column})" for column in columns}
        read = {
            column: text_contents(
                items, names[column], self.cache, state if len(columns) == 1 else state + column, progress, self.again
            )
            for column, items in columns.items()
        }
        first, *others = read.values()
        wrong = {place: why for contents in (*reversed(others), first) for place, why in contents.broken.items()}
        either = dataclasses.replace(first, broken=dict(sorted(wrong.items())))
        kept = either.kept(self.broken, source, row, self.say)
        for column, contents in read.items():
            if not contents.sizes[kept].any():
                raise DataError(f"{names[column]} holds no text: all of its {len(kept)} text(s) are blank")
        documents = (
            Documents(
                items if len(kept) == len(items) else Chosen(items, kept),
                names[column],
                read[column].hashes[kept],
                read[column].sizes[kept],
                tuple(either.broken.values()),
            )
            for column, items in columns.items()
        )
        return tuple(documents), kept


def split_documents(
    documents: Documents, held_out: float, seed: int
) -> tuple[Int64[np.ndarray, " train"], Int64[np.ndarray, " held_out"]]:
    """Document ids to train on and to hold out, each ascending; at least one on either side.

    The rule is that of `split_by_content`: a text decides by itself on which side it is, also where the source holds it
    several times.

    Args:
        held_out: share of the documents, and of the text, to hold out, between 0 and 1.
        seed: of the split, not of a run: all runs to be compared share it.

    Raises:
        DataError: no such split exists.
    """
    return split_by_content(
        documents.text_hashes, documents.text_sizes, held_out, seed, f"{documents.name} holds", "document"
    )


def _wikipedia_dump(path: Path | None, cache: Path) -> tuple[Sequence[Mapping[str, Any]], str]:
    import tensorflow_datasets as tfds

    from data.wikipedia_dump.wikipedia_dump_dataset_builder import Builder, DumpConfig, sample

    if path is None:
        sample()  # says so where it is missing
    config = Builder.BUILDER_CONFIGS[0] if path is None else DumpConfig.of(path)
    tfds.disable_progress_bar()
    with locked(cache / "tfds" / config.name):
        builder = Builder(config=config, data_dir=cache / "tfds", file_format="array_record")
        builder.download_and_prepare()
    return one_split(builder)


def text_contents(
    items: Sequence[Mapping[str, Any]],
    name: str,
    cache: Path,
    state: str,
    progress: Progress | None = None,
    again: bool = False,
) -> Contents:
    """The contents of texts, read once (a pass over all documents, which also finds the unreadable ones).

    Args:
        state: changes whenever the items do; what is kept under `cache` is called by it.
        again: read them even where that is kept.
    """
    key = hashlib.sha256(state.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    path = cache / "text_contents" / f"{key}.npz"

    def read(index: int) -> Content:
        try:
            text = string(items[index]["text"])
            return Content(content_hash(text.encode()), len(text.strip()))
        except DataError as error:
            return Content(broken=str(error))
        except UnicodeError as error:
            return Content(broken=f"document {index} of {name} is no text of Unicode: {error}")

    with locked(path):
        if again or not path.exists():
            Contents.of(read_all(read, len(items), progress)).save(path)
        return Contents.load(path)


def string(value: str | bytes) -> str:
    """A text, without the byte order mark that it may begin with."""
    return (value if isinstance(value, str) else value.decode("utf-8")).removeprefix("\ufeff")
