"""Which text objectives join which text models: tried, not listed.

`python -m experiments.matrix` prints the table as Markdown; with `--write` it is put into README.md.
"""

import argparse
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from data.forms import TextForm
from data.text.source import Text
from data.text.tokenizers import blank_vocabulary
from experiments.assembly.checks import check_parts
from models import hub
from models.model import Model
from models.student_teacher import StudentTeacher
from objectives import KINDS, CausalLM, Distillation, Objective, ObjectiveError

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- matrix: python -m experiments.matrix --write -->", "<!-- end of matrix -->"
LENGTH, VOCABULARY, SENTINELS = 64, 512, 100
TEXT = {
    name: kind
    for name, kind in KINDS.items()
    if not {"pixel_values", "input_values", "input_features"} & {*kind().takes}
    and "classes" not in kind().needs
    and "start_positions" not in kind().reads
}
"""The objectives that are about text without labels."""
REASONS = (
    (r"feeds '(\w+)'", r"it takes no `\1`"),
    (r"asks for what comes next", "it looks ahead, and would see the answer"),
    (r"asks for (.*?), which", r"it returns no `\1`"),
    (r"cannot be computed|expected two classes", "its outputs have another shape"),
)
"""How a refusal begins, and what the table says of it."""


def models() -> dict[str, Model]:
    """Every model here that is pretrained on text, by the name of its class; no parameters are made."""
    by_name = {}
    for model_type in hub.model_types():
        config = hub.config_class(model_type)(scan_layers=True)
        for name, kind in hub.model_classes(model_type).items():
            model = kind(config)
            if model.labelled is None and not model.choices and "input_ids" in model.inputs:
                by_name[name] = model
    return by_name


def example(objective: Objective) -> Mapping[str, np.ndarray]:
    """A blank example of what `objective` reads."""
    if {"input_ids", "labels"} <= set(objective.reads):
        return {name: np.zeros(LENGTH, np.int32) for name in objective.reads} | {"index": np.zeros((), np.uint32)}
    return Text().outline(VOCABULARY).training(TextForm(LENGTH).read_by(objective), 0)[0]


def refusal(kind: type[Objective], model: Model) -> str | None:
    """Why an objective, as it is by default, does not fit a model; `None` where it does.

    A `Distillation` is tried on the model with one of its kind for a teacher, with next tokens where the model is causal.
    """
    objective = kind()
    if isinstance(objective, Distillation):
        objective, model = (
            (Distillation(CausalLM()) if model.causal else objective),
            StudentTeacher(model, model.clone()),
        )
    objective = objective.bind(blank_vocabulary(VOCABULARY, SENTINELS))
    try:
        check_parts(objective, model, example(objective), "text")
    except ObjectiveError as error:
        return next(
            re.sub(f"(?s).*?(?:{begin}).*", reason, str(error))
            for begin, reason in REASONS
            if re.search(begin, str(error))
        )
    return None


def table() -> str:
    """Markdown: objectives by models, and what the letters mean; without models that no objective trains alone."""
    letters: dict[str, str] = {}
    lines = ["| | " + " | ".join(f"`{name}`" for name in TEXT) + " |", "|---|" + ":-:|" * len(TEXT)]
    for name, model in models().items():
        reasons = [refusal(kind, model) for kind in TEXT.values()]
        if None not in reasons:
            continue
        cells = ["●" if reason is None else letters.setdefault(reason, chr(97 + len(letters))) for reason in reasons]
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    legend = "; ".join(f"{letter}: {reason}" for reason, letter in letters.items())
    return "\n".join([*lines, "", f"● fits. Refused before anything is compiled, because of the model: {legend}."])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="into README.md")
    text = table()
    if not parser.parse_args().write:
        print(text)
        return
    before, _, after = parts()
    README.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


def parts() -> tuple[str, str, str]:
    """README.md before, between and after the marks."""
    before, rest = README.read_text().split(BEGIN)
    between, after = rest.split(END)
    return before, between, after


if __name__ == "__main__":
    main()
