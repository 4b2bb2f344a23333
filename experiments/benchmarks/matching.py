"""Matching of queries with objects: seconds of `objectives.images.matching`, of optax on the device, of SciPy on the host.

    python -m experiments.benchmarks.matching              100 queries, 20 objects, 2 pictures, 6 layers of a decoder
    python -m experiments.benchmarks.matching --step       what the matching is of a train step of DETR-R50

The last line is JSON: median seconds over rounds in which all took their turn. With `--step` these are of the train step of
`experiments.benchmarks.works`, of the matching alone, of that with the costs that it reads, and of all that the objective does,
gradient included.
"""

import argparse
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.pages import DOCS, fill, markdown, summary
from experiments.benchmarks.steps import processor
from experiments.benchmarks.steps_worker import assembled, numbered, ours
from experiments.benchmarks.timing import alternately
from experiments.benchmarks.works import SCENES
from objectives import SetPrediction
from objectives.images.matching import match
from objectives.images.set_prediction import MATCHED
from objectives.losses import IGNORED
from training.step import corrupted, forward


def contestants(problems: int, queries: int, objects: int) -> dict[str, Callable[[], object]]:
    """Each solves the same problems, costs of boxes and classes as of a model that has begun to learn."""
    import optax
    from scipy.optimize import linear_sum_assignment

    random = np.random.default_rng(0)
    places, found = random.random((problems, 1, objects, 2)), random.random((problems, queries, 1, 2))
    cost = (5 * np.abs(places - found).sum(-1) - random.random((problems, queries, objects))).astype(np.float32)
    valid, on_device = jnp.ones((problems, objects), bool), jnp.asarray(cost)
    ours, theirs = jax.jit(jax.vmap(match)), jax.jit(jax.vmap(optax.assignment.hungarian_algorithm))
    return {
        "ours": lambda: jax.block_until_ready(ours(on_device, valid)),
        "optax": lambda: jax.block_until_ready(theirs(on_device)),
        "scipy": lambda: [linear_sum_assignment(one) for one in np.asarray(on_device)],
    }


def parts_of_step(name: str) -> dict[str, Callable[[], object]]:
    """A train step of one of `SCENES`, and what the objective does of it, on the outputs of the model as it begins."""
    work = SCENES[name]
    step, wait = ours(work, "pmap", "float32")
    assembly, (batch,) = assembled(work)
    objective = assembly.training_objective
    seen, _ = jax.jit(lambda rows: corrupted(objective, 0, rows))(numbered(work, batch, 0))
    outputs = jax.jit(functools.partial(forward, assembly.model))(assembly.initial_state().variables, seen)
    floats = {name: outputs[name] for name in ("logits", "pred_boxes", "auxiliary_logits", "auxiliary_boxes")}
    costs, valid = problems_of(floats, seen)

    @jax.jit
    def asked(floats, seen):
        def total(floats):
            judged = objective.judged(floats, seen)
            amounts = objective.losses(objective.sums(judged, seen))
            return sum(amounts.values()), objective.metrics(judged, seen)

        return jax.value_and_grad(total, has_aux=True)(floats)

    def stepped() -> None:
        step()
        wait()

    matched, judged = jax.jit(jax.vmap(match)), jax.jit(lambda *arrays: objective.judged(*arrays)[MATCHED])
    return {
        "step": stepped,
        "matching": lambda: jax.block_until_ready(matched(costs, valid)),
        "matching with its costs": lambda: jax.block_until_ready(judged(floats, seen)),
        "objective": lambda: jax.block_until_ready(asked(floats, seen)),
    }


def problems_of(outputs: dict[str, jax.Array], seen: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
    """The costs of each picture and layer, `[problems, queries, objects]`, and which objects there are."""
    logits, boxes = (
        jnp.concatenate([outputs[before], outputs[last][:, None]], axis=1)
        for before, last in (("auxiliary_logits", "logits"), ("auxiliary_boxes", "pred_boxes"))
    )
    costs = jax.jit(SetPrediction().costs)(logits, boxes, seen["class_labels"], seen["boxes"])
    there = jnp.broadcast_to((seen["class_labels"] != IGNORED)[:, None], costs.shape[:2] + costs.shape[3:])
    return costs.reshape(-1, *costs.shape[2:]), there.reshape(-1, there.shape[2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in dict(pictures=2, layers=6, queries=100, objects=20, rounds=7, count=20).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--step", action="store_true", help="what the matching is of a train step")
    parser.add_argument("--write", action="store_true", help="with --step: into docs/speed.md")
    asked = parser.parse_args()
    if not asked.step:
        runs = contestants(asked.pictures * asked.layers, asked.queries, asked.objects)
        summary("matching", **alternately(runs, asked.rounds, dict.fromkeys(runs, asked.count)))
        return
    runs = parts_of_step("detr-resnet50")
    found = alternately(runs, asked.rounds, dict.fromkeys([name for name in runs if name != "step"], asked.count))
    rows = [[name, f"{taken * 1e3:,.2f}", f"{taken / found['step']:.2%}"] for name, taken in found.items()]
    table = markdown(["", "ms", "of the step"], rows)
    print(table)
    if asked.write:
        about = f"{processor()}; medians of {asked.rounds} rounds, in turn; jax {jax.__version__}.\n"
        fill(DOCS / "speed.md", matching=table, **{"matching machine": about})
    summary("matching of a step", **found)


if __name__ == "__main__":
    main()
