"""What every source of examples has in common, whatever the examples are."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from data.contents import Broken, Progress
from data.survey import Survey

Config = TypeVar("Config")
"""A model's config: a dataclass, of no class in particular, for `data` knows no model."""


@dataclasses.dataclass(frozen=True)
class Source:
    """Base of `Text`, `Pairs` and `Images`: where examples come from, as an experiment names it.

    Attributes:
        source: a name, a file or a folder.
        held_out: share of the documents (pictures) kept for evaluation; each one's content decides where it belongs
            (`data.splits`), so that more of them move none.
        split_seed: which ones those are.
        broken: documents (pictures) that cannot be read are refused before training, or left out and counted: `skip`.
        workers: processes that prepare batches; 0 does it in threads of this one.
        cache: folder of prepared data; `$LACUNA_CACHE` or `~/.cache/lacuna` where empty.
    """

    documents: ClassVar[str] = "documents"
    """What it consists of."""
    items: ClassVar[str] = "tokens"
    """What speed is counted in."""

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
    def cache_folder(self) -> Path:
        return Path(self.cache or os.environ.get("LACUNA_CACHE", "~/.cache/lacuna")).expanduser()

    def suited_to(self, model_type: str) -> Self:
        """The same for models of this type: what is made here (a tokenizer) is made as they are published with."""
        return self

    def prepare(self, size: int, folder: Path, say: Callable[[str], None], needs: Sequence[str] = ()) -> Any:
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

    def outline(self, size: int, needs: Sequence[str] = ()) -> Any:
        """What the examples are going to look like, without a look at the source.

        Args:
            size: of the vocabulary: tokens, or classes.
        """
        raise NotImplementedError
