"""Which experiment, and which data, the checkpoints of a run belong to."""

import dataclasses
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from training.parallel import TrainingError

log = logging.getLogger("lacuna")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Identity:
    """What a checkpoint must have been made with, to go on from it.

    Attributes:
        description: of the experiment, as JSON.
        ignored: fields of the description that may differ.
        at_default: fields that an earlier checkpoint may lack.
        current: makes of an earlier description one as it is written now.
        data: fingerprint of the data. What it says better (`SEEN_IN_DATA`) is compared only where a checkpoint holds none.
        data_may_differ: a checkpoint of other data is read all the same, with a warning.
    """

    SEEN_IN_DATA: ClassVar[tuple[str, ...]] = ("data.source", "data.tokenizer")

    description: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    ignored: Collection[str] = ()
    at_default: Collection[str] = ()
    current: Callable[[dict[str, Any]], Mapping[str, Any]] = dict
    data: str = ""
    data_may_differ: bool = False

    def check(self, path: Path, description: dict[str, Any], data: str) -> Mapping[str, Any]:
        """The description in the checkpoint at `path`, as it is written now.

        Raises:
            TrainingError: it is of another experiment, or of other data.
        """
        description = self.current(description)
        ignored = {*self.ignored, *(self.SEEN_IN_DATA if data else ())}
        ignored |= {*self.at_default} - dict(flatten(description)).keys()
        differences = describe_differences(description, self.description, ignored)
        if differences:
            raise TrainingError(
                f"the checkpoints in {path.parent} are of another experiment ({differences});"
                " choose another folder, or the settings that they were made with"
            )
        if data and self.data and data != self.data:
            changed = f"the data are not those of the checkpoint of step {path.name} in {path.parent}"
            prints = f"fingerprint {data[:12]} there, {self.data[:12]} here"
            if not self.data_may_differ:
                raise TrainingError(
                    f"{changed} ({prints}): put back what was there, choose another folder, or go on knowingly with"
                    " --data-changed go-on"
                )
            log.warning("%s (%s), and --data-changed go-on says to go on", changed, prints)
        return description


def describe_differences(one: Mapping[str, Any], other: Mapping[str, Any], ignored: Collection[str] = ()) -> str:
    """`field: a there, b here` for each field that differs and is not `ignored`, at most five."""
    one, other = dict(flatten(one)), dict(flatten(other))
    names = [name for name in sorted({*one, *other} - {*ignored}) if one.get(name) != other.get(name)]
    lines = [f"{name}: {one.get(name)!r} there, {other.get(name)!r} here" for name in names[:5]]
    return "; ".join(lines) + (f"; and {len(names) - 5} more" if len(names) > 5 else "")


def flatten(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """`(dotted.name, leaf)` of nested mappings and sequences."""
    if isinstance(tree, Mapping):
        for name, value in tree.items():
            yield from flatten(value, f"{prefix}.{name}" if prefix else str(name))
    elif isinstance(tree, list | tuple):
        for index, value in enumerate(tree):
            yield from flatten(value, f"{prefix}.{index}")
    else:
        yield prefix, tree
