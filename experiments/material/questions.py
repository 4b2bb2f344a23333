"""Questions that spans of Wikipedia's pages answer, as a folder for `--data.source`, made of the pages that the `demo` extra
installs.

    python -m experiments.material.questions FOLDER
    python -m experiments.material.questions FOLDER --unanswerable 0.33

A span, a name or a number, is asked for by words of its sentence, each of which is left out with a chance of a third. Contexts
are paragraphs; of ten pages one is `validation` and one `test`. Nobody wrote these questions: they measure whether a model finds
the place that a question is about and chooses what it asks for.
"""

import argparse
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sentencex

from data.contract import Source
from data.text.documents import WIKIPEDIA_DUMP, Documents, open_documents
from experiments.material.brown import SIDES

NUMBER = r"\d[\d,.]*\d|\d+"
NAME = r"[A-Z][\w'’-]+(?: (?:of |the |de )?[A-Z][\w'’-]+){0,3}"
SPAN = re.compile(rf"(?<![\w.])(?:{NUMBER}|{NAME})(?!\w)")
ASKED = {True: "which number", False: "who or what"}
"""How a question begins, of a number and of a name."""
LETTERS = (200, 600)
"""Of a paragraph, at least and at most."""
WORDS, LEAST = 8, 4
"""Words of a question on each side of the span at most, and in all at least."""
SPANS = 3
"""Of a paragraph, at most."""


def spans(sentence: str) -> list[re.Match[str]]:
    """Names and numbers of a sentence but for what it begins with, which any word may be."""
    return [found for found in SPAN.finditer(sentence) if found.start() > 0]


def question(sentence: str, span: re.Match[str], draw: random.Random) -> str:
    """What is asked for a span of a sentence; empty where too little stands around it."""
    sides = re.findall(r"\w+", sentence[: span.start()])[-WORDS:], re.findall(r"\w+", sentence[span.end() :])[:WORDS]
    words = [word.lower() for side in sides for word in side if draw.random() > 1 / 3]
    return f"{ASKED[span.group()[0].isdigit()]} {' '.join(words)}?" if len(words) >= LEAST else ""


def asked(paragraph: str, draw: random.Random) -> Iterator[dict[str, Any]]:
    """Questions that a paragraph answers, with the place of the answer."""
    found, begin = [], 0
    for sentence in filter(None, map(str.strip, sentencex.segment("en", paragraph))):
        begin = max(begin, paragraph.find(sentence, begin))
        found += [(sentence, span, begin) for span in spans(sentence) if sentence.count(span.group()) == 1]
    for sentence, span, begin in draw.sample(found, min(SPANS, len(found))):
        text = question(sentence, span, draw)
        place = begin + span.start()
        if text and paragraph[place : place + len(span.group())] == span.group():
            yield {"question": text, "context": paragraph, "answers": {"text": [span.group()], "answer_start": [place]}}


def questions(pages: Documents, number: int, unanswerable: float) -> Iterator[dict[str, Any]]:
    """The questions of a page.

    Args:
        unanswerable: share of those that are put to another paragraph of the page, which does not hold the answer.
    """
    draw = random.Random(number)
    least, most = LETTERS
    paragraphs = [line for line in pages[number]["text"].split("\n") if least <= len(line) <= most]
    for paragraph in paragraphs:
        for row in asked(paragraph, draw):
            others = [other for other in paragraphs if row["answers"]["text"][0] not in other]
            if draw.random() < unanswerable and others:
                row |= {"context": draw.choice(others), "answers": {"text": [], "answer_start": []}}
            yield row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where `train.jsonl`, `validation.jsonl` and `test.jsonl` go")
    parser.add_argument("--unanswerable", type=float, default=0.0, help="share of questions without an answer")
    arguments = parser.parse_args()
    pages = open_documents(WIKIPEDIA_DUMP, Source().cache_folder)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for split in sorted({*SIDES}):
        chosen = (number for number in range(len(pages)) if SIDES[number % len(SIDES)] == split)
        rows = [row for number in chosen for row in questions(pages, number, arguments.unanswerable)]
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (arguments.folder / f"{split}.jsonl").write_text(lines, encoding="utf-8")
        print(f"{len(rows):,} questions in {arguments.folder / split}.jsonl")


if __name__ == "__main__":
    main()
