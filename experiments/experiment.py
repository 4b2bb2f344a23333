"""What an experiment is: model × objective × data × recipe, one frozen dataclass."""

import dataclasses
import difflib
import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import cloudpickle
import tyro

from data.contract import Outline, Source
from data.forms import Form, TextForm
from data.text.source import Text
from evaluation.evaluation import Best, Evaluation
from models.config import ModelConfig
from objectives import Objective
from training.identity import flatten
from training.optimizers import AdamW, Optimizer
from training.parallel import Parallel

BOOKKEEPING = (
    "name", "folder", "parallel", "keep_checkpoints", "checkpoint_every", "evaluate_every", "evaluation_examples",
    "log_every", "evaluations", "best", "set_of_model",
)  # fmt: skip
"""Fields of an experiment that decide no number of its training: a run goes on with others."""


class ExperimentError(ValueError):
    """An experiment that cannot be found or does not hold together, said in one sentence."""


@dataclasses.dataclass(frozen=True)
class Phase:
    """A part of a run with examples of one form.

    Attributes:
        share: of all steps.
        form: what its examples look like.
        trainable: pattern of the parameters that are trained, searched for in their paths (`bert/layers/attention/query/kernel`);
            all where it is empty; of stacked layers it may name some (`encoder/layers/0/attention`). The others stay as they
            are, without gradients and moments; where another phase trains others, all moments begin anew.
    """

    share: float = 1.0
    form: Form = TextForm()
    trainable: str = ""


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Everything that decides a run's numbers, and where it goes.

    Attributes:
        name: of the run, and of its folder where `folder` is not set.
        architecture: the model class, as `transformers` calls it.
        model: its config.
        objective: what it is trained for.
        data: where the examples come from.
        optimizer: with its schedule.
        batch_size: examples of one step, over all devices and micro-batches.
        steps: of the whole run.
        phases: parts of the run, one after another; their shares add up to 1.
        seed: of parameters, corruption and dropout, and of the order of the examples.
        parallel: how steps are spread over devices; changes no number beyond rounding.
        initial_model: published checkpoint folder to start from, instead of fresh parameters.
        teacher: of a `Distillation`: a published checkpoint folder or name, or the folder of a run.
        initial_layers: start as these layers of the teacher (counted from 0), with its embeddings and its head.
        evaluate_every: steps between evaluations.
        evaluation_examples: at most so many of the held-out ones. Where a run goes on with another number, the best checkpoint is
            chosen among those measured on as many as the newest; the best before is kept beside it.
        evaluations: further ones on other data, and metrics on the held-out examples; see `evaluation.evaluation`.
        best: which figure decides which checkpoint is best; of a run that names one, `model/` and what is measured at its end are
            of that checkpoint, else of the last.
        checkpoint_every: steps between checkpoints.
        keep_checkpoints: newest checkpoints kept, beside the best.
        average_decay: keep an average of the parameters, too, of which each step leaves so much; it is evaluated beside them.
        log_every: steps between lines of `metrics.jsonl`.
        folder: where all of the run lies; `runs/<name>` where empty.
        set_of_model: fields of `model` that the command line sets, which an initial model must not contradict.
    """

    name: str
    architecture: str
    model: ModelConfig
    objective: Objective
    data: Source = Text()
    optimizer: Optimizer = AdamW()
    batch_size: Annotated[int, tyro.conf.arg(aliases=["--batch"])] = 256
    steps: int = 1_000_000
    phases: tuple[Phase, ...] = (Phase(),)
    seed: int = 0
    parallel: Parallel = Parallel()
    initial_model: str | None = None
    teacher: str | None = None
    initial_layers: tuple[int, ...] | None = None
    evaluate_every: int = 10_000
    evaluation_examples: int = 2_048
    evaluations: tyro.conf.Fixed[tuple[Evaluation, ...]] = ()
    best: Best = Best()
    checkpoint_every: int = 10_000
    keep_checkpoints: int = 2
    average_decay: float | None = None
    log_every: int = 1
    folder: str = ""
    set_of_model: Annotated[tuple[str, ...], tyro.conf.Suppress] = dataclasses.field(default=(), repr=False)

    def __post_init__(self) -> None:
        for name in ("batch_size", "steps", "evaluate_every", "evaluation_examples", "checkpoint_every", "log_every"):
            if vars(self)[name] < 1:
                raise ExperimentError(f"{name}={vars(self)[name]}: expected a positive number")
        if not self.phases or abs(sum(phase.share for phase in self.phases) - 1) > 1e-9:
            raise ExperimentError(f"the shares of the phases {[p.share for p in self.phases]} do not add up to 1")
        if self.average_decay is not None and not 0 <= self.average_decay < 1:
            raise ExperimentError(f"average_decay={self.average_decay}: expected a share from 0 to 1")
        if self.initial_layers is not None and (self.teacher is None or self.initial_model is not None):
            raise ExperimentError("initial_layers are a teacher's: they want --teacher, and no --initial-model")
        if not 0 <= self.seed < 2**32:
            raise ExperimentError(f"seed={self.seed}: expected a number from 0 to 2³² - 1")

    @property
    def run_folder(self) -> Path:
        return Path(self.folder or f"runs/{self.name}")

    @property
    def vocabulary_size(self) -> int:
        """Tokens that the model has room for, or classes that it tells apart."""
        return self.model.vocab_size or len(self.model.labels)

    @property
    def outline(self) -> Outline:
        """What stands for the data where a program is made without them."""
        return self.data.suited_to(self.model.model_type).outline(self.vocabulary_size, self.objective.needs)

    def form(self, phase: int) -> Form:
        """What the examples of a phase look like.

        Raises:
            ExperimentError: the data give none of that form.
        """
        form, forms = self.phases[phase].form, self.data.forms
        if not isinstance(form, forms):
            raise ExperimentError(
                f"{type(self.data).__name__} gives examples of a {forms.__name__}, and a phase wants a {type(form).__name__}"
            )
        return dataclasses.replace(form, together=self.batch_size)

    @property
    def phase_ends(self) -> list[int]:
        """The last step of each phase."""
        total, ends = 0.0, []
        for phase in self.phases:
            total += phase.share
            ends.append(round(total * self.steps))
        return ends

    def phase_of(self, step: int) -> int:
        """The number of the phase that a step, counted from 1, belongs to; of step 0 the first."""
        return next(number for number, end in enumerate(self.phase_ends) if end >= step)

    def description(self) -> dict[str, Any]:
        """What decides the numbers of the run, as JSON; `parallel` and the run's bookkeeping do not."""
        fields = {
            field.name: describe(vars(self)[field.name])
            for field in dataclasses.fields(self)
            if field.name not in BOOKKEEPING
        }
        for data in (fields["data"], *fields["data"].get("sources", ())):
            for name in ("cache", "workers", "broken"):
                data.pop(name, None)
        for execution in ModelConfig.execution[2:]:
            fields["model"].pop(execution, None)
        return fields

    def today(self, description: Mapping[str, Any]) -> dict[str, Any]:
        """A description of this experiment as it is written today, which may be from before phases had forms."""
        data = dict(description["data"])
        phases = [
            phase
            if "form" in phase
            else {
                "class": "Phase",
                "share": phase["share"],
                "form": describe(self.data.forms.before_forms(phase, data)),
                "trainable": "",
            }
            for phase in description["phases"]
        ]
        data.pop("target_length", None)
        return {**description, "data": data, "phases": phases}

    def bookkeeping(self) -> dict[str, Any]:
        """The fields that are no part of the description, but for those that say where the run lies, as JSON."""
        return {name: describe(vars(self)[name]) for name in BOOKKEEPING if name not in ("name", "folder")}


