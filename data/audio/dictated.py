"""Recordings with transcripts for encoder-decoders: samples, of which the device makes spectrograms, and tokens."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import tyro
from tokenizers import Tokenizer

from data.audio.look import Looked
from data.audio.prompted import TASKS, PromptedVocabulary, prompted_tokenizer
from data.audio.source import Say
from data.audio.spectrograms import OfSpectrograms
from data.audio.transcribed import PreparedTranscripts, WithTranscripts
from data.contract import Config
from data.errors import DataError
from data.forms import AudioForm
from data.text.tokenizers import load


@dataclasses.dataclass(frozen=True)
class Dictated(OfSpectrograms, WithTranscripts):
    """Recordings and their transcripts as tokens. The form's `target` includes the prompt and the end of the text.

    Attributes:
        case, remove: changes of the characters of transcripts; none by default.
        tokenizer: a published `tokenizer.json`, or its folder; if empty, one is trained on the transcripts.
        vocab_size: size of a tokenizer trained here, at most that of the model.
        seconds: the last timestamp of a tokenizer trained here.
        language: language token, such as `en`, of a multilingual model; empty for a model of one language.
        task: task token of a multilingual model.
        trained_here: whether `tokenizer` was trained on this source.
    """

    case: Literal["upper", "lower", "keep"] = "keep"
    remove: str = ""
    tokenizer: str = ""
    vocab_size: int | None = None
    seconds: int = 30
    language: str = ""
    task: Literal["transcribe", "translate"] = "transcribe"
    trained_here: tyro.conf.Suppress[bool] = dataclasses.field(default=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.task not in TASKS:
            raise DataError(f"task={self.task!r}: expected {' or '.join(TASKS)}")

    @property
    def trains_tokenizer(self) -> bool:
        return self.tokenizer == ""

    def read_with(self, tokenizer: Path, trained_here: bool = False) -> Self:
        return dataclasses.replace(self, tokenizer=str(tokenizer), trained_here=trained_here)

    def prepare(self, size: int, folder: Path, say: Say, needs: Sequence[str] = ()) -> "PreparedDictation":
        sized = dataclasses.replace(self, vocab_size=self.vocab_size or size)
        return dataclasses.replace(super(Dictated, sized).prepare(size, folder, say, needs), audio=self)

    def prepared(self, looked: Looked, say: Say) -> "PreparedDictation":
        texts = [self.written(text) for text in looked.values]
        if self.trains_tokenizer:
            say(f"training a byte_bpe tokenizer on {len(looked.training):,} transcripts")
            tokenizer, _ = prompted_tokenizer(
                (texts[place] for place in looked.training),
                vocab_size=self.vocab_size,
                seconds=self.seconds,
                language=self.language,
                cache=self.cache_folder,
            )
        else:
            tokenizer = load(self.tokenizer)
        vocabulary = PromptedVocabulary.of(tokenizer, self.language, self.task)
        targets: list[Any] = [np.zeros(0, np.int32)] * len(texts)
        for place in looked.kept.tolist():
            targets[place] = np.array(vocabulary.encode(texts[place]), np.int32)
        arguments = self.arguments(looked)
        written = f"{self.case} {self.remove} {vocabulary.prompt} {vocabulary.content}"
        arguments["fingerprint"] += hashlib.sha256(written.encode()).hexdigest()[:16]
        made = self.trains_tokenizer or self.trained_here
        return PreparedDictation(
            vocabulary, targets=targets, transcripts=texts, made=made, tokenizer=tokenizer, **arguments
        )

    def blank_vocabulary(self, size: int, needs: Sequence[str] = ()) -> PromptedVocabulary:
        return PromptedVocabulary(size, "", start=1, eos=0, prompt=(2, 3, 4) if self.language else (2,))


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class PreparedDictation(PreparedTranscripts):
    """Prepared recordings with transcripts as tokens."""

    tokenizer: Tokenizer

    @property
    def generation(self) -> Mapping[str, Any]:
        """The prompt settings for the model's `generation_config.json`."""
        return {
            "is_multilingual": bool(self.audio.language),
            "no_timestamps_token_id": self.vocabulary.prompt[-1],
            "begin_suppress_tokens": list(self.vocabulary.first),
        }

    def save(self, folder: Path, form: AudioForm) -> None:
        """Writes `tokenizer.json` and `preprocessor_config.json`."""
        self.save_processor(folder, form)
        self.tokenizer.save(str(folder / "tokenizer.json"))

    def save_processor(self, folder: Path, form: AudioForm) -> None:
        self.audio.write_processor(folder, form)

    def adapt(self, config: Config, start: int | None = None) -> Config:
        """The model's config with the special ids of a tokenizer that was trained on this source.

        Raises:
            DataError: another tokenizer has more ids than the model, or another start token.
        """
        vocabulary = self.vocabulary
        if self.made:
            return dataclasses.replace(
                config,
                **{f"{role}_token_id": vocabulary.eos for role in ("pad", "bos", "eos")},
                vocab_size=vocabulary.size,
                decoder_start_token_id=vocabulary.start,
                begin_suppress_tokens=vocabulary.first,
                suppress_tokens=None,
            )
        ids = vocabulary.start, vocabulary.eos
        if vocabulary.size > config.vocab_size or ids != (config.decoder_start_token_id, config.eos_token_id):
            raise DataError(
                f"the tokenizer has {vocabulary.size} tokens, begins texts with {ids[0]} and ends them with {ids[1]}; the model"
                f" has {config.vocab_size}, {config.decoder_start_token_id} and {config.eos_token_id}"
            )
        return config

    def waveforms(self, items: np.ndarray) -> list[np.ndarray]:
        """Whole recordings at the sampling rate of the source."""
        everything = self.examples(items, AudioForm(1 << 62, target=1 << 30), 0)
        return [everything.waveform(int(place)) for place in items]
