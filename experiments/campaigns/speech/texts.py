"""All transcribed studio recordings, Whisper tiny.en here and in faster-whisper: which texts differ, and where.

    python -m experiments.campaigns.speech.texts MODEL SOUNDS --python ENVIRONMENT/bin/python --converted CONVERTED --write

MODEL is the folder that `experiments.material.whisper_tiny` writes out of CONVERTED, a CTranslate2 model; SOUNDS the unpacked
packages (`recordings`). Both decode greedily at temperature 0, with timestamps. faster-whisper hears each recording twice: as it
is, and with windows padded with silence in place of a spectrogram of 0.0. What was heard is kept, and a run that was stopped goes
on.
"""

import argparse
import functools
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.audio.features import SpectrogramExtractor
from evaluation.metrics.word_errors import WordErrors
from experiments.benchmarks.pages import DOCS, fill, markdown
from experiments.campaigns.speech.faster import FasterWhisper
from experiments.campaigns.speech.recordings import Spoken, recordings
from inference.pipeline import pipeline
from inference.speech import Decoding, transcribe
from inference.speech.listener import Listener
from inference.speech.transcription import Recording

PAGE = DOCS / "speech.md"
GREEDY = Decoding(temperatures=(0.0,))
SETTINGS = {"beam_size": 1, "temperature": 0.0}
BLOCK = 32
"""Recordings that are heard here before they are kept."""
HERE, AS_IT_IS, PADDED = "here", "faster-whisper, as it is", "faster-whisper, padded with silence"
Answer = dict[str, Any]
"""Name of a recording, text, and its tokens, timestamps included."""


def cause(
    listener: Listener, extractor: SpectrogramExtractor, spoken: Spoken, ours: list[int], theirs: list[int]
) -> str:
    """Where two texts part, and what the model here thinks of both tokens at that place."""
    pairs = itertools.zip_longest(ours, theirs, fillvalue=listener.tokens.end)
    same = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
    here, there = (tokens[same] if same < len(tokens) else listener.tokens.end for tokens in (ours, theirs))
    recording = Recording(spoken.waveform, extractor, True)
    if not recording.clips or len(recording.clips) > 1 or recording.frames > recording.window:
        return "several windows, or silence that is left out here"
    memory = listener.encode(recording.features()[None])
    prompt = [*listener.tokens.prompt(None, "transcribe", True), *ours[:same]]
    (scores,) = np.log(np.maximum(listener.first_scores(memory, [prompt]), 1e-30))
    named = [listener.tokenizer.id_to_token(token).replace("Ġ", " ") for token in (here, there)]
    return f"`{named[0]}` {scores[here]:.3f}, `{named[1]}` {scores[there]:.3f}"


def differences(folder: Path, chosen: Sequence[Spoken], theirs: list[Answer], ours: list[Answer]) -> list[list[str]]:
    """A row for each recording of which the texts differ."""
    reader = pipeline("automatic-speech-recognition", folder).reader
    rows = []
    for spoken, there, here in zip(chosen, theirs, ours, strict=True):
        if here["text"].strip() == there["text"].strip():
            continue
        why = cause(reader.listener, reader.extractor, spoken, here["tokens"], there["tokens"])
        rows.append([f"`{spoken.name}`", here["text"].strip(), there["text"].strip(), why])
    return rows


