"""`lacuna doctor`: is this host, with its peers, fit to train."""

import dataclasses
import hashlib
import json
import math
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from experiments.commands import console, parse_experiment, supervised
from experiments.experiment import Experiment
from training.hardware import machine, peak_flops, reached_flops
from training.processes import Processes
from training.supervisor import Place

MEGABYTE = 10**6


@dataclasses.dataclass(frozen=True)
class Options(Processes):
    """What to look at; with an experiment's file, also whether its data and settings are the same everywhere.

    Attributes:
        runs: folder that checkpoints would go to; with several processes it must be one that all of them see.
        megabytes: to write there, for its speed.
    """

    runs: str = "runs"
    megabytes: int = 256


@dataclasses.dataclass(frozen=True)
class Finding:
    """What one look found: `fit` is whether it is as it should be, `None` where there is nothing to judge."""

    name: str
    fit: bool | None
    says: str


def main(arguments: list[str]) -> None:
    file = next(iter(arguments), "")
    if file and not file.startswith("-"):
        experiment, options = parse_experiment("doctor", arguments, Options)
    else:
        experiment, file = None, ""
        options = tyro.cli(Options, args=arguments, prog="lacuna doctor", description=__doc__)
    supervised(options, file)
    looks: list[Callable[[], Iterator[Finding]]] = [
        versions,
        devices,
        speed,
        lambda: folder(Path(options.runs), options.megabytes * MEGABYTE),
        clock,
        ports,
    ]
    if experiment is not None:
        looks.append(lambda: fits(experiment, Path(options.runs)))
    findings = [finding for look in looks for finding in look()]
    everyones = everywhere([dataclasses.asdict(finding) for finding in findings])
    by_process = {str(n): [Finding(**finding) for finding in findings] for n, findings in enumerate(everyones)}
    if jax.process_count() > 1:
        by_process["all"] = [*together(everyones), *shared(Path(options.runs)), *network()]
    well = report(by_process) if jax.process_index() == 0 else True
    if not well:
        raise SystemExit(1)


def versions() -> Iterator[Finding]:
    host = machine()
    yield Finding("processor", None, f"{host.pop('processor')}, {host.pop('cores')} cores")
    host.pop("devices")
    yield Finding("versions", None, ", ".join(f"{name} {value}" for name, value in host.items()))


def devices() -> Iterator[Finding]:
    local = jax.local_devices()
    yield Finding(
        "devices", True, f"{len(local)} × {local[0].device_kind} ({local[0].platform}) of {jax.device_count()}"
    )
    statistics = local[0].memory_stats() or {}
    if "bytes_limit" in statistics:
        free = statistics["bytes_limit"] - statistics.get("bytes_in_use", 0)
        yield Finding("device memory", free > 0.5 * statistics["bytes_limit"], f"{free / 1e9:.1f} GB free on each")
    pages = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    yield Finding("host memory", pages > 2e9, f"{pages / 1e9:.1f} GB free (2 GB are little)")


def speed() -> Iterator[Finding]:
    """Matrix products: what is reached, against the data sheet where there is one."""
    for dtype in ("float32", "bfloat16"):
        reached, (peak, how) = reached_flops(dtype), peak_flops(dtype)
        known = jax.devices()[0].platform != "cpu" and peak > 0 and dtype == "bfloat16"
        against = f", {reached / peak:.0%} of the peak ({how})" if known else ""
        fit = reached > 0.5 * peak if known else None
        yield Finding(f"{dtype} products", fit, f"{reached / 1e12:.3f} TFLOP/s{against}")


