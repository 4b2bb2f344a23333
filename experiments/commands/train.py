"""`lacuna train`: pretrain, evaluate, report."""

import dataclasses
import json
import math
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from evaluation.baselines import comparison, constant
from experiments.assemble import EVALUATION_SEED, Assembly, assemble
from experiments.commands import parse_experiment, supervised
from experiments.experiment import BOOKKEEPING, Experiment, describe
from experiments.folders import keep_settings, replaced
from models import hub
from models.hub.beside import GENERATION
from objectives.objective import Answers
from training.checkpoints import Checkpoints, write_json
from training.hardware import peak_flops
from training.loop import fit
from training.metrics import MetricsLog
from training.processes import Processes, agree
from training.profile import Profile
from training.step import forward
from training.weights_and_biases import WeightsAndBiases

FILL = 'lacuna predict fill-mask "The capital of France is [MASK]." --model {model}'
GENERATE = 'lacuna generate "The capital of France" --model {model}'
TRY = {
    "BertForPreTraining": FILL,
    "ForMaskedLM": FILL,
    "LMHeadModel": GENERATE,
    "ForCausalLM": GENERATE,
    "ForConditionalGeneration": GENERATE,
    "ForImageClassification": "lacuna predict image-classification PICTURE --model {model}",
}
"""What to ask a trained model, by what its class ends with."""

console = Console(stderr=True, soft_wrap=True, highlight=False)


@dataclasses.dataclass(frozen=True)
class Options(Processes):
    """Where the processes of a run meet, and what to watch of it; it changes no number.

    Attributes:
        profile: steps=10:13 writes a trace of the steps 10, 11 and 12, for TensorBoard (XProf) and Perfetto.
        wandb: project of Weights & Biases to send the numbers to, too.
        data_changed: what to do where the data are not those that the run was trained on so far.
    """

    profile: Annotated[str | None, tyro.conf.arg(metavar="steps=FIRST:END")] = None
    wandb: Annotated[str | None, tyro.conf.arg(metavar="PROJECT")] = None
    data_changed: Literal["refuse", "go-on"] = "refuse"


def main(arguments: list[str]) -> None:
    experiment, options = parse_experiment("train", arguments, Options)
    supervised(options, arguments[0])
    train(experiment, arguments[0], options)


def open_checkpoints(assembly: Assembly, data_may_differ: bool = False) -> Checkpoints:
    """Those of the assembled run."""
    experiment = assembly.experiment
    return Checkpoints(
        experiment.run_folder / "checkpoints",
        keep=experiment.keep_checkpoints,
        description=assembly.description(),
        ignored=BOOKKEEPING,
        data=assembly.data.fingerprint,
        data_may_differ=data_may_differ,
        measured_on={"examples": experiment.evaluation_examples, "data": assembly.data.fingerprint},
    )


