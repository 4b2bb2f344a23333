"""What a run shows of itself: at 80 columns, at 120, and where there is no terminal."""

import io
import re
import time

import pytest
from rich.console import Console

from training import progress
from training.progress import ProgressBar, counting, working

VALUES = {"masked_accuracy": 0.25, "masked_lm_loss": 6.25, "next_sentence_accuracy": 0.5, "next_sentence_loss": 0.7}
RATES = {"tokens_per_second": 12345.6, "mfu": 0.31}


def shown(width: int, steps: int = 20_000, step: int = 5_000, seconds: float | None = 0.5) -> str:
    """The last frame of the bar on a terminal of this width."""
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    bar = ProgressBar(steps, 0, console=console)
    bar.update(step, VALUES, RATES, seconds)
    bar.close()
    frames = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\n", console.file.getvalue()).replace("\r", "\n")
    return [line for line in frames.split("\n") if line.strip()][-1]


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_a_terminal_shows_step_of_how_many_a_bar_and_the_time_left(width):
    line = shown(width)
    assert len(line) <= width
    assert re.search(r"training +[━╸╺ ]+ +5,000/20,000 +2:05:00 left", line), line
    assert ("masked_lm_loss 6.250 12,346 tokens/s" in line) == (width >= 100)
    assert ("next_sentence_accuracy 50.0% mfu 31.0%" in line) == (width == 200)


def test_compiling_is_said_and_is_not_reckoned_with():
    assert "-:--:-- left" in shown(80, seconds=None)
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    bar = ProgressBar(10, 0, console=console)
    bar.close()
    assert "compiling" in console.file.getvalue() and "0/10" in console.file.getvalue()


def lines(steps: int, **options) -> list[str]:
    console = Console(file=io.StringIO(), width=80)
    bar = ProgressBar(steps, 0, console=console, **options)
    for step in range(1, steps + 1):
        bar.update(step, VALUES, RATES, 0.5 if step > 2 else None)
    bar.close()
    assert "\x1b" not in console.file.getvalue() and "\r" not in console.file.getvalue()
    return console.file.getvalue().splitlines()


def test_elsewhere_a_line_is_printed_now_and_then():
    first, *rest = lines(200)
    assert first == "compiling step 1 of 200"
    assert [re.match(r"step (\d+)/200 ", line)[1] for line in rest] == ["1", *map(str, range(20, 201, 20))]
    assert rest[5].startswith("step 100/200 [##########..........] 0:00:50 left masked_lm_loss 6.250 12,346 tokens/s")
    assert len(lines(200, every=0.0)) == 201


def test_what_is_done_beside_the_steps_takes_time_too(monkeypatch):
    seconds = 0.0
    monkeypatch.setattr("training.progress.time.perf_counter", lambda: seconds)
    bar = ProgressBar(100, 0, console=Console(file=io.StringIO(), width=80))
    for step, took in ((10, 100.0), (20, 4.0), (30, 2.0)):  # the first time it is compiled
        with bar.during("evaluating"):
            seconds += took
        bar.update(step, VALUES, RATES, 1.0)
    assert bar.left() == pytest.approx((1.0 + 3 * 2.0 / 30) * 70)


def test_a_phase_that_is_compiled_keeps_the_time_left_of_the_one_before():
    bar = ProgressBar(100, 0, console=Console(file=io.StringIO(), width=80))
    bar.update(50, VALUES, RATES, 2.0)
    bar.update(51, VALUES, RATES, None)
    assert bar.left() == 98.0


def test_only_what_takes_long_is_said():
    said: list[str] = []
    with working("a short thing", said.append, after=5.0):
        pass
    with working("a long thing", said.append, after=0.05):
        time.sleep(0.5)
    time.sleep(0.1)
    assert said == ["a long thing"]
    assert progress.SILENCE_SECONDS <= 2.0


def test_how_much_of_a_total_is_done(capsys):
    with counting("seconds of audio", 60.0, every=0.0) as done:
        done(20.0)
        done(30.4)
    assert capsys.readouterr().err == "seconds of audio: 20 of 60\nseconds of audio: 50 of 60\n"
