"""Names of machines → their chips and links, and devices to compile for without having them."""

import dataclasses
import importlib.util
import math
import os
import re
from collections.abc import Sequence

import jax

from training.hardware import CHIPS, Chip
from training.parallel import TrainingError

PLANE = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
CUBES = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16", "8x16x16", "16x16x16")
SLICES: dict[str, tuple[str, ...]] = {"v4": CUBES, "v5e": PLANE, "v5p": (*CUBES, "16x16x24"), "v6e": PLANE}
"""Shapes that Google Cloud rents, by generation (cloud.google.com/tpu/docs/v4, v5e, v5p, v6e)."""

RINGS = {"v3": 32, "v5e": 16, "v6e": 16}
"""Chips of an axis that closes to a ring, where slices are cut from a plane."""

GPUS = ("a100", "h100", "h200")

ALONE = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_MIN_LOG_LEVEL": "3",
    "TPU_STDERR_LOG_LEVEL": "3",
}
"""What libtpu reads from the environment: not to look for a TPU, nor to insist on being the only process, and hush."""


@dataclasses.dataclass(frozen=True)
class Topology:
    """Chips and how they are joined.

    Attributes:
        name: as the user writes it.
        chip: one of them.
        shape: of the torus (TPU), or (servers, GPUs of each).
        gpu: whether they are GPUs.
    """

    name: str
    chip: Chip
    shape: tuple[int, ...]
    gpu: bool = False

    @property
    def chips(self) -> int:
        return math.prod(self.shape)

    @property
    def bandwidth(self) -> float:
        """Bytes/s, one way, that a chip's part of a collective over all chips can move.

        On TPUs the links of every axis carry it: both of an axis that closes to a ring (see `RINGS`; v4 and v5p: any, where
        all axes are multiples of four), half as much of one that does not. On GPUs NVLink within a server; for the way
        between servers see `seconds`.
        """
        if self.gpu:
            return self.chip.links
        whole = RINGS.get(self.name.partition(":")[0])
        closed = [n == whole if whole else all(n % 4 == 0 for n in self.shape) for n in self.shape]
        axes = [0.0 if n == 1 else 1.0 if ring else 0.5 for n, ring in zip(self.shape, closed, strict=True)]
        return self.chip.links * sum(axes) / len(axes)

    def seconds(self, moved: float) -> float:
        """Time of collectives over all chips that by the ring model move `moved` bytes out of each chip.

        Between GPU servers, of g GPUs each, a collective is made in two levels: 1/g of the bytes cross the network.
        """
        if self.chips == 1 or not moved:
            return 0.0
        if not self.gpu:
            return moved / self.bandwidth
        servers, each = self.shape
        whole = moved / ((self.chips - 1) / self.chips)
        within = whole * (each - 1) / each / self.chip.links
        across = whole * (servers - 1) / servers / each / self.chip.network
        return within + across


def known_topologies() -> str:
    """All names, in one sentence."""
    slices = "; ".join(f"{name}: {', '.join(shapes)}" for name, shapes in SLICES.items())
    return f"{slices}; GPU servers: {', '.join(f'gpu:{name}:8' for name in GPUS)}, gpu:h100:2x8 (2 servers of 8), …"


def parse_topology(name: str) -> Topology:
    """`v5e:16x16`, `v4:4x4x4`; `gpu:h100:8` (one server), `gpu:h100:4x8` (four).

    Raises:
        TrainingError: there is no such machine; the sentence lists those there are.
    """
    generation, _, shape = name.partition(":")
    if generation == "gpu":
        chip, _, shape = shape.partition(":")
        if chip in GPUS and re.fullmatch(r"([1-9]\d*x)?[1-8]", shape):
            sizes = tuple(int(n) for n in shape.split("x"))
            return Topology(name, CHIPS[chip], sizes if len(sizes) == 2 else (1, *sizes), gpu=True)
    elif shape in SLICES.get(generation, ()):
        return Topology(name, CHIPS[generation], tuple(int(n) for n in shape.split("x")))
    raise TrainingError(f"unknown topology {name!r}: known are {known_topologies()}")


def absent_devices(topology: Topology) -> Sequence[jax.Device]:
    """The devices of a TPU slice that is not there, one a chip, to compile for.

    Raises:
        TrainingError: libtpu, the compiler, is not installed.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise TrainingError(
            f"compiling for {topology.name} needs libtpu, which works without a TPU (Linux, x86):"
            " pip install 'lacuna-jax[tpu]'"
        )
    for variable, value in ALONE.items():
        os.environ.setdefault(variable, value)
    from jax.experimental import topologies

    generation = topology.name.partition(":")[0]
    options = dict(chip_config_name="megacore") if generation == "v4" else {}
    if topology.chips == 1:
        options["chips_per_host_bounds"] = (1, 1, 1)
    return topologies.get_topology_desc(platform="tpu", topology_name=topology.name, **options).devices
