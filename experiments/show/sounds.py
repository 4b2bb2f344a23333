"""Recordings for people: what an audio model heard and what it made of it, to be seen and listened to."""

import base64
import html
import io
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Float
from rich.table import Table

from experiments.assembly.assembly import Assembly
from experiments.show import texts
from experiments.show.html import class_guess, classes_asked
from inference.ctc import runs_of
from objectives.losses import IGNORED
from objectives.objective import Example

CAPTION = (
    "Held-out recordings, with the likeliest class, its probability, and the right one where that is another; or with what was"
    " made out, and what was said; where a decoder writes it, each token behind the right ones before it."
)


def heard(example: Mapping[str, np.ndarray]) -> Float[np.ndarray, " samples"]:
    """The samples of an example without its padding."""
    return example["input_values"][example["attention_mask"] > 0]


def player(samples: Float[np.ndarray, " samples"], rate: int) -> str:
    """A recording in HTML, as loud as can be, the file within."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, 0.9 * samples / max(1e-6, np.abs(samples).max()), rate, format="WAV", subtype="PCM_16")
    data = base64.b64encode(file.getvalue()).decode()
    return f"<audio controls src='data:audio/wav;base64,{data}'></audio>"


def guesses(
    assembly: Assembly,
    batch: Mapping[str, np.ndarray],
    seen: Mapping[str, np.ndarray],
    outputs: Mapping[str, np.ndarray],
) -> list[str]:
    """Held-out recordings with the guessed class or transcript."""
    vocabulary, rate, blocks = assembly.data.vocabulary, assembly.experiment.data.sampling_rate, []
    for row in range(len(batch["input_values"])):
        one = {name: x[row] for name, x in seen.items()}
        if "logits" in outputs:
            about = class_guess(outputs["logits"][row], int(one["labels"]), vocabulary.labels)
        elif "guess" in outputs and ("logit_lengths" in one or "decoder_input_ids" in one):
            guess, asked = outputs["guess"][row], one["labels"] != IGNORED
            if "logit_lengths" in one:
                tokens = [run.token for run in runs_of(guess[: one["logit_lengths"]].tolist(), vocabulary.pad)]
            else:
                tokens = guess[asked].tolist()
            said, right = vocabulary.decode(tokens), vocabulary.decode(one["labels"][asked].tolist())
            wrong = "" if said == right else f" <small>✗ {html.escape(right)}</small>"
            about = f"<span class='gap {'wrong' if wrong else 'right'}'>{html.escape(said)}{wrong}</span>"
        else:
            continue
        blocks.append(f"<figure>{player(heard(one), rate)}<figcaption>{about}</figcaption></figure>")
    return blocks


def explained(assembly: Assembly, before: Example, seen: Example, number: int) -> Iterator[str | Table]:
    """What is asked of a recording; a file shows its waveform and spectrogram, and what is masked of them."""
    path, rate = assembly.experiment.run_folder / f"example-{number}.png", assembly.experiment.data.sampling_rate
    path.parent.mkdir(parents=True, exist_ok=True)
    values, samples = seen["input_values"], len(heard(seen))
    if "input_features" in seen:
        features = seen["input_features"]
        draw_features(path, values, features, rate)
        yield f"{path}: the waveform and the spectrogram that the model reads"
        low, high = float(features.min()), float(features.max())
        yield f"input_features {features.shape} {features.dtype}, from {low:.2f} to {high:.2f}"
    else:
        draw(path, heard(seen), seen, rate, step=math.prod(assembly.experiment.model.conv_stride) / rate)
        yield f"{path}: the waveform and its spectrogram, masked frames grey"
    yield f"input_values {values.shape} {values.dtype}, {samples:,} of them heard: {samples / rate:.2f} s"
    yield from classes_asked(seen, assembly.data.vocabulary.labels)
    if "decoder_input_ids" in seen:
        yield texts.side(assembly, seen, "decoder_input_ids", texts.asked(seen), assembly.data.vocabulary.token)
    if "logit_lengths" in seen:
        labels = seen["labels"][seen["labels"] != IGNORED]
        text = assembly.data.vocabulary.decode(labels.tolist())
        yield f"labels, {len(labels)} for {int(seen['logit_lengths'])} frames: {text!r}"
    if "mask_time_indices" in seen:
        mask = seen["mask_time_indices"]
        begins = np.flatnonzero(np.diff(mask.astype(int), prepend=0) == 1)
        yield f"{int(mask.sum())} of {mask.size} frames are masked, in {len(begins)} spans, from {begins.tolist()}"
    if "mask_feature_indices" in seen:
        yield f"{int(seen['mask_feature_indices'].sum())} of {seen['mask_feature_indices'].size} features are 0"
    if "sampled_negative_indices" in seen:
        positions = seen["masked_positions"]
        for place in np.flatnonzero(seen["labels"] != IGNORED)[:3].tolist():
            others = positions[seen["sampled_negative_indices"][place]].tolist()
            yield f"frame {positions[place]} is to be told from {len(others)} others: {others[:12]} …"
        yield f"gumbel_temperature {float(seen['gumbel_temperature']):.3f}"


def draw(path: Path, samples: Float[np.ndarray, " samples"], seen: Example, rate: int, step: float) -> None:
    """The waveform above its spectrogram, with a grey stripe for each masked frame and a mark for the first one's distractors.

    Args:
        step: seconds from one frame to the next.
    """
    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 1, figsize=(9, 4.5), sharex=True, layout="constrained")
    axes[0].plot(np.arange(len(samples)) / rate, samples, linewidth=0.4)
    axes[1].specgram(
        samples + 1e-6, NFFT=min(400, len(samples)), Fs=rate, noverlap=min(240, len(samples) // 2), cmap="magma"
    )
    mask = seen.get("mask_time_indices")
    if mask is not None:
        for frame in np.flatnonzero(mask):
            for one in axes:
                one.axvspan(frame * step, (frame + 1) * step, color="grey", alpha=0.35, linewidth=0)
        if "sampled_negative_indices" in seen:
            positions = seen["masked_positions"]
            others = positions[seen["sampled_negative_indices"][0]]
            axes[0].plot((positions[0] + 0.5) * step, 0, "go", markersize=6, label="a frame")
            axes[0].plot((others + 0.5) * step, np.zeros(len(others)), "rx", markersize=4, label="its distractors")
            axes[0].legend(frameon=False, fontsize=8)
    axes[0].set(ylabel="normalised")
    axes[1].set(xlabel="seconds", ylabel="Hz")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_features(
    path: Path, samples: Float[np.ndarray, " samples"], features: Float[np.ndarray, "frames mels"], rate: int
) -> None:
    """The waveform above the spectrogram that a model reads of it, lowest band below; what is masked shows as stripes."""
    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 1, figsize=(9, 4.5), sharex=True, layout="constrained")
    seconds = len(samples) / rate
    axes[0].plot(np.arange(len(samples)) / rate, samples, linewidth=0.4)
    axes[1].imshow(features.T, origin="lower", aspect="auto", cmap="magma", extent=(0, seconds, 0, features.shape[1]))
    axes[0].set(ylabel="sample")
    axes[1].set(xlabel="seconds", ylabel="mel band")
    figure.savefig(path, dpi=110)
    plt.close(figure)
