"""Recordings for people: what an audio model heard and what it made of it, to be seen and listened to."""

import base64
import html
import io
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Bool, Float, Int
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
        yield f"{path}: the waveform and its spectrogram, with what is masked of them"
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
        places = np.flatnonzero(seen["labels"] != IGNORED)
        for number in np.unique(places[[0, len(places) // 2, -1]] if len(places) else places).tolist():
            frame, others = candidates(seen, number)
            yield f"frame {frame} is to be told from {len(others)} others: {others[:12].tolist()} …"
        yield f"gumbel_temperature {float(seen['gumbel_temperature']):.3f}"


def middle(seen: Example) -> int:
    """Number of the masked frame that a picture shows the distractors of, among those that are asked about."""
    return int((seen["labels"] != IGNORED).sum()) // 2


def candidates(seen: Example, number: int) -> tuple[int, Int[np.ndarray, " distractors"]]:
    """The masked frame with this number, and the frames that are its distractors."""
    positions = seen["masked_positions"]
    return int(positions[number]), positions[seen["sampled_negative_indices"][number]]


def spans_of(mask: Bool[np.ndarray, " frames"]) -> list[tuple[int, int]]:
    """The first frame of each run of masked frames, and the one behind it."""
    edges = np.flatnonzero(np.diff(np.pad(mask.astype(int), 1)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def draw(path: Path, samples: Float[np.ndarray, " samples"], seen: Example, rate: int, step: float) -> None:
    """The waveform above its spectrogram, masked spans shaded; below them the frames that the model is asked about.

    Args:
        step: seconds from one frame to the next.
    """
    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    asked = "sampled_negative_indices" in seen and (seen["labels"] != IGNORED).any()
    heights = [2, 3, 0.7] if asked else [2, 3]
    figure, axes = plt.subplots(
        len(heights), 1, figsize=(9, 1.7 * sum(heights) / 2), sharex=True, layout="constrained", height_ratios=heights
    )
    axes[0].plot(np.arange(len(samples)) / rate, samples, linewidth=0.4)
    axes[0].set(ylabel="normalised", xlim=(0, len(samples) / rate))
    powers, frequencies, times = spectrogram(samples, rate)
    low = max(powers.min(), powers.max() - 80)
    edges = (times[0], times[-1], 0, frequencies[-1] / 1_000)
    axes[1].imshow(powers, origin="lower", aspect="auto", cmap="magma", extent=edges, vmin=low)
    axes[1].set(ylabel="kHz")
    spans = spans_of(seen["mask_time_indices"]) if "mask_time_indices" in seen else []
    for begin, end in spans:
        axes[0].axvspan(begin * step, end * step, color="grey", alpha=0.3, linewidth=0)
        axes[1].axvspan(begin * step, end * step, color="white", alpha=0.55, linewidth=0)
    if spans:
        axes[0].set_title("shaded: masked, one learned vector in the place of each frame", fontsize=9, loc="left")
    if asked:
        draw_candidates(axes[2], spans, *candidates(seen, middle(seen)), step)
    axes[-1].set(xlabel="seconds")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def spectrogram(samples: Float[np.ndarray, " samples"], rate: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Decibels (frequencies, times), the frequencies in hertz, and the seconds at which columns begin and the last one ends."""
    width, hop = min(400, len(samples)), 160
    count = 1 + (len(samples) - width) // hop
    rows = np.stack([samples[first * hop : first * hop + width] for first in range(count)]) * np.hanning(width)
    powers = 10 * np.log10(np.abs(np.fft.rfft(rows)).T ** 2 + 1e-10)
    begin = (width - hop) / 2 / rate
    return powers, np.fft.rfftfreq(width, 1 / rate), begin + np.arange(count + 1) * hop / rate


def draw_candidates(axes, spans, frame: int, others: Int[np.ndarray, " distractors"], step: float) -> None:
    """A strip of the masked frames, of which one is asked about and some are its distractors."""
    for begin, end in spans:
        axes.axvspan(begin * step, end * step, color="lightgrey", linewidth=0)
    for one in np.unique(others):
        axes.axvspan(one * step, (one + 1) * step, color="tab:red", alpha=0.6, linewidth=0)
    axes.axvspan(frame * step, (frame + 1) * step, color="tab:green", linewidth=0)
    axes.plot((frame + 0.5) * step, 1.0, "v", color="tab:green", clip_on=False, markersize=7)
    axes.set(yticks=[], ylim=(0, 1))
    about = f"green: a masked frame; red: its {len(others)} distractors, drawn from the other masked frames"
    axes.set_title(about, fontsize=9, loc="left")


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
