"""`lacuna harness`: ask a model the tasks of lm-evaluation-harness."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import tyro

from experiments.experiment import ExperimentError
from training.progress import working


@dataclasses.dataclass(frozen=True)
class Options:
    """Ask a model tasks of lm-evaluation-harness (extra `harness`): `lacuna harness lambada_openai --model FOLDER`.

    Attributes:
        task: names of tasks, or files of tasks of your own (`my_task.yaml`).
        model: folder of a published checkpoint, its name on the Hugging Face hub, or the `model` folder of a run.
        limit: ask no more than so many examples of each.
        num_fewshot: examples with their answers before each; as the task says where `None`.
        output: write all results into this file, as JSON.
    """

    task: tyro.conf.Positional[tuple[str, ...]]
    model: Annotated[str, tyro.conf.arg(metavar="FOLDER|NAME")]
    limit: int | None = None
    num_fewshot: int | None = None
    output: Path | None = None


def main(arguments: list[str]) -> None:
    options = tyro.cli(Options, args=arguments, prog="lacuna harness")
    try:
        from lm_eval import simple_evaluate
        from lm_eval.tasks import TaskManager
        from lm_eval.utils import handle_non_serializable, make_table
    except ImportError:
        raise ExperimentError(
            "lm-evaluation-harness is not installed: pip install 'lacuna-jax[harness]' (or lm-eval)"
        ) from None
    from inference.harness import HarnessModel

    files = [Path(task) for task in options.task if task.endswith((".yaml", ".yml"))]
    for file in files:
        if not file.is_file():
            raise ExperimentError(f"there is no file {file}")
    if not options.task:
        raise ExperimentError("no task came: name one, such as lambada_openai")
    with working(f"opening {options.model}"):
        model = HarnessModel(options.model)
    manager = TaskManager(include_path=[str(file.parent) for file in files] or None)
    named = [task for task in options.task if Path(task) not in files]
    unknown = [task for task in named if not manager.match_tasks([task])]
    if unknown:
        raise ExperimentError(f"lm-evaluation-harness has no task {unknown[0]!r}: `lm-eval ls tasks` lists them")
    results = simple_evaluate(
        model=model,
        tasks=[*named, *map(str, files)],
        num_fewshot=options.num_fewshot,
        limit=options.limit,
        task_manager=manager,
        bootstrap_iters=1_000,
    )
    print(make_table(results))
    if options.output is not None:
        options.output.write_text(json.dumps(results, indent=2, default=handle_non_serializable) + "\n")
