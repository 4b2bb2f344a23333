"""Studio recordings with their transcripts, of two Debian packages.

apt-get download asterisk-core-sounds-en asterisk-core-sounds-en-g722 && for p in asterisk-*.deb; do dpkg -x $p sounds; done
"""

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from data.audio.log_mel import SAMPLING_RATE
from data.audio.reading import read_audio

LISTING = "usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz"
SOUNDS = "usr/share/asterisk/sounds/en_US_f_Allison"


class Spoken(NamedTuple):
    """A recording at 16 kHz and what is said in it."""

    name: str
    waveform: Float32[np.ndarray, " samples"]
    text: str

    @property
    def seconds(self) -> float:
        return len(self.waveform) / SAMPLING_RATE


def recordings(folder: Path, least_words: int = 1) -> Iterator[Spoken]:
    """All recordings of the unpacked packages that have a transcript of so many words; descriptions of music are none."""
    with gzip.open(folder / LISTING, "rt", errors="replace") as lines:
        for line in lines:
            name, _, text = (part.strip() for part in line.partition(":"))
            path = folder / SOUNDS / f"{name}.g722"
            if not line.startswith(";") and text[:1] not in "[(" and path.exists() and len(text.split()) >= least_words:
                yield Spoken(name, read_audio(path), text)
