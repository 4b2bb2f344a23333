"""`lacuna check`: read all data of an experiment once, count what is there, and name what is broken."""

import contextlib
import dataclasses
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from data.contents import Progress as Report
from data.contents import spoken
from experiments.assembly.assemble import assemble
from experiments.commands import console, parse_experiment


def main(arguments: list[str]) -> None:
    """Exit code 1 where something is broken."""
    experiment, _ = parse_experiment("check", arguments)
    source = experiment.data
    console.print(f"reading all of {source.source}", markup=False)
    with bar() as progress:
        survey = source.survey(progress)
    show({**survey.counts, "broken": f"{len(survey.broken):,}"})
    out = Console(soft_wrap=True, highlight=False)
    for reason in survey.broken:
        out.print(f"broken: {reason}", markup=False)
    whole = dataclasses.replace(experiment, data=dataclasses.replace(source, broken="skip"))
    assembly = assemble(whole, say=lambda text: console.print(text, markup=False))
    show({name: f"{count:,}" for name, count in assembly.data.amounts.items()})
    if survey.broken:
        advice = "are left out" if source.broken == "skip" else "mend them, or set --data.broken skip"
        console.print(f"{len(survey.broken):,} broken: {advice}", markup=False)
        raise SystemExit(1)
    console.print("all of it can be read, and the experiment fits together")


def show(counts: dict[str, str]) -> None:
    table = Table.grid(padding=(0, 2))
    for name, count in counts.items():
        table.add_row(name, count)
    if counts:
        Console(soft_wrap=True, highlight=False).print(table)


@contextlib.contextmanager
def bar() -> Iterator[Report]:
    """A bar that shows how much is read, in a terminal; elsewhere a line at times."""
    if not console.is_terminal:
        yield spoken(lambda text: console.print(text, markup=False), "the data")
        return
    columns = TextColumn("reading"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("reading", total=None)

        def report(done: int, count: int) -> None:
            progress.update(task, completed=done, total=count)

        yield report
