"""Folders that go out, opened with `transformers`: every architecture, trained here or loaded, with every kind of tokenizer.

A cell is one folder. `AutoTokenizer` gives the ids that the model is trained on, alone and in a padded batch of three, none
beyond the embeddings; the model of `transformers` gives our outputs for them, and writes the text that ours writes.
`LACUNA_TABLE=docs/folders.md python -m pytest tests/parity/test_folders_out.py` writes the table.
"""

import json
import os
from pathlib import Path

import pytest

from data.templates import template
from data.tokenizers import load, train_tokenizer, vocabulary
from experiments.commands import import_
from models import hub
from models.hub.tokenizer_folder import SETTINGS
from tests.parity.folders_out import (
    ARCHITECTURES,
    ASKED,
    ODD,
    PUBLISHED,
    SIZE,
    our_model,
    same_ids,
    same_outputs,
    same_text,
    sentences,
    their_model,
)
from tests.parity.reference import transformers

KINDS = ("wordpiece", "byte_bpe", "unigram")
TRAINED = [(name, kind) for name in ARCHITECTURES for kind in KINDS]
LOADED = [(name, kind) for name, architecture in ARCHITECTURES.items() for kind in architecture.published]
GOES_ON = ("LMHeadModel", "ForCausalLM")
WRITES = (*GOES_ON, "ForConditionalGeneration", "MTModel")
NO_CLASS = "transformers has no class"
CELLS: dict[tuple[str, str, str], dict[str, str]] = {}
"""{(architecture, origin, tokenizer): {what: result}}"""


@pytest.fixture(scope="module", autouse=True)
def table():
    yield
    lines = [
        "| architecture | folder | tokenizer | ids | outputs differ by | text of three prompts |",
        "|---|---|---|---|---|---|",
        *(
            f"| {' | '.join(cell)} | {' | '.join(found.get(what, '') for what in ('ids', 'outputs', 'text'))} |"
            for cell, found in CELLS.items()
        ),
    ]
    print("\n" + "\n".join(lines))
    if os.environ.get("LACUNA_TABLE"):
        Path(os.environ["LACUNA_TABLE"]).write_text(
            f"# Folders that go out\n\nEach line is a folder, opened with transformers {transformers.__version__}. Written by\n"
            "`LACUNA_TABLE=docs/folders.md python -m pytest tests/parity/test_folders_out.py`.\n\n"
            + "\n".join(lines)
            + "\n"
        )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A tokenizer trained here of a kind, with what an architecture has around texts; each once."""
    root, paths = tmp_path_factory.mktemp("trained"), {}

    def of(kind: str, model_type: str) -> Path:
        path = root / f"{kind}-{model_type}" / "tokenizer.json"
        if path not in paths:
            train_tokenizer(
                sentences(),
                kind=kind,
                vocab_size=SIZE - 20,
                path=path,
                template=template(model_type),
                sentinels=5 if model_type == "t5" else 0,
            )
            paths[path] = True
        return path

    return of


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A folder of a published tokenizer; each once."""
    root, paths = tmp_path_factory.mktemp("published"), {}

    def of(kind: str) -> Path:
        if kind not in paths:
            paths[kind] = root / kind.replace(" ", "-")
            PUBLISHED[kind](paths[kind])
        return paths[kind]

    return of


def check(cell: tuple[str, str, str], folder: Path, tokenizer, texts=ODD) -> None:
    """Fill one cell: `folder` opened with `transformers` against ours, whose ids of `texts` are those of `tokenizer`."""
    found = CELLS.setdefault(cell, {})
    architecture = ARCHITECTURES[cell[0]]
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    same_ids(tokenizer, theirs, SIZE, texts)
    imported = cell[1] == "imported"
    if imported:  # as it was published, GPT-2's without padding
        theirs.pad_token = theirs.pad_token or theirs.eos_token
        theirs.padding_side = "left" if architecture.head.endswith(GOES_ON) else "right"
    found["ids"] = "same"
    if not hasattr(transformers, architecture.head):
        found["outputs"] = NO_CLASS
        return
    model = getattr(transformers, architecture.head).from_pretrained(folder).eval()
    worst = same_outputs(folder, model, theirs, imported)
    found["outputs"] = f"{worst:.0e}"
    assert worst < 1e-5
    if architecture.head.endswith(WRITES):
        same_text(folder, model, theirs)
        found["text"] = "same"


@pytest.mark.parametrize(("name", "kind"), TRAINED)
def test_a_model_trained_here(name, kind, trained, tmp_path):
    architecture = ARCHITECTURES[name]
    path = trained(kind, architecture.model_type)
    tokenizer = load(path)
    model, variables = our_model(architecture, vocabulary(tokenizer))
    hub.save(tmp_path, model, variables, tokenizer=path)
    check((name, "trained here", kind), tmp_path, tokenizer)


@pytest.mark.parametrize(("name", "kind"), LOADED)
def test_a_model_loaded_from_transformers(name, kind, published, tmp_path):
    """Imported as it is; and a run that begins with it, whose tokenizer is written by us."""
    architecture, source = ARCHITECTURES[name], tmp_path / "source"
    tokenizer = load(published(kind))
    model = their_model(architecture, vocabulary(tokenizer))
    model.save_pretrained(source)
    for path in published(kind).iterdir():
        if path.name != "config.json":
            (source / path.name).write_bytes(path.read_bytes())
    import_.main([str(source), str(tmp_path / "imported")])
    tokenizer = load(source)
    # Of sentencepiece models transformers 5 leaves out the normalisation: `tests/parity/test_tokenizer_files.py`.
    check((name, "imported", kind), tmp_path / "imported", tokenizer, ASKED)
    before, after = (transformers.AutoTokenizer.from_pretrained(tmp_path / place) for place in ("source", "imported"))
    assert [before(text)["input_ids"] for text in ODD] == [after(text)["input_ids"] for text in ODD]
    run = tmp_path / "run"
    run.mkdir()
    tokenizer.save(str(run / "tokenizer.json"))
    if (source / SETTINGS).exists():
        (run / SETTINGS).write_bytes((source / SETTINGS).read_bytes())
    hub.save(tmp_path / "exported", *hub.load(source), tokenizer=run)
    check((name, "trained on", kind), tmp_path / "exported", tokenizer)
    before, after = (json.loads((place / SETTINGS).read_text()) for place in (source, tmp_path / "exported"))
    for setting in ("chat_template", "padding_side", "truncation_side"):
        assert after.get(setting) == before.get(setting, after.get(setting))
