"""Recordings with transcripts as characters, for CTC."""

import dataclasses
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from data.audio.characters import BOS, DELIMITER, EOS, PAD, UNK, Characters
from data.audio.examples import AudioExamples
from data.audio.look import Looked
from data.audio.recordings import Opened, is_path, open_rows, open_tfds
from data.audio.source import Audio, PreparedAudio, Say, two
from data.audio.synthesised import SENTENCES, open_sentences
from data.contents import Broken
from data.contract import Batch, Config
from data.errors import DataError
from data.forms import AudioForm


@dataclasses.dataclass(frozen=True)
class WithTranscripts(Audio):
    """Base of sources of recordings and their transcripts. Recordings longer than an example, and transcripts longer than the
    form's `target`, are refused, or left out if `broken` says so.

    Attributes:
        source: a `.tsv` or `.jsonl` of files, by their paths from there, and texts; a folder with `train.tsv` and
            `validation.tsv` (or `.jsonl`); `spoken_sentences`, synthesised ones (`data.audio.synthesised`); or a TFDS name such
            as `librispeech`.
        features: names of audio and text, of columns, keys or features.
        case: `upper` or `lower` case for all characters, or `keep`.
        remove: pattern of characters to remove.
    """

    features: tuple[str, ...] = ("audio", "text")
    case: Literal["upper", "lower", "keep"] = "upper"
    remove: str = r"[^\w\s']"

    def __post_init__(self) -> None:
        if self.case not in ("upper", "lower", "keep"):
            raise DataError(f"case={self.case!r}: expected upper, lower or keep")

    def opened(self, broken: Broken, say: Say) -> Opened:
        if self.source == SENTENCES:
            return open_sentences(self.cache_folder)
        if is_path(self.source):
            return open_rows(self.source, two(self.features), broken, say)
        return open_tfds(self.source, two(self.features), "a .tsv or .jsonl file of audio files and texts")

    def written(self, text: str) -> str:
        """A normalised transcript: one case, single spaces between words."""
        text = re.sub(self.remove, "", text) if self.remove else text
        text = text.upper() if self.case == "upper" else text.lower() if self.case == "lower" else text
        return " ".join(text.split())

    def blank(self, form: AudioForm) -> Batch:
        return {**super().blank(form), "labels": np.zeros(form.target, np.int32)}


@dataclasses.dataclass(frozen=True)
class Transcribed(WithTranscripts):
    """Recordings and their transcripts as characters.

    Attributes:
        vocabulary: a published `vocab.json`, or its folder; if empty, made from the transcripts.
    """

    vocabulary: str = ""

    def prepared(self, looked: Looked, say: Say) -> "PreparedTranscripts":
        texts = [self.written(text) for text in looked.values]
        made = not self.vocabulary
        characters = Characters.of(texts[place] for place in looked.kept) if made else Characters.read(self.vocabulary)
        targets: list[Any] = [np.zeros(0, np.int32)] * len(texts)
        left_out = []
        for place in looked.kept.tolist():
            try:
                targets[place] = np.array(
                    characters.encode(texts[place], f"transcript {place} of {self.source}"), np.int32
                )
            except DataError as error:
                if self.broken == "refuse":
                    raise
                left_out.append(place)
                say(f"left out: {error}")
        looked = looked.without(left_out)
        arguments = self.arguments(looked)
        written = f"{self.case} {self.remove} {sorted(characters.ids.items())}"
        arguments["fingerprint"] += hashlib.sha256(written.encode()).hexdigest()[:16]
        return PreparedTranscripts(characters, targets=targets, transcripts=texts, made=made, **arguments)

    def blank_vocabulary(self, size: int, needs: Sequence[str] = ()) -> Characters:
        tokens = [PAD, BOS, EOS, UNK, DELIMITER, *(chr(0x4E00 + number) for number in range(size))]
        return Characters({token: number for number, token in enumerate(tokens[:size])})


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class PreparedTranscripts(PreparedAudio):
    """Prepared recordings with transcripts.

    Attributes:
        transcripts: normalised transcripts of all recordings.
        made: whether the vocabulary was made from them.
    """

    transcripts: Sequence[str]
    made: bool

    def save(self, folder: Path, form: AudioForm) -> None:
        super().save(folder, form)
        self.vocabulary.write(folder)

    def adapt(self, config: Config, start: int | None = None) -> Config:
        """The model's config with the vocabulary's size and special ids."""
        characters = self.vocabulary
        return dataclasses.replace(
            config,
            vocab_size=characters.size,
            pad_token_id=characters.pad,
            bos_token_id=characters.bos,
            eos_token_id=characters.eos,
        )

    def examples(self, items: np.ndarray, form: AudioForm, seed: int) -> AudioExamples:
        """Raises `DataError` if a recording or its transcript is too long for the form and is not left out."""
        if form.target < 1:
            raise DataError("target=0: the form of transcripts says how many tokens they have at most")
        tokens = np.array([len(self.targets[item]) for item in items])
        fits = (self.audio.alteration.longest(self.lengths[items]) <= form.length) & (tokens <= form.target)
        if not fits.all() and self.audio.broken == "refuse" and not form.of_bucket:
            worst = items[~fits][0]
            raise DataError(
                f"{(~fits).sum():,} of {len(items):,} recordings are longer than an example: one of"
                f" {self.lengths[worst]:,} samples with {len(self.targets[worst]):,} tokens, and length={form.length:,},"
                f" target={form.target:,}; raise these, or leave such out with --data.broken skip"
            )
        return dataclasses.replace(super().examples(items[fits], form, seed), characters=self.vocabulary)

    def texts(self, items: np.ndarray) -> tuple[list[str], list[str]]:
        """Names and transcripts of the recordings."""
        return [f"recording {item}" for item in items], [self.transcripts[item] for item in items]
