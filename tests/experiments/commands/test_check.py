"""`lacuna check`: all data read once, counted, the broken named, and an exit code that says whether there are any."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.contents import spoken
from experiments.commands import check


def checked(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *arguments: str):
    """Exit code, counts by name, and the lines that name what is broken."""
    monkeypatch.setenv("LACUNA_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    try:
        check.main(list(arguments))
        code = 0
    except SystemExit as stop:
        code = stop.code
    lines = capsys.readouterr().out.splitlines()
    counts = dict(line.split("  ", 1) for line in lines if not line.startswith("broken: "))
    return code, {name: count.strip() for name, count in counts.items()}, [x for x in lines if x.startswith("broken: ")]


def test_text_is_counted_and_the_broken_named(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(40):
        (folder / f"{number}.txt").write_text(f"This is text number {number}. It has two sentences.")
    (folder / "again.txt").write_text("This is text number 7. It has two sentences.")
    (folder / "blank.txt").write_text(" \n")
    arguments = ["experiments/bert/pretrain.py:small", "--data.source", str(folder), "--data.held-out", "0.2"]
    code, counts, broken = checked(capsys, monkeypatch, tmp_path, *arguments)
    assert (code, broken, counts["broken"]) == (0, [], "0")
    assert counts["documents that can be read"] == "42" and counts["documents that came before"] == "1"
    assert counts["documents that are blank"] == "1" and counts["sentences"] == "82" and int(counts["tokens"]) > 82
    (folder / "bad.txt").write_bytes(b"caf\xe9")
    for more in ([], ["--data.broken", "skip"]):
        code, counts, broken = checked(capsys, monkeypatch, tmp_path, *arguments, *more)
        assert (code, counts["broken"], counts["documents that can be read"]) == (1, "1", "42")
        assert len(broken) == 1 and "bad.txt is not UTF-8 (byte 3)" in broken[0]


def test_pairs_are_counted_and_the_broken_named(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pairs.jsonl"
    rows = [{"en": f"the number {number % 50}", "es": f"el número {number}"} for number in range(60)]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"en": "alone"}, {"en": " ", "es": "solo"}]))
    code, counts, broken = checked(
        capsys, monkeypatch, tmp_path, "experiments/transformer/translate.py", "--data.source", str(path),
        "--data.vocab-size", "300", "--data.held-out", "0.2",
    )  # fmt: skip
    assert (code, counts["pairs that can be read"], counts["sources that came before"]) == (1, "60", "10")
    assert int(counts["source tokens"]) > 60 and int(counts["target tokens"]) > 60
    assert [line.split(", ", 1)[1][:7] for line in broken] == ["line 61", "line 62"]


def test_pictures_are_counted_and_the_broken_named(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(24):
        path = tmp_path / "pictures" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 9, 3), 10 * number, np.uint8)).save(path)
    (tmp_path / "pictures" / "a" / "0.png").write_bytes(b"")
    code, counts, broken = checked(
        capsys, monkeypatch, tmp_path, "experiments/vit/pretrain.py", "--data.source", str(tmp_path / "pictures")
    )
    assert (code, counts["pictures that can be read"], counts["pixels"]) == (1, "23", f"{23 * 72:,}")
    assert counts["classes"] == "2, of 11 to 12 pictures"
    assert len(broken) == 1 and "a/0.png is empty" in broken[0]


def test_what_is_read_for_long_is_said(monkeypatch) -> None:
    now, said = [0.0], []
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    progress = spoken(said.append, "the pictures of zoo")
    for second in range(16):
        now[0] = float(second)
        progress(second, 5000)
    assert said == [f"reading the pictures of zoo, once: {done} of 5,000" for done in (2, 12)]
