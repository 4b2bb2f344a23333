"""Deformable attention beside the version of `transformers` on torch, which is made of `grid_sample`, on this processor.

    python -m experiments.benchmarks.deformable [--write]

Shapes are those of Mask2Former's pixel decoder: 8 heads of 32 features, 3 levels with strides of 32, 16 and 8, 4 points of
each, all places being queries, points around them as a fresh model has them, and noise. The last line is JSON: for each size of
picture the median seconds of both sides, forward and with the gradients of values, points and weights.
"""

import argparse
import functools
import os
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.pages import DOCS, fill, markdown, summary
from experiments.benchmarks.steps import processor
from experiments.benchmarks.timing import alternately
from models.kernels.deformable_attention import deformable_attention
from models.mask2former.pixel_decoder import middles, offsets_around

SIZES = ((192, 256), (384, 512), (512, 512))
"""Height and width of pictures."""
BATCH, HEADS, DIM, POINTS, STRIDES = 2, 8, 32, 4, (32, 16, 8)


def arrays(height: int, width: int) -> tuple[list[np.ndarray], tuple[tuple[int, int], ...]]:
    """Values, points, weights and the gradient of the result; and (height, width) of the levels."""
    random = np.random.default_rng(0)
    shapes = tuple((height // stride, width // stride) for stride in STRIDES)
    places = middles(shapes)
    queries, levels = len(places), len(shapes)
    offsets = np.asarray(offsets_around(jax.random.key(0), (2 * HEADS * levels * POINTS,), jnp.float32))
    offsets = offsets.reshape(HEADS, levels, POINTS, 2) + random.normal(size=(BATCH, queries, HEADS, levels, POINTS, 2))
    sizes = np.array([shape[::-1] for shape in shapes])
    points = places[None, :, None, None, None] + offsets / sizes[:, None]
    weights = random.dirichlet(np.ones(levels * POINTS), (BATCH, queries, HEADS))
    given = [
        random.normal(size=(BATCH, queries, HEADS, DIM)),
        points,
        weights.reshape(BATCH, queries, HEADS, levels, POINTS),
        random.normal(size=(BATCH, queries, HEADS * DIM)),
    ]
    return [x.astype(np.float32) for x in given], shapes


def contestants(height: int, width: int) -> dict[str, Callable[[], object]]:
    """Both sides on the same arrays, which must give the same.

    Raises:
        SystemExit: they do not.
    """
    import torch
    from transformers.models.mask2former.modeling_mask2former import multi_scale_deformable_attention

    torch.set_num_threads(os.cpu_count() or 1)
    (*given, along), shapes = arrays(height, width)
    leaves, gradient = [torch.from_numpy(x).requires_grad_() for x in given], torch.from_numpy(along)
    on_device, slope = [jnp.asarray(x) for x in given], jnp.asarray(along)
    attend = jax.jit(functools.partial(deformable_attention, shapes=shapes))

    @jax.jit
    def pulled(arrays, gradient):
        attended, pull = jax.vjp(functools.partial(deformable_attention, shapes=shapes), *arrays)
        return attended, pull(gradient)

    def theirs(with_gradient: bool):
        with torch.set_grad_enabled(with_gradient):
            attended = multi_scale_deformable_attention(leaves[0], shapes, *leaves[1:])
            return [attended, *(torch.autograd.grad(attended, leaves, gradient) if with_gradient else ())]

    ours, others = jax.tree.leaves(pulled(on_device, slope)), theirs(True)
    for one, other in zip(ours, others, strict=True):
        other = other.detach().numpy()
        if not np.allclose(one, other, atol=1e-3 * np.abs(other).max()):
            raise SystemExit(f"the two sides differ by {np.abs(one - other).max()} of {np.abs(other).max()}")
    return {
        "forward": lambda: jax.block_until_ready(attend(*on_device)),
        "forward, torch": lambda: theirs(False),
        "with gradients": lambda: jax.block_until_ready(pulled(on_device, slope)),
        "with gradients, torch": lambda: theirs(True),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--write", action="store_true", help="fill docs/speed.md")
    arguments = parser.parse_args()
    rows, found = [], {}
    for height, width in SIZES:
        times = found[f"{height} x {width}"] = alternately(contestants(height, width), arguments.rounds)
        for what in ("forward", "with gradients"):
            both = times[what], times[f"{what}, torch"]
            cells = [f"{seconds * 1e3:,.1f}" for seconds in both]
            rows.append([f"{height} × {width}", what, *cells, f"{both[1] / both[0]:.2f}"])
    table = markdown(["picture", "", "Lacuna, ms", "torch, ms", "times as fast"], rows)
    print(table)
    if arguments.write:
        import torch

        versions = f"jax {jax.__version__}, torch {torch.__version__}"
        about = f"{processor()}; medians of {arguments.rounds} rounds, in turn; {versions}.\n"
        fill(DOCS / "speed.md", deformable=table, **{"deformable machine": about})
    summary("deformable", processor=processor(), **found)


if __name__ == "__main__":
    main()
