"""Where the numbers of a run go: what is cut off when it goes on, what a full disk says, what the time is spent on."""

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest
from tensorboardX import proto

from training.hardware import peak_memory
from training.metrics import MetricsLog, Speed, read_metrics
from training.parallel import TrainingError
from training.profile import Profile
from training.weights_and_biases import WeightsAndBiases


def scalars(folder) -> dict[int, dict[str, float]]:
    """What TensorBoard shows of the event files of a folder: {step: {name: value}}, what was purged left out."""
    shown: dict[int, dict[str, float]] = {}
    for path in sorted(folder.glob("events*"), key=lambda path: path.stat().st_mtime_ns):
        content, place = path.read_bytes(), 0
        while place < len(content):  # TFRecord: length (8), its checksum (4), data, checksum (4)
            length = int.from_bytes(content[place : place + 8], "little")
            event = proto.event_pb2.Event.FromString(content[place + 12 : place + 12 + length])
            place += 16 + length
            if event.session_log.status == proto.event_pb2.SessionLog.START:
                shown = {step: values for step, values in shown.items() if step < event.step}
            for value in event.summary.value:
                shown.setdefault(event.step, {})[value.tag] = value.simple_value
    return shown


def test_what_comes_after_the_step_is_cut_off_everywhere(tmp_path):
    log = MetricsLog(tmp_path)
    for step in (1, 2, 3):
        log.write(step, "train", {"loss": float(step)}, {"step_seconds": 0.5})
    log.close()
    log = MetricsLog(tmp_path, 1)
    log.write(2, "train", {"loss": 20.0}, {"step_seconds": 0.5})
    log.close()
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert lines == [
        {"step": 1, "split": "train", "loss": 1.0, "time": {"step_seconds": 0.5}},
        {"step": 2, "split": "train", "loss": 20.0, "time": {"step_seconds": 0.5}},
    ]
    assert {step: values["train/loss"] for step, values in scalars(tmp_path / "tensorboard").items()} == {1: 1, 2: 20}


def test_a_damaged_line_is_reported_once_and_those_behind_it_are_kept(tmp_path, caplog):
    log = MetricsLog(tmp_path)
    for step in range(1, 8):
        log.write(step, "train", {"loss": float(step)})
    log.close()
    path = tmp_path / "metrics.jsonl"
    lines = path.read_bytes().split(b"\n")
    lines[1] = lines[1][:9]
    lines[3] = b"\xff\x00" + lines[3]
    lines[4] = b"[5]"
    path.write_bytes(b"\n".join(lines) + b'{"step": 8, "spl')  # and a crash cut the last one off
    assert [line["step"] for line in read_metrics(path)] == [1, 3, 6, 7]
    assert "metrics.jsonl: line 2, 4, 5 is damaged" in caplog.text
    caplog.clear()
    log = MetricsLog(tmp_path, 6)
    log.write(7, "train", {"loss": 70.0})
    log.close()
    assert caplog.text.count("is damaged") == 1
    caplog.clear()
    assert [(line["step"], line["loss"]) for line in read_metrics(path)] == [(1, 1), (3, 3), (6, 6), (7, 70)]
    assert not caplog.text


def test_tensorboard_shows_a_run_that_began_again_from_nothing_once(tmp_path, monkeypatch):
    """Killed before its first checkpoint, it begins with step 1 again, and was not as far the second time."""
    for last in (3, 1):
        monkeypatch.setattr("training.metrics.os.getpid", lambda last=last: 100 - last)
        log = MetricsLog(tmp_path)
        for step in range(1, last + 1):
            log.write(step, "train", {"loss": 10.0 * last + step})
        log.close()
    assert scalars(tmp_path / "tensorboard") == {1: {"train/loss": 11.0}}


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match=r"cannot write the metrics in .*file"):
        MetricsLog(tmp_path / "file")


def test_the_wait_for_input_is_a_share_of_the_step(monkeypatch):
    seconds = 100.0

    def later(by: float) -> None:
        nonlocal seconds
        seconds += by

    def slow():
        for _ in range(2):
            later(3.0)
            yield None

    monkeypatch.setattr("training.metrics.time.perf_counter", lambda: seconds)
    speed = Speed(items=1, flops=1.0, peak=0.0)
    shares = []
    for _ in speed.feed(slow()):
        later(1.0)
        shares.append(speed.tick()["input_wait"])
    assert shares == [0.75, 0.75]
    later(1.0)
    assert speed.tick() == {"step_seconds": 1.0, "input_wait": 0.0, "tokens_per_second": 1.0}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc here to hold it against")
def test_memory_is_named_for_what_it_is():
    if jax.devices()[0].platform != "cpu":
        assert list(peak_memory()) == ["device_peak_bytes"]
        return
    high_water = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert peak_memory() == {"process_peak_bytes": pytest.approx(1024 * int(high_water[1]), rel=0.02)}


@pytest.mark.parametrize("text", ["10:13", "steps=0:3", "steps=13:10", "steps=5:5", "steps=10:23", "steps=a:b"])
def test_steps_that_cannot_be_profiled_are_refused(tmp_path, text):
    with pytest.raises(TrainingError, match=r"expected steps=FIRST:END with 1 <= FIRST < END <= 21"):
        Profile.parse(text, tmp_path, steps=20)


@pytest.mark.skipif(importlib.util.find_spec("wandb") is not None, reason="Weights & Biases is installed")
def test_weights_and_biases_that_is_not_there_is_a_sentence(tmp_path):
    with pytest.raises(TrainingError, match=r"not installed: pip install 'lacuna-jax\[wandb\]'"):
        WeightsAndBiases("project", tmp_path, "run", {})


def records(path: Path) -> Iterator[bytes]:
    """The records of a `.wandb` file, a LevelDB log: blocks of 32 KiB of pieces (checksum 4, length 2, kind 1, data)."""
    content, place, record = path.read_bytes(), 7, b""
    while place + 7 <= len(content):
        left = -place % 2**15
        if 0 < left < 7:
            place += left
            continue
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        record += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or its last piece
            yield record
            record = b""


def test_weights_and_biases_goes_on_under_the_same_id(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.setenv("WANDB_MODE", "offline")
    for going_on_after in (0, 2):
        writer = WeightsAndBiases("project", tmp_path, "run", {"seed": 0}, going_on_after)
        log = MetricsLog(tmp_path, going_on_after, [writer])
        for step in (1, 2, 3):
            log.write(going_on_after + step, "train", {"loss": going_on_after + step}, {"step_seconds": 0.5})
        log.close()
    sent, identities = [], set()
    for path in sorted(tmp_path.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime_ns):
        sent.append({})
        for record in map(Record.FromString, records(path)):
            if record.HasField("run"):
                identities.add(record.run.run_id)
            if record.HasField("history"):
                row = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
                sent[-1][int(row["_step"])] = int(row["train/loss"])
    assert sent == [{1: 1, 2: 2, 3: 3}, {1: 1, 2: 2, 3: 3, 4: 4, 5: 5}]
    assert identities == {(tmp_path / "wandb" / "id").read_text()}
