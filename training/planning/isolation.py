"""Work in a separate process, because the TPU compiler, where it meets a bug in itself, ends the process it runs in."""

import multiprocessing
import signal
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from training.parallel import TrainingError


class CompilerCrash(TrainingError):
    """The compiler took its process down."""


def isolated(function: Callable[..., Any], *arguments: Any) -> Any:
    """`function(*arguments)`, computed in a forked process: nothing but the result is pickled.

    To be called before JAX has started its devices, whose threads a fork would lose.

    Raises:
        CompilerCrash: the process died without an answer.
        Exception: whatever `function` raises.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(sender, function, arguments))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of JAX about its threads, of which there are none yet
        process.start()
    sender.close()
    try:
        result, error = receiver.recv()
    except EOFError:
        process.join()
        code = process.exitcode or 0
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        raise CompilerCrash(
            f"the compiler crashed ({how}): a bug in it, not in the experiment; another remat policy,"
            " batch or topology may get past it"
        ) from None
    process.join()
    if error is not None:
        raise error
    return result


def _answer(sender: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        answer = function(*arguments), None
    except TrainingError as error:
        answer = None, error
    except Exception as error:
        answer = None, error if isinstance(error, ValueError) else RuntimeError(f"{type(error).__name__}: {error}")
    sender.send(answer)
    sender.close()
