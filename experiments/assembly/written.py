"""Evaluations of what a model writes: the task of a pipeline, asked of the examples of a run."""

import dataclasses
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import PyTree

from data.forms import Form
from data.text.tokenizer_settings import about_tokenizer
from evaluation.metric import Metric, State, joined
from experiments.assembly.assembly import Assembly
from experiments.assembly.evaluator import Evaluator
from inference.generation import GenerationConfig
from inference.generation.config import of_model
from inference.languages import Languages
from inference.pipeline import Pipeline
from inference.readers.text import TextReader
from inference.writing import Writing
from models.hub import files
from models.hub.beside import GENERATION


@dataclasses.dataclass(frozen=True)
class Writer(Evaluator):
    """An evaluation with a task: each process has a part of the examples written, as a pipeline on the exported folder would."""

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return self.evaluation.metrics

    def check(self) -> None:
        """Raise `ModelError` where the model or the settings of generation do not fit the task; `DataError` where the data are no
        pairs of texts."""
        task, parts = self.evaluation.task, self.assembly
        task.check(parts.student)
        settings = GenerationConfig.from_json(generation_settings(parts), **task.generation)
        settings.check_vocabulary(parts.student.config.vocab_size)
        parts.data.texts(parts.data.held_out_items[:1])

    def states(self, variables: PyTree, form: Form | None = None) -> list[State]:
        process, processes = jax.process_index(), jax.process_count()
        count = min(self.assembly.experiment.evaluation_examples, len(self.assembly.data.held_out_items))
        numbers = np.arange(-(-count // processes) * processes) % count  # as many in every process
        mine = numbers[process::processes]
        sources, right = self.examples(mine)
        written = self.write(self.assembly.spread.gather(variables), sources)
        rows = {"index": mine, "metrics": [metric.rows(written, right) for metric in self.metrics]}
        if processes > 1:
            rows = jax.tree.map(lambda x: multihost_utils.process_allgather(x).reshape(-1, *x.shape[1:]), rows)
        return joined([rows])["metrics"]

    def examples(self, numbers: np.ndarray | None = None) -> tuple[list[str], list[str]]:
        """What is read and what is right, of some of the evaluated examples, or of all."""
        return self.assembly.data.texts(self.items(numbers))

    def items(self, numbers: np.ndarray | None = None) -> np.ndarray:
        """Of some of the evaluated examples, or of all."""
        held_out = self.assembly.data.held_out_items
        count = min(self.assembly.experiment.evaluation_examples, len(held_out))
        numbers = np.arange(count) if numbers is None else numbers
        return held_out[numbers * len(held_out) // count]

    def write(self, variables: PyTree, sources: list[str]) -> list[str]:
        """What the model writes from each text; the end of a text is cut off where it is longer than those of training."""
        reader = reader_of(self.assembly, jax.device_put(variables))
        task, longest = self.evaluation.task, self.assembly.form(-1).source
        answers = Pipeline(task, reader)([shortened(reader, source, longest) for source in sources])
        return [best[task.key] for best, *_ in answers]


def reader_of(assembly: Assembly, variables: PyTree) -> TextReader:
    """What a pipeline opens of the folder that is exported."""
    tokenizer = assembly.data.tokenizer
    return TextReader(
        model=assembly.student,
        variables=variables,
        tokenizer=tokenizer,
        generation=generation_settings(assembly),
        prefix=assembly.data.prefix,
        languages=languages_of(assembly),
        source_tokenizer=assembly.data.source_tokenizer,
    )


def languages_of(assembly: Assembly) -> Languages:
    about = about_tokenizer(assembly.experiment.run_folder)
    return Languages.of(assembly.data.tokenizer, assembly.student.config, {}, about)


def generation_settings(assembly: Assembly) -> dict[str, Any]:
    """What the exported folder says of generation: tokens of the model's config, and what stands before them."""
    return of_model(assembly.student.config.to_json()) | beside_the_model(assembly)


def beside_the_model(assembly: Assembly) -> dict[str, Any]:
    """Settings of generation that are no matter of the model: those of the checkpoint that the run began with, and those of the
    first task that is evaluated."""
    published = assembly.experiment.run_folder / GENERATION
    said = {**assembly.data.generation, **(files.read_json(published) if published.exists() else {})}
    tasks = [evaluation.task for evaluation in assembly.experiment.evaluations if isinstance(evaluation.task, Writing)]
    for task in tasks[:1]:
        direction = languages_of(assembly).direction(task.source_language, task.target_language)
        said |= {**direction.generation, **task.generation}
    return said


def shortened(reader: TextReader, text: str, longest: int) -> str:
    """A text without what is beyond the longest that the model is trained to read."""
    before = reader.reading.encode(reader.prefix, add_special_tokens=False).ids if reader.prefix else []
    encoding = reader.reading.encode(text, add_special_tokens=False)
    room = longest - reader.framing.count - len(before)
    return text if len(encoding.ids) <= room else text[: encoding.offsets[room - 1][1]]
