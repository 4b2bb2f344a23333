"""Documents: the texts of a TFDS data set, a Wikipedia dump or a folder, in one random-access form, and their split."""

import difflib
import hashlib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt64

from data.errors import DataError
from data.files import locked, whole_file

WIKIPEDIA_DUMP = "wikipedia_dump"


class Documents(Sequence):
    """A random-access sequence of `{"title": str, "text": str}`.

    Attributes:
        name: what to call the source in a sentence.
        text_hashes: 64 bits of the hash of each text, by which duplicates are known.
        fingerprint: a hash of all texts in their order: it changes when any of them does, and with nothing else.
    """

    def __init__(self, items: Sequence[Mapping[str, Any]], name: str, text_hashes: UInt64[np.ndarray, " documents"]):
        self._items, self.name, self.text_hashes = items, name, text_hashes
        self.fingerprint = hashlib.sha256(text_hashes.astype("<u8").tobytes()).hexdigest()[:32]

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> dict[str, str]:
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name} has documents 0 to {len(self) - 1}, not {index}")
        item = self._items[index]
        return {"title": _string(item.get("title", "")), "text": _string(item["text"])}

    def texts(self, document_ids: Sequence[int] | np.ndarray) -> "Texts":
        """The texts of some documents, to be gone through as often as needed."""
        return Texts(self, document_ids)


class Texts:
    """Texts that are read while they are gone through, and can be gone through again (a generator cannot)."""

    def __init__(self, documents: Documents, document_ids: Sequence[int] | np.ndarray):
        self._documents, self._document_ids = documents, document_ids

    def __len__(self) -> int:
        return len(self._document_ids)

    def __iter__(self) -> Iterator[str]:
        return (self._documents[int(index)]["text"] for index in self._document_ids)


def open_documents(source: str, cache: Path) -> Documents:
    """The documents that `source` names, prepared under `cache` on first use.

    Args:
        source: `wikipedia_dump` (pages that come with the `demo` extra); a MediaWiki dump `*.xml` or `*.xml.bz2`; a
            folder of UTF-8 text files, each a document; or a TFDS name such as `wikipedia/20230601.en` (its `train`
            split, prepared under TFDS's own data folder).
        cache: folder for what is prepared, to be shared by all runs.

    Raises:
        DataError: there is nothing to read there, in a sentence that says where to mend it.
    """
    path = Path(source).expanduser()
    if source == WIKIPEDIA_DUMP:
        items, state = _wikipedia_dump(None, cache)
    elif path.suffix in (".xml", ".bz2"):
        if not path.is_file():
            raise DataError(f"there is no dump {path}: give a path to a *-pages-articles*.xml(.bz2)")
        items, state = _wikipedia_dump(path, cache)
    elif path.is_dir():
        items, state = _text_folder(path)
    elif path.is_file():
        raise DataError(
            f"{path} is neither a dump *.xml(.bz2) nor a folder: give one, or the folder that holds the file"
        )
    elif path.is_absolute() or source.startswith((".", "~")):
        raise DataError(f"there is no folder {path}: give a folder of .txt files, a dump *.xml(.bz2) or a TFDS name")
    else:
        items, state = tfds_items(source, ("text",))
    key = hashlib.sha256(state.encode()).hexdigest()[:32]
    return Documents(items, source, text_hashes(items, source, cache / "text_hashes" / f"{key}.npy"))


def split_documents(
    documents: Documents, held_out: float, seed: int
) -> tuple[Int64[np.ndarray, " train"], Int64[np.ndarray, " held_out"]]:
    """Document ids to train on and to hold out, each ascending; at least one on either side.

    A text that is held out is never trained on, also where the source holds it several times.

    Args:
        held_out: share of the documents to hold out, between 0 and 1.
        seed: of the split, not of a run: all runs to be compared share it.

    Raises:
        DataError: no such split exists.
    """
    train, held = split_places(len(documents), held_out, seed, f"{documents.name} holds", "document")
    train = train[~np.isin(documents.text_hashes[train], documents.text_hashes[held])]
    if not len(train):
        raise DataError(
            f"every document of {documents.name} that is not held out has the same text as one that is:"
            " add documents that differ, or lower held_out"
        )
    return train, held


def split_places(
    count: int, held_out: float, seed: int, holder: str, kind: str
) -> tuple[Int64[np.ndarray, " train"], Int64[np.ndarray, " held_out"]]:
    """Numbers below `count` to train on and to hold out, each ascending; at least one on either side.

    Args:
        holder, kind: who has how many of what, in a sentence (`"FOLDER holds"`, `"document"`).

    Raises:
        DataError: no such split exists.
    """
    if not 0 < held_out < 1:
        raise DataError(f"held_out={held_out}: the share of {kind}s to hold out must lie between 0 and 1")
    if count < 2:
        raise DataError(f"{holder} {count} {kind}(s), and a split by {kind} needs at least 2: add {kind}s")
    order = np.argsort(np.random.Philox(seed).random_raw(count), kind="stable")
    held = int(np.clip(round(held_out * count), 1, count - 1))
    return np.sort(order[held:]), np.sort(order[:held])


class _TextFolder(Sequence):
    def __init__(self, folder: Path, names: Sequence[str]):
        self._folder, self._names = folder, names

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> dict[str, str]:
        path = self._folder / self._names[index]
        try:
            return {"title": path.stem, "text": path.read_text(encoding="utf-8-sig")}
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is not UTF-8 (byte {error.start}): convert it, for instance with iconv") from None


def _text_folder(folder: Path) -> tuple[Sequence[Mapping[str, Any]], str]:
    """The folder's documents, and a string that changes whenever a file does."""
    paths = sorted(path for path in folder.rglob("*.txt") if path.is_file())
    if not paths:
        raise DataError(f"{folder} holds no .txt file, here or deeper: put one UTF-8 text file per document there")
    names = [path.relative_to(folder).as_posix() for path in paths]
    states = [(name, path.stat().st_size, path.stat().st_mtime_ns) for name, path in zip(names, paths, strict=True)]
    return _TextFolder(folder, names), f"{folder.resolve()}{states}"


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
        raise DataError(f"{name!r} is neither {others}, nor a TFDS data set: the nearest TFDS name is {nearest!r}")
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


def text_hashes(items: Sequence[Mapping[str, Any]], name: str, path: Path) -> UInt64[np.ndarray, " documents"]:
    """The hash of each text, computed once (a pass over all documents, which also finds the unreadable ones)."""
    with locked(path):
        if not path.exists():
            hashes, blank = np.empty(len(items), np.uint64), True
            for index in range(len(items)):
                text = _string(items[index]["text"])
                hashes[index] = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
                blank = blank and not text.strip()
            if blank:
                raise DataError(f"{name} holds no text: all of its {len(items)} document(s) are blank")
            with whole_file(path) as temporary:
                np.save(temporary, hashes)
    return np.load(path)


def _string(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("utf-8")
