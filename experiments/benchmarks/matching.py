"""Matching of queries with objects: seconds of `objectives.images.matching`, of optax on the device, of SciPy on the host.

    python -m experiments.benchmarks.matching              100 queries, 20 objects, 2 pictures, 6 layers of a decoder

The last line is JSON: medians over rounds in which all took their turn.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import jax
import numpy as np


def contestants(problems: int, queries: int, objects: int) -> dict[str, Callable[[], object]]:
    """Each solves the same problems, costs of boxes and classes as of a model that has begun to learn."""
    import optax
    from scipy.optimize import linear_sum_assignment

    from objectives.images.matching import match

    random = np.random.default_rng(0)
    places, found = random.random((problems, 1, objects, 2)), random.random((problems, queries, 1, 2))
    cost = (5 * np.abs(places - found).sum(-1) - random.random((problems, queries, objects))).astype(np.float32)
    valid, on_device = jax.numpy.ones((problems, objects), bool), jax.numpy.asarray(cost)
    ours, theirs = jax.jit(jax.vmap(match)), jax.jit(jax.vmap(optax.assignment.hungarian_algorithm))
    return {
        "ours": lambda: jax.block_until_ready(ours(on_device, valid)),
        "optax": lambda: jax.block_until_ready(theirs(on_device)),
        "scipy": lambda: [linear_sum_assignment(one) for one in np.asarray(on_device)],
    }


def seconds(run: Callable[[], object], count: int) -> float:
    begin = time.perf_counter()
    for _ in range(count):
        run()
    return (time.perf_counter() - begin) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in dict(pictures=2, layers=6, queries=100, objects=20, rounds=7, count=20).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    asked = parser.parse_args()
    runs = contestants(asked.pictures * asked.layers, asked.queries, asked.objects)
    for run in runs.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(asked.rounds):
        for name, run in runs.items():
            times[name].append(seconds(run, asked.count))
    print(json.dumps({name: round(statistics.median(found), 6) for name, found in times.items()}))


if __name__ == "__main__":
    main()
