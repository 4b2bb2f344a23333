"""Documents: the texts of a TFDS data set, a Wikipedia dump or a folder, in one random-access form, and their split."""

import dataclasses
import difflib
import hashlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt64

from data.contents import Broken, Content, Contents, Progress, content_hash, read_all, spoken
from data.errors import DataError
from data.files import hidden, locked
from data.splits import split_by_content
from data.text_files import SUFFIXES, open_text_files

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
        items, state = tfds_items(source, ("text",))
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
    return _train_split(builder)


def tfds_items(name: str, wanted: Sequence[str]) -> tuple[Sequence[Mapping[str, Any]], str]:
    """The split `train` of a TFDS data set that has these features, and a string that changes when it is prepared anew."""
    advice = "choose a data set of documents" if len(wanted) == 1 else "set --data.features SOURCE TARGET"
    return _train_split(tfds_builder(name, wanted, "a folder, nor a dump *.xml(.bz2)", WIKIPEDIA_DUMP, advice))


def on_disk(path: Path, more: str = "") -> str:
    """What is called nearly as a path that is not there, in words, with `more` behind; empty for nothing."""
    missing = next((place for place in (*reversed(path.parents), path) if not place.exists()), path)
    try:
        names = [entry.name for entry in missing.parent.iterdir() if not hidden(entry.name)]
    except OSError:
        return ""
    match = difflib.get_close_matches(missing.name, names, n=1, cutoff=0.7)
    return f"the nearest on disk is {str(missing.parent / match[0])!r}{more}" if match else ""


def tfds_builder(name: str, wanted: Sequence[str], others: str, own: str, advice: str) -> Any:
    """The builder of a TFDS data set that has these features, prepared.

    Args:
        others: what else a source might have been, in a sentence.
        own: a name that is no data set of TFDS, but known here.
        advice: what to do where a feature is missing.

    Raises:
        DataError: there is none, it lacks a feature, or preparing it fails.
    """
    import tensorflow_datasets as tfds
    import tensorflow_datasets.text

    builders = tfds.list_builders(with_community_datasets=False)
    if name.split("/")[0].split(":")[0] not in builders:
        nearest = difflib.get_close_matches(name.split("/")[0], [*builders, own], n=1, cutoff=0.0)[0]
        there = on_disk(Path(name), f", and the nearest TFDS name is {nearest!r}")
        raise DataError(
            f"{name!r} is neither {others}, nor a TFDS data set: {there or f'the nearest TFDS name is {nearest!r}'}"
        )
    try:
        builder = tfds.builder(name, try_gcs=False)
    except Exception as error:
        configs = list(tfds.builder_cls(name.split("/")[0].split(":")[0]).builder_configs)
        nearest = difflib.get_close_matches(name.partition("/")[2], configs, n=1, cutoff=0.0)
        hint = f"the nearest configuration is {nearest[0]!r}" if nearest else str(error).split("\n")[0]
        raise DataError(f"TFDS cannot make the data set {name!r}: {hint}") from error
    features = builder.info.features or {}
    missing = [feature for feature in wanted if feature not in features]
    if missing:
        raise DataError(
            f"the TFDS data set {name!r} has no feature `{missing[0]}`, but {', '.join(features)}: {advice}"
        )
    return builder if builder.is_prepared() else _prepared(name)


def _prepared(name: str) -> Any:
    """The TFDS builder `name`, its data downloaded and prepared now, in the format that is read without TensorFlow."""
    import tensorflow_datasets as tfds

    builder = tfds.builder(name, try_gcs=False, file_format="array_record")
    beam = isinstance(builder, tfds.core.BeamBasedBuilder)
    if beam and importlib.util.find_spec("apache_beam") is None:
        reason = "preparing it takes apache-beam, which is not installed"
    else:
        try:
            builder.download_and_prepare()
            return builder
        except Exception as error:
            reason = f"preparing it failed ({type(error).__name__}: {str(error).split(chr(10))[0][:200]})"
    raise DataError(
        f"the TFDS data set {name!r} is not prepared under {builder.data_dir}, and {reason}:"
        " prepare it where that works with `tfds build --file_format=array_record`, and copy it there"
    )


def _train_split(builder: Any) -> tuple[Sequence[Mapping[str, Any]], str]:
    """The split `train`, and a string that changes whenever it is prepared anew."""
    if "train" not in builder.info.splits:
        raise DataError(f"{builder.info.full_name} has no split `train`, but {', '.join(builder.info.splits)}")
    info = Path(builder.data_dir) / "dataset_info.json"
    return tfds_split(builder, "train"), f"{info}{info.stat().st_mtime_ns}{info.read_text()}"


def tfds_split(builder: Any, split: str, decoders: Mapping[str, Any] | None = None) -> Sequence[Mapping[str, Any]]:
    """The examples of a split, read without TensorFlow."""
    try:
        return builder.as_data_source(split, decoders=decoders)
    except NotImplementedError:
        raise DataError(
            f"{builder.data_dir} is not in a format that is read without TensorFlow:"
            " prepare it again with `tfds build --file_format=array_record`"
        ) from None


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
