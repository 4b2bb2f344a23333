"""An n-gram language model with back-off (Katz, 1987), read from an ARPA file as SRILM and KenLM write it."""

import dataclasses
import functools
import gzip
import math
from collections.abc import Mapping
from pathlib import Path

from models.config import ModelError

BEGIN, UNKNOWN = "<s>", "<unk>"
NEVER = -10.0
"""log₁₀ of the probability of a word that is not in a model without `<unk>`."""


@dataclasses.dataclass(frozen=True, eq=False)
class NGrams:
    """log₁₀ probabilities and back-off weights.

    Attributes:
        entries: for each n-gram (log₁₀ probability of its last word given the others, log₁₀ back-off weight).
        order: length of the longest n-gram.
    """

    entries: Mapping[tuple[str, ...], tuple[float, float]]
    order: int

    @classmethod
    @functools.lru_cache(maxsize=2)
    def read(cls, path: str | Path) -> "NGrams":
        """Reads an ARPA file, plain or compressed by gzip.

        Raises:
            ModelError: it is no ARPA file.
        """
        path, entries, order = Path(path).expanduser(), {}, 0
        try:
            with (
                gzip.open(path, "rt", encoding="utf-8")
                if path.suffix == ".gz"
                else open(path, encoding="utf-8") as lines
            ):
                for number, line in enumerate(lines, 1):
                    line = line.strip()
                    if line.endswith("-grams:"):
                        order = int(line[1 : line.index("-")])
                    elif order and line and not line.startswith("\\"):
                        first, *words = line.split()
                        backoff = float(words.pop()) if len(words) > order else 0.0
                        if len(words) != order:
                            raise ValueError(f"line {number} has {len(words)} words, expected {order}")
                        entries[tuple(words)] = (float(first), backoff)
        except FileNotFoundError:
            raise ModelError(f"there is no language model {path}") from None
        except (OSError, ValueError) as error:
            raise ModelError(f"{path} is no ARPA file: {error}") from None
        if not entries:
            raise ModelError(f"{path} is no ARPA file: it holds no n-gram")
        return cls(entries, order)

    def log_probability(self, word: str, before: tuple[str, ...]) -> float:
        """The natural logarithm of the probability of a word given the words before it."""
        word = word if (word,) in self.entries else UNKNOWN
        context = tuple(one if (one,) in self.entries else UNKNOWN for one in (BEGIN, *before)[-(self.order - 1) :])
        context = context if self.order > 1 else ()
        penalty = 0.0
        while (*context, word) not in self.entries and context:
            penalty += self.entries.get(context, (0.0, 0.0))[1]
            context = context[1:]
        return (penalty + self.entries.get((*context, word), (NEVER, 0.0))[0]) * math.log(10)
