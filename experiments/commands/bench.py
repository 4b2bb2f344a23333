"""`lacuna bench`: step time, tokens per second and MFU of an experiment's train step, here and now. The last line is JSON."""

import dataclasses
import itertools
import statistics
import time

import jax
from rich.console import Console

from experiments.assembly.assemble import assemble
from experiments.benchmarks.pages import summary
from experiments.commands import console, parse_experiment
from experiments.experiment import ExperimentError
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
    experiment, options = parse_experiment("bench", arguments, Options)
    if options.warmup < 1 or options.measure < 1:
        raise ExperimentError("--warmup and --measure: expected positive numbers")
    total = options.warmup + options.measure
    assembly = assemble(dataclasses.replace(experiment, steps=max(total, experiment.steps)), say=console.print)
    with working("making the first parameters", console.print):
        state = assembly.initial_state()
    step = assembly.compile_train_step()
    (items, flops), unit = assembly.work(0), experiment.form(0).items
    batches = list(itertools.islice(assembly.batches(0, 0), min(total, 8)))
    console.print(f"compiling, then {options.warmup} steps that do not count and {options.measure} that do")
    seconds = []
    for number in range(total):
        batch = assembly.spread.put_batch(batches[number % len(batches)])
        begin = time.perf_counter()
        state, metrics = step(state, batch)
        jax.block_until_ready((state, metrics))
        if number >= options.warmup:
            seconds.append(time.perf_counter() - begin)
    begin = time.perf_counter()
    fed = sum(1 for _ in itertools.islice(assembly.batches(0, 0), total))
    feed = (time.perf_counter() - begin) / fed
    median = statistics.median(seconds)
    peak, how = peak_flops(experiment.model.dtype)
    peak *= assembly.spread.mesh.devices.size
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
    if peak:
        out.print(f"MFU            {flops / median / peak:.1%} of {peak:.3g} FLOP/s ({how})")
    else:
        out.print(f"MFU            not shown, the peak is {how}")
    out.print(
        f"model FLOPs    {flops:.4g} a step = {1 if experiment.phases[0].trainable else 3} × forward;"
        " forward counts 2 per multiply-add of the matrix products:"
    )
    out.print(
        f"               {' '.join((Model.forward_flops.__doc__ or '').partition('Args:')[0].split())}", markup=False
    )
    out.print(f"input pipeline {feed:.4f} s a batch alone, {median / feed:.0f} × as fast as the step")
    summary(
        "bench",
        name=experiment.name,
        machine=machine(),
        batch_size=experiment.batch_size,
        items=unit,
        items_per_step=items,
        flops_per_step=flops,
        seconds=seconds,
        seconds_per_batch=feed,
        peak_flops=peak,
    )
