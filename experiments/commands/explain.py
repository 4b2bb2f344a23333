"""`lacuna explain`: what the objective feeds the model, token by token."""

import dataclasses

import numpy as np
from rich.console import Console
from rich.table import Table

from experiments.assemble import assemble
from experiments.commands import parse_experiment
from experiments.commands.train import console
from experiments.experiment import ExperimentError
from objectives.objective import IGNORED


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
    length = experiment.phases[0].sequence_length
    before = assembly.data.training(length, experiment.seed)[options.example]
    seen = assembly.seen({name: np.asarray(value)[None] for name, value in before.items()})
    seen = {name: value[0] for name, value in seen.items()}
    show(assembly.data.tokenizer, before, seen, experiment, options.example)


def show(tokenizer, before, seen, experiment, number) -> None:
    """Print the example as the data gives it, and as the objective makes it."""

    def word(token: int) -> str:
        return tokenizer.id_to_token(int(token)) or f"<{token}>"

    out = Console(soft_wrap=True, highlight=False)
    out.print(f"example {number} of {experiment.name}, seed {experiment.seed}: {experiment.objective!r}", markup=False)
    if "sentence_ids" in before:
        for name, ids in (("tokens", "sentence_ids"), ("other_tokens", "other_sentence_ids")):
            out.print(f"\nthe data give {name}:", markup=False)
            for sentence in range(int(before[ids].max()) + 1):
                words = " ".join(word(t) for t in before[name][before[ids] == sentence]).replace(" ##", "")
                out.print(f"  {sentence}: {words}", markup=False)
    asked = {}
    if "masked_positions" in seen:
        asked = {
            int(position): int(label)
            for position, label in zip(seen["masked_positions"], seen["labels"], strict=True)
            if label != IGNORED
        }
    table = Table(title="what the model sees and is asked")
    for column in ("place", "input", "segment", "attended", "special", "asked for", "weight"):
        table.add_column(column, justify="left" if column in ("input", "asked for") else "right")
    used = int(seen["attention_mask"].sum())
    for place in range(used):
        token = word(seen["input_ids"][place])
        original = asked.get(place)
        style = None if original is None else "yellow" if token != word(original) else "cyan"
        table.add_row(
            str(place),
            token.replace("[", r"\["),
            str(seen["token_type_ids"][place]),
            str(seen["attention_mask"][place]),
            str(seen["special_tokens_mask"][place]),
            "" if original is None else word(original).replace("[", r"\["),
            "0" if original is None else "1",
            style=style,
        )
    out.print(table)
    padding = len(seen["input_ids"]) - used
    out.print(f"{padding} places of padding follow (attended 0, weight 0).")
    if "masked_positions" in seen:
        slots = len(seen["masked_positions"])
        kept = sum(int(seen["input_ids"][place]) == label for place, label in asked.items())
        hidden = sum(word(seen["input_ids"][place]) == "[MASK]" for place in asked)
        out.print(
            f"{len(asked)} tokens asked in {slots} slots: {hidden} shown as [MASK], {kept} as they are,"
            f" {len(asked) - hidden - kept} as another token.",
            markup=False,
        )
    if "next_sentence_label" in seen:
        label = int(seen["next_sentence_label"])
        out.print(
            f"next_sentence_label {label}: the second segment {('follows the first', 'is from another document')[label]}."
        )