def train(experiment: Experiment, reference: str, options: Options = Options()) -> None:
    """Run an experiment to its end, from its newest checkpoint where there is one, and write its report.

    Args:
        reference: how the user named it, for the commands to try next.
    """
    profile = None
    if options.profile is not None and jax.process_index() == 0:
        profile = Profile.parse(options.profile, experiment.run_folder / "profile", experiment.steps)
    folder = experiment.run_folder
    result_file = folder / "result.json"
    first = jax.process_index() == 0
    assembly = assemble(experiment, say=console.print if first else lambda _: None)
    agree({"experiment": json.dumps(assembly.description()), "data": assembly.data.fingerprint})
    checkpoints = open_checkpoints(assembly, options.data_changed == "go-on")
    shapes = assembly.state_shapes()
    parameters = sum(x.size for x in jax.tree.leaves(shapes.params))
    restored = checkpoints.restore(shapes)
    first_step = 0
    if restored is not None:
        first_step = int(restored[0].step)
        checkpoints.discard_after(first_step)
    if first_step >= experiment.steps and result_file.exists():
        checkpoints.close()
        if first:
            console.print(f"{experiment.name} is done: all {experiment.steps:,} steps are in {folder}")
            print_result(json.loads(result_file.read_text()), folder, reference)
        return
    if first:
        write_json(folder / "experiment.json", describe(experiment))
        assembly.data.save(folder, experiment.length(-1))
        keep_settings(experiment)
        console.print(
            f"{experiment.name}: {experiment.architecture} with {parameters:,} parameters on {len(jax.devices())} "
            f"{jax.devices()[0].device_kind} device(s), {experiment.parallel.kind}"
            + (f", {jax.process_count()} processes" if jax.process_count() > 1 else "")
            + (f", going on after step {first_step:,}" if first_step else "")
        )
    state = assembly.initial_state() if restored is None else assembly.spread.parts(restored[0])
    del restored
    peak, how = peak_flops(experiment.model.dtype)
    step, evaluation_step = assembly.compile_train_step(), assembly.compile_evaluation_step()
    writers = []
    if options.wandb is not None and first:
        writers.append(WeightsAndBiases(options.wandb, folder, experiment.name, assembly.description(), first_step))
    log = MetricsLog(folder, first_step, writers) if first else None
    begin = time.perf_counter()
    phases, phase_begin = [], 0
    for number, end in enumerate(experiment.phase_ends):
        if end > first_step:
            speed = assembly.speed(number, peak * assembly.spread.mesh.devices.size)
            phases.append((end, step, assembly.batches(number, max(first_step, phase_begin)), speed))
        phase_begin = end
    if phases:
        state = fit(
            state,
            phases=phases,
            spread=assembly.spread,
            first_step=first_step,
            steps=experiment.steps,
            checkpoints=checkpoints,
            log=log,
            evaluate=lambda state: assembly.evaluate(evaluation_step, state),
            learning_rates=experiment.optimizer.rates(experiment.steps),
            log_every=experiment.log_every,
            evaluate_every=experiment.evaluate_every,
            checkpoint_every=experiment.checkpoint_every,
            profile=profile,
        )
    seconds = time.perf_counter() - begin
    checkpoints.close()
    held_out = assembly.evaluate(evaluation_step, state)
    better = state.variables
    if held_out.get("average_loss", math.inf) < held_out["loss"]:
        better, said = state.average, "model/ holds the average over the steps, whose held-out loss is lower"
        if first:
            console.print(said)
    variables = assembly.spread.gather(better)
    if log is not None:
        if profile is not None:
            console.print(profile.where())
        finish(assembly, variables, held_out, folder, reference, seconds, parameters, (peak, how), checkpoints)


def finish(
    assembly: Assembly,
    variables: Any,
    held_out: dict[str, float],
    folder: Path,
    reference: str,
    seconds: float,
    parameters: int,
    peak: tuple[float, str],
    checkpoints: Checkpoints,
) -> None:
    """Hold against the baselines, export, report, and say where everything lies."""
    from experiments.report import write_report

    experiment = assembly.experiment
    result = {
        "name": experiment.name,
        "architecture": experiment.architecture,
        "steps": experiment.steps,
        "seconds": seconds,
        "parameters": parameters,
        "held_out": held_out,
        "best_step": checkpoints.best(),
        "baselines": baselines(assembly, variables),
        "items": experiment.data.items,
        "items_per_step": assembly.work(-1)[0],
        "flops_per_step": assembly.work(-1)[1],
        "peak_flops": peak[0],
        "peak_source": peak[1],
        "machine": machine(),
        "corpus": {
            "of": experiment.data.documents,
            **dict(zip(("training", "held_out"), assembly.data.counts, strict=True)),
        },
    }
    write_json(folder / "result.json", result)
    export(assembly, variables, folder / "model", force=True)
    write_report(folder, assembly, variables)
    print_result(result, folder, reference)


