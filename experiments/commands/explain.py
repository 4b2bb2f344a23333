"""`lacuna explain`: what the objective feeds the model, token by token."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments.assembly.assemble import assemble
from experiments.assembly.assembly import Assembly
from experiments.commands import parse_experiment
from experiments.commands.train import console
from experiments.experiment import ExperimentError
from experiments.show import pictures
from objectives.losses import IGNORED
from objectives.objective import Example


@dataclasses.dataclass(frozen=True)
class Options:
    """What to show.

    Attributes:
        example: place in the run.
    """

    example: int = 0


def main(arguments: list[str]) -> None:
    experiment, options = parse_experiment("explain", arguments, Options)
    if options.example < 0:
        raise ExperimentError(f"--example {options.example}: examples are counted from 0")
    assembly = assemble(experiment, say=console.print)
    before = assembly.data.training(assembly.form(0), experiment.seed)[options.example]
    seen = assembly.seen({name: np.asarray(value)[None] for name, value in before.items()})
    seen = {name: value[0] for name, value in seen.items()}
    show(assembly, before, seen, options.example)


def show(assembly: Assembly, before: Example, seen: Example, number: int) -> None:
    """Print the example as the data gives it, and as the objective makes it."""
    next(SHOWN[name] for name in seen if name in SHOWN)(assembly, before, seen, number)


def show_text(assembly: Assembly, before: Example, seen: Example, number: int) -> None:
    """Print the texts that the data give, and what the model reads of them, token by token."""
    experiment = assembly.experiment
    tokenizer = assembly.data.tokenizer

    def word(token: int) -> str:
        return tokenizer.id_to_token(int(token)) or f"<{token}>"

    out = Console(soft_wrap=True, highlight=False)
    out.print(f"example {number} of {experiment.name}, seed {experiment.seed}: {experiment.objective!r}", markup=False)
    for tokens, groups in GROUPS:
        if tokens in before and groups in before:
            what = groups.removesuffix("_ids").removeprefix("other_")
            out.print(f"\nthe data give {tokens}, by {what}:", markup=False)
            for group in np.unique(before[groups][before[groups] >= 0]):
                words = " ".join(word(t) for t in before[tokens][before[groups] == group]).replace(" ##", "")
                out.print(f"  {group}: {words}", markup=False)
    decodes = "decoder_input_ids" in seen
    out.print(side(assembly, seen, "input_ids", {} if decodes else asked(seen), word))
    if decodes:
        out.print(side(assembly, seen, "decoder_input_ids", asked(seen), word))
    if "masked_positions" in seen:
        slots, masked = len(seen["masked_positions"]), asked(seen)
        kept = sum(int(seen["input_ids"][place]) == label for place, label in masked.items())
        hidden = sum(int(seen["input_ids"][place]) == assembly.data.vocabulary.mask for place in masked)
        out.print(
            f"{len(masked)} tokens asked in {slots} slots: {hidden} shown as {word(assembly.data.vocabulary.mask)},"
            f" {kept} as they are, {len(masked) - hidden - kept} as another token.",
            markup=False,
        )
    show_classes(out, seen, assembly.data.vocabulary.labels)
    for name, (no, yes) in LABELS.items():
        if name in seen:
            out.print(f"{name} {seen[name]}: the second segment {(no, yes)[int(seen[name])]}.")
    if "sampling_key" in seen:
        out.print("The generator draws what stands in the place of the masks when the discriminator reads the text.")


def show_picture(assembly: Assembly, before: Example, seen: Example, number: int) -> None:
    """Save the picture as the data gives it and as the model sees it, and print what is asked of it."""
    experiment = assembly.experiment
    out = Console(soft_wrap=True, highlight=False)
    out.print(f"example {number} of {experiment.name}, seed {experiment.seed}: {experiment.objective!r}", markup=False)
    path = experiment.run_folder / f"example-{number}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    given = [before[name] for name in ("pixel_values", "other_pixel_values") if name in before]
    path.write_bytes(
        pictures.png(pictures.beside([*given, *pictures.stages(given[0], seen, {}, assembly.normalization)[1:]]))
    )
    out.print(
        f"{path}: as the data give it{' (and what is mixed in)' * (len(given) > 1)}, and as the model sees it",
        markup=False,
    )
    values = seen["pixel_values"]
    out.print(f"pixel_values {values.shape} {values.dtype}, from {values.min():.3f} to {values.max():.3f}")
    show_classes(out, seen, assembly.data.vocabulary.labels)
    if "mix" in seen:
        out.print(f"mix {float(seen['mix']):.3f}: the share of the first picture, the rest is the second's")
    if "bool_masked_pos" in seen:
        hidden = seen["bool_masked_pos"]
        out.print(f"{int(hidden.sum())} of {hidden.size} patches are hidden; their pixels are asked")


def show_classes(out: Console, seen: Example, names: Sequence[str]) -> None:
    """Print the class of the example, and of one that is mixed in."""
    for name in ("labels", "other_labels"):
        if name in seen and np.ndim(seen[name]) == 0:
            out.print(f"{name} {int(seen[name])}: {names[int(seen[name])]}", markup=False)


SHOWN = {"pixel_values": show_picture, "input_ids": show_text}
"""How an example is shown, by what the model reads."""

GROUPS = (
    ("tokens", "sentence_ids"),
    ("other_tokens", "other_sentence_ids"),
    ("tokens", "document_ids"),
)
"""Texts that data give, and what they are divided by."""

LABELS = {
    "next_sentence_label": ("follows the first", "is from another document"),
    "sentence_order_label": ("follows the first", "stands before the first in the text"),
}
"""Questions about a pair of segments, and what 0 and 1 answer."""

COLUMNS = {
    "token_type_ids": "segment",
    "position_ids": "position",
    "segment_ids": "document",
    "prefix_mask": "prefix",
    "attention_mask": "attended",
    "decoder_attention_mask": "attended",
    "special_tokens_mask": "special",
}
"""What else an example says of each place, and how its column is called."""


def asked(seen: Example) -> dict[int, int]:
    """{place: token that is asked for there}."""
    labels = seen.get("labels", np.zeros(0, np.int32))
    if np.ndim(labels) == 0:  # a class
        return {}
    places = seen.get("masked_positions", seen.get("label_positions", np.arange(len(labels))))
    return {int(place): int(label) for place, label in zip(places, labels, strict=True) if label != IGNORED}


def side(assembly: Assembly, seen: Example, name: str, labels: dict[int, int], word: Callable[[int], str]) -> Table:
    """What the encoder or the decoder reads, place by place, and what is asked there; padding is left out."""
    ids, decodes = seen[name], name.startswith("decoder_")
    inputs = assembly.model.inputs
    columns = {
        other: title
        for other, title in COLUMNS.items()
        if other in seen
        and len(seen[other]) == len(ids)
        and other.startswith("decoder_") == decodes
        and (other in inputs or other == "special_tokens_mask")
    }
    used = seen.get("decoder_attention_mask" if decodes else "attention_mask", np.ones(len(ids), int)) > 0
    places = np.flatnonzero(used | np.isin(np.arange(len(ids)), list(labels)))
    what = "what the decoder reads and is asked" if decodes else "what the model sees and is asked"
    if not decodes and "decoder_input_ids" in seen:
        what = "what the encoder reads"
    table = Table(title=what, caption=f"{len(ids) - len(places)} places of padding (attended 0, weight 0)")
    heads = ("asked for", "weight") if labels else ()
    for column in ("place", "input", *columns.values(), *heads):
        table.add_column(column, justify="left" if column in ("input", "asked for") else "right")
    masked = bool({"masked_positions", "label_positions"} & set(seen))
    for place in places.tolist():
        token, label = int(ids[place]), labels.get(place)
        style = "yellow" if masked and label not in (None, token) else "cyan" if masked and label == token else None
        answer = ("" if label is None else escape(word(label)), str(int(label is not None))) if labels else ()
        values = (str(seen[other][place]) for other in columns)
        table.add_row(str(place), escape(word(token)), *values, *answer, style=style)
    return table
