"""Whole runs through the command line: killed and resumed, stopped, finished, refused."""

import gzip
import json
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from experiments.campaigns.equality import differences, end_differences, final_state
from tests.conftest import OPTIMIZED
from training.metrics import read_metrics

pytestmark = pytest.mark.slow

SMALL = str(Path(__file__).parents[1] / "small.py")


def python_m(verb: str) -> list[str]:
    """`lacuna VERB`, by the interpreter that runs the tests."""
    return [sys.executable, "-m", "experiments.cli", verb]


def command(texts: Path, folder: Path, *arguments: str, verb: str = "train") -> list[str]:
    fields = ["--folder", str(folder), "--data.source", str(texts)]
    return [*python_m(verb), SMALL, *fields, *arguments]


def lacuna(arguments: list[str], environment: dict[str, str], **options) -> subprocess.CompletedProcess:
    options = {"timeout": 300, **options}
    return subprocess.run(arguments, env=environment, capture_output=True, text=True, **options)


@pytest.fixture(scope="session")
def undisturbed(texts, environment, tmp_path_factory) -> Path:
    """A run from begin to end; the trace changes no number, as every comparison with this run shows."""
    folder = tmp_path_factory.mktemp("undisturbed")
    done = lacuna(command(texts, folder, "--profile", "steps=10:13"), environment)
    assert done.returncode == 0, done.stderr
    return folder


