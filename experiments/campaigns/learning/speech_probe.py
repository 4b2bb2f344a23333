"""What lines see in the frames of a Wav2Vec2 that stays as it is: words told apart by logistic regression on their mean and
deviation, beside those of a network of random parameters and of log-mel bands.

    python -m experiments.campaigns.learning.speech_probe FOLDER --models runs/wav2vec2-spoken/model

FOLDER holds {train,test}/WORD/*.wav.
The layer, and how much the regression is held back, are the best by cross-validation on the training recordings.
"""

import argparse
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from data.audio.log_mel import SAMPLING_RATE
from data.audio.processor import WaveformProcessor
from data.audio.source import LabelledAudio, PreparedAudio
from experiments.campaigns.learning.spoken_words import described, waveforms
from models import hub
from models.model import Model

FOLDS, BLOCK = 4, 32
PENALTIES = (0.01, 0.1)
LONGEST = 20_000
Features = Float[np.ndarray, "items features"]


@functools.partial(jax.jit, static_argnums=0)
def pooled(
    model: Model, variables: Any, values: Float[Array, "batch samples"], mask: Int[Array, "batch samples"]
) -> Float[Array, "layers batch features"]:
    """Mean and deviation of each layer's frames, what goes into the first layer first."""
    states = model.apply(variables, values, mask, output_hidden_states=True).hidden_states
    frames = model.config.frames(mask.sum(axis=-1))
    heard = (jnp.arange(states.shape[2])[None] < frames[:, None])[None, :, :, None]
    count = frames[None, :, None]
    mean = jnp.where(heard, states, 0).sum(axis=2) / count
    squares = jnp.where(heard, (states - mean[:, :, None]) ** 2, 0).sum(axis=2) / count
    return jnp.concatenate([mean, jnp.sqrt(squares)], axis=-1)


def layers_of(model: Model, variables: Any, prepared: PreparedAudio, items: np.ndarray) -> list[Features]:
    """`pooled` of recordings, of each its first `LONGEST` samples, by layer."""
    processor, rows = WaveformProcessor(SAMPLING_RATE, True), []
    every = [processor.values(waveform)[:LONGEST] for waveform in waveforms(prepared, items)]
    for begin in range(0, len(every), BLOCK):
        part = every[begin : begin + BLOCK]
        values, mask = np.zeros((BLOCK, LONGEST), np.float32), np.ones((BLOCK, LONGEST), np.int32)
        for row, samples in enumerate(part):  # what fills the block up is silence
            values[row, : len(samples)] = samples
            mask[row, len(samples) :] = 0
        rows.append(np.asarray(pooled(model, variables, jnp.asarray(values), jnp.asarray(mask)))[:, : len(part)])
    return list(np.concatenate(rows, axis=1))


def fitted(features: Features, labels: np.ndarray) -> Any:
    """Logistic regression, with the best of `PENALTIES` by cross-validation; its `best_score_` is that of the folds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    line = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1_000))
    return GridSearchCV(line, {"logisticregression__C": PENALTIES}, cv=FOLDS).fit(features, labels)


def probed(sides: Sequence[PreparedAudio], model: Model, variables: Any) -> dict[str, float]:
    """The accuracy on what each side holds out, that of the folds, and the layer that it comes from.

    Args:
        sides: of the same training recordings.
    """
    training = sides[0].training_items
    lines = [fitted(seen, sides[0].targets[training]) for seen in layers_of(model, variables, sides[0], training)]
    layer = int(np.argmax([line.best_score_ for line in lines]))
    scores = {}
    for number, side in enumerate(sides):
        items = side.held_out_items
        scores[f"held out {number}"] = float(
            lines[layer].score(layers_of(model, variables, side, items)[layer], side.targets[items])
        )
    return {**scores, "folds": float(lines[layer].best_score_), "layer": layer}


def probed_bands(sides: Sequence[PreparedAudio]) -> dict[str, float]:
    """The same of log-mel bands."""
    training = sides[0].training_items
    line = fitted(described(sides[0], training), sides[0].targets[training])
    scores = {
        f"held out {number}": float(line.score(described(side, side.held_out_items), side.targets[side.held_out_items]))
        for number, side in enumerate(sides)
    }
    return {**scores, "folds": float(line.best_score_)}


def at_random(model: Model, seed: int) -> Any:
    """First parameters of a model."""
    return nn.unbox(model.init(jax.random.key(seed), **model.blank()))


def rows(sides: Sequence[PreparedAudio], folders: Sequence[Path]) -> Iterator[tuple[str, dict[str, float]]]:
    """What is probed, and the figures of it."""
    yield "log-mel bands", probed_bands(sides)
    for seed, folder in enumerate(folders):
        model, variables = hub.load(folder)
        yield f"random parameters, seed {seed}", probed(sides, model, at_random(model, seed))
        yield f"pretrained, {folder}", probed(sides, model, variables)


def opened(source: Path | str, held_out_split: str) -> PreparedAudio:
    """Recordings of words, without a run."""
    return LabelledAudio(source=str(source), held_out_split=held_out_split).prepare(0, Path(), lambda _: None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="as of `LabelledAudio`")
    parser.add_argument("--held-out-splits", nargs="*", default=["validation", "test"])
    parser.add_argument("--models", type=Path, nargs="*", default=[], help="folders of a `Wav2Vec2ForPreTraining`")
    arguments = parser.parse_args()
    sides = [opened(arguments.source, split) for split in arguments.held_out_splits]
    for name, figures in rows(sides, arguments.models):
        print(name, {figure: round(value, 4) for figure, value in figures.items()}, flush=True)


if __name__ == "__main__":
    main()
