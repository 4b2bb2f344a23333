"""Answers questions as the installed `transformers` does, for test_pipelines.py: `python answer_questions.py FOLDER`.

Needs torch and transformers alone, and one that still has this pipeline: 4.57. Reads FOLDER/questions.json, a list of {model,
pairs, settings}, and writes FOLDER/answers.json, a list of answers for each.
"""

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("USE_TF", "0")

import transformers


def main() -> None:
    root = Path(sys.argv[1])
    answers = []
    for asked in json.loads((root / "questions.json").read_text()):
        ask = transformers.pipeline("question-answering", model=asked["model"])
        answers.append([ask(question=q, context=c, **asked["settings"]) for q, c in asked["pairs"]])
    (root / "answers.json").write_text(json.dumps(answers))


if __name__ == "__main__":
    main()
