"""The figures and states of metrics of one model, spread in some way; a program for the tests.

python -m tests.evaluation.layouts FILE LAYOUT                          in this process
python -m tests.evaluation.layouts FILE LAYOUT ADDRESS COUNT NUMBER     as one process of several
"""

import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np

from evaluation.evaluation import Evaluation
from evaluation.metric import Metric
from evaluation.metrics.accuracy import Accuracy
from evaluation.metrics.f1 import F1
from experiments.assembly.assemble import assemble
from experiments.assembly.evaluations import evaluators
from tests.experiments.small_images import small
from training.parallel import Parallel

LAYOUTS = {
    "alone": Parallel(devices=1),
    "pmap": Parallel(),
    "jit": Parallel("jit", fsdp=2),
    "rows alone": Parallel(devices=1),
}
EXAMPLES = 27
"""With batches of 8 the last has 3 examples, which neither 2 nor 4 devices divide among them."""


@dataclasses.dataclass(frozen=True)
class Rows(Metric):
    """Every row as it is, and how many there are."""

    asks = ("logits",)
    reads = ("labels", "index")
    figures = ("count",)

    def update(self, outputs, batch):
        return {"logits": outputs["logits"], "labels": batch["labels"], "index": batch["index"]}

    def compute(self, state):
        return {"count": float(len(state["index"]))}


@dataclasses.dataclass(frozen=True)
class Seen(Metric):
    """A sum over examples, of the shape of the classes."""

    summed = True
    reads = ("labels",)
    figures = ("seen",)

    def update(self, outputs, batch):
        return {"counts": jnp.bincount(batch["labels"], length=10)}

    def compute(self, state):
        return {"seen": float(state["counts"].sum())}


def experiment(parallel: Parallel, batch_size: int = 8):
    metrics = (Accuracy(), F1("macro"), Rows(), Seen())
    return dataclasses.replace(
        small(),
        folder="",
        parallel=parallel,
        batch_size=batch_size,
        evaluation_examples=EXAMPLES,
        evaluations=(Evaluation(metrics=metrics),),
    )


def run(layout: str) -> dict[str, np.ndarray]:
    assembly = assemble(experiment(LAYOUTS[layout], 1 if layout == "rows alone" else 8))
    (asked,) = evaluators(assembly, lambda message: None)
    state = assembly.initial_state()
    _, _, _, rows, seen = asked.states(state.variables)
    figures = {name: np.float64(value) for name, value in asked(state).items()}
    return {**figures, **rows, **seen}


def main(file: str, layout: str, *place: str) -> None:
    if place:
        address, count, number = place
        jax.distributed.initialize(address, int(count), int(number))
    found = run(layout)
    if jax.process_index() == 0:
        np.savez(file, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
