"""Whole runs of several processes: the same numbers, one killed, one asked to stop, going on with another number of them."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.experiments.training_runs.test_runs import command, lacuna, undisturbed  # noqa: F401 - a fixture
from tests.training.test_supervisor import child_of, free_port
from training.metrics import read_metrics

pytestmark = pytest.mark.slow


def start(arguments: list[str] | list[list[str]], count: int, variables: dict[str, str]) -> list:
    """A run of `count` processes with two devices each, the same arguments for all or each its own."""
    each = arguments if isinstance(arguments[0], list) else [arguments] * count
    port = free_port()
    variables = {**variables, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    return [
        subprocess.Popen(
            [*each[number], "--coordinator", f"127.0.0.1:{port}", "--processes", str(count), "--process", str(number)],
            env=variables,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]


def end(processes: list) -> tuple[list[int], list[str]]:
    said = [process.communicate(timeout=400)[1] for process in processes]
    return [process.returncode for process in processes], said


def until_step(folder: Path, step: int) -> None:
    log, deadline = folder / "metrics.jsonl", time.monotonic() + 240
    while not (log.exists() and f'{{"step": {step},' in log.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def close_to(one: Path, other: Path) -> None:
    """The same examples; metrics and parameters equal up to rounding."""
    ours, theirs = (read_metrics(folder / "metrics.jsonl") for folder in (one, other))
    assert [line.get("digest") for line in ours] == [line.get("digest") for line in theirs]
    for a, b in zip(ours, theirs, strict=True):
        assert a.pop("split") == b.pop("split")
        a.pop("time", None), b.pop("time", None)
        assert a == pytest.approx(b, rel=1e-5)
    a, b = (load_file(folder / "model/model.safetensors") for folder in (one, other))
    apart = np.linalg.norm([np.linalg.norm(a[name].astype(np.float64) - b[name]) for name in a])
    assert apart < 1e-6 * np.linalg.norm([np.linalg.norm(x.astype(np.float64)) for x in a.values()])


def test_a_killed_process_ends_the_job_and_another_number_goes_on(texts, environment, undisturbed, tmp_path):  # noqa: F811
    run = command(texts, tmp_path)
    processes = start(run, 2, environment)
    until_step(tmp_path, 12)
    begin = time.monotonic()
    os.kill(child_of(processes[1]), signal.SIGKILL)
    codes, said = end(processes)
    assert time.monotonic() - begin < 60
    assert codes == [1, 1] and all("process 1 of 2" in text and "SIGKILL; the job stops" in text for text in said)
    four = {**environment, "XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    alone = lacuna([*run, "--parallel.kind", "jit", "--parallel.fsdp", "4"], four)
    assert alone.returncode == 0 and "going on after step" in alone.stderr, alone.stderr
    close_to(undisturbed, tmp_path)
    assert json.loads((tmp_path / "result.json").read_text())["held_out"]


def test_asked_to_stop_all_save_the_same_step(texts, environment, undisturbed, tmp_path):  # noqa: F811
    run = command(texts, tmp_path)
    processes = start(run, 2, environment)
    until_step(tmp_path, 4)
    processes[1].send_signal(signal.SIGTERM)
    codes, said = end(processes)
    assert codes == [143, 143]
    stops = [text[text.index("stopped by SIGTERM after step") :] for text in said]
    assert stops[0] == stops[1]
    alone = lacuna(run, environment)
    assert alone.returncode == 0 and "going on after step" in alone.stderr, alone.stderr
    close_to(undisturbed, tmp_path)


def test_processes_with_other_settings_are_refused(texts, environment, tmp_path):
    run = [command(texts, tmp_path, "--seed", seed) for seed in ("1", "2")]
    codes, said = end(start(run, 2, environment))
    assert 2 in codes and any("process 1 does not have the same experiment as process 0" in text for text in said), said
    assert not (tmp_path / "metrics.jsonl").exists()


def test_doctor_finds_this_host_fit(environment, tmp_path):
    arguments = [sys.executable, "-m", "experiments.cli", "doctor", "--runs", str(tmp_path), "--megabytes", "8"]
    found = lacuna(arguments, environment)
    assert found.returncode == 0, found.stderr
    for name in ("versions", "devices", "host memory", "float32 products", "checkpoint folder", "clock", "ports"):
        assert re.search(rf"^│ .? *│ {name} ", found.stdout, re.MULTILINE), found.stdout
    (tmp_path / "file").write_text("")
    found = lacuna([*arguments[:-3], str(tmp_path / "file"), *arguments[-2:]], environment)
    assert found.returncode == 1 and "not fit to train: checkpoint folder" in found.stderr
    assert "Traceback" not in found.stderr


def test_doctor_of_several_processes_names_the_one_with_other_data(texts, environment, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for path in sorted(texts.iterdir())[1:]:
        (other / path.name).write_bytes(path.read_bytes())
    run = [[*command(source, tmp_path / "run", verb="doctor"), "--megabytes", "8"] for source in (texts, other)]
    codes, said = end(start([[*arguments, "--runs", str(tmp_path)] for arguments in run], 2, environment))
    assert "not fit to train: same data (process all)" in said[0] and codes[0] == 1, said
