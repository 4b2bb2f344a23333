"""Ctrl-C: one sentence and exit code 130 at once, whatever the main thread is doing."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STUCK = "hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)"
"""An hour in a function that is not Python's and hears of no signal, as a compiler is."""
HEAD = "import hashlib, signal, sys, time\nfrom training.interrupts import Interrupts, answer_with\n"
READY = "print('ready', flush=True)"

PROGRAMS = {
    "while it imports": f"with Interrupts():\n    {READY}\n    {STUCK}",
    "while it imports, in Python": f"with Interrupts():\n    {READY}\n    while True: pass",
    "while it compiles": f"with Interrupts() as it:\n    it.importing = False\n    {READY}\n    {STUCK}",
    "in a command": "from experiments import cli\n"
    f"cli.prepare_process = lambda **options: ({READY}, {STUCK})\ncli.main(['bench', 'x.py'])",
    "of which a child is busy": "import multiprocessing\nwith Interrupts() as it:\n    it.importing = False\n"
    "    context = multiprocessing.get_context('fork')\n    receiver, sender = context.Pipe(duplex=False)\n"
    f"    context.Process(target=lambda: {STUCK}).start()\n    {READY}\n"
    "    try:\n        receiver.recv()\n    except KeyboardInterrupt:\n        it.say()",
}


def start(program: str) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", HEAD + program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    time.sleep(0.2)
    return process


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_it_is_heard_at_once(program):
    process = start(program)
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert said == "lacuna: interrupted\n" and process.returncode == 130
    assert time.monotonic() - begin < 15


def test_the_main_thread_leaves_in_good_order_where_it_can():
    program = f"""
with Interrupts() as it:
    it.importing = False
    try:
        {READY}
        time.sleep(30)
    except KeyboardInterrupt:
        it.say()
        raise SystemExit(130)
    finally:
        print("tidied up")
"""
    process = start(program)
    process.send_signal(signal.SIGINT)
    out, said = process.communicate(timeout=30)
    assert (out, said, process.returncode) == ("tidied up\n", "lacuna: interrupted\n", 130)


def test_who_has_something_to_save_answers_the_first_and_not_the_second():
    program = f"""
with Interrupts() as it:
    it.importing = False
    signal.signal(signal.SIGINT, lambda *_: print("heard", flush=True))
    answer_with("saving first")
    {READY}
    signal.pause()
    {STUCK}
"""
    process = start(program)
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None and process.stdout.readline() == "heard\n"
    time.sleep(1.5)
    assert process.poll() is None, "it was ended, and something was to be saved"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert said == "\nlacuna: saving first\nlacuna: interrupted\n" and process.returncode == 130
