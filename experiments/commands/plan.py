"""`lacuna plan`: what an experiment needs, takes and costs on a machine that is not there."""

import dataclasses
from collections.abc import Callable, Sequence

import jax
from rich.console import Console
from rich.table import Table

from experiments.commands import console, parse_experiment
from experiments.experiment import Experiment, ExperimentError
from experiments.plan import PhasePlan, Search, plan, search
from training.hardware import GIB
from training.parallel import TrainingError
from training.planning.isolation import isolated
from training.planning.topologies import Topology, parse_topology


@dataclasses.dataclass(frozen=True)
class Options:
    """What to plan for.

    Attributes:
        topology: `v5e:16x16`, `v4:4x4x4`, `gpu:h100:8`, `gpu:h100:4x8`, …; an unknown one lists those there are.
        search: also find the cheapest remat policy that fits, and the largest batch per chip under each.
        phase: the only one to plan, counted from 1; all where 0.
        compare: plan the same without kernels, too, attention as the reference computes it.
        thorough: compile as a run would, which takes two to three times as long. Left to itself that is done only where a
            quick answer comes within a tenth of the chip's memory, for a quick one may be a tenth too low.
    """

    topology: str = "v5e:4x4"
    search: bool = False
    phase: int = 0
    compare: bool = False
    thorough: bool = False


def main(arguments: list[str]) -> None:
    experiment, options = parse_experiment("plan", arguments, Options)
    topology = parse_topology(options.topology)
    jax.config.update("jax_platforms", "cpu")
    out = Console(soft_wrap=True, highlight=False)
    plans: list[PhasePlan] = []
    phases = range(len(experiment.phases)) if options.phase == 0 else [options.phase - 1]
    if not 0 <= options.phase <= len(experiment.phases):
        raise ExperimentError(f"--phase {options.phase}: {experiment.name} has {len(experiment.phases)} phase(s)")

    def planner(experiment: Experiment, topology: Topology, phase: int, counted: bool = True) -> PhasePlan:
        if topology.gpu:  # no compiler that could crash
            return plan(experiment, topology, phase, counted=counted)
        return isolated(plan, experiment, topology, phase, options.thorough, counted)

    for phase in phases:
        if options.search:
            console.print(f"phase {phase + 1}: searching on {topology.name}")
            result = search(experiment, topology, phase, planner=planner, say=console.print)
            out.print(search_table(result, phase))
            if result.cheapest is None:
                raise TrainingError(
                    f"phase {phase + 1} of {experiment.name} fits on {topology.name} under no policy at {result.rows}"
                    " examples a chip: more micro-batches (--parallel.micro-batches), fewer examples or more chips"
                )
            plans.append(result.cheapest)
        else:
            console.print(f"phase {phase + 1}: {'reckoning' if topology.gpu else 'compiling'} for {topology.name}")
            plans.append(planner(experiment, topology, phase))
    out.print(plan_table(experiment, topology, phases, plans))
    if options.compare:
        without = []
        for number, with_kernels in zip(phases, plans, strict=True):
            model = dataclasses.replace(experiment.model, attention="reference", remat=with_kernels.remat)
            same = dataclasses.replace(experiment, model=model, batch_size=with_kernels.batch_size)
            without.append(planner(same, topology, number))
        out.print(plan_table(experiment, topology, phases, without))
        for number, one, other in zip(phases, plans, without, strict=True):
            out.print(compared(number + 1, one, other), markup=False)
    for line in notes(topology, plans, whole=options.phase == 0):
        out.print(line, markup=False)


def gib(size: float) -> str:
    return f"{size / GIB:.2f} GiB"


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms"


ROWS: tuple[tuple[str, Callable[[PhasePlan], str]], ...] = (
    ("steps × batch × length", lambda p: f"{p.steps:,} × {p.batch_size:,} × {p.length}"),
    ("examples a chip at a time, remat", lambda p: f"{p.rows}, {p.remat}"),
    ("attention", lambda p: p.attention),
    ("memory of a chip", lambda p: str(p.memory)),
    ("  parameters", lambda p: gib(p.memory.parameters)),
    ("  optimizer state", lambda p: gib(p.memory.optimizer)),
    ("  temporaries", lambda p: gib(p.memory.temporaries)),
    ("    activations kept for the backward pass", lambda p: gib(p.memory.activations)),
    ("  in all, of", lambda p: f"{gib(p.memory.total)} of {gib(p.memory.limit)}"),
    ("FLOPs of a chip, our formula", lambda p: f"{p.model_flops:.4g}"),
    ("  XLA's count, layers laid out", lambda p: f"{p.counted_flops:.4g} ({p.counted_flops / p.model_flops - 1:+.1%})"),
    ("  executed, recomputation counted", lambda p: f"{p.executed_flops:.4g}"),
    ("    of which kernels, by formula", lambda p: by_kernels(p)),
    ("bytes sent by a chip", lambda p: sent(p)),
    ("estimate: arithmetic", lambda p: milliseconds(p.compute_seconds)),
    ("estimate: memory traffic", lambda p: f"{milliseconds(p.memory_seconds)} ({p.traffic / 1e9:.1f} GB)"),
    ("estimate: network", lambda p: milliseconds(p.network_seconds)),
    ("estimate: step, at best", lambda p: milliseconds(p.step_seconds)),
    ("estimate: items/s, MFU", lambda p: f"{p.items_per_second:,.0f} {p.unit}/s, {p.mfu:.1%}"),
    ("estimate: hours, chip-hours", lambda p: f"{p.hours:,.2f}, {p.hours * p.topology.chips:,.1f}"),
)


