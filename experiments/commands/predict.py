"""`lacuna predict`: ask a model."""

import dataclasses
import json
from typing import Annotated

import tyro

from experiments.experiment import ExperimentError
from inference.pipeline import pipeline
from training.progress import working


@dataclasses.dataclass(frozen=True)
class Options:
    """Ask a model: `lacuna predict fill-mask "The capital of France is [MASK]." --model runs/bert-demo/model`.

    Attributes:
        task: fill-mask, feature-extraction, text-classification, token-classification, question-answering,
            text-generation, text2text-generation, summarization, translation (also as translation_fr_XX_to_de_DE) or
            image-classification.
        text: one or more inputs, for image-classification the files of pictures; for question-answering the question and
            the context.
        model: folder of a published checkpoint, its name on the Hugging Face hub, or the `model` folder of a run.
        explain: of image-classification, a picture to be made of where in the given one the likeliest label was seen.
        top_k: answers for each mask of fill-mask (5), for each picture of image-classification (5), for each text of
            text-classification (all).
        source_language: of a translation, the language of the text, as the model calls it (`fr_XX`).
        target_language: the one to translate into (`de_DE`).
    """

    task: tyro.conf.Positional[str]
    text: tyro.conf.Positional[tuple[str, ...]]
    model: Annotated[str, tyro.conf.arg(metavar="FOLDER|NAME")]
    explain: Annotated[str | None, tyro.conf.arg(metavar="OUT.png")] = None
    top_k: int | None = None
    source_language: str | None = None
    target_language: str | None = None


FLAGS = {
    "explain": ("explanation", ("image-classification",)),
    "top_k": ("top_k", ("fill-mask", "image-classification", "text-classification")),
    "source_language": ("source_language", ("translation", "text2text-generation")),
    "target_language": ("target_language", ("translation", "text2text-generation")),
}
"""Flag → the pipeline's name for it, and the tasks that it is for."""


def main(arguments: list[str]) -> None:
    options = tyro.cli(Options, args=arguments, prog="lacuna predict")
    settings = {}
    for flag, (name, tasks) in FLAGS.items():
        value = getattr(options, flag)
        if value is not None and options.task not in tasks:
            raise ExperimentError(
                f"--{flag.replace('_', '-')} is of {' and '.join(tasks)} alone, and the task is {options.task}"
            )
        settings |= {} if value is None else {name: value}
    with working(f"opening {options.model}"):
        ask = pipeline(options.task, options.model)
    with working("compiling and asking"):
        answers = ask(list(options.text), **settings)
    for answer in answers:
        print(json.dumps(answer, ensure_ascii=False, default=lambda x: x.tolist()))
