"""Accelerators: what one can do at most, to hold a measured speed against and to plan for machines that are not there."""

import contextlib
import dataclasses
import os
import platform
import resource
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """One accelerator, as its maker describes it.

    Attributes:
        kinds: beginnings of the `device_kind` that JAX gives it.
        flops: dense bf16 FLOP/s.
        memory: bytes of HBM that a program may fill.
        memory_bandwidth: bytes/s of HBM.
        links: bytes/s that leave the chip, one way, over all links to its neighbours (ICI; NVLink).
        source: of the figures.
        network: bytes/s that leave it for another server (GPUs).
    """

    kinds: tuple[str, ...]
    flops: float
    memory: float
    memory_bandwidth: float
    links: float
    source: str
    network: float = 0.0


GOOGLE = "cloud.google.com/tpu/docs"
POD = f"{GOOGLE}/{{}}; links: all-reduce bandwidth per Pod / chips"
CHIPS: dict[str, Chip] = {
    "v3": Chip(("TPU v3",), 123e12, 32.0 * GIB, 900e9, 340e12 / 1024, POD.format("v3")),
    "v4": Chip(("TPU v4",), 275e12, 31.75 * GIB, 1200e9, 1.1e15 / 4096, POD.format("v4")),
    "v5e": Chip(("TPU v5 lite", "TPU v5e"), 197e12, 15.75 * GIB, 819e9, 51.2e12 / 256, POD.format("v5e")),
    "v5p": Chip(
        ("TPU v5", "TPU v5p"), 459e12, 95.74 * GIB, 2765e9, 1200e9 / 2, f"{GOOGLE}/v5p; links: half of both ways"
    ),
    "v6e": Chip(("TPU v6 lite", "TPU v6e"), 918e12, 31.25 * GIB, 1600e9, 102.4e12 / 256, POD.format("v6e")),
    "a100": Chip(
        ("NVIDIA A100",), 312e12, 0.75 * 80e9, 2039e9, 300e9, "NVIDIA A100 80GB SXM and DGX A100 data sheets", 25e9
    ),
    "h100": Chip(
        ("NVIDIA H100",), 989e12, 0.75 * 80e9, 3350e9, 450e9, "NVIDIA H100 SXM and DGX H100 data sheets", 50e9
    ),
    "h200": Chip(
        ("NVIDIA H200",), 989e12, 0.75 * 141e9, 4800e9, 450e9, "NVIDIA H200 SXM and DGX H200 data sheets", 50e9
    ),
}
"""By the name that a topology begins with.

A TPU's memory is what its compiler lets a program have (libtpu 0.0.42 says so where one has too much); of a GPU's, JAX
takes 75 % unless `XLA_PYTHON_CLIENT_MEM_FRACTION` says otherwise.
"""


def chip_of(device_kind: str) -> tuple[str, Chip] | None:
    """Name and figures of the chip that JAX calls `device_kind`; `None` for CPUs and what is not in the table."""
    matches = [(start, name) for name, chip in CHIPS.items() for start in chip.kinds if device_kind.startswith(start)]
    name = max(matches)[1] if matches else None
    return None if name is None else (name, CHIPS[name])


def peak_flops(dtype: str) -> tuple[float, str]:
    """FLOP/s of one device and how it is known: a data sheet's, or (CPU) the best of several matrix products just now.

    Where other work kept the CPU busy meanwhile it is 0, with a sentence in the place of how: of a peak that is too low every
    MFU is too high.
    """
    device = jax.devices()[0]
    chip = chip_of(device.device_kind)
    if chip is not None:
        return chip[1].flops, f"data sheet of {device.device_kind}, bf16"
    if device.platform != "cpu":
        return 0.0, f"unknown for {device.device_kind}"
    waits = Waits()
    seconds = product_seconds(dtype)
    if not quiet(seconds, waits.fraction()):
        return 0.0, "not known: other work kept the processor busy while its peak was measured"
    return 2 * CPU_SIZE**3 / min(seconds), f"measured: best of {len(seconds)} {CPU_SIZE}³ {dtype} products on the CPU"


CPU_SIZE, SIZE = 2048, 8192
"""Rows of the matrices whose product shows what a CPU and what an accelerator can do."""
SPREAD, WAITED = 0.05, 0.05
"""By how much the two fastest products may differ on a quiet machine, and how much of their time threads may wait for a core."""


def quiet(seconds: Sequence[float], waited: float) -> bool:
    """Whether nothing else ran while products took `seconds` and threads `waited` that fraction of their time for a core."""
    fastest, second, *_ = sorted(seconds)
    return second <= (1 + SPREAD) * fastest and waited <= WAITED


class Waits:
    """How long the threads of this process have waited for a core since it was made, which Linux counts (`schedstat`)."""

    def __init__(self) -> None:
        self.ran, self.waited = self._counted()

    @staticmethod
    def _counted() -> tuple[int, int]:
        """Nanoseconds that all threads have run, and that they were ready to and had no core."""
        ran = waited = 0
        for path in Path("/proc/self/task").glob("*/schedstat"):
            with contextlib.suppress(OSError, ValueError):  # of a thread that has ended meanwhile
                one, other, _ = map(int, path.read_text().split())
                ran, waited = ran + one, waited + other
        return ran, waited

    def fraction(self) -> float:
        """Of the time that threads ran or wanted to; 0 where the system does not count it."""
        ran, waited = (now - before for now, before in zip(self._counted(), (self.ran, self.waited), strict=True))
        return waited / max(1, ran + waited)


def product_seconds(dtype: str, tries: int = 8, most: float = 3.0) -> list[float]:
    """Seconds of several matrix products on one device, one after another, fewer than `tries` where `most` seconds are over."""
    size = CPU_SIZE if jax.devices()[0].platform == "cpu" else SIZE
    matrix = jnp.ones((size, size), dtype)
    product = jax.jit(lambda a: a @ a)
    product(matrix).block_until_ready()
    seconds: list[float] = []
    while len(seconds) < 3 or (len(seconds) < tries and sum(seconds) < most):
        begin = time.perf_counter()
        product(matrix).block_until_ready()
        seconds.append(time.perf_counter() - begin)
    return seconds


def reached_flops(dtype: str) -> float:
    """FLOP/s of the best of a few matrix products on one device, just now."""
    size = CPU_SIZE if jax.devices()[0].platform == "cpu" else SIZE
    return 2 * size**3 / min(product_seconds(dtype))


def peak_memory() -> dict[str, int]:
    """Most memory in use so far, bytes: `device_peak_bytes` of this process' fullest device.

    Where devices do not say (the CPU does not) it is `process_peak_bytes`: the most of this process that was in memory.
    """
    peaks = [(device.memory_stats() or {}).get("peak_bytes_in_use") for device in jax.local_devices()]
    known = [peak for peak in peaks if peak is not None]
    if known:
        return {"device_peak_bytes": max(known)}
    unit = 1 if sys.platform == "darwin" else 1024  # man getrusage: kilobytes on Linux
    return {"process_peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}


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