def kept(path: Path, chosen: Sequence[Spoken], answers: Callable[[list[Spoken]], Iterator[Answer]]) -> list[Answer]:
    """The answers to some recordings: those in a file, and the others, each added to it as soon as it is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    known = {}
    if path.exists():
        known = {answer["name"]: answer for answer in map(json.loads, path.read_text().splitlines())}
    waiting = [spoken for spoken in chosen if spoken.name not in known]
    with path.open("a") as file:
        for spoken, answer in zip(waiting, answers(waiting) if waiting else (), strict=True):
            known[spoken.name] = {"name": spoken.name, **answer}
            file.write(json.dumps(known[spoken.name]) + "\n")
            file.flush()
    return [known[spoken.name] for spoken in chosen]


def heard_here(folder: Path, chosen: Sequence[Spoken]) -> Iterator[Answer]:
    """What is heard here, a block of recordings at a time."""
    reader = pipeline("automatic-speech-recognition", folder).reader
    for begin in range(0, len(chosen), BLOCK):
        waveforms = [spoken.waveform for spoken in chosen[begin : begin + BLOCK]]
        for transcript in transcribe(reader.listener, reader.extractor, waveforms, GREEDY, timestamps=True):
            tokens = [token for segment in transcript.segments for token in segment.tokens]
            yield {"text": transcript.text, "tokens": tokens}


def heard_there(arguments: argparse.Namespace, chosen: Sequence[Spoken], silence: bool) -> Iterator[Answer]:
    """What faster-whisper hears. On one thread: several wait for one another while other programs run."""
    python, converted = arguments.python, arguments.converted
    with FasterWhisper(python, converted, SETTINGS, threads=1, silence=silence) as ask:
        for spoken in chosen:
            answer = ask(spoken.waveform)
            tokens = [token for *_, tokens in answer["segments"] for token in tokens]
            yield {"text": answer["text"], "tokens": tokens}


def compared(arguments: argparse.Namespace, chosen: Sequence[Spoken]) -> tuple[str, str]:
    """The table of errors, and that of the differences that padding does not explain."""
    asked = {
        HERE: functools.partial(heard_here, arguments.model),
        AS_IT_IS: functools.partial(heard_there, arguments, silence=False),
        PADDED: functools.partial(heard_there, arguments, silence=True),
    }
    answers = {
        name: kept(arguments.folder / f"{number}.jsonl", chosen, ask)
        for number, (name, ask) in enumerate(asked.items())
    }
    metric, right = WordErrors(), [spoken.text for spoken in chosen]
    rows = []
    for name, found in answers.items():
        said = [answer["text"] for answer in found]
        errors = metric.compute(metric.rows(said, right))
        same = sum(a["text"].strip() == b["text"].strip() for a, b in zip(answers[HERE], found, strict=True))
        shared = f"{same} of {len(said)}, {same / len(said):.1%}"
        rows.append([name, *(f"{errors[figure]:.2f} %" for figure in ("wer", "cer")), shared])
    seconds = sum(spoken.seconds for spoken in chosen)
    about = f"{len(chosen)} recordings, {seconds:,.0f} s of audio; {metric.signature}.".replace("|", ", ")
    different = differences(arguments.model, chosen, answers[PADDED], answers[HERE])
    head = ["", "WER", "CER", "same text as here"]
    parted = markdown(["recording", HERE, PADDED, "where they part, log probabilities here"], different)
    return f"{about}\n\n{markdown(head, rows)}", parted if different else "None.\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder of Whisper tiny.en")
    parser.add_argument("sounds", type=Path, help="where both packages are unpacked")
    parser.add_argument("--python", type=Path, required=True, help="interpreter that has faster-whisper")
    parser.add_argument("--converted", type=Path, required=True, help="folder of the CTranslate2 model")
    parser.add_argument("--first", type=int, default=0, help="number of the first recording")
    parser.add_argument("--count", type=int, help="how many of them; all where it is left out")
    parser.add_argument("--every", type=int, default=1, help="take every n-th of them")
    parser.add_argument("--folder", type=Path, default=Path("build/speech"), help="what is heard is kept there")
    parser.add_argument("--write", action="store_true", help="into docs/speech.md")
    arguments = parser.parse_args()
    last = None if arguments.count is None else arguments.first + arguments.count
    errors, parted = compared(arguments, list(recordings(arguments.sounds))[arguments.first : last : arguments.every])
    print(f"{errors}\n{parted}")
    if arguments.write:
        fill(PAGE, texts=errors, differences=parted)


if __name__ == "__main__":
    main()
