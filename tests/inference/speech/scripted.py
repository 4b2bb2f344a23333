"""A listener that says what a test has it say, with a tokenizer of letters."""

import dataclasses
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from inference.generation import GenerationConfig
from inference.speech import Heard, Listener, SpeechTokens
from inference.speech.listener import compression_ratio
from models.whisper import WhisperConfig, WhisperForConditionalGeneration
from tests.models.small_configs import SMALL

LETTERS = " abcdefghijklmnopqrstuvwxyz.,"
SPECIAL = ("<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|translate|>", "<|transcribe|>")
SPECIAL += ("<|startofprev|>", "<|nospeech|>", "<|notimestamps|>")
IDS = {token: number for number, token in enumerate([*LETTERS, *SPECIAL])}
END, START, UNSTAMPED = (IDS[token] for token in ("<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>"))
ZERO = UNSTAMPED + 1
CONFIG = WhisperConfig.from_json(
    SMALL["whisper"],
    **dict(vocab_size=ZERO + 51, eos_token_id=END, bos_token_id=END, pad_token_id=END, decoder_start_token_id=START),
    **dict(max_source_positions=50, max_target_positions=48, suppress_tokens=None, begin_suppress_tokens=None),
)


def tokenizer() -> Tokenizer:
    letters = Tokenizer(models.WordLevel({letter: IDS[letter] for letter in LETTERS}, unk_token=" "))
    letters.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    letters.add_special_tokens(list(SPECIAL))
    letters.decoder = decoders.Fuse()
    return letters


def ids(text: str) -> list[int]:
    """Tokens of letters, and of times in seconds between bars: `|0.4|ab|0.8|`."""
    found: list[int] = []
    for number, part in enumerate(text.split("|")):
        found += [ZERO + round(float(part) / 0.02)] if number % 2 else [IDS[letter] for letter in part]
    return found


def heard(text: str, average: float = -0.2, no_speech: float = 0.0, temperature: float = 0.0) -> Heard:
    tokens = ids(text)
    letters = "".join(LETTERS[token] for token in tokens if token < END)
    return Heard(tokens, letters, average, compression_ratio(letters), no_speech, temperature)


@dataclasses.dataclass(frozen=True)
class Scripted(Listener):
    """Says one thing after the other, and keeps what it was asked.

    Attributes:
        script: what is said of each window.
        asked: (features, prompt) of each window.
    """

    script: tuple[Heard, ...] = ()
    asked: list[Any] = dataclasses.field(default_factory=list)

    @classmethod
    def of_script(cls, *script: Heard, many: bool = False) -> "Scripted":
        special = SpeechTokens.of(tokenizer(), CONFIG, {"is_multilingual": many})
        model = WhisperForConditionalGeneration(CONFIG)
        return cls(model, {}, tokenizer(), special, GenerationConfig(), script=script)

    def encode(self, features):
        return features

    def languages(self, memory, rows):
        return ["de"] * rows if self.tokens.languages else [None] * rows

    def decode(self, memory, prompts, begun, keys, timestamps, decoding):
        place = len(self.asked)
        self.asked.extend(zip(np.asarray(memory), prompts, strict=True))
        return list(self.script[place : place + len(prompts)])
