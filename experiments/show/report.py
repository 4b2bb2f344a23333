"""The report of a run: one HTML file that needs no network, with curves, baselines, a table and a few guesses."""

import html
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from jaxtyping import Array

from evaluation.baselines import comparison
from experiments.assembly.assembly import Assembly
from experiments.assembly.feed import EVALUATION_SEED
from experiments.show import module_for
from experiments.show.html import STYLE, table
from models.hub.files import write_whole
from training.identity import flatten
from training.metrics import read_metrics

SCENES = ("pred_boxes", "class_queries_logits", "masks_queries_logits", "predicted_depth")
TOKEN_LOGITS = ("prediction_logits", "generator_logits", "logits")


def write_report(folder: Path, assembly: Assembly, result: dict[str, Any], guesses: Sequence[str]) -> None:
    """Writes `folder/report.html` from the run's metrics, its result and the model's `guesses`."""
    lines = read_metrics(folder / "metrics.jsonl")
    body = [
        f"<h1>{html.escape(result['name'])}</h1>",
        f"<p>{html.escape(type(assembly.student).__name__)} with {result['parameters']:,} parameters,"
        f" {result['steps']:,} steps of up to {result['items_per_step']:,} {result['items']},"
        f" trained on {result['corpus']['training']:,} {result['corpus']['of']},"
        f" measured after step {result['model_step']:,} on {result['corpus']['held_out']:,} that it has not seen.</p>",
        "<h2>Held out</h2>",
        results_table(result),
        "<h2>Curves</h2>",
        *curves(lines, result.get("training_baselines", {}), result.get("units", {})),
        "<h2>What it guesses</h2>",
        f"<p class=dim>{module_for(assembly.student.inputs).CAPTION}</p>",
        *guesses,
        "<h2>The run</h2>",
        run_table(result, lines),
        "<details><summary>Every setting</summary>" + settings_table(assembly) + "</details>",
    ]
    page = (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        f"<meta name=viewport content='width=device-width'><title>{html.escape(result['name'])}</title>"
        f"<style>{STYLE}</style></head><body>{''.join(body)}</body></html>"
    )
    write_whole({folder / "report.html": lambda path: path.write_text(page, encoding="utf-8")})


def results_table(result: dict[str, Any]) -> str:
    rows = comparison(result["held_out"], result["baselines"], result.get("units", {}), result.get("intervals", {}))
    return table(("", "model", "baseline", "what the baseline is"), rows, numbers=(1, 2))


def curves(lines: list[dict[str, Any]], base: dict[str, Any], units: Mapping[str, str]) -> list[str]:
    """An SVG for each loss and accuracy: training (thin: each step, thick: smoothed), held out, baseline.

    Args:
        base: baselines of some losses on the training examples.
        units: units of some losses.
    """
    train = [line for line in lines if line["split"] == "train"]
    held_out = [line for line in lines if line["split"] == "held_out"]
    floors = {name: base_["loss"] for name, base_ in base.items()}
    floors |= {base_["metric"]: base_["accuracy"] for base_ in base.values()}
    names = [name for name in (train[0] if train else {}) if name.endswith(("_loss", "_accuracy"))]
    return [
        plot(title(name, units), name, train, held_out, floors.get(name))
        for name in sorted(names, key=lambda n: n.endswith("accuracy"))
    ]


def title(name: str, units: Mapping[str, str]) -> str:
    unit = units.get(name, "")
    return name.replace("_", " ") + (f" ({unit})" if unit else "")


