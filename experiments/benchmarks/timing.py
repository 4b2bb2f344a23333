"""How long functions of this process take, in turn."""

import statistics
import time
from collections.abc import Callable, Mapping


def alternately(
    contestants: Mapping[str, Callable[[], object]], rounds: int, counts: Mapping[str, int] | None = None
) -> dict[str, float]:
    """Median seconds of each, once before for what is compiled.

    Args:
        counts: how often each is called in a round; once where it is not named.
    """
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, run in contestants.items():
            count = (counts or {}).get(name, 1)
            begin = time.perf_counter()
            for _ in range(count):
                run()
            times[name] += [(time.perf_counter() - begin) / count] if number else []
    return {name: statistics.median(taken) for name, taken in times.items()}
