"""The report of a run: one HTML file that needs no network, with curves, baselines, a table and a few guesses."""

import functools
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
from tokenizers import Tokenizer

from data.text.tokenizers import Vocabulary
from evaluation.baselines import comparison
from experiments.assembly.assembly import Assembly
from experiments.assembly.feed import EVALUATION_SEED
from experiments.show import pictures
from models.hub.files import write_whole
from objectives.losses import IGNORED
from training.identity import flatten
from training.metrics import read_metrics

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.2rem; }
table { border-collapse: collapse; margin: .6rem 0; } td, th { padding: .25rem .8rem .25rem 0; text-align: left;
vertical-align: top; border-bottom: 1px solid #e3e6ea; } 
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
svg { max-width: 100%; height: auto; } .sentence { margin: .8rem 0; line-height: 2.1; }
.gap { border-radius: 4px; padding: .1rem .3rem; white-space: nowrap; } 
.right { background: #d3f2dc; } .wrong { background: #fde2dd; }
.gap small { color: #57606a; } details { margin-top: .6rem; } .dim { color: #57606a; }
figure { display: inline-block; margin: .4rem .8rem .4rem 0; vertical-align: top; }
"""


SAID = {
    "tokens": "Held-out text, asked as in training. For each token asked the guess, its probability, and the original where"
    " the guess is wrong.",
    "images": "Held-out pictures, with the likeliest class, its probability, and the right one where that is another; or"
    " as they are, with the gaps that the model is shown, and with what it puts there.",
}
"""What the guesses are, by what examples consist of."""
TOKEN_LOGITS = ("prediction_logits", "generator_logits", "logits")


def write_report(folder: Path, assembly: Assembly, result: dict[str, Any], guesses: Sequence[str]) -> None:
    """Write `folder/report.html`, whole, from the run's metrics, its result and the model's `guesses`."""
    lines = read_metrics(folder / "metrics.jsonl")
    body = [
        f"<h1>{html.escape(result['name'])}</h1>",
        f"<p>{html.escape(type(assembly.student).__name__)} with {result['parameters']:,} parameters,"
        f" {result['steps']:,} steps of up to {result['items_per_step']:,} {result['items']},"
        f" trained on {result['corpus']['training']:,} {result['corpus']['of']},"
        f" measured on {result['corpus']['held_out']:,} that it has not seen.</p>",
        "<h2>Held out</h2>",
        results_table(result),
        "<h2>Curves</h2>",
        *curves(lines, result.get("training_baselines", {}), result.get("units", {})),
        "<h2>What it guesses</h2>",
        f"<p class=dim>{SAID[assembly.experiment.form(-1).items]}</p>",
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


def table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """An HTML table; the columns in `numbers` are set flush right."""

    def row(cells: Sequence[str], tag: str) -> str:
        marks = (f"<{tag} class=number>" if i in numbers else f"<{tag}>" for i in range(len(cells)))
        return "<tr>" + "".join(f"{mark}{cell}</{tag}>" for mark, cell in zip(marks, cells, strict=True)) + "</tr>"

    return "<table>" + (row(head, "th") if head else "") + "".join(row(cells, "td") for cells in rows) + "</table>"


def results_table(result: dict[str, Any]) -> str:
    rows = comparison(result["held_out"], result["baselines"], result.get("units", {}), result.get("intervals", {}))
    return table(("", "model", "baseline", "what the baseline is"), rows, numbers=(1, 2))


def curves(lines: list[dict[str, Any]], base: dict[str, Any], units: Mapping[str, str]) -> list[str]:
    """One SVG for each loss and accuracy: training (thin: each step, thick: smoothed), held out, baseline.

    Args:
        base: for some of the losses the baseline on what was trained on, which is drawn where there is one.
        units: of losses, where they have one.
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
    """Held-out examples, evenly spread, with the model's guesses; empty for a model that makes none.

    Args:
        variables: on the devices, as the steps want them; every process is to ask.
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
    guessed = next(GUESSES[name] for name in seen if name in GUESSES)
    return guessed(assembly, batch, seen, outputs)


def text_guesses(
    assembly: Assembly,
    batch: Mapping[str, np.ndarray],
    seen: Mapping[str, np.ndarray],
    outputs: Mapping[str, np.ndarray],
) -> list[str]:
    """Held-out texts with the guessed class, or the guess for each token asked; empty for a model that predicts neither."""
    if "logits" in outputs and seen.get("labels", np.zeros(0)).ndim == 1:
        names = assembly.data.vocabulary.labels
        return [
            f"<div class=sentence>{html.escape(assembly.data.tokenizer.decode(ids.tolist()))}"
            f"<div>{pictures.verdict(logits, int(label), names)}</div></div>"
            for ids, logits, label in zip(seen["input_ids"], outputs["logits"], seen["labels"], strict=True)
        ]
    if "labels" not in seen or "guess" not in outputs or outputs["guess"].shape != seen["labels"].shape:
        return []
    word = functools.partial(written, assembly.data.tokenizer, assembly.data.vocabulary)
    blocks = []
    for row, labels in enumerate(seen["labels"]):
        asked = labels != IGNORED
        gaps = [
            gap(word(guess), share, None if guess == label else word(label))
            for label, guess, share in zip(
                labels[asked], outputs["guess"][row][asked], outputs["probability"][row][asked], strict=True
            )
        ]
        read = [html.escape(word(token)) for token in seen["input_ids"][row][seen["attention_mask"][row] > 0]]
        if "masked_positions" in seen:
            for position, text in zip(seen["masked_positions"][row][asked], gaps, strict=True):
                read[int(position)] = f" {text}"
            lines = "".join(read)
        elif "decoder_input_ids" in seen:
            lines = f"<div class=dim>{''.join(read)}</div>{' '.join(gaps)}"
        else:
            lines = f"{read[0]} {' '.join(gaps)}"
        blocks.append(f"<div class=sentence>{lines}{verdict(outputs, seen, row)}</div>")
    return blocks


def answers(outputs: Mapping[str, Array]) -> dict[str, Array]:
    """What guesses are made of: the likeliest token at each place and its probability, classes, made pictures."""
    found = {name: outputs[name] for name in ("seq_relationship_logits", "reconstruction") if name in outputs}
    name = next((name for name in TOKEN_LOGITS if name in outputs), None)
    if name is not None and outputs[name].ndim == 3:
        logits = outputs[name].astype(jnp.float32)
        found |= {"guess": logits.argmax(axis=-1), "probability": jax.nn.softmax(logits).max(axis=-1)}
    elif name is not None:
        found["logits"] = outputs[name]
    return found


def picture_guesses(
    assembly: Assembly,
    batch: Mapping[str, np.ndarray],
    seen: Mapping[str, np.ndarray],
    outputs: Mapping[str, np.ndarray],
) -> list[str]:
    """Held-out pictures with the guessed class, or with what the model puts into their gaps."""
    names = assembly.data.vocabulary.labels
    blocks = []
    for row, given in enumerate(batch["pixel_values"]):
        one = [{name: x[row] for name, x in arrays.items()} for arrays in (seen, outputs)]
        if "reconstruction" in outputs:
            blocks.append(pictures.figure(pictures.beside(pictures.stages(given, *one, assembly.normalization)), ""))
        elif "logits" in outputs and outputs["logits"].ndim == 2:
            label = int(seen["labels"][row]) if seen.get("labels", np.zeros(0)).ndim == 1 else None
            blocks.append(pictures.figure(given, pictures.verdict(outputs["logits"][row], label, names)))
    return blocks


GUESSES = {"pixel_values": picture_guesses, "input_ids": text_guesses}
"""How guesses are drawn, by what the model reads."""


def written(tokenizer: Tokenizer, vocabulary: Vocabulary, token: int) -> str:
    """A token as it stands in a text, with the space before it where it begins a word."""
    text = tokenizer.decode([int(token)], skip_special_tokens=False).strip().removeprefix("##")
    if not text:
        text = tokenizer.id_to_token(int(token)) or f"<{token}>"
    return (" " if token >= len(vocabulary.starts_word) or vocabulary.starts_word[token] else "") + text


def gap(guess: str, share: float, original: str | None) -> str:
    """A guess with its probability, and the original where that is another."""
    wrong = "" if original is None else f" <small>✗ {html.escape(original.strip())}</small>"
    kind = "right" if original is None else "wrong"
    return f"<span class='gap {kind}'>{html.escape(guess.strip())} <small>{share:.0%}</small>{wrong}</span>"


def verdict(outputs: Mapping[str, np.ndarray], seen: Mapping[str, np.ndarray], row: int) -> str:
    """What a model of next sentences says of the second segment."""
    if "seq_relationship_logits" not in outputs or "next_sentence_label" not in seen:
        return ""
    answer, truth = int(outputs["seq_relationship_logits"][row].argmax()), int(seen["next_sentence_label"][row])
    said = ("follows", "from elsewhere")
    return f"<div class=dim>second segment: {said[answer]}, says the model; in truth {said[truth]}</div>"


def run_table(result: dict[str, Any], lines: list[dict[str, Any]]) -> str:
    """Where and how fast it ran."""
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
            share = result["flops_per_step"] / seconds / result["peak_flops"]
            rows.append(
                (
                    "MFU of one device's peak",
                    f"{share:.1%} of {result['peak_flops']:.3g} FLOP/s ({html.escape(result['peak_source'])})",
                )
            )
        else:
            rows.append(("MFU", f"not shown, the peak is {html.escape(result['peak_source'])}"))
    return table((), rows)


def input_wait(times: list[dict[str, float]]) -> float:
    """The share of the time of all steps for which the host waited for the next batch."""
    waited = sum(time["input_wait"] * time["step_seconds"] for time in times)
    return waited / sum(time["step_seconds"] for time in times)


def settings_table(assembly: Assembly) -> str:
    from experiments.experiment import describe

    rows = [(html.escape(name), html.escape(str(value))) for name, value in flatten(describe(assembly.experiment))]
    return table((), rows)