def at_default(value: Any, prefix: str = "") -> Iterator[str]:
    """`dotted.name` of each field of `describe(value)` that has its default: a checkpoint from before there was such a field
    was made with that."""
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            current, name = vars(value)[field.name], f"{prefix}{field.name}"
            default = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
            if default is not dataclasses.MISSING and describe(default) == describe(current):
                yield from (inner for inner, _ in flatten({name: describe(current)}))
            else:
                yield from at_default(current, f"{name}.")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from at_default(item, f"{prefix}{index}.")


def describe(value: Any) -> Any:
    """A setting as JSON: dataclasses by class and field."""
    if dataclasses.is_dataclass(value):
        fields = {f.name: describe(vars(value)[f.name]) for f in dataclasses.fields(value) if f.repr}
        return {"class": type(value).__name__, **fields}
    if isinstance(value, list | tuple):
        return [describe(item) for item in value]
    if isinstance(value, Mapping):
        return {name: describe(item) for name, item in value.items()}
    return value


def load(reference: str) -> Experiment:
    """The experiment that `FILE[:variant]` names: a function of the file that returns one, its first where unnamed."""
    return _function(reference)[1]()


def described(reference: str) -> str:
    """What the file of an experiment says of itself, and the function of the variant of itself."""
    module, function = _function(reference)
    return "\n\n".join(inspect.cleandoc(text) for text in (module.__doc__, function.__doc__) if text)


def _function(reference: str) -> tuple[ModuleType, Callable[[], Experiment]]:
    """The file that `FILE[:variant]` names, and its function that returns the experiment."""
    path, _, variant = reference.partition(":")
    module = load_file(path)
    variants = experiments_of(module, module.__name__)
    if not variants:
        raise ExperimentError(f"{path} has no function annotated `-> Experiment`")
    if variant and variant not in variants:
        nearest = difflib.get_close_matches(variant, variants, n=1, cutoff=0.3)
        hint = f"did you mean {nearest[0]!r}? " if nearest else ""
        raise ExperimentError(f"{path} has no experiment {variant!r}: {hint}it has {', '.join(variants)}")
    return module, variants[variant or next(iter(variants))]


def load_file(path: str, what: str = "experiment", such: str = "experiments/bert/pretrain.py") -> ModuleType:
    """A Python file as a module; one of this repository also by its path there."""
    file = Path(path)
    if not file.exists() and (Path(__file__).parent.parent / path).exists():
        file = Path(__file__).parent.parent / path
    if file.suffix != ".py" or not file.is_file():
        raise ExperimentError(f"no {what} file {path!r}: expected a Python file such as {such}")
    name = f"{what}_{hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    cloudpickle.register_pickle_by_value(
        module
    )  # a loader's processes cannot import it: a source in it goes there whole
    return module


def experiments_of(module: Any, name: str) -> dict[str, Callable[[], Experiment]]:
    """The functions of `module` that return an experiment and need no argument, in the order of the file."""
    found = {}
    for function_name, function in vars(module).items():
        if not inspect.isfunction(function) or function.__module__ != name or function_name.startswith("_"):
            continue
        signature = inspect.signature(function)
        required = [p for p in signature.parameters.values() if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
        if signature.return_annotation in (Experiment, "Experiment") and not required:
            found[function_name] = function
    return found
