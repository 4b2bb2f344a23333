"""The data of an experiment on audio: recordings alone, or with classes."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Int64

from data.audio.examples import Alteration, AudioExamples
from data.audio.look import Looked, looked_at
from data.audio.processor import WaveformProcessor
from data.audio.recordings import (
    Opened,
    Recordings,
    examine,
    is_path,
    open_classes,
    open_files,
    open_rows,
    open_tfds,
)
from data.audio.synthesised import SENTENCES, WORDS, open_sentences, open_words
from data.class_folders import sides
from data.contents import Broken, Progress, spoken
from data.contract import Batch, Classes, Prepared, Source
from data.errors import DataError
from data.file_contents import Reading
from data.forms import AudioForm
from data.survey import Survey, repeated, share_of

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Audio(Source):
    """Recordings without labels.

    Attributes:
        source: a folder of audio files (`.wav`, `.flac`, `.ogg`, `.mp3`, `.g722`, …) at any depth, or with folders `train` and
            `validation` of those; `spoken_sentences`, synthesised ones (`data.audio.synthesised`); or a TFDS name such as
            `librispeech`.
        features: name of the audio in a TFDS data set.
        held_out_split: the split to evaluate on; if empty, `validation` if the source has one.
        training_splits: the splits to train on, of which `librispeech` has several; `train` if empty.
        sampling_rate: rate to which all are resampled.
        do_normalize: normalise each recording by its mean and deviation.
        alteration: augmentation for training.
    """

    documents: ClassVar[str] = "recordings"
    forms: ClassVar[type[AudioForm]] = AudioForm

    features: tuple[str, ...] = ("audio",)
    held_out_split: str = ""
    training_splits: tuple[str, ...] = ()
    sampling_rate: int = 16_000
    do_normalize: bool = True
    alteration: Alteration = Alteration()

    @property
    def processor(self) -> WaveformProcessor:
        return WaveformProcessor(self.sampling_rate, self.do_normalize)

    def write_processor(self, folder: Path, form: AudioForm) -> None:
        """Writes `preprocessor_config.json`, for `transformers.AutoFeatureExtractor`."""
        self.processor.write(folder)

    def prepare(self, size: int, folder: Path, say: Say, needs: Sequence[str] = ()) -> "PreparedAudio":
        """Opens the source, looks at its recordings and splits them."""
        say(f"opening {self.source}")
        looked = self.look(say, spoken(say, f"the recordings of {self.source}"), self.broken)
        return self.prepared(looked, say)

    def prepared(self, looked: Looked, say: Say) -> "PreparedAudio":
        return PreparedAudio(Classes(()), **self.arguments(looked))

    def arguments(self, looked: Looked) -> dict[str, Any]:
        """Arguments that all prepared sources of audio share."""
        return dict(
            fingerprint=f"{looked.fingerprint} {self.sampling_rate} {self.do_normalize}",
            training_items=looked.training,
            held_out_items=looked.held_out,
            amounts={"hours": int(looked.lengths[looked.kept].sum() / self.sampling_rate / 3_600)},
            given=looked.given,
            audio=self,
            recordings=looked.parts,
            lengths=looked.lengths,
        )

    def opened(self, broken: Broken, say: Say) -> Opened:
        """Opens the source."""
        if self.source == SENTENCES:
            return Opened(
                {
                    name: dataclasses.replace(split, values=())
                    for name, split in open_sentences(self.cache_folder).splits.items()
                }
            )
        if is_path(self.source):
            return open_files(self.source)
        return open_tfds(self.source, self.features[:1], "a folder of audio files")

    def look(self, say: Say, progress: Progress, broken: Broken, again: bool = False) -> Looked:
        """Looks at all recordings once. Raises `DataError` as `looked_at`."""
        opened = self.opened(broken, say)
        reading = Reading(
            "recording",
            functools.partial(examine, sampling_rate=self.sampling_rate),
            self.cache_folder / f"audio-{self.sampling_rate}",
            decode=broken == "skip",
            again=again,
            progress=progress,
        )
        return looked_at(opened, *self.sides(opened.splits), self, reading, broken, say)

    def sides(self, splits: Mapping[str, Recordings]) -> tuple[list[Recordings], Recordings | None]:
        """The splits to train on, and the held-out split, `None` if there is none."""
        if not self.training_splits:
            training, held_out = sides(splits, self.held_out_split, self.source)
            return [] if training is None else [training], held_out
        missing = sorted({*self.training_splits, *filter(None, [self.held_out_split])} - set(splits))
        if missing:
            raise DataError(f"{self.source} has no split {missing[0]!r}, but {', '.join(splits)}")
        return [splits[name] for name in self.training_splits], splits.get(self.held_out_split)

    def survey(self, progress: Progress) -> Survey:
        looked = self.look(lambda _: None, progress, "skip", again=True)
        kept, held_out = looked.kept, looked.held_out
        seconds = looked.lengths[kept] / self.sampling_rate
        return Survey(
            {
                "recordings that can be read": f"{len(kept):,}",
                "recordings that came before": f"{repeated(looked.hashes[kept]):,}",
                "recordings to train on": f"{len(looked.training):,}",
                "recordings held out": share_of(len(held_out), len(kept)),
                "seconds": f"{seconds.sum():,.0f}, {seconds.min():.1f} to {seconds.max():.1f} each",
            },
            looked.broken,
        )

    def blank_vocabulary(self, size: int, needs: Sequence[str] = ()) -> Any:
        return Classes(())

    def blank(self, form: AudioForm) -> Batch:
        return {"input_values": np.zeros(form.length, np.float32), "attention_mask": np.zeros(form.length, np.int32)}


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class PreparedAudio(Prepared):
    """Prepared recordings.

    Attributes:
        recordings: the parts of the source; `training_items` and `held_out_items` are indices counted through all parts.
        lengths: samples of each recording.
        targets: ids of the transcript, or the class, of each recording; empty if there are none.
    """

    audio: Audio
    recordings: Sequence[Recordings]
    lengths: Int64[np.ndarray, " recordings"]
    targets: Any = ()

    def save(self, folder: Path, form: AudioForm) -> None:
        """Writes `preprocessor_config.json`, and the vocabulary of the transcripts."""
        self.audio.write_processor(folder, form)

    def examples(self, items: np.ndarray, form: AudioForm, seed: int) -> AudioExamples:
        """Raises `DataError` where there is nothing on that side."""
        if not len(items):
            raise DataError(f"{self.audio.source} has no such recordings: it may be there to evaluate on alone")
        return AudioExamples(
            recordings=self.recordings,
            places=items,
            lengths=self.lengths[items],
            processor=self.audio.processor,
            targets=self.chosen(items),
            alteration=self.audio.alteration,
            form=form,
            seed=seed,
        )

    def chosen(self, items: np.ndarray) -> Any:
        """The targets of some recordings."""
        return [self.targets[item] for item in items] if len(self.targets) else ()


@dataclasses.dataclass(frozen=True)
class LabelledAudio(Audio):
    """Recordings and a class each.

    Attributes:
        source: a folder with a folder of audio files for each class, or with folders `train` and `validation` of those; a `.tsv`
            or `.jsonl` of files, by their paths from there, and classes; `spoken_words`, synthesised ones; or a TFDS name such as
            `speech_commands`.
        features: names of audio and class, of columns, keys or features.
    """

    features: tuple[str, ...] = ("audio", "label")

    def opened(self, broken: Broken, say: Say) -> Opened:
        path = Path(self.source).expanduser()
        if self.source == WORDS:
            return open_words(self.cache_folder)
        if not is_path(self.source):
            return open_tfds(self.source, two(self.features), "a folder of class folders, nor a .tsv or .jsonl file")
        if path.is_dir():
            return open_classes(self.source)
        opened = open_rows(self.source, two(self.features), broken, say)
        classes = tuple(sorted({value for split in opened.splits.values() for value in split.values}))
        if len(classes) < 2:
            raise DataError(f"{self.source} holds the one class {classes[0]!r}, and to tell classes apart it takes two")
        splits = {
            name: dataclasses.replace(
                split, values=np.array([classes.index(value) for value in split.values], np.int32)
            )
            for name, split in opened.splits.items()
        }
        return Opened(splits, classes)

    def prepared(self, looked: Looked, say: Say) -> PreparedAudio:
        return PreparedAudio(
            Classes(looked.classes), targets=np.array(looked.values, np.int32), **self.arguments(looked)
        )

    def blank_vocabulary(self, size: int, needs: Sequence[str] = ()) -> Classes:
        return Classes(tuple(f"LABEL_{label}" for label in range(size)))

    def blank(self, form: AudioForm) -> Batch:
        return {**super().blank(form), "labels": np.zeros((), np.int32)}


def two(features: tuple[str, ...]) -> tuple[str, str]:
    """The two names in `features`: audio, and text or class."""
    if len(features) != 2:
        raise DataError(f"features={features}: expected the names of the audio and of what goes with it")
    return features[0], features[1]
