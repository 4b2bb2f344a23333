"""What a line does without a network: spoken words told apart by the mean and the deviation of their log-mel bands.

    python -m experiments.campaigns.learning.spoken_words [--source FOLDER]      the share of held-out words that is right

The baseline of `experiments/wav2vec2/keywords.py`: logistic regression, on the recordings that its recipe holds out.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data.audio.log_mel import HOP, SAMPLING_RATE, log_mel_of_any_length
from data.audio.reading import Waveform
from data.audio.source import LabelledAudio, PreparedAudio

BANDS = 40


def waveforms(prepared: PreparedAudio, items: np.ndarray) -> Iterator[Waveform]:
    """The samples of each recording."""
    for item in items.tolist():
        place, parts = item, list(prepared.recordings)
        while place >= len(parts[0]):
            place -= len(parts.pop(0))
        yield parts[0].waveform(place, SAMPLING_RATE)


def described(prepared: PreparedAudio, items: np.ndarray) -> np.ndarray:
    """Mean and deviation of each band over the frames of each recording, `[items, 2 · bands]`."""
    rows = []
    for waveform in waveforms(prepared, items):
        bands = log_mel_of_any_length(waveform, mels=BANDS, window=SAMPLING_RATE)[: -(-len(waveform) // HOP)]
        rows.append(np.concatenate([bands.mean(axis=0), bands.std(axis=0)]))
    return np.stack(rows)


def accuracy(source: str) -> float:
    """Of logistic regression, fitted to what is trained on and asked for what is held out."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    prepared = LabelledAudio(source=source).prepare(0, Path(), print)
    fitted = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2_000))
    training, held_out = prepared.training_items, prepared.held_out_items
    fitted.fit(described(prepared, training), prepared.targets[training])
    return float(fitted.score(described(prepared, held_out), prepared.targets[held_out]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="spoken_words", help="as of `LabelledAudio`")
    print(f"{accuracy(parser.parse_args().source):.1%} of the held-out words are right")


if __name__ == "__main__":
    main()
