"""What a run says when its disk is full or may not be written, or a reader dies: one sentence, what was there kept."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from experiments.campaigns.lives import children
from tests.experiments.training_runs.test_runs import command, lacuna
from training.checkpoints import Checkpoints

pytestmark = pytest.mark.slow


@pytest.fixture
def disk(tmp_path) -> Path:
    """A file system of its own, of 700 KiB: enough for one checkpoint of the small experiment, not for two."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=700k", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("file systems cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_keeps_what_was_there_and_more_room_lets_it_go_on(texts, environment, disk):
    found = lacuna(command(texts, disk / "run"), environment)
    assert found.returncode == 2 and "Traceback" not in found.stderr
    assert re.search(r"step 10 could not be written .* No space left: .* step 5 is whole", found.stderr), found.stderr
    assert Checkpoints(disk / "run/checkpoints").damage(5) is None
    subprocess.run(["mount", "-o", "remount,size=8m", disk], check=True)
    resumed = lacuna(command(texts, disk / "run"), environment)
    assert resumed.returncode == 0 and "going on after step 5" in resumed.stderr, resumed.stderr
    (disk / "run/result.json").unlink()
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    for folder in ("run", "new"):
        refused = lacuna(command(texts, disk / folder), environment)
        assert refused.returncode == 2 and "Traceback" not in refused.stderr
        assert "Read-only file system" in refused.stderr, refused.stderr
    assert Checkpoints(disk / "run/checkpoints").damage(20) is None


def test_a_reader_that_is_killed_ends_the_run(texts, environment, tmp_path):
    forever = ["--data.workers", "1", "--steps", "1000000", "--evaluate-every", "1000000", "--log-every", "10"]
    process = subprocess.Popen(
        command(texts, tmp_path, *forever),
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 240
        while not ((tmp_path / "metrics.jsonl").exists() and (tmp_path / "metrics.jsonl").stat().st_size):
            assert process.poll() is None and time.monotonic() < deadline, "the run has not begun"
            time.sleep(0.05)
        (reader,) = [pid for pid in children(process.pid) if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        os.kill(reader, signal.SIGKILL)
        said = process.communicate(timeout=120)[1]
    finally:
        process.kill()
    assert process.returncode == 2 and "Traceback" not in said
    assert "a worker that reads data died with exit code -9" in said
