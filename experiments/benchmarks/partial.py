"""The step that trains a part of a model beside the step that trains all of it, in turn, on this processor.

    python -m experiments.benchmarks.partial [--model NAME] [--trainable PATTERN] [--rounds N]

BERT of 4 layers × 512 as in docs/speed.md, in float32. The last line is JSON: the median seconds of both steps and their ratio.
"""

import argparse
import statistics
import time

from experiments.benchmarks.pages import summary
from experiments.benchmarks.steps_worker import ours
from experiments.benchmarks.works import TEXTS, TINY

HEAD = "^(?!bert/)"
"""What stands behind the last hidden states and the pooler, but for the tied embeddings."""


def main() -> None:
    works = TEXTS | TINY
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="bert", choices=list(works))
    parser.add_argument("--trainable", default=HEAD)
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    runs = {
        name: ours(works[arguments.model], "pmap", "float32", of)
        for name, of in {"all": "", "part": arguments.trainable}.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(2 + arguments.rounds):
        for name, (step, wait) in runs.items():
            begin = time.perf_counter()
            step()
            wait()
            if number >= 2:  # compiled, and its memory touched
                seconds[name].append(time.perf_counter() - begin)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    summary(
        "partial",
        model=arguments.model,
        trainable=arguments.trainable,
        **medians,
        ratio=medians["part"] / medians["all"],
    )


if __name__ == "__main__":
    main()
