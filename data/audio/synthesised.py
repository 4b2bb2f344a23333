"""Speech that is synthesised by eSpeak NG, which `pip install espeakng-loader` brings: words to tell apart, and sentences.

It is the same on every machine with the same version, and as many voices and speeds as are wanted speak it: enough to try a
recipe on, and no more like people than that.
"""

import ctypes
import dataclasses
import functools
import itertools
import re

import numpy as np
from jaxtyping import Int16

from data.audio.recordings import Arrays, Opened
from data.errors import DataError

WORDS, SENTENCES = "spoken_words", "spoken_sentences"
"""The names of the two sources."""

COMMANDS = ("down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes")
"""The words that `speech_commands` has (Warden, 2018, arXiv 1804.03209)."""
VOICES = ("m1", "m2", "m3", "m4", "m5", "m6", "m7", "f1", "f2", "f3", "f4", "f5")
HELD_OUT_VOICES = ("m7", "f5")
SPEEDS, PITCHES = (120, 150, 180, 210), (30, 50, 70)
SENTENCE_COUNT, SENTENCE_HELD_OUT = 1_600, 160

SYNCHRONOUS, SPEED, PITCH, PLAIN = 2, 1, 3, 1
"""Numbers of eSpeak's interface (`speak_lib.h`): of the output, of the two parameters, of texts in UTF-8."""


@dataclasses.dataclass(frozen=True)
class Speaker:
    """eSpeak's library; `rate` is the sampling rate of all that it says."""

    library: ctypes.CDLL
    rate: int
    parts: list[np.ndarray]

    def say(self, text: str, voice: str, speed: int = 160, pitch: int = 50) -> Int16[np.ndarray, " samples"]:
        """A text in American English.

        Args:
            voice: a variant such as `m3` or `f2`.
            speed: words a minute.
            pitch: from 0 to 99.
        """
        self.parts.clear()
        self.library.espeak_SetVoiceByName(f"en-us+{voice}".encode())
        for parameter, value in ((SPEED, speed), (PITCH, pitch)):
            self.library.espeak_SetParameter(parameter, value, 0)
        spoken = text.encode("utf-8")
        size = ctypes.c_size_t(len(spoken) + 1)
        if self.library.espeak_Synth(spoken, size, 0, 0, 0, PLAIN, None, None) or not self.parts:
            raise DataError(f"eSpeak cannot say {text!r}")
        return np.concatenate(self.parts)


@functools.cache
def speaker() -> Speaker:
    """The one of this process.

    Raises:
        DataError: eSpeak is not installed.
    """
    try:
        import espeakng_loader
    except ModuleNotFoundError:
        raise DataError(
            "speech is synthesised by espeakng-loader, which is missing: install the `demo` extra"
        ) from None
    library = ctypes.CDLL(espeakng_loader.get_library_path())
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


def open_words() -> Opened:
    """`COMMANDS` in all voices, speeds and pitches; the voices that are held out say nothing that is trained on."""
    takes = itertools.product(range(len(COMMANDS)), VOICES, SPEEDS, PITCHES)
    sides: dict[str, list] = {"train": [], "validation": []}
    for label, voice, speed, pitch in takes:
        sides["validation" if voice in HELD_OUT_VOICES else "train"].append((label, voice, speed, pitch))
    splits = {
        side: Arrays(
            [speaker().say(COMMANDS[label], *take) for label, *take in chosen],
            speaker().rate,
            np.array([label for label, *_ in chosen], np.int32),
        )
        for side, chosen in sides.items()
    }
    return Opened(splits, COMMANDS)


def open_sentences() -> Opened:
    """Parts of sentences of 2 to 5 words out of news that gensim brings, each in one of the voices; those held out are others."""
    texts = phrases(SENTENCE_COUNT + SENTENCE_HELD_OUT)
    takes = list(itertools.product(SPEEDS, VOICES, PITCHES))
    drawn = np.random.default_rng(0).integers(len(takes), size=len(texts))
    spoken = []
    for text, (speed, voice, pitch) in zip(texts, (takes[number] for number in drawn), strict=True):
        spoken.append(speaker().say(text, voice, speed, pitch))
    cut = SENTENCE_COUNT
    return Opened(
        {
            "train": Arrays(spoken[:cut], speaker().rate, texts[:cut]),
            "validation": Arrays(spoken[cut:], speaker().rate, texts[cut:]),
        }
    )


def phrases(count: int) -> list[str]:
    """So many different runs of 2 to 5 words of plain letters, in an order that is drawn once."""
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
