"""Special tokens of speech recognition: prompts of the decoder, and timestamps."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import Tokenizer

from models.config import ModelConfig, ModelError, nearest

LANGUAGE = re.compile(r"<\|([a-z]{2,3})\|>")
TASKS = ("transcribe", "translate")
STEP = 0.02
"""Seconds from one timestamp to the next."""
MULTILINGUAL_FROM = 51_865
"""Size of the smallest published multilingual vocabulary; English models have language tokens, too."""


@dataclasses.dataclass(frozen=True)
class SpeechTokens:
    """Ids of a model's special tokens.

    Attributes:
        start, end: start and end of a text.
        languages, tasks: by name; empty for a model of one language.
        no_timestamps: announces a text without timestamps; the next id is time 0.
        previous: announces previous text; `None` if there is no such token.
        no_speech: predicted for windows without speech; `None` if there is no such token.
    """

    start: int
    end: int
    languages: Mapping[str, int]
    tasks: Mapping[str, int]
    no_timestamps: int
    previous: int | None
    no_speech: int | None

    @classmethod
    def of(cls, tokenizer: Tokenizer, config: ModelConfig, generation: Mapping[str, Any]) -> "SpeechTokens":
        """From the tokenizer, the model's config, and the `generation_config.json` beside it.

        Raises:
            ModelError: a token is missing.
        """
        ids = tokenizer.get_vocab(with_added_tokens=True)
        start, unstamped = config.decoder_start_token_id, generation.get("no_timestamps_token_id")
        unstamped = ids.get("<|notimestamps|>") if unstamped is None else unstamped
        end = config.eos_token_id
        if start is None or unstamped is None or not isinstance(end, int):
            raise ModelError(
                "speech recognition takes a token that a text begins with, one that ends it and <|notimestamps|>:"
                f" decoder_start_token_id={start}, eos_token_id={end}, no_timestamps_token_id={unstamped}"
            )
        languages = {match[1]: number for token, number in ids.items() if (match := LANGUAGE.fullmatch(token))}
        tasks = {task: ids[f"<|{task}|>"] for task in TASKS if f"<|{task}|>" in ids}
        many = generation.get("is_multilingual", config.vocab_size >= MULTILINGUAL_FROM)
        quiet = next((ids[name] for name in ("<|nospeech|>", "<|nocaptions|>") if name in ids), None)
        previous = generation.get("prev_sot_token_id", ids.get("<|startofprev|>"))
        return cls(start, end, languages if many else {}, tasks if many else {}, unstamped, previous, quiet)

    @property
    def time_zero(self) -> int:
        return self.no_timestamps + 1

    def is_time(self, token: int) -> bool:
        return token >= self.time_zero

    def seconds(self, token: int) -> float:
        """The time of a timestamp token, in seconds."""
        return (token - self.time_zero) * STEP

    def language_named(self, name: str) -> str:
        """The language of a name such as `en` or `<|en|>`.

        Raises:
            ModelError: the model does not know it, or is of one language.
        """
        match = LANGUAGE.fullmatch(name)
        language = match[1] if match else name
        if not self.languages:
            raise ModelError(f"language={name!r}: this model knows one language, leave it out")
        if language not in self.languages:
            raise ModelError(f"language={name!r}: {nearest(language, sorted(self.languages))}")
        return language

    def prompt(self, language: str | None, task: str, timestamps: bool) -> list[int]:
        """The prompt of a decoder, with previous text."""
        tokens = [self.start]
        if self.languages:
            tokens += [self.languages[language], self.tasks[task]]
        elif task != TASKS[0]:
            raise ModelError(f"task={task!r}: this model knows one language, and writes it down")
        return tokens if timestamps else [*tokens, self.no_timestamps]

    def before(self, tokens: Sequence[int], most: int) -> list[int]:
        """The last tokens of previous text, at most `most`, with the token that announces them."""
        if self.previous is None or not tokens or most < 1:
            return []
        return [self.previous, *tokens[-most:]]
