"""Whisper's vocabulary: text, and special tokens of language, task and timestamps.

Radford et al.: "Robust Speech Recognition via Large-Scale Weak Supervision", 2022, arXiv 2212.04356, section 2.3.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import AddedToken, Tokenizer

from data.errors import DataError
from data.files import whole_file
from data.text.templates import Template
from data.text.tokenizers import load, train_tokenizer

END, START, BEFORE = "<|endoftext|>", "<|startoftranscript|>", "<|startofprev|>"
NO_SPEECH, NO_TIMESTAMPS = "<|nospeech|>", "<|notimestamps|>"
TASKS = ("translate", "transcribe")
STEPS = 50
"""Timestamps per second."""


@dataclasses.dataclass(frozen=True)
class PromptedVocabulary:
    """The vocabulary of a decoder with a prompt.

    Attributes:
        size: number of ids.
        content: content of the `tokenizer.json`; empty if none was read.
        start, eos: start and end of a text; `eos` pads it, too.
        prompt: tokens between `start` and the text.
        special_ids: ids of the special tokens.
        labels, classes: unused.
    """

    size: int
    content: str
    start: int
    eos: int
    prompt: tuple[int, ...]
    special_ids: tuple[int, ...] = ()
    labels: tuple[str, ...] = ()
    classes: int | None = None

    @classmethod
    def of(cls, tokenizer: Tokenizer, language: str, task: str) -> "PromptedVocabulary":
        """The vocabulary of a tokenizer.

        Args:
            language: such as `en`, for a multilingual model; else empty.
            task: one of `TASKS`, for a multilingual model.

        Raises:
            DataError: a special token is missing.
        """
        ids = tokenizer.get_vocab(with_added_tokens=True)
        asked = [f"<|{language}|>", f"<|{task}|>"] if language else []
        missing = [token for token in (END, START, *asked, NO_TIMESTAMPS) if token not in ids]
        if missing:
            raise DataError(
                f"the tokenizer has no {', '.join(missing)}: give that of a model which writes what it hears, or none, and set"
                " --data.language to one that it knows, or leave it empty"
            )
        special = tuple(number for number in sorted(ids.values()) if number >= ids[END])
        prompt = tuple(ids[token] for token in (*asked, NO_TIMESTAMPS))
        return cls(max(ids.values()) + 1, tokenizer.to_str(), ids[START], ids[END], prompt, special)

    @property
    def pad(self) -> int:
        return self.eos

    @property
    def bos(self) -> int:
        return self.eos

    @property
    def first(self) -> tuple[int, ...]:
        """Tokens that may not begin a text: a lone space, and the end."""
        blank = opened(self.content).token_to_id("Ġ") if self.content else None
        return (self.eos,) if blank is None else (blank, self.eos)

    def encode(self, text: str) -> list[int]:
        """The target after `start`: the prompt, the text with a leading space (as in the published models), and its end."""
        return [*self.prompt, *opened(self.content).encode(f" {text}", add_special_tokens=False).ids, self.eos]

    def decode(self, ids: Sequence[int]) -> str:
        """Decodes ids, without special tokens."""
        return opened(self.content).decode([number for number in ids if number < self.eos]).strip()

    def token(self, number: int) -> str:
        """One token as text."""
        return opened(self.content).id_to_token(number).replace("Ġ", " ") if self.content else str(number)


@functools.lru_cache(maxsize=4)
def opened(content: str) -> Tokenizer:
    return Tokenizer.from_str(content)


def prompted_tokenizer(
    texts: Iterable[str], *, vocab_size: int, seconds: int, language: str, cache: Path
) -> tuple[Tokenizer, Path]:
    """Trains a byte-level BPE on texts, with special tokens after it in the order of the published models; cached.

    Args:
        vocab_size: most tokens, special ones included.
        seconds: the last timestamp.
        language: adds tokens of this language and of the tasks; empty for none.

    Returns the tokenizer and its file.
    """
    texts = list(texts)
    asked = [f"<|{language}|>", *(f"<|{task}|>" for task in TASKS)] if language else []
    times = [f"<|{step / STEPS:.2f}|>" for step in range(STEPS * seconds + 1)]
    special = [END, START, *asked, BEFORE, NO_SPEECH, NO_TIMESTAMPS, *times]
    about = hashlib.sha256(repr((texts, vocab_size, special)).encode()).hexdigest()[:32]
    path = cache / "tokenizers" / f"prompted-{about}" / "tokenizer.json"
    if not path.exists():
        pairs = path.with_name("pairs.json")
        room = vocab_size - len(special)
        tokenizer = train_tokenizer(texts, kind="byte_bpe", vocab_size=room, template=Template(()), path=pairs)
        tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
        with whole_file(path) as temporary:
            tokenizer.save(str(temporary))
    return load(path), path