def start_and_signal(arguments, environment, folder: Path, step: int, number: int) -> subprocess.Popen:
    """Start a run and send it a signal when it has written that step."""
    process = subprocess.Popen(arguments, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    log, deadline = folder / "metrics.jsonl", time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        if log.exists() and any(f'{{"step": {step},' in line for line in log.read_text().splitlines()):
            break
        time.sleep(0.005)
    process.send_signal(number)
    process.wait(60)
    return process


def test_killed_twice_it_is_the_same_run(environment):
    """`make crashes` kills more often; a death is at the start, between two steps, while a checkpoint is written, or behind
    the last step."""
    campaign = [sys.executable, "-m", "experiments.campaigns.crashes", "--kills", "2", "--after-last-step", "2"]
    found = lacuna(campaign, {**environment, **OPTIMIZED}, timeout=900)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "are equal to the bit" in found.stdout
    assert len(re.findall(r"\| all \|.*\| 2 \|", found.stdout)) == 2


def test_of_two_runs_into_one_folder_the_first_is_whole_and_the_second_refused(
    texts, environment, undisturbed, tmp_path
):
    run = command(texts, tmp_path)
    options = dict(env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    processes = [subprocess.Popen(run, **options) for _ in range(2)]
    said = [process.communicate(timeout=300)[1] for process in processes]
    assert sorted(process.returncode for process in processes) == [0, 2], said
    first, second = sorted(range(2), key=lambda number: processes[number].returncode)
    named = (
        f"another process is training in {tmp_path} (process {processes[first].pid} on {socket.gethostname()}, since"
    )
    assert named in said[second] and "Traceback" not in said[second]
    assert differences(undisturbed, tmp_path) == end_differences(undisturbed, tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_saves_and_leaves(texts, environment, undisturbed, tmp_path, number):
    process = start_and_signal(command(texts, tmp_path), environment, tmp_path, 7, number)
    said = process.stderr.read()
    assert process.returncode == 128 + number
    assert "Traceback" not in said and f"stopped by {signal.Signals(number).name} after step" in said
    resumed = lacuna(command(texts, tmp_path), environment)
    assert resumed.returncode == 0 and "going on after step" in resumed.stderr
    assert differences(undisturbed, tmp_path) == []


def test_another_way_to_spread_goes_on_from_the_checkpoint(texts, environment, undisturbed, tmp_path):
    process = start_and_signal(command(texts, tmp_path), environment, tmp_path, 10, signal.SIGTERM)
    assert process.returncode == 128 + signal.SIGTERM
    four = {**environment, "XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    resumed = lacuna(command(texts, tmp_path, "--parallel.kind", "jit", "--parallel.micro-batches", "2"), four)
    assert resumed.returncode == 0, resumed.stderr
    digests = [
        [line.get("digest") for line in read_metrics(folder / "metrics.jsonl")] for folder in (undisturbed, tmp_path)
    ]
    assert digests[0] == digests[1]
    a, b = (np.concatenate([np.ravel(x) for x in final_state(f).values()]) for f in (undisturbed, tmp_path))
    a, b = a.astype(np.float64), b.astype(np.float64)
    assert np.linalg.norm(a - b) < 1e-6 * np.linalg.norm(a)


def test_a_finished_run_says_so_and_its_folder_is_complete(texts, environment, undisturbed):
    again = lacuna(command(texts, undisturbed), environment)
    assert again.returncode == 0 and "is done" in again.stderr
    for verb in ("evaluate", "explain", "bench"):  # with the flags of the run
        assert f"  lacuna {verb} {SMALL} --folder {undisturbed} --data.source {texts}\n" in again.stdout
    for name in (
        "report.html",
        "result.json",
        "metrics.jsonl",
        "tokenizer.json",
        "model/model.safetensors",
        "model/config.json",
    ):
        assert (undisturbed / name).stat().st_size > 0
    assert list((undisturbed / "tensorboard").glob("events*"))
    result = json.loads((undisturbed / "result.json").read_text())
    assert {"masked_lm_loss", "next_sentence_loss"} == set(result["baselines"]) == set(result["training_baselines"])
    assert result["units"] == dict.fromkeys(("masked_lm_loss", "next_sentence_loss", "loss"), "nats")
    page = (undisturbed / "report.html").read_text()
    assert "<svg" in page
    for name, base in result["training_baselines"].items():
        assert f"{name.replace('_', ' ')} (nats)" in page and f"baseline of training {base['loss']:.3f}" in page
    assert not re.search(r"""(src|href)=["']?(http|//)|url\(["']?http|@import""", page), "the page needs a network"


def test_the_trace_holds_the_steps_that_were_asked_for(undisturbed):
    (trace,) = (undisturbed / "profile" / "plugins" / "profile").iterdir()
    assert list(trace.glob("*.xplane.pb")), "TensorBoard reads this one"
    with gzip.open(trace / "perfetto_trace.json.gz") as file:
        events = json.load(file)["traceEvents"]
    assert [event["args"]["step_num"] for event in events if event.get("name") == "train"] == ["10", "11", "12"]
    assert any(event.get("name", "").startswith("dot") for event in events), "what the device computed"


def test_the_time_of_a_run_is_accounted_for(undisturbed):
    times = [line["time"] for line in read_metrics(undisturbed / "metrics.jsonl") if "time" in line]
    for time_ in times:
        assert 0 <= time_["input_wait"] <= 1 and time_["step_seconds"] > 0
        assert time_["process_peak_bytes"] > 2**27
    assert "tokens_per_second" in times[-1]
    result = json.loads((undisturbed / "result.json").read_text())
    assert ("mfu" in times[-1]) == (result["peak_flops"] > 0), "shown where the peak was measured on a quiet machine"
    assert "the host waited for input" in (undisturbed / "report.html").read_text()


def test_evaluate_predict_explain_and_export(texts, environment, undisturbed, tmp_path):
    found = lacuna(command(texts, undisturbed, verb="evaluate"), environment)
    assert found.returncode == 0, found.stderr
    result = json.loads((undisturbed / "result.json").read_text())
    assert json.loads(found.stdout)["held_out"] == pytest.approx(result["held_out"])
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for number in range(12):
        (elsewhere / f"{number}.txt").write_text(
            f"What text {number} says was not there before. It is other text. " * 9
        )
    found = lacuna(command(texts, undisturbed, "--on", str(elsewhere), verb="evaluate"), environment)
    assert found.returncode == 0 and "training a" not in found.stderr, found.stderr
    assert json.loads(found.stdout)["held_out"]["masked_lm_loss"] != pytest.approx(result["held_out"]["masked_lm_loss"])
    asked = [
        sys.executable,
        "-m",
        "experiments.cli",
        "predict",
        "fill-mask",
        "the [MASK] is",
        "--model",
        str(undisturbed / "model"),
    ]
    answer = lacuna(asked, environment)
    assert answer.returncode == 0, answer.stderr
    assert len(json.loads(answer.stdout)) == 5
    explained = lacuna(command(texts, undisturbed, "--example", "3", verb="explain"), environment)
    assert explained.returncode == 0 and "what the model sees and is asked" in explained.stdout, explained.stderr
    arguments = command(texts, undisturbed, "--checkpoint", "last", verb="export")
    arguments.insert(5, str(tmp_path / "exported"))
    exported = lacuna(arguments, environment)
    assert exported.returncode == 0, exported.stderr
    same = (tmp_path / "exported/model.safetensors").read_bytes() == (
        undisturbed / "model/model.safetensors"
    ).read_bytes()
    assert same


BAD = {
    "a field that is not there": (["--modle.hidden-size", "8"], "model.hidden-size"),
    "a folder that is not there": (["--data.source", "/no/such/folder"], "/no/such/folder"),
    "a batch that does not divide": (["--parallel.micro-batches", "3"], "multiple of 3"),
    "a tokenizer that does not fit": (["--model.vocab-size", "600", "--data.tokenizer", "TOKENIZER"], "vocab_size"),
    "another experiment's checkpoint": (["--seed", "5", "--folder", "UNDISTURBED"], "another experiment"),
    "a model that is too short": (["--model.max-position-embeddings", "24"], "has positions for: 24"),
    "an architecture without the head": (["--architecture", "BertModel"], "BertModel does not take"),
    "an architecture with another shape": (["--architecture", "BertForSequenceClassification"], "cannot be computed"),
    "an unknown architecture": (["--architecture", "BertForMaskedML"], "did you mean 'BertForMaskedLM'"),
    "a share out of range": (["--objective.parts.0.rate", "1.5"], "rate=1.5"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence(texts, environment, undisturbed, tmp_path, case):
    arguments, sentence = BAD[case]
    (tmp_path / "vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(str, range(700))])
    )
    names = {"UNDISTURBED": str(undisturbed), "TOKENIZER": str(tmp_path / "vocab.txt")}
    arguments = [names.get(argument, argument) for argument in arguments]
    found = lacuna(command(texts, tmp_path / "run", *arguments), environment)
    said = found.stdout + found.stderr
    assert found.returncode != 0
    assert "Traceback" not in said and sentence in said, said


def test_nan_stops_the_run_and_keeps_the_last_good_checkpoint(texts, environment, tmp_path):
    found = lacuna(command(texts, tmp_path, "--optimizer.learning-rate", "1e30"), environment)
    assert found.returncode == 2 and "Traceback" not in found.stderr
    assert "at step" in found.stderr and "lower the learning rate" in found.stderr
