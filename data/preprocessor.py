"""How the inputs of a model are prepared, as the `preprocessor_config.json` in a published folder says."""

import abc
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from data.errors import DataError
from data.files import whole_file

FILE = "preprocessor_config.json"
WHOLE = "processor_config.json"
"""A file with the settings of all processors of a folder, each under its name."""


class Preprocessor(abc.ABC):
    """Base of the dataclasses that have the names of such a file.

    Attributes:
        inputs: what is prepared, for errors.
        part: its name in a `processor_config.json`.
    """

    inputs: ClassVar[str]
    part: ClassVar[str]

    @classmethod
    def read(cls, folder: str | Path, model_type: str = "") -> Self:
        """The one whose file lies in `folder`.

        Args:
            model_type: of the model beside it, which tells the processor where an old file does not.

        Raises:
            DataError: there is no such file, or it says what no processor here does.
        """
        paths = [Path(folder) / name for name in (FILE, WHOLE)]
        path = next((path for path in paths if path.is_file()), None)
        if path is None:
            raise DataError(f"there is no {paths[0]}, which says how {cls.inputs} prepared for the model")
        try:
            published = json.loads(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError) as error:
            raise DataError(f"{path} cannot be read as JSON: {error}") from None
        if not isinstance(published, dict):
            raise DataError(f"{path} holds no JSON object")
        try:
            return cls.from_json(published.get(cls.part, published), model_type)
        except DataError as error:
            raise DataError(f"{path}: {error}") from None
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise DataError(f"{path} does not say how {cls.inputs} prepared: {error}") from None

    @classmethod
    @abc.abstractmethod
    def from_json(cls, published: Mapping[str, Any], model_type: str = "") -> Self:
        """From the contents of a published file; keys that mean nothing here are ignored."""

    @abc.abstractmethod
    def to_json(self) -> dict[str, Any]:
        """The contents of a published file."""

    def write(self, folder: str | Path) -> None:
        """Write `preprocessor_config.json` beside a model's files."""
        with whole_file(Path(folder) / FILE) as path:
            path.write_text(json.dumps(self.to_json(), indent=2) + "\n", encoding="utf-8")
