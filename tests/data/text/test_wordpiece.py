"""Vocabularies: the same texts give the same bytes, and published ones load as published."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models

from data import DataError
from data.text.documents import Documents
from data.text.tokenizers import SPECIAL_TOKENS, load, train_tokenizer, vocabulary

PUBLISHED = [*SPECIAL_TOKENS, "the", "river", "flow", "##s", "##ing", "é", "e", "##"]


@pytest.fixture(scope="module")
def trained(wikipedia: Documents, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    train_tokenizer(wikipedia.texts(range(8)), vocab_size=2000, path=path)
    return path


@pytest.mark.parametrize("threads", ["1", "2", "3"])
def test_training_gives_the_same_bytes_in_another_process(
    trained: Path, threads: str, tmp_path: Path, wikipedia: Documents
) -> None:
    """Left to itself the trainer breaks ties by the order of a hash map that each process seeds anew."""
    (tmp_path / "texts.json").write_text(json.dumps(list(wikipedia.texts(range(8)))))
    code = (
        "import json, pathlib, sys\nfrom data.text.tokenizers import train_tokenizer\nfolder = pathlib.Path(sys.argv[1])\n"
        "train_tokenizer(json.loads((folder / 'texts.json').read_text()), vocab_size=2000, path=folder / 't.json')"
    )
    environment = {**os.environ, "RAYON_NUM_THREADS": threads, "PYTHONHASHSEED": threads}
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        check=True,
        env=environment,
        cwd=Path(__file__).parents[3],
    )
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (trained, tmp_path / "t.json")]
    assert digests[0] == digests[1]


def test_a_trained_vocabulary(trained: Path) -> None:
    words = vocabulary(load(trained))
    assert words.size == 2000 == len(set(words.tokens))
    assert words.tokens[:5] == SPECIAL_TOKENS and words.special_ids == (0, 1, 2, 3, 4)
    assert (words.pad, words.unk, words.cls, words.sep, words.mask) == (0, 1, 2, 3, 4)
    assert [not token.startswith("##") for token in words.tokens] == words.starts_word.tolist()
    assert words.starts_word.dtype == np.bool_ and 0 < (~words.starts_word).sum() < 1500
    pieces = load(trained).encode("Governments are Éternal").tokens
    assert pieces[0] == "[CLS]" and pieces[-1] == "[SEP]"
    assert "".join(piece.removeprefix("##") for piece in pieces[1:-1]) == "governmentsareeternal"


def test_it_loads_in_transformers(trained: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers comes with the parity extra")
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(trained))
    text = "Anarchism opposes authority; it isn't new."
    assert theirs(text)["input_ids"] == load(trained).encode(text).ids
    assert theirs.decode(load(trained).encode("anarchism is old.").ids, skip_special_tokens=True) == "anarchism is old."


def test_a_cased_vocabulary_keeps_case(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["Éva éva Eva"] * 9, vocab_size=30, lowercase=False, path=tmp_path / "t.json")
    assert len({tokenizer.encode(word).ids[1] for word in ("Éva", "éva", "Eva")}) == 3


def test_published_files_load_without_their_padding_and_truncation(trained: Path, tmp_path: Path) -> None:
    published = Tokenizer.from_file(str(trained))
    published.enable_padding(length=128)
    published.enable_truncation(max_length=16)
    published.save(str(tmp_path / "tokenizer.json"))
    assert len(load(tmp_path).encode("word").ids) < 10
    assert len(load(tmp_path).encode("word " * 100).ids) >= 102


@pytest.mark.parametrize(
    ("lowercase", "pieces"), [(None, ["the", "flow", "##s", "e"]), (False, ["[UNK]", "flow", "##s", "é"])]
)
def test_a_bare_vocabulary_honours_its_case(tmp_path: Path, lowercase: bool | None, pieces: list[str]) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(PUBLISHED) + "\n", encoding="utf-8")
    if lowercase is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lowercase}))
    for path in (tmp_path, tmp_path / "vocab.txt"):
        tokenizer = load(path)
        assert tokenizer.encode("The flows é").tokens == ["[CLS]", *pieces, "[SEP]"]
    words = vocabulary(tokenizer)
    assert words.tokens == tuple(PUBLISHED)
    assert [words.tokens[index] for index in np.flatnonzero(~words.starts_word)] == ["##s", "##ing"]


def test_a_tokenizer_without_special_tokens_has_none(tmp_path: Path) -> None:
    """It serves objectives that need none; one that needs some refuses it (`Objective.bind`)."""
    Tokenizer(models.BPE({"a": 0, "b": 1}, [])).save(str(tmp_path / "tokenizer.json"))
    words = vocabulary(load(tmp_path))
    assert (words.pad, words.mask, words.eos, words.sentinels, words.special_ids) == (None, None, None, (), ())


def test_bad_tokenizers_are_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no tokenizer: give"):
        load(tmp_path)
    (tmp_path / "vocab.txt").write_text("a\nb\n")
    with pytest.raises(DataError, match=r"lists no \[UNK\]"):
        load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match="is not a tokenizer of the `tokenizers` library"):
        load(tmp_path)
    with pytest.raises(DataError, match="not a generator"):
        train_tokenizer((text for text in ["a"]), vocab_size=100, path=tmp_path / "t.json")
    with pytest.raises(DataError, match="no text"):
        train_tokenizer([" "], vocab_size=100, path=tmp_path / "t.json")
    with pytest.raises(DataError, match="vocab_size=6 leaves no room"):
        train_tokenizer(["abc"], vocab_size=6, path=tmp_path / "t.json")
    assert not (tmp_path / "t.json").exists()
