"""Tokenizer files: each published one is read as its format says."""

import json

import pytest

from data.errors import DataError
from data.tokenizer_files import load, special_tokens

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "!", "\u2028", "天", "气", "好", "##好", "the", "cat"]


def write_vocabulary(folder, words=WORDS, end="\n", mark="", **settings):
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_bytes((mark + end.join(words) + end).encode())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_ids_of_a_vocabulary_are_line_numbers(tmp_path, end, mark):
    tokenizer = load(write_vocabulary(tmp_path, end=end, mark=mark))
    assert tokenizer.get_vocab_size() == len(WORDS)
    assert [tokenizer.token_to_id(word) for word in WORDS] == list(range(len(WORDS)))
    assert tokenizer.encode("天好 The cat!").tokens == ["[CLS]", "天", "好", "the", "cat", "!", "[SEP]"]


def test_settings_beside_a_vocabulary(tmp_path):
    words = [*WORDS, "The", "é", "e", "##é", "天气"]
    cased = load(write_vocabulary(tmp_path, words, do_lower_case=False))
    assert cased.encode("The É").tokens[1:-1] == ["The", "[UNK]"]
    accents = load(write_vocabulary(tmp_path, words, strip_accents=False))
    assert accents.encode("THE É").tokens[1:-1] == ["the", "é"]
    assert load(write_vocabulary(tmp_path, words)).encode("É").tokens[1:-1] == ["e"]
    joined = load(write_vocabulary(tmp_path, words, tokenize_chinese_chars=False))
    assert joined.encode("天气").tokens[1:-1] == ["天气"]


def test_special_tokens_by_role(tmp_path):
    (tmp_path / "special_tokens_map.json").write_text('{"eos_token": "<eos>", "pad_token": {"content": "<pad>"}}')
    assert special_tokens(tmp_path) == {"eos": "<eos>", "pad": "<pad>"}
    (tmp_path / "tokenizer_config.json").write_text('\ufeff{"eos_token": "<|im_end|>", "mask_token": null}')
    assert special_tokens(tmp_path / "tokenizer.json") == {"eos": "<|im_end|>", "pad": "<pad>"}
    (tmp_path / "tokenizer_config.json").write_text("[]")
    with pytest.raises(DataError, match="no JSON object"):
        special_tokens(tmp_path)
