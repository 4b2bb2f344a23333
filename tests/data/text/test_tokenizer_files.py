"""Tokenizer files: each published one is read as its format says."""

import json

import pytest

from data.errors import DataError
from data.text.tokenizer_files import load
from data.text.tokenizer_settings import special_tokens, tokenizer_file

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
    (tmp_path / "tokenizer_config.json").write_text(
        '\ufeff{"eos_token": "<|im_end|>", "cls_token": "<c>", "sep_token": null}'
    )
    assert special_tokens(tmp_path / "tokenizer.json") == {"eos": "<eos>", "pad": "<pad>", "cls": "<c>"}
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<|im_end|>", "added_tokens_decoder": {}}')
    assert special_tokens(tmp_path) == {"eos": "<|im_end|>"}
    (tmp_path / "tokenizer_config.json").write_text("[]")
    with pytest.raises(DataError, match="no JSON object"):
        special_tokens(tmp_path)


LETTERS = "abcdefghijklmnopqrstuvwxyz.Ġ#"


def write_byte_pairs(folder, special, **settings):
    folder.mkdir(exist_ok=True)
    merges = ["t h", "th e", "Ġ the", "# #", "Ġ c", "a t"]
    tokens = [*special, *LETTERS, *(merge.replace(" ", "") for merge in merges)]
    (folder / "vocab.json").write_text("\ufeff" + json.dumps({token: index for index, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("\ufeff#version: 0.2\r\n" + "".join(merge + "\r\n" for merge in merges))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def test_byte_pairs_of_gpt2_have_nothing_around_them_unless_the_folder_says_so(tmp_path):
    tokenizer = load(write_byte_pairs(tmp_path, ["<|endoftext|>"]))
    assert tokenizer.encode("the cat ##<|endoftext|>").tokens == ["the", "Ġc", "at", "Ġ", "##", "<|endoftext|>"]
    tokenizer = load(write_byte_pairs(tmp_path, ["<|endoftext|>"], add_bos_token=True, add_prefix_space=True))
    assert tokenizer.encode("the").tokens == ["<|endoftext|>", "Ġthe"]
    assert tokenizer.decode(tokenizer.encode("the cat").ids) == " the cat"


def test_byte_pairs_of_bart(tmp_path):
    folder = write_byte_pairs(tmp_path, ["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    tokenizer = load(folder)
    assert tokenizer.encode("the <mask> cat").tokens == ["<s>", "the", " <mask>", "Ġc", "at", "</s>"]
    assert tokenizer.encode("the", "cat").tokens == ["<s>", "the", "</s>", "</s>", "c", "at", "</s>"]
    (folder / "config.json").write_text('{"model_type": "gpt2"}')
    assert load(folder).encode("the").tokens == ["the"]


def test_a_folder_adds_tokens(tmp_path):
    end = len(WORDS)
    decoder = {str(end): {"content": "<x>", "special": True, "lstrip": True}, str(end + 1): {"content": "two words"}}
    folder = write_vocabulary(tmp_path, added_tokens_decoder=decoder, eos_token="<x>", pad_token="<y>")
    tokenizer = load(folder)
    assert tokenizer.encode("the <x> two words", add_special_tokens=False).tokens == ["the", " <x>", "two words"]
    assert tokenizer.token_to_id("<y>") == end + 2  # named and nowhere else
    assert {"<x>", "<y>", "[MASK]"} <= {t.content for t in tokenizer.get_added_tokens_decoder().values() if t.special}
    write_vocabulary(tmp_path, added_tokens_decoder={str(end + 5): {"content": "<x>"}})
    with pytest.raises(DataError, match=f"'<x>' has the id {end + 5} by its settings and {end} by its vocabulary"):
        load(folder)


def test_settings_beside_a_tokenizer_json(tmp_path):
    load(write_vocabulary(tmp_path / "a", [*WORDS, "The"])).save(str(tmp_path / "a/tokenizer.json"))
    assert load(write_vocabulary(tmp_path / "a", do_lower_case=False)).encode("The").tokens[1:-1] == ["The"]
    assert load(write_vocabulary(tmp_path / "a")).encode("The").tokens[1:-1] == ["the"]
    load(write_byte_pairs(tmp_path / "b", ["<|endoftext|>"])).save(str(tmp_path / "b/tokenizer.json"))
    assert load(write_byte_pairs(tmp_path / "b", [], add_prefix_space=True)).encode("the").tokens == ["Ġthe"]


def test_what_is_not_obeyed_is_named(tmp_path, caplog):
    load(write_byte_pairs(tmp_path, ["<s>", "</s>"], tokenizer_class="GPT2Tokenizer", eos_token="</s>")).save(
        str(tmp_path / "tokenizer.json")
    )
    roles = dict(bos_token="<s>", eos_token="</s>")
    write_byte_pairs(
        tmp_path, ["<s>", "</s>"], **roles, add_bos_token=False, add_eos_token=True, do_basic_tokenize=False
    )
    assert load(tmp_path).encode("the").tokens == ["the"]
    assert [record.getMessage().partition(" says ")[2].partition(",")[0] for record in caplog.records] == [
        "do_basic_tokenize=False", "add_eos_token=True"
    ]  # fmt: skip
    caplog.clear()
    write_byte_pairs(tmp_path, [], **roles, add_bos_token=False, add_eos_token=False, do_basic_tokenize=True)
    load(tmp_path)
    assert not caplog.records


def test_a_tokenizer_json_may_begin_with_a_byte_order_mark(tmp_path):
    load(write_vocabulary(tmp_path)).save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer.json").write_bytes("\ufeff".encode() + (tmp_path / "tokenizer.json").read_bytes())
    assert load(tmp_path).encode("the cat").tokens == ["[CLS]", "the", "cat", "[SEP]"]


def test_a_class_that_is_not_known_is_refused_unless_its_folder_has_a_tokenizer_json(tmp_path):
    folder = write_vocabulary(tmp_path, tokenizer_class="BertJapaneseTokenizer")
    assert tokenizer_file(folder) is None
    for path in (folder, folder / "vocab.txt"):
        with pytest.raises(DataError, match=r"written for a BertJapaneseTokenizer, which is read from tokenizer\.json"):
            load(path)
    load(write_vocabulary(tmp_path / "other")).save(str(folder / "tokenizer.json"))
    assert load(folder).encode("cat").tokens == ["[CLS]", "cat", "[SEP]"]
    (tmp_path / "t5").mkdir()
    (tmp_path / "t5/config.json").write_text('{"model_type": "t5"}')
    with pytest.raises(DataError, match=r"a T5Tokenizer is read from tokenizer\.json, or from spiece\.model"):
        load(tmp_path / "t5")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("vocab.txt", b"[UNK]\n\xff\n", r"vocab\.txt is not UTF-8 \(byte 6\)"),
        ("tokenizer_config.json", b"{", r"tokenizer_config\.json is not JSON"),
        ("tokenizer_config.json", b'{"do_lower_case": "no"}', "do_lower_case='no', expected true or false"),
        ("merges.txt", b"a b c\n", "has the line 'a b c': expected two tokens"),
        ("merges.txt", b"a q\nzz a\n", "is not a tokenizer of the `tokenizers` library"),
        ("vocab.json", b"[]", "holds no JSON object"),
        ("spiece.model", b"", "is no unigram or byte-pair model of sentencepiece"),
        ("tokenizer.model", b"IQ== 0\nIg== 1\n", r"is no unigram or byte-pair .*Llama 3's"),
    ],
)
def test_a_broken_file_is_a_sentence(tmp_path, file, content, message):
    write = write_vocabulary if "tokenizer_config" in file or file == "vocab.txt" else None
    if write:
        write(tmp_path)
    elif file in ("merges.txt", "vocab.json"):
        write_byte_pairs(tmp_path, ["<|endoftext|>"])
    (tmp_path / file).write_bytes(content)
    with pytest.raises(DataError, match=message):
        load(tmp_path)
