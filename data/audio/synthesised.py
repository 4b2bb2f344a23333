"""Speech synthesised by eSpeak NG, from the package `espeakng-loader`: words to classify, and sentences to transcribe.

Enough to try a recipe, and not like natural speech. eSpeak's output depends on everything that it said before: for each set the
library is loaded anew, so that the recordings are the same on each host. They are kept in the cache.
"""

import ctypes
import dataclasses
import hashlib
import itertools
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int16

from data.audio.recordings import Arrays, Opened
from data.errors import DataError
from data.files import locked, whole_file

WORDS, SENTENCES = "spoken_words", "spoken_sentences"
"""The names of the two sources."""

COMMANDS = ("down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes")
"""The words of `speech_commands` (Warden, 2018, arXiv 1804.03209)."""
VOICES = ("m1", "m2", "m3", "m4", "m5", "m6", "m7", "f1", "f2", "f3", "f4", "f5")
HELD_OUT_VOICES = ("m7", "f5")
SPEEDS, PITCHES = (120, 150, 180, 210), (30, 50, 70)
SENTENCE_COUNT, SENTENCE_HELD_OUT = 1_600, 160
SPLITS = ("train", "validation")

SYNCHRONOUS, SPEED, PITCH, PLAIN = 2, 1, 3, 1
"""Numbers of eSpeak's interface (`speak_lib.h`): of the output, of the two parameters, of texts in UTF-8."""


class Utterance(NamedTuple):
    """A text with voice, speed and pitch.

    Attributes:
        voice: a variant such as `m3` or `f2`.
        speed: words per minute.
        pitch: from 0 to 99.
    """

    text: str
    voice: str = "m1"
    speed: int = 160
    pitch: int = 50


@dataclasses.dataclass(frozen=True)
class Speaker:
    """eSpeak's library; `rate` is its sampling rate."""

    library: ctypes.CDLL
    rate: int
    parts: list[np.ndarray]

    def say(self, utterance: Utterance) -> Int16[np.ndarray, " samples"]:
        """Synthesises a text in American English."""
        self.parts.clear()
        self.library.espeak_SetVoiceByName(f"en-us+{utterance.voice}".encode())
        for parameter, value in ((SPEED, utterance.speed), (PITCH, utterance.pitch)):
            self.library.espeak_SetParameter(parameter, value, 0)
        spoken = utterance.text.encode("utf-8")
        size = ctypes.c_size_t(len(spoken) + 1)
        if self.library.espeak_Synth(spoken, size, 0, 0, 0, PLAIN, None, None) or not self.parts:
            raise DataError(f"eSpeak cannot say {utterance.text!r}")
        return np.concatenate(self.parts)


def speaker() -> Speaker:
    """A freshly loaded library.

    Raises:
        DataError: eSpeak is not installed.
    """
    try:
        import espeakng_loader
    except ModuleNotFoundError:
        raise DataError(
            "speech is synthesised by espeakng-loader, which is missing: install the `demo` extra"
        ) from None
    with tempfile.TemporaryDirectory() as folder:  # a library that is loaded from elsewhere is another one
        library = ctypes.CDLL(shutil.copy(espeakng_loader.get_library_path(), folder))
    rate = library.espeak_Initialize(SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), 0)
    if rate < 1:
        raise DataError("eSpeak does not start: install espeakng-loader again")
    parts: list[np.ndarray] = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
    def heard(samples, count, _):
        if samples and count:
            parts.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    library.espeak_SetSynthCallback(heard)
    vars(library)["heard"] = heard  # the library keeps no reference to it
    return Speaker(library, rate, parts)


def open_words(cache: Path) -> Opened:
    """`COMMANDS` in all voices, speeds and pitches; the held-out voices are not trained on."""
    takes = list(itertools.product(range(len(COMMANDS)), VOICES, SPEEDS, PITCHES))
    sides = [[take for take in takes if (take[1] in HELD_OUT_VOICES) == held_out] for held_out in (False, True)]
    splits = {}
    for split, chosen in zip(SPLITS, sides, strict=True):
        spoken = said([Utterance(COMMANDS[label], *take) for label, *take in chosen], cache)
        splits[split] = dataclasses.replace(spoken, values=np.array([label for label, *_ in chosen], np.int32))
    return Opened(splits, COMMANDS)


def open_sentences(cache: Path) -> Opened:
    """Phrases of 2 to 5 words from the news in gensim's package, each in one of the voices; others are held out."""
    texts = phrases(SENTENCE_COUNT + SENTENCE_HELD_OUT)
    takes = list(itertools.product(VOICES, SPEEDS, PITCHES))
    drawn = np.random.default_rng(0).integers(len(takes), size=len(texts))
    utterances = [Utterance(text, *takes[number]) for text, number in zip(texts, drawn, strict=True)]
    parts = (slice(None, SENTENCE_COUNT), slice(SENTENCE_COUNT, None))
    return Opened({split: said(utterances[part], cache) for split, part in zip(SPLITS, parts, strict=True)})


def said(utterances: Sequence[Utterance], cache: Path) -> Arrays:
    """Recordings of utterances with their texts, synthesised once and then read from the cache."""
    digest = hashlib.sha256(repr(utterances).encode()).hexdigest()[:32]
    path = cache / "synthesised" / f"{digest}.npz"
    with locked(path):
        if not path.exists():
            one = speaker()
            recordings = [one.say(utterance) for utterance in utterances]
            ends = np.cumsum([len(samples) for samples in recordings])
            with whole_file(path) as temporary:
                np.savez(temporary, samples=np.concatenate(recordings), ends=ends, rate=one.rate)
        with np.load(path) as arrays:
            samples, ends, rate = arrays["samples"], arrays["ends"], int(arrays["rate"])
    return Arrays(np.split(samples, ends[:-1]), rate, [utterance.text for utterance in utterances])


def phrases(count: int) -> list[str]:
    """`count` different phrases of 2 to 5 words of plain letters, in a fixed random order."""
    try:
        from gensim.test.utils import datapath
    except ModuleNotFoundError:
        raise DataError("the sentences come with gensim, which is missing: install the `demo` extra") from None
    with open(datapath("lee_background.cor"), encoding="utf-8", errors="replace") as lines:
        words = [
            run.split() for line in lines for run in re.findall(r"(?<![\w'])(?:[a-z]+ )+[a-z]+(?![\w'])", line.lower())
        ]
    draw = np.random.default_rng(0)
    found: dict[str, None] = {}
    for run in words:
        while len(run) >= 2:
            size = int(draw.integers(2, 6))
            found.setdefault(" ".join(run[:size]))
            run = run[size:]
    texts = [text for text in found if " " in text]
    return [texts[number] for number in draw.permutation(len(texts))[:count]]
