"""Supervisors of several processes: they meet, agree, and end together. The processes here are small and need no JAX."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SUPERVISED = """
import json, sys
from training import supervisor
from training.parallel import TrainingError
place, facts, silence, command = json.loads(sys.argv[1])
supervisor.SILENCE_SECONDS = silence
try:
    sys.exit(supervisor.supervise(supervisor.Place(**place), [sys.executable, "-c", command], facts))
except TrainingError as error:
    print(error, file=sys.stderr)
    sys.exit(2)
"""
BEATING = """
import contextlib, os, sys, threading, time
def beat():
    with contextlib.suppress(OSError):
        while True:
            os.write(int(os.environ["LACUNA_BEATS"]), b".")
            time.sleep(0.2)
threading.Thread(target=beat, daemon=True).start()
"""
WAIT = BEATING + "time.sleep(60)"


def free_port() -> int:
    """A port that is free, and the one after it too."""
    while True:
        with socket.socket() as one, socket.socket() as next_:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            try:
                next_.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


def job(*commands: str | None, facts=(), processes: int | None = None, wait: float = 20.0, silence: float = 30.0):
    """Start supervisors of these commands as processes 0, 1, …; `None` does not come."""
    port = free_port()
    started = []
    for number, command in enumerate(commands):
        if command is None:
            continue
        place = {
            "coordinator": f"127.0.0.1:{port}",
            "processes": processes or len(commands),
            "process": number,
            "wait": wait,
        }
        fact = dict(facts[number]) if facts else {"jax": "1"}
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", SUPERVISED, json.dumps([place, fact, silence, command])],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stderr=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
    return started


def end(started, seconds: float = 60.0) -> list[tuple[int, str, str]]:
    """Exit code, standard output and standard error of each."""
    ended = []
    for process in started:
        out, said = process.communicate(timeout=seconds)
        assert "Traceback" not in said, said
        ended.append((process.returncode, out, said))
    return ended


def child_of(process: subprocess.Popen) -> int:
    """The pid of the process that a supervisor watches over, once it runs its own command.

    Before that it has the supervisor's memory, and the supervisor waits for it in the kernel (vfork): to stop it then would
    stop both.
    """
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
            command = Path(f"/proc/{child}/cmdline").read_bytes()
            if command and SUPERVISED.encode() not in command:
                return int(child)
        time.sleep(0.05)
    raise AssertionError("no process was started")


def test_all_done_is_done():
    ended = end(job("print('one')", "print('two')", "import time; time.sleep(1); print('three')"))
    assert [(code, out, said) for code, out, said in ended] == [(0, "one\n", ""), (0, "two\n", ""), (0, "three\n", "")]


@pytest.mark.parametrize("victim", [0, 1, 2])
def test_a_killed_process_is_named_by_all(victim):
    started = job(WAIT, WAIT, WAIT)
    time.sleep(0.5)
    os.kill(child_of(started[victim]), signal.SIGKILL)
    for code, _, said in end(started, 15):
        assert code == 1 and f"process {victim} of 3" in said and "was ended by SIGKILL; the job stops" in said


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_supervisor_is_noticed(victim):
    started = job(WAIT, WAIT)
    child = child_of(started[victim])
    started[victim].kill()
    code, _, said = end([started[1 - victim]], 15)[0]
    assert code == 1 and f"process {victim}" in said
    os.kill(child, signal.SIGKILL)  # it would die with a supervisor that had made it join


def test_a_silent_process_is_named():
    started = job(WAIT, WAIT, silence=3.0)
    time.sleep(1.0)
    os.kill(child_of(started[1]), signal.SIGSTOP)
    codes, _, said = zip(*end(started, 20), strict=True)
    assert codes == (1, 1) and "process 1 of 2" in said[0] and "has not answered for 3 s" in said[0]


def test_an_error_of_one_ends_all_with_its_sentence_and_its_name():
    started = job(WAIT, BEATING + "print('lacuna: the disk is full', file=sys.stderr); sys.exit(2)")
    (first, _, said), (second, _, own) = end(started, 15)
    assert (first, second) == (1, 2)
    assert "process 1 of 2" in said and "ended with exit code 2" in said and own == "lacuna: the disk is full\n"


def test_a_stop_in_good_order_gives_the_others_time():
    stop = BEATING + "time.sleep({}); sys.exit(143)"
    started = job(stop.format(0.1), stop.format(3), stop.format(2))
    assert [code for code, _, _ in end(started, 30)] == [143, 143, 143]


def test_signals_reach_the_process():
    started = job(WAIT, BEATING + "import signal; signal.signal(15, lambda *_: sys.exit(143)); time.sleep(60)")
    child_of(started[1])
    time.sleep(1.5)
    started[1].send_signal(signal.SIGTERM)
    started[1].wait(20)
    os.kill(child_of(started[0]), signal.SIGKILL)
    assert [code for code, _, _ in end(started, 20)] == [1, 143]


@pytest.mark.parametrize("present", [(0,), (0, 2)])
def test_who_does_not_come_is_named(present):
    commands = [WAIT if number in present else None for number in range(3)]
    missing = ", ".join(str(number) for number in range(3) if number not in present)
    for code, _, said in end(job(*commands, wait=3.0)):
        assert code == 2 and f"process {missing} of 3 did not come to 127.0.0.1:" in said and "within 3 s" in said


def test_without_the_first_there_is_no_meeting():
    (code, _, said), = end(job(None, WAIT, wait=2.0))  # fmt: skip
    assert code == 2 and "process 0 did not answer at 127.0.0.1:" in said


def test_processes_that_differ_are_refused():
    facts = [{"jax": "0.10.2", "code": "a"}, {"jax": "0.10.1", "code": "a"}]
    for code, _, said in end(job(WAIT, WAIT, facts=facts)):
        assert code == 2 and "process 1 of 2" in said and "jax: 0.10.1 there, 0.10.2 at process 0" in said


def test_a_port_in_use_is_said():
    port = free_port()
    place = {"coordinator": f"127.0.0.1:{port}", "processes": 2, "process": 0, "wait": 2.0}
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", port + 1))
        taken.listen()
        done = subprocess.run(
            [sys.executable, "-c", SUPERVISED, json.dumps([place, {}, 30, WAIT])],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=30,
        )
    assert done.returncode == 2 and f"port {port + 1} of this host" in done.stderr and "Traceback" not in done.stderr
