"""All transcribed studio recordings, Whisper tiny.en here and in faster-whisper: which texts differ, and where.

    python -m experiments.campaigns.speech.texts MODEL SOUNDS --python ENVIRONMENT/bin/python --converted CONVERTED --write

MODEL is the folder that `experiments.material.whisper_tiny` writes out of CONVERTED, a CTranslate2 model; SOUNDS the unpacked
packages (`recordings`). Both decode greedily at temperature 0, with timestamps. faster-whisper hears each recording twice: as it
is, and with windows padded with silence in place of a spectrogram of 0.0.
"""

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.audio.features import SpectrogramExtractor
from evaluation.metrics.word_errors import WordErrors
from experiments.benchmarks.pages import DOCS, fill, markdown
from experiments.campaigns.speech.faster import FasterWhisper
from experiments.campaigns.speech.recordings import Spoken, recordings
from inference.pipeline import pipeline
from inference.speech import Decoding, Transcript, transcribe
from inference.speech.listener import Listener
from inference.speech.transcription import Recording

PAGE = DOCS / "speech.md"
GREEDY = Decoding(temperatures=(0.0,))
SETTINGS = {"beam_size": 1, "temperature": 0.0}
HERE, AS_IT_IS, PADDED = "here", "faster-whisper, as it is", "faster-whisper, padded with silence"


def tokens_of(transcript: Transcript) -> list[int]:
    return [token for segment in transcript.segments for token in segment.tokens]


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


def differences(
    folder: Path, chosen: Sequence[Spoken], answers: Sequence[dict], ours: Sequence[Transcript]
) -> list[list[str]]:
    """A row for each recording of which the texts differ."""
    reader = pipeline("automatic-speech-recognition", folder).reader
    rows = []
    for spoken, answer, transcript in zip(chosen, answers, ours, strict=True):
        if transcript.text.strip() == answer["text"].strip():
            continue
        theirs = [token for *_, tokens in answer["segments"] for token in tokens]
        why = cause(reader.listener, reader.extractor, spoken, tokens_of(transcript), theirs)
        rows.append([f"`{spoken.name}`", transcript.text.strip(), answer["text"].strip(), why])
    return rows


def asked(arguments: argparse.Namespace, chosen: Sequence[Spoken], silence: bool) -> list[dict]:
    with FasterWhisper(arguments.python, arguments.converted, SETTINGS, silence=silence) as ask:
        return [ask(spoken.waveform) for spoken in chosen]


def compared(arguments: argparse.Namespace, chosen: Sequence[Spoken]) -> tuple[str, str]:
    """The table of errors, and that of the differences that padding does not explain."""
    reader = pipeline("automatic-speech-recognition", arguments.model).reader
    waveforms = [spoken.waveform for spoken in chosen]
    ours = transcribe(reader.listener, reader.extractor, waveforms, GREEDY, timestamps=True)
    answers = {name: asked(arguments, chosen, silence) for name, silence in ((AS_IT_IS, False), (PADDED, True))}
    texts = {HERE: [one.text for one in ours], **{name: [one["text"] for one in row] for name, row in answers.items()}}
    metric, right = WordErrors(), [spoken.text for spoken in chosen]
    rows = []
    for name, said in texts.items():
        found = metric.compute(metric.rows(said, right))
        same = sum(one.strip() == other.strip() for one, other in zip(texts[HERE], said, strict=True))
        shared = f"{same} of {len(said)}, {same / len(said):.1%}"
        rows.append([name, *(f"{found[figure]:.2f} %" for figure in ("wer", "cer")), shared])
    seconds = sum(spoken.seconds for spoken in chosen)
    about = f"{len(chosen)} recordings, {seconds:,.0f} s of audio; {metric.signature}.".replace("|", ", ")
    different = differences(arguments.model, chosen, answers[PADDED], ours)
    head = ["", "WER", "CER", "same text as here"]
    parted = markdown(["recording", "here", PADDED, "where they part, log probabilities here"], different)
    return f"{about}\n\n{markdown(head, rows)}", parted if different else "None."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder of Whisper tiny.en")
    parser.add_argument("sounds", type=Path, help="where both packages are unpacked")
    parser.add_argument("--python", type=Path, required=True, help="interpreter that has faster-whisper")
    parser.add_argument("--converted", type=Path, required=True, help="folder of the CTranslate2 model")
    parser.add_argument("--every", type=int, default=1, help="take every n-th recording")
    parser.add_argument("--write", action="store_true", help="into docs/speech.md")
    arguments = parser.parse_args()
    errors, parted = compared(arguments, list(recordings(arguments.sounds))[:: arguments.every])
    print(f"{errors}\n{parted}")
    if arguments.write:
        fill(PAGE, texts=errors, differences=parted)


if __name__ == "__main__":
    main()