def export(assembly: Assembly, variables: Any, folder: Path, force: bool = False) -> None:
    """Write a folder that `transformers` opens: the model, and what says how its inputs are made.

    Args:
        force: write over what is in the folder; without it that is an error.
    """
    experiment = assembly.experiment
    pictures = experiment.data.items == "images"
    tokenizer = None if pictures else experiment.run_folder / "tokenizer.json"
    with replaced(folder, force) as place:
        hub.save(place, assembly.student, variables, tokenizer=tokenizer)
        if pictures:
            assembly.data.save(place, experiment.length(-1))
        generation, published = place / GENERATION, experiment.run_folder / GENERATION
        if generation.exists() and published.exists():  # of the model that the run began with
            write_json(generation, {**json.loads(generation.read_text()), **json.loads(published.read_text())})


def baselines(assembly: Assembly, variables: Any) -> dict[str, dict[str, Any]]:
    """For each loss that has one, what it is held against on the very same questions: the fields of a `Constant`."""

    @jax.jit
    def answers(variables: Any, batch: Any) -> dict[str, Answers]:
        return assembly.objective.answers(forward(assembly.student, variables, batch), batch)

    found = []
    for batch in assembly.evaluation_batches(share=(0, 1)):
        seen = assembly.seen({name: x.reshape(-1, *x.shape[2:]) for name, x in batch.items()}, EVALUATION_SEED)
        found.append(jax.device_get(answers(variables, seen)))
    whole = jax.tree.map(lambda *parts: np.concatenate([np.ravel(part) for part in parts]), *found)
    return {name: dataclasses.asdict(constant(right)) for name, right in whole.items()}


def machine() -> dict[str, str | int]:
    """What the figures of this run were measured on."""
    cpu = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        facts = dict(
            tuple(part.strip() for part in line.split(":", 1))
            for line in cpuinfo.read_text().splitlines()
            if ":" in line
        )
        cpu = facts.get("model name", cpu)
        features = set(facts.get("flags", "").split())
        best = next((name for name in ("amx_tile", "avx512f", "avx2") if name in features), "")
        cpu = f"{cpu} family {facts.get('cpu family')} model {facts.get('model')} {best}"
    return {
        "devices": f"{len(jax.devices())} × {jax.devices()[0].device_kind}",
        "processor": cpu,
        "cores": os.cpu_count() or 0,
        "python": platform.python_version(),
        **{name: version(name) for name in ("jax", "flax", "optax", "orbax-checkpoint")},
    }


def print_result(result: dict[str, Any], folder: Path, reference: str) -> None:
    """What was measured, where everything lies, and three commands to try next."""
    table = Table(title=f"{result['name']}: held-out {result['corpus']['of']} after {result['steps']:,} steps")
    for column in ("", "model", "baseline", "what the baseline is"):
        table.add_column(column, justify="left" if column in ("", "what the baseline is") else "right")
    for row in comparison(result["held_out"], result["baselines"]):
        table.add_row(*row)
    out = Console(soft_wrap=True, highlight=False)
    out.print(table)
    out.print(f"{result['seconds']:.0f} s of training on {result['machine']['processor']}")
    config = json.loads((folder / "model" / "config.json").read_text())
    exported, opens = config["architectures"][0], "transformers: {}.from_pretrained"
    if config["model_type"] == "transformer":  # which they have no class for
        opens = "models.hub.load"
    for name, what in (
        ("report.html", "curves, baselines, guesses"),
        ("model/", f"opens with {opens.format(exported)}"),
        ("checkpoints/", f"newest and best (step {result['best_step']})"),
        ("metrics.jsonl", "every step"),
        ("tensorboard/", "the same for TensorBoard"),
    ):
        out.print(f"  {folder / name}  {what}")
    out.print("try next:")
    asks = next((ask for ending, ask in TRY.items() if exported.endswith(ending)), None)
    if asks is not None:
        out.print(f"  {asks.format(model=folder / 'model')}", markup=False)
    out.print(f"  lacuna explain {reference}", markup=False)
    out.print(f"  lacuna bench {reference}", markup=False)
