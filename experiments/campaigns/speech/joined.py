"""Studio recordings joined to five minutes, silences of 1 to 40 s between them.

    python -m experiments.campaigns.speech.joined MODEL SOUNDS --write

Is anything invented, does anything loop, and are the times those of the joins? MODEL is the folder that
`experiments.material.whisper_tiny` writes, SOUNDS the unpacked packages (`recordings`). Recordings, their order and the silences
are drawn from `--seed`. Each begins where its first frame of 10 ms is louder than -55 dB, and ends behind its last one.
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from data.audio.log_mel import HOP, SAMPLING_RATE
from evaluation.metrics.word_errors import WordErrors, normalizer
from experiments.benchmarks.pages import DOCS, fill, markdown
from experiments.campaigns.speech.recordings import Spoken, recordings
from inference.pipeline import pipeline
from inference.speech import Segment, Transcript, transcribe
from inference.speech.transcription import SECOND, silences

PAGE = DOCS / "speech.md"
SECONDS = 300
SHORTEST, LONGEST = 1.0, 40.0
NEAR = 0.2
"""Seconds that a time may be away from a join."""


@dataclasses.dataclass(frozen=True)
class Joined:
    """Recordings one after the other, each at its place.

    Attributes:
        begins, ends: seconds at which each sounds.
    """

    waveform: Float32[np.ndarray, " samples"]
    spoken: tuple[Spoken, ...]
    begins: tuple[float, ...]
    ends: tuple[float, ...]


def joined(chosen: list[Spoken], seed: int) -> Joined:
    """Recordings drawn from those with 4 words or more until five minutes are full."""
    draw = np.random.default_rng(seed)
    parts, used, begins, ends, place = [], [], [], [], 0
    for number in draw.permutation(len(chosen)).tolist():
        one = chosen[number]
        gap = round(draw.choice([draw.uniform(1, 4), draw.uniform(4, LONGEST)], p=[0.7, 0.3]) * SAMPLING_RATE)
        if place + gap + len(one.waveform) > SECONDS * SAMPLING_RATE:
            break
        parts += [np.zeros(gap, np.float32), one.waveform]
        first, last = sounding(one.waveform)
        begins.append((place + gap) / SAMPLING_RATE + first)
        ends.append((place + gap) / SAMPLING_RATE + last)
        used.append(one)
        place += gap + len(one.waveform)
    parts.append(np.zeros(SECONDS * SAMPLING_RATE - place, np.float32))
    return Joined(np.concatenate(parts), tuple(used), tuple(begins), tuple(ends))


def sounding(waveform: Float32[np.ndarray, " samples"]) -> tuple[float, float]:
    """The seconds from which to which a recording sounds."""
    frames, gaps = -(-len(waveform) // HOP), silences(waveform)
    first = next((end for begin, end in gaps if begin == 0), 0)
    last = next((begin for begin, end in gaps if end == frames), frames)
    return first / SECOND, last / SECOND


def distances(found: list[float], right: tuple[float, ...]) -> list[float]:
    """Of each join, to the nearest time that was found, in seconds."""
    return [min((abs(time - one) for time in found), default=np.inf) for one in right]


def invented(segment: Segment, audio: Joined) -> bool:
    """Whether a segment lies in silence altogether."""
    return not any(
        segment.start < end and begin < segment.end for begin, end in zip(audio.begins, audio.ends, strict=True)
    )


def repeats(text: str) -> bool:
    """Whether three words in a row come three times in a row."""
    words = normalizer("english")(text).split()
    return any(words[n : n + 3] == words[n + 3 : n + 6] == words[n + 6 : n + 9] for n in range(len(words) - 8))


def judged(audio: Joined, transcript: Transcript) -> dict[str, float]:
    """What is asked of a transcript."""
    metric, segments = WordErrors(), transcript.segments
    right = " ".join(one.text for one in audio.spoken)
    found = metric.compute(metric.rows([transcript.text], [right]))
    starts = distances([segment.start for segment in segments], audio.begins)
    ends = distances([segment.end for segment in segments], audio.ends)
    return {
        "recordings": len(audio.spoken),
        "wer": found["wer"],
        "invented": sum(invented(segment, audio) for segment in segments),
        "loops": int(repeats(transcript.text)),
        "starts": sum(distance <= NEAR for distance in starts),
        "ends": sum(distance <= NEAR for distance in ends),
    }


def table(folder: Path, sounds: Path, seeds: range, show: bool = False) -> str:
    reader = pipeline("automatic-speech-recognition", folder).reader
    chosen = list(recordings(sounds, 4))
    rows = []
    for seed in seeds:
        audio = joined(chosen, seed)
        (transcript,) = transcribe(reader.listener, reader.extractor, [audio.waveform], timestamps=True)
        figures = judged(audio, transcript)
        counts = [f"{figures[name]} of {figures['recordings']}" for name in ("starts", "ends")]
        rows.append([str(seed), f"{figures['wer']:.1f} %", str(figures["invented"]), str(figures["loops"]), *counts])
        if show:
            for one, begin, end in zip(audio.spoken, audio.begins, audio.ends, strict=True):
                print(f"right {begin:7.2f} {end:7.2f} {one.text}")
            for segment in transcript.segments:
                print(f"heard {segment.start:7.2f} {segment.end:7.2f} {segment.text}")
    head = ["seed", "WER", "segments in silence", "loops", "starts within 0.2 s", "ends within 0.2 s"]
    return markdown(head, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder of Whisper tiny.en")
    parser.add_argument("sounds", type=Path, help="where both packages are unpacked")
    parser.add_argument("--seed", type=int, default=0, help="the first of them")
    parser.add_argument("--count", type=int, default=3, help="how many")
    parser.add_argument("--show", action="store_true", help="print what was right and what was heard")
    parser.add_argument("--write", action="store_true", help="into docs/speech.md")
    arguments = parser.parse_args()
    seeds = range(arguments.seed, arguments.seed + arguments.count)
    rows = table(arguments.model, arguments.sounds, seeds, arguments.show)
    print(rows)
    if arguments.write:
        fill(PAGE, joined=rows)


if __name__ == "__main__":
    main()
