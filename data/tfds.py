"""Data sets of TFDS, prepared where that works and read without TensorFlow."""

import concurrent.futures
import dataclasses
import difflib
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data.errors import DataError
from data.files import on_disk, state_of

UNKNOWN = -1
OPENERS = 16
"""Files that are opened at a time, to see whether they are whole."""


def tfds_items(
    name: str, wanted: Sequence[str], own: str, split: str = "train"
) -> tuple[Sequence[Mapping[str, Any]], str]:
    """A split of a TFDS data set that has these features, and a string that changes when it is prepared again."""
    advice = "choose a data set of documents" if len(wanted) == 1 else "set --data.features SOURCE TARGET"
    return one_split(tfds_builder(name, wanted, "a folder, nor a dump *.xml(.bz2)", own, advice), split)


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
        builder = _described_on_disk(name)
        if builder is not None:
            return _with_features(builder, name, wanted, advice)
        configs = list(tfds.builder_cls(name.split("/")[0].split(":")[0]).builder_configs)
        nearest = difflib.get_close_matches(name.partition("/")[2], configs, n=1, cutoff=0.0)
        hint = f"the nearest configuration is {nearest[0]!r}" if nearest else str(error).split("\n")[0]
        if "tensorflow" in str(error):
            hint = f"{str(error).split(chr(10))[0]}; prepared where that works, and copied here, it is read without"
        raise DataError(f"TFDS cannot make the data set {name!r}: {hint}") from error
    _with_features(builder, name, wanted, advice)
    return builder if builder.is_prepared() else _prepared(name)


def _with_features(builder: Any, name: str, wanted: Sequence[str], advice: str) -> Any:
    """The builder, which has these features. Raises `DataError` where it lacks one."""
    features = builder.info.features or {}
    missing = [feature for feature in wanted if feature not in features]
    if missing:
        raise DataError(
            f"the TFDS data set {name!r} has no feature `{missing[0]}`, but {', '.join(features)}: {advice}"
        )
    return builder


def _described_on_disk(name: str) -> Any:
    """The builder of a data set that lies prepared on the disk, where its code takes TensorFlow and there is none; `None` where
    it does not lie there."""
    import tensorflow_datasets as tfds

    if importlib.util.find_spec("tensorflow") is not None:
        return None
    name, _, version = name.partition(":")
    folder = Path(tfds.core.constants.DATA_DIR).expanduser() / name
    versions = sorted(path.parent for path in folder.glob(f"{version or '*'}/dataset_info.json"))
    return tfds.builder_from_directory(versions[-1]) if versions else None


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


def one_split(
    builder: Any, split: str = "train", decoders: Mapping[str, Any] | None = None
) -> tuple[Sequence[Mapping[str, Any]], str]:
    """A split, and a string that changes whenever it is prepared again."""
    if split not in builder.info.splits:
        raise DataError(f"{builder.info.full_name} has no split `{split}`, but {', '.join(builder.info.splits)}")
    return tfds_split(builder, split, decoders), f"{builder.data_dir}{shard_states(builder, split)}"


def shard_states(builder: Any, split: str) -> list[tuple[str, int, int, int]]:
    """By which it is seen that the files of a split changed."""
    return [(str(path), *state_of(path)) for path in builder.info.splits[split].filepaths]


def tfds_split(builder: Any, split: str, decoders: Mapping[str, Any] | None = None) -> "Examples":
    """The examples of a split, read without TensorFlow.

    Raises:
        DataError: a file of it is missing or damaged, or is of a format that takes TensorFlow.
    """
    try:
        items = builder.as_data_source(split, decoders=decoders)
    except NotImplementedError:
        raise DataError(
            f"{builder.data_dir} is not in a format that is read without TensorFlow:"
            " prepare it again with `tfds build --file_format=array_record`"
        ) from None
    about = builder.info.splits[split]
    with concurrent.futures.ThreadPoolExecutor(OPENERS) as pool:
        counts = pool.map(_records, about.filepaths)
        for path, expected, count in zip(about.filepaths, about.shard_lengths, counts, strict=True):
            if count not in (expected, UNKNOWN):
                what = "is missing or damaged" if count is None else f"holds {count:,} examples of {expected:,}"
                raise DataError(f"{path} {what}: prepare {builder.info.full_name} again, or copy the file again")
    return Examples(items, f"{builder.info.full_name}, {split}")


def _records(path: Any) -> int | None:
    """How many records a file says at its end that it has; `None` where it is not whole, `UNKNOWN` of another format."""
    from array_record.python import array_record_module

    if not Path(path).is_file():
        return None
    if ".array_record" not in Path(path).name:
        return UNKNOWN
    try:
        reader = array_record_module.ArrayRecordReader(str(path))
        count = reader.num_records() if reader.ok() else None
        reader.close()
        return count
    except RuntimeError:
        return None


@dataclasses.dataclass(frozen=True, eq=False)
class Examples(Sequence):
    """Examples of a split; one that cannot be read is a sentence."""

    items: Sequence[Mapping[str, Any]]
    name: str

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        try:
            return self.items[index]
        except (RuntimeError, ValueError) as error:
            reason = str(error).split(chr(10))[0][:200]
            raise DataError(f"example {index} of {self.name} cannot be read: {reason}") from error
