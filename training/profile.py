"""A trace of some steps of a run, by `jax.profiler`, that TensorBoard (XProf) and Perfetto open."""

import re
from pathlib import Path

import jax
from jaxtyping import PyTree

from training.parallel import TrainingError


class Profile:
    """Records the steps `first <= step < end` of a run, the first step of a run being 1.

    The devices are waited for before and after, so that the trace holds these steps whole and no others. A run that goes
    on within them records what is left; one that goes on after them, nothing.
    """

    def __init__(self, folder: Path, first: int, end: int):
        self.folder, self.first, self.end = folder, first, end
        self.recording = False
        self.trace: Path | None = None

    @classmethod
    def parse(cls, text: str, folder: Path, steps: int) -> "Profile":
        """`steps=10:13`: the steps 10, 11 and 12 of a run of `steps`, recorded to `folder`."""
        match = re.fullmatch(r"steps=(\d+):(\d+)", text)
        if not match or not 1 <= int(match[1]) < int(match[2]) <= steps + 1:
            raise TrainingError(
                f"--profile {text}: expected steps=FIRST:END with 1 <= FIRST < END <= {steps + 1}; steps=10:13 records the"
                " steps 10, 11 and 12"
            )
        return cls(folder, int(match[1]), int(match[2]))

    def before(self, number: int, state: PyTree) -> None:
        """Call before step `number`, which begins from `state`."""
        if self.first <= number < self.end and not self.recording:
            jax.block_until_ready(state)
            options = jax.profiler.ProfileOptions()
            # What Python does is left out: its tracer hooks into threads that come and go, and of some hundred traced runs
            # one died of SIGSEGV as tracing began.
            options.python_tracer_level = 0
            jax.profiler.start_trace(self.folder, create_perfetto_trace=True, profiler_options=options)
            self.recording = True

    def after(self, number: int, metrics: PyTree) -> None:
        """Call when step `number`, which gives `metrics`, was dispatched."""
        if self.recording and number == self.end - 1:
            jax.block_until_ready(metrics)
            self.close()

    def close(self) -> None:
        """Write the trace, if one is being recorded."""
        if self.recording:
            self.recording = False
            jax.profiler.stop_trace()
            self.trace = max((self.folder / "plugins" / "profile").iterdir(), key=lambda path: path.stat().st_mtime)

    def where(self) -> str:
        """Where the trace lies and how to open it."""
        if self.trace is None:
            return f"no trace: the run went on after step {self.end - 1}, the last to be recorded"
        return (
            f"the trace of steps {self.first} to {self.end - 1} is in {self.trace}: `pip install xprof`,"
            f" `xprof --logdir {self.folder}`, or open perfetto_trace.json.gz of that folder at https://ui.perfetto.dev"
        )
