"""The owner of a run's folder: one process at a time, named to the others, and none that is dead."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from training import owner
from training.owner import LOCK, Owner
from training.parallel import TrainingError

HOLD = """
import pathlib, sys, time
from training.owner import Owner
with Owner(pathlib.Path(sys.argv[1])):
    print("mine", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def other(tmp_path, monkeypatch):
    """Another process that holds the folder."""
    monkeypatch.setattr(owner, "PATIENCE", 0.2)
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "mine\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_process_is_refused_by_the_name_of_the_first_and_a_dead_one_does_not_block(
    tmp_path, other, monkeypatch
):
    with pytest.raises(TrainingError) as refused, Owner(tmp_path):
        pass
    date = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
    assert re.search(rf"\(process {other.pid} on {re.escape(socket.gethostname())}, since {date}", str(refused.value))
    assert json.loads((tmp_path / LOCK).read_text())["pid"] == other.pid
    os.kill(other.pid, signal.SIGKILL)
    monkeypatch.setattr(owner, "PATIENCE", 30.0)
    with Owner(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()


def test_it_is_free_again_at_the_end_and_a_child_does_not_keep_it(tmp_path, monkeypatch):
    monkeypatch.setattr(owner, "PATIENCE", 0.2)
    child = 0
    try:
        with Owner(tmp_path):
            child = os.fork()
            if child == 0:
                signal.pause()
            with pytest.raises(TrainingError, match="another process is training"), Owner(tmp_path):
                pass
        with Owner(tmp_path):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_file_system_without_locks_is_warned_of(tmp_path, monkeypatch, caplog):
    def no_locks(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(owner.fcntl, "flock", no_locks)
    with Owner(tmp_path):
        assert "without locks" in caplog.text


def test_a_folder_that_cannot_be_made_is_left_to_who_writes_there():
    with Owner(Path("/proc/none/run")):
        pass
