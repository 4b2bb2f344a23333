"""A fresh copy of the repository, with the data that its documentation speaks of beside it."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data.audio.synthesised import Utterance, speaker
from data.wikipedia_dump.wikipedia_dump_dataset_builder import sample
from tests.documented.commands import ROOT
from tests.experiments.conftest import environment  # noqa: F401


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """What `git clone` would give of this tree, with `my_texts`, `my_pictures`, pairs, a picture and a dump of Wikipedia."""
    from pydoc_data.topics import topics

    from PIL import Image
    from sklearn.datasets import load_digits

    folder = tmp_path_factory.mktemp("clone") / "lacuna"
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    (folder / "my_texts").mkdir()
    for name, text in sorted(topics.items())[:40]:
        (folder / "my_texts" / f"{name}.txt").write_text(text)
    digits = load_digits()
    for number, (picture, label) in enumerate(zip(digits.images[:200], digits.target[:200], strict=True)):
        place = folder / "my_pictures" / f"digit-{label}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((picture * 15.9).astype(np.uint8)).resize((32, 32)).save(place / f"{number}.png")
    for name, text in sorted(topics.items())[:60]:
        place = folder / "my_classes" / ("names" if name[0] < "g" else "others")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{name}.txt").write_text(text)
    write_annotated(folder, sorted(topics.items())[:60])
    write_task(folder, sorted(topics.items())[:8])
    shutil.copyfile(next((folder / "my_pictures").rglob("*.png")), folder / "cat.jpg")
    soundfile.write(folder / "word.wav", speaker().say(Utterance("yes")), speaker().rate)
    shutil.copyfile(sample(), folder / "enwiki-latest-pages-articles.xml.bz2")
    words = {"one": "uno", "two": "dos", "three": "tres", "four": "cuatro", "five": "cinco", "six": "seis"}
    sums = [
        (f"{a} and {b} and {c}", f"{words[a]} y {words[b]} y {words[c]}") for a in words for b in words for c in words
    ]
    summaries = [f"{' and '.join(words)} and {a} and {b}\t{a} and {b}\n" for a in words for b in words]
    (folder / "synopses.tsv").write_text("description\tsynopsis\n" + "".join(summaries))
    shutil.copytree(folder / "my_classes", folder / "genres")
    (folder / "bible.tsv").write_text("en\tes\n" + "".join(f"{en}\t{es}\n" for en, es in sums))
    return folder


@pytest.fixture(scope="module")
def in_clone(environment, clone) -> dict[str, str]:  # noqa: F811
    """The environment of its commands."""
    return {**environment, "PYTHONPATH": str(clone), "PATH": os.environ["PATH"], "COLUMNS": "100"}


def write_annotated(folder: Path, texts: list[tuple[str, str]]) -> None:
    """`my_words.conll`, `my_questions.jsonl` and `my_choices.jsonl` of the beginnings of texts."""
    sentences, questions, choices = [], [], []
    for number, (name, text) in enumerate(texts):
        words = text.split()[:40]
        context = " ".join(words)
        sentences.append("".join(f"{word} {'LONG' if len(word) > 6 else 'SHORT'}\n" for word in words))
        answers = {"text": [words[9]], "answer_start": [len(" ".join(words[:9])) + 1]}
        questions.append({"question": f"what of {name}", "context": context, "answers": answers})
        endings = [" ".join(words[begin : begin + 5]) for begin in (10, 15, 20, 25)]
        choices.append({"context": " ".join(words[:10]), "endings": endings, "label": number % 4})
    (folder / "my_words.conll").write_text("\n".join(sentences))
    for what, rows in (("questions", questions), ("choices", choices)):
        (folder / f"my_{what}.jsonl").write_text("\n".join(map(json.dumps, rows)))


def write_task(folder: Path, texts: list[tuple[str, str]]) -> None:
    """`my_task.yaml`, of lm-evaluation-harness: which word is the twelfth of a text."""
    rows = [{"context": " ".join(text.split()[:11]), "word": text.split()[11]} for _, text in texts]
    (folder / "my_task.jsonl").write_text("\n".join(map(json.dumps, rows)))
    lines = [
        "task: twelfth_word",
        "dataset_path: json",
        f"dataset_kwargs: {{data_files: {{test: {folder / 'my_task.jsonl'}}}}}",
        "test_split: test",
        "output_type: loglikelihood",
        'doc_to_text: "{{context}}"',
        'doc_to_target: " {{word}}"',
        "metric_list: [{metric: acc, aggregation: mean}]",
    ]
    (folder / "my_task.yaml").write_text("\n".join(lines))
