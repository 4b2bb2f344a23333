"""Character vocabularies for CTC: `vocab.json`, as `Wav2Vec2CTCTokenizer` reads it."""

import dataclasses
import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from data.errors import DataError
from data.files import whole_file

PAD, BOS, EOS, UNK, DELIMITER = "<pad>", "<s>", "</s>", "<unk>", "|"
FILE = "vocab.json"
SETTINGS = "tokenizer_config.json"


@dataclasses.dataclass(frozen=True)
class Characters:
    """Characters and their ids.

    Attributes:
        ids: id of each character and special token; `<pad>` is the blank.
        delimiter: the token of the space between words.
        classes, labels: unused.
    """

    ids: Mapping[str, int]
    delimiter: str = DELIMITER
    labels: tuple[str, ...] = ()
    classes: int | None = None

    def __post_init__(self) -> None:
        if PAD not in self.ids:
            raise DataError(f"the vocabulary has no {PAD!r}, which stands for the blank: add it to {FILE}")

    @classmethod
    def of(cls, transcripts: Iterable[str]) -> "Characters":
        """The special tokens and the delimiter, then all characters of some transcripts, sorted.

        Raises:
            DataError: the transcripts have no characters, or use the delimiter.
        """
        characters = sorted(set().union(*map(set, transcripts)) - {" "})
        if not characters:
            raise DataError("the transcripts are all empty: a vocabulary is made of their characters")
        if DELIMITER in characters:
            raise DataError(f"a transcript has the character {DELIMITER!r}, which stands between words: leave it out")
        return cls({token: number for number, token in enumerate([PAD, BOS, EOS, UNK, DELIMITER, *characters])})

    @classmethod
    def read(cls, path: str | Path) -> "Characters":
        """Reads a published `vocab.json`, or that of a folder.

        Raises:
            DataError: it holds no vocabulary.
        """
        path = Path(path).expanduser()
        path = path / FILE if path.is_dir() else path
        try:
            ids = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DataError(f"there is no vocabulary {path}") from None
        except (ValueError, OSError) as error:
            raise DataError(f"{path} cannot be read: {error}") from None
        if not isinstance(ids, dict) or sorted(ids.values(), key=str) != sorted(range(len(ids)), key=str):
            raise DataError(f"{path} is no vocabulary: expected an object with an id from 0 on for each character")
        settings = path.with_name(SETTINGS)
        about = json.loads(settings.read_text(encoding="utf-8")) if settings.is_file() else {}
        return cls(ids, about.get("word_delimiter_token", DELIMITER))

    def write(self, folder: Path) -> None:
        """Writes `vocab.json` and the settings that `transformers.AutoTokenizer` needs."""
        special = {"pad_token": PAD, "bos_token": BOS, "eos_token": EOS, "unk_token": UNK}
        about = {
            "tokenizer_class": "Wav2Vec2CTCTokenizer",
            "word_delimiter_token": self.delimiter,
            "do_lower_case": False,
            **{name: token for name, token in special.items() if token in self.ids},
        }
        for name, content in {FILE: dict(self.ids), SETTINGS: about}.items():
            with whole_file(folder / name) as temporary:
                temporary.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")

    @property
    def size(self) -> int:
        return len(self.ids)

    @property
    def pad(self) -> int:
        return self.ids[PAD]

    @property
    def bos(self) -> int | None:
        return self.ids.get(BOS)

    @property
    def eos(self) -> int | None:
        return self.ids.get(EOS)

    @property
    def special_ids(self) -> tuple[int, ...]:
        return tuple(self.ids[token] for token in (PAD, BOS, EOS, UNK) if token in self.ids)

    @functools.cached_property
    def tokens(self) -> tuple[str, ...]:
        """The character of each id."""
        return tuple(sorted(self.ids, key=self.ids.__getitem__))

    def encode(self, transcript: str, name: str = "the transcript") -> list[int]:
        """The ids of a transcript, whose words are divided by single spaces.

        Raises:
            DataError: a character is not in the vocabulary.
        """
        strange = sorted(set(transcript.replace(" ", "")) - set(self.ids))
        if strange:
            raise DataError(
                f"{name} has {', '.join(map(repr, strange))}, which the vocabulary lacks ({shortened(transcript)!r}): set"
                " --data.case or --data.remove, or leave it out with --data.broken skip"
            )
        return [self.ids[self.delimiter if character == " " else character] for character in transcript]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids without blanks and repetitions; special tokens are left out."""
        kept = (self.tokens[number] for number in ids if number not in self.special_ids)
        return "".join(" " if token == self.delimiter else token for token in kept).strip()


def shortened(text: str, most: int = 60) -> str:
    return text if len(text) <= most else f"{text[:most]}…"
