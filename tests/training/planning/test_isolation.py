"""Work in a process of its own: its result, its errors, its death."""

import faulthandler
import os
import signal

import pytest

from training.parallel import TrainingError
from training.planning.isolation import CompilerCrash, isolated


def fail():
    raise TrainingError("one sentence")


def die(how: int):
    faulthandler.disable()
    os.kill(os.getpid(), how)


def test_results_and_errors_come_back():
    parent = os.getpid()
    assert isolated(lambda a, b: (a + b, os.getpid() != parent), 1, 2) == (3, True)
    with pytest.raises(TrainingError, match="one sentence"):
        isolated(fail)
    with pytest.raises(RuntimeError, match="KeyError: 5"):
        isolated(lambda: {}[5])


@pytest.mark.parametrize("how", [signal.SIGSEGV, signal.SIGKILL])
def test_a_crash_is_one_sentence(how):
    with pytest.raises(CompilerCrash, match=rf"the compiler crashed \({how.name}\)"):
        isolated(die, how)
    with pytest.raises(CompilerCrash, match=r"exit code 3"):
        isolated(os._exit, 3)
