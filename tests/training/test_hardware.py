"""What a processor can do at most: measured, and shown only where nothing else ran meanwhile."""

import subprocess
import sys

import pytest

from training import hardware
from training.hardware import CPU_SIZE, Waits, peak_flops, quiet


@pytest.mark.parametrize(
    ("seconds", "waited", "whether"),
    [
        ([0.30, 0.20, 0.202, 0.25], 0.0, True),
        ([0.30, 0.20, 0.22, 0.25], 0.0, False),  # the two fastest differ
        ([0.20, 0.20, 0.20], 0.3, False),  # alike, and threads waited for a core
    ],
)
def test_a_quiet_machine_is_one_where_nothing_else_ran(seconds, waited, whether):
    assert quiet(seconds, waited) == whether


def test_the_peak_is_of_the_fastest_product_or_is_not_known(monkeypatch):
    monkeypatch.setattr(hardware, "product_seconds", lambda dtype: [0.5, 0.25, 0.25])
    monkeypatch.setattr(Waits, "fraction", lambda self: 0.0)
    peak, how = peak_flops("float32")
    assert peak == 2 * CPU_SIZE**3 / 0.25 and "best of 3" in how
    monkeypatch.setattr(Waits, "fraction", lambda self: 0.5)
    peak, how = peak_flops("float32")
    assert peak == 0.0 and "kept the processor busy" in how


def test_threads_that_wait_for_a_core_are_noticed():
    """This process and another one on the same core."""
    program = """
import os, subprocess, sys, time
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from training.hardware import Waits
other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
time.sleep(0.5)
waits, end = Waits(), time.perf_counter() + 0.5
while time.perf_counter() < end:
    pass
other.kill()
print(waits.fraction() if sum(waits._counted()) else 1.0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert float(done.stdout) > 0.2, done.stderr
