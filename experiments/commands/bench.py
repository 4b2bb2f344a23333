"""`lacuna bench`: step time, tokens per second and MFU of an experiment's train step, here and now; with `--task generate` how
fast its model, or a checkpoint, writes. The last line is JSON."""

import dataclasses
import itertools
import statistics
import time

import jax
from rich.console import Console

from experiments.assembly.assemble import Assembly, assemble
from experiments.benchmarks.pages import summary
from experiments.commands import bench_generate, console, option, parse_experiment
from experiments.experiment import Experiment, ExperimentError
from models.model import Model
from training.hardware import machine, peak_flops
from training.progress import working


@dataclasses.dataclass(frozen=True)
class Options:
    """How long to measure.

    Attributes:
        warmup: steps not counted: compilation, and memory touched for the first time.
        measure: steps counted.
    """

    warmup: int = 5
    measure: int = 20


def main(arguments: list[str]) -> None:
    task, arguments = option(arguments, "--task")
    if task not in (None, "train", "generate"):
        raise ExperimentError(f"--task {task}: expected train or generate")
    if task == "generate":
        bench_generate.main(arguments)
        return
    experiment, options = parse_experiment("bench", arguments, Options)
    if options.warmup < 1 or options.measure < 1:
        raise ExperimentError("--warmup and --measure: expected positive numbers")
    total = options.warmup + options.measure
    assembly = assemble(dataclasses.replace(experiment, steps=max(total, experiment.steps)), say=console.print)
    console.print(f"compiling, then {options.warmup} steps that do not count and {options.measure} that do")
    seconds = step_seconds(assembly, options)
    begin = time.perf_counter()
    fed = sum(1 for _ in itertools.islice(assembly.batches(0, 0), total))
    feed = (time.perf_counter() - begin) / fed
    items, flops = assembly.work(0)
    peak, source = peak_flops(experiment.model.dtype)
    peak *= assembly.spread.mesh.devices.size
    report(experiment, (items, flops), seconds, feed, (peak, source))
    summary(
        "bench",
        name=experiment.name,
        machine=machine(),
        batch_size=experiment.batch_size,
        items=experiment.form(0).items,
        items_per_step=items,
        flops_per_step=flops,
        seconds=seconds,
        seconds_per_batch=feed,
        peak_flops=peak,
    )


def step_seconds(assembly: Assembly, options: Options) -> list[float]:
    """How long each counted train step takes, on batches that are there before it begins."""
    with working("making the first parameters", console.print):
        state = assembly.initial_state()
    step, total, seconds = assembly.compile_train_step(), options.warmup + options.measure, []
    batches = list(itertools.islice(assembly.batches(0, 0), min(total, 8)))
    for number in range(total):
        batch = assembly.spread.put_batch(batches[number % len(batches)])
        begin = time.perf_counter()
        state, metrics = step(state, batch)
        jax.block_until_ready((state, metrics))
        if number >= options.warmup:
            seconds.append(time.perf_counter() - begin)
    return seconds


def report(
    experiment: Experiment, work: tuple[int, float], seconds: list[float], feed: float, peak: tuple[float, str]
) -> None:
    """Print what was measured.

    Args:
        work: items and FLOPs of a step.
        seconds: of each step.
        feed: seconds that the input pipeline takes for a batch alone.
        peak: FLOP/s of all devices, 0 where unknown, and where the figure comes from.
    """
    (items, flops), unit, median = work, experiment.form(0).items, statistics.median(seconds)
    out = Console(soft_wrap=True, highlight=False)
    out.print(
        f"{experiment.name}: {experiment.architecture}, batch {experiment.batch_size}, {items:,} {unit} a step,"
        f" {experiment.model.dtype}, {experiment.parallel.kind}"
    )
    for name, value in machine().items():
        out.print(f"  {name}: {value}")
    out.print(
        f"step           {median:.4f} s median of {len(seconds)} (fastest {min(seconds):.4f}, slowest {max(seconds):.4f})"
    )
    out.print(f"{unit + '/s':<14} {items / median:,.0f}{', padding counted' * (unit == 'tokens')}")
    if peak[0]:
        out.print(f"MFU            {flops / median / peak[0]:.1%} of {peak[0]:.3g} FLOP/s ({peak[1]})")
    else:
        out.print(f"MFU            not shown, the peak is {peak[1]}")
    out.print(
        f"model FLOPs    {flops:.4g} a step = {1 if experiment.phases[0].trainable else 3} × forward;"
        " forward counts 2 per multiply-add of the matrix products:"
    )
    out.print(
        f"               {' '.join((Model.forward_flops.__doc__ or '').partition('Args:')[0].split())}", markup=False
    )
    out.print(f"input pipeline {feed:.4f} s a batch alone, {median / feed:.0f} × as fast as the step")
