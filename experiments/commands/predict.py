"""`lacuna predict`: ask a model."""

import dataclasses
import json
from typing import Annotated

import tyro

from inference.pipelines import pipeline


@dataclasses.dataclass(frozen=True)
class Options:
    """Ask a model: `lacuna predict fill-mask "The capital of France is [MASK]." --model runs/bert-demo/model`.

    Attributes:
        task: fill-mask, feature-extraction, text-classification, token-classification, question-answering,
            text-generation, text2text-generation, summarization or translation (also as translation_en_to_de).
        text: one or more inputs; for question-answering the question and the context.
        model: folder of a published checkpoint, its name on the Hugging Face hub, or the `model` folder of a run.
    """

    task: tyro.conf.Positional[str]
    text: tyro.conf.Positional[tuple[str, ...]]
    model: Annotated[str, tyro.conf.arg(metavar="FOLDER|NAME")]


def main(arguments: list[str]) -> None:
    options = tyro.cli(Options, args=arguments, prog="lacuna predict")
    ask = pipeline(options.task, options.model)
    for answer in ask(list(options.text)):
        print(json.dumps(answer, ensure_ascii=False, default=lambda x: x.tolist()))
