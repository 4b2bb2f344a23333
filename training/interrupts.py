"""Ctrl-C, heard at once: also while Python waits for a compiler, which its own handlers do not interrupt.

Python runs a signal's handler between two of its own instructions, and the import of a large library or the compilation of
a step may be a single one that takes a minute. So a thread listens at the descriptor that the signal itself writes to
(`signal.set_wakeup_fd`). It needs nothing but the standard library, and is there before anything large is imported.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

INTERRUPTED = 128 + signal.SIGINT
LEAVING_SECONDS = 1.0
"""How long the main thread has to leave in good order before the process is ended."""


class Interrupts:
    """Within it a Ctrl-C ends the process with one sentence and the exit code 130, whatever the main thread is doing.

    The main thread first gets a `KeyboardInterrupt`, to leave in good order. While libraries are `importing`, which it would
    catch in the middle of their beginnings, and while JAX traces or compiles, which may keep the interpreter to itself for
    seconds, the process is simply ended. Whoever has something to save sets `answer`: the next Ctrl-C is then answered with
    it, and left to whoever has set it.
    """

    def __init__(self) -> None:
        self.importing = True
        self.answer: str | None = None
        self._lock, self._said, self._ending = threading.Lock(), False, False
        self._before: tuple[Any, int] | None = None

    def __enter__(self) -> "Interrupts":
        global listening
        if threading.current_thread() is threading.main_thread():
            reader, writer = os.pipe()
            os.set_blocking(writer, False)
            handler = signal.signal(signal.SIGINT, self._interrupt)
            self._writer = writer
            self._before = handler, signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
            threading.Thread(target=self._listen, args=(reader,), name="interrupts", daemon=True).start()
            listening = self
            os.register_at_fork(after_in_child=self._forked)
        return self

    def __exit__(self, *_: object) -> None:
        global listening
        if self._ending:  # what libraries do at an exit may take seconds
            self._end()
        if self._before is not None:
            handler, descriptor = self._before
            writer = signal.set_wakeup_fd(descriptor)
            if writer == self._writer:  # and not that of an event loop
                os.close(writer)
            signal.signal(signal.SIGINT, handler)
            self._before, listening = None, None

    def say(self, sentence: str = "interrupted") -> None:
        """Say so, once."""
        with self._lock:
            if not self._said:
                self._said = True
                print(f"lacuna: {sentence}", file=sys.stderr, flush=True)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if not self.importing:
            raise KeyboardInterrupt

    def _listen(self, reader: int) -> None:
        while numbers := os.read(reader, 1):
            if numbers[0] != signal.SIGINT:
                continue
            answer, self.answer = self.answer, None
            if answer is not None:
                print(f"\nlacuna: {answer}", file=sys.stderr, flush=True)
                continue
            self._ending = True
            self.say()
            if not self.importing and not in_jax():
                time.sleep(LEAVING_SECONDS)
            self._end()
        os.close(reader)

    def _end(self) -> None:
        """End the process here and now."""
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        if sys.stderr.isatty():
            sys.stderr.write("\x1b[?25h")  # the cursor, which a bar hides
            sys.stderr.flush()
        multiprocessing = sys.modules.get("multiprocessing")
        for child in multiprocessing.active_children() if multiprocessing else ():
            child.kill()
        os._exit(INTERRUPTED)

    def _forked(self) -> None:
        """Of a forked process: a Ctrl-C ends it as any other, and its parent does not hear of it a second time."""
        if self._before is not None:
            with contextlib.suppress(ValueError):  # not the main thread's fork
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGINT, signal.SIG_DFL)


def in_jax() -> bool:
    """Whether the main thread is in a function of JAX."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None:
        if str(frame.f_globals.get("__name__")).partition(".")[0] == "jax":
            return True
        frame = frame.f_back
    return False


listening: Interrupts | None = None
"""Those of this process, where there are any: signals are the process' own."""


def answer_with(sentence: str | None) -> None:
    """Have the next Ctrl-C answered with this sentence at once, and left to the handler that is set; `None`: as before."""
    if listening is not None:
        listening.answer = sentence
