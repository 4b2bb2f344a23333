"""Small recordings and sources of them."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import soundfile

RATE = 16_000


def tone(seconds: float = 1.0, rate: int = RATE, hertz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def write(path: Path, seconds: float = 0.1, hertz: float = 440.0, rate: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, tone(seconds, rate, hertz), rate)
    return path


def write_rows(table: Path, texts: Mapping[str, str], seconds: Mapping[str, float] | None = None) -> Path:
    """A table of files beside it, of 0.1 s where not said otherwise, each with a text."""
    rows = []
    for number, (name, text) in enumerate(texts.items()):
        write(table.parent / name, (seconds or {}).get(name, 0.1), 200 + 50 * number)
        rows.append({"audio": name, "text": text})
    if table.suffix == ".tsv":
        table.write_text("audio\ttext\n" + "".join(f"{row['audio']}\t{row['text']}\n" for row in rows))
    else:
        table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return table


def silent(message: str) -> None:
    """Nothing is said."""
