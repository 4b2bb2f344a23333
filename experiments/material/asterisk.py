"""Asterisk's prompts, real speech, as folders for `--data.source`: sentences with transcripts, and words to tell apart.

    apt-get download asterisk-core-sounds-en asterisk-core-sounds-en-g722 && for p in asterisk-*.deb; do dpkg -x $p sounds; done
    python -m experiments.material.asterisk sounds FOLDER --whisper MODEL

553 studio recordings of one speaker with their transcripts, 24 minutes at 16 kHz (CC-BY-SA 3.0). MODEL is the folder that
`experiments.material.whisper_tiny` writes; without it there are no words. Written are:

    sentences/train, sentences/validation     the recordings of two words or more, an eighth of them held out by their transcripts
    sentences/train.tsv, …/validation.tsv     their transcripts
    words/train, words/validation             words that were cut out of those recordings, by Whisper's times of their words
    words/test                                the recordings of one word that say one of them

The classes are the words that are cut out of `LEAST` training sentences or more, and that have a recording of their own. No
sentence that is trained on says the same as one of `validation`, and a recording of one word is in no sentence.
"""

import argparse
import collections
import gzip
import hashlib
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from data.audio.log_mel import SAMPLING_RATE
from data.audio.reading import read_audio

LISTING = "usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz"
SOUNDS = "usr/share/asterisk/sounds/en_US_f_Allison"
DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
HELD_OUT, LEAST = 8, 9
MARGIN, QUIET = 0.04, 0.01
"""Seconds that a cut is wider than the word; what is quieter than this part of the loudest sample is silence."""


class Prompt(NamedTuple):
    """A recording: its name without ending, its file, what it says."""

    name: str
    path: Path
    text: str

    @property
    def words(self) -> list[str]:
        return [word for word in map(spelled, self.text.split()) if word]

    @property
    def side(self) -> str:
        """By what is said."""
        digest = hashlib.sha256(" ".join(self.words).encode()).digest()
        return "train" if digest[0] % HELD_OUT else "validation"

    @property
    def file(self) -> str:
        return f"{self.name.replace('/', '-')}.g722"


def spelled(word: str) -> str:
    """A word in small letters, digits written out, without punctuation."""
    word = re.sub(r"[^a-z0-9']", "", word.lower())
    return DIGITS[int(word)] if re.fullmatch("[0-9]", word) else word


def prompts(sounds: Path) -> Iterator[Prompt]:
    """The recordings of the unpacked packages that have a transcript."""
    with gzip.open(sounds / LISTING, "rt", errors="replace") as lines:
        for line in lines:
            name, _, text = line.strip().partition(":")
            path, text = sounds / SOUNDS / f"{name.strip()}.g722", text.strip()
            if not line.startswith(";") and text and text[0] not in "[(" and path.exists():
                yield Prompt(name.strip(), path, text)


def write_sentences(chosen: Sequence[Prompt], folder: Path) -> None:
    """The recordings and their transcripts, by side."""
    for side in ("train", "validation"):
        (folder / side).mkdir(parents=True, exist_ok=True)
        rows = ["audio\ttext"]
        for prompt in chosen:
            if prompt.side == side:
                shutil.copyfile(prompt.path, folder / side / prompt.file)
                rows.append(f"{side}/{prompt.file}\t{' '.join(prompt.words)}")
        (folder / f"{side}.tsv").write_text("\n".join(rows) + "\n")


def cuts(chosen: Sequence[Prompt], model: Path) -> Iterator[tuple[Prompt, str, Float32[np.ndarray, " samples"]]]:
    """The words of sentences, each with its piece of the recording, as Whisper aligns the transcript with it."""
    from inference.pipeline import pipeline
    from inference.speech.words import timed

    reader = pipeline("automatic-speech-recognition", model).reader
    for prompt in chosen:
        waveform = read_audio(prompt.path)
        features = reader.extractor(waveform)[None, : reader.extractor.frames]
        tokens = reader.listener.tokenizer.encode(f" {prompt.text}", add_special_tokens=False).ids
        frames = len(waveform) * 100 // SAMPLING_RATE
        (words,) = timed(reader.listener, features, frames, [tokens], "en")
        for word in words:
            begin, end = (round(SAMPLING_RATE * second) for second in (word.start - MARGIN, word.end + MARGIN))
            yield prompt, spelled(word.text), waveform[max(begin, 0) : end]


def trimmed(waveform: Float32[np.ndarray, " samples"]) -> Float32[np.ndarray, " samples"]:
    """What lies between the silence at both ends."""
    loud = np.flatnonzero(np.abs(waveform) > QUIET * np.abs(waveform).max())
    return waveform[loud[0] : loud[-1] + 1]


def write_words(every: Sequence[Prompt], model: Path, folder: Path) -> collections.Counter[tuple[str, str]]:
    """The words of all sides; how many there are by side and word."""
    import soundfile

    alone = collections.defaultdict(list)
    for prompt in every:
        if len(prompt.words) == 1 and len(prompt.words[0]) > 1:
            alone[prompt.words[0]].append(prompt)
    found = [cut for cut in cuts([prompt for prompt in every if len(prompt.words) > 1], model) if cut[1] in alone]
    counts = collections.Counter(word for prompt, word, _ in found if prompt.side == "train")
    classes = {word for word, count in counts.items() if count >= LEAST}
    pieces = [(prompt.side, word, prompt, piece) for prompt, word, piece in found]
    pieces += [("test", word, p, trimmed(read_audio(p.path))) for word in sorted(classes) for p in alone[word]]
    written: collections.Counter[tuple[str, str]] = collections.Counter()
    for side, word, prompt, piece in pieces:
        if word in classes and len(piece) >= SAMPLING_RATE // 10:
            written[side, word] += 1
            path = folder / side / word / f"{prompt.name.replace('/', '-')}-{written[side, word]}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, piece, SAMPLING_RATE, subtype="PCM_16")
    return written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sounds", type=Path, help="the unpacked packages")
    parser.add_argument("folder", type=Path, help="where the folders go")
    parser.add_argument("--whisper", type=Path, help="the folder of a Whisper, which says where words are")
    arguments = parser.parse_args()
    every = list(prompts(arguments.sounds))
    write_sentences([prompt for prompt in every if len(prompt.words) > 1], arguments.folder / "sentences")
    if arguments.whisper is not None:
        counts = write_words(every, arguments.whisper, arguments.folder / "words")
        for side in ("train", "validation", "test"):
            words = {word: count for (of, word), count in sorted(counts.items()) if of == side}
            print(f"{side}: {sum(words.values())} recordings of {len(words)} words")


if __name__ == "__main__":
    main()
