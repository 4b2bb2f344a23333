"""Folders that go out, opened with `transformers`: every architecture, trained here or loaded, with every kind of tokenizer.

A cell is one folder. `AutoTokenizer` gives the ids that the model is trained on, alone and in a padded batch of three, none
beyond the embeddings; the model of `transformers` gives our outputs for them, and writes the text that ours writes.
The table is printed (`-s`), and written to the file that `LACUNA_TABLE` names.
"""

import json
from pathlib import Path

import pytest

from data.text.tokenizers import load, vocabulary
from experiments.commands import import_
from models import hub
from models.hub.tokenizer_folder import SETTINGS
from tests.parity.folders.folders_out import (
    ARCHITECTURES,
    SIZE,
    same_ids,
    same_outputs,
    same_text,
    show,
    their_model,
    trained_here,
    write_texts,
)
from tests.parity.folders.published_tokenizers import ASKED, ODD, PUBLISHED
from tests.parity.reference import transformers

KINDS = ("wordpiece", "byte_bpe", "unigram")
TRAINED = [(name, kind) for name in ARCHITECTURES for kind in KINDS]
LOADED = [(name, kind) for name, architecture in ARCHITECTURES.items() for kind in architecture.published]
GOES_ON = ("LMHeadModel", "ForCausalLM")
WRITES = (*GOES_ON, "ForConditionalGeneration", "MTModel")
HEADS = ("architecture", "folder", "tokenizer", "ids", "outputs differ by", "text of three prompts")
NO_CLASS = "transformers has no class"
CELLS: dict[tuple[str, str, str], dict[str, str]] = {}
"""{(architecture, origin, tokenizer): {what: result}}"""


@pytest.fixture(scope="module", autouse=True)
def table():
    yield
    title = (
        f"# Folders that go out\n\nEach line is a folder, opened with transformers {transformers.__version__}. Written by\n"
        "`LACUNA_TABLE=docs/folders.md python -m pytest tests/parity/folders -k folders_out`."
    )
    show(title, HEADS, CELLS, "w")


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    return write_texts(tmp_path_factory.mktemp("trained") / "texts")


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
        found["outputs differ by"] = NO_CLASS
        return
    model = getattr(transformers, architecture.head).from_pretrained(folder).eval()
    worst = same_outputs(folder, model, theirs, imported)
    found["outputs differ by"] = f"{worst:.0e}"
    assert worst < 1e-5
    if architecture.head.endswith(WRITES):
        same_text(folder, model, theirs)
        found["text of three prompts"] = "same"


@pytest.mark.parametrize(("name", "kind"), TRAINED)
def test_a_model_trained_here(name, kind, texts, tmp_path):
    folder, tokenizer = trained_here(ARCHITECTURES[name], kind, tmp_path, texts)
    check((name, "trained here", kind), folder, tokenizer)


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
    # Of sentencepiece models transformers 5 leaves out the normalisation: `tests/parity/folders/test_tokenizer_files.py`.
    check((name, "imported", kind), tmp_path / "imported", tokenizer, ASKED)
    before, after = (transformers.AutoTokenizer.from_pretrained(tmp_path / place) for place in ("source", "imported"))
    assert [before(text)["input_ids"] for text in ODD] == [after(text)["input_ids"] for text in ODD]
    same_config(tmp_path / "source", tmp_path / "imported")
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


def same_config(source: Path, written: Path) -> None:
    """Both folders have the same `config.json` and `generation_config.json` for `transformers`."""
    before, after = (transformers.AutoConfig.from_pretrained(place).to_dict() for place in (source, written))
    changed = {name: (before.get(name), after.get(name)) for name in before.keys() | after.keys()}
    changed = {name: both for name, both in changed.items() if both[0] != both[1]}
    assert changed.keys() <= {"transformers_version", "_name_or_path"}, changed
    there = [(place / "generation_config.json").exists() for place in (source, written)]
    assert there[0] == there[1]
    if there[0]:
        before, after = (transformers.GenerationConfig.from_pretrained(place).to_dict() for place in (source, written))
        assert before == after


SETTINGS_OF_A_MODEL = {
    "Llama": dict(
        rope_parameters=dict(
            rope_type="llama3",
            rope_theta=500_000.0,
            factor=8.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=16,
        ),
        eos_token_id=[2, 5],
        pretraining_tp=1,
        use_cache=False,
    ),
    "BART": dict(
        task_specific_params={"summarization": {"num_beams": 4, "min_length": 5}},
        prefix=" ",
        forced_bos_token_id=0,
        use_cache=False,
        id2label={"0": "no", "1": "so", "2": "yes"},
        label2id={"no": 0, "so": 1, "yes": 2},
    ),
    "GPT-2": dict(
        summary_type="mean",
        task_specific_params={"text-generation": {"do_sample": True}},
        id2label={"0": "one"},
        label2id={"one": 0},
    ),
    "DistilBERT": dict(problem_type="multi_label_classification", num_labels=4),
    "T5": dict(
        task_specific_params={"translation_en_to_fr": {"prefix": "translate English to French: "}},
        decoder_start_token_id=0,
        n_positions=512,
    ),
    "Marian": dict(bad_words_ids=[[7]], num_beams=6, max_length=40, forced_eos_token_id=0),
}


@pytest.mark.parametrize("name", SETTINGS_OF_A_MODEL)
def test_settings_of_a_model_survive_an_import(name, tmp_path):
    """As a folder of today has them, and as those before `generation_config.json` did, all in `config.json`."""
    architecture = ARCHITECTURES[name]
    config = getattr(transformers, architecture.head).config_class(**architecture.shape)
    getattr(transformers, architecture.head)(config).save_pretrained(tmp_path / "today")
    path = tmp_path / "today/config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **SETTINGS_OF_A_MODEL[name]}))
    (tmp_path / "before").mkdir()
    for path in (tmp_path / "today").iterdir():
        if path.name != "generation_config.json":
            (tmp_path / "before" / path.name).write_bytes(path.read_bytes())
    for age in ("today", "before"):
        import_.main([str(tmp_path / age), str(tmp_path / f"{age} imported")])
        same_config(tmp_path / age, tmp_path / f"{age} imported")
