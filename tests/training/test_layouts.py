"""Any layout gives the same training: 20 steps of BERT, dropout on, over up to 8 devices and 4 processes.

`make test` compares one layout of each kind; `make equality` all, and writes the table that this measures to docs/equality.md.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import OPTIMIZED
from tests.training import totals
from tests.training.layouts import BATCH, LAYOUTS, LEARNING_RATE, SHARDS, STEPS

ROOT = Path(__file__).parents[2]
TABLE = os.environ.get("LACUNA_TABLE")
ALONE = "1 device"
SOME = [
    ALONE,
    "pmap × 8",
    "jit, data 2 × fsdp 2 × tensor 2",
    "1 device, 4 micro-batches",
    "1 device, scan, remat dots",
    "2 processes × 4 devices, jit, data 2 × fsdp 2 × tensor 2",
    "4 processes × 2 devices, pmap",
]
NAMES = SOME if TABLE is None else list(LAYOUTS)


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict[str, dict[str, np.ndarray]]:
    folder = tmp_path_factory.mktemp("layouts")
    for processes in (1, 2, 4):
        names = [name for name in NAMES if LAYOUTS[name].processes == processes]
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{found.getsockname()[1]}"
        environment = {
            **os.environ,
            **OPTIMIZED,
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={8 // processes}",
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": str(Path("~/.cache/lacuna/xla-tests").expanduser()),
            "PYTHONPATH": str(ROOT),
        }
        said = [folder / f"{processes} {number}.txt" for number in range(processes)]
        started = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.training.layouts", str(folder), *names]
                + ([address, str(processes), str(number)] if processes > 1 else []),
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=said[number].open("w"),
            )
            for number in range(processes)
        ]
        for process, path in zip(started, said, strict=True):
            assert process.wait(900) == 0, path.read_text()[-3000:]
    found = {name: dict(np.load(folder / f"{name}.npz")) for name in NAMES}
    if TABLE is not None:
        write_table(found, Path(TABLE))
    return found


def distance(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> tuple[float, float]:
    """‖a - b‖ / ‖a‖ over all parameters together, and the largest of any one array but the keys' biases.

    A key's bias shifts all scores of a query alike: its gradient is 0, and Adam divides one rounding error by another.
    """
    names = sorted(name for name in one if name not in ("digests", "masked") and not name.startswith("totals "))
    assert set(one) == set(other) and names
    apart = {name: float(np.linalg.norm(one[name].astype(np.float64) - other[name])) for name in names}
    sizes = {name: float(np.linalg.norm(one[name].astype(np.float64))) for name in names}
    whole = np.linalg.norm(list(apart.values())) / np.linalg.norm(list(sizes.values()))
    keys = [name for name in names if "key" in name and "bias" in name]
    assert len(keys) == 1, "one array for all layers"
    return float(whole), max(apart[name] / sizes[name] for name in names if name not in keys and sizes[name])


@pytest.mark.parametrize("name", NAMES)
def test_any_layout_is_the_same_training(results, name):
    np.testing.assert_array_equal(results[name]["digests"], results[ALONE]["digests"])
    whole, worst = distance(results[ALONE], results[name])
    assert whole < 1e-6 and worst < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_losses_that_are_no_ratio_have_the_gradient_of_the_whole_batch(results, name):
    gradient, losses = totals.whole_batch()
    found = results[name]
    apart = np.linalg.norm(found["totals gradient"] - gradient)
    assert apart < 1e-6 * np.linalg.norm(gradient)
    assert {key: float(found[f"totals {key}"]) for key in losses} == pytest.approx(losses, rel=1e-6, abs=1e-6)


def test_every_shard_has_another_number_of_masked_tokens(results):
    for counts in results[ALONE]["masked"]:
        assert len(set(counts.tolist())) == SHARDS, counts


def test_it_was_training(results):
    assert len(set(results[ALONE]["digests"].tolist())) == STEPS


def write_table(results: dict[str, dict[str, np.ndarray]], path: Path) -> None:
    from training.hardware import machine

    masked = results[ALONE]["masked"]
    lines = [
        "# Any layout is the same training",
        "",
        f"{STEPS} steps of BERT (2 layers × 128, dropout 0.1, AdamW at {LEARNING_RATE:g}, float32), {BATCH} examples a step;"
        f" no two eighths of a batch have the same number of masked tokens ({masked.min()} to {masked.max()}). Distances are"
        " from 1 device:"
        " ‖a - b‖ / ‖a‖ of all parameters together, and the largest of any one array but the keys' biases (a key's bias"
        " shifts all scores of a query alike: its gradient is 0, and Adam divides one rounding error by another)."
        " Dropout is on in every pair: its bits are a function of the example alone. The last row is the yardstick: one"
        " device again, every initial parameter moved by about one rounding (2⁻²⁴, relative); a layout that adds the same"
        " numbers in another order is no further away than that. `make equality` measures it anew.",
        "",
        "| layout | parameters after 20 steps | the worst array | examples seen |",
        "|---|--:|--:|---|",
    ]
    for name, found in results.items():
        whole, worst = distance(results[ALONE], found)
        same = "the same" if (found["digests"] == results[ALONE]["digests"]).all() else "DIFFERENT"
        lines.append(f"| {name} | {whole:.1e} | {worst:.1e} | {same} |")
    lines += ["", "Measured on: " + ", ".join(f"{key} {value}" for key, value in machine().items() if key != "devices")]
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
