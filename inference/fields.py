"""What one input of a task may come as: a text, texts in order, or texts by name."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from models.config import ModelError, nearest


@dataclasses.dataclass(frozen=True)
class Field:
    """A text that is part of an input.

    Attributes:
        name: as `transformers` calls it.
        optional: whether it may be missing.
        several: whether it is a list of texts.
    """

    name: str
    optional: bool = False
    several: bool = False

    def fits(self, value: Any) -> bool:
        if self.several:
            return not isinstance(value, str) and isinstance(value, Sequence) and all(isinstance(x, str) for x in value)
        return isinstance(value, str)


def one_input(fields: Sequence[Field], given: Any, takes: str) -> Any:
    """The text that came, or a tuple of those that came, in the order of the fields.

    Args:
        takes: how the sentence begins that says what is wrong.

    Raises:
        ModelError: a name is unknown, or what came is not what the fields are.
    """
    values = given if isinstance(given, tuple) and len(fields) > 1 else (given,)
    if isinstance(given, Mapping):
        names = [field.name for field in fields]
        for name in given:
            if name not in names:
                raise ModelError(f"{takes}, which has no {name!r}: {nearest(str(name), names)}")
        values = tuple(given.get(name) for name in names)
        while len(values) > 1 and values[-1] is None and fields[len(values) - 1].optional:
            values = values[:-1]
    least = sum(not field.optional for field in fields)
    if not least <= len(values) <= len(fields) or not all(map(Field.fits, fields, values)):
        raise ModelError(f"{takes}, and {given!r:.60} came")
    return values[0] if len(values) == 1 else values


def rows(parts: Mapping[str, Any], fields: Sequence[Field]) -> Any:
    """The input, or the inputs, whose fields are given each by itself; a text beside lists stands for each of their rows."""
    lists = {f.name: parts[f.name] for f in fields if isinstance(parts.get(f.name), list) and not f.several}
    if not lists:
        return dict(parts)
    lengths = {len(values) for values in lists.values()}
    if len(lengths) > 1:
        raise ModelError(
            f"{' and '.join(lists)} are lists of {' and '.join(map(str, sorted(lengths)))}: make them equal"
        )
    return [{**parts, **{name: values[row] for name, values in lists.items()}} for row in range(lengths.pop())]
