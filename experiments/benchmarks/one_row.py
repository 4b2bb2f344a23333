"""Products of one row with a kernel, as a decoder takes them for each token of one text, in the forms that XLA has for them.

    python -m experiments.benchmarks.one_row [--layers 12] [--rounds 9]

A loop, as that of generation, reads `--layers` pairs of kernels of GPT-2 small's feed-forward layers once a turn, each form in
its turn. A form that is on both cores takes more seconds of processor than of the clock. The last line is JSON.
"""

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from experiments.benchmarks.pages import markdown, summary
from experiments.benchmarks.steps import processor

WIDTH, INNER, TURNS = 768, 3_072, 8

Row = Float[Array, "1 in"]


@dataclasses.dataclass(frozen=True)
class Form:
    """A way to compute row · kernel.

    Attributes:
        product: of the row and the parts of a kernel.
        parts: what of a kernel (in, out) is held.
    """

    product: Callable[[Row, list[Array]], Row]
    parts: Callable[[np.ndarray], list[np.ndarray]]


def quarters(row: Row, parts: list[Array]) -> Row:
    """Products that do not wait for one another."""
    rows = jnp.split(row, len(parts), axis=1)
    return sum(one @ part for one, part in zip(rows, parts, strict=True))


def wide(row: Row, kernel: Array) -> tuple[Row, Array]:
    """A kernel in float32, which XLA is to make in each turn: it would move that before the loop, and read the wide one."""
    row, kernel = jax.lax.optimization_barrier((row, kernel))
    return row, kernel.astype(jnp.float32)


def widened(row: Row, parts: list[Array]) -> Row:
    row, kernel = wide(row, parts[0])
    return row @ kernel


def sum_of_rows(row: Row, parts: list[Array]) -> Row:
    """Of a kernel (out, in): the sum of each of its rows times the row."""
    row, kernel = wide(row, parts[0])
    return (kernel * row).sum(axis=1)[None]


def narrow(kernel: np.ndarray) -> np.ndarray:
    return kernel.astype(jnp.bfloat16)


FORMS = {
    "a product": Form(lambda row, parts: row @ parts[0], lambda kernel: [kernel]),
    "four products, added": Form(quarters, lambda kernel: np.split(kernel, 4)),
    "sums of rows": Form(sum_of_rows, lambda kernel: [kernel.T.copy()]),
    "bfloat16, a product": Form(
        lambda row, parts: (row.astype(jnp.bfloat16) @ parts[0]).astype(jnp.float32), lambda kernel: [narrow(kernel)]
    ),
    "bfloat16, widened in each turn, a product": Form(widened, lambda kernel: [narrow(kernel)]),
    "bfloat16, sums of rows": Form(sum_of_rows, lambda kernel: [narrow(kernel.T.copy())]),
}


def loop(form: Form, layers: int) -> tuple[Callable[[], Array], int]:
    """Turns through all kernels, compiled, and the bytes of these."""
    random = np.random.default_rng(0)
    shapes = [shape for _ in range(layers) for shape in ((WIDTH, INNER), (INNER, WIDTH))]
    kernels = [form.parts(np.float32(random.normal(size=shape) / shape[0] ** 0.5)) for shape in shapes]
    kernels = jax.tree.map(jnp.asarray, kernels)

    def run(row: Row, kernels: list[list[Array]]) -> Row:
        def turn(_, row: Row) -> Row:
            for up, down in zip(kernels[::2], kernels[1::2], strict=True):
                row = jnp.tanh(form.product(jnp.tanh(form.product(row, up)), down))
            return row

        return jax.lax.fori_loop(0, TURNS, turn, row)

    compiled, row = jax.jit(run), jnp.ones((1, WIDTH))
    return lambda: compiled(row, kernels).block_until_ready(), sum(x.nbytes for x in jax.tree.leaves(kernels))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    loops = {name: loop(form, arguments.layers) for name, form in FORMS.items()}
    clock, busy = ({name: [] for name in loops} for _ in range(2))
    for number in range(arguments.rounds + 1):
        for name, (run, _) in loops.items():
            begin, worked = time.perf_counter(), time.process_time()
            run()
            if number:  # the first one compiles
                clock[name].append((time.perf_counter() - begin) / TURNS)
                busy[name].append((time.process_time() - worked) / TURNS)
    results = {
        name: dict(
            milliseconds=1e3 * statistics.median(clock[name]),
            processor_milliseconds=1e3 * statistics.median(busy[name]),
            gigabytes_per_second=size / statistics.median(clock[name]) / 1e9,
        )
        for name, (_, size) in loops.items()
    }
    head = ["held as, computed as", "ms a turn", "of processor", "GB/s"]
    print(markdown(head, [[name, *(f"{value:.2f}" for value in found.values())] for name, found in results.items()]))
    summary("one row", processor=processor(), jax=jax.__version__, results=results)


if __name__ == "__main__":
    main()