def plot(heading: str, name: str, train: list[dict], held_out: list[dict], floor: float | None) -> str:
    """A curve as inline SVG.

    Args:
        floor: the baseline of the training examples.
    """
    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": "lacuna", "font.family": "sans-serif"}):
        figure, axes = plt.subplots(figsize=(7.5, 3.2), layout="constrained")
        steps = np.array([line["step"] for line in train])
        values = np.array([line[name] for line in train])
        width = max(1, len(values) // 50)
        thin = slice(None, None, max(1, len(values) // 1000))
        axes.plot(steps[thin], values[thin], color="#9bb7d4", linewidth=0.5, label="training, each step")
        if len(values) >= width:
            smooth = np.convolve(values, np.ones(width) / width, mode="valid")
            axes.plot(steps[width - 1 :][thin], smooth[thin], color="#2563a8", label=f"training, mean of {width} steps")
        if held_out:
            axes.plot(
                [line["step"] for line in held_out],
                [line[name] for line in held_out],
                "o-",
                color="#c2410c",
                label="held out",
            )
        if floor is not None:
            axes.axhline(floor, color="#57606a", linestyle="--", label=f"baseline of training {floor:.3f}")
        axes.set(xlabel="step", title=heading)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=9)
        picture = io.StringIO()
        figure.savefig(picture, format="svg", metadata={"Date": None})
        plt.close(figure)
    text = picture.getvalue()
    return re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)


def guesses(assembly: Assembly, variables: Any) -> list[str]:
    """Evenly spaced held-out examples with the model's predictions; empty for a model without any.

    Args:
        variables: on the devices, laid out as for the steps; every process must call this.
    """
    held_out = assembly.held_out()
    shown = min(held_out.form.shown, len(held_out))
    batch = held_out.batch(np.arange(shown) * len(held_out) // shown)
    seen = assembly.seen(batch, EVALUATION_SEED)
    if "label_positions" in seen:  # trained on all places, asked here at these
        seen["masked_positions"] = seen.pop("label_positions")
    try:
        outputs = assembly.asked(variables, seen, answers)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return ["<p>Left out: there is no room on the devices for the model's outputs on these examples.</p>"]
    return module_for(seen).guesses(assembly, batch, seen, outputs)


def answers(outputs: Mapping[str, Array]) -> dict[str, Array]:
    """Predictions from a model's outputs: the likeliest token at each place with its probability, classes, pictures."""
    whole = ("seq_relationship_logits", "reconstruction", "start_logits", "end_logits", *SCENES)
    parts = {name: outputs[name] for name in whole if name in outputs}
    name = next((name for name in TOKEN_LOGITS if name in outputs), None)
    if name is not None and outputs[name].ndim == 3:
        logits = outputs[name].astype(jnp.float32)
        parts |= {"guess": logits.argmax(axis=-1), "probability": jax.nn.softmax(logits).max(axis=-1)}
    elif name is not None:
        parts["logits"] = outputs[name]
    return parts


def run_table(result: dict[str, Any], lines: list[dict[str, Any]]) -> str:
    """The table of hardware and speed."""
    times = [line["time"] for line in lines if "time" in line]
    rows = [(html.escape(name), html.escape(str(value))) for name, value in result["machine"].items()]
    rows.append(("this call trained for", f"{result['seconds']:.0f} s"))
    if times:
        seconds = float(np.median([time["step_seconds"] for time in times]))
        rows += [
            ("step, median", f"{seconds:.3f} s"),
            (f"{result['items']} per second", f"{result['items_per_step'] / seconds:,.0f}"),
            ("of which the host waited for input", f"{input_wait(times):.1%}"),
            *[
                (name.replace("_bytes", ", most").replace("_", " "), f"{max(t[name] for t in times) / 2**20:,.0f} MiB")
                for name in ("device_peak_bytes", "process_peak_bytes")
                if name in times[-1]
            ],
            (
                "model FLOPs per step",
                f"{result['flops_per_step']:.3g} (matrix products; backward counted as 2 × forward)",
            ),
        ]
        if result["peak_flops"]:
            utilization = result["flops_per_step"] / seconds / result["peak_flops"]
            rows.append(
                (
                    "MFU of one device's peak",
                    f"{utilization:.1%} of {result['peak_flops']:.3g} FLOP/s ({html.escape(result['peak_source'])})",
                )
            )
        else:
            rows.append(("MFU", f"not shown, the peak is {html.escape(result['peak_source'])}"))
    return table((), rows)


def input_wait(times: list[dict[str, float]]) -> float:
    """The fraction of the time of all steps for which the host waited for the next batch."""
    waited = sum(time["input_wait"] * time["step_seconds"] for time in times)
    return waited / sum(time["step_seconds"] for time in times)


def settings_table(assembly: Assembly) -> str:
    from experiments.experiment import describe

    rows = [(html.escape(name), html.escape(str(value))) for name, value in flatten(describe(assembly.experiment))]
    return table((), rows)
