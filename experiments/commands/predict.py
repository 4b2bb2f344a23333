"""`lacuna predict`: ask a model."""

import dataclasses
import json
from typing import Annotated

import tyro

from experiments.experiment import ExperimentError
from inference.pipelines import pipeline
from training.progress import working


@dataclasses.dataclass(frozen=True)
class Options:
    """Ask a model: `lacuna predict fill-mask "The capital of France is [MASK]." --model runs/bert-demo/model`.

    Attributes:
        task: fill-mask, feature-extraction, text-classification, token-classification, question-answering,
            text-generation, text2text-generation, summarization, translation (also as translation_en_to_de) or
            image-classification.
        text: one or more inputs, for image-classification the files of pictures; for question-answering the question and
            the context.
        model: folder of a published checkpoint, its name on the Hugging Face hub, or the `model` folder of a run.
        explain: of image-classification, a picture to be made of where in the given one the likeliest label was seen.
        top_k: answers for each mask of fill-mask, for each picture of image-classification.
    """

    task: tyro.conf.Positional[str]
    text: tyro.conf.Positional[tuple[str, ...]]
    model: Annotated[str, tyro.conf.arg(metavar="FOLDER|NAME")]
    explain: Annotated[str | None, tyro.conf.arg(metavar="OUT.png")] = None
    top_k: int = 5


def main(arguments: list[str]) -> None:
    options = tyro.cli(Options, args=arguments, prog="lacuna predict")
    if options.explain is not None and options.task != "image-classification":
        raise ExperimentError(f"--explain is of image-classification alone, and the task is {options.task}")
    settings = {"top_k": options.top_k} if options.task in ("fill-mask", "image-classification") else {}
    settings |= {} if options.explain is None else {"explanation": options.explain}
    with working(f"opening {options.model}"):
        ask = pipeline(options.task, options.model)
    with working("compiling and asking"):
        answers = ask(list(options.text), **settings)
    for answer in answers:
        print(json.dumps(answer, ensure_ascii=False, default=lambda x: x.tolist()))