def folder(path: Path, size: int) -> Iterator[Finding]:
    """Whether checkpoints can be written, and how fast."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(path).free
        content = np.random.default_rng(0).bytes(min(size, free // 2))
        with tempfile.NamedTemporaryFile(dir=path, prefix=".doctor") as file:
            begin = time.perf_counter()
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            written = time.perf_counter() - begin
            begin = time.perf_counter()
            same = Path(file.name).read_bytes() == content
            read = time.perf_counter() - begin
            Path(file.name).touch()
            skew = time.time() - Path(file.name).stat().st_mtime
    except OSError as error:
        yield Finding("checkpoint folder", False, f"{path.absolute()} cannot be written: {error.strerror or error}")
        return
    rate = f"{len(content) / written / MEGABYTE:,.0f} MB/s written, {len(content) / read / MEGABYTE:,.0f} MB/s read"
    yield Finding("checkpoint folder", same, f"{path.absolute()}: {rate}, {free / 1e9:.1f} GB free")
    yield Finding("its clock", abs(skew) < 5, f"{skew:+.1f} s from this host's")


def clock() -> Iterator[Finding]:
    now = time.time()
    yield Finding("clock", now > 1_750_000_000, time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now)))


def ports() -> Iterator[Finding]:
    """Whether process 0 is reached, or could be here."""
    place = Place.of_environment()
    if place is not None:
        yield Finding("ports", True, f"process 0 was reached at {place.coordinator}")
        return
    try:
        with socket.socket() as one:
            one.bind(("", 0))
            yield Finding("ports", True, f"can be opened (tried {one.getsockname()[1]})")
    except OSError as error:
        yield Finding("ports", False, f"none can be opened: {error.strerror or error}")


def fits(experiment: Experiment, runs: Path) -> Iterator[Finding]:
    """The experiment's own settings and data, and whether there is room for its checkpoints.

    Args:
        runs: folder that they would go to, where the experiment names none.
    """
    from experiments.assembly.assemble import assemble

    assembly = assemble(experiment, say=console.print)
    yield Finding("data", True, f"{experiment.data.source}: {assembly.data.fingerprint[:12]}")
    description = json.dumps(assembly.description(), sort_keys=True)
    yield Finding("experiment", True, f"{experiment.name}: {hashlib.sha256(description.encode()).hexdigest()[:12]}")
    size = sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(assembly.state_shapes()))
    yield room(Path(experiment.folder) if experiment.folder else runs, size)


def room(path: Path, size: int) -> Finding:
    """Whether two checkpoints of `size` bytes fit on the disk: no old one goes before the new one is there."""
    existing = next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())
    free = shutil.disk_usage(existing).free
    says = f"{decimal(free)} free in {existing}, and two checkpoints take {decimal(2 * size)}"
    return Finding("room for checkpoints", free >= 2 * size, says)


def everywhere(mine: list[dict]) -> list[list[dict]]:
    """What every process found, by process."""
    if jax.process_count() == 1:
        return [mine]
    text = np.frombuffer(
        json.dumps({"findings": mine, "now": time.time(), "host": socket.gethostname()}).encode(), np.uint8
    )
    longest = int(multihost_utils.process_allgather(np.int32(len(text))).max())
    padded = np.zeros(longest, np.uint8)
    padded[: len(text)] = text
    return [json.loads(bytes(row).rstrip(b"\0"))["findings"] for row in multihost_utils.process_allgather(padded)]


def together(everyones: list[list[dict]]) -> Iterator[Finding]:
    """Whether what must be the same everywhere is. (Versions and code are: who differs is not let in.)"""
    for name in ("data", "experiment"):
        values = {number: f["says"] for number, findings in enumerate(everyones) for f in findings if f["name"] == name}
        different = [number for number, says in values.items() if says != values.get(0)]
        if values:
            fit = not different and len(values) == len(everyones)
            says = "the same everywhere" if fit else f"another in process {', '.join(map(str, different))}"
            yield Finding(f"same {name}", fit, says)


def shared(path: Path) -> Iterator[Finding]:
    """Whether all processes see the same folder: checkpoints are written together."""
    token, name = np.random.default_rng().integers(0, 2**31 - 1), path / ".doctor-shared"
    token = int(multihost_utils.broadcast_one_to_all(np.int32(token)))
    if jax.process_index() == 0:
        name.write_text(str(token))
    multihost_utils.sync_global_devices("written")
    sees = name.exists() and name.read_text() == str(token)
    blind = np.flatnonzero(~multihost_utils.process_allgather(np.bool_(sees)))
    if jax.process_index() == 0:
        name.unlink(missing_ok=True)
    says = "seen by all" if not len(blind) else f"not seen by process {', '.join(map(str, blind))}: use a shared one"
    yield Finding("shared folder", not len(blind), says)


def network(size: int = 2**22) -> Iterator[Finding]:
    """An all-reduce over all devices: that it comes to the right sum, and how long it takes."""
    mesh = Mesh(np.array(jax.devices()), ("all",))
    rows = NamedSharding(mesh, PartitionSpec("all"))
    ones = jax.make_array_from_callback((jax.device_count(), size), rows, lambda index: np.ones((1, size), np.float32))
    add = jax.jit(lambda x: jnp.sum(x, axis=0), out_shardings=NamedSharding(mesh, PartitionSpec()))
    right = float(np.asarray(add(ones).addressable_data(0))[-1]) == jax.device_count()
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        add(ones).block_until_ready()
        times.append(time.perf_counter() - begin)
    seconds = min(times)
    gathered = multihost_utils.process_allgather(np.float64(time.time()))
    yield Finding(
        "all-reduce", right, f"{4 * size / MEGABYTE:.0f} MB over {jax.device_count()} devices in {seconds * 1e3:.1f} ms"
    )
    gap = float(gathered.max() - gathered.min())
    yield Finding("clocks", gap < 5, f"{gap:.1f} s apart at most")


def report(by_process: dict[str, list[Finding]]) -> bool:
    """Print what each process found, and all together; whether all of it is well."""
    several = len(by_process) > 1
    table = Table()
    for column in ("", "", "process") if several else ("", ""):
        table.add_column(column)
    table.add_column("found", overflow="fold")
    bad = []
    for process, findings in by_process.items():
        for finding in findings:
            mark = {True: "✓", False: "✗", None: ""}[finding.fit]
            cells = [mark, finding.name, *([process] if several else []), finding.says]
            table.add_row(*cells)
            if finding.fit is False:
                bad.append(finding.name + (f" (process {process})" if several else ""))
    Console(soft_wrap=True, highlight=False).print(table)
    if bad:
        print(f"lacuna: not fit to train: {', '.join(bad)}", file=sys.stderr)
    return not bad