def by_kernels(plan: PhasePlan) -> str:
    """Operations and bytes."""
    work = plan.kernels
    return f"{work.flops:.4g}, {work.bytes / 1e9:.1f} GB in {work.calls:,} calls" if work.calls else "none"


def compared(number: int, plan: PhasePlan, without: PhasePlan) -> str:
    """A plan beside the same without kernels."""
    return (
        f"phase {number}: with attention by the {plan.attention}, {plan.step_seconds / without.step_seconds:.2f} × the step and"
        f" {plan.memory.temporaries / without.memory.temporaries:.2f} × the temporaries of the reference"
    )


def sent(plan: PhasePlan) -> str:
    """By kind, beside the bound; `at least` where nothing was compiled."""
    bound = f"{plan.bound / 1e6:,.1f} MB"
    if plan.collectives is None:
        return f"at least {bound}"
    kinds = dict.fromkeys(collective.kind for collective in plan.collectives)
    parts = [f"{kind} {sum(c.moved for c in plan.collectives if c.kind == kind) / 1e6:,.1f} MB" for kind in kinds]
    over = f" ({plan.moved / plan.bound - 1:+.2%})" if plan.bound else ""
    return f"{', '.join(parts) or 'nothing'}; bound {bound}{over}"


def plan_table(experiment: Experiment, topology: Topology, phases: Sequence[int], plans: Sequence[PhasePlan]) -> Table:
    """One column for each phase."""
    how = "reckoned by formula, not compiled" if topology.gpu else "the train step compiled for it"
    spread = experiment.parallel
    table = Table(title=f"{experiment.name} on {topology.name} ({topology.chips} chips), {spread.kind}: {how}")
    table.add_column("")
    for number in phases:
        table.add_column(f"phase {number + 1}", justify="right")
    for name, value in ROWS:
        table.add_row(name, *(value(p) for p in plans))
    return table


def notes(topology: Topology, plans: Sequence[PhasePlan], whole: bool) -> list[str]:
    """What the recipe (or its one phase) costs, and what the estimate assumes."""
    hours, chip = sum(p.hours for p in plans), topology.chip
    links = (
        f"{chip.links / 1e9:.0f} GB/s NVLink and {chip.network / 1e9:.0f} GB/s network a GPU"
        if topology.gpu
        else f"{topology.bandwidth / 1e9:.0f} GB/s ICI a chip (of {chip.links / 1e9:.0f}, by the rings that close)"
    )
    what = "whole recipe" if whole else "this phase"
    lines = [
        f"{what}: {hours:,.2f} hours, {hours * topology.chips:,.1f} chip-hours at best, of training steps alone",
        f"An estimate by roofline, nothing was run: {chip.flops / 1e12:.0f} TFLOP/s bf16,"
        f" {chip.memory_bandwidth / 1e9:.0f} GB/s HBM, {links}, one way ({chip.source});"
        " arithmetic and memory overlap, the network waits for both.",
    ]
    if any(p.kernels.calls for p in plans):
        lines.append(
            "Memory, bytes sent and memory traffic are the compiler's, kernels counted by the arrays that they read and write;"
            " the operations of kernels are those of their formulas, all others XLA's count."
        )
    seconds = [p.compile_seconds for p in plans if p.compile_seconds is not None]
    if seconds:
        lines.append(f"compiled in {', '.join(f'{s:.1f}' for s in seconds)} s")
    if any(p.compile_seconds is not None and not p.thorough for p in plans):
        lines.append(
            "Compiled quickly: a run may take a tenth more memory and a fifth less traffic; --thorough compiles as a run does."
        )
    return lines


def search_table(search: Search, phase: int) -> Table:
    """The largest batch under each policy, and the cheapest policy at the experiment's own."""
    table = Table(title=f"phase {phase + 1}: the largest multiple of {search.quantum} examples a chip that fits")
    for column in ("remat", "examples a chip", "batch", "memory", "executed / needed FLOPs", "items/s at best"):
        table.add_column(column, justify="right")
    for remat, best in search.largest.items():
        if best is None:
            table.add_row(remat, "none", "", "", "", "")
            continue
        table.add_row(
            remat,
            str(best.rows),
            f"{best.batch_size:,}",
            str(best.memory),
            f"{best.executed_flops / best.counted_flops:.2f}",
            f"{best.items_per_second:,.0f}",
        )
    if search.cheapest is not None:
        table.caption = f"at {search.rows} examples a chip the cheapest that fits is remat {search.cheapest.remat}"
    return table
