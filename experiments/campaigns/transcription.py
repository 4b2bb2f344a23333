"""Whisper tiny.en on studio recordings, beside `transformers` on torch: the same texts? how many errors? how long?

    apt-get download asterisk-core-sounds-en asterisk-core-sounds-en-g722 && for p in asterisk-*.deb; do dpkg -x $p sounds; done
    python -m experiments.campaigns.transcription MODEL sounds --count 12 --write

MODEL is the folder that `experiments.material.whisper_tiny` writes. Every n-th of the recordings with six words or more is
taken, each heard by both in turn, greedily, on all cores; the first of them once before, for what is compiled.
"""

import argparse
import gzip
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from data.audio.reading import read_audio
from evaluation.metrics.word_errors import WordErrors
from experiments.benchmarks.pages import DOCS, fill, markdown
from inference.pipeline import pipeline

PAGE = DOCS / "speech.md"
LISTING = "usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz"
SOUNDS = "usr/share/asterisk/sounds/en_US_f_Allison"
LEAST_WORDS = 6


def recordings(folder: Path) -> Iterator[tuple[np.ndarray, str]]:
    """Waveforms at 16 kHz and their transcripts, of the unpacked packages."""
    with gzip.open(folder / LISTING, "rt", errors="replace") as lines:
        for line in lines:
            name, _, text = line.strip().partition(":")
            path, text = folder / SOUNDS / f"{name.strip()}.g722", text.strip()
            if not line.startswith(";") and text[:1] not in "[(" and path.exists() and len(text.split()) >= LEAST_WORDS:
                yield read_audio(path), text


def by_transformers(folder: Path) -> Callable[[np.ndarray], str]:
    import torch
    import transformers

    model = transformers.WhisperForConditionalGeneration.from_pretrained(folder)
    extractor = transformers.WhisperFeatureExtractor.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

    def ask(waveform: np.ndarray) -> str:
        features = extractor(waveform, sampling_rate=16_000, return_tensors="pt")["input_features"]
        with torch.no_grad():
            return tokenizer.decode(model.generate(features)[0], skip_special_tokens=True)

    return ask


def compared(folder: Path, chosen: list[tuple[np.ndarray, str]]) -> str:
    """The table of what both say."""
    ours = pipeline("automatic-speech-recognition", folder)
    asked = {"here": lambda waveform: ours(waveform)["text"], "`transformers`": by_transformers(folder)}
    for ask in asked.values():
        ask(chosen[0][0])
    said: dict[str, list[str]] = {name: [] for name in asked}
    seconds = dict.fromkeys(asked, 0.0)
    for waveform, _ in chosen:
        for name, ask in asked.items():
            begin = time.perf_counter()
            said[name].append(ask(waveform))
            seconds[name] += time.perf_counter() - begin
    metric, right = WordErrors(), [text for _, text in chosen]
    length = sum(len(waveform) for waveform, _ in chosen) / 16_000
    first, *_ = said.values()
    rows = []
    for name, texts in said.items():
        found = metric.compute(metric.rows(texts, right))
        same = sum(one.strip() == other.strip() for one, other in zip(first, texts, strict=True))
        errors = [f"{found[figure]:.2f} %" for figure in ("wer", "cer")]
        rows.append([name, *errors, str(same), f"{seconds[name]:.1f}", f"{length / seconds[name]:.1f}"])
    head = ["", "WER", "CER", "same text as here", "seconds", "times real time"]
    about = f"{len(chosen)} recordings, {length:.1f} s of audio, greedily; {metric.signature}.".replace("|", ", ")
    return f"{about}\n\n{markdown(head, rows)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder of Whisper tiny.en")
    parser.add_argument("sounds", type=Path, help="where both packages are unpacked")
    parser.add_argument("--count", type=int, default=12, help="recordings")
    parser.add_argument("--write", action="store_true", help="into docs/speech.md")
    arguments = parser.parse_args()
    found = list(recordings(arguments.sounds))
    chosen = found[:: max(1, len(found) // arguments.count)][: arguments.count]
    table = compared(arguments.model, chosen)
    print(table)
    if arguments.write:
        fill(PAGE, transcription=table)


if __name__ == "__main__":
    main()
