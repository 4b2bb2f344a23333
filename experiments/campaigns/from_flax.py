"""The table of docs/from-flax.md: each former `Flax…` class of `transformers` 4.57 and its class here, tried on a small folder.

    python -m experiments.campaigns.from_flax --flax-python PATH [--write docs/from-flax.md]

PATH is the interpreter of an environment with transformers 4.57 and Flax: it writes the folders (`flax_folders.py`), which are
read here, and what both give is compared.
"""

import dataclasses
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import tyro

from experiments.benchmarks.pages import fill
from experiments.experiment import ExperimentError
from models import hub

INSTEAD = {
    "FlaxBertForCausalLM": ("BertForMaskedLM", "which sees both sides; take `is_decoder` out of `config.json`"),
    "FlaxElectraForCausalLM": ("ElectraForMaskedLM", "which sees both sides; take `is_decoder` out of `config.json`"),
    "FlaxBartForCausalLM": ("", "`BartForConditionalGeneration` is the decoder with its encoder"),
    "FlaxMarianModel": ("MarianMTModel", "which gives `last_hidden_state` beside the logits"),
}
"""The class to read the parameters as where there is none of the name, and what to say of it."""

FORMS = {"": "", "-sharded": ", several files", "-bottleneck": ", bottleneck blocks"}
"""How the names of folders go on behind the class, and what is said of them."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Compare each `Flax…` class of transformers 4.57 with its class here.

    Attributes:
        flax_python: interpreter of an environment with transformers 4.57 and Flax.
        folders: where the folders are, if they are written already.
        write: the page whose table is to be replaced.
    """

    flax_python: str = ""
    folders: Path | None = None
    write: Path | None = None


def main() -> None:
    options = tyro.cli(Options, description=Options.__doc__)
    with tempfile.TemporaryDirectory() as temporary:
        folders = options.folders or written(options.flax_python, Path(temporary))
        table = "\n".join(rows(folders))
    print(table)
    if options.write is not None:
        fill(options.write, classes=table)


def written(python: str, folder: Path) -> Path:
    """The folders of all classes, written by another interpreter."""
    if not python:
        raise ExperimentError("say which interpreter has transformers 4.57 and Flax: --flax-python PATH")
    script = Path(__file__).with_name("flax_folders.py")
    done = subprocess.run([python, str(script), str(folder)], capture_output=True, text=True)
    if done.returncode:
        raise ExperimentError(f"{python} could not write the folders: {done.stderr[-2000:]}")
    return folder


def rows(folders: Path) -> list[str]:
    """The table, a line for each class."""
    about = json.loads((folders / "classes.json").read_text())
    if about["failed"]:
        raise ExperimentError(f"transformers {about['version']} could not write {about['failed']}")
    table = ["| Flax class | class here | greatest difference | outputs compared |", "|---|---|--:|---|"]
    for name in [name for names in about["classes"].values() for name in names]:
        for form, what in FORMS.items():
            folder = folders / f"{name}{form}"
            table += [row(folder, name, what)] if folder.is_dir() else []
    return table


def row(folder: Path, flax: str, form: str) -> str:
    """A line of the table."""
    label = f"`{flax}`{form}"
    if flax in INSTEAD:
        architecture, why = INSTEAD[flax]
        if not architecture:
            return f"| {label} | none: {why} | | |"
        load = f'`hub.load(folder, architecture="{architecture}")`, {why}'
        with tempfile.TemporaryDirectory() as temporary:
            copy = shutil.copytree(folder, Path(temporary) / "model")
            config = json.loads((copy / "config.json").read_text())
            (copy / "config.json").write_text(json.dumps({**config, "is_decoder": False}))
            if config.get("is_decoder") and not config.get("is_encoder_decoder"):
                hub.load(copy, architecture=architecture)
                return f"| {label} | none: {load} | | |"
            _, difference, compared = compared_with(copy, architecture)
            return f"| {label} | none: {load} | {difference:.0e} | {quoted(compared)} |"
    model, difference, compared = compared_with(folder)
    return f"| {label} | `{model}` | {difference:.0e} | {quoted(compared)} |"


def quoted(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def compared_with(folder: Path, architecture: str | None = None) -> tuple[str, float, list[str]]:
    """The class that a folder is read as, the greatest difference of its outputs (relative to the greatest number where that is
    above 1), and which these are."""
    model, variables = hub.load(folder, architecture=architecture)
    arrays = dict(np.load(folder / "expected.npz"))
    inputs = {name.removeprefix("input "): x for name, x in arrays.items() if name.startswith("input ")}
    if "pixel_values" in inputs:
        inputs["pixel_values"] = inputs["pixel_values"].transpose(0, 2, 3, 1)
    outputs = model.apply(variables, **{name: jnp.asarray(x) for name, x in inputs.items() if name in model.inputs})
    differences = {}
    for name, theirs in arrays.items():
        if name in outputs:
            ours = np.asarray(outputs[name])
            if "pixel_values" in inputs and ours.ndim == 4:
                ours = ours.transpose(0, 3, 1, 2)
            difference = np.abs(real(ours.reshape(theirs.shape) - theirs, inputs)).max()
            differences[name] = difference / max(1.0, np.abs(theirs).max())
    if not differences:
        raise ExperimentError(f"{folder}: nothing to compare; {type(model).__name__} gives {', '.join(outputs)}")
    return type(model).__name__, float(max(differences.values())), list(differences)


def real(difference: np.ndarray, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """Without what stands at padding, where each library has numbers of its own."""
    mask = inputs.get("attention_mask")
    if mask is None or "decoder_input_ids" in inputs or difference.shape[: mask.ndim] != mask.shape:
        return difference
    return difference[mask > 0]


if __name__ == "__main__":
    main()
