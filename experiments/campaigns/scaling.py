"""The tables of docs/scaling.md: BERT-large from 8 to 1,024 chips by formula, and what the published runs reached.

python -m experiments.campaigns.scaling        seconds; nothing is compiled
"""

import dataclasses

import jax

from experiments.assembly.assemble import assemble
from experiments.benchmarks.pages import DOCS, fill, markdown
from experiments.experiment import load
from training.hardware import CHIPS
from training.parallel import Parallel
from training.planning.topologies import Topology

ROWS = 32
"""Sequences a chip."""

UTILISATION = 0.4
"""Share of a chip's peak that its arithmetic is assumed to reach."""

SHAPES: dict[str, tuple[tuple[int, ...], ...]] = {
    "v3": ((2, 4), (4, 4), (8, 8), (16, 16), (32, 32)),
    "v4": ((2, 2, 2), (2, 2, 4), (4, 4, 4), (4, 8, 8), (8, 8, 16)),
    "v5p": ((2, 2, 2), (2, 2, 4), (4, 4, 4), (4, 8, 8), (8, 8, 16)),
    "v5e": ((2, 4), (4, 4), (8, 8), (16, 16)),
    "h100": ((1, 8), (2, 8), (8, 8), (32, 8), (128, 8)),
}

PUBLISHED = (
    ("LAMB, 512", 16, ((900_000, 512, 128), (100_000, 512, 512)), 82.8 * 60),
    ("LAMB, 1k", 32, ((450_000, 1024, 128), (50_000, 1024, 512)), 43.2 * 60),
    ("LAMB, 2k", 64, ((225_000, 2048, 128), (25_000, 2048, 512)), 21.4 * 60),
    ("LAMB, 4k", 128, ((112_500, 4096, 128), (12_500, 4096, 512)), 693.6),
    ("LAMB, 8k", 256, ((56_250, 8192, 128), (6_250, 8192, 512)), 390.5),
    ("LAMB, 16k", 512, ((28_125, 16384, 128), (3_125, 16384, 512)), 200.0),
    ("LAMB, 32k", 1024, ((14_063, 32768, 128), (1_562, 32768, 512)), 101.2),
    ("LAMB, 64k/32k", 1024, ((7_037, 65536, 128), (1_562, 32768, 512)), 76.19),
)
"""Name, chips (TPU v3), (steps, batch, length) of each phase, minutes: You et al., 2019, arXiv 1904.00962, table 1."""


def work() -> tuple[dict[int, float], float]:
    """Model FLOPs of a sequence at each length, and bytes of the gradient."""
    experiment = dataclasses.replace(
        load("experiments/bert/pretrain.py:large"), batch_size=1, parallel=Parallel("jit", devices=1)
    )
    assembly = assemble(experiment, data=experiment.outline)
    flops = {phase.form.length: assembly.work(n)[1] for n, phase in enumerate(experiment.phases)}
    params = jax.eval_shape(assembly.boxed_state).params
    return flops, float(sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(params)))


def network_seconds(name: str, shape: tuple[int, ...], size: float) -> float:
    """Of one all-reduce of `size` bytes over all chips."""
    gpu = name == "h100"
    topology = Topology(f"gpu:{name}" if gpu else name, CHIPS[name], shape, gpu=gpu)
    return topology.seconds(2 * size * (topology.chips - 1) / topology.chips)


def predicted(length: int) -> str:
    """Efficiency against a chip alone, of each kind of chip at each size."""
    flops, size = work()
    head = ["chips", *(f"{name}: all-reduce, ms" for name in SHAPES), *(f"{name}: efficiency" for name in SHAPES)]
    rows = []
    for place, chips in enumerate((8, 16, 64, 256, 1024)):
        times, shares = [], []
        for name, shapes in SHAPES.items():
            if place >= len(shapes):
                times.append("–")
                shares.append("–")
                continue
            alone = ROWS * flops[length] / (CHIPS[name].flops * UTILISATION)
            network = network_seconds(name, shapes[place], size)
            times.append(f"{network * 1e3:.1f}")
            shares.append(f"{alone / (alone + network):.1%}")
        rows.append([f"{chips:,}", *times, *shares])
    return markdown(head, rows)


def published() -> str:
    """What the runs reached by our FLOP formula, and what the model predicts for them from the first one's arithmetic."""
    flops, size = work()
    head = ["run", "chips", "minutes", "model FLOPs", "MFU", "against 16 chips", "predicted"]
    rows, first, arithmetic = [], 0.0, 0.0
    for name, chips, phases, minutes in PUBLISHED:
        total = sum(steps * batch * flops[length] for steps, batch, length in phases)
        mfu = total / (chips * CHIPS["v3"].flops * minutes * 60)
        side = 2 ** ((chips.bit_length() - 1) // 2)
        each = network_seconds("v3", (side, chips // side), size)
        network = sum(steps for steps, _, _ in phases) * each
        if not first:
            first, arithmetic = mfu, (minutes * 60 - network) * chips / total
        seconds = arithmetic * total / chips + network
        expected = total / (chips * CHIPS["v3"].flops * seconds)
        rows.append([name, f"{chips:,}", f"{minutes:,.1f}", f"{total:.3g}", f"{mfu:.1%}"])
        rows[-1] += [f"{mfu / first:.0%}", f"{expected / first:.0%}"]
    return markdown(head, rows)


def main() -> None:
    jax.config.update("jax_platforms", "cpu")
    fill(DOCS / "scaling.md", short=predicted(128), long=predicted(512), published=published())


if __name__ == "__main__":
    main()
