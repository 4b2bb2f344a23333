"""Whisper tiny.en on studio recordings, beside `transformers` on torch and faster-whisper: how long does each take?

    python -m experiments.campaigns.speech.transcription MODEL SOUNDS --python PYTHON --converted CONVERTED --write

MODEL is the folder that `experiments.material.whisper_tiny` writes out of CONVERTED, a CTranslate2 model; SOUNDS the unpacked
packages (`recordings`). Every n-th of the recordings with six words or more is taken, each heard by all in turn, one at a time,
greedily at temperature 0, without timestamps, in float32, on as many threads as there are cores; the first of them once
before, for what is compiled.
"""

import argparse
import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from evaluation.metrics.word_errors import WordErrors
from experiments.benchmarks.pages import DOCS, fill, markdown, summary
from experiments.benchmarks.steps import processor
from experiments.campaigns.speech.faster import FasterWhisper
from experiments.campaigns.speech.recordings import Spoken, recordings
from inference.pipeline import pipeline

PAGE = DOCS / "speech.md"
LEAST_WORDS = 6
HERE, TORCH, FASTER = "here", "`transformers` on torch", "faster-whisper"
SETTINGS = {"beam_size": 1, "temperature": 0.0, "without_timestamps": True}


def by_transformers(folder: Path, threads: int) -> Callable[[np.ndarray], str]:
    import torch
    import transformers

    torch.set_num_threads(threads)
    model = transformers.WhisperForConditionalGeneration.from_pretrained(folder)
    extractor = transformers.WhisperFeatureExtractor.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

    def ask(waveform: np.ndarray) -> str:
        features = extractor(waveform, sampling_rate=16_000, return_tensors="pt")["input_features"]
        with torch.no_grad():
            return tokenizer.decode(model.generate(features)[0], skip_special_tokens=True)

    return ask


def heard(asked: dict[str, Callable[[np.ndarray], str]], chosen: list[Spoken]) -> tuple[dict, dict]:
    """What each says, and the seconds that it takes for all of them."""
    for ask in asked.values():
        ask(chosen[0].waveform)
    said: dict[str, list[str]] = {name: [] for name in asked}
    seconds = dict.fromkeys(asked, 0.0)
    for spoken in chosen:
        for name, ask in asked.items():
            begin = time.perf_counter()
            said[name].append(ask(spoken.waveform))
            seconds[name] += time.perf_counter() - begin
    return said, seconds


def compared(said: dict[str, list[str]], seconds: dict[str, float], chosen: list[Spoken]) -> str:
    """The table of what each says and takes."""
    metric, right = WordErrors(), [spoken.text for spoken in chosen]
    length = sum(spoken.seconds for spoken in chosen)
    rows = []
    for name, texts in said.items():
        found = metric.compute(metric.rows(texts, right))
        same = sum(one.strip() == other.strip() for one, other in zip(said[HERE], texts, strict=True))
        errors = [f"{found[figure]:.2f} %" for figure in ("wer", "cer")]
        speed = [f"{seconds[name]:.1f}", f"{length / seconds[name]:.1f}", f"{seconds[name] / seconds[HERE]:.2f}"]
        rows.append([name, *errors, str(same), *speed])
    head = ["", "WER", "CER", "same text as here", "seconds", "times real time", "times as long as here"]
    about = f"{processor()}. {len(chosen)} recordings, {length:.1f} s of audio; {metric.signature}.".replace("|", ", ")
    return f"{about}\n\n{markdown(head, rows)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder of Whisper tiny.en")
    parser.add_argument("sounds", type=Path, help="where both packages are unpacked")
    parser.add_argument("--python", type=Path, help="interpreter that has faster-whisper; left out without")
    parser.add_argument("--converted", type=Path, help="folder of the CTranslate2 model")
    parser.add_argument("--count", type=int, default=12, help="recordings")
    parser.add_argument("--only", nargs="*", default=[HERE, TORCH, FASTER], help="who is asked")
    parser.add_argument("--write", action="store_true", help="into docs/speech.md")
    arguments = parser.parse_args()
    found = list(recordings(arguments.sounds, LEAST_WORDS))
    chosen = found[:: max(1, len(found) // arguments.count)][: arguments.count]
    threads = os.cpu_count() or 1
    ours = pipeline("automatic-speech-recognition", arguments.model)
    asked: dict[str, Callable[[np.ndarray], str]] = {HERE: lambda waveform: ours(waveform, temperatures=(0.0,))["text"]}
    with contextlib.ExitStack() as stack:
        if TORCH in arguments.only:
            asked[TORCH] = by_transformers(arguments.model, threads)
        if arguments.python is not None:
            faster = FasterWhisper(arguments.python, arguments.converted, SETTINGS, threads)
            process = stack.enter_context(faster)
            asked[FASTER] = lambda waveform: process(waveform)["text"]
        said, seconds = heard(asked, chosen)
    table = compared(said, seconds, chosen)
    print(table)
    if arguments.write:
        fill(PAGE, transcription=table)
    summary("transcription", seconds=seconds)


if __name__ == "__main__":
    main()
